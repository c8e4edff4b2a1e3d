"""DICOM Segmentation objects: of dcmqi (real), of highdicom (another writer than our reader), and broken ones."""

import zipfile
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from spatial.faults import Fault
from tests.data import shared_data
from twin.scan.dicom_seg import fingerprint
from twin.scan.labels import load_labels, load_structures, read_labels
from twin.scan.load import load_volume
from twin.scan.refusals import BadLabels, WrongReference
from twin.scan.volume import Grid

SLICES, ROWS, COLUMNS = 12, 20, 24
GRID = Grid((COLUMNS, ROWS, SLICES), np.array([0.8, 0.8, 1.5]), np.array([-10.0, -8.0, 40.0]), np.eye(3))
SERIES, FRAME = generate_uid(), generate_uid()
ABOUT = {"series_fingerprint": fingerprint(SERIES), "frame_of_reference_fingerprint": fingerprint(FRAME)}
LEFT = CodedConcept("7771000", "SCT", "Left")


def ct_headers(series=SERIES, frame=FRAME):
    """The slices that a SEG refers to, from the top down as some scanners store them."""
    study, found = generate_uid(), []
    for k in reversed(range(SLICES)):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.CTImageStorage, generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientID = data.PatientName = data.PatientBirthDate = data.PatientSex = ""
        data.StudyDate = data.StudyTime = data.AccessionNumber = data.StudyID = data.ReferringPhysicianName = ""
        data.Modality, data.InstanceNumber, data.Rows, data.Columns = "CT", SLICES - k, ROWS, COLUMNS
        data.PixelSpacing, data.SliceThickness = [0.8, 0.8], 1.5
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [-10.0, -8.0, 40.0 + 1.5 * k]
        data.BitsAllocated, data.SamplesPerPixel, data.PhotometricInterpretation = 16, 1, "MONOCHROME2"
        found.append(data)
    return found


def segment(number, label, code=("36470004", "L3 vertebra"), modifier=None):
    found = SegmentDescription(
        number, label, CodedConcept("123037004", "SCT", "Anatomical Structure"), CodedConcept(code[0], "SCT", code[1]),
        highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )  # fmt: skip
    if modifier is not None:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return found


SEGMENTS = (
    segment(1, "Segment_1", ("36470004", "L3 vertebra")),
    segment(2, "l4", ("11994002", "L4 vertebra")),
    segment(3, "iliac bone", ("29836001", "Hip"), LEFT),
    segment(4, "cord", ("2748008", "Spinal cord")),
)
NAMES = ("vertebrae_L3", "vertebrae_L4", "hip_left", "spinal_cord")


def masks():
    """Four segments (k, j, i, segment); the cord overlaps L3 and L4; the last two slices are empty."""
    out = np.zeros((SLICES, ROWS, COLUMNS, 4), np.uint8)
    out[6:10, 3:9, 4:11, 0] = 1
    out[2:6, 3:9, 4:12, 1] = 1
    out[1:5, 12:18, 14:23, 2] = 1
    out[1:10, 7:9, 6:8, 3] = 1
    return out


def written(tmp_path, pixels, kind, segments=SEGMENTS, sources=None, **options):
    sources = sources or ct_headers()
    options.setdefault("transfer_syntax_uid", ExplicitVRLittleEndian)
    seg = Segmentation(
        source_images=sources, pixel_array=pixels[::-1], segmentation_type=kind, segment_descriptions=list(segments),
        series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="test", manufacturer_model_name="test", software_versions="1", device_serial_number="1",
        **options,
    )  # fmt: skip
    path = tmp_path / "seg.dcm"
    seg.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("omit", [True, False])
