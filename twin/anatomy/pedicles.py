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

SWEEPS_MM = ((8.0, 4.0), (6.0, 4.0), (4.0, 3.0), (3.0, 3.0))  # how far sections are cut, and walls make the axis
MOST_MM2 = 900.0  # larger than any pedicle: the section has run into the body
WALL_SLOPE = 0.6  # a surface that looks along the axis by more than this is no wall
SETTLED = (0.5, 0.98, 0.998, 0.998)  # least cosine of a sweep's turn: a short pedicle's few walls must not upset it
BELIEF = (0.005, 0.03)  # in the axis so far, fine and coarse: a tall narrow pedicle has hardly a wall to tell its tilt
BEHIND_MM, BEFORE_MM = -10.0, 4.0  # the canal's front wall: a neck stands no further behind (the arch) or before it
BESIDE_MM = (5.0, 32.0)  # of the canal's middle
WIDTH_MM = (2.0, 28.0)
MOST_GAP_MM = 5.0  # between the canal's side and the neck: a pedicle is the canal's wall, the stump of a rib is not
MOST_UNEVEN = 3.0  # larger over smaller section of the two sides
MOST_STEP_MM = 9.0  # between the heights of the two sides
MOST_BEHIND_MM = 8.0  # between their depths
CONVERGENCE_RAD = (0.0, np.radians(15.0), np.radians(30.0))
MOST_TURN = 0.6  # least cosine between the axis and straight ahead


@dataclass(frozen=True, eq=False)
class Pedicle:
    """Isthmus centre (3,), unit axis (3,) pointing anteriorly, width and height there, spread of the centroids, mm."""

    isthmus_mm: Array
    axis: Array
    width_mm: float
    height_mm: float
    spread_mm: float


def both(mesh: TriangleMesh[Patient], frame: VertebralFrame, top_mm: float, bottom_mm: float) -> list[Pedicle | str]:
    """The right and the left pedicle, or the reason; held against each other.

    Where one stands far behind the other it has slid into the arch, and is looked for once more at the other's mirror
    image.
    """
    found = [find(mesh, frame, side, top_mm, bottom_mm) for side in (1.0, -1.0)]
    first, second = found
    if isinstance(first, Pedicle) and isinstance(second, Pedicle):
        at = [frame.local(p.isthmus_mm) for p in (first, second)]
        if abs(at[0][1] - at[1][1]) > MOST_BEHIND_MM:
            sound = int(np.argmax([p[1] for p in at]))
            mirror = np.array([-1.0, 1.0, 1.0])
            about = np.array([2.0 * frame.foramen_x_mm, 0.0, 0.0])
            axis = frame.axes @ (mirror * ((first, second)[sound].axis @ frame.axes))
            start = (frame.patient(mirror * at[sound] + about), axis)
            found[1 - sound] = find(mesh, frame, (1.0, -1.0)[1 - sound], top_mm, bottom_mm, start)
    return judged(found, frame)


def find(
    mesh: TriangleMesh[Patient],
    frame: VertebralFrame,
    side: float,
    top_mm: float,
    bottom_mm: float,
    start: tuple[Array, Array] | None = None,
) -> Pedicle | str:
    """The pedicle on a side (+1 right, -1 left); `top_mm`, `bottom_mm`: the body's faces in the frame. Else the
    reason. `start`: a centre and an axis to begin at.
    """
    patch = sections.near(
        mesh,
        frame.patient(np.array([frame.foramen_x_mm + side * (frame.foramen_half_mm + 6), frame.foramen_front_mm, 0.0])),
        38.0,
    )
    sweeps = SWEEPS_MM if start is None else SWEEPS_MM[-2:]  # near the place already: no far sweep that slides off
    start = start or _start(patch, frame, side, top_mm, bottom_mm)
    if start is None:
        return "no bridge of bone shows beside the canal's front wall"
    a, b, c = (patch.vertices_mm[patch.triangles[:, n]] for n in range(3))
    edge_mm = float(np.sqrt(np.median(np.linalg.norm(np.cross(b - a, c - a), axis=1))))
    coarse = float(np.clip((edge_mm - 1.0) / 2.0, 0.0, 1.0))  # 0: finer than a millimetre, 1: three and more
    centre, axis = start
    spread = 0.0
    for sweep, (reach, half) in enumerate(sweeps):
        found = []
        for s in np.arange(-reach, reach + 0.1, 0.5 if reach < 5.0 else 1.0):
            cut = _loop_at(patch, centre + s * axis, axis)
            if cut is not None and BEHIND_MM < frame.local(cut.centroid_mm)[1] - frame.foramen_front_mm < BEFORE_MM:
                found.append((s, cut))
        if len(found) < 3:
            if sweep == 0:
                return "its sections run into the body or the arch: no neck between them"
            break
        # the narrow run around the start: sections that jump into the body or the facets are far from it
        areas = np.array([loop.area_mm2 for _, loop in found])
        narrow = int(np.argmin(areas + (2.0 if sweep == 0 else 0.0) * np.array([abs(s) for s, _ in found])))
        at, loop = found[narrow]
        close = np.array([(s - at, o.area_mm2) for s, o in found if abs(s - at) < 1.6])
        if len(close) > 4:
            bend, slope, _ = np.polyfit(close[:, 0], close[:, 1], 2)
            finer = _loop_at(patch, centre + (at + _least(bend, slope)) * axis, axis)
            loop = loop if finer is None else finer
        centre = loop.centroid_mm
        near = np.array([o.centroid_mm for s, o in found if abs(s - at) <= half])
        turned = _wall_axis(patch, loop, axis, half + coarse, BELIEF[0] + coarse * (BELIEF[1] - BELIEF[0]))
        if turned is not None and turned @ frame.axes[:, 1] > MOST_TURN and turned @ axis > SETTLED[sweep]:
            axis = turned
        elif sweep == 0:
            return "its walls show no common direction"
        d = near - near.mean(axis=0)
        spread = float(np.sqrt(((d - np.outer(d @ axis, axis)) ** 2).sum() / (2 * len(near))))
    loop = _loop_at(patch, centre, axis) or loop
    across = np.cross(axis, frame.axes[:, 2])
    across /= np.linalg.norm(across)
    return Pedicle(loop.centroid_mm, axis, loop.widths_mm(across), loop.widths_mm(np.cross(across, axis)), spread)


