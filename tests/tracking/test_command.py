"""`osteotwin track` and `osteotwin markers` as a script sees them: keys, exit codes, one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from commands import markers, track
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from tests.data import shared_data
from tests.tracking.test_real import bard_camera
from tracking.calibration.camera_file import save_camera

RUNNER = CliRunner()
KEYS = {"frame", "t_ns", "body", "status", "how", "reason", "camera_from_body", "covariance", "rms_px", "corners_px"}


def run(*words: object) -> Result:
    return RUNNER.invoke(track.app, [str(w) for w in words])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_synthetic_stream_gives_a_line_a_body_a_frame(tmp_path: Path) -> None:
    made = RUNNER.invoke(
        markers.app,
        [
            "make",
            str(tmp_path / "b.svg"),
            "--dictionary",
            "DICT_APRILTAG_36h11",
            "--save",
            str(tmp_path / "b.json"),
            "--json",
        ],
    )
    assert made.exit_code == 0
    assert json.loads(made.stdout)["paper_mm"] == [210.0, 297.0]
    result = run("synthetic:frames=3,size=960x540", "--bodies", tmp_path / "b.json", "--json")
    assert result.exit_code == 0
    found = lines(result)
    assert [line["frame"] for line in found] == [0, 1, 2]
    for line in found:
        assert set(line) >= KEYS
        assert (line["status"], line["how"], line["reason"], line["body"]) == ("TRACKED", "EXACT", None, "board")
        assert Rigid[Any, Any].from_json(line["camera_from_body"]).translation_mm[2] > 400
        assert np.shape(line["covariance"]) == (6, 6)
        assert np.shape(line["corners_px"]["0"]) == (4, 2)
    assert "tracked in 3 of 3 pictures" in result.stderr


def test_single_markers_are_bodies_of_their_own() -> None:
    result = run("synthetic:frames=2,size=960x540", "--dictionary", "DICT_APRILTAG_36h11", "--size-mm", 40, "--json")
    assert result.exit_code == 0
    assert [line["body"] for line in lines(result)][:4] == [f"marker:{k}" for k in range(4)]
    poses = {line["body"]: np.array(line["camera_from_body"]["translation_mm"]) for line in lines(result)[:4]}
    assert np.linalg.norm(poses["marker:0"] - poses["marker:1"]) == pytest.approx(60, abs=0.5)


def test_bards_video_from_the_command_line(tmp_path: Path) -> None:
    folder = shared_data("ar_bard_guidance")
    save_camera(tmp_path / "camera.yml", bard_camera(folder))
    for name in ("reference", "pointer"):
        converted = RUNNER.invoke(
            markers.app, ["convert", str(folder / f"{name}.txt"), "--out", str(tmp_path / f"{name}.json")]
        )
        assert converted.exit_code == 0
    result = run(
        folder / "multipattern.avi", "--camera", tmp_path / "camera.yml", "--bodies", tmp_path / "reference.json",
        "--bodies", tmp_path / "pointer.json", "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    board = [line for line in lines(result) if line["body"] == "reference"]
    assert [line["status"] for line in board] == ["TRACKED"] * 10
    assert all(245 <= line["camera_from_body"]["translation_mm"][2] <= 251 for line in board)


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """Two grey pictures of 96 x 64 px and a camera file for them."""
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), np.full((64, 96), 120, dtype=np.uint8))
    save_camera(tmp_path / "c.yml", Pinhole(96, 64, 80, 80, 47.5, 31.5))
    save_camera(tmp_path / "other.yml", Pinhole(640, 480, 600, 600, 320, 240))
    return tmp_path


def test_pictures_without_markers_end_with_one_line(blank: Path) -> None:
    body = ["--bodies", "assets/markers/reference.json"]
    result = run(blank / "pictures", "--camera", blank / "c.yml", *body, "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [line["status"] for line in found[:2]] == ["LOST", "LOST"]
    assert [line["camera_from_body"] for line in found[:2]] == [None, None]
    assert found[0]["reason"] == "0 of 4 markers seen"
    assert found[2]["error"]["kind"] == "NoMarkers"
    assert "DICT_APRILTAG_36h11" in found[2]["error"]["message"]
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("camera", "options", "code", "words"),
    [
        ("other.yml", ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 1, "WrongResolution"),
        ("c.yml", ("--dictionary", "DICT_4X4_5", "--size-mm", "20"), 2, "DICT_4X4_50"),
        ("c.yml", ("--dictionary", "DICT_4X4_50"), 2, "--size-mm"),
        ("c.yml", (), 2, "--bodies"),
        ("absent.yml", ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 1, "no such camera file"),
        (None, ("--dictionary", "DICT_4X4_50", "--size-mm", "20"), 2, "--camera"),
    ],
)
def test_wrong_use_and_bad_content(
    blank: Path, camera: str | None, options: tuple[str, ...], code: int, words: str
) -> None:
    lens = () if camera is None else ("--camera", blank / camera)
    result = run(blank / "pictures", *lens, *options)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_bodies_with_a_marker_in_common_are_refused(blank: Path) -> None:
    twin = json.loads(Path("assets/markers/reference.json").read_text()) | {"name": "twin"}
    (blank / "twin.json").write_text(json.dumps(twin))
    result = run(
        blank / "pictures",
        "--camera",
        blank / "c.yml",
        "--bodies",
        "assets/markers/reference.json",
        "--bodies",
        blank / "twin.json",
    )
    assert result.exit_code == 2
    assert "both bear marker 0" in result.stderr
