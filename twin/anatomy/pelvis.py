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
S1_RISE = 0.05
S1_MOST_MM = (54.0, 38.0)  # width and depth of the endplate, where no L5 tells them
EDGE_MM = 3.0  # about the mid-plane
BACK_REACH_MM = 5.0  # beyond the endplate's half depth: the canal lies behind, then the arch
S1_MOST_HEIGHT_MM = 45.0
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


def s1_endplate(mesh: TriangleMesh[Patient], l5_inferior: Endplate | None) -> Endplate | str:
    """The upper face of the sacrum: under L5's lower face, or (without L5) the highest face that looks up and
    forward. Else the reason.

    The alae go on in the same plane: no face is taken for wider than L5's, or S1_MOST_MM.
    """
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    normals = mesh.face_normals
    if l5_inferior is not None:
        anterior = np.array([0.0, -1.0, 0.0])
        axes = axes_from(l5_inferior.normal, anterior)
        centre = l5_inferior.centre_mm
        most = (0.54 * l5_inferior.width_mm, 0.60 * l5_inferior.depth_mm)
    else:
        a = np.radians(S1_RISE_DEG)
        axes = axes_from(np.array([0.0, -np.sin(a), np.cos(a)]), np.array([0.0, -1.0, 0.0]))
        x0 = float(np.median(middle[:, 0]))
        face = (normals @ axes[:, 2] > 0.8) & (np.abs(middle[:, 0] - x0) < 16.0)
        if face.sum() < endplates.LEAST_TRIANGLES:
            return "no face of the sacrum looks up and forward"
        height = middle[face] @ axes[:, 2]
        top = middle[face][height > np.percentile(height, 80.0)]
        centre = top.mean(axis=0)
        most = (0.5 * S1_MOST_MM[0], 0.5 * S1_MOST_MM[1])
    half, low = most, 35.0
    for _ in range(3):
        local = (middle - centre) @ axes
        chosen = (np.abs(local[:, 0]) < half[0]) & (np.abs(local[:, 1]) < half[1])
        chosen &= (local[:, 2] < 8.0) & (local[:, 2] > -low) & (normals @ axes[:, 2] > 0.7)
        if chosen.sum() < endplates.LEAST_TRIANGLES:
            return "no face of the sacrum lies under L5"
        plate = endplates.fit(mesh, centre - 40.0 * axes[:, 2], axes, 1.0, chosen)
        if isinstance(plate, str):
            return plate
        axes, centre, low = axes_from(plate.normal, axes[:, 1]), plate.centre_mm, 6.0
        half = (min(most[0], 0.60 * plate.width_mm), min(most[1], 0.62 * plate.depth_mm))
    return plate


def promontory(mesh: TriangleMesh[Patient], plate: Endplate) -> Array | None:
    """The edge between the S1 endplate and the sacrum's front, in its mid-plane: what lies furthest along the bisector
    of the two.
    """
    axes = axes_from(plate.normal, np.array([0.0, -1.0, 0.0]))
    local = (mesh.vertices_mm - plate.centre_mm) @ axes
    edge = (np.abs(local[:, 0]) < EDGE_MM) & (local[:, 2] > -8.0) & (local[:, 2] < 5.0) & (local[:, 1] > 0.0)
    if not edge.any():
        return None
    along = local[edge] @ np.array([0.0, 1.0, 1.0])
    return np.asarray(mesh.vertices_mm[edge][along > along.max() - 0.5].mean(axis=0))


def back_corner(mesh: TriangleMesh[Patient], plate: Endplate) -> Array | None:
    """The postero-superior corner of S1, in the endplate's mid-plane: what lies furthest along the bisector of plate
    and canal wall. The sagittal vertical axis is measured to it.
    """
    axes = axes_from(plate.normal, np.array([0.0, -1.0, 0.0]))
    local = (mesh.vertices_mm - plate.centre_mm) @ axes
    edge = (np.abs(local[:, 0]) < EDGE_MM) & (local[:, 2] > -6.0) & (local[:, 2] < 5.0)
    edge &= (local[:, 1] < 0.0) & (local[:, 1] > -0.5 * plate.depth_mm - BACK_REACH_MM)
    if not edge.any():
        return None
    along = local[edge] @ np.array([0.0, -1.0, 1.0])
    return np.asarray(mesh.vertices_mm[edge][along > along.max() - 0.5].mean(axis=0))


def s1_pedicle(mesh: TriangleMesh[Patient], plate: Endplate, side: float) -> Pedicle | str:
    """The S1 pedicle on a side (+1 right, -1 left): between canal and ala, under the endplate, converging.

    Its neck is open to the ala, so nothing measures where its middle lies across: that is a share of the endplate's
    width, as the axis is the usual convergence, 3 degrees upward of the endplate's plane. A corridor, not a fitted
    axis. Its height is measured where a foramen lies below: midway between the upper surface and the foramen's roof.
    Else the reason.
    """
    axes = axes_from(plate.normal, np.array([0.0, -1.0, 0.0]))
    axis = axes @ np.array([-side * np.sin(S1_CONVERGENCE_RAD), np.cos(S1_CONVERGENCE_RAD), S1_RISE])
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, axes[:, 2])
    across /= np.linalg.norm(across)
    high = np.cross(across, axis)
    middle = plate.centre_mm + axes @ np.array([side * 0.48 * plate.width_mm, -0.54 * plate.depth_mm, -13.0])
    walls = (0.0, 0.0)
    for _ in range(2):
        outlines = sections.loops(mesh, middle, axis)
        if not outlines:
            return "no bone shows between canal and ala"
        segments = np.concatenate([loop.segments_mm for loop in outlines]) - middle
        flat = np.stack([segments @ across, segments @ high], axis=-1)  # (K, 2, 2)
        up, down = _first_hit(flat, 1.0), _first_hit(flat, -1.0)
        if up is None:
            return "the S1 neck is not closed above; cut, or not where it is looked for"
        if down is None or up + down > S1_MOST_HEIGHT_MM:  # beside the foramen: the usual depth has to do
            walls = (up, float("nan"))
            break
        walls = (up, down)
        middle = middle + high * (up - down) / 2
    # no lateral wall: its width is twice the way to the canal's, on the level of the canal
    segments = flat[:, :, 0] * np.sign(across @ axes[:, 0]) * side
    inner = segments[(np.abs(flat[:, :, 1]) < 4.0) & (segments < 0)]
    width = 2.0 * float(-inner.max()) if len(inner) else float("nan")
    return Pedicle(middle, axis, width, walls[0] + walls[1], float("nan"))


def _first_hit(segments: Array, way: float) -> float | None:
    """How far the outline (K, 2, 2) is from the origin along +y or -y."""
    x = segments[:, :, 0]
    crossing = (x[:, 0] > 0) != (x[:, 1] > 0)
    a, b = segments[crossing, 0], segments[crossing, 1]
    at = (a[:, 1] * b[:, 0] - b[:, 1] * a[:, 0]) / (b[:, 0] - a[:, 0])
    ahead = way * at[way * at > 0]
    return float(ahead.min()) if len(ahead) else None


def asis(mesh: TriangleMesh[Patient], head_z_mm: float | None) -> Array:
    """The anterior superior iliac spine: the most anterior point of the wing, well above the hip joint."""
    z = mesh.vertices_mm[:, 2]
    floor = z.min() + 0.55 * (z.max() - z.min()) if head_z_mm is None else head_z_mm + ASIS_ABOVE_HEAD_MM
    wing = mesh.vertices_mm[z > floor]
    return np.asarray(wing[int(np.argmin(wing[:, 1]))])
