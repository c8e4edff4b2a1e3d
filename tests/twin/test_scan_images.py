"""Image files: a known object in every orientation, formats, damage; label maps and masks onto the CT's grid."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK

from spatial.faults import Fault
from spatial.rigid import rotation_exp
from tests.data import shared_data
from tests.twin.test_scan_geometry import assert_in_place
from tests.twin.written_series import scene_hu
from twin.scan.images import read_image
from twin.scan.load import load_labels, load_volume
from twin.scan.names import BONES, NUMBERS
from twin.scan.nifti import write_nifti
from twin.scan.refusals import BadImage, BadLabels, BrokenFile, NotHounsfield
from twin.scan.volume import Grid

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
AXIS = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
SPACING = np.array([1.6, 2.0, 2.5])


def columns(code: str) -> np.ndarray:
    """LPS directions of i, j, k for a code like RAS: the letters name where the indices grow."""
    return np.array([AXIS[letter] for letter in code], float).T


def written(path, code="LPS", values=None, turn=None, dtype=np.int16):
    """The balls sampled on a grid of that orientation, written by SimpleITK (an independent writer)."""
    axes = columns(code) if turn is None else turn @ columns(code)
    size = np.array([52, 44, 36])
    origin = -(axes * SPACING) @ ((size - 1) / 2)
    ijk = np.stack(np.indices(size[::-1])[::-1], -1)
    hu = scene_hu((ijk * SPACING) @ axes.T + origin) if values is None else values(ijk)
    image = SimpleITK.GetImageFromArray(np.rint(hu).astype(dtype) if np.dtype(dtype).kind == "i" else hu.astype(dtype))
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(axes.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "RPI", "PSL", "SAR"])
def test_balls_stand_where_they_are(tmp_path, ending, code):
    assert_in_place(load_volume(written(tmp_path / f"ct{ending}", code)), 0.15)


def test_oblique_and_int32_and_float(tmp_path):
    turn = rotation_exp([0.2, -0.3, 0.4])
    for number, dtype in enumerate((np.int32, np.float32, np.float64)):
        assert_in_place(load_volume(written(tmp_path / f"{number}.nii.gz", "RAS", turn=turn, dtype=dtype)), 0.15)


def raw_nifti(path, values, matrix_ras, *, qform=None, slope=1.0, intercept=0.0, sform_code=1, units=2, dims=None):
    """A NIfTI-1 header written field by field (nifti1.h), independent of the product's writer."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *(dims or (3, *values.shape[::-1], 1, 1, 1, 1)))
    code = {"i2": 4, "i4": 8, "f4": 16, "u1": 2}[values.dtype.str[1:]]
    struct.pack_into("<2h", header, 70, code, values.dtype.itemsize * 8)
    struct.pack_into("<8f", header, 76, 1, *np.linalg.norm(matrix_ras[:, :3], axis=0), 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, slope, intercept)
    header[123] = units
    struct.pack_into("<2h", header, 252, 0 if qform is None else 1, sform_code)
    if qform is not None:
        struct.pack_into("<6f", header, 256, *qform)
    struct.pack_into("<12f", header, 280, *matrix_ras.ravel())
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + values.tobytes())
    return path


RAS = np.hstack([np.diag([2.0, 2.0, 2.0]), [[-40], [-40], [-40]]])


def ramp(dtype="<i2"):
    return (np.arange(10 * 12 * 14).reshape(10, 12, 14) - 900).astype(dtype)


def test_slope_and_intercept_are_applied(tmp_path):
    path = raw_nifti(tmp_path / "a.nii", ramp(), RAS, slope=0.5, intercept=-100)
    assert np.array_equal(load_volume(path).hu, np.rint(ramp() * 0.5 - 100).astype(np.int16))


def test_sform_and_qform_that_disagree_are_said(tmp_path):
    agreeing = raw_nifti(tmp_path / "a.nii", ramp(), RAS, qform=(0, 0, 0, -40, -40, -40))
    assert not any("disagree" in said for said in load_volume(agreeing).warnings)
    other = raw_nifti(tmp_path / "b.nii", ramp(), RAS, qform=(0, 0, 0, -30, -40, -40))
    assert any("disagree by up to 10.0 mm" in note for note in load_volume(other).warnings)
    assert load_volume(other).grid.origin_mm == pytest.approx([40, 40, -40])


