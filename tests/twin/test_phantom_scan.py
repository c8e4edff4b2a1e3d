"""The phantom's CT: HU of every compartment, half-maximum at the true surface, DICOM as others read it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from typer.testing import CliRunner

from spatial.faults import Misuse
from twin.scan.load import load_volume
from twin.scan.phantom.folder import write
from twin.scan.phantom.kernels import point_spread
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.voxels import LABELS, Scan, ScanGrid, scan_grid, synthesise
from twin.scan.volume import Grid


def _box(middle: np.ndarray, before: tuple, after: tuple) -> tuple[np.ndarray, np.ndarray]:
    return middle - np.array(before), middle + np.array(after)


@pytest.fixture(scope="module")
def block(phantom: Phantom) -> Scan:
    """L3 with its surroundings, fine enough to measure, without noise."""
    middle = phantom.stand("L3").body.origin
    grid = scan_grid(phantom, pixel_mm=0.7, slice_mm=0.8, box_mm=_box(middle, (36, 34, 22), (36, 62, 22)))
    return synthesise(phantom, grid, noise_hu=0.0)


def _points(grid: ScanGrid) -> np.ndarray:
    i, j, k = np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij")
    points = (
        grid.origin_mm
        + grid.pixel_mm * (i[..., None] * grid.row + j[..., None] * grid.column)
        + k[..., None] * grid.step_mm
    )
    return np.ascontiguousarray(points.transpose(2, 1, 0, 3))


def test_compartments_have_their_hu(phantom: Phantom, block: Scan) -> None:
    points, hu, labels = _points(block.grid)[::6, ::2, ::2], block.hu[::6, ::2, ::2], block.labels[::6, ::2, ::2]
    d = phantom.distance_mm("vertebrae_L3", points)
    body = d < -5.0
    assert hu[body].mean() == pytest.approx(phantom.anatomy.trabecular_hu, abs=4)
    assert (
        np.percentile(hu[(d < -0.4) & (d > -0.8) & (points[..., 1] > phantom.stand("L3").body.at(0, 20, 0)[1])], 75)
        > 800
    )
    others = np.isin(labels, [0]) & (d > 4.0)
    assert -110 < np.percentile(hu[others], 5) < 0
    assert 20 < np.percentile(hu[others], 60) < 110
    disc = phantom.stand("L3").body.at(0, 0, -phantom.stand("L3").size.height_mm / 2 - 5.0)
    k, j, i = np.round((disc - block.grid.origin_mm) / [0.7, 0.7, 0.8]).astype(int)[::-1]
    assert 70 < block.hu[k - 1 : k + 2, j - 2 : j + 3, i - 2 : i + 3].mean() < 110


def test_labels_are_the_signs_of_the_fields(phantom: Phantom, block: Scan) -> None:
    inside = phantom.value("vertebrae_L3", _points(block.grid)) < 0
    assert np.array_equal(inside, block.labels == LABELS["vertebrae_L3"])
    assert {"vertebrae_L2", "vertebrae_L4"} <= {n for n, v in LABELS.items() if v in np.unique(block.labels)}


def test_half_maximum_lies_on_the_true_surface(phantom: Phantom) -> None:
    """Through a thick cortex the edge's half value is where the surface is, to a few hundredths of a millimetre."""
    level = phantom.stand("L3")
    middle = level.body.at(0.0, level.size.depth_mm / 2 + level.size.canal_depth_mm + 18.0, -6.0)  # spinous process
    grid = scan_grid(phantom, pixel_mm=0.3, slice_mm=0.4, box_mm=(middle - 6.0, middle + 6.0))
    scan = synthesise(phantom, grid, noise_hu=0.0, fwhm_mm=0.3)
    points = _points(grid)[4:-4, 6:-6, 4:-4]
    hu = scan.hu[4:-4, 6:-6, 4:-4].astype(float)
    d = phantom.distance_mm("vertebrae_L3", points)
    edge = np.abs(d) < 0.15
    x = d[edge]
    y = (hu[edge] - 55.0) / (phantom.anatomy.cortical_hu - 55.0)
    slope, value = np.polyfit(x, y, 1)
    assert slope < -0.5
    assert (0.5 - value) / slope == pytest.approx(0.0, abs=0.05)


