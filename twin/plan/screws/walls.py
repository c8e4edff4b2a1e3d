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
from twin.plan.screws.batch_kernels import COSINE, RAYS, REACH_MM, SINE, Triple, along, at, beyond, run

WALLS = ("medial", "superior", "lateral", "inferior")
WINDOW_MM = 6.0
STATIONS = 49


@njit
def _sections(
    values: NDArray[np.float32],
    origin: Array,
    spacing: float,
    point: Array,
    axis: Array,
    medial: Array,
    superior: Array,
    along: Array,
    reach: float,
) -> Array:
    """About half the area (S,) of the bone's section around each place, mm2; inf where the axis is outside."""
    area = np.full(len(along), np.inf)
    for s in range(len(along)):
        x, y, z = point[0] + along[s] * axis[0], point[1] + along[s] * axis[1], point[2] + along[s] * axis[2]
        if value_at(values, origin, spacing, x, y, z) >= 0.0:
            continue
        area[s] = 0.0
        for t in range(36):
            angle = 2.0 * np.pi * t / 36
            r = np.cos(angle) * medial + np.sin(angle) * superior
            way = min(trace_ray(values, origin, spacing, x, y, z, r[0], r[1], r[2], reach), reach)
            area[s] += way * way
    return area


@njit
def _ray(values: NDArray[np.float32], o: Array, inverse: float, p: Triple, m: Triple, u: Triple, n: int, near: float,
         most: float) -> float:  # fmt: skip
    """Way along ray n across the axis to the wall, `most` when there is none before."""
    x = COSINE[n] * m[0] + SINE[n] * u[0]
    y = COSINE[n] * m[1] + SINE[n] * u[1]
    z = COSINE[n] * m[2] + SINE[n] * u[2]
    return min(run(values, o, inverse, 1.0, p[0], p[1], p[2], x, y, z, near, most), most)


