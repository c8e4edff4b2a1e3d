"""The history on rendered pictures: a body that leaves, stays away and comes back; a rolling shutter's motion."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from typer.testing import CliRunner

from commands import track
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid, rotation_log
from tests.data import ROOT
from tracking.bodies.body import Body, board
from tracking.synthetic.camera import SyntheticCamera
from tracking.synthetic.optics import Optics
from tracking.tracker import Tracker

LENS = Pinhole(800, 600, 900.0, 900.0, 399.5, 299.5)
BOARD: Body[Any] = board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
FACING = np.diag([1.0, -1.0, -1.0])
MS = 1_000_000


def test_a_body_that_leaves_is_out_of_view_until_it_is_seen_again() -> None:
    camera = SyntheticCamera(LENS, [BOARD], mono=True)

    def place(t_ns: float) -> Rigid[Any, Any]:  # out to the right at 1 m/s, back after 1.7 s
        away = min(t_ns, 3_400 * MS - t_ns) * 1e-9
        return Rigid[Any, Any](FACING, np.array([1000.0 * away, 0, 500.0]))

    said = []
    with Tracker(LENS, [BOARD]) as tracker:
        history = tracker.histories["board"]
        for k in range(103):
            frame = camera.shoot(k, Rigid.identity(), {"board": place(k * 1e9 / 30)}).frame
            (sighting,) = tracker.see(frame)
            found = history.at(frame.t_ns)
            said.append((found.how, found.cause))
            if sighting.status == "LOST" and k > 10:
                assert sighting.cause == "out of view"
    hows = [how for how, _ in said]
    gone = hows.index("PREDICTED")
    back = len(hows) - hows[::-1].index("LOST")
    order = [how for k, how in enumerate(hows[gone:back]) if k == 0 or how != hows[gone + k - 1]]
    assert order == ["PREDICTED", "STALE", "LOST"]
    assert {cause for _, cause in said[gone:back]} == {"out of view"}
    assert set(hows[:gone]) == set(hows[back:]) == {"EXACT"}


def test_a_rolling_shutter_is_undone_by_the_motion_that_the_history_knows() -> None:
    optics = Optics(blur_px=0.7, noise_grey=2.0, exposure_ns=4 * MS, readout_ns=16 * MS)
    camera = SyntheticCamera(LENS, [BOARD], optics=optics, mono=True, fps=60.0)
    tilted = Rigid[Camera, Any](FACING @ Rigid[Any, Any].exp([0.4, 0.3, 0]).rotation, np.array([-90.0, 0, 500.0]))

    def place(t_ns: float) -> Rigid[Any, Any]:
        return Rigid[Any, Any](tilted.rotation, tilted.translation_mm + np.array([200.0, 60.0, 0.0]) * t_ns * 1e-9)

    with Tracker(LENS, [BOARD]) as tracker:
        history = tracker.histories["board"]
        errors = []
        for k in range(30):
            frame = camera.shoot(k, Rigid.identity(), {"board": place}).frame
            tracker.see(frame)
            if k > 6:
                found, truth = history.at(frame.t_ns + 33 * MS), place(frame.t_ns + 33 * MS)
                assert found.pose is not None
                turn = np.degrees(np.linalg.norm(rotation_log(found.pose.rotation @ truth.rotation.T)))
                errors.append((np.linalg.norm(found.pose.translation_mm - truth.translation_mm), turn))
        motion = history.motion_at(frame.t_ns)
    assert motion is not None
    assert np.allclose(motion.speed_mm_s, [200, 60, 0], atol=15)
    mm, deg = np.median(errors, axis=0)
    assert mm < 0.5
    assert deg < 0.3


def test_a_recording_is_smoothed_by_the_pictures_that_follow() -> None:
    body = str(ROOT / "assets/markers/reference.json")
    source = f"synthetic:frames=16,size=800x600,noise=3,grey=1,body={body}"
    made = [CliRunner().invoke(track.app, [source, "--bodies", body, "--json", *more]) for more in ((), ("--smooth",))]
    assert [one.exit_code for one in made] == [0, 0]
    plain, smooth = ([json.loads(line) for line in one.stdout.splitlines()] for one in made)
    assert [line["frame"] for line in smooth] == list(range(16))
    spreads = [
        [np.trace(np.array(line["filtered"]["covariance"])[3:, 3:]) for line in all_] for all_ in (plain, smooth)
    ]
    for k, (a, b) in enumerate(zip(plain, smooth, strict=True)):
        assert a["camera_from_body"] == b["camera_from_body"]  # what a picture says stays as it is
        assert spreads[1][k] <= spreads[0][k] * (1 + 1e-9)
    assert spreads[1][8] < 0.7 * spreads[0][8]
    assert spreads[1][-1] == spreads[0][-1]  # nothing followed the last one
    refused = CliRunner().invoke(track.app, ["igtl://127.0.0.1", "--smooth"])
    assert refused.exit_code == 2
