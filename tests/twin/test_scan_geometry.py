"""A known object comes back at its known place, whatever way it was scanned or stored."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from scipy.ndimage import map_coordinates

from spatial.frames import Patient
from spatial.rigid import Points
from tests.data import shared_data
from tests.twin.written_series import BALL_HU, BALLS, WATER_HU, scene_hu, write_series
from twin.scan.load import load_volume
from twin.scan.orientation import lps_volume
from twin.scan.series import list_series
from twin.scan.volume import Grid, Volume

PLANES = {
    "axial head first supine": ((1, 0, 0), (0, 1, 0)),
    "axial prone": ((-1, 0, 0), (0, -1, 0)),
    "axial feet first supine": ((-1, 0, 0), (0, 1, 0)),
    "axial feet first prone": ((1, 0, 0), (0, -1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "decubitus": ((0, 1, 0), (-1, 0, 0)),
    "oblique": ((0.8, 0.6, 0), (-0.36, 0.48, 0.8)),
}


def ball_places_mm(volume: Volume) -> list[np.ndarray]:
    """Intensity-weighted centre of what is brighter than water near each ball."""
    k, j, i = np.indices(volume.hu.shape)
    places = volume.grid.patient_from_index(np.stack([i, j, k], -1)).mm
    found = []
    for centre, radius in BALLS:
        near = np.linalg.norm(places - centre, axis=-1) < radius + 4.0
        weight = np.clip(volume.hu[near] - WATER_HU, 0, None).astype(float)
        found.append((places[near] * weight[:, None]).sum(axis=0) / weight.sum())
    return found


def assert_in_place(volume: Volume, tolerance_mm: float) -> None:
    assert np.linalg.det(volume.grid.axes) == pytest.approx(1.0)
    for found, (centre, _) in zip(ball_places_mm(volume), BALLS, strict=True):
        assert np.linalg.norm(found - centre) < tolerance_mm
    middles = volume.grid.index_from_patient(Points[Patient](np.array([c for c, _ in BALLS])))
    values = map_coordinates(volume.hu.astype(float), middles[:, ::-1].T, order=1)
    assert values == pytest.approx([BALL_HU] * 3, abs=30)


@pytest.mark.parametrize("plane", PLANES)
def test_balls_stand_where_they_were_scanned(tmp_path, plane):
    row, column = PLANES[plane]
    write_series(tmp_path, row=row, column=column, slices=40, pitch_mm=2.0)
    volume = load_volume(tmp_path)
    assert_in_place(volume, 0.15)
    expected = scene_hu(volume.grid.patient_from_index(np.stack(np.indices(volume.hu.shape)[::-1], -1)).mm)
    assert np.abs(volume.hu - expected).max() <= 1.0
    upright = lps_volume(volume)
    assert (np.diag(upright.grid.axes) > 0.5).all()
    assert_in_place(upright, 0.15)


def test_order_of_files_does_not_matter(tmp_path):
    write_series(tmp_path / "a", name=lambda k: f"{(k * 13) % 21:02}.ima")
    write_series(tmp_path / "b")
    a, b = load_volume(tmp_path / "a"), load_volume(tmp_path / "b")
    assert np.array_equal(a.hu, b.hu)
    assert a.grid.same_as(b.grid, 1e-9)
    assert a.about["content_sha256"] == b.about["content_sha256"]


def test_one_file_stands_for_its_series(tmp_path):
    files = write_series(tmp_path)
    assert load_volume(files[4]).grid.size[2] == 21


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_transfer_syntaxes_give_the_same_voxels(tmp_path, syntax):
    def swap(data, _k):
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()

    write_series(tmp_path / "plain")
    write_series(tmp_path / "other", syntax=syntax, mutate=swap)
    assert np.array_equal(load_volume(tmp_path / "plain").hu, load_volume(tmp_path / "other").hu)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_gives_the_same_voxels(tmp_path, syntax):
    def pack(data, _k):
        data.compress(syntax, generate_instance_uid=False)

    write_series(tmp_path / "plain", slices=5)
    write_series(tmp_path / "packed", slices=5, mutate=pack)
    assert np.array_equal(load_volume(tmp_path / "plain").hu, load_volume(tmp_path / "packed").hu)


def test_no_preamble_is_read(tmp_path):
    def bare(data, _k):
        data.preamble = None
        data.file_meta = None

    write_series(tmp_path, slices=4)
    import pydicom

    for file in tmp_path.iterdir():
        data = pydicom.dcmread(file)
        body = file.read_bytes()
        start = body.index(b"\x08\x00\x08\x00")
        file.write_bytes(body[start:])
        assert data.Rows == 44
    assert load_volume(tmp_path).grid.size == (56, 44, 4)


@pytest.mark.parametrize(("tilt_deg", "plane"), [(18.5, "axial"), (-12.0, "axial"), (9.0, "across")])
def test_gantry_tilt_is_sheared_back_to_a_tenth_of_a_millimetre(tmp_path, tilt_deg, plane):
    """The slices are tilted about x (or displaced along x too) and step straight along z, as a tilted gantry does."""
    tilt = np.radians(tilt_deg)
    row = np.array([1.0, 0, 0])
    column = np.array([0, np.cos(tilt), np.sin(tilt)])
    table = np.array([0.0, 0, 1.5]) if plane == "axial" else np.array([0.2, 0, 1.5])
    normal = np.cross(row, column)
    shift = (float(table @ row), float(table @ column))
    small = {"spacing_mm": (1.0, 1.0), "shape": (96, 88)}
    write_series(tmp_path, row=row, column=column, slices=56, pitch_mm=float(table @ normal), shift_mm=shift, **small)
    volume = load_volume(tmp_path)
    assert_in_place(volume, 0.1)
    assert volume.about["gantry_tilt_corrected_deg"] == pytest.approx(
        np.degrees(np.arccos(table @ normal / np.linalg.norm(table))), abs=0.01
    )
    assert any("gantry tilt" in note for note in volume.warnings)
    points = volume.grid.patient_from_index(np.stack(np.indices(volume.hu.shape)[::-1], -1)).mm
    inside = np.linalg.norm(points, axis=-1) < 34
    error = np.abs(volume.hu - scene_hu(points))[inside]
    assert np.percentile(error, 99) < 60  # of a 900 HU edge that is 2 mm wide: 60 HU are 0.13 mm
    assert error.mean() < 5


def test_stored_bits_signs_and_slopes(tmp_path):
    def signed(data, _k):
        stored = np.frombuffer(data.PixelData, "<u2").astype(int) - 1024
        data.PixelRepresentation, data.RescaleIntercept, data.BitsStored, data.HighBit = 1, 0, 16, 15
        data.PixelData = stored.astype("<i2").tobytes()

    def halved(data, _k):
        stored = np.frombuffer(data.PixelData, "<u2")
        data.RescaleSlope, data.RescaleIntercept, data.BitsStored, data.HighBit = "0.5", "-1024", 13, 12
        data.PixelData = (stored * 2).astype("<u2").tobytes()

    def overlaid(data, _k):  # a retired overlay in the unused high bits
        stored = np.frombuffer(data.PixelData, "<u2").copy()
        stored[::7] |= 0x8000
        data.PixelData = stored.tobytes()

    write_series(tmp_path / "plain", slices=4)
    truth = load_volume(tmp_path / "plain").hu
    for name, mutate in (("signed", signed), ("halved", halved), ("overlaid", overlaid)):
        write_series(tmp_path / name, slices=4, mutate=mutate)
        assert np.array_equal(load_volume(tmp_path / name).hu, truth), name


def test_each_slice_is_rescaled_by_its_own_values(tmp_path):
    def odd(data, k):
        if k == 2:
            data.RescaleIntercept = -1000
            data.PixelData = (np.frombuffer(data.PixelData, "<u2") - 24).astype("<u2").tobytes()

    write_series(tmp_path / "plain", slices=5)
    write_series(tmp_path / "odd", slices=5, mutate=odd)
    volume = load_volume(tmp_path / "odd")
    assert np.abs(volume.hu - load_volume(tmp_path / "plain").hu).max() == 0
    assert any("rescale" in note for note in volume.warnings)


def test_no_identifier_reaches_the_volume(tmp_path):
    write_series(tmp_path)
    series = list_series(tmp_path)[0]
    volume = load_volume(tmp_path)
    words = repr((dict(volume.about), volume.warnings, series.problems))
    assert "Secret" not in words
    assert "4711" not in words
    assert "1970" not in words


def test_lego_phantom_loads_with_its_studs_where_they_were_measured(tmp_path):
    """The full series of a phantom of known size: 108 slices, feet first; wall layers of 9.6 mm bricks."""
    import zipfile

    zipfile.ZipFile(shared_data("ct_lego_phantom_dicom/LegoPhantom_108slices.zip")).extractall(tmp_path)
    volume = load_volume(tmp_path)
    assert volume.grid.size == (512, 512, 108)
    assert volume.grid.spacing_mm == pytest.approx([0.390625, 0.390625, 1.875])
    assert (int(volume.hu.min()), int(volume.hu.max())) == (-3024, 798)
    assert volume.grid.origin_mm[2] == pytest.approx(-287.625)


def test_torso_matches_its_label_map_in_space():
    """Compressed, anonymised by blanking; an independent label map in another orientation must fall on the bones."""
    from twin.scan.load import load_labels

    volume = load_volume(shared_data("ct_torso_dicom_j2k/series"))
    assert volume.grid.size == (512, 512, 20)
    assert (int(volume.hu.min()), int(volume.hu.max())) == (-1024, 1839)
    assert any("blank" in note for note in volume.warnings)
    labels = load_labels(shared_data("ct_torso_dicom_j2k/example_seg_dicom.nii.gz"), volume.grid)
    names = {name: number for number, name in labels.names.items()}
    assert int((labels.labels == names["vertebrae_T12"]).sum()) == 23576
    assert volume.hu[labels.labels == names["vertebrae_T12"]].mean() > 150
    mirrored = volume.hu[:, :, ::-1][labels.labels == names["rib_left_11"]].mean()
    assert volume.hu[labels.labels == names["rib_left_11"]].mean() > mirrored + 100
    left = labels.grid.patient_from_index(np.argwhere(labels.labels == names["rib_left_11"])[:, ::-1]).mm.mean(axis=0)
    right = labels.grid.patient_from_index(np.argwhere(labels.labels == names["rib_right_11"])[:, ::-1]).mm.mean(axis=0)
    assert left[0] > right[0] + 50


def test_enhanced_multi_frame_equals_its_classic_series():
    volume = load_volume(shared_data("rtstruct"))
    assert volume.grid.size == (512, 512, 2)
    folder = shared_data("dicom_seg/legacy_enhanced_ct_24x38x3")
    multi = next(s for s in list_series(folder / "mf.dcm"))
    classic = next(s for s in list_series(folder) if s.description == "Image 24x38x3")
    a, b = multi.verdict.layout, classic.verdict.layout
    assert a is not None
    assert b is not None
    assert a.grid.same_as(b.grid)


def test_grids_turn_without_moving_a_voxel():
    from twin.scan.orientation import Turn

    grid = Grid((3, 4, 5), np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0]), np.eye(3))
    values = np.arange(60).reshape(5, 4, 3)
    turn = Turn((2, 0, 1), (True, False, True))
    turned, there = turn.array(values), turn.grid(grid)
    for ijk in ((0, 0, 0), (4, 2, 3), (1, 1, 2)):
        back = np.rint(grid.index_from_patient(there.patient_from_index(np.array(ijk, float)))).astype(int)
        assert turned[ijk[::-1]] == values[tuple(back[::-1])]
