"""Image files made to deceive: bombs, wrong sizes, data elsewhere, geometry that is missing or told in two ways."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib

import numpy as np
import pytest
import SimpleITK

from tests.twin.test_scan_images import RAS, ramp, raw_nifti, written
from twin.scan.load import load_volume
from twin.scan.refusals import BadImage, BrokenFile, NotHounsfield

NRRD = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "14 12 10",
    "space directions": "(2,0,0) (0,2,0) (0,0,2)", "endian": "little", "encoding": "raw", "space origin": "(1,2,3)",
}  # fmt: skip
META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "2 2 2",
    "DimSize": "14 12 10", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip
DATA = ramp().tobytes()


def nrrd(folder, data=DATA, name="a.nrrd", **changed):
    fields = {**NRRD, **{key.replace("_", " "): value for key, value in changed.items()}}
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
    path = folder / name
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + data)
    return path


def meta(folder, data=DATA, name="a.mha", **changed):
    fields = {**META, **changed}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    lines = [f"{key} = {value}" for key, value in fields.items() if value is not None]
    path = folder / name
    path.write_bytes(("\n".join(lines) + "\n").encode() + data)
    return path


def test_the_forms_themselves_are_sound(tmp_path):
    truth = ramp()
    (tmp_path / "a.raw").write_bytes(b"skipped." + DATA)
    (tmp_path / "b.raw").write_bytes(DATA)
    sound = [
        nrrd(tmp_path, name="1.nrrd"),
        nrrd(tmp_path, gzip.compress(DATA), "2.nrrd", encoding="gzip"),
        nrrd(tmp_path, bz2.compress(DATA), "3.nrrd", encoding="bzip2"),
        nrrd(tmp_path, ramp(">i2").tobytes(), "4.nrrd", endian="big"),
        nrrd(tmp_path, b"", "5.nhdr", data_file="b.raw"),
        nrrd(tmp_path, b"", "6.nhdr", data_file="./a.raw", byte_skip="8"),
        nrrd(tmp_path, b"", "7.nhdr", data_file="a.raw", byte_skip="-1"),
        meta(tmp_path, name="1.mha"),
        meta(
            tmp_path, zlib.compress(DATA), "2.mha", CompressedData="True", CompressedDataSize=len(zlib.compress(DATA))
        ),
        meta(tmp_path, ramp(">i2").tobytes(), "3.mha", BinaryDataByteOrderMSB="True"),
        meta(tmp_path, b"", "4.mhd", ElementDataFile="b.raw"),
        meta(tmp_path, b"", "5.mhd", ElementDataFile="a.raw", HeaderSize="8"),
        meta(tmp_path, b"", "6.mhd", ElementDataFile="a.raw", HeaderSize="-1"),
    ]
    for path in sound:
        volume = load_volume(path)
        assert np.array_equal(volume.hu, truth), path.name
        assert volume.grid.origin_mm == pytest.approx([1, 2, 3]), path.name
        if b"bzip2" not in path.read_bytes():  # which ITK's build cannot read
            itk = SimpleITK.ReadImage(str(path))
            assert np.array_equal(SimpleITK.GetArrayFromImage(itk), truth), path.name
            assert itk.GetOrigin() == pytest.approx((1, 2, 3)), path.name


def outside(folder):
    (folder / "secret.raw").write_bytes(DATA)
    (folder / "in").mkdir()
    return folder / "in"


def linked(folder):
    inner = outside(folder)
    (inner / "link.raw").symlink_to(folder / "secret.raw")
    return inner


REFUSED = {
    "nrrd data elsewhere": (lambda t: nrrd(outside(t), b"", "a.nhdr", data_file="../secret.raw"), BadImage, "outside"),
    "nrrd data absolute": (lambda t: nrrd(t, b"", "a.nhdr", data_file="/etc/passwd"), BadImage, "outside"),
    "nrrd data by a link": (lambda t: nrrd(linked(t), b"", "a.nhdr", data_file="link.raw"), BadImage, "outside"),
    "nrrd data absent": (lambda t: nrrd(t, b"", "a.nhdr", data_file="b.raw"), BrokenFile, "not there"),
    "nrrd data in a list": (lambda t: nrrd(t, b"", "a.nhdr", data_file="LIST"), BadImage, "several files"),
    "nrrd data in a row": (lambda t: nrrd(t, b"", "a.nhdr", data_file="s%03d.raw 1 9 1"), BadImage, "several files"),
    "nrrd bomb": (lambda t: nrrd(t, gzip.compress(bytes(64 << 20)), encoding="gzip"), BadImage, "more voxels than"),
    "nrrd bzip2 bomb": (lambda t: nrrd(t, bz2.compress(bytes(64 << 20)), encoding="bz2"), BadImage, "more voxels"),
    "nrrd short": (lambda t: nrrd(t, DATA[:-2]), BrokenFile, "voxels need 3360 bytes"),
    "nrrd long": (lambda t: nrrd(t, DATA + bytes(9000)), BadImage, "more voxels than"),
    "nrrd torn": (lambda t: nrrd(t, gzip.compress(DATA)[:-12], encoding="gzip"), BrokenFile, "cut or damaged"),
    "nrrd huge": (lambda t: nrrd(t, sizes="65535 65535 65535"), BadImage, "the limit is"),
    "nrrd negative": (lambda t: nrrd(t, sizes="-14 12 10"), BadImage, "dimensions"),
    "nrrd halves": (lambda t: nrrd(t, sizes="14.5 12 10"), BadImage, "whole numbers"),
    "nrrd four": (lambda t: nrrd(t, dimension="4", sizes="2 14 12 5"), BadImage, "4 dimensions"),
    "nrrd nan": (lambda t: nrrd(t, space_origin="(nan,0,0)"), BadImage, "numbers are needed"),
    "nrrd no place": (lambda t: nrrd(t, space_origin=None), BadImage, "place is unknown|numbers are"),
    "nrrd no directions": (lambda t: nrrd(t, space_directions=None), BadImage, "place is unknown|numbers are"),
    "nrrd flat": (lambda t: nrrd(t, space_directions="(2,0,0) (0,2,0) (0,0,0)"), BadImage, "spacing"),
    "nrrd sheared": (lambda t: nrrd(t, space_directions="(2,0,0) (0,2,0) (0,1,2)"), BadImage, "off perpendicular"),
    "nrrd no space": (lambda t: nrrd(t, space=None), BadImage, "left and right are unknown"),
    "nrrd inches": (lambda t: nrrd(t, space_units='"in" "in" "in"'), BadImage, "mm are needed"),
    "nrrd no order": (lambda t: nrrd(t, endian=None), BadImage, "byte order"),
    "nrrd blocks": (lambda t: nrrd(t, type="block"), BadImage, "numbers in raw"),
    "nrrd header only": (lambda t: nrrd(t, b""), BrokenFile, "voxels need"),
    "mha elsewhere": (lambda t: meta(outside(t), b"", "a.mhd", ElementDataFile="../secret.raw"), BadImage, "outside"),
    "mha data by a link": (lambda t: meta(linked(t), b"", "a.mhd", ElementDataFile="link.raw"), BadImage, "outside"),
    "mha data a device": (lambda t: meta(t, b"", "a.mhd", ElementDataFile="/dev/zero"), BadImage, "outside"),
    "mha data absent": (lambda t: meta(t, b"", "a.mhd", ElementDataFile="b.raw"), BrokenFile, "not there"),
    "mha bomb": (lambda t: meta(t, zlib.compress(bytes(64 << 20)), CompressedData="True"), BadImage, "more voxels"),
    "mha short": (lambda t: meta(t, DATA[:-2]), BrokenFile, "voxels need 3360 bytes"),
    "mha no spacing": (lambda t: meta(t, ElementSpacing=None), BadImage, "ElementSpacing is absent"),
    "mha spacing negative": (lambda t: meta(t, ElementSpacing="2 2 -2"), BadImage, "above zero"),
    "mha spacing nan": (lambda t: meta(t, ElementSpacing="2 2 nan"), BadImage, "3 numbers are needed"),
    "mha no order": (lambda t: meta(t, BinaryDataByteOrderMSB=None), BadImage, "byte order is not said"),
    "mha odd order": (lambda t: meta(t, BinaryDataByteOrderMSB="Fblse"), BadImage, "True or False is meant"),
    "mha no matrix": (lambda t: meta(t, TransformMatrix=None), BadImage, "TransformMatrix is absent"),
    "mha no place": (lambda t: meta(t, Offset=None), BadImage, "Offset is absent"),
    "mha key misspelt": (lambda t: meta(t, ElementSpacing=None, Elementspacing="2 2 2"), BadImage, "is absent"),
    "mha huge": (lambda t: meta(t, DimSize="65535 65535 65535"), BadImage, "the limit is"),
    "mha channels": (lambda t: meta(t, ElementNumberOfChannels="3"), BadImage, "one is needed"),
    "mha as text": (lambda t: meta(t, BinaryData="False"), BadImage, "binary numbers"),
    "mha matrix skewed": (lambda t: meta(t, TransformMatrix="1 0 0 0 1 0 0 0.5 1"), BadImage, "off perpendicular"),
    "mha matrix flat": (lambda t: meta(t, TransformMatrix="1 0 0 0 1 0 0 0 0"), BadImage, "spacing"),
    "mha header twice": (lambda t: meta(t, DATA[:0], Comment="x\nDimSize = 14 12 10"), BadImage, "twice"),
    "mha four": (lambda t: meta(t, NDims="4", DimSize="14 12 5 2"), BadImage, "4 dimensions"),
    "nii huge": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS, dims=(3, 32767, 32767, 32767, 1, 1, 1, 1)), BadImage,
                 "the limit is"),
    "nii turned qform": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS, qform=(1.0, 0, 0, -40, -40, -40)), BadImage,
                         "left and right are unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    make, kind, words = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        load_volume(path)
    assert caught.value.path is not None
    assert "\n" not in str(caught.value)


def test_a_nifti_that_grows_beyond_its_header_is_stopped(tmp_path):
    path = raw_nifti(tmp_path / "a.nii", ramp(), RAS)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(64 << 20)))
    with pytest.raises(BadImage, match="more voxels than"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("at", "kind", "value"), [(80, "f", 3.0), (80, "f", np.inf), (256, "f", np.nan), (72, "h", 8), (254, "h", 324)]
)
def test_a_nifti_that_contradicts_itself_is_refused(tmp_path, at, kind, value):
    path = raw_nifti(tmp_path / "a.nii", ramp(), RAS, qform=(0, 0, 0, -40, -40, -40))
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, data, at, value)
    path.write_bytes(data)
    with pytest.raises(BadImage):
        load_volume(path)


def test_wide_numbers_below_air_are_kept_and_beyond_int16_refused(tmp_path):
    values = ramp("<i4")
    values[0, 0, 0] = -2048
    assert int(load_volume(raw_nifti(tmp_path / "a.nii", values, RAS)).hu.min()) == -2048
    values[0, 0, 1] = 70_000
    with pytest.raises(NotHounsfield, match="HU lie between"):
        load_volume(raw_nifti(tmp_path / "a.nii", values, RAS))


def test_an_image_in_an_oblique_space_is_where_itk_puts_it(tmp_path):
    for name in ("a.nrrd", "a.mha", "a.nhdr", "a.mhd"):
        path = written(tmp_path / name, "SAR")
        volume, itk = load_volume(path), SimpleITK.ReadImage(str(path))
        for index in ((0, 0, 0), (3, 5, 7)):
            place = itk.TransformIndexToPhysicalPoint(index)
            at = np.rint(((np.array(place) - volume.grid.origin_mm) @ volume.grid.axes) / volume.grid.spacing_mm)
            i, j, k = at.astype(int)
            assert volume.hu[k, j, i] == itk[index]
