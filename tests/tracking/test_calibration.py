"""Camera files: OpenCV's own, ours, and the broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spatial.pinhole import Pinhole
from tests.data import shared_data
from tracking.calibration.camera_file import (
    BadCalibration,
    WrongResolution,
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
        (HEAD + MATRIX, "image_width is missing"),
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


def test_another_resolution_is_refused_with_both_sizes() -> None:
    with pytest.raises(WrongResolution, match="1280 x 720 px, the calibration is for 640 x 480"):
        require_resolution(np.zeros((720, 1280, 3), dtype=np.uint8), Pinhole(640, 480, 600, 600, 320, 240))


def test_opencvs_tutorial_file() -> None:
    camera = load_camera(shared_data("ar_opencv_aruco/tutorial_camera_charuco.yml"))
    assert (camera.width_px, camera.height_px) == (640, 480)
    assert camera.fx_px == pytest.approx(452.51072)
    assert camera.distortion[4] == pytest.approx(2.954258940681008)