def test_binary_segments_by_their_codes(tmp_path, syntax, omit):
    path = written(tmp_path, masks(), SegmentationTypeValues.BINARY, transfer_syntax_uid=syntax, omit_empty_frames=omit)
    found = read_labels(path, GRID, about=ABOUT)
    assert found.bones is not None
    assert found.warnings == ("1 labels that are no bones are not among the bones (spinal_cord)",)
    numbers = {name: n for n, name in found.bones.names.items()}
    for n, name in enumerate(NAMES[:3]):
        assert np.array_equal(found.bones.labels == numbers[name], masks()[..., n] > 0), name
    (cord,) = found.others
    assert cord.name == "spinal_cord"
    assert cord.mask.sum() == masks()[..., 3].sum()
    assert np.allclose(cord.grid.origin_mm, GRID.patient_from_index(np.array([6, 7, 1])).mm)
    assert load_structures(path, GRID, about=ABOUT)[0].name == "spinal_cord"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_label_map_segmentation(tmp_path, syntax):
    flat = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    for n in range(3):
        flat[masks()[..., n] > 0] = n + 1
    path = written(tmp_path, flat, SegmentationTypeValues.LABELMAP, SEGMENTS[:3], transfer_syntax_uid=syntax)
    found = load_labels(path, GRID, about=ABOUT)
    numbers = {name: n for n, name in found.names.items()}
    for n, name in enumerate(NAMES[:3]):
        assert np.array_equal(found.labels == numbers[name], flat == n + 1)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_fractions_are_cut_at_one_half_and_said(tmp_path, syntax):
    soft = np.zeros((SLICES, ROWS, COLUMNS, 1), np.float32)
    soft[4:8, 4:10, 5:15] = 0.4
    soft[5:7, 5:9, 6:14] = 0.6
    path = written(
        tmp_path, soft, SegmentationTypeValues.FRACTIONAL, SEGMENTS[:1], transfer_syntax_uid=syntax,
        fractional_type=highdicom.seg.SegmentationFractionalTypeValues.PROBABILITY,
    )  # fmt: skip
    found = load_labels(path, GRID, about=ABOUT)
    assert np.array_equal(found.labels > 0, soft[..., 0] > 0.5)
    assert any("probability): voxels of 128 of 255" in note for note in found.warnings)


def test_a_segmentation_of_another_scan_is_refused(tmp_path):
    path = written(tmp_path, masks(), SegmentationTypeValues.BINARY)
    with pytest.raises(WrongReference, match="another frame of reference"):
        load_labels(path, GRID, about={**ABOUT, "frame_of_reference_fingerprint": fingerprint("1.2.3")})
    assert WrongReference.__name__ == "WrongReference"
    other = load_labels(path, GRID, about={**ABOUT, "series_fingerprint": fingerprint("1.2.3")})
    assert any("another series of the same frame of reference" in note for note in other.warnings)
    unknown = load_labels(path, GRID)
    assert any("could not be checked" in note for note in unknown.warnings)


def test_without_a_frame_of_reference_the_series_must_match(tmp_path):
    path = written(tmp_path, masks(), SegmentationTypeValues.BINARY)
    data = pydicom.dcmread(path)
    del data.FrameOfReferenceUID
    data.save_as(path)
    assert len(load_labels(path, GRID, about=ABOUT).names) == 3
    with pytest.raises(WrongReference, match="refers to another series"):
        load_labels(path, GRID, about={**ABOUT, "series_fingerprint": fingerprint("1.2.3")})


def test_the_ct_itself_names_what_is_compared(tmp_path):
    """From the CT's files through `load_volume` to the check: nobody has to pass UIDs by hand."""
    with zipfile.ZipFile(shared_data("dicom_seg/ct-3slice.zip")) as archive:
        archive.extractall(tmp_path / "ct")
    volume = load_volume(tmp_path / "ct")
    seg = shared_data("dicom_seg/liver.dcm")
    (liver,) = load_structures(seg, volume.grid, about=volume.about)
    assert int(liver.mask.sum()) == 107098
    moved = pydicom.dcmread(seg)
    moved.FrameOfReferenceUID = "1.2.3"
    moved.save_as(tmp_path / "moved.dcm")
    with pytest.raises(WrongReference):
        load_structures(tmp_path / "moved.dcm", volume.grid, about=volume.about)
    assert not any(str(value).startswith("1.2.392") for value in volume.about.values())


