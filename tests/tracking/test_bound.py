"""The Cramér-Rao bound of corners: against differences between renderings, and what it must grow with."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp
from tests.tracking.scene import bench
from tracking.detection.bound import Exposure, corner_information, pose_bound
from tracking.detection.codes import code_book
from tracking.synthetic.camera import Optics

LENS = Pinhole(320, 240, 420.0, 424.0, 160.3, 119.1, (-0.2, 0.08, 0.001, -0.001))
POSE: Rigid[Any, Any] = Rigid(rotation_exp([0.5, 0.3, 0.2]) @ np.diag([1.0, -1, -1]), np.array([5.0, -4.0, 330.0]))
NOISE = 3.0


def _rendered(pose: Rigid[Any, Any]) -> Array:
    setup = bench(LENS, Optics(0.7, 0.0, 0.0), columns=1)
    shot = setup.camera.shoot(0, Rigid.identity(), {setup.body.name: pose})
    return np.asarray(shot.frame.picture[..., 0], dtype=np.float64)


def test_the_pose_bound_is_that_of_differences_between_renderings() -> None:
    """Levels and blur known in neither: the rendered picture's own derivatives by the pose, rounding averaged out."""
    setup = bench(LENS, Optics(0.7, 0.0, 0.0), columns=1)
    codes = code_book(setup.body.dictionary).patterns(np.arange(2))
    middle = _rendered(POSE)
    dark, bright = np.percentile(middle, 1), np.percentile(middle, 99.5)
    exposure = Exposure(0.7, NOISE, float(dark), float(bright))
    corners = [setup.truth_px(POSE, i) for i in range(2)]
    information = [corner_information(c, code, LENS, exposure) for c, code in zip(corners, codes, strict=True)]
    least = pose_bound(POSE, [setup.body.corners_mm[i] for i in range(2)], information, LENS)
    # without the plate's own rim, a cell outside the marker
    seen = np.zeros((LENS.height_px, LENS.width_px), dtype=np.uint8)
    for c in corners:
        cv2.fillConvexPoly(seen, np.rint(c.mean(axis=0) + 1.125 * (c - c.mean(axis=0))).astype(np.int32), 1)
    J = []
    for k in range(6):
        step = np.zeros(6)
        step[k] = (2e-3, 2e-3, 2e-3, 0.3, 0.3, 0.8)[k]
        sides = [
            _rendered(Rigid(rotation_exp(s * step[:3]) @ POSE.rotation, POSE.translation_mm + s * step[3:]))
            for s in (1.0, -1.0)
        ]
        J.append(((sides[0] - sides[1]) / (2 * step[k]))[seen > 0])
    direct = np.linalg.inv(np.array(J) @ np.array(J).T / (NOISE**2 + 1 / 12))
    ratio = np.sqrt(np.diag(least) / np.diag(direct))
    assert (ratio > 0.95).all()
    assert (ratio < 1.15).all()  # unknown levels and blur cost a little


def test_more_noise_and_more_blur_tell_less() -> None:
    setup = bench(LENS, columns=1)
    corners, code = setup.truth_px(POSE, 0), code_book(setup.body.dictionary).patterns(np.arange(1))[0]

    def trace(blur_px: float, noise: float) -> float:
        information = corner_information(corners, code, LENS, Exposure(blur_px, noise, 20.0, 220.0))
        assert np.linalg.eigvalsh(information)[0] > 0
        return float(np.trace(np.linalg.inv(information)))

    assert np.isclose(trace(0.7, 6.0) / trace(0.7, 3.0), (36 + 1 / 12) / (9 + 1 / 12), rtol=1e-6)
    assert 1.5 < trace(1.4, 3.0) / trace(0.7, 3.0) < 4.0  # an edge's information falls with its width
