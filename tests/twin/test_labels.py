"""Labels that others made: numbering, names in files, layers, grids, sides, structures beside the bones."""

import numpy as np
import pytest
import SimpleITK

from tests.data import shared_data
from twin.scan.labels import load_labels, load_structures, read_labels
from twin.scan.load import load_volume
from twin.scan.nifti import write_nifti
from twin.scan.numbering import NUMBERINGS, Extent, NumberingChoice, bone_named, recognised
from twin.scan.refusals import BadLabels
from twin.scan.volume import Grid

GRID = Grid((20, 24, 40), np.array([2.0, 2.0, 3.0]), np.array([-19.0, -23.0, -58.5]), np.eye(3))


def stack(numbers, grid=GRID):
    """Blocks of 3 slices each, the first number at the top (cranial)."""
    labels = np.zeros(grid.shape, np.uint8)
    for n, number in enumerate(numbers):
        top = grid.shape[0] - 1 - 4 * n
        labels[top - 2 : top + 1, 6:14, 6:14] = number
    return labels


def written(tmp_path, labels, names=None, grid=GRID):
    path = tmp_path / "labels.nii.gz"
    write_nifti(path, labels, grid, names)
    return path


# ---- which number is which bone


def test_the_tables_are_those_of_their_programs():
    v2, v1, verse = (NUMBERINGS[name] for name in ("totalsegmentator", "totalsegmentator_v1", "verse"))
    assert sorted(n for n in v2 if n < 200) == list(range(1, 118))
    assert (v2[201], v2[202]) == ("vertebrae_L6", "vertebrae_T13")
    assert sorted(v1) == list(range(1, 105))
    assert sorted(verse) == list(range(1, 29))
    assert [v2[n] for n in (25, 26, 52, 79, 117)] == [
        "sacrum", "vertebrae_S1", "aorta", "spinal_cord", "costal_cartilages",
    ]  # fmt: skip
    assert [v1[n] for n in (18, 41, 57, 58, 82, 91, 92, 104)] == [
        "vertebrae_L5", "vertebrae_C1", "colon", "rib_left_1", "humerus_left", "hip_right", "sacrum", "urinary_bladder",
    ]  # fmt: skip
    assert [verse[n] for n in (1, 8, 19, 20, 24, 25, 26, 27, 28)] == [
        "vertebrae_C1", "vertebrae_T1", "vertebrae_T12", "vertebrae_L1", "vertebrae_L5", "vertebrae_L6", "sacrum",
        "coccyx", "vertebrae_T13",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "numbering", "bones"),
    [
        ([32, 31, 30, 29, 28, 27, 25], "totalsegmentator", "T12 L1 L2 L3 L4 L5 sacrum"),
        ([28, 27, 25], "totalsegmentator", "L4 L5 sacrum"),  # VerSe would have T13 over the coccyx over L6
        ([31, 30, 29, 28, 27, 201, 25], "totalsegmentator", "L1 L2 L3 L4 L5 L6 sacrum"),
        ([19, 20, 21, 22, 23, 24], "verse", "T12 L1 L2 L3 L4 L5"),
        ([19, 28, 20, 21, 22, 23, 24, 26], "verse", "T12 T13 L1 L2 L3 L4 L5 sacrum"),
        ([22, 23, 24, 25, 26, 27], "verse", "L3 L4 L5 L6 sacrum coccyx"),
        ([23, 22, 21, 20, 19, 18, 92], "totalsegmentator_v1", "T12 L1 L2 L3 L4 L5 sacrum"),
    ],
)
def test_numbers_without_names_are_read_by_the_order_of_the_vertebrae(tmp_path, numbers, numbering, bones):
    found = read_labels(written(tmp_path, stack(numbers)), GRID)
    assert found.numbering == numbering
    wanted = [name if name in ("sacrum", "coccyx") else f"vertebrae_{name}" for name in bones.split()]
    assert found.bones is not None
    numbered = {name: n for n, name in found.bones.names.items()}
    assert set(numbered) == set(wanted)
    for name, number in zip(wanted, numbers, strict=True):
        assert np.array_equal(found.bones.labels == numbered[name], stack(numbers) == number)
    said = [note for note in found.warnings if "read as" in note]
    assert bool(said) == (numbering != "totalsegmentator")


