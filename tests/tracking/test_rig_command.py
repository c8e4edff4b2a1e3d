"""`osteotwin track` with several cameras, from their pictures: poses in the rig's frame, and every refusal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from commands import track
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid, UncertainRigid, rotation_exp
from tests.tracking.corners import distance
from tracking.bodies.body import Body, board, save
from tracking.calibration.camera_file import Calibrated, save_camera
from tracking.calibration.rig_file import RigCamera, load_rig, save_rig
from tracking.frame import Frame, Stopped
from tracking.rig_tracker import RigTracker
from tracking.sources.closing import CameraSilent, Closing
from tracking.sources.live import LiveSource, Shutter
from tracking.sources.source import read_picture
from tracking.sources.synthetic_source import SyntheticSource
from tracking.sources.together import Instant, Unused, together
from tracking.synthetic.camera import Optics, SyntheticCamera

LENS = Pinhole(640, 480, 590.0, 591.0, 318.2, 241.7, (-0.2, 0.08, 0.0005, -0.0004, 0.0))
PLATE: Body[Any] = board("plate", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
RIGHT = Rigid[Camera, Camera](rotation_exp([0, -0.2, 0]), np.array([110.0, 0, 0]))
PICTURES = 6
MS = 1_000_000


class Recorded(Closing):
    """A recording."""

    name = "recorded"

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __iter__(self) -> Iterator[Frame]:
        yield from self.frames


def _stamps_ms(instant: Instant | Stopped) -> tuple[int, ...]:
    assert not isinstance(instant, Stopped)
    return tuple(frame.t_ns // MS for frame in instant if frame is not None)


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
            shot = camera.shoot(number, Rigid.identity(), {PLATE.name: cast(Any, seen)})
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
    assert f"tracked in {PICTURES} of {PICTURES} pictures" in result.stderr


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

    def stream(*stamps_ms: int) -> Recorded:
        return Recorded([Frame(ms * MS, picture, k) for k, ms in enumerate(stamps_ms)])

    pairs = together([stream(0, 33, 66, 100, 133), stream(2, 68, 99, 134, 166)], 8 * MS)
    assert [_stamps_ms(pair) for pair in pairs] == [(0, 2), (66, 68), (100, 99), (133, 134)]


class Device:
    """A camera that gives a picture now and then, as its script of (ms to wait, ms of the stamp) says, then goes."""

    clock_steps = 0

    def __init__(self, script: list[tuple[int, int]]) -> None:
        self.script = script
        self.picture = np.zeros((2, 2), dtype=np.uint8)

    def read(self) -> Shutter | None:
        if not self.script:
            return None
        wait_ms, stamp_ms = self.script.pop(0)
        time.sleep(wait_ms / 1000)
        self.picture = self.picture + np.uint8(1)  # a sensor never gives the same twice
        return Shutter(stamp_ms * MS, self.picture)

    def close(self) -> None:
        return None


def live(*scripts: list[tuple[int, int]], give_up_s: float = 0.0) -> LiveSource:
    devices = [Device(script) for script in scripts]

    def connect() -> Device:
        if not devices:
            raise CameraSilent("nothing there")
        return devices.pop(0)

    return LiveSource("camera:9", connect, give_up_s=give_up_s)


def test_live_cameras_are_paired_and_one_that_goes_leaves_the_other_alone() -> None:
    begun = time.monotonic_ns() // MS
    steady = [(30, begun + 30 * k) for k in range(40)]
    short = [(30, begun + 30 * k + 3) for k in range(6)]
    with live(steady) as one, live(short) as other:
        events: list[Instant | Stopped] = []
        with pytest.raises(CameraSilent):
            events.extend(together([one, other], 8 * MS))
    instants = [event for event in events if not isinstance(event, Stopped)]
    assert instants == events
    both = [instant for instant in instants if None not in instant]
    alone = [instant for instant in instants if instant[1] is None]
    assert len(both) >= 4
    assert len(alone) >= 20
    assert len(both) + len(alone) == len(instants)
    assert all(b is not None and a is not None and abs(a.t_ns - b.t_ns) == 3 * MS for a, b in both)


def test_live_cameras_that_never_agree_are_told() -> None:
    begun = time.monotonic_ns() // MS
    scripts = [[(30, begun + 30 * k + shift) for k in range(40)] for shift in (0, 15)]
    with live(scripts[0]) as one, live(scripts[1]) as other:
        event = next(together([one, other], 8 * MS))
    assert isinstance(event, Stopped)
    assert "15.0 ms apart, 8 are allowed (--sync-ms)" in event.reason


@pytest.mark.parametrize("short", ["left", "right"])
def test_what_a_shorter_recording_leaves_unused_is_said(theatre: Path, tmp_path: Path, short: str) -> None:
    for name in ("left", "right"):
        shutil.copytree(theatre / name, tmp_path / name)
    for number in (4, 5):
        (tmp_path / short / f"{number:03d}.png").unlink()
    (tmp_path / "right" / "001.png").write_bytes(b"")
    result = run(tmp_path / "left", tmp_path / "right", *_rig(theatre))
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 2, 3]
    other = "right" if short == "left" else "left"
    words = result.stderr.splitlines()
    assert f"the recording of {short} ended first; not used after that: 2 pictures of {other}" in words
    assert "left: 1 picture had no partner within 8 ms" in words
    assert any("1 of" in line and "001.png: empty" in line for line in words)


def test_a_recording_that_does_not_tell_its_length_is_counted_on() -> None:
    picture = np.zeros((2, 2), dtype=np.uint8)
    unused = Unused()
    streams = [Recorded([Frame(33 * k * MS, picture, k) for k in range(n)]) for n in (9, 4, 6)]
    assert len(list(together(streams, 8 * MS, unused))) == 4
    assert (unused.ended, dict(unused.left), dict(unused.alone)) == (1, {0: 5, 2: 2}, {})


def test_overlays_of_each_camera_and_a_limit_of_time(theatre: Path, tmp_path: Path) -> None:
    result = run(theatre / "left", theatre / "right", *_rig(theatre), "--overlay", tmp_path / "drawn", "--every", 3)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "000000-left.png", "000000-right.png", "000003-left.png", "000003-right.png",
    ]  # fmt: skip
    right = read_picture(tmp_path / "drawn" / "000000-right.png").astype(int)
    centre = LENS.project(Points[Camera]((RIGHT.inverse() @ _pose(0)).translation_mm[None]))[0]
    x, y = np.rint(centre).astype(int)
    near = right[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3)
    assert (near.max(axis=1) - near.min(axis=1)).max() > 80  # axes in colour start at the body's origin in each picture


def test_a_rig_without_pictures_is_lost_until_they_come(theatre: Path) -> None:
    with RigTracker(load_rig(theatre / "rig.json"), [PLATE]) as tracker:
        frames = [Frame(0, read_picture(theatre / name / "000.png"), 0) for name in ("left", "right")]
        (found,) = tracker.see(frames)
        (lost,) = tracker.stopped(Stopped(300 * MS, 0, "camera:9 gave no picture"))
        assert (found.sighting.status, lost.status, lost.cause) == ("TRACKED", "LOST", "camera stopped")
        assert tracker.histories["plate"].at(300 * MS).how == "LOST"
        (again,) = tracker.see([replace(frames[0], t_ns=600 * MS), None])
        assert again.sighting.status == "TRACKED"
        assert tracker.histories["plate"].at(600 * MS).how == "EXACT"


def test_a_body_that_turns_under_rolling_shutters_is_where_the_rig_says() -> None:
    """A marker that turns while its rows are read is sheared as no perspective picture is; the rig knows that too."""
    spec = "size=1280x720,path=swing,frames=26,grey=1,fps=60,speed=0,spin=40,readout=15"
    source = SyntheticSource(spec)
    lens, body = source.pinhole, source.bodies[0]
    path = source.camera_from_body(body.name)
    other = SyntheticCamera(lens, [body], optics=Optics(0.7, 2.0, 0.2, readout_ns=15 * MS), fps=60.0, mono=True)
    places = {body.name: cast(Any, lambda t_ns: RIGHT.inverse() @ path(t_ns))}
    places_of = [UncertainRigid[Camera, Camera](p, np.zeros((6, 6))) for p in (Rigid.identity(), RIGHT)]
    rig = [RigCamera(n, Path(), Calibrated(lens), p) for n, p in zip(("left", "right"), places_of, strict=True)]
    squares = []
    with RigTracker(rig, [body]) as tracker:
        for left in source:
            right = other.shoot(left.index, Rigid.identity(), places).frame
            (found,) = tracker.see([left, right])
            if left.index >= 10:  # the motion has to be known
                assert found.sighting.camera_from_body is not None
                assert all(share.agrees and share.corners_px for share in found.shares.values())
                squares.append(distance(found.sighting.camera_from_body, path(left.t_ns)))
    assert len(squares) == 16
    assert np.mean(squares) < 9.0  # 6 is expected