def test_noise_is_as_asked_and_the_same_each_time(phantom: Phantom) -> None:
    middle = phantom.stand("L2").body.origin
    grid = scan_grid(phantom, pixel_mm=0.74, slice_mm=0.8, box_mm=_box(middle, (20, 20, 8), (20, 20, 8)))
    clean, noisy, again = (synthesise(phantom, grid, noise_hu=n).hu.astype(int) for n in (0.0, 20.0, 20.0))
    assert np.array_equal(noisy, again)
    noise = (noisy - clean)[:, 2:-2, 2:-2]
    assert noise.std() == pytest.approx(20.0, rel=0.05)
    assert abs(noise.mean()) < 1.0
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] == pytest.approx(2 / 3, abs=0.05)


def test_point_spread_has_the_width_it_names() -> None:
    for fwhm, step in ((0.8, 0.74), (0.8, 0.8), (0.8, 0.25)):
        w = point_spread(fwhm, step)
        n = np.arange(len(w)) - len(w) // 2
        assert w.sum() == pytest.approx(1.0)
        assert np.sqrt((w * n * n).sum()) * step == pytest.approx(fwhm / 2.3548, rel=0.02)


@pytest.fixture(scope="module")
def coarse(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write(phantom, folder, slice_mm=4.0, pixel_mm=2.0)
    return folder


def test_series_reads_back_where_the_grid_says(phantom: Phantom, coarse: Path) -> None:
    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(coarse / "dicom"))
    reader.SetFileNames(names)
    image = reader.Execute()
    grid = scan_grid(phantom, slice_mm=4.0, pixel_mm=2.0)
    assert image.GetSize() == grid.size
    assert image.GetSpacing() == pytest.approx((2.0, 2.0, 4.0), abs=1e-4)
    assert image.GetOrigin() == pytest.approx(tuple(grid.origin_mm), abs=1e-3)
    assert image.GetDirection() == pytest.approx(np.eye(3).ravel())
    hu = SimpleITK.GetArrayViewFromImage(image)
    assert hu.min() < -950
    assert hu.max() > 900
    head = phantom.pelvis.head(1.0)  # the left femoral head, at the left
    i, j, k = image.TransformPhysicalPointToIndex(head.tolist())
    assert hu[k, j, i] > 100
    labels = SimpleITK.ReadImage(str(coarse / "labels.nii.gz"))
    assert labels[labels.TransformPhysicalPointToIndex(head.tolist())] == LABELS["femur_left"]
    assert labels.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
    seen = set(np.unique(SimpleITK.GetArrayViewFromImage(labels))) - {0}
    assert seen == {LABELS[name] for name in phantom.bone_names}


def test_files_are_ct_images_of_no_person(coarse: Path) -> None:
    files = sorted((coarse / "dicom").iterdir())
    first, second = (pydicom.dcmread(f) for f in files[:2])
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert str(first.PatientName) == "PHANTOM^OSTEOTWIN"
    assert first.PatientIdentityRemoved == "YES"
    assert (first.PatientPosition, first.RescaleIntercept, first.RescaleType) == ("HFS", -1024, "HU")
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient)
    assert step == pytest.approx([0, 0, 4.0], abs=1e-4)
    for keyword in (
        "StudyInstanceUID",
        "StudyID",
        "SeriesNumber",
        "KVP",
        "AcquisitionNumber",
        "PositionReferenceIndicator",
    ):
        assert keyword in first


def test_truth_holds_what_the_contract_names(phantom: Phantom, coarse: Path) -> None:
    truth = json.loads((coarse / "truth.json").read_text())
    assert {"pedicles", "landmarks", "bones", "alignment", "density", "seed", "options", "surfaces"} <= set(truth)
    assert len(truth["pedicles"]) == 18
    for pedicle in truth["pedicles"]:
        assert set(pedicle) == {"bone", "side", "isthmus_mm", "direction", "width_mm", "height_mm"}
        assert np.linalg.norm(pedicle["direction"]) == pytest.approx(1.0, abs=1e-5)
    assert set(truth["bones"]) == set(phantom.bone_names)
    assert truth["options"]["slice_mm"] == 4.0
    names = {(m["name"], m["bone"]) for m in truth["landmarks"]}
    assert {("endplate_superior", "sacrum"), ("femoral_head", "femur_right"), ("asis_left", "hip_left")} <= names
    hollow_mm = {"endplate": 1.3, "spinous": 1.3, "facet": 2.6, "promontory": 0.1}  # centroids of curved patches
    for mark in truth["landmarks"]:
        kind = mark["name"].split("_")[0]
        if kind not in ("femoral", "pedicle"):
            d = phantom.distance_mm(mark["bone"], np.array(mark["position_mm"]))
            assert abs(d) < hollow_mm.get(kind, 0.01), mark


