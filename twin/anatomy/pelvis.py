"""Landmarks of sacrum, hip bones and femora, measured on their surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import endplates, sections
from twin.anatomy.endplates import Endplate
from twin.anatomy.pedicles import Pedicle
from twin.anatomy.vertebral_frame import axes_from

HEAD_RADIUS_MM = (16.0, 33.0)
LEAST_HEAD_SHARE = 0.30  # of the sphere's area that the surface covers; a whole head covers about 0.65
S1_CONVERGENCE_RAD = np.radians(32.0)  # S1 screws converge 25 to 45 degrees (clinical fact sheet, 1.2)
S1_REACH_MM = 13.0  # the S1 pedicle is open to the ala: its section ends this far from its middle
ASIS_ABOVE_HEAD_MM = 25.0
S1_RISE_DEG = 40.0  # how far the S1 endplate looks forward when no L5 shows it


@dataclass(frozen=True, eq=False)
class Sphere:
    """A fitted femoral head: centre (3,), radius, spread of the surface about it (one sigma), share of the sphere
    covered.
    """

    centre_mm: Array
    radius_mm: float
    spread_mm: float
    share: float


def femoral_head(mesh: TriangleMesh[Patient], medial: Array) -> Sphere | None:
    """The head of a femur: the largest sphere its upper medial end fits; `medial` (3,) points to the other leg.
    None: not there.
    """
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(twice, axis=1)
    normals = twice / np.maximum(2 * area, 1e-12)[:, None]
    up = np.array([0.0, 0.0, 1.0])
    inner = middle @ (medial + 0.6 * up)
    centre = middle[inner > inner.max() - 3.0].mean(axis=0) - 22.0 * (medial + 0.6 * up) / np.linalg.norm(
        medial + 0.6 * up
    )
    radius = 24.0
    finest = max(0.8, 0.25 * float(np.sqrt(area.mean())))
    for sweep in range(25):
        d = middle - centre
        far = np.linalg.norm(d, axis=1)
        tolerance = max(finest, 6.0 * 0.85**sweep)
        shell = (np.abs(far - radius) < tolerance) & ((d * normals).sum(axis=1) > 0.92 * far)
        if shell.sum() < 30:
            return None
        p, w = middle[shell], area[shell]
        A = np.column_stack([2 * p, np.ones(len(p))])
        s, *_ = np.linalg.lstsq(A * w[:, None], (p**2).sum(axis=1) * w, rcond=None)
        centre = s[:3]
        radius = float(np.clip(np.sqrt(max(s[3] + centre @ centre, 1.0)), *HEAD_RADIUS_MM))
    off = np.linalg.norm(middle[shell] - centre, axis=1) - radius
    spread = float(np.sqrt((area[shell] * off**2).sum() / area[shell].sum()))
    share = float(area[shell].sum() / (4 * np.pi * radius**2))
    return Sphere(centre, radius, spread, share) if share > LEAST_HEAD_SHARE else None


def s1_endplate(mesh: TriangleMesh[Patient], l5_inferior: Endplate | None) -> Endplate | None:
    """The upper face of the sacrum: under L5's lower face, or (without L5) the highest face that looks up and
    forward.
    """
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    normals = mesh.face_normals
    if l5_inferior is not None:
        anterior = np.array([0.0, -1.0, 0.0])
        axes = axes_from(l5_inferior.normal, anterior)
        centre = l5_inferior.centre_mm
        half = (0.62 * l5_inferior.width_mm, 0.66 * l5_inferior.depth_mm)
    else:
        a = np.radians(S1_RISE_DEG)
        axes = axes_from(np.array([0.0, -np.sin(a), np.cos(a)]), np.array([0.0, -1.0, 0.0]))
        x0 = float(np.median(middle[:, 0]))
        face = (normals @ axes[:, 2] > 0.8) & (np.abs(middle[:, 0] - x0) < 16.0)
        if face.sum() < endplates.LEAST_TRIANGLES:
            return None
        height = middle[face] @ axes[:, 2]
        top = middle[face][height > np.percentile(height, 80.0)]
        centre = top.mean(axis=0)
        half = (30.0, 22.0)
    low = 35.0
    for _ in range(3):
        local = (middle - centre) @ axes
        chosen = (np.abs(local[:, 0]) < half[0]) & (np.abs(local[:, 1]) < half[1])
        chosen &= (local[:, 2] < 8.0) & (local[:, 2] > -low) & (normals @ axes[:, 2] > 0.7)
        if chosen.sum() < endplates.LEAST_TRIANGLES:
            return None
        plate = endplates.fit(mesh, centre - 40.0 * axes[:, 2], axes, 1.0, chosen)
        if plate is None:
            return None
        axes, centre, low = axes_from(plate.normal, axes[:, 1]), plate.centre_mm, 6.0
        half = (0.60 * plate.width_mm, 0.62 * plate.depth_mm)
    return plate


def promontory(mesh: TriangleMesh[Patient], plate: Endplate) -> Array | None:
    """The most anterior point of the sacrum's upper edge in its mid-plane."""
    axes = axes_from(plate.normal, np.array([0.0, -1.0, 0.0]))
    local = (mesh.vertices_mm - plate.centre_mm) @ axes
    edge = (np.abs(local[:, 0]) < 2.0) & (local[:, 2] > -8.0) & (local[:, 2] < 4.0)
    if not edge.any():
        return None
    return np.asarray(mesh.vertices_mm[edge][int(np.argmax(local[edge, 1]))])