def test_values_that_are_not_finite_become_air(tmp_path):
    values = ramp("<f4")
    values[2, 3, 4:7] = np.nan
    volume = load_volume(raw_nifti(tmp_path / "a.nii", values, RAS))
    assert (volume.hu[2, 3, 4:7] == -1024).all()
    assert any("3 voxels are not finite" in note for note in volume.warnings)


def test_below_air_is_kept():
    volume = load_volume(shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz"))
    assert (int(volume.hu.min()), int(volume.hu.max())) == (-1207, 3382)
    assert volume.grid.size == (122, 101, 112)
    image = SimpleITK.ReadImage(str(shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz")))
    assert volume.grid.origin_mm == pytest.approx(image.GetOrigin(), abs=1e-4)
    assert np.array_equal(volume.hu, SimpleITK.GetArrayFromImage(image))


def _refused(tmp_path, make, kind, words):
    path = make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        load_volume(path)
    assert caught.value.path == path


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def _renamed(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"not an image at all" * 40)
    return tmp_path / "a.nii.gz"


REFUSED = {
    "no orientation": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS, sform_code=0), BadImage, "left and right"),
    "sheared": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS + np.eye(3, 4, 1)), BadImage, "off perpendicular"),
    "no spacing": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS * [0, 1, 1, 1]), BadImage, "spacing"),
    "nan orientation": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS * np.nan), BadImage, "not finite"),
    "4-D": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS, dims=(4, 14, 12, 5, 2, 1, 1, 1)), BadImage, "4 dimensions"),
    "2-D": (lambda t: raw_nifti(t / "a.nii", ramp(), RAS, dims=(2, 14, 120, 1, 1, 1, 1, 1)), BadImage, "2 dimensions"),
    "one slice": (lambda t: raw_nifti(t / "a.nii", ramp()[:1], RAS), BadImage, "one slice"),
    "a mask": (lambda t: raw_nifti(t / "a.nii", (ramp() > 0).astype("<i2"), RAS), NotHounsfield, "mask"),
    "beyond int16": (lambda t: raw_nifti(t / "a.nii", ramp("<i4") * 60, RAS), NotHounsfield, "HU lie between"),
    "plain cut": (lambda t: _cut(raw_nifti(t / "a.nii", ramp(), RAS), 3000), BrokenFile, "copy complete"),
    "plain cut by 2": (lambda t: _cut(raw_nifti(t / "a.nii", ramp(), RAS), 352 + 3358), BrokenFile, "copy complete"),
    "header only": (lambda t: _cut(raw_nifti(t / "a.nii", ramp(), RAS), 200), BrokenFile, "header"),
    "gzip cut": (lambda t: _cut(written(t / "a.nii.gz"), 2000), BrokenFile, "cut or damaged"),
    "gzip cut by 2": (lambda t: _cut(p := written(t / "a.nii.gz"), p.stat().st_size - 2), BrokenFile, "cut or damaged"),
    "mha cut": (lambda t: _cut(written(t / "a.mha"), 9000), BrokenFile, "copy complete"),
    "nrrd cut": (lambda t: _cut(written(t / "a.nrrd"), 9000), BrokenFile, "copy complete"),
    "empty": (lambda t: _cut(written(t / "a.mha"), 0), BrokenFile, "empty"),
    "no image": (_renamed, BadImage, "NIfTI-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_images_are_refused(tmp_path, name):
    _refused(tmp_path, *REFUSED[name])


def test_nrrd_without_space_is_refused(tmp_path):
    path = written(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    with pytest.raises(BadImage, match="left and right are unknown"):
        load_volume(path)


def test_written_nifti_is_read_by_others_in_place(tmp_path):
    grid = Grid((6, 5, 4), np.array([1.0, 1.5, 2.0]), np.array([3.0, -7.0, 11.0]), rotation_exp([0.1, 0.5, -0.3]))
    values = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    for name in ("a.nii.gz", "a.nii"):
        write_nifti(tmp_path / name, values, grid, {27: "vertebrae_L5"})
        image = SimpleITK.ReadImage(str(tmp_path / name))
        assert np.array_equal(SimpleITK.GetArrayFromImage(image), values)
        assert image.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0)) == pytest.approx(
            tuple(grid.patient_from_index(np.array([1.0, 2.0, 3.0])).mm), abs=1e-4
        )
        back = read_image(tmp_path / name)
        assert back.grid.same_as(grid, 1e-4)
        assert back.warnings == ()
    table = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert b'<Label Key="27"' in table
    assert b"<![CDATA[vertebrae_L5]]>" in table