@pytest.mark.parametrize("numbers", [[25], [24, 25]])
def test_numbers_that_fit_two_tables_are_asked_about(tmp_path, numbers):
    """25 alone: the sacrum, or L6."""
    path = written(tmp_path, stack(numbers))
    with pytest.raises(NumberingChoice, match=r"totalsegmentator: .*verse: .*--numbering totalsegmentator\|verse"):
        load_labels(path, GRID)
    assert "sacrum" in load_labels(path, GRID, numbering="totalsegmentator").names.values()
    assert "vertebrae_L6" in load_labels(path, GRID, numbering="verse").names.values()


def test_a_single_number_is_no_row_of_vertebrae():
    """5 may be the liver or C5: one block says nothing, so it is no bone."""
    assert recognised({5: Extent(0.0, 30.0)}) == ("totalsegmentator", "")
    assert recognised({140: Extent(0.0, 30.0)})[0] == ""


def test_a_sacrum_is_too_large_for_a_vertebra():
    assert recognised({25: Extent(0.0, 220.0)})[0] == "totalsegmentator"


def test_an_unknown_numbering_lists_the_known(tmp_path):
    with pytest.raises(NumberingChoice, match="there are totalsegmentator, totalsegmentator_v1, verse"):
        load_labels(written(tmp_path, stack([27])), GRID, numbering="verse20")


def test_names_in_the_file_rule_over_numbers(tmp_path):
    path = written(tmp_path, stack([7, 8, 9]), {7: "vertebrae_L4", 8: "L5 vertebra", 9: "Spinal canal & cord"})
    found = read_labels(path, GRID)
    assert found.bones is not None
    assert dict(found.bones.names) == {28: "vertebrae_L4", 27: "vertebrae_L5"}
    assert [(other.name, int(other.mask.sum())) for other in found.others] == [("spinal_canal_cord", 192)]
    with pytest.raises(BadLabels, match=r"names 7 vertebrae_L4, verse has vertebrae_C7"):
        load_labels(path, GRID, numbering="verse")


def test_half_named_numbers_are_refused(tmp_path):
    with pytest.raises(BadLabels, match="names some of its numbers but not 8"):
        load_labels(written(tmp_path, stack([7, 8]), {7: "vertebrae_L4"}), GRID)


