"""How far the pedicle's outer walls are from an axis, seen along rays across it.

Rays start on the axis, at places within 6 mm of the isthmus, and run across it all around. Angle 0 is medial, 90
degrees superior, 180 lateral, 270 inferior (in the bone's axes, projected across the screw); a wall belongs to the
direction within 45 degrees of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.distance import DistanceGrid
from spatial.distance_kernels import trace_ray, value_at
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from spatial.shapes import Line
from twin.anatomy.bone import Side

WALLS = ("medial", "superior", "lateral", "inferior")
WINDOW_MM = 6.0
REACH_MM = 25.0  # no wall of a pedicle is further; the ala of the sacrum may be
RAYS = 120
STATIONS = 49


@njit
def _cast(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    point: Array,
    axis: Array,
    medial: Array,
    superior: Array,
    along: Array,
    angle_count: int,
    reach: float,
) -> tuple[Array, Array]:
    """Ways (S, T) to the first change of sign across the axis, and signed distances (S,) on it; numbers in mm."""
    ways = np.empty((len(along), angle_count))
    on_axis = np.empty(len(along))
    for s in range(len(along)):
        x, y, z = point[0] + along[s] * axis[0], point[1] + along[s] * axis[1], point[2] + along[s] * axis[2]
        on_axis[s] = value_at(values, origin, spacing, x, y, z)
        for t in range(angle_count):
            angle = 2.0 * np.pi * t / angle_count
            r = np.cos(angle) * medial + np.sin(angle) * superior
            ways[s, t] = trace_ray(values, origin, spacing, x, y, z, r[0], r[1], r[2], reach)
    return ways, on_axis


@dataclass(frozen=True, eq=False)
class Across:
    """The directions across an axis: unit vectors (3,) medial and superior, square to it and to each other."""

    medial: Array
    superior: Array

    @classmethod
    def of(cls, direction: Array, patient_from_bone: Rigid[Patient, Bone], side: Side) -> Across:
        """For a screw axis on one side of a bone: medial shows to the other side."""
        right, _, cranial = patient_from_bone.rotation.T
        superior = cranial - (cranial @ direction) * direction
        superior = superior / np.linalg.norm(superior)
        medial = np.cross(direction, superior)
        inward = right if side == "left" else -right
        return cls(medial if medial @ inward > 0 else -medial, superior)


@dataclass(frozen=True, eq=False)
class Walls:
    """Distance from the axis to the outer wall in each direction: the smallest over the window; negative: beyond it.

    `width_mm` is the narrowest chord through the axis (nan when the axis leaves the bone within the window);
    `outside_mm` is how far the axis itself gets out of the bone (0 when it stays in).
    """

    wall_mm: dict[str, float]
    width_mm: float
    outside_mm: float


def sectors(rays: int) -> NDArray[np.bool_]:
    """Which rays (4, T) lie within 45 degrees of each of WALLS; a ray on the border belongs to both neighbours."""
    angle_deg = 360.0 * np.arange(rays) / rays
    middle_deg = 90.0 * np.arange(4)[:, None]
    return np.asarray(np.abs((angle_deg - middle_deg + 180.0) % 360.0 - 180.0) <= 45.0 + 1e-9)


def narrowest_mm(grid: DistanceGrid[Patient], axis: Line[Patient], across: Across, chord_mm: float) -> float | None:
    """Where along an axis from its entry the bone's section around it is smallest: the isthmus, if no landmark says.

    Searched from 4 mm behind the entry to 60 % of the chord; the middle of all sections within 2 % of the smallest.
    None when the axis lies outside the bone all the way.
    """
    along = np.arange(4.0, 0.6 * chord_mm, 0.5)
    ways, on_axis = _cast(
        grid.values_mm, grid.origin_mm, grid.spacing_mm, axis.point_mm, axis.direction, across.medial, across.superior,
        along, 36, 15.0,
    )  # fmt: skip
    area = np.where(on_axis < 0, (np.minimum(ways, 15.0) ** 2).sum(axis=1), np.inf)
    if not np.isfinite(area).any():
        return None
    return float(along[area <= 1.02 * area.min()].mean())


def measure_walls(
    grid: DistanceGrid[Patient],
    axis: Line[Patient],
    isthmus_mm: float,
    across: Across,
    *,
    window_mm: tuple[float, float] = (-WINDOW_MM, WINDOW_MM),
    stations: int = STATIONS,
    rays: int = RAYS,
) -> Walls:
    """Walls around `axis` within a window about `isthmus_mm` (measured along the axis from its point)."""
    along = isthmus_mm + np.linspace(*window_mm, stations)
    ways, on_axis = _cast(
        grid.values_mm, grid.origin_mm, grid.spacing_mm, axis.point_mm, axis.direction, across.medial, across.superior,
        along, rays, REACH_MM,
    )  # fmt: skip
    inside = on_axis < 0
    half = rays // 2
    found = np.full(4, np.inf)
    width = np.nan
    if inside.any():
        seen = np.minimum(ways[inside], REACH_MM)
        found = np.array([seen[:, near].min() for near in sectors(rays)])
        if inside.all():
            width = float((seen[:, :half] + seen[:, half:]).min())
    outside = 0.0
    for s in np.flatnonzero(~inside):
        outside = max(outside, float(on_axis[s]))
        found = np.minimum(found, _from_outside(grid, axis.at(along[s]).mm, across, ways[s], float(on_axis[s]), rays))
    return Walls({name: float(v) for name, v in zip(WALLS, found, strict=True)}, width, outside)


def _from_outside(
    grid: DistanceGrid[Patient], point: Array, across: Across, ways: Array, distance_mm: float, rays: int
) -> Array:
    """Walls (4,) as seen from an axis point outside the bone: negative on the side away from the bone.

    The other walls are measured from the middle of the bone behind the nearest wall, along each direction; none of
    them is further beyond than the one that the axis has left by.
    """
    nearest = int(np.argmin(ways))
    if not np.isfinite(ways[nearest]):
        return np.full(4, -distance_mm)  # no bone around at all
    angles = 2 * np.pi * np.arange(rays) / rays
    fan = np.cos(angles)[:, None] * across.medial + np.sin(angles)[:, None] * across.superior
    toward = fan[nearest]
    first = float(ways[nearest])
    start = Points[Patient](point + (first + 0.05) * toward)
    thick = min(_trace(grid, start, toward[None])[0], REACH_MM)
    middle = Points[Patient](start.mm + 0.5 * thick * toward)
    reach = np.minimum(_trace(grid, middle, fan), REACH_MM)
    shift = (middle.mm - point) @ fan.T
    sector = sectors(rays)
    walls = np.array([max(float((shift + reach)[near].min()), 1e-6 - first) for near in sector])
    walls[sector[:, (nearest + rays // 2) % rays]] = -first
    return walls


def _trace(grid: DistanceGrid[Patient], start: Points[Patient], ways: Array) -> Array:
    return np.atleast_1d(grid.trace(Points[Patient](np.broadcast_to(start.mm, ways.shape)), Directions[Patient](ways)))