def s1_pedicle(mesh: TriangleMesh[Patient], plate: Endplate, side: float) -> Pedicle | None:
    """The S1 pedicle on a side (+1 right, -1 left): between canal and ala, under the endplate, converging.

    Its neck is open to the ala, so the section is counted only as far as S1_REACH_MM, and the axis is the usual
    convergence in the endplate's plane: a corridor, not a fitted axis.
    """
    axes = axes_from(plate.normal, np.array([0.0, -1.0, 0.0]))
    axis = -side * np.sin(S1_CONVERGENCE_RAD) * axes[:, 0] + np.cos(S1_CONVERGENCE_RAD) * axes[:, 1]
    start = (
        plate.centre_mm
        + side * 0.48 * plate.width_mm * axes[:, 0]
        - 0.5 * plate.depth_mm * axes[:, 1]
        - 13.0 * axes[:, 2]
    )
    best: tuple[float, Array, float, float] | None = None
    for s in np.arange(-5.0, 5.1, 1.0):
        found = _capped_section(mesh, start + s * axis, axis, axes[:, 2])
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    if best is None:
        return None
    again = _capped_section(mesh, best[1], axis, axes[:, 2]) or best
    return Pedicle(again[1], axis, again[2], again[3], float("nan"))


def _capped_section(
    mesh: TriangleMesh[Patient], point: Array, axis: Array, up: Array
) -> tuple[float, Array, float, float] | None:
    """Area, centroid, width and height of the section around a point, counted no further than S1_REACH_MM."""
    across = np.cross(axis, up)
    across /= np.linalg.norm(across)
    high = np.cross(across, axis)
    outlines = sections.loops(mesh, point, axis)
    if not outlines:
        return None
    segments = np.concatenate([loop.segments_mm for loop in outlines]) - point
    s = np.stack([segments @ across, segments @ high], axis=-1)  # (K, 2, 2)
    angles = np.linspace(0.0, 2 * np.pi, 120, endpoint=False)
    ways = np.column_stack([np.cos(angles), np.sin(angles)])
    start, run = s[:, 0], s[:, 1] - s[:, 0]
    reach = np.full(len(angles), S1_REACH_MM)
    for n, way in enumerate(ways):
        det = way[0] * -run[:, 1] + way[1] * run[:, 0]
        safe = np.where(np.abs(det) < 1e-12, 1.0, det)
        t = (-start[:, 0] * run[:, 1] + start[:, 1] * run[:, 0]) / safe
        u = (way[0] * start[:, 1] - way[1] * start[:, 0]) / safe
        hit = t[(np.abs(det) >= 1e-12) & (u >= 0) & (u <= 1) & (t > 0)]
        if len(hit):
            reach[n] = min(S1_REACH_MM, float(hit.min()))
    p = ways * reach[:, None]
    q = np.roll(p, -1, axis=0)
    cross = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    area = 0.5 * float(cross.sum())
    if area < 20.0:
        return None
    centre = ((p + q) * cross[:, None]).sum(axis=0) / (6 * area)
    return area, point + centre[0] * across + centre[1] * high, float(np.ptp(p[:, 0])), float(np.ptp(p[:, 1]))


def asis(mesh: TriangleMesh[Patient], head_z_mm: float | None) -> Array:
    """The anterior superior iliac spine: the most anterior point of the wing, well above the hip joint."""
    z = mesh.vertices_mm[:, 2]
    floor = z.min() + 0.55 * (z.max() - z.min()) if head_z_mm is None else head_z_mm + ASIS_ABOVE_HEAD_MM
    wing = mesh.vertices_mm[z > floor]
    return np.asarray(wing[int(np.argmin(wing[:, 1]))])
