"""`osteotwin track` with several cameras, from their pictures: poses in the rig's frame, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from commands import track
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid, UncertainRigid, rotation_exp
from tests.tracking.corners import distance
from tracking.bodies.body import Body, board, save
from tracking.calibration.camera_file import save_camera
from tracking.calibration.rig_file import save_rig
from tracking.frame import Frame
from tracking.rig_tracker import together
from tracking.synthetic.camera import Optics, SyntheticCamera

LENS = Pinhole(640, 480, 590.0, 591.0, 318.2, 241.7, (-0.2, 0.08, 0.0005, -0.0004, 0.0))
PLATE: Body[Any] = board("plate", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
RIGHT = Rigid[Camera, Camera](rotation_exp([0, -0.2, 0]), np.array([110.0, 0, 0]))
PICTURES = 6


def run(*words: object) -> Result:
    return CliRunner().invoke(track.app, [str(w) for w in words])


def _pose(number: int) -> Rigid[Camera, Any]:
    turn = rotation_exp([0.3 + 0.01 * number, 0.2, 0.05 * number]) @ np.diag([1.0, -1, -1])
    return Rigid(turn, np.array([30.0 + 2 * number, -10.0, 420.0]))


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures, the cameras' file, the rig's file, the body's."""
    folder = tmp_path_factory.mktemp("rig")
    camera = SyntheticCamera(LENS, [PLATE], optics=Optics(0.7, 2.0, 0.2), mono=True)
    for name, place in (("left", Rigid[Camera, Camera].identity()), ("right", RIGHT)):
        (folder / name).mkdir()
        for number in range(PICTURES):
            seen = place.inverse() @ _pose(number)
            shot = camera.shoot(number, Rigid.identity(), {PLATE.name: seen})
            cv2.imwrite(str(folder / name / f"{number:03d}.png"), shot.frame.picture)
    save_camera(folder / "lens.yml", LENS)
    save(PLATE, folder / "plate.json")
    places = [UncertainRigid[Camera, Camera](p, np.zeros((6, 6))) for p in (Rigid.identity(), RIGHT)]
    save_rig(folder / "rig.json", ["left", "right"], [folder / "lens.yml"] * 2, places, {})
    return folder


def _rig(theatre: Path) -> list[object]:
    return ["--rig", theatre / "rig.json", "--bodies", theatre / "plate.json", "--json"]


def test_two_cameras_give_one_pose_in_the_rigs_frame(theatre: Path) -> None:
    result = run(theatre / "left", theatre / "right", *_rig(theatre))
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(PICTURES))
    for line in lines:
        assert (line["status"], line["body"], set(line["cameras"])) == ("TRACKED", "plate", {"left", "right"})
        assert all(share["agrees"] and share["rms_px"] < 0.3 for share in line["cameras"].values())
        pose = Rigid[Camera, Any].from_json(line["camera_from_body"])
        truth = _pose(line["frame"])
        assert np.linalg.norm(pose.translation_mm - truth.translation_mm) < 0.1
        assert distance(UncertainRigid(pose, np.array(line["covariance"])), truth) < 40.0
    assert f"tracked in {PICTURES} of {PICTURES} instants" in result.stderr


def test_pictures_exchanged_between_the_cameras_are_not_believed(theatre: Path) -> None:
    result = run(theatre / "right", theatre / "left", *_rig(theatre))
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {(line["status"], line["cause"]) for line in lines} == {("LOST", "residual")}
    assert "mm apart" in lines[0]["reason"]


def test_wrong_use_is_one_clear_line(theatre: Path) -> None:
    one = run(theatre / "left", *_rig(theatre))
    assert (one.exit_code, "give one each, in order: left, right" in one.stderr) == (2, True)
    none = run(theatre / "left", theatre / "right", "--bodies", theatre / "plate.json")
    assert (none.exit_code, "--rig" in none.stderr) == (2, True)
    absent = run(theatre / "left", theatre / "right", "--rig", theatre / "no.json", "--bodies", theatre / "plate.json")
    assert (absent.exit_code, "no such rig file" in absent.stderr) == (1, True)
    both = run(theatre / "left", theatre / "right", *_rig(theatre), "--camera", theatre / "lens.yml")
    assert both.exit_code == 2


def test_pictures_are_paired_by_their_time() -> None:
    picture = np.zeros((2, 2), dtype=np.uint8)

    def stream(*stamps_ms: int) -> list[Frame]:
        return [Frame(ms * 1_000_000, picture, k) for k, ms in enumerate(stamps_ms)]

    pairs = together([stream(0, 33, 66, 100, 133), stream(2, 68, 99, 134, 166)], 8_000_000)
    stamps = [tuple(frame.t_ns // 1_000_000 for frame in pair) for pair in pairs]
    assert stamps == [(0, 2), (66, 68), (100, 99), (133, 134)]