def test_the_names_of_real_files_are_read():
    """Its numbers 19..24 are VerSe's; the file says so itself."""
    volume = load_volume(shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz"))
    report = shared_data("ct_lumbar_pelvis_nifti/spine_report")
    refined = load_labels(report / "totalseg_vertebrae_pp_refined.nii.gz", volume.grid)
    counts = {name: int((refined.labels == n).sum()) for n, name in refined.names.items()}
    assert counts == {
        "vertebrae_T12": 1137, "vertebrae_L1": 1319, "vertebrae_L2": 1349, "vertebrae_L3": 1420,
        "vertebrae_L4": 1446, "vertebrae_L5": 1260,
    }  # fmt: skip
    whole = load_labels(report / "totalseg.nii.gz", volume.grid)
    assert (whole.labels[refined.labels == 27] == 27).mean() > 0.95  # L5 lies in L5
    bodies = read_labels(report / "totalseg_vertebrae_body.nii.gz", volume.grid)
    assert bodies.bones is None
    assert [(m.name, int(m.mask.sum())) for m in bodies.others] == [
        ("vertebrae_body", 11005), ("intervertebral_discs", 2685),
    ]  # fmt: skip
    with pytest.raises(BadLabels, match="no voxel is labelled as bone; it labels vertebrae_body"):
        load_labels(report / "totalseg_vertebrae_body.nii.gz", volume.grid)


def test_free_words_for_bones():
    said = {
        "L3": "vertebrae_L3", "Vertebra L03": "vertebrae_L3", "l6": "vertebrae_L6", "T13 vertebra": "vertebrae_T13",
        "Left hip": "hip_left", "hip bone, right": "hip_right", "Os sacrum": "sacrum", "RIGHT_FEMUR": "femur_right",
        "rib left 11": "rib_left_11", "left clavicle": "clavicula_left",
        "L7": None, "T14": None, "liver": None, "disc L4/L5": None, "": None, "rib 3": None,
    }  # fmt: skip
    assert {text: bone_named(text) for text in said} == said


# ---- structures, places, sides


def test_structures_stand_where_they_were_drawn(tmp_path):
    labels = stack([31, 30, 29])
    labels[:, 16:18, 9:11] = 79
    path = written(tmp_path, labels)
    (cord,) = load_structures(path, GRID)
    assert cord.name == "spinal_cord"
    assert cord.source == "labels.nii.gz"
    assert cord.mask.shape == (40, 2, 2)
    assert cord.mask.all()
    assert np.allclose(cord.grid.origin_mm, GRID.patient_from_index(np.array([9, 16, 0])).mm)
    with pytest.raises(BadLabels, match="nothing but bones"):
        load_structures(written(tmp_path, stack([31, 30, 29])), GRID)


def test_one_mask_is_named_by_its_file(tmp_path):
    write_nifti(tmp_path / "tumour.nii.gz", stack([1]), GRID)
    (tumour,) = load_structures(tmp_path / "tumour.nii.gz", GRID)
    assert tumour.name == "tumour"
    write_nifti(tmp_path / "vertebrae_L2.nii.gz", stack([1]), GRID)
    assert dict(load_labels(tmp_path / "vertebrae_L2.nii.gz", GRID).names) == {30: "vertebrae_L2"}


def test_a_cropped_map_on_the_same_voxels_is_copied(tmp_path):
    labels = stack([31, 30, 29])
    low, size = (3, 4, 20), (15, 12, 20)
    cropped = labels[20:40, 4:16, 3:18]
    path = written(tmp_path, np.ascontiguousarray(cropped), grid=GRID.cropped(low, size))
    found = load_labels(path, GRID)
    assert np.array_equal(found.labels, labels)
    assert found.warnings == ()


def test_labels_that_leave_the_ct_are_told_or_refused(tmp_path):
    path = written(tmp_path, stack([31, 30, 29, 28, 27]))
    short = GRID.cropped((0, 0, 22), (20, 24, 18))
    found = load_labels(path, short)
    assert any("lie outside the CT and are left out" in note for note in found.warnings)
    with pytest.raises(BadLabels, match="lie inside the CT, 90% must"):
        load_labels(path, GRID.cropped((0, 0, 30), (20, 24, 10)))


@pytest.mark.parametrize("axes", ["LAS", "RAS", "ASL", "PIR"])
def test_any_orientation_lands_on_the_same_voxels(tmp_path, axes):
    labels = stack([31, 30, 29])
    labels[30:32, 3:5, 2:4] = 79  # nothing symmetric
    image = SimpleITK.GetImageFromArray(labels)
    image.SetSpacing(GRID.spacing_mm.tolist())
    image.SetOrigin(GRID.origin_mm.tolist())
    turned = SimpleITK.DICOMOrient(image, axes)
    SimpleITK.WriteImage(turned, str(tmp_path / "a.nrrd"))
    found = read_labels(tmp_path / "a.nrrd", GRID)
    assert found.bones is not None
    assert np.array_equal(found.bones.labels, np.where(labels == 79, 0, labels))
    assert int(found.others[0].mask.sum()) == 8
    assert not any("another grid" in note for note in found.warnings)


def test_swapped_sides_and_wrong_order_are_said(tmp_path):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[5:15, 5:15, 2:6] = 77  # hip_left on the patient's right
    labels[5:15, 5:15, 14:18] = 78
    assert any("sides swapped" in note for note in load_labels(written(tmp_path, labels), GRID).warnings)
    upside_down = load_labels(written(tmp_path, stack([27, 28, 29, 30])), GRID)
    assert any("vertebrae_L2 lies below vertebrae_L3" in note for note in upside_down.warnings)


def test_large_numbers_with_names_are_read(tmp_path):
    """Numbers above 255 (3D Slicer, MITK) are kept apart by their names."""
    import gzip

    path = written(tmp_path, stack([1, 2]), {301: "vertebrae_L4", 302: "vertebrae_L5"})
    raw = bytearray(gzip.decompress(path.read_bytes()))
    offset = int(np.frombuffer(raw[108:112], "<f4")[0])
    voxels = np.frombuffer(raw[offset:], np.uint8)
    raw[70:74] = np.array([512, 16], "<i2").tobytes()
    wide = np.where(voxels > 0, voxels.astype("<u2") + 300, 0).astype("<u2")
    path.write_bytes(gzip.compress(bytes(raw[:offset]) + wide.tobytes()))
    assert set(load_labels(path, GRID).names.values()) == {"vertebrae_L4", "vertebrae_L5"}


# ---- 3D Slicer


def slicer_file(path, layers, segments, encoding="gzip", space="left-posterior-superior"):
    """A `.seg.nrrd` as 3D Slicer writes it; segments: (layer, number, name, terminology)."""
    import gzip

    values = np.stack(layers, axis=-1) if len(layers) > 1 else layers[0]
    sign = -1.0 if space.startswith("right") else 1.0
    steps = [f"({sign * 2},0,0)", f"(0,{sign * 2},0)", "(0,0,3)"]
    origin = f"({sign * -19},{sign * -23},-58.5)"
    listed = len(layers) > 1
    lines = [
        "NRRD0004", "# Complete NRRD file format specification at:", "type: unsigned char",
        f"dimension: {4 if listed else 3}", f"space: {space}",
        f"sizes: {f'{len(layers)} ' if listed else ''}20 24 40",
        f"space directions: {'none ' if listed else ''}{' '.join(steps)}",
        f"kinds: {'list ' if listed else ''}domain domain domain", f"encoding: {encoding}", f"space origin: {origin}",
    ]  # fmt: skip
    for n, (layer, number, name, term) in enumerate(segments):
        lines += [f"Segment{n}_ID:=Segment_{n}", f"Segment{n}_LabelValue:={number}", f"Segment{n}_Layer:={layer}",
                  f"Segment{n}_Name:={name}", f"Segment{n}_Tags:=Segmentation.Status:inprogress|{term}"]  # fmt: skip
    data = np.ascontiguousarray(values).tobytes()
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (gzip.compress(data) if encoding == "gzip" else data))
    return path


