"""The 41 known ways in which a scan can be bad, by number: each is made here, and each has its one outcome.

A case is refused by a fault that names the file, or it loads as the true volume with a word about what was odd. What is
broken on purpose among the real data follows at the end.
"""

from __future__ import annotations

import json
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from typer.testing import CliRunner

import osteotwin
from spatial.faults import Fault
from tests.data import shared_data
from tests.twin.test_scan_geometry import assert_in_place
from tests.twin.test_scan_refusals import every, moved, only, sign_flipped, taller, without
from tests.twin.written_series import write_series
from twin.scan.containers import ContainerLimits, unpacked
from twin.scan.load import load_volume
from twin.scan.refusals import (
    BadContainer,
    BadGeometry,
    BrokenFile,
    DuplicateSlices,
    IrregularSlices,
    MixedSeries,
    NoScan,
    NotHounsfield,
)
from twin.scan.series import list_series

SLICES = 15
REFUSED: dict[str, tuple[Callable[[Path], Path], type[Fault], str]] = {}
LOADED: dict[str, tuple[Callable[[Path], Path], str]] = {}


def refused(name, kind, words):
    """Register how a case is made, the fault that it must meet, and what that must say."""

    def register(make):
        REFUSED[name] = (make, kind, words)
        return make

    return register


def loaded(name, words=""):
    """Register a case that must load as the same volume as the sound series, saying `words`."""

    def register(make):
        LOADED[name] = (make, words)
        return make

    return register


def series(mutate=None, **options):
    def make(folder):
        write_series(folder, slices=SLICES, mutate=mutate, **options)
        return folder

    return make


def spoiled(change, *, packed=False):
    """A series one of whose files (the eighth) has its bytes changed."""

    def make(folder):
        files = write_series(folder, slices=SLICES, mutate=pack if packed else None)
        files[7].write_bytes(change(files[7].read_bytes()))
        return folder

    return make


def pack(data, _k):
    data.compress(RLELossless, generate_instance_uid=False)


def in_pixels(data):
    return data.index(struct.pack("<HH", 0x7FE0, 0x0010))


def scout(data, k):
    if k == 4:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def other_intercept(data, k):
    if k == 4:
        data.RescaleIntercept = -1000
        data.PixelData = (np.frombuffer(data.PixelData, "<u2") - 24).astype("<u2").tobytes()


def raw_spacing(text):
    def change(data):
        assert data.count(b"2\\1.625 ") == 1
        return data.replace(b"2\\1.625 ", b"2\\" + text.ljust(6))

    def make(folder):
        files = write_series(folder, slices=SLICES, spacing_mm=(2.0, 1.625))
        files[7].write_bytes(change(files[7].read_bytes()))
        return folder

    return make


def two_patients(folder):
    """Another patient's slices in between, under the same UIDs."""
    uid = "1.2.826.0.1.3680043.10.99.17"
    write_series(folder, slices=SLICES, series_uid=uid)
    write_series(folder, slices=SLICES, series_uid=uid, mutate=every(PatientID="4712"), name="other{:03}.dcm".format)
    return folder


def word_slope(data):
    """A RescaleSlope that begins with an x: no library would write it."""
    at = data.index(b"\x28\x00\x53\x10DS") + 8
    return data[:at] + b"x" + data[at + 1 :]


def nested(data):
    """20 000 sequences, each within the one before."""
    nest = struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF)
    nest += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = data.index(b"\x10\x00\x10\x00")
    return data[:at] + nest * 20_000 + data[at:]


def cut_fragment(data):
    """A fragment of compressed pixels that claims more bytes than the file has."""
    at = data.index(b"\xfe\xff\x00\xe0", in_pixels(data) + 20)
    return data[: at + 4] + struct.pack("<I", 0x7FFFFFF0) + data[at + 8 :]