def test_voxel_count_agrees_with_the_true_volume(phantom: Phantom, block: Scan, coarse: Path) -> None:
    truth = json.loads((coarse / "truth.json").read_text())
    body = (block.labels == LABELS["vertebrae_L3"]).sum() * 0.7 * 0.7 * 0.8 / 1000.0
    # transverse processes leave the block, so only a bound from above and a near one from below
    assert (
        0.85 * truth["bones"]["vertebrae_L3"]["volume_ml"] < body < 1.01 * truth["bones"]["vertebrae_L3"]["volume_ml"]
    )


def test_tilted_gantry_shears_the_stack_and_keeps_the_anatomy(phantom: Phantom, tmp_path: Path) -> None:
    middle = phantom.stand("L3").body.origin
    box = _box(middle, (30, 25, 20), (30, 45, 20))
    grid = scan_grid(phantom, pixel_mm=1.0, slice_mm=2.0, tilt_deg=15.0, box_mm=box)
    scan = synthesise(phantom, grid)
    write(phantom, tmp_path, scan=scan)
    files = [pydicom.dcmread(f) for f in sorted((tmp_path / "dicom").iterdir())]
    first, second = files[:2]
    assert float(first.GantryDetectorTilt) == 15.0
    row, column = np.array(first.ImageOrientationPatient[:3]), np.array(first.ImageOrientationPatient[3:])
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient)
    assert step == pytest.approx([0, 0, 2.0], abs=1e-4)
    normal = np.cross(row, column)
    assert np.degrees(np.arccos(normal @ step / 2.0)) == pytest.approx(15.0, abs=0.01)
    k = len(files) // 2
    picture = files[k]
    i, j = 28, 22
    at = np.array(picture.ImagePositionPatient, float) + i * row + j * column
    inside = phantom.value("vertebrae_L3", at) < -2
    assert bool(inside) == (scan.labels[k, j, i] == LABELS["vertebrae_L3"])
    raw = gzip.decompress((tmp_path / "labels.nii.gz").read_bytes())
    affine = np.frombuffer(raw[280:328], "<f4").reshape(3, 4).astype(float)
    axes = affine[:, :3] / np.linalg.norm(affine[:, :3], axis=0)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-6)  # upright: a shear is more than a label file can say
    labels = np.frombuffer(raw[352:], np.uint8).reshape(np.frombuffer(raw[42:48], "<i2")[::-1])
    voxel = np.round(np.linalg.solve(affine[:, :3], at * [-1, -1, 1] - affine[:, 3])).astype(int)
    assert labels[voxel[2], voxel[1], voxel[0]] == scan.labels[k, j, i] != 0
    volume = load_volume(tmp_path / "dicom")
    assert Grid(
        tuple(int(n) for n in np.frombuffer(raw[42:48], "<i2")), np.linalg.norm(affine[:, :3], axis=0),
        affine[:, 3] * [-1, -1, 1], axes * [[-1], [-1], [1]],
    ).same_as(volume.grid)  # fmt: skip


def test_folders_with_other_peoples_files_are_left_alone(phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "patient.dcm").write_bytes(b"mine")
    with pytest.raises(Misuse, match="no phantom wrote"):
        write(phantom, tmp_path)
    with pytest.raises(Misuse, match="limits"):
        scan_grid(phantom, slice_mm=0.0)
    assert (tmp_path / "dicom" / "patient.dcm").read_bytes() == b"mine"


def test_command_refuses_unknown_anatomy(tmp_path: Path) -> None:
    from commands.phantom import app

    for words, expected in (
        (["--anatomy", "skull"], "lumbar"),
        (["--transitional", "L7"], "T13"),
        (["--scoliosis-deg", "55"], "40"),
        (["--kernel", "edge"], "sharp"),
        (["--metal", "--implants", "knee"], "screws"),
    ):
        result = CliRunner().invoke(app, ["write", str(tmp_path), *words, "--json"])
        assert result.exit_code == 2
        assert expected in json.loads(result.stdout)["error"]["message"]
        assert not list(tmp_path.iterdir())


def test_command_replaces_nothing_unasked(tmp_path: Path) -> None:
    from commands.phantom import app

    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(app, ["write", str(tmp_path), "--json"])
    assert result.exit_code == 2
    assert "--force" in json.loads(result.stdout)["error"]["message"]
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]