# ---- labels


def ct_grid() -> Grid:
    return Grid((20, 24, 16), np.array([2.0, 2.0, 3.0]), np.array([-19.0, -23.0, -22.5]), np.eye(3))


def block(values=27):
    labels = np.zeros((16, 24, 20), np.uint8)
    labels[4:9, 6:14, 12:18] = values
    return labels


def test_a_mirrored_map_lands_on_the_same_voxels(tmp_path):
    grid, labels = ct_grid(), block()
    image = SimpleITK.GetImageFromArray(labels[:, ::-1, :].copy())  # LAS: j runs forward
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-19.0, -23.0 + 23 * 2.0, -22.5))
    SimpleITK.WriteImage(image, str(tmp_path / "las.nii.gz"))
    found = load_labels(tmp_path / "las.nii.gz", grid)
    assert np.array_equal(found.labels, labels)
    assert found.names == {27: "vertebrae_L5"}
    assert found.warnings == ()


def test_finer_labels_are_resampled_and_said(tmp_path):
    fine = Grid((40, 48, 48), np.array([1.0, 1.0, 1.0]), np.array([-19.5, -23.5, -23.5]), np.eye(3))
    write_nifti(tmp_path / "fine.nii.gz", np.kron(block(), np.ones((3, 2, 2), np.uint8)), fine)
    found = load_labels(tmp_path / "fine.nii.gz", ct_grid())
    assert np.array_equal(found.labels, block())
    assert any("another grid" in note for note in found.warnings)


def test_sheared_labels_of_a_tilted_scan_are_resampled(tmp_path):
    """A map whose slices are displaced by one voxel of j each: its labels come back straight."""
    labels = block()
    stored = np.stack([np.roll(labels[k], k, axis=0) for k in range(16)])
    lps = np.array([[2.0, 0, 0, -19.0], [0, 2.0, -2.0, -23.0], [0, 0, 3.0, -22.5]])
    raw_nifti(tmp_path / "a.nii", stored, np.diag([-1.0, -1.0, 1.0]) @ lps)
    found = load_labels(tmp_path / "a.nii", ct_grid())
    assert np.array_equal(found.labels, labels)


def test_labels_of_another_scan_are_refused(tmp_path):
    away = Grid((20, 24, 16), np.array([2.0, 2.0, 3.0]), np.array([181.0, -23.0, -22.5]), np.eye(3))
    write_nifti(tmp_path / "a.nii.gz", block(), away)
    with pytest.raises(BadLabels, match="inside the CT"):
        load_labels(tmp_path / "a.nii.gz", ct_grid())