@njit
def _walls(
    values: NDArray[np.float32], o: Array, inverse: float, point: Array, axis: Array, medial: Array, superior: Array,
    along_mm: Array, found: Array,
) -> tuple[Array, float]:  # fmt: skip
    """Signed distances (S,) on the axis and the narrowest chord through it; lowers `found` (4,), the nearest wall a
    direction, as far as the axis is inside.

    A ray is followed only where the surface could be nearer than what is found already, see `batch_kernels`.
    """
    way, m, u = (axis[0], axis[1], axis[2]), (medial[0], medial[1], medial[2]), (superior[0], superior[1], superior[2])
    start = (point[0], point[1], point[2])
    on_axis = np.empty(len(along_mm))
    eighth = RAYS // 8
    for s in range(len(along_mm)):
        p = along(start, along_mm[s], way)
        on_axis[s] = at(values, o, inverse, p[0], p[1], p[2])
    for s in range(len(along_mm)):
        if on_axis[s] >= 0.0:
            continue
        p = along(start, along_mm[s], way)
        for side in range(4):
            if -on_axis[s] >= found[side]:
                continue
            n = 2 * side * eighth - eighth
            while n <= 2 * side * eighth + eighth:
                k, best = n % RAYS, found[side]
                x = COSINE[k] * m[0] + SINE[k] * u[0]
                y = COSINE[k] * m[1] + SINE[k] * u[1]
                z = COSINE[k] * m[2] + SINE[k] * u[2]
                d = at(values, o, inverse, p[0] + best * x, p[1] + best * y, p[2] + best * z)
                if d >= 0.0:
                    found[side] = _ray(values, o, inverse, p, m, u, k, -on_axis[s], best)
                    n += 1
                else:
                    n += max(int(-0.98 * d / best * RAYS / (2.0 * np.pi)), 1)
    width = 2.0 * REACH_MM
    step = max((len(along_mm) - 1) // 12, 1)  # a millimetre; then the places beside the narrowest
    place = 0
    for s in range(0, len(along_mm), step):
        chord = _chord(values, o, inverse, along(start, along_mm[s], way), m, u, on_axis[s], width)
        if chord < width:
            width, place = chord, s
    for s in range(max(place - step + 1, 0), min(place + step, len(along_mm))):
        width = min(width, _chord(values, o, inverse, along(start, along_mm[s], way), m, u, on_axis[s], width))
    return on_axis, width


@njit
def _chord(
    values: NDArray[np.float32], o: Array, inverse: float, p: Triple, m: Triple, u: Triple, on_axis: float, best: float
) -> float:
    """The narrowest chord through a place on the axis, where it is narrower than `best`; else that."""
    if on_axis >= 0.0 or -2.0 * on_axis >= best:
        return best
    n = 0
    while n < RAYS // 2:
        x = COSINE[n] * m[0] + SINE[n] * u[0]
        y = COSINE[n] * m[1] + SINE[n] * u[1]
        z = COSINE[n] * m[2] + SINE[n] * u[2]
        half = 0.5 * best
        one = at(values, o, inverse, p[0] + half * x, p[1] + half * y, p[2] + half * z)
        other = at(values, o, inverse, p[0] - half * x, p[1] - half * y, p[2] - half * z)
        if one < 0.0 and other < 0.0:
            n += max(int(-0.98 * max(one, other) / half * RAYS / (2.0 * np.pi)), 1)
            continue
        near = n if one >= 0.0 else n + RAYS // 2
        sign = 1.0 if one >= 0.0 else -1.0
        way = _ray(values, o, inverse, p, m, u, near, -on_axis, half)
        far = sign * (way - best)
        if at(values, o, inverse, p[0] + far * x, p[1] + far * y, p[2] + far * z) >= 0.0:
            best = min(best, way + _ray(values, o, inverse, p, m, u, (near + RAYS // 2) % RAYS, -on_axis, best - way))
        n += 1
    return best


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
    along_mm = np.arange(4.0, 0.6 * chord_mm, 0.5)
    area = _sections(
        grid.values_mm, grid.origin_mm, grid.spacing_mm, axis.point_mm, axis.direction, across.medial, across.superior,
        along_mm, 15.0,
    )  # fmt: skip
    if not np.isfinite(area).any():
        return None
    return float(along_mm[area <= 1.02 * area.min()].mean())


def measure_walls(
    grid: DistanceGrid[Patient],
    axis: Line[Patient],
    isthmus_mm: float,
    across: Across,
    *,
    window_mm: tuple[float, float] = (-WINDOW_MM, WINDOW_MM),
    stations: int = STATIONS,
) -> Walls:
    """Walls around `axis` within a window about `isthmus_mm` (measured along the axis from its point)."""
    along_mm = isthmus_mm + np.linspace(*window_mm, stations)
    found = np.full(4, REACH_MM)
    inverse = 1.0 / grid.spacing_mm
    on_axis, width = _walls(
        grid.values_mm, grid.origin_mm, inverse, axis.point_mm, axis.direction, across.medial, across.superior,
        along_mm, found,
    )  # fmt: skip
    inside = on_axis < 0
    if inside.all():
        return Walls({name: float(v) for name, v in zip(WALLS, found, strict=True)}, float(width), 0.0)
    if not inside.any():
        found[:] = np.inf
    p, way, m, u = ((float(v[0]), float(v[1]), float(v[2])) for v in
                    (axis.point_mm, axis.direction, across.medial, across.superior))  # fmt: skip
    step = float(along_mm[1] - along_mm[0])
    first, turn, place = beyond(
        grid.values_mm, grid.origin_mm, inverse, p, way, m, u, float(along_mm[0]), step, on_axis
    )
    found = np.minimum(found, _from_outside(grid, axis.at(place).mm, across, -first, turn))
    walls = {name: float(v) for name, v in zip(WALLS, found, strict=True)}
    return Walls(walls, np.nan, float(on_axis.max()))


def _from_outside(grid: DistanceGrid[Patient], point: Array, across: Across, first: float, away_rad: float) -> Array:
    """Walls (4,) as seen from an axis point outside the bone, which is `first` mm away: negative on the side away from
    the bone.

    The other walls are measured from the middle of the bone behind the nearest wall, along each direction; none of
    them is further beyond than the one that the axis has left by.
    """
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    fan = np.cos(angles)[:, None] * across.medial + np.sin(angles)[:, None] * across.superior
    away = round(away_rad / (2 * np.pi) * RAYS) % RAYS
    toward = fan[(away + RAYS // 2) % RAYS]
    start = Points[Patient](point + (first + 0.05) * toward)
    thick = min(_trace(grid, start, toward[None])[0], REACH_MM)
    middle = Points[Patient](start.mm + 0.5 * thick * toward)
    reach = np.minimum(_trace(grid, middle, fan), REACH_MM)
    shift = (middle.mm - point) @ fan.T
    sector = sectors(RAYS)
    walls = np.array([max(float((shift + reach)[near].min()), 1e-6 - first) for near in sector])
    walls[sector[:, away]] = -first
    return walls


def _trace(grid: DistanceGrid[Patient], start: Points[Patient], ways: Array) -> Array:
    return np.atleast_1d(grid.trace(Points[Patient](np.broadcast_to(start.mm, ways.shape)), Directions[Patient](ways)))