def bomb(folder):
    files = write_series(folder, slices=4, syntax=DeflatedExplicitVRLittleEndian)
    data = files[1].read_bytes()
    begin = 144 + struct.unpack("<I", data[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(zlib.decompress(data[begin:], -15))
    body += b"".join(packer.compress(bytes(1 << 24)) for _ in range(8)) + packer.flush()
    files[1].write_bytes(data[:begin] + body)
    return folder


def dicomdir(folder, *file_ids):
    """A DICOMDIR whose image records name these files."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for kind, file_id in [("PATIENT", None), ("STUDY", None), ("SERIES", None), *(("IMAGE", f) for f in file_ids)]:
        record = Dataset()
        record.DirectoryRecordType = kind
        if kind == "SERIES":
            record.SeriesInstanceUID = "1.2.3"
        if file_id is not None:
            with pydicom.config.disable_value_validation():
                record.ReferencedFileID = file_id
        records.append(record)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.DirectoryRecordSequence = Sequence(records)
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(folder / "DICOMDIR", data, enforce_file_format=True)
    return folder / "DICOMDIR"


def traversal(folder):
    write_series(folder / "outside", slices=3)
    return dicomdir(folder / "disc", ["..", "outside", "slice000.dcm"])


def slip(folder):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        archive.writestr("../escaped.dcm", b"x")
    return folder / "scan.zip"


def zip_bomb(folder):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("slice.dcm", bytes(100 << 20))
    return folder / "scan.zip"


def pdu(folder):
    """The first bytes of a DICOM association that announces 4 GB, as a file."""
    folder.mkdir(exist_ok=True)
    (folder / "pdu.dcm").write_bytes(b"\x01\x00\xff\xff\xff\xff\x00\x01\x00\x00" + b"ANY-SCP".ljust(16) * 8)
    return folder


def elf(data):
    return b"\x7fELF\x02\x01\x01".ljust(128, b"\x90") + data[128:]


def no_preamble(folder):
    for file in write_series(folder, slices=SLICES):
        data = file.read_bytes()
        file.write_bytes(data[data.index(b"\x08\x00\x08\x00") :])
    return folder


refused("01 missing middle slice", IrregularSlices, "gap of 8.00 mm after slice 7, the others are 4.00 mm apart")(
    series(without(7))
)
loaded("02 missing last slice", "14 images, the series announces 15; was it copied whole")(
    series(lambda d, k: (without(SLICES - 1)(d, k), every(NumberOfSeriesRelatedInstances=SLICES)(d, k)))
)
loaded("03 every second missing", "8.000 mm apart but 4.000 mm thick: tissue between them was not seen")(
    series(without(*range(1, SLICES, 2)))
)
refused("04 two pictures at one place", DuplicateSlices, "2 different slices at one position")(series(moved(7, 4.0)))
refused("06 cut in half", BrokenFile, "copy complete")(spoiled(lambda data: data[: len(data) // 2]))
refused("07 cut by two bytes", BrokenFile, "copy complete")(spoiled(lambda data: data[:-2]))
refused("08 header only", BrokenFile, "before its pixel data")(spoiled(lambda data: data[: in_pixels(data)]))
refused("09 empty file", BrokenFile, "empty")(spoiled(lambda _: b""))
loaded("10 one slice of another intercept", "2 different rescale values in one series, each applied")(
    series(other_intercept)
)
refused("11 one slice of another spacing", MixedSeries, "pixel spacings")(series(only(7, PixelSpacing=[2.0, 1.7])))
refused("12 no spacing", BadGeometry, "PixelSpacing is absent")(series(every(PixelSpacing=None)))
refused("13 no position", BadGeometry, "ImagePositionPatient is absent")(series(only(7, ImagePositionPatient=None)))
refused("14 no orientation", BadGeometry, "ImageOrientationPatient is absent")(
    series(only(7, ImageOrientationPatient=None))
)
refused("15 one slice of other rows", MixedSeries, "image sizes")(series(taller))
refused("16 one slice of another orientation", MixedSeries, "another orientation")(
    series(only(7, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))
)
refused("17 two patients under one UID", MixedSeries, "2 patients")(two_patients)
refused("18 two frames of reference", MixedSeries, "2 frames of reference")(
    series(only(7, FrameOfReferenceUID="1.2.3"))
)
loaded("20 MONOCHROME1", "MONOCHROME1: taken as HU by the rescale values, not inverted")(
    series(every(PhotometricInterpretation="MONOCHROME1"))
)
refused("21 sign flipped", NotHounsfield, "PixelRepresentation")(series(sign_flipped))
refused("22 slope is a word", BadGeometry, "RescaleSlope is not a number")(spoiled(word_slope))
refused("22 slope of another kind", BadGeometry, "RescaleSlope is stored as LO")(
    spoiled(lambda data: data.replace(b"\x28\x00\x53\x10DS", b"\x28\x00\x53\x10LO"))
)
refused("23 slope zero", NotHounsfield, "RescaleSlope is 0")(series(only(7, RescaleSlope=0)))
refused("24 spacing NaN", BadGeometry, "PixelSpacing is not finite")(raw_spacing(b"nan"))
refused("25 spacing negative", BadGeometry, "above zero")(raw_spacing(b"-1.6"))
refused("26 spacing zero", BadGeometry, "above zero")(raw_spacing(b"0"))
refused("27 65535 rows and columns", BrokenFile, "65535 x 65535 x 1 pixels need")(
    series(only(7, Rows=65535, Columns=65535))
)
refused("28 deflate bomb", BrokenFile, r"inflates beyond \d+ MB")(bomb)
refused("29 nested 20 000 deep", BrokenFile, "cannot be parsed as DICOM")(spoiled(nested))
refused("30 pixel length 0xFFFFFFFE", BrokenFile, "4294967294 bytes announced")(
    spoiled(lambda data: data[: in_pixels(data) + 8] + b"\xfe\xff\xff\xff" + data[in_pixels(data) + 12 :])
)
refused("31 unknown kind of value", BrokenFile, "before its pixel data|cannot be parsed|stored as")(
    spoiled(lambda data: data.replace(b"\x28\x00\x53\x10DS", b"\x28\x00\x53\x10?!"))
)
loaded("32 no preamble")(no_preamble)
loaded("33 a program in the preamble")(spoiled(elf))
loaded("34 wrong group length of the meta header")(
    spoiled(lambda data: data[:140] + struct.pack("<I", 99_999) + data[144:])
)
refused("35 pixel data short", BrokenFile, "copy complete")(spoiled(lambda data: data[:-900]))
refused("36 noise named as a slice", NoScan, "none of 1 files")(
    lambda folder: (folder.mkdir(exist_ok=True), (folder / "a.dcm").write_bytes(bytes(range(256)) * 40), folder)[-1]
)
refused("37 DICOMDIR points outside", BadContainer, "no file of this disc")(traversal)
refused("38 zip slip", BadContainer, "points outside the archive")(slip)
refused("38 zip bomb", BadContainer, "more than 200 times its size")(zip_bomb)
refused("39 fragment longer than the file", BrokenFile, "compressed pixel data are cut")(
    spoiled(cut_fragment, packed=True)
)
refused("40 a PDU of 4 GB, as a file", NoScan, "none of 1 files")(pdu)  # the network has no room in the product yet


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    make, kind, words = REFUSED[name]
    source = make(tmp_path / "scan")
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        load_volume(source)
    assert time.monotonic() - began < 60
    assert caught.value.path is not None
    assert "\n" not in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("Secret", "4711", "4712", "1970"))
    assert not (tmp_path / "escaped.dcm").exists()


@pytest.mark.parametrize("name", LOADED)
def test_loads_as_the_true_volume(tmp_path, name):
    make, words = LOADED[name]
    volume = load_volume(make(tmp_path / "scan"))
    assert any(words in note for note in volume.warnings) or not words
    write_series(tmp_path / "sound", slices=SLICES)
    sound = load_volume(tmp_path / "sound")
    kept = {14: slice(0, 14), 8: slice(0, 15, 2)}.get(len(volume.hu), slice(None))
    assert np.array_equal(volume.hu, sound.hu[kept])
    assert volume.grid.origin_mm == pytest.approx(sound.grid.origin_mm)
    assert volume.fitness is not None
    if name.startswith(("02", "03")):
        assert not volume.fitness.plan.fit
        assert not volume.fitness.guide.fit


def test_04_the_same_picture_twice_is_kept_once(tmp_path):
    files = write_series(tmp_path, slices=SLICES)
    (tmp_path / "copy.dcm").write_bytes(files[7].read_bytes())
    volume = load_volume(tmp_path)
    assert volume.grid.size[2] == SLICES
    assert any("1 duplicate slice (same place, same pixels) left out" in note for note in volume.warnings)


def test_05_gantry_tilt_is_sheared_back(tmp_path):
    tilt = np.radians(15.0)
    column = np.array([0, np.cos(tilt), np.sin(tilt)])
    shift = (0.0, float(column[2] * 2.0))
    write_series(
        tmp_path, column=column, slices=42, pitch_mm=2.0 * np.cos(tilt), shift_mm=shift, spacing_mm=(1.0, 1.0),
        shape=(96, 88),
    )  # fmt: skip
    volume = load_volume(tmp_path)
    assert_in_place(volume, 0.1)
    assert volume.about["gantry_tilt_corrected_deg"] == pytest.approx(15.0, abs=0.01)


def test_19_a_localizer_inside_is_left_out_not_stacked(tmp_path):
    write_series(tmp_path, slices=SLICES, mutate=lambda d, k: scout(d, k + 4))  # the first one
    volume = load_volume(tmp_path)
    assert volume.grid.size[2] == SLICES - 1
    assert volume.grid.axes[:, 2] == pytest.approx([0, 0, 1])
    assert any("1 localizer (scout) image inside the series left out" in note for note in volume.warnings)


def test_22_a_bad_file_spoils_its_series_alone(tmp_path):
    files = write_series(tmp_path, slices=SLICES, series_uid="1.2.3")
    files[7].write_bytes(word_slope(files[7].read_bytes()))
    write_series(tmp_path, slices=SLICES, series_uid="1.2.4", name="good{:03}.dcm".format)
    bad, good = list_series(tmp_path)
    assert (bad.uid, good.uid) == ("1.2.3", "1.2.4")
    assert any("RescaleSlope is not a number" in problem for problem in bad.problems)
    assert all("pedicles and facets need" in problem for problem in good.problems)
    assert load_volume(tmp_path, series_uid="1.2.4").grid.size[2] == SLICES


def test_33_what_is_written_has_an_empty_preamble(tmp_path):
    from twin.scan.phantom.dicom_series import write_series as write_phantom
    from twin.scan.phantom.voxels import Scan, ScanGrid

    grid = ScanGrid((4, 4, 2), 1.0, 1.0, np.zeros(3), *np.eye(3)[:2], np.array([0, 0, 1.0]))
    scan = Scan(np.zeros((2, 4, 4), np.int16), np.zeros(0, np.uint8), grid)
    write_phantom(scan, tmp_path, seed=1, description="d", identity="i")
    assert all(file.read_bytes()[:132] == bytes(128) + b"DICM" for file in tmp_path.iterdir())


def test_38_archives_beyond_any_limit(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for n in range(12):
            archive.writestr(f"{n}.dcm", bytes(2000))
    for limits, words in ((ContainerLimits(files=10), "12 files"), (ContainerLimits(total_bytes=9000), "0 MB")):
        with pytest.raises(BadContainer, match=words), unpacked(tmp_path / "many.zip", limits=limits):
            pass


def test_41_no_uid_is_ever_a_file_name(tmp_path):
    evil = "1.2/../../../escape"
    write_series(tmp_path / "in" / "scan", slices=5, series_uid=evil)
    out = tmp_path / "in" / "pictures"
    done = CliRunner().invoke(
        osteotwin.app, ["scan", "list", str(tmp_path / "in" / "scan"), "--thumbnails", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["series"][0]["uid"] == evil
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert [p.name for p in out.iterdir()] == ["series_01.png"]


def test_all_41_cases_are_here():
    numbers = {name[:2] for name in (*REFUSED, *LOADED)} | {
        name.split("_")[1] for name in globals() if name.startswith("test_") and name.split("_")[1].isdigit()
    }
    assert numbers == {f"{n:02}" for n in range(1, 42)}


# ---- real data that is broken on purpose

BROKEN = {
    "ct_bad_geometry_dicom/dicom2nifti_failing_ct.zip": {
        "notavolume": (DuplicateSlices, "4 different slices at one position"),
        "sliceincrement/001": (IrregularSlices, "gap of 10.00 mm after slice 3"),
        "sliceincrement/002": (IrregularSlices, "gap of 1.50 mm after slice 3.*tilted by 15.5"),
    },
    "ct_lego_phantom_dicom/LegoPhantom_10slices.zip": {"": (IrregularSlices, "gap of 90.00 mm after slice 5")},
}


@pytest.mark.parametrize("name", [f"{a}:{part}" for a, parts in BROKEN.items() for part in parts])
def test_real_broken_sets_are_refused(tmp_path, name):
    archive, part = name.rsplit(":", 1)
    kind, words = BROKEN[archive][part]
    zipfile.ZipFile(shared_data(archive)).extractall(tmp_path)
    with pytest.raises(kind, match=words):
        load_volume(tmp_path / part)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("enhanced_ct_dicom", "NotHounsfield: a PERFUSION map"),
        ("rtstruct/invalid_reference_rt.dcm", "NoScan: a DICOM object without an image"),
        ("rtstruct/non_existent_reference_rt.dcm", "NoScan: a DICOM object without an image"),
        ("dicom_seg/liver.dcm", "NoCT: 1 series of modality SEG|NoCT: modality SEG|BadGeometry"),
        ("dicom_seg/legacy_enhanced_ct_24x38x3/label.seg", "NoCT|BadGeometry|BrokenFile"),
        ("ct_bad_geometry_dicom/dicom2nifti_failing_ct.zip", "NoCT|SeriesChoice|IrregularSlices|DuplicateSlices"),
    ],
)
def test_real_objects_that_are_no_ct_are_refused(name, words):
    with pytest.raises(Fault) as caught:
        load_volume(shared_data(name))
    import re

    assert re.search(words, str(caught.value)), str(caught.value)
