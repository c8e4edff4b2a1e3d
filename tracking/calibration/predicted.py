"""What a calibration is good for: the pose errors that its parameters' covariance foretells in the working volume.

A lens that is off by d moves the corners of a body by J d; the pose that then fits them best is off by
-(P' P)^-1 P' J d, P the corners' change with the pose. Drawing d from the covariance gives the errors to expect at each
place of the volume, by the lens alone: noise of the pictures comes on top, in each pose's own covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spatial.faults import Misuse
from spatial.frames import Camera
from spatial.pinhole import BadLens, Pinhole
from spatial.rigid import Array, Points, rotation_exp, skew
from tracking.calibration.lens_model import LensModel, project

DRAWS = 400
APART_MM = np.array([100.0, 60.0, 40.0])  # from the reference body to an instrument's, for the relative error
TILTS_DEG = ((0.0, 0.0), (35.0, 0.0), (35.0, 90.0))
SPOTS = tuple((x, y) for y in (-0.35, 0.0, 0.35) for x in (-0.35, 0.0, 0.35))


class NothingSeen(Misuse):
    """A working volume in which the camera sees no whole body."""


@dataclass(frozen=True)
class Volume:
    """Distances mm from the camera at which bodies are worked with; across, the whole picture."""

    near_mm: float = 400.0
    far_mm: float = 800.0

    def __post_init__(self) -> None:
        """Refuse a volume without room. Raises Misuse."""
        if not 10 <= self.near_mm < self.far_mm <= 20_000:
            raise Misuse(f"a working volume from {self.near_mm:g} to {self.far_mm:g} mm; 10 to 20,000 mm, near first")


@dataclass(frozen=True)
class Predicted:
    """Errors (95 %) that the lens alone makes of a body's pose.

    `worst_mm`, `median_mm` over the volume: the body's middle in the camera's frame; `turn_deg` its worst rotation;
    `relative_mm`: an instrument's body beside it, in its frame, at the worst place, None where both together
    fit into the picture nowhere; `worst_at_mm`: where, in the camera's frame.
    """

    worst_mm: float
    median_mm: float
    relative_mm: float | None
    turn_deg: float
    worst_at_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Foresight:
    """How a lens' errors become pose errors: `gains` (S, 6, m) of a body at S places, `beside` (S, 3, m) relative."""

    gains: Array
    beside: Array
    places_mm: Array

    @classmethod
    def of(cls, model: LensModel, pinhole: Pinhole, body_mm: Array, volume: Volume) -> Foresight:
        """For a body's corners (K, 3), about their middle, over the volume; only where all of it is in the picture.

        The instrument's body stands beside it, toward the picture's middle. Raises NothingSeen.
        """
        corners = body_mm - body_mm.mean(axis=0)
        facing = np.diag([1.0, -1.0, -1.0])
        gains, beside, places = [], [], []
        lens = model.parameters(pinhole)
        size = np.array([pinhole.width_px, pinhole.height_px])
        for z in np.linspace(volume.near_mm, volume.far_mm, 3):
            for spot in SPOTS:
                try:
                    ray = pinhole.normalised((np.array(spot) + 0.5) * (size - 1))
                except BadLens:
                    continue
                t = z * np.array([*ray, 1.0])
                for tilt, azimuth in TILTS_DEG:
                    a = np.radians(azimuth)
                    R = rotation_exp(np.radians(tilt) * np.array([np.cos(a), np.sin(a), 0])) @ facing
                    if not _inside(pinhole, corners @ R.T + t):
                        continue
                    first = _gain(model, lens, R, t, corners)
                    gains.append(first)
                    places.append(t)
                    apart = np.where(t > 0, -APART_MM, APART_MM)
                    if _inside(pinhole, corners @ R.T + t + apart):
                        second = _gain(model, lens, R, t + apart, corners)
                        beside.append(second[3:] - first[3:] + skew(apart) @ first[:3])
        if not gains:
            extent = float(np.ptp(corners, axis=0).max())
            raise NothingSeen(
                f"a body of {extent:.0f} mm does not fit into the picture anywhere from {volume.near_mm:g} to "
                f"{volume.far_mm:g} mm; state the working volume"
            )
        return cls(np.array(gains), np.array(beside).reshape(-1, 3, len(lens)), np.array(places))

    @cached_property
    def criterion(self) -> Array:
        """M (m, m): trace(M covariance) is the mean squared position error over the volume, mm2."""
        return np.asarray(np.einsum("sia,sib->ab", self.gains[:, 3:], self.gains[:, 3:]) / len(self.gains))

    def of_covariance(self, covariance: Array) -> Predicted:
        """The errors to expect from a lens known to `covariance` (m, m)."""
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0))
        draws = np.random.default_rng(0).standard_normal((DRAWS, len(root))) @ root.T
        errors = np.einsum("sia,da->sdi", self.gains, draws)
        place = np.quantile(np.linalg.norm(errors[:, :, 3:], axis=2), 0.95, axis=1)
        turn = np.quantile(np.linalg.norm(errors[:, :, :3], axis=2), 0.95, axis=1)
        beside = np.quantile(np.linalg.norm(np.einsum("sia,da->sdi", self.beside, draws), axis=2), 0.95, axis=1)
        worst = int(place.argmax())
        x, y, z = (float(v) for v in self.places_mm[worst])
        return Predicted(
            float(place[worst]),
            float(np.median(place)),
            float(beside.max()) if len(beside) else None,
            float(np.degrees(turn.max())),
            (x, y, z),
        )

    def shift(self, change: Array) -> tuple[float, float]:
        """What a known change (m,) of the lens does: worst position error in mm, worst relative error in mm."""
        moved = np.linalg.norm(self.gains[:, 3:] @ change, axis=1)
        return float(moved.max()), float(np.linalg.norm(self.beside @ change, axis=1).max(initial=0.0))


def _inside(pinhole: Pinhole, mm: Array) -> bool:
    px = pinhole.project(Points[Camera](mm))
    return bool(((px > 0) & (px < (pinhole.width_px - 1, pinhole.height_px - 1))).all())


def _gain(model: LensModel, lens: Array, R: Array, t: Array, corners_mm: Array) -> Array:
    """d (turn rad, shift mm) of the pose / d lens: (6, m)."""
    turned = corners_mm @ R.T
    _, by_point, by_lens = project(model, lens, turned + t)
    by_pose = np.concatenate([np.cross(turned[:, None, :], by_point), by_point], axis=2).reshape(-1, 6)
    return np.asarray(-np.linalg.lstsq(by_pose, by_lens.reshape(len(by_pose), -1), rcond=None)[0])
