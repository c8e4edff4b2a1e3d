"""Pedicles on a surface: the isthmus is the narrowest section, the axis the direction that its walls run in.

Isthmus centre = centroid of the minimum-area cross-section (clinical fact sheet, 1.4). Its axis is the direction
most square to the normals of the walls around the isthmus (least-squares cylinder axis): within 2.3 degrees on the
phantom. The line through the section centroids, the textbook's definition, bends there by up to 10 degrees toward
the facets.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy import sections
from twin.anatomy.vertebral_frame import VertebralFrame

REACH_MM = 8.0
WALL_MM = (4.0, 4.0, 3.0, 3.0)  # walls within this of the isthmus make the axis, a sweep each
MOST_MM2 = 900.0  # larger than any pedicle: the section has run into the body
WALL_SLOPE = 0.6  # a surface that looks along the axis by more than this is no wall
SETTLED = (0.5, 0.98, 0.998, 0.998)  # least cosine of a sweep's turn: a short pedicle's few walls must not upset it
BELIEF = 0.02  # in the axis so far: a tall narrow pedicle has hardly a wall that would tell its tilt
MOST_TURN = 0.6  # least cosine between the axis and straight ahead


@dataclass(frozen=True, eq=False)
class Pedicle:
    """Isthmus centre (3,), unit axis (3,) pointing anteriorly, width and height there, spread of the centroids, mm."""

    isthmus_mm: Array
    axis: Array
    width_mm: float
    height_mm: float
    spread_mm: float


def find(
    mesh: TriangleMesh[Patient], frame: VertebralFrame, side: float, top_mm: float, bottom_mm: float
) -> Pedicle | None:
    """The pedicle on a side (+1 right, -1 left); `top_mm`, `bottom_mm`: the body's faces in the frame. None: not
    there.
    """
    patch = sections.near(
        mesh,
        frame.patient(np.array([frame.foramen_x_mm + side * (frame.foramen_half_mm + 6), frame.foramen_front_mm, 0.0])),
        38.0,
    )
    start = _start(patch, frame, side, top_mm, bottom_mm)
    if start is None:
        return None
    centre, axis = start, frame.axes[:, 1]
    spread = 0.0
    for sweep in range(len(WALL_MM)):
        found = []
        for s in np.arange(-REACH_MM, REACH_MM + 0.1, 0.5 if sweep > 2 else 1.0):
            loop = _loop_at(patch, centre + s * axis, axis)
            if loop is not None:
                found.append((s, loop))
        if len(found) < 3:
            if sweep == 0:
                return None
            break
        # the narrow run around the start: stop where sections jump into the body or the facets
        areas = np.array([loop.area_mm2 for _, loop in found])
        narrow = int(np.argmin(areas + 2.0 * np.array([abs(s) for s, _ in found])))
        loop = found[narrow][1]
        centre = loop.centroid_mm
        near = np.array([o.centroid_mm for s, o in found if abs(s - found[narrow][0]) <= WALL_MM[sweep]])
        turned = _wall_axis(patch, loop, axis, WALL_MM[sweep])
        if turned is not None and turned @ frame.axes[:, 1] > MOST_TURN and turned @ axis > SETTLED[sweep]:
            axis = turned
        elif sweep == 0:
            return None
        d = near - near.mean(axis=0)
        spread = float(np.sqrt(((d - np.outer(d @ axis, axis)) ** 2).sum() / (2 * len(near))))
    loop = _loop_at(patch, centre, axis)
    if loop is None:
        return None
    across = np.cross(axis, frame.axes[:, 2])
    across /= np.linalg.norm(across)
    return Pedicle(loop.centroid_mm, axis, loop.widths_mm(across), loop.widths_mm(np.cross(across, axis)), spread)


def _wall_axis(patch: TriangleMesh[Patient], loop: sections.Loop, axis: Array, half_mm: float) -> Array | None:
    """The direction (3,) most square to the wall's normals, near ones counting more."""
    outline = loop.segments_mm.reshape(-1, 3) - loop.centroid_mm
    reach = float(np.linalg.norm(outline, axis=1).max()) + 1.5
    corners = patch.vertices_mm[patch.triangles]
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(twice, axis=1)
    normals = twice / np.maximum(double_area, 1e-12)[:, None]
    d = corners.mean(axis=1) - loop.centroid_mm
    for _ in range(4):
        along = d @ axis
        wall = (np.abs(along) < half_mm) & (np.linalg.norm(d - np.outer(along, axis), axis=1) < reach)
        wall &= np.abs(normals @ axis) < WALL_SLOPE
        if wall.sum() < 20:
            return None
        weight = double_area[wall] * np.exp(-0.5 * (along[wall] / (0.6 * half_mm)) ** 2)
        M = (normals[wall] * weight[:, None]).T @ normals[wall]
        side = np.linalg.svd(axis[None])[2][1:].T  # two directions across the axis
        turn = np.linalg.solve(side.T @ M @ side + BELIEF * weight.sum() * np.eye(2), -side.T @ M @ axis)
        axis = axis + side @ turn
        axis /= np.linalg.norm(axis)
    return np.asarray(axis)


def _loop_at(patch: TriangleMesh[Patient], point: Array, normal: Array) -> sections.Loop | None:
    """The outline around a point, or the nearest one within 6 mm."""
    found = [loop for loop in sections.loops(patch, point, normal) if 10.0 < loop.area_mm2 < MOST_MM2]
    if not found:
        return None
    best = min(found, key=lambda loop: float(np.linalg.norm(loop.centroid_mm - point)))
    return best if np.linalg.norm(best.centroid_mm - point) < 6.0 else None


def _start(
    patch: TriangleMesh[Patient], frame: VertebralFrame, side: float, top_mm: float, bottom_mm: float
) -> Array | None:
    """A first centre: the outline beside the foramen in the coronal planes behind its front wall."""
    best: tuple[float, Array] | None = None
    for back, share in itertools.product((2.0, 4.0, 6.0, 8.0), (0.6, 0.75, 0.9)):
        height = bottom_mm + share * (top_mm - bottom_mm)
        beside = np.array(
            [frame.foramen_x_mm + side * (frame.foramen_half_mm + 4.0), frame.foramen_front_mm - back, height]
        )
        for loop in sections.loops(patch, frame.patient(beside), frame.axes[:, 1]):
            local = frame.local(loop.centroid_mm) - beside
            if 10.0 < loop.area_mm2 < MOST_MM2 and abs(local[0]) < 9.0 and abs(local[2]) < 10.0:
                score = loop.area_mm2 + 4.0 * float(np.hypot(local[0], local[2]))
                if best is None or score < best[0]:
                    best = (score, loop.centroid_mm)
    return None if best is None else best[1]
