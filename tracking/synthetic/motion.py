"""Paths whose pose is known at any instant: a body that glides, one that swings, a hand-held camera that sways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeAlias

import numpy as np

from spatial.frames import A, B, Camera, Patient
from spatial.rigid import Array, Rigid, rotation_exp

Motion: TypeAlias = Callable[[float], Rigid[A, B]]  # the pose at an instant, ns on the frames' clock


def _still() -> Array:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class Gliding(Generic[A, B]):
    """Constant velocity from `pose` at `start_ns`: R(t) = Exp(w t) R, t(t) = t + v t, in the axes of A."""

    pose: Rigid[A, B]
    velocity_mm_s: Array = field(default_factory=_still)
    turn_rad_s: Array = field(default_factory=_still)
    start_ns: float = 0.0

    def __call__(self, t_ns: float) -> Rigid[A, B]:
        """The pose at an instant."""
        seconds = (t_ns - self.start_ns) * 1e-9
        return Rigid[A, B](
            rotation_exp(np.asarray(self.turn_rad_s) * seconds) @ self.pose.rotation,
            self.pose.translation_mm + np.asarray(self.velocity_mm_s) * seconds,
        )


@dataclass(frozen=True, eq=False)
class Swinging(Generic[A, B]):
    """To and fro around `pose`: fastest (`velocity_mm_s`, `turn_rad_s`) in the middle, once a `period_s`."""

    pose: Rigid[A, B]
    velocity_mm_s: Array = field(default_factory=_still)
    turn_rad_s: Array = field(default_factory=_still)
    period_s: float = 1.6

    def __call__(self, t_ns: float) -> Rigid[A, B]:
        """The pose at an instant."""
        phase = 2 * np.pi * t_ns * 1e-9 / self.period_s
        reach = np.sin(phase) * self.period_s / (2 * np.pi)
        return Rigid[A, B](
            rotation_exp(np.asarray(self.turn_rad_s) * reach) @ self.pose.rotation,
            self.pose.translation_mm + np.asarray(self.velocity_mm_s) * reach,
        )


@dataclass(frozen=True, eq=False)
class Swaying:
    """A hand-held camera that looks at `centre_mm` from the side `toward` (out of the patient), swaying smoothly.

    The sway repeats after eight seconds; the camera's up in the picture is `up` as well as it can be.
    """

    centre_mm: Array
    toward: Array
    up: Array
    distance_mm: float
    swing_rad: float = 0.45

    def __call__(self, t_ns: float) -> Rigid[Camera, Patient]:
        """The camera at an instant."""
        out = np.asarray(self.toward, dtype=np.float64) / np.linalg.norm(self.toward)
        side = np.cross(self.up, out)
        side /= np.linalg.norm(side)
        top = np.cross(out, side)
        phase = 2 * np.pi * t_ns * 1e-9 / 8.0
        a, b = self.swing_rad * np.sin(phase), 0.6 * self.swing_rad * np.sin(2 * phase + 0.7)
        eye = np.asarray(self.centre_mm) + self.distance_mm * (1 + 0.12 * np.sin(phase + 1.1)) * (
            out * np.cos(a) * np.cos(b) + side * np.sin(a) * np.cos(b) + top * np.sin(b)
        )
        roll = 0.12 * np.sin(phase + 2.0)
        return looking(eye, np.asarray(self.centre_mm), top * np.cos(roll) + side * np.sin(roll))


def orbit(
    centre_mm: Array,
    toward: Array,
    up: Array,
    distance_mm: float,
    frames: int,
    *,
    swing_rad: float = 0.45,
    fps: float = 30.0,
) -> Iterator[Rigid[Camera, Patient]]:
    """The poses of a `Swaying` camera at its frames."""
    path = Swaying(centre_mm, toward, up, distance_mm, swing_rad)
    for index in range(frames):
        yield path(index * 1e9 / fps)


def looking(eye_mm: Array, at_mm: Array, up: Array) -> Rigid[Camera, Patient]:
    """The camera at `eye_mm` that looks at `at_mm` with `up` upward in the picture."""
    z = np.asarray(at_mm, dtype=np.float64) - eye_mm
    z = z / np.linalg.norm(z)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return Rigid[Camera, Patient](R, -R @ eye_mm)
