"""Rendered pictures of tag boards with their truth: a random view for each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, rotation_exp
from tracking.bodies.body import Body, board
from tracking.synthetic.camera import Optics, Shot, SyntheticCamera

BENT = Pinhole(1280, 960, 1180.0, 1183.0, 633.1, 484.6, (-0.25, 0.10, 0.001, -0.0008, 0.0))


@dataclass(frozen=True)
class Bench:
    pinhole: Pinhole
    body: Body[Any]
    camera: SyntheticCamera

    def view(self, number: int, near_mm: float = 350.0, far_mm: float = 700.0) -> tuple[Shot, Rigid[Camera, Any]]:
        """Distance, tilt 5 to 55 degrees, roll and place in the picture drawn from the number."""
        rng = np.random.default_rng(1000 + number)
        z = rng.uniform(near_mm, far_mm)
        tilt, azimuth, roll = np.radians(rng.uniform(5, 55)), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        facing = np.diag([1.0, -1.0, -1.0])
        axis = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        R = rotation_exp(tilt * axis) @ rotation_exp([0, 0, roll]) @ facing
        p = self.pinhole
        reach = np.array([0.28 * p.width_px / p.fx_px, 0.25 * p.height_px / p.fy_px])
        pose = Rigid[Any, Any](R, np.array([*(rng.uniform(-1, 1, 2) * reach * z), z]))
        return self.camera.shoot(number, Rigid.identity(), {self.body.name: pose}), pose

    def truth_px(self, pose: Rigid[Camera, Any], marker: int) -> Array:
        return self.pinhole.project(pose @ Points(self.body.corners_mm[marker]))


def bench(pinhole: Pinhole = BENT, optics: Optics | None = None, size_mm: float = 40.0, columns: int = 2) -> Bench:
    body: Body[Any] = board("board", "DICT_APRILTAG_36h11", range(columns * 2), size_mm, size_mm / 2, columns)
    return Bench(pinhole, body, SyntheticCamera(pinhole, [body], optics=optics or Optics(0.7, 3.0, 0.3)))
