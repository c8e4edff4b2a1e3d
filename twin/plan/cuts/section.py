"""What of a bone a plane meets: its outlines, area, and how far it is from a place to the cortex."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from spatial.shapes import Line, Plane
from twin.plan.cuts.cut import is_inside, outlines, twice_area


@dataclass(frozen=True, eq=False)
class Section:
    """Closed outlines (N, 2) mm in the plane's axes (3, 2); bone lies to the left of each."""

    plane: Plane[Patient]
    rings: tuple[Array, ...]
    axes: Array

    @classmethod
    def of(cls, mesh: TriangleMesh[Patient], plane: Plane[Patient], near_mm: Array | None = None) -> Section:
        """The section of a bone; with `near_mm` only the part that this place (3,) lies in or next to."""
        rings, axes = outlines(mesh, plane)
        found = cls(plane, tuple(rings), axes)
        return found if near_mm is None or len(rings) < 2 else found._part_at(near_mm)

    @cached_property
    def area_mm2(self) -> float:
        """Area of bone."""
        return sum(twice_area(ring) for ring in self.rings) / 2

    @cached_property
    def centroid_mm(self) -> Array:
        """Middle of the area, Patient (3,); the plane's point where it meets no bone."""
        total, moment = 0.0, np.zeros(2)
        for ring in self.rings:
            after = np.roll(ring, -1, axis=0)
            cross = ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]
            total += float(cross.sum())
            moment += ((ring + after) * cross[:, None]).sum(axis=0)
        return self.at(moment / (3.0 * total)) if total > 0 else self.plane.point_mm

    def at(self, flat: Array) -> Array:
        """Places (..., 2) of the plane in Patient (..., 3)."""
        return np.asarray(self.plane.point_mm + flat @ self.axes.T)

    def flat(self, points_mm: Array) -> Array:
        """Feet (..., 2) of Patient places on the plane."""
        return np.asarray((points_mm - self.plane.point_mm) @ self.axes)

    def crossings_mm(self, start_mm: Array, way: Array) -> Array:
        """How far (K,) from a place along a direction (of the plane) each outline is crossed, ascending, either way."""
        start, along = self.flat(start_mm), way @ self.axes
        along = along / np.linalg.norm(along)
        aside = np.array([-along[1], along[0]])
        found = []
        for ring in self.rings:
            local = ring - start
            off, run = local @ aside, local @ along
            off_next, run_next = np.roll(off, -1), np.roll(run, -1)
            hit = (off > 0) != (off_next > 0)
            t = off[hit] / (off[hit] - off_next[hit])
            found.append(run[hit] + t * (run_next[hit] - run[hit]))
        return np.sort(np.concatenate(found)) if found else np.zeros(0)

    def reach_mm(self, start_mm: Array, way: Array) -> float:
        """From a place to the far cortex along a direction: the last crossing; 0 where there is none ahead."""
        ahead = self.crossings_mm(start_mm, way)
        ahead = ahead[ahead > 0]
        return float(ahead[-1]) if len(ahead) else 0.0

    def chord_mm(self, line: Line[Patient]) -> tuple[float, float] | None:
        """Where a line in the plane enters and leaves bone, along it; None when it misses."""
        found = self.crossings_mm(line.point_mm, line.direction)
        return (float(found[0]), float(found[-1])) if len(found) > 1 else None

    def opening_ml(self, hinge: Line[Patient], out: Array, angle_rad: float) -> float:
        """The room that opens over the bone on one side of a hinge in the plane (Pappus): angle times first moment."""
        moment = 0.0
        for ring in self.rings:
            local = self.at(ring) - hinge.point_mm
            side = _kept(np.column_stack([local @ out, local @ hinge.direction]))
            if len(side) > 2:
                after = np.roll(side, -1, axis=0)
                cross = side[:, 0] * after[:, 1] - after[:, 0] * side[:, 1]
                turn = 1.0 if float(np.cross(out, hinge.direction) @ self.plane.normal) > 0 else -1.0
                moment += turn * float(((side[:, 0] + after[:, 0]) * cross).sum()) / 6.0
        return moment * angle_rad / 1000.0

    def extent_mm(self, way: Array) -> tuple[float, float]:
        """Lowest and highest place of the bone along a direction, from the plane's point."""
        along = way @ self.axes
        runs = np.concatenate([ring @ along for ring in self.rings]) if self.rings else np.zeros(1)
        return float(runs.min()), float(runs.max())

    def _part_at(self, near_mm: Array) -> Section:
        place = self.flat(near_mm)
        outer = [ring for ring in self.rings if twice_area(ring) > 0]
        if not outer:
            return self
        gap = [0.0 if is_inside(place, ring) else float(np.linalg.norm(ring - place, axis=1).min()) for ring in outer]
        own = outer[int(np.argmin(gap))]
        holes = [ring for ring in self.rings if twice_area(ring) <= 0 and is_inside(ring[0], own)]
        return Section(self.plane, (own, *holes), self.axes)


def _kept(ring: Array) -> Array:
    """The part of an outline (N, 2) with a first coordinate above zero."""
    after = np.roll(ring, -1, axis=0)
    found = []
    for a, b in zip(ring, after, strict=True):
        if a[0] > 0:
            found.append(a)
        if (a[0] > 0) != (b[0] > 0):
            found.append(a + a[0] / (a[0] - b[0]) * (b - a))
    return np.array(found).reshape(-1, 2)
