"""The safe corridor of a pedicle as a volume: every place that some safe screw may take, with its size in numbers.

Safe is an axis that keeps the margin between the thread and every wall within 6 mm of the isthmus, and between the
thread and any surface or critical structure on from there to the tip. All axes of a lattice around the pedicle's own
are tried, then all of a finer one over what was found; the corridor is the union of the screws along the safe ones, cut
square at the entries and tips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, QhullError

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Directions, Points
from twin.anatomy.bone import Side
from twin.anatomy.marching import contour
from twin.anatomy.twin import NoLandmark, Twin
from twin.plan.auto.autoplan import DIAMETERS_MM, LENGTHS_MM, Refusal, fitted, keep_mm, pedicle_of
from twin.plan.auto.corridor import BACK_MM, WINDOW_MM
from twin.plan.auto.pedicle import Pedicle

SHIFT_MM, TURN_RAD = 8.0, np.radians(30.0)  # the farthest axes that are tried
SHIFTS, TURNS = 21, 19  # steps of the lattice, of the first one over all of that, then of one over what it found
CELL_MM = 0.25  # of the sections that the union is drawn on
STEP_MM = 0.5  # of the surface


@dataclass(frozen=True, eq=False)
class SafeCorridor:
    """All safe axes for one screw size. `axes` (N, 4): shifts (mm) and turns (rad) from the pedicle's own axis.

    `entry_area_mm2`: of the convex hull of the entries, seen along the best axis. `cone_deg`: how far a safe axis
    leans from the best one each way. `is_clipped`: the lattice ended before the corridor did (in wide bones), so that
    both are lower bounds. `surface` is None when no axis is safe.
    """

    bone: str
    side: Side
    diameter_mm: float
    length_mm: float
    margin_mm: float
    axes: Array
    entries: Points[Patient]
    entry_area_mm2: float
    cone_deg: dict[str, float]
    is_clipped: bool
    surface: TriangleMesh[Patient] | None

    def to_json(self) -> dict[str, Any]:
        """As `osteotwin plan corridor` prints it."""
        return {
            "bone": self.bone,
            "side": self.side,
            "diameter_mm": self.diameter_mm,
            "length_mm": self.length_mm,
            "margin_mm": self.margin_mm,
            "safe_axes": len(self.axes),
            "tried_axes": 2 * SHIFTS**2 * TURNS**2,
            "entry_area_mm2": self.entry_area_mm2,
            "cone_deg": self.cone_deg,
            "volume_ml": 0.0 if self.surface is None else self.surface.volume_ml,
            "is_clipped": self.is_clipped,
        }


def corridor_surface(twin: Twin, bone: str, side: Side, diameter_mm: float | None = None) -> TriangleMesh[Patient]:
    """The closed surface of the safe corridor, to be drawn; without triangles when no axis is safe.

    Raises NoBone, NoLandmark.
    """
    found = safe_corridor(twin, bone, side, diameter_mm).surface
    return TriangleMesh[Patient](np.zeros((0, 3)), np.zeros((0, 3), np.int32)) if found is None else found


def safe_corridor(
    twin: Twin,
    bone: str,
    side: Side,
    diameter_mm: float | None = None,
    length_mm: float | None = None,
    margin_mm: float | None = None,
) -> SafeCorridor:
    """The corridor of a pedicle. Diameter and length: the automatic proposal's (else the smallest of the set); margin:
    the least margin with the scan's own spread. Raises NoBone, NoLandmark.
    """
    pedicle = pedicle_of(twin, bone, side)
    if isinstance(pedicle, Refusal):
        raise NoLandmark(pedicle.reason)
    best, proposed = fitted(twin, pedicle)
    diameter = diameter_mm or (DIAMETERS_MM[0] if isinstance(proposed, Refusal) else proposed.screw.diameter_mm)
    length = length_mm or (LENGTHS_MM[0] if isinstance(proposed, Refusal) else proposed.screw.length_mm)
    margin = keep_mm(twin) if margin_mm is None else margin_mm
    least = diameter / 2 + margin
    back = float(_behind_mm(pedicle, best[None])[0])
    depth = max(length - back, WINDOW_MM)
    axes, clipped = np.zeros((0, 4)), False
    low, high = (sign * np.array([SHIFT_MM, SHIFT_MM, TURN_RAD, TURN_RAD]) for sign in (-1.0, 1.0))
    for _ in range(2):
        steps = [np.linspace(a, b, n) for a, b, n in zip(low, high, (SHIFTS, SHIFTS, TURNS, TURNS), strict=True)]
        axes, _room = pedicle.lattice(steps, depth, least)
        step = (high - low) / (np.array([SHIFTS, SHIFTS, TURNS, TURNS]) - 1)
        near = axes if len(axes) else best[None]
        clipped = clipped or bool(((axes <= low + 1e-9) | (axes >= high - 1e-9)).any())
        low, high = near.min(axis=0) - step, near.max(axis=0) + step
    behind = _behind_mm(pedicle, axes)
    clear = _clear(twin, pedicle, axes, behind, length, least) & np.isfinite(behind)
    axes, behind = axes[clear], behind[clear]
    points, ways = _lines(pedicle, axes)
    entries = points - behind[:, None] * ways
    return SafeCorridor(
        bone, side, diameter, length, margin, axes, Points[Patient](entries), _hull_mm2(pedicle, entries, best),
        _cone_deg(axes, best), clipped,
        _union(pedicle, axes, behind, ways, diameter / 2, length) if len(axes) else None,
    )  # fmt: skip


def _lines(pedicle: Pedicle, axes: Array) -> tuple[Array, Array]:
    """Points (N, 3) at the isthmus and unit directions (N, 3) of axes (N, 4)."""
    medial, superior = pedicle.across.medial, pedicle.across.superior
    points = pedicle.isthmus_mm + axes[:, :1] * medial + axes[:, 1:2] * superior
    ways = pedicle.direction + np.tan(axes[:, 2:3]) * medial + np.tan(axes[:, 3:4]) * superior
    return points, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def _behind_mm(pedicle: Pedicle, axes: Array) -> Array:
    """How far (N,) behind the isthmus each axis enters the bone."""
    points, ways = _lines(pedicle, axes)
    return np.atleast_1d(pedicle.grid.trace(Points[Patient](points), Directions[Patient](-ways), max_mm=BACK_MM))


def _clear(twin: Twin, pedicle: Pedicle, axes: Array, behind: Array, length: float, least: float) -> Array:
    """Which axes keep the margin to every critical structure from entry to tip, and at the tip to the bone (N,)."""
    points, ways = _lines(pedicle, axes)
    behind = np.where(np.isfinite(behind), behind, BACK_MM)
    tips = points + (length - behind)[:, None] * ways
    clear = np.atleast_1d(pedicle.grid.distance_mm(Points[Patient](tips))) <= -least if len(axes) else np.ones(0, bool)
    part = np.linspace(0.0, 1.0, 24)
    for structure in twin.structures.values():
        if structure.role == "critical" and len(axes):
            along = (part * length - behind[:, None])[..., None]
            stations = points[:, None] + along * ways[:, None]
            near = DistanceGrid[Patient].of(structure.surface).distance_mm(Points[Patient](stations))
            clear &= near.min(axis=1) >= least
    return np.asarray(clear)


def _hull_mm2(pedicle: Pedicle, entries: Array, best: Array) -> float:
    """The area of the entries' convex hull, seen along the best axis."""
    way = pedicle.axis(best).direction
    side = np.cross(way, pedicle.across.superior)
    side /= np.linalg.norm(side)
    seen = entries @ np.column_stack([side, np.cross(side, way)])
    if len(seen) < 3:
        return 0.0
    try:
        return float(ConvexHull(seen).volume)  # of points in a plane the volume is the area
    except QhullError:  # all on one line
        return 0.0


