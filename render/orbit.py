"""The mouse's camera: it turns about a target, always head up, and never looks straight along the spine's axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from render.scene import View
from spatial.rigid import Array, readonly

_STEEPEST_RAD = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Orbit:
    """Where the eye stands about `target_mm` (3,): `azimuth_rad` 0 is before the patient, +pi/2 at their left.

    `up` is the world's axis (0, 0, 1) of Patient, or (0, 1, 0) of Stage; `front` the direction of azimuth 0.
    """

    target_mm: Array
    distance_mm: float
    azimuth_rad: float = 0.0
    elevation_rad: float = 0.0
    fov_y_rad: float = 0.45
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    front: tuple[float, float, float] = (0.0, -1.0, 0.0)

    def __post_init__(self) -> None:
        """Freeze; keep elevation short of the poles and the distance above zero."""
        object.__setattr__(self, "target_mm", readonly(self.target_mm, (3,), "Orbit.target_mm"))
        steep = float(np.clip(self.elevation_rad, -_STEEPEST_RAD, _STEEPEST_RAD))
        object.__setattr__(self, "elevation_rad", steep)
        object.__setattr__(self, "distance_mm", max(float(self.distance_mm), 1.0))

    @classmethod
    def around(cls, low_mm: Array, high_mm: Array, azimuth_rad: float = 0.0, elevation_rad: float = 0.0) -> Orbit:
        """An orbit that holds a box (its lowest and highest corner) whole from every side."""
        radius_mm = float(np.linalg.norm(high_mm - low_mm)) / 2
        return cls((low_mm + high_mm) / 2, 1.05 * radius_mm / float(np.sin(0.225)), azimuth_rad, elevation_rad)

    @property
    def toward_eye(self) -> Array:
        """Unit direction (3,) from the target to the eye."""
        up, front = np.array(self.up), np.array(self.front)
        side = np.cross(up, front)
        flat = np.cos(self.azimuth_rad) * front + np.sin(self.azimuth_rad) * side
        return np.asarray(np.cos(self.elevation_rad) * flat + np.sin(self.elevation_rad) * up)

    def turned(self, azimuth_rad: float, elevation_rad: float) -> Orbit:
        """Turned further by two angles."""
        return replace(
            self, azimuth_rad=self.azimuth_rad + azimuth_rad, elevation_rad=self.elevation_rad + elevation_rad
        )

    def zoomed(self, factor: float) -> Orbit:
        """Nearer by a factor above 1."""
        return replace(self, distance_mm=self.distance_mm / factor)

    def panned(self, right_px: float, down_px: float, height_px: int) -> Orbit:
        """The picture follows the mouse: shifted by pixels of a picture `height_px` tall."""
        mm_per_px = 2.0 * self.distance_mm * float(np.tan(self.fov_y_rad / 2)) / height_px
        R = self.view(16, 16).rotation
        return replace(self, target_mm=self.target_mm - mm_per_px * (right_px * R[0] - down_px * R[1]))

    def view(self, width_px: int, height_px: int) -> View[Any]:
        """What is seen in a picture of this size."""
        eye_mm = self.target_mm + self.distance_mm * self.toward_eye
        return View.looking(self.target_mm, eye_mm, self.up, width_px, height_px, fov_y_rad=self.fov_y_rad)


STANDARD_TURNS: dict[str, tuple[float, float]] = {  # azimuth and elevation, rad
    "anterior": (0.0, 0.0),
    "left": (np.pi / 2, 0.0),
    "posterior": (np.pi, 0.0),
    "right": (-np.pi / 2, 0.0),
    "oblique": (-2.5, 0.28),
    "head": (0.0, _STEEPEST_RAD),
}
