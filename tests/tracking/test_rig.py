"""A rig of cameras: chi-square of its pose, better than one camera, the camera that disagrees named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spatial.faults import Misuse
from spatial.frames import Camera
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp
from tests.tracking.corners import cube, difference, distance, facing, guessed, inside, seen, view
from tests.tracking.scene import BENT
from tracking.bodies.body import Body, board
from tracking.pose.motion import Motion
from tracking.pose.pose import track_body
from tracking.pose.rig import RigSighting, View, track_rig

PLATE: Body[Any] = board("plate", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
LOOSE = np.diag([2e-4**2] * 3 + [0.05**2] * 3)  # how well the cameras' places are known


class Rig:
    """Cameras 120 mm apart that look inward, the first one exact; the others truly a little elsewhere."""

    def __init__(self, cameras: int, covariance: Array, rng: np.random.Generator) -> None:
        self.rng = rng
        self.said, self.true = [], []
        for k in range(cameras):
            place = Rigid[Camera, Camera](rotation_exp([0, -0.25 * k, 0]), np.array([120.0 * k, 0, 0]))
            spread = covariance if k else np.zeros((6, 6))
            off = rng.multivariate_normal(np.zeros(6), spread)
            self.said.append(UncertainRigid(place, spread))
            self.true.append(Rigid(rotation_exp(off[:3]) @ place.rotation, place.translation_mm + off[3:]))

    def views(
        self,
        body: Body[Any],
        pose: Rigid[Camera, Any],
        speed: Array | None = None,
        readout_ns: int = 0,
        late_ns: int = 0,
    ) -> list[View]:
        """What each camera sees, the second one `late_ns` after the first, and so on."""
        out = []
        for k, (said, true) in enumerate(zip(self.said, self.true, strict=True)):
            now, own = pose, None
            if speed is not None:
                s = late_ns * k * 1e-9
                now = Rigid(rotation_exp(speed[:3] * s) @ pose.rotation, pose.translation_mm + speed[3:] * s)
                own = np.concatenate([true.rotation.T @ speed[:3], true.rotation.T @ speed[3:]])
            camera_from_body = true.inverse() @ now
            ids = facing(body, camera_from_body)
            found = seen(body, camera_from_body, BENT, self.rng, ids=ids, speed=own, readout_ns=readout_ns)
            out.append(View(f"camera {k}", found, BENT, said, readout_ns, late_ns * k))
        return out


def _somewhere(rng: np.random.Generator) -> Rigid[Camera, Any]:
    pose = view(BENT, rng, (400.0, 700.0))
    return Rigid(pose.rotation, pose.translation_mm * [0.5, 0.6, 1.0] + [60.0, 0, 0])


def _good(found: RigSighting[Any]) -> UncertainRigid[Camera, Any]:
    assert found.sighting.camera_from_body is not None, found.sighting.reason
    return found.sighting.camera_from_body


@pytest.mark.parametrize(("body", "cameras"), [(PLATE, 2), (PLATE, 3), (cube(), 3)], ids=["two", "three", "cube"])
def test_a_rigs_covariance_follows_chi_square_and_it_beats_one_camera(body: Body[Any], cameras: int) -> None:
    rng = np.random.default_rng(4)
    distances, ours, alone = [], [], []
    while len(distances) < 160:
        pose = (
            _somewhere(rng) if body is PLATE else Rigid(rotation_exp(rng.normal(0, 1.5, 3)), np.array([60.0, 0, 500]))
        )
        views = Rig(cameras, LOOSE, rng).views(body, pose)
        if not len(views[0].detections):
            continue
        found = _good(track_rig(views, body))
        one = track_body(views[0].detections, body, BENT).camera_from_body
        assert one is not None
        distances.append(distance(found, pose))
        ours.append(np.linalg.norm(difference(found.pose, pose)[3:]))
        alone.append(np.linalg.norm(difference(one.pose, pose)[3:]))
    assert 0.90 <= inside(distances) <= 0.99
    assert np.median(ours) < np.median(alone)


def test_a_rolling_rig_whose_cameras_do_not_fire_together_follows_chi_square() -> None:
    rng = np.random.default_rng(5)
    distances, naive = [], []
    for _ in range(100):
        pose = _somewhere(rng)
        speed = np.concatenate([rng.normal(0, 1.0, 3), rng.normal(0, 150.0, 3)])
        views = Rig(2, LOOSE, rng).views(PLATE, pose, speed, readout_ns=15_000_000, late_ns=5_000_000)
        distances.append(distance(_good(track_rig(views, PLATE, motion=guessed(speed, rng))), pose))
        still = [View(v.camera, v.detections, v.pinhole, v.rig_from_camera) for v in views]
        blind = track_rig(still, PLATE).sighting.camera_from_body
        naive.append(blind is None or distance(blind, pose) > 12.6)
    assert 0.90 <= inside(distances) <= 0.99
    assert np.mean(naive) > 0.5  # taken as global and simultaneous it is wrong or lost


def test_markers_seen_by_one_camera_alone_still_help() -> None:
    rng = np.random.default_rng(6)
    pose = _somewhere(rng)
    rig = Rig(2, np.zeros((6, 6)), rng)
    whole = rig.views(PLATE, pose)
    half = [
        View(v.camera, seen(PLATE, t.inverse() @ pose, BENT, rng, ids=ids), BENT, v.rig_from_camera)
        for v, t, ids in zip(whole, rig.true, ([0, 1], [2, 3]), strict=True)
    ]
    found = track_rig(half, PLATE)
    assert sorted(found.sighting.corners_px) == [0, 1, 2, 3]
    assert np.linalg.norm(difference(_good(found).pose, pose)[3:]) < 0.2
    one = track_body(half[0].detections, PLATE, BENT).camera_from_body
    assert one is not None
    assert np.trace(_good(found).covariance[3:, 3:]) < 0.5 * np.trace(one.covariance[3:, 3:])


def _moved(views: list[View], which: int) -> list[View]:
    out = list(views)
    place = views[which].rig_from_camera
    off = Rigid[Camera, Camera](place.pose.rotation, place.pose.translation_mm + np.array([1.0, 0, 0]))
    out[which] = View(views[which].camera, views[which].detections, BENT, UncertainRigid(off, place.covariance))
    return out


def test_a_camera_that_was_moved_by_a_millimetre_is_named_by_two_others() -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        pose = _somewhere(rng)
        found = track_rig(_moved(Rig(3, LOOSE, rng).views(PLATE, pose), 1), PLATE)
        assert found.disagreeing == ("camera 1",)
        assert "camera 1 contradicts" in (found.sighting.reason or "")
        assert distance(_good(found), pose) < 25.0


def test_two_cameras_that_contradict_each_other_give_no_pose() -> None:
    rng = np.random.default_rng(8)
    found = track_rig(_moved(Rig(2, LOOSE, rng).views(PLATE, _somewhere(rng)), 1), PLATE)
    assert (found.sighting.status, found.sighting.cause) == ("LOST", "residual")
    assert "camera 0" in (found.sighting.reason or "")
    assert "mm apart" in (found.sighting.reason or "")


def test_a_rig_that_sees_nothing_says_so_and_two_cameras_need_two_names() -> None:
    rng = np.random.default_rng(9)
    views = Rig(2, LOOSE, rng).views(PLATE, _somewhere(rng))
    other = board("other", PLATE.dictionary, range(20, 24), 40.0, 20.0, 2)
    lost = track_rig(views, other, motion=Motion.unknown()).sighting
    assert (lost.status, lost.cause, lost.reason) == ("LOST", "too few markers", "0 of 4 markers seen by 2 cameras")
    with pytest.raises(Misuse, match="one name"):
        track_rig([views[0], views[0]], PLATE)