def _least(bend: float, slope: float) -> float:
    """Where a parabola is least, within half a millimetre of its middle."""
    return float(np.clip(-slope / (2.0 * bend), -0.5, 0.5)) if bend > 0 else 0.0


def _wall_axis(
    patch: TriangleMesh[Patient], loop: sections.Loop, axis: Array, half_mm: float, belief: float
) -> Array | None:
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
        weight = double_area[wall] * (1.0 - (along[wall] / half_mm) ** 2)
        M = (normals[wall] * weight[:, None]).T @ normals[wall]
        side = np.linalg.svd(axis[None])[2][1:].T  # two directions across the axis
        turn = np.linalg.solve(side.T @ M @ side + belief * weight.sum() * np.eye(2), -side.T @ M @ axis)
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
) -> tuple[Array, Array] | None:
    """A first centre and axis: the smallest outline beside the foramen in planes behind its front wall, straight ahead
    or converging as the lowest pedicles do.
    """
    best: tuple[float, Array, Array] | None = None
    for back, share, turn in itertools.product((2.0, 4.0, 6.0, 8.0), (0.6, 0.75, 0.9), CONVERGENCE_RAD):
        height = bottom_mm + share * (top_mm - bottom_mm)
        beside = np.array(
            [frame.foramen_x_mm + side * (frame.foramen_half_mm + 4.0), frame.foramen_front_mm - back, height]
        )
        axis = frame.axes @ np.array([-side * np.sin(turn), np.cos(turn), 0.0])
        for loop in sections.loops(patch, frame.patient(beside), axis):
            local = frame.local(loop.centroid_mm) - beside
            if not BEHIND_MM < local[1] - back < BEFORE_MM or side * local[0] < -0.3 * frame.foramen_half_mm - 4.0:
                continue  # a plane that shaves the lamina
            inner = float((side * (frame.local(loop.segments_mm.reshape(-1, 3))[:, 0] - frame.foramen_x_mm)).min())
            if inner - frame.foramen_half_mm > MOST_GAP_MM:
                continue
            if 10.0 < loop.area_mm2 < MOST_MM2 and abs(local[0]) < 9.0 and abs(local[2]) < 10.0:
                score = loop.area_mm2 + 4.0 * float(np.hypot(local[0], local[2]))
                if best is None or score < best[0]:
                    best = (score, loop.centroid_mm, axis)
    return None if best is None else (best[1], best[2])


def judged(pair: list[Pedicle | str], frame: VertebralFrame) -> list[Pedicle | str]:
    """The pedicles of one vertebra held against the canal and each other; what can't be one becomes a reason.

    Of two that differ too much, the one farther from where pedicles stand (the upper half of the body, beside the
    canal's front wall) is taken back.
    """
    out: list[Pedicle | str] = []
    for pedicle in pair:
        if isinstance(pedicle, Pedicle):
            beside = abs(float(frame.local(pedicle.isthmus_mm)[0]) - frame.foramen_x_mm)
            if not BESIDE_MM[0] < beside < BESIDE_MM[1]:
                out.append(f"a neck {beside:.0f} mm from the canal's middle is no pedicle")
                continue
            gap = beside - 0.5 * pedicle.width_mm - frame.foramen_half_mm
            if gap > MOST_GAP_MM:
                out.append(f"a neck {gap:.0f} mm aside of the canal is no pedicle: the stump of a rib?")
                continue
            if not WIDTH_MM[0] < pedicle.width_mm < WIDTH_MM[1]:
                out.append(f"a neck {pedicle.width_mm:.0f} mm wide is no pedicle")
                continue
        out.append(pedicle)
    first, second = out
    if isinstance(first, Pedicle) and isinstance(second, Pedicle):
        areas = [p.width_mm * p.height_mm for p in (first, second)]
        at = [frame.local(p.isthmus_mm) for p in (first, second)]
        why = ""
        if max(areas) > MOST_UNEVEN * min(areas):
            why = f"its section is {max(areas) / min(areas):.1f} times unlike the other side's"
        elif abs(at[0][1] - at[1][1]) > MOST_BEHIND_MM:
            why = f"it lies {abs(at[0][1] - at[1][1]):.0f} mm off the other side's depth: in the arch, or in the body"
        elif abs(at[0][2] - at[1][2]) > MOST_STEP_MM:
            why = f"it lies {abs(at[0][2] - at[1][2]):.0f} mm off the other side's height"
        if why:
            off = [abs(p[1] - frame.foramen_front_mm + 3.0) + abs(p[2] - 4.0) for p in at]
            out[int(np.argmax(off))] = why
    return out