def test_unknown_numbers_are_listed(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", block(140), ct_grid())
    with pytest.raises(BadLabels, match="numbers 140 are no TotalSegmentator"):
        load_labels(tmp_path / "a.nii.gz", ct_grid())
    write_nifti(tmp_path / "b.nii.gz", block(5), ct_grid())
    with pytest.raises(BadLabels, match="no voxel"):
        load_labels(tmp_path / "b.nii.gz", ct_grid())


def test_fractions_and_cts_are_no_label_maps(tmp_path):
    raw_nifti(tmp_path / "a.nii", (block() * 0.37).astype("<f4"), RAS)
    with pytest.raises(BadLabels, match="fractions"):
        load_labels(tmp_path / "a.nii", ct_grid())
    raw_nifti(tmp_path / "b.nii", ramp(), RAS)
    with pytest.raises(BadLabels, match="is it the CT"):
        load_labels(tmp_path / "b.nii", ct_grid())


def test_transitional_and_s1_numbers(tmp_path):
    labels = block(201)
    labels[10:12] = 202
    labels[12:14] = 26
    labels[14:16] = 25
    write_nifti(tmp_path / "a.nii.gz", labels, ct_grid())
    found = load_labels(tmp_path / "a.nii.gz", ct_grid())
    assert found.names == {25: "sacrum", 201: "vertebrae_L6", 202: "vertebrae_T13"}
    assert (found.labels[12:16] == 25).all()


def test_masks_overlap_empty_and_foreign(tmp_path):
    write_nifti(tmp_path / "vertebrae_L3.nii.gz", block(1), ct_grid())
    write_nifti(tmp_path / "vertebrae_L4.nii.gz", np.roll(block(1), 3, axis=0), ct_grid())
    write_nifti(tmp_path / "sacrum.nii.gz", block(0), ct_grid())
    write_nifti(tmp_path / "liver.nii.gz", block(1), ct_grid())
    found = load_labels(tmp_path, ct_grid())
    assert dict(found.names) == {28: "vertebrae_L4", 29: "vertebrae_L3"}
    assert int((found.labels == 29).sum()) == 5 * 8 * 6
    assert int((found.labels == 28).sum()) == 3 * 8 * 6
    words = " ".join(found.warnings)
    assert f"overlap in {2 * 8 * 6} voxels" in words
    assert "sacrum is empty" in words
    assert "liver" in words
    (tmp_path / "none").mkdir()
    with pytest.raises(BadLabels, match="named as a bone"):
        load_labels(tmp_path / "none", ct_grid())


def test_real_masks_give_twelve_bones():
    volume = load_volume(shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz"))
    found = load_labels(shared_data("ct_lumbar_pelvis_nifti/bone_masks"), volume.grid)
    assert len(found.names) == 12
    assert found.warnings == ()
    volumes = {name: float((found.labels == n).sum()) * volume.grid.voxel_ml for n, name in found.names.items()}
    assert volumes["vertebrae_L1"] == pytest.approx(59.9, abs=0.06)
    assert volumes["hip_left"] == pytest.approx(375.7, abs=0.06)
    report = load_labels(shared_data("ct_lumbar_pelvis_nifti/spine_report/totalseg.nii.gz"), volume.grid)
    assert any("joined to sacrum" in note for note in report.warnings)


def test_numbers_and_names_are_one_table():
    assert NUMBERS["sacrum"] == 25
    assert [NUMBERS[f"vertebrae_L{n}"] for n in (5, 4, 3, 2, 1)] == [27, 28, 29, 30, 31]
    assert (NUMBERS["vertebrae_T12"], NUMBERS["vertebrae_T1"], NUMBERS["vertebrae_C1"]) == (32, 43, 50)
    assert (NUMBERS["humerus_left"], NUMBERS["femur_left"], NUMBERS["hip_right"]) == (69, 75, 78)
    assert (NUMBERS["rib_left_12"], NUMBERS["rib_right_1"], NUMBERS["sternum"]) == (103, 104, 116)
    assert len(BONES) == len(NUMBERS)


def test_any_noise_is_a_fault_never_a_crash(tmp_path):
    generator = np.random.default_rng(7)
    path = written(tmp_path / "a.nii")
    sound = path.read_bytes()
    refused = 0
    for _ in range(150):
        spoiled = bytearray(sound)
        for at in generator.integers(0, 352, 4):
            spoiled[at] = int(generator.integers(0, 256))
        path.write_bytes(spoiled)
        try:
            load_volume(path)
        except Fault:
            refused += 1
    assert 0 < refused < 150  # some noise does harm, some falls where nothing is read


def test_coarse_slices_are_said(tmp_path):
    coarse = raw_nifti(tmp_path / "a.nii", ramp(), RAS, qform=(0, 0, 0, -40, -40, -40))
    assert any("2.00 mm apart; pedicles and facets need 1.25 mm" in said for said in load_volume(coarse).warnings)
