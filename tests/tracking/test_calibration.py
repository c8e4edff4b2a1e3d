"""Camera files: OpenCV's own, ours, and the broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spatial.pinhole import Pinhole
from tests.data import shared_data
from tracking.calibration.camera_file import (
    BadCalibration,
    Calibrated,
    WrongResolution,
    load_calibrated,
    load_camera,
    require_resolution,
    save_camera,
)

HEAD = "%YAML:1.0\n---\n"
SIZE = "image_width: 640\nimage_height: 480\n"
MATRIX = (
    "camera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
    "   data: [ 600., 0., 320., 0., 601., 240., 0., 0., 1. ]\n"
)


def distortion(numbers: list[float]) -> str:
    rows = f"   rows: {len(numbers)}\n   cols: 1\n   dt: d\n   data: [ {', '.join(map(str, numbers))} ]\n"
    return "distortion_coefficients: !!opencv-matrix\n" + rows


@pytest.mark.parametrize(
    "k", [(), (0.1, -0.2, 0.001, 0.002), (0.1, -0.2, 0.001, 0.002, 0.05), tuple(0.01 * i for i in range(1, 9))]
)
def test_round_trip(tmp_path: Path, k: tuple[float, ...]) -> None:
    camera = Pinhole(1920, 1080, 1400.25, 1401.5, 959.1, 541.3, k)
    save_camera(tmp_path / "c.yml", camera, rms_px=0.2)
    assert load_camera(tmp_path / "c.yml") == camera
    assert [p.name for p in tmp_path.iterdir()] == ["c.yml"]


@pytest.mark.parametrize(
    ("numbers", "length"),
    [([0.1] + [0.0] * 13, 4), ([0.1] * 5 + [0.0] * 9, 5), ([0.0] * 5, 0), ([0.1] * 6 + [0.0] * 6, 8)],
)
def test_further_zeros_are_tolerated(tmp_path: Path, numbers: list[float], length: int) -> None:
    (tmp_path / "c.yml").write_text(HEAD + SIZE + MATRIX + distortion(numbers))
    assert len(load_camera(tmp_path / "c.yml").distortion) == length


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing of the kind", "not an OpenCV"),
        (HEAD + MATRIX, "image_width or image_height is missing"),
        (HEAD + SIZE, "camera_matrix"),
        (HEAD + SIZE + MATRIX.replace("600.", "-600."), "focal"),
        (HEAD + SIZE + MATRIX.replace("0., 320.", "5., 320."), "skew"),
        (HEAD + SIZE + MATRIX + distortion([0.1] * 12), "at most 8"),
        (HEAD + SIZE + "camera_matrix: 3\n", "camera_matrix"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.yml"
    file.write_text(text)
    with pytest.raises(BadCalibration, match=words) as caught:
        load_camera(file)
    assert caught.value.path == file


def test_a_file_without_a_picture_size_takes_the_pictures_own(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(HEAD + MATRIX)
    taken = load_calibrated(tmp_path / "c.yml", (640, 480))
    assert (taken.pinhole.width_px, taken.pinhole.height_px, taken.size_assumed) == (640, 480, True)
    with pytest.raises(BadCalibration, match=r"hardly 1280 x 720 .* centre would be at 320, 240"):
        load_calibrated(tmp_path / "c.yml", (1280, 720))
    (tmp_path / "c.yml").write_text(HEAD + SIZE + MATRIX)
    told = load_calibrated(tmp_path / "c.yml", (1280, 720))  # what the file says stands
    assert (told.pinhole.width_px, told.size_assumed) == (640, False)


def test_all_that_a_calibration_knows_comes_back(tmp_path: Path) -> None:
    root = np.random.default_rng(1).normal(size=(6, 6))
    known = Calibrated(
        Pinhole(1280, 800, 500.0, 501.0, 640.2, 399.0, (0.1, -0.02, 0.003, 0.0), "fisheye"),
        ("fx", "fy", "cx", "cy", "k1", "k2"),
        root @ root.T * 1e-3,
        rms_px=0.07,
        readout_ns=21_000_000,
        board="charuco:7x5,30,22,DICT_5X5_100",
        pictures=31,
        corners=612,
        predicted_mm=0.12,
        limit_mm=0.3,
        accepted=True,
        taken="2026-03-01",
    )
    save_camera(tmp_path / "c.yml", known)
    back = load_calibrated(tmp_path / "c.yml")
    assert back.pinhole == known.pinhole
    assert np.array_equal(back.covariance, known.covariance)
    for name in ("names", "rms_px", "readout_ns", "board", "pictures", "corners", "predicted_mm", "limit_mm", "taken"):
        assert getattr(back, name) == getattr(known, name)
    assert back.accepted is True
    assert back.sd("k1") == pytest.approx(float(np.sqrt(known.covariance[4, 4])))
    assert back.sd("k3") is None


def test_another_programs_file_leaves_open_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(HEAD + SIZE + MATRIX)
    plain = load_calibrated(tmp_path / "c.yml")
    assert plain.names == ()
    assert plain.rms_px is None
    assert plain.accepted is None
    (tmp_path / "c.yml").write_text(HEAD + SIZE + MATRIX + "distortion_model: equidistant\n")
    assert load_camera(tmp_path / "c.yml").lens == "fisheye"
    for text, words in (
        ("distortion_model: thin_prism\n", "thin_prism"),
        ("parameter_names: fx fy\n", "shape"),
        ("readout_ns: -5\n", "readout_ns"),
    ):
        (tmp_path / "c.yml").write_text(HEAD + SIZE + MATRIX + text)
        with pytest.raises(BadCalibration, match=words):
            load_camera(tmp_path / "c.yml")


def test_another_resolution_is_refused_with_both_sizes() -> None:
    with pytest.raises(WrongResolution, match="1280 x 720 px, the calibration is for 640 x 480"):
        require_resolution(np.zeros((720, 1280, 3), dtype=np.uint8), Pinhole(640, 480, 600, 600, 320, 240))


def test_opencvs_tutorial_file() -> None:
    camera = load_camera(shared_data("ar_opencv_aruco/tutorial_camera_charuco.yml"))
    assert (camera.width_px, camera.height_px) == (640, 480)
    assert camera.fx_px == pytest.approx(452.51072)
    assert camera.distortion[4] == pytest.approx(2.954258940681008)
