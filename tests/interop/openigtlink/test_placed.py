"""A tracker's poses in a camera's axes; a camera and a tracker in one history. Truth by construction."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from interop.openigtlink.address import read_address
from interop.openigtlink.incoming import WireTracker
from interop.openigtlink.message import Message
from interop.openigtlink.placed import BadPlacing, PlacedTracker, Placing, load_placing
from interop.openigtlink.poses import Transform
from spatial.rigid import Rigid, UncertainRigid, rotation_exp, rotation_log
from tracking.history.history import PoseHistory
from tracking.pose.sighting import Sighting

MS = 1_000_000
X = Rigid[Any, Any].exp([0.3, -0.2, 1.0], [40.0, 20.0, -60.0])
X_ERROR = np.diag([2e-4**2] * 3 + [0.1**2] * 3)
POSE_ERROR = np.diag([5e-4**2] * 3 + [0.08**2] * 3)


def moved(rng: np.random.Generator, pose: Rigid[Any, Any], covariance: np.ndarray[Any, Any]) -> Rigid[Any, Any]:
    e = rng.multivariate_normal(np.zeros(6), covariance)
    return Rigid[Any, Any](rotation_exp(e[:3]) @ pose.rotation, pose.translation_mm + e[3:])


def error(found: Rigid[Any, Any], truth: Rigid[Any, Any]) -> np.ndarray[Any, Any]:
    turn = rotation_log(truth.rotation @ found.rotation.T)
    return np.concatenate([turn, truth.translation_mm - found.translation_mm])


def seen(body: str, t_ns: int, pose: Rigid[Any, Any]) -> Sighting[Any]:
    return Sighting[Any](body, t_ns, "TRACKED", None, UncertainRigid(pose, POSE_ERROR), None)


@pytest.mark.parametrize("hand", [None, "camera"])
def test_the_pose_in_the_cameras_axes_has_a_true_covariance(hand: str | None) -> None:
    rng = np.random.default_rng(5)
    tracker_from_hand = Rigid[Any, Any].exp([0.1, 0.7, -0.4], [300.0, 10.0, 900.0])
    tracker_from_body = Rigid[Any, Any].exp([-0.5, 0.1, 0.2], [250.0, -40.0, 1100.0])
    from_camera = X if hand is None else tracker_from_hand @ X
    truth = from_camera.inverse() @ tracker_from_body
    squares = []
    for _ in range(400):
        placing = Placing(UncertainRigid(moved(rng, X, X_ERROR), X_ERROR), hand)
        placed = PlacedTracker(placing)
        body = seen("ref", 5, moved(rng, tracker_from_body, POSE_ERROR))
        others = [] if hand is None else [seen("camera", 5, moved(rng, tracker_from_hand, POSE_ERROR))]
        (one,) = placed.turned([body, *others])
        assert one.camera_from_body is not None
        assert one.systematic is not None
        e = error(one.camera_from_body.pose, truth)
        squares.append(float(e @ np.linalg.solve(one.camera_from_body.covariance, e)))
        rest = one.camera_from_body.covariance - one.systematic
        assert np.linalg.eigvalsh(rest).min() > -1e-12
    inside = np.mean(np.array(squares) < chi2.ppf(0.95, 6))
    assert 0.92 < inside < 0.98
    assert np.mean(squares) == pytest.approx(6.0, abs=0.6)


def test_a_body_waits_for_the_cameras_own_and_is_lost_without_it() -> None:
    placed = PlacedTracker(Placing(UncertainRigid(X, X_ERROR), "camera"))
    there = Rigid[Any, Any].exp([0.1, 0.0, 0.0], [0.0, 0.0, 500.0])
    assert placed.turned([seen("ref", 0, there)]) == []
    (one,) = placed.turned([seen("camera", 0, there)])
    assert (one.status, one.t_ns) == ("TRACKED", 0)
    gone = Sighting[Any]("camera", 400 * MS, "LOST", "hidden", None, None, cause="out of view")
    (lost,) = placed.turned([seen("ref", 400 * MS, there), gone])
    assert lost.status == "LOST"
    assert "the camera's own body camera is not seen" in str(lost.reason)


def test_a_hand_eye_file_is_read_and_a_wrong_one_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    value = {"kind": "hand-eye", "hand": "helmet", "hand_from_camera": X.to_json(), "covariance": X_ERROR.tolist()}
    file.write_text(json.dumps(value))
    placing = load_placing(file)
    assert placing.hand == "helmet"
    assert np.allclose(placing.from_camera.pose.matrix(), X.matrix())
    file.write_text(json.dumps({"world_from_camera": X.to_json(), "covariance": X_ERROR.tolist()}))
    assert load_placing(file).hand is None
    for bad in ("{}", "no json", json.dumps({**value, "covariance": [1]}), json.dumps([1])):
        file.write_text(bad)
        with pytest.raises(BadPlacing, match="no hand-eye calibration"):
            load_placing(file)
    with pytest.raises(BadPlacing, match="can't be read"):
        load_placing(tmp_path / "none.json")


def hand_moving(t_s: float) -> Rigid[Any, Any]:
    turn = [0.2 * np.sin(2 * t_s), 0.1 * np.cos(3 * t_s), 0.3]
    return Rigid[Any, Any].exp(turn, [60 * np.sin(2 * t_s), 30 * np.cos(2 * t_s), 600 + 20 * np.sin(t_s)])


def both(camera_away: tuple[float, float]) -> Iterable[tuple[float, str, float]]:
    """When something arrives, from whom, when it was measured: a camera at 30 Hz, a wire at 60 Hz with jitter."""
    rng = np.random.default_rng(7)
    events = [(k / 30, "camera", k / 30) for k in range(60) if not camera_away[0] < k / 30 < camera_away[1]]
    events += [(k / 60 + 0.004 + 0.002 * rng.exponential(), "wire", k / 60 + 0.004) for k in range(120)]
    return sorted(events)


def test_a_camera_and_a_tracker_feed_one_history() -> None:
    """The tracker's clock is its own; the camera goes away for 0.6 s and the pose stays, less sure and honest."""
    rng = np.random.default_rng(8)
    tracker = WireTracker(read_address("igtl://tracker?sd_mm=0.2&sd_deg=0.1"))
    history = PoseHistory[Any]()
    fine, coarse = np.diag([3e-4**2] * 3 + [0.02**2, 0.02**2, 0.06**2]), tracker.covariance
    off: dict[bool, list[float]] = {True: [], False: []}
    inside = []
    for now_s, who, t_s in both((0.8, 1.4)):
        if who == "camera":
            pose = UncertainRigid(moved(rng, hand_moving(t_s), fine), fine)
            history.add(Sighting[Any]("ref", round(t_s * 1e9), "TRACKED", None, pose, 0.1), "camera")
        else:
            matrix = moved(rng, hand_moving(t_s), coarse).matrix()[:3]
            message = Message("ref", Transform(matrix), round(t_s * 1e9) + 10**18)
            for sighting in tracker.receive(message, round(now_s * 1e9)):
                history.add(sighting, "wire")
        ask_s = now_s + 0.005
        timed = history.at(round(ask_s * 1e9))
        assert timed.how not in ("STALE", "LOST")
        if timed.uncertain is not None and now_s > 0.3:
            e = error(timed.uncertain.pose, hand_moving(ask_s))
            off[0.9 < now_s < 1.4].append(float(np.linalg.norm(e[3:])))
            inside.append(float(e @ np.linalg.solve(timed.uncertain.covariance, e)) < chi2.ppf(0.95, 6))
    assert np.median(off[False]) < 0.25  # the camera's
    assert np.median(off[True]) < 0.8  # the tracker's alone
    assert np.mean(inside) > 0.9
