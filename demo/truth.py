"""What the demo's results are held against: the phantom's analytic anatomy, measured by code of its own.

Nothing of twin/plan's grading, of the distance grids or of Painter is used here: a mistake there can't hide in the
check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.plan.screws.screw import Screw
from twin.scan.phantom.patient import Phantom

ISTHMUS_REACH_MM = 6.0
GRADES = ((2.0, "B"), (4.0, "C"), (6.0, "D"))


@dataclass(frozen=True)
class SurfaceError:
    """Distances (mm) between the twin's mesh and the analytic surface, both ways."""

    mean_mm: float
    p95_mm: float
    max_mm: float


def dense_samples(mesh: TriangleMesh[Any], count: int, rng: np.random.Generator) -> Array:
    """Points (count, 3) spread evenly over a mesh."""
    v, t = mesh.vertices_mm, mesh.triangles
    a, b, c = v[t[:, 0]], v[t[:, 1]], v[t[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(t), count, p=area / area.sum())
    u, w = rng.random((2, count))
    flip = u + w > 1
    u[flip], w[flip] = 1 - u[flip], 1 - w[flip]
    return np.asarray(a[chosen] + u[:, None] * (b - a)[chosen] + w[:, None] * (c - a)[chosen])


def surface_error(phantom: Phantom, bone: str, mesh: TriangleMesh[Any], count: int = 3000) -> SurfaceError:
    """Symmetric error: samples of the mesh to the true surface, and samples of the true surface to the mesh.

    The second way measures to a dense sampling of the mesh, corrected by the tangent plane of the nearest sample, which
    is exact to the sampling's curvature term (below 0.01 mm at 40 samples a square millimetre).
    """
    rng = np.random.default_rng(0)
    to_truth = np.abs(phantom.distance_mm(bone, dense_samples(mesh, count, rng)))
    true_surface = phantom.surface(bone).closest(dense_samples(mesh, count, rng) + rng.normal(0, 1.5, (count, 3)))
    v, t, n = mesh.vertices_mm, mesh.triangles, mesh.face_normals
    centres, normals = v[t].mean(axis=1), n
    _, nearest = cKDTree(centres).query(true_surface)
    offset = true_surface - centres[nearest]
    along = np.einsum("ij,ij->i", offset, normals[nearest])
    reach = np.sqrt(np.linalg.norm(np.cross(v[t[:, 1]] - v[t[:, 0]], v[t[:, 2]] - v[t[:, 0]]), axis=1)[nearest])
    sideways = np.linalg.norm(offset - along[:, None] * normals[nearest], axis=1)
    to_mesh = np.hypot(along, np.maximum(sideways - reach, 0.0))
    both = np.concatenate([to_truth, to_mesh])
    return SurfaceError(float(both.mean()), float(np.quantile(both, 0.95)), float(both.max()))


def true_grade(phantom: Phantom, truth: Mapping[str, Any], screw: Screw) -> dict[str, Any]:
    """Gertzbein-Robbins grade of a planned screw in the analytic bone: rays from the axis to the true outer cortex."""
    centre, direction = true_pedicle(truth, screw.bone, screw.side)
    entry, tip = screw.entry.mm, screw.tip.mm
    axis = (tip - entry) / np.linalg.norm(tip - entry)
    along = float((centre - entry) @ axis)
    stations = entry + (along + np.linspace(-ISTHMUS_REACH_MM, ISTHMUS_REACH_MM, 25))[:, None] * axis
    side = np.cross(axis, direction if abs(axis @ direction) < 0.9 else np.eye(3)[2])
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    rays = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    origins, directions = np.repeat(stations, len(rays), axis=0), np.tile(rays, (len(stations), 1))
    walls = phantom.crossings(screw.bone, origins, directions).reshape(len(stations), len(rays))
    outside = np.maximum(phantom.distance_mm(screw.bone, stations), 0.0)  # the axis itself may have left the bone
    margin = np.where(outside[:, None] > 0, -outside[:, None], walls) - screw.diameter_mm / 2
    smallest = float(margin.min())
    breach = max(0.0, -smallest)
    grade = "A" if breach == 0.0 else next((letter for limit, letter in GRADES if breach < limit), "E")
    return {"grade": grade, "breach_mm": breach, "margin_mm": smallest}


def true_pedicle(truth: Mapping[str, Any], bone: str, side: str) -> tuple[Array, Array]:
    """Isthmus centre and anterior axis from truth.json."""
    for pedicle in truth["pedicles"]:
        if pedicle["bone"] == bone and pedicle["side"] == side:
            return np.asarray(pedicle["isthmus_mm"]), np.asarray(pedicle["direction"])
    raise KeyError(f"{bone} {side}")


def lordosis_deg(superior_normal: Array, sacral_normal: Array, right: Array) -> float:
    """L1-S1 lordosis, positive: from the sacral to the superior endplate normal (cranial both), turning backward.

    Measured in the plane across the left-right axis; `right` (3,) points to the patient's right.
    """
    right = right / np.linalg.norm(right)
    flat = [n - (n @ right) * right for n in (superior_normal, sacral_normal)]
    a, b = (n / np.linalg.norm(n) for n in flat)
    return float(np.degrees(np.arctan2(np.cross(b, a) @ right, a @ b)))


def landmark_errors(twin: Twin, truth: list[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Position (mm) and direction (deg) error of every landmark that both know, by `bone name`."""
    found: dict[tuple[str, str], Landmark] = {(m.bone, m.name): m for m in twin.landmarks}
    errors = {}
    for entry in truth:
        mine = found.get((entry["bone"], entry["name"]))
        if mine is None:
            continue
        error = {"position_mm": float(np.linalg.norm(mine.position.mm - np.asarray(entry["position_mm"])))}
        if mine.direction is not None and entry.get("direction") is not None:
            cosine = float(np.clip(mine.direction.unit @ np.asarray(entry["direction"]), -1, 1))
            error["direction_deg"] = float(np.degrees(np.arccos(cosine)))
        errors[f"{entry['bone']} {entry['name']}"] = error
    return errors


def outline_distance_px(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Median, mean and 95 % distance (px) between the outlines of two silhouettes, both ways.

    Both are pixel outlines, so a single distance is coarse (0, 0.5, 0.7, 1 ...); the mean over thousands is not.
    Outlines at the picture's border belong to the crop, not to the bone, and don't count.
    """
    a, b = _outline(mask), _outline(truth)
    if not len(a) or not len(b):
        return float("nan"), float("nan"), float("nan")
    there, _ = cKDTree(b).query(a)
    back, _ = cKDTree(a).query(b)
    both = np.concatenate([there, back])
    return float(np.median(both)), float(both.mean()), float(np.quantile(both, 0.95))


def _outline(mask: NDArray[np.bool_]) -> Array:
    """Points midway between a pixel inside and its neighbour outside, (N, 2) px."""
    points = []
    for axis in (0, 1):
        step = np.diff(mask.astype(np.int8), axis=axis)
        rows, columns = np.nonzero(step)
        shift = np.array([0.5, 0.0]) if axis == 0 else np.array([0.0, 0.5])
        points.append(np.c_[rows, columns] + shift)
    outline = np.concatenate(points)
    h, w = mask.shape
    inside = (outline > 3).all(axis=1) & (outline[:, 0] < h - 4) & (outline[:, 1] < w - 4)
    return np.asarray(outline[inside])