TERM = "TerminologyEntry:Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^{}^{}~^^~x~^^~^^|"


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_slicer_segments_in_overlapping_layers(tmp_path, encoding):
    bones, cord = stack([1, 2, 3]), np.zeros(GRID.shape, np.uint8)
    cord[:, 12:16, 9:11] = 1  # overlaps the vertebrae
    path = slicer_file(
        tmp_path / "a.seg.nrrd",
        [bones, cord],
        [
            (0, 1, "L3", ""),
            (0, 2, "Segment_2", TERM.format("11994002", "L4 vertebra")),
            (0, 3, "vertebrae_L5", TERM.format("49668003", "L5 vertebra")),
            (1, 1, "Spinal cord", ""),
        ],
        encoding,
    )
    found = read_labels(path, GRID)
    assert found.bones is not None
    numbered = {name: n for n, name in found.bones.names.items()}
    for name, number in (("vertebrae_L3", 1), ("vertebrae_L4", 2), ("vertebrae_L5", 3)):
        assert np.array_equal(found.bones.labels == numbered[name], bones == number)
    assert [(o.name, int(o.mask.sum())) for o in found.others] == [("spinal_cord", 40 * 4 * 2)]


def test_slicer_in_ras(tmp_path):
    path = slicer_file(tmp_path / "a.seg.nrrd", [stack([1])], [(0, 1, "sacrum", "")], space="right-anterior-superior")
    assert np.array_equal(load_labels(path, GRID).labels > 0, stack([1]) > 0)


def test_a_slicer_segment_with_two_names_is_refused(tmp_path):
    term = TERM.format("11994002", "L4 vertebra")
    path = slicer_file(tmp_path / "a.seg.nrrd", [stack([1])], [(0, 1, "L3", term)])
    with pytest.raises(BadLabels, match="called vertebrae_L3 but its code says vertebrae_L4"):
        load_labels(path, GRID)


def test_a_cut_slicer_file_is_a_fault(tmp_path):
    path = slicer_file(tmp_path / "a.seg.nrrd", [stack([1])], [(0, 1, "sacrum", "")], "raw")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Exception, match="is the copy complete"):
        load_labels(path, GRID)