def test_real_segmentations_have_their_published_voxels(tmp_path):
    grid = Grid((512, 512, 3), np.array([0.810547, 0.810547, 1.0]), np.array([-235.2, -226.8, -128.69]), np.eye(3))
    folder = shared_data("dicom_seg")
    (liver,) = load_structures(folder / "liver.dcm", grid)
    (same,) = load_structures(folder / "liver_seg.nrrd", grid)
    assert int(liver.mask.sum()) == int(same.mask.sum()) == 107098
    assert np.array_equal(liver.mask, same.mask)
    overlapping = load_structures(folder / "partial_overlaps.dcm", grid)
    counts = {structure.name: int(structure.mask.sum()) for structure in overlapping}
    assert counts == {
        "green": 9602,
        "orange": 11888,
        "purple": 117 + 117 + 10509,
        "light_blue": 6693,
        "dark_blue": 4713,
    }
    with pytest.raises(BadLabels, match="no voxel is labelled as bone; it labels liver"):
        load_labels(folder / "liver.dcm", grid)
    tiny = Grid((24, 38, 3), np.array([0.7, 0.7, 2.5]), np.array([46.46491, 5.01881, -177.75]), np.eye(3))
    (spot,) = load_structures(folder / "legacy_enhanced_ct_24x38x3/label.seg", tiny)
    assert int(spot.mask.sum()) == 315


def test_a_folder_of_segmentations(tmp_path):
    written(tmp_path, masks()[..., :1], SegmentationTypeValues.BINARY, SEGMENTS[:1]).rename(tmp_path / "a.dcm")
    moved = [segment(1, "L4", ("11994002", "L4 vertebra"))]
    written(tmp_path, masks()[..., 1:2], SegmentationTypeValues.BINARY, moved).rename(tmp_path / "b.dcm")
    found = load_labels(tmp_path, GRID, about=ABOUT)
    assert set(found.names.values()) == {"vertebrae_L3", "vertebrae_L4"}


def test_a_segment_whose_name_and_code_disagree_is_refused(tmp_path):
    path = written(tmp_path, masks()[..., :1], SegmentationTypeValues.BINARY, [segment(1, "vertebrae_L2")])
    with pytest.raises(BadLabels, match="called vertebrae_L2 but its code says vertebrae_L3"):
        load_labels(path, GRID, about=ABOUT)


def test_what_is_no_segmentation_is_refused(tmp_path):
    with zipfile.ZipFile(shared_data("dicom_seg/ct-3slice.zip")) as archive:
        archive.extractall(tmp_path)
    ct = next(Path(tmp_path).rglob("*.dcm"))
    with pytest.raises(BadLabels, match="a DICOM CT that is no Segmentation"):
        load_labels(ct, GRID)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(BadLabels, match="no label file"):
        load_labels(tmp_path / "a.txt", GRID)


def damaged(data, how):
    """One way to spoil a sound Segmentation."""
    if how == "pixels cut":
        data.PixelData = data.PixelData[: len(data.PixelData) // 2]
    elif how == "no segments":
        del data.SegmentSequence
    elif how == "undescribed segment":
        data.SegmentSequence = data.SegmentSequence[:1]
    elif how == "frames lost":
        data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:-2]
    elif how == "no spacing":
        del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    elif how == "a plane astray":
        place = data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
        place.ImagePositionPatient = [-10.0, -8.0, 44.9]
    elif how == "three bits":
        data.BitsAllocated = 3
    return data


@pytest.mark.parametrize(
    "how",
    ["pixels cut", "no segments", "undescribed segment", "frames lost", "no spacing", "a plane astray", "three bits"],
)
def test_damaged_segmentations_are_faults(tmp_path, how):
    path = written(tmp_path, masks(), SegmentationTypeValues.BINARY)
    damaged(pydicom.dcmread(path), how).save_as(path)
    with pytest.raises((BadLabels, Fault)):
        load_labels(path, GRID, about=ABOUT)


def test_any_noise_is_a_fault_or_the_same_labels(tmp_path):
    generator = np.random.default_rng(3)
    path = written(tmp_path, masks(), SegmentationTypeValues.BINARY)
    sound = path.read_bytes()
    refused = 0
    for _ in range(60):
        spoiled = bytearray(sound)
        for at in generator.integers(132, len(sound), 5):
            spoiled[at] = int(generator.integers(0, 256))
        path.write_bytes(spoiled)
        try:
            read_labels(path, GRID, about=ABOUT)
        except Fault:
            refused += 1
    assert refused > 10
