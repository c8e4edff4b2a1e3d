"""Facet joints: where two neighbouring vertebrae face each other behind the canal, across a few millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.vertebral_frame import VertebralFrame

GAP_MM = 4.0  # between the two bones' faces; a joint space is 1 to 2 mm, cartilage of both sides included
OPPOSED = -0.6  # cosine between the two faces' normals
NEAR_MM = 60.0  # of the upper canal's middle
LEAST_MM2 = 15.0


@dataclass(frozen=True, eq=False)
class Face:
    """One bone's side of the joint: area-weighted centre (3,), mean outward normal (3,), area, standard error of the
    centre (one sigma a coordinate), mm.
    """

    centre_mm: Array
    normal: Array
    area_mm2: float
    spread_mm: float


def joint(
    upper: TriangleMesh[Patient], lower: TriangleMesh[Patient], frame: VertebralFrame, side: float
) -> tuple[Face, Face] | str:
    """The inferior facet of `upper` and the superior facet of `lower` on a side (+1 right, -1 left); else the reason.

    `frame`: the upper vertebra's. A face is what looks at the other bone from no more than GAP_MM.
    """
    parts = [_behind(mesh, frame, side) for mesh in (upper, lower)]
    if any(len(part[0]) < 4 for part in parts):
        return "one of the bones has nothing there"
    (p, n, a), (q, m, b) = parts
    faces = []
    for (mine, normals, areas), (theirs, others, _) in (((p, n, a), (q, m, b)), ((q, m, b), (p, n, a))):
        gap, index = cKDTree(theirs).query(mine, distance_upper_bound=GAP_MM)
        seen = np.isfinite(gap)
        near = np.where(seen, index, 0)
        seen &= (normals * others[near]).sum(axis=1) < OPPOSED
        seen &= ((theirs[near] - mine) * normals).sum(axis=1) > -0.5  # it lies in front of the face, not behind it
        area = float(areas[seen].sum())
        if area < LEAST_MM2:
            return "the bones do not face each other there; fused, removed, or far apart"
        weight = areas[seen] / area
        centre = weight @ mine[seen]
        spread = float(np.sqrt((weight[:, None] * (mine[seen] - centre) ** 2).sum() / 3.0))
        normal = weight @ normals[seen]
        faces.append(Face(centre, normal / np.linalg.norm(normal), area, spread / max(1.0, np.sqrt(seen.sum()))))
    return faces[0], faces[1]


def _behind(mesh: TriangleMesh[Patient], frame: VertebralFrame, side: float) -> tuple[Array, Array, Array]:
    """Middles, outward normals and areas of the triangles on one side, behind the canal's front wall."""
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    local = frame.local(middle)
    there = (local[:, 1] < frame.foramen_front_mm - 2.0) & (side * (local[:, 0] - frame.foramen_x_mm) > 2.0)
    there &= np.linalg.norm(local, axis=1) < NEAR_MM
    corners, middle = corners[there], middle[there]
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.maximum(np.linalg.norm(twice, axis=1), 1e-12)
    return middle, twice / size[:, None], 0.5 * size
