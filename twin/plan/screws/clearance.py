"""How near an implant comes to what lies beside the bones: canal, cord, vessels, a tumour.

Measured over the screw's whole outer surface, from entry to tip, not only in the pedicle. A structure's own spread is
that of the surfaces it was made from; for one that came as a label map it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from spatial.compiled import njit
from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array, Points
from spatial.shapes import Plane
from twin.anatomy.structure import Role, Structure
from twin.anatomy.twin import Twin
from twin.plan.screws.screw import Screw

STATION_MM = 0.5
AROUND = 24
SURE_MM = 5.0  # the grid knows distances up to 6 mm; farther away the nearest of points all over the surface will do
SPACING_MM = 1.5  # of those points: 0.1 mm too far at most
THIN_MM = 0.8
BESIDE_MM = 10.0  # a cut is bounded by its bone and this much around it


@dataclass(frozen=True)
class Clearance:
    """Distance from a screw's surface to a structure's; negative: inside it. `sd_mm` None: not known."""

    structure: str
    role: Role
    distance_mm: float
    sd_mm: float | None

    def to_json(self) -> dict[str, Any]:
        """As the plan's commands print it."""
        return {
            "name": self.structure,
            "role": self.role,
            "distance_mm": round(self.distance_mm, 3),
            "sd_mm": None if self.sd_mm is None else round(self.sd_mm, 3),
        }


def clearances(twin: Twin, screw: Screw) -> tuple[Clearance, ...]:
    """To each critical and target structure of the twin, the nearest first; context is only for the eye."""
    every = _surface_mm(screw)
    found = [
        Clearance(s.name, s.role, _to_screw_mm(s, screw, every), _spread_mm(twin, s))
        for s in twin.structures.values()
        if s.role != "context"
    ]
    return tuple(sorted(found, key=lambda c: (c.distance_mm, c.structure)))


def nearest_critical(found: Sequence[Clearance]) -> Clearance | None:
    """The critical structure that leaves least room; None without any."""
    return min((c for c in found if c.role == "critical"), key=lambda c: c.distance_mm, default=None)


def crossed(twin: Twin, bone: str, planes: Sequence[Plane[Patient]]) -> tuple[Structure, ...]:
    """Critical and target structures that a bone's cut planes pass through, within 10 mm of the bone."""
    low, high = twin.bone(bone).surface.bounds_mm
    found = []
    for structure in twin.structures.values():
        if structure.role == "context":
            continue
        cuts = [structure.surface.section(plane).reshape(-1, 3) for plane in planes]
        at = np.concatenate(cuts) if cuts else np.zeros((0, 3))
        if len(at) and ((at > low - BESIDE_MM) & (at < high + BESIDE_MM)).all(axis=1).any():
            found.append(structure)
    return tuple(found)


def _to_screw_mm(structure: Structure, screw: Screw, every: Array) -> float:
    """The smallest signed distance of a screw's surface, and of points (N, 3) all over and in it, to a structure's."""
    least = float(DistanceGrid[Patient].of(structure.surface).distance_mm(Points[Patient](every)).min())
    if least <= SURE_MM:
        return least
    axis = screw.axis
    points = _thinned(structure.surface)
    return points_to_cylinder_mm(points, axis.point_mm, axis.direction, screw.length_mm, screw.diameter_mm / 2.0)


@njit
def points_to_cylinder_mm(points: Array, base: Array, way: Array, length_mm: float, radius_mm: float) -> float:
    """The smallest signed distance of points (N, 3) to a solid cylinder that begins at `base`."""
    best = 1e30
    for n in range(len(points)):
        x, y, z = points[n, 0] - base[0], points[n, 1] - base[1], points[n, 2] - base[2]
        s = x * way[0] + y * way[1] + z * way[2]
        aside = np.sqrt(max(x * x + y * y + z * z - s * s, 0.0)) - radius_mm
        ahead = abs(s - 0.5 * length_mm) - 0.5 * length_mm
        out_aside, out_ahead = max(aside, 0.0), max(ahead, 0.0)
        best = min(best, np.sqrt(out_aside * out_aside + out_ahead * out_ahead) + min(max(aside, ahead), 0.0))
    return float(best)


def _thinned(mesh: TriangleMesh[Patient]) -> Array:
    """Points (N, 3) all over a surface, one a cell of THIN_MM."""
    points = _THIN.get(mesh)
    if points is None:
        every = _spread_over(mesh)
        _, first = np.unique(np.floor(every / THIN_MM).astype(np.int64), axis=0, return_index=True)
        points = _THIN[mesh] = np.ascontiguousarray(every[np.sort(first)])
    return points


def _surface_mm(screw: Screw) -> Array:
    """Points (N, 3) over the screw's cylinder and along its axis: a thin structure may lie within the screw."""
    axis = screw.axis
    along = np.linspace(0.0, screw.length_mm, max(2, int(np.ceil(screw.length_mm / STATION_MM)) + 1))
    aside = np.cross(axis.direction, np.eye(3)[int(np.argmin(np.abs(axis.direction)))])
    aside /= np.linalg.norm(aside)
    angle = 2.0 * np.pi * np.arange(AROUND) / AROUND
    ring = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * np.cross(axis.direction, aside)
    middle = axis.point_mm + along[:, None] * axis.direction
    return np.vstack([(middle[:, None] + screw.diameter_mm / 2.0 * ring).reshape(-1, 3), middle])


def _spread_mm(twin: Twin, structure: Structure) -> float | None:
    """A structure that was measured on the bones is as sure as they are."""
    return twin.surface_sd_mm if structure.is_measured else None


def _spread_over(mesh: TriangleMesh[Patient]) -> Array:
    """Points (N, 3) all over a surface, no further apart than SPACING_MM."""
    corners = mesh.vertices_mm[mesh.triangles]
    edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    parts = np.maximum(1, np.ceil(edge / SPACING_MM)).astype(int)
    found = [mesh.vertices_mm]
    for n in np.unique(parts[parts > 1]):
        i, j = (v.ravel() for v in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
        i, j = i[i + j <= n], j[i + j <= n]
        weights = np.column_stack([i, j, n - i - j]) / n
        found.append(np.einsum("wc,tcx->twx", weights, corners[parts == n]).reshape(-1, 3))
    return np.concatenate(found)


_THIN: WeakKeyDictionary[TriangleMesh[Any], Array] = WeakKeyDictionary()