def _cone_deg(axes: Array, best: Array) -> dict[str, float]:
    """How far the safe axes lean from the best one, each way."""
    if not len(axes):
        return dict.fromkeys(("medial", "lateral", "cranial", "caudal"), 0.0)
    lean = np.degrees(axes[:, 2:] - best[2:])
    low, high = np.minimum(lean.min(axis=0), 0.0), np.maximum(lean.max(axis=0), 0.0)
    return {"medial": float(high[0]), "lateral": -float(low[0]), "cranial": float(high[1]), "caudal": -float(low[1])}


def _union(
    pedicle: Pedicle, axes: Array, behind: Array, ways: Array, radius: float, length: float
) -> TriangleMesh[Patient]:
    """The screws along all axes as one closed surface: sections across the pedicle's own axis, every STEP_MM.

    Axes cross a section at places linear in its distance, so a section is those places' distance transform.
    """
    upright = ways @ pedicle.direction
    first, last = -behind * upright, (length - behind) * upright  # of each screw, along the pedicle's own axis
    slope = np.tan(axes[:, 2:])
    stations = np.arange(float(first.min()), float(last.max()), STEP_MM)
    ends = np.concatenate([axes[:, :2] + s[:, None] * slope for s in (first, last)])
    low, high = ends.min(axis=0) - radius - 4 * CELL_MM, ends.max(axis=0) + radius + 4 * CELL_MM
    size = np.ceil((high - low) / CELL_MM).astype(int) + 1
    every = round(STEP_MM / CELL_MM)
    sections = [np.full(tuple((size + every - 1) // every), -1.0, np.float32)]
    for s in stations:
        at = axes[:, :2] + s * slope
        here = (first <= s + STEP_MM / 2) & (s - STEP_MM / 2 <= last)
        empty = np.ones(tuple(size), bool)
        index = np.rint((at[here] - low) / CELL_MM).astype(int)
        empty[index[:, 0], index[:, 1]] = False
        away = distance_transform_edt(empty) * CELL_MM if here.any() else np.full(tuple(size), radius + 1.0)
        sections.append((radius - away[::every, ::every]).astype(np.float32))
    sections.append(sections[0])
    field = np.ascontiguousarray(np.pad(np.stack(sections), ((0, 0), (1, 1), (1, 1)), constant_values=-1.0))
    index, triangles = contour(field.transpose(0, 2, 1).copy(), 0.0)  # (station, superior, medial): x is medial
    place = np.column_stack([low + (index[:, :2] - 1.0) * STEP_MM, stations[0] + (index[:, 2] - 1.0) * STEP_MM])
    base = np.stack([pedicle.across.medial, pedicle.across.superior, pedicle.direction])
    mesh = TriangleMesh[Patient](pedicle.isthmus_mm + place @ base, triangles)
    return mesh if mesh.volume_ml > 0 else TriangleMesh[Patient](mesh.vertices_mm, triangles[:, ::-1])
