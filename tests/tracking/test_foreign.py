"""Cameras of other programs become camera files, or are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from osteotwin import app
from tests.data import shared_data
from tracking.calibration.camera_file import load_calibrated

ROS = """image_width: 640
image_height: 480
camera_name: webcam
camera_matrix:
  rows: 3
  cols: 3
  data: [610.5, 0, 322.1, 0, 611.2, 241.7, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0]
"""
KALIBR = """cam0:
  camera_model: pinhole
  intrinsics: [461.6, 460.3, 362.7, 246.2]
  distortion_model: equidistant
  distortion_coeffs: [-0.27, 0.06, -0.0002, 0.00002]
  resolution: [752, 480]
cam1:
  camera_model: omni
  intrinsics: [1.0, 461.6, 460.3, 362.7, 246.2]
"""


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", "convert", *map(str, words)])


def test_ros_and_kalibr(tmp_path: Path) -> None:
    (tmp_path / "ros.yaml").write_text(ROS)
    (tmp_path / "kalibr.yaml").write_text(KALIBR)
    done = run(tmp_path / "ros.yaml", "--out", tmp_path / "ros.yml", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["size_px"] == [640, 480]
    ros = load_calibrated(tmp_path / "ros.yml").pinhole
    assert (ros.fx_px, ros.fy_px, ros.cx_px, ros.cy_px, ros.lens) == (610.5, 611.2, 322.1, 241.7, "brown")
    assert ros.distortion == (0.1, -0.2, 0.001, 0.002)
    assert run(tmp_path / "kalibr.yaml", "--out", tmp_path / "kalibr.yml").exit_code == 0
    kalibr = load_calibrated(tmp_path / "kalibr.yml").pinhole
    assert (kalibr.lens, kalibr.width_px, kalibr.distortion[0]) == ("fisheye", 752, -0.27)


def test_scikit_surgerys_text_files(tmp_path: Path) -> None:
    folder = shared_data("ar_bard_guidance") / "calibration_640x480"
    out = tmp_path / "c.yml"
    text = [folder / "calib.intrinsics.txt", "--distortion", folder / "calib.distortion.txt", "--out", out]
    assert run(*text, "--size", "640x480").exit_code == 0
    lens = load_calibrated(out).pinhole
    assert lens.fx_px == pytest.approx(608.6718, abs=1e-4)
    assert lens.distortion[1] == pytest.approx(-0.14300148)
    out.unlink()
    none = run(*text)
    assert (none.exit_code, "--size 640x480 does" in none.stderr, out.exists()) == (1, True, False)
    assert run(*text, "--size", "640").exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither ROS'"),
        ("1 2 3\n4 5 6\n", "2 rows of 3 numbers"),
        (ROS.replace("plumb_bob", "thin_prism"), "thin_prism"),
        (ROS.replace("[610.5", "[-610.5"), "focal"),
        (ROS.replace("610.5, 0,", "610.5, 9,"), "skew"),
        (ROS.replace("0.002, 0]", "0.002, 0, 0, 0, 0, 1]"), "number 9 is not zero"),
        (ROS.replace("image_width: 640\n", ""), "image_width is missing"),
        (ROS.replace("640", "wide"), "number is not where"),
        (KALIBR.replace("cam0", "left"), "left, cam1 (--name)"),
        (KALIBR.replace("camera_model: pinhole", "camera_model: omni"), "only pinhole"),
    ],
)  # fmt: skip
def test_what_is_no_camera_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    done = run(file, "--out", tmp_path / "out.yml")
    assert done.exit_code == 1
    assert words in done.stderr
    assert not (tmp_path / "out.yml").exists()
