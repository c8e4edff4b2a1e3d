"""Every known way in which a folder of slices can be wrong is refused by name, with the file."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from spatial.faults import Fault
from tests.data import shared_data
from tests.twin.written_series import write_series
from twin.scan.load import load_volume
from twin.scan.refusals import (
    BadGeometry,
    BrokenFile,
    DuplicateSlices,
    IrregularSlices,
    MixedSeries,
    NoCT,
    NoScan,
    NotHounsfield,
    SeriesChoice,
    SingleSlice,
)
from twin.scan.series import list_series


def only(k_odd, **values):
    """Change these values in slice `k_odd`; None deletes."""

    def mutate(data, k):
        if k == k_odd:
            every(**values)(data, k)

    return mutate


def every(**values):
    def mutate(data, _k):
        for tag, value in values.items():
            if value is None:
                delattr(data, tag)
            else:
                setattr(data, tag, value)

    return mutate


def without(*lost):
    def mutate(data, k):
        data.skip_this = k in lost

    return mutate


def moved(k_odd, dz):
    def mutate(data, k):
        if k == k_odd:
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y, float(z) + dz]

    return mutate


def taller(data, k):
    if k == 7:
        data.Rows, data.Columns = data.Columns, data.Rows


def sign_flipped(data, _k):
    """Values stored as signed, declared unsigned: air becomes 64512."""
    stored = np.frombuffer(data.PixelData, "<u2").astype(int) - 1024
    data.PixelData = stored.astype("<i2").tobytes()
    data.RescaleIntercept, data.BitsStored, data.HighBit = 0, 16, 15


def sideways(data, k):
    x, y, z = data.ImagePositionPatient
    data.ImagePositionPatient = [float(x) + (3.0 if k in (5, 6) else 0.0), y, z]


REFUSED = {
    "missing slice": (without(9), IrregularSlices, "gap of 8.00 mm after slice 9, the others are 4.00 mm apart"),
    "two missing together": (without(9, 10), IrregularSlices, "are 2 slices missing"),
    "one slice moved": (moved(9, 1.0), IrregularSlices, "one distance is needed"),
    "uneven sideways shift": (sideways, IrregularSlices, "sideways"),
    "two patients": (only(5, PatientID="other"), MixedSeries, "2 patients"),
    "two frames of reference": (only(5, FrameOfReferenceUID="1.2.3"), MixedSeries, "2 frames of reference"),
    "two studies": (only(5, StudyInstanceUID="1.2.3"), MixedSeries, "2 studies"),
    "another orientation": (only(5, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), MixedSeries, "another orientation"),
    "turned by a degree": (only(5, ImageOrientationPatient=[1, 0, 0, 0, 0.9998, 0.02]), MixedSeries, "orientation"),
    "another spacing": (only(5, PixelSpacing=[2.0, 1.7]), MixedSeries, "pixel spacings"),
    "another size": (taller, MixedSeries, "image sizes"),
    "no spacing": (every(PixelSpacing=None), BadGeometry, "PixelSpacing is absent"),
    "spacing empty": (every(PixelSpacing=""), BadGeometry, "PixelSpacing is absent"),
    "spacing zero": (every(PixelSpacing=[0, 0]), BadGeometry, "above zero"),
    "spacing negative": (every(PixelSpacing=[2, -1.6]), BadGeometry, "above zero"),
    "no position": (only(5, ImagePositionPatient=None), BadGeometry, "ImagePositionPatient is absent"),
    "no orientation": (every(ImageOrientationPatient=None), BadGeometry, "ImageOrientationPatient is absent"),
    "orientation skewed": (every(ImageOrientationPatient=[1, 0, 0, 0.5, 0.86, 0]), BadGeometry, "perpendicular"),
    "orientation zero": (every(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), BadGeometry, "perpendicular"),
    "slope zero": (every(RescaleSlope=0), NotHounsfield, "RescaleSlope is 0"),
    "no slope": (every(RescaleSlope=None), NotHounsfield, "absent"),
    "no intercept": (only(5, RescaleIntercept=None), NotHounsfield, "absent"),
    "perfusion map": (every(ImageType=["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]), NotHounsfield, "RCBF|PERFUSION"),
    "other unit": (every(RescaleType="Z_EFF"), NotHounsfield, "Z_EFF"),
    "colour": (every(PhotometricInterpretation="RGB", SamplesPerPixel=3, Rows=44, Columns=18), NotHounsfield, "RGB"),
    "not CT": (every(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), NoCT, "MR"),
    "only localizers": (every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), NoCT, "localizer"),
    "huge": (every(Rows=65535, Columns=65535), BrokenFile, "pixels need"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path, name):
    mutate, kind, words = REFUSED[name]
    write_series(tmp_path, mutate=mutate)
    with pytest.raises(kind, match=words) as caught:
        load_volume(tmp_path)
    assert caught.value.path is not None
    assert "\n" not in str(caught.value)
    assert "Secret" not in str(caught.value)
    assert "4711" not in str(caught.value)
    try:
        listed = list_series(tmp_path)
    except BrokenFile:
        return
    assert any(kind.__name__ in problem for series in listed for problem in series.problems)


@pytest.mark.parametrize("text", ["nan", "NaN", "one", "1e999"])
def test_spacing_that_is_no_number(tmp_path, text):
    """Written as raw bytes: a library would refuse to write it."""
    files = write_series(tmp_path, spacing_mm=(2.0, 1.625))
    data = files[3].read_bytes()
    assert data.count(b"2\\1.625 ") == 1
    files[3].write_bytes(data.replace(b"2\\1.625 ", b"2\\" + text.encode().ljust(6)))
    with pytest.raises(BadGeometry, match="PixelSpacing") as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[3]


@pytest.mark.parametrize("keep", ["half", "minus 2", "header", "magic", "nothing"])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file_is_named_never_dropped(tmp_path, keep, packed):
    def pack(data, _k):
        data.compress(RLELossless, generate_instance_uid=False)

    files = write_series(tmp_path, slices=6, mutate=pack if packed else None)
    data = files[2].read_bytes()
    size = {"half": len(data) // 2, "minus 2": len(data) - 2, "header": 900, "magic": 140, "nothing": 0}[keep]
    files[2].write_bytes(data[:size])
    with pytest.raises(BrokenFile) as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[2]
    assert any("slice002" in problem for problem in list_series(tmp_path)[0].problems)


def test_values_beyond_a_ct_are_refused(tmp_path):
    write_series(tmp_path, mutate=sign_flipped)
    with pytest.raises(NotHounsfield, match="PixelRepresentation"):
        load_volume(tmp_path)


def test_first_and_last_slice_truncated_is_named_too(tmp_path):
    for k in (0, 5):
        files = write_series(tmp_path / str(k), slices=6)
        files[k].write_bytes(files[k].read_bytes()[:700])
        with pytest.raises(BrokenFile, match="copy"):
            load_volume(tmp_path / str(k))


def test_damaged_compressed_pixels(tmp_path):
    def pack(data, _k):
        data.compress(RLELossless, generate_instance_uid=False)

    files = write_series(tmp_path, slices=4, mutate=pack)
    data = bytearray(files[1].read_bytes())
    at = data.index(b"\xe0\x7f\x10\x00")
    data[at + 40 : at + 120] = b"\x05" * 80
    files[1].write_bytes(data)
    with pytest.raises(BrokenFile) as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[1]


def test_deflate_bomb_is_stopped(tmp_path):
    files = write_series(tmp_path, slices=3, syntax=DeflatedExplicitVRLittleEndian)
    data = files[1].read_bytes()
    begin = 144 + struct.unpack("<I", data[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(zlib.decompress(data[begin:], -15))
    body += b"".join(packer.compress(bytes(1 << 24)) for _ in range(8)) + packer.flush()
    files[1].write_bytes(data[:begin] + body)
    with pytest.raises(BrokenFile, match="inflates beyond"):
        load_volume(tmp_path)


def test_deeply_nested_sequences_are_survived(tmp_path):
    files = write_series(tmp_path, slices=4)
    data = files[1].read_bytes()
    nest = struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = (
        data.index(struct.pack("<HH2s", 0x0008, 0x1030, b"LO"))
        if b"\x08\x00\x30\x10LO" in data
        else data.index(b"\x10\x00\x10\x00")
    )
    files[1].write_bytes(data[:at] + nest * 20_000 + data[at:])
    with pytest.raises(Fault) as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[1]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_any_noise_in_a_header_is_a_fault_never_a_crash(tmp_path, syntax):
    generator = np.random.default_rng(3)
    files = write_series(tmp_path, slices=4, shape=(20, 24), spacing_mm=(4.0, 4.0), syntax=syntax)
    sound = files[1].read_bytes()
    end = sound.find(b"\xe0\x7f\x10\x00")
    end = end + 30 if end > 0 else len(sound)
    refused = 0
    for _ in range(120):
        spoiled = bytearray(sound)
        for at in generator.integers(128, end, int(generator.integers(1, 6))):
            spoiled[at] = int(generator.integers(0, 256))
        files[1].write_bytes(spoiled)
        try:
            list_series(tmp_path)
            load_volume(tmp_path)
        except Fault:
            refused += 1
    assert refused > 60


def test_empty_and_foreign_folders(tmp_path):
    with pytest.raises(NoScan, match="empty"):
        load_volume(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NoScan, match="none of 1 files"):
        load_volume(tmp_path)
    with pytest.raises(NoScan, match="no such"):
        load_volume(tmp_path / "absent")
    with pytest.raises(NoScan, match="not DICOM"):
        load_volume(tmp_path / "notes.txt")


def test_foreign_files_are_counted_not_fatal(tmp_path):
    write_series(tmp_path, slices=5)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 4)
    assert any("3 files in the folder ignored" in note for note in load_volume(tmp_path).warnings)


def test_single_slice(tmp_path):
    write_series(tmp_path, slices=1)
    with pytest.raises(SingleSlice):
        load_volume(tmp_path)


def test_several_series_need_a_choice(tmp_path):
    write_series(tmp_path / "a", series_uid=generate_uid(entropy_srcs=["a"]))
    write_series(tmp_path / "b", slices=15, series_uid=generate_uid(entropy_srcs=["b"]))
    with pytest.raises(SeriesChoice, match="2 CT series") as caught:
        load_volume(tmp_path)
    assert caught.value.exit_code == 2
    assert generate_uid(entropy_srcs=["a"]) in str(caught.value)
    assert load_volume(tmp_path, series_uid=generate_uid(entropy_srcs=["b"])).grid.size[2] == 15
    with pytest.raises(SeriesChoice, match="no series"):
        load_volume(tmp_path, series_uid="1.2.3")


def test_a_scout_beside_the_series_is_no_choice(tmp_path):
    write_series(
        tmp_path / "scout", slices=1, mutate=every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), series_uid="1.2.3"
    )
    write_series(tmp_path / "body")
    volume = load_volume(tmp_path)
    assert volume.grid.size[2] == 21
    assert any("1 other series" in note for note in volume.warnings)


def test_localizer_inside_is_left_out(tmp_path):
    def scout(data, k):
        if k == 0:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    write_series(tmp_path, mutate=scout)
    volume = load_volume(tmp_path)
    assert volume.grid.size[2] == 20
    assert any("localizer" in note for note in volume.warnings)


def test_duplicates_identical_and_different(tmp_path):
    files = write_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(files[5].read_bytes())
    volume = load_volume(tmp_path)
    assert volume.grid.size[2] == 21
    assert any("1 duplicate slice" in note for note in volume.warnings)
    spoiled = bytearray(files[5].read_bytes())
    spoiled[-900] ^= 0x40
    (tmp_path / "copy.dcm").write_bytes(spoiled)
    with pytest.raises(DuplicateSlices, match="2 different slices"):
        load_volume(tmp_path)


def test_blank_uids_warn_only(tmp_path):
    write_series(tmp_path, mutate=every(SeriesInstanceUID="", StudyInstanceUID="", SOPInstanceUID=""))
    assert list_series(tmp_path)[0].uid == ""
    assert any("blank" in note for note in load_volume(tmp_path).warnings)


def test_monochrome1_keeps_its_hu(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", mutate=every(PhotometricInterpretation="MONOCHROME1"))
    inverse = load_volume(tmp_path / "b")
    assert np.array_equal(inverse.hu, load_volume(tmp_path / "a").hu)
    assert any("MONOCHROME1" in note for note in inverse.warnings)


def test_every_second_slice_missing_is_said(tmp_path):
    write_series(tmp_path, mutate=without(*range(1, 21, 2)))
    assert any("8.000 mm apart but 4.000 mm thick" in note for note in load_volume(tmp_path).warnings)


def test_short_against_the_announced_number_is_said(tmp_path):
    write_series(tmp_path, mutate=every(NumberOfSeriesRelatedInstances=30))
    assert any("announces 30" in note for note in load_volume(tmp_path).warnings)


REAL = {
    "gantrytilting": (None, "gantry tilt of 14.0 degrees corrected"),
    "sliceincrement/001": (IrregularSlices, "gap of 10.00 mm after slice 3"),
    "sliceincrement/002": (IrregularSlices, "gap of 1.50 mm after slice 3.*tilted by 15.5"),
    "notavolume": (DuplicateSlices, "4 different slices at one position"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_bad_geometry_is_refused_or_corrected(tmp_path, name):
    kind, words = REAL[name]
    zipfile.ZipFile(shared_data("ct_bad_geometry_dicom/dicom2nifti_failing_ct.zip")).extractall(tmp_path)
    if kind is None:
        assert any(words in note for note in load_volume(tmp_path / name).warnings)
    else:
        with pytest.raises(kind, match=words):
            load_volume(tmp_path / name)


def test_real_tilt_with_changing_spacing_is_made_upright(tmp_path):
    zipfile.ZipFile(shared_data("ct_head_gantry_tilt_dicom/GE_HiSpeed_head_28slices.zip")).extractall(tmp_path)
    volume = load_volume(tmp_path)
    assert volume.grid.spacing_mm == pytest.approx([0.48828125, 0.48828125, 4.0], abs=2e-3)
    assert volume.about["gantry_tilt_corrected_deg"] == pytest.approx(18.5, abs=0.05)
    assert volume.about["resampled_from_mm"] == pytest.approx([4.0, 1.08, 7.0], abs=0.01)
    words = " ".join(volume.warnings)
    assert "4.00 and 1.08 and 7.00 mm apart (the protocol changed); resampled to 4.00 mm" in words
    assert "gantry tilt of 18.5 degrees corrected" in words


def test_real_subset_with_a_hole_names_it(tmp_path):
    zipfile.ZipFile(shared_data("ct_lego_phantom_dicom/LegoPhantom_10slices.zip")).extractall(tmp_path)
    with pytest.raises(IrregularSlices, match=r"gap of 90\.00 mm after slice 5, the others are 1\.88 mm apart"):
        load_volume(tmp_path)


def test_real_perfusion_map_is_refused():
    with pytest.raises(NotHounsfield, match="PERFUSION"):
        load_volume(shared_data("enhanced_ct_dicom"))
