"""What several rooms measure on: the phantom's spine from its analytic surfaces, screws in it, one scanned vertebra."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points
from tests.twin.plan.phantom_twin import phantom, phantom_twin
from twin.anatomy.twin import Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.plan import Plan
from twin.plan.screws.grade import entry_on_bone
from twin.plan.screws.screw import Screw
from twin.scan.phantom.voxels import LABELS, scan_grid, synthesise
from twin.scan.volume import Grid, LabelMap, Volume

BONE = "vertebrae_L3"


@cache
def twin() -> Twin:
    """L1 to sacrum, 50 to 180 thousand triangles a bone."""
    return phantom_twin()


@cache
def plan() -> Plan:
    """Screws along the pedicles of L2 and L4, a wedge of 25 degrees in L3."""
    screws = {}
    for level in ("L2", "L4"):
        for side in ("left", "right"):
            bone = f"vertebrae_{level}"
            isthmus = twin().landmark(f"pedicle_{side}", bone, side)
            assert isthmus.direction is not None
            grid = DistanceGrid[Patient].of(twin().bone(bone).surface)
            entry = entry_on_bone(grid, isthmus.position, isthmus.direction)
            target = Points[Patient](entry.mm + 45.0 * isthmus.direction.unit)
            screws[f"{level}-{side}"] = Screw(f"{level}-{side}", bone, side, entry, target, 6.0, 45.0)
    cut = Osteotomy.pso(twin(), BONE, math.radians(25.0))
    return Plan("bench", twin().twin_id, screws, {cut.id: cut})


def as_open3d(mesh: TriangleMesh[Any]) -> Any:
    """The mesh as Open3D has it; it wants writable arrays."""
    points, faces = np.array(mesh.vertices_mm), np.array(mesh.triangles)
    return o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(points), o3d.utility.Vector3iVector(faces))


@dataclass(frozen=True, eq=False)
class Scanned:
    """One vertebra in its CT: voxels, labels, and how far points lie from its true surface (mm, unsigned)."""

    volume: Volume
    labels: LabelMap

    def error_mm(self, points_mm: NDArray[np.float64], most: int = 20_000) -> NDArray[np.float64]:
        """Distance of (a sample of) points to the analytic surface."""
        step = max(1, len(points_mm) // most)
        return np.asarray(np.abs(phantom().distance_mm(BONE, points_mm[::step])))


@cache
def scanned() -> Scanned:
    """L3 with 15 mm around it, 0.5 mm pixels, 0.8 mm slices, the scanner's blur, 20 HU noise."""
    n = phantom().index(BONE)
    box = (phantom().bones.low_mm[n] - 15.0, phantom().bones.high_mm[n] + 15.0)
    scan = synthesise(phantom(), scan_grid(phantom(), slice_mm=0.8, pixel_mm=0.5, box_mm=box))
    grid = Grid(scan.grid.size, np.array([0.5, 0.5, 0.8]), scan.grid.origin_mm, np.eye(3))
    names = {number: name for name, number in LABELS.items() if (scan.labels == number).any()}
    return Scanned(Volume(grid, scan.hu), LabelMap(grid, scan.labels, names))
