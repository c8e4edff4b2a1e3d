"""Endplates: the plane through the middle of a body's upper or lower face, fitted to its surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from twin.anatomy.vertebral_frame import VertebralFrame

MIDDLE_SHARE = 0.70  # of the face's width and depth: inside the rim and its osteophytes
FACING = 0.75  # least cosine between a triangle's normal and the face's
LIP_MM = 3.5  # between the face's plane and its rim
LEAST_TRIANGLES = 12
LEAST_COVER = 0.6  # of the middle's ellipse that must look the right way
MOST_UNEVEN_MM = 2.2  # a healthy face is hollow by half a millimetre (one sigma), a biconcave one by more than that
MOST_LEAN_DEG = 35.0  # between the two faces of one body
NOTED_LEAN_DEG = 20.0  # L5 is wedged by 9 to 15 degrees, others by less
MOST_UNLIKE = 1.6  # larger over smaller face
MOST_SHIFT_MM = 12.0
LIKE = 1.1  # as much larger than the other a face may be when it is fitted once more
LIKE_LEAN_DEG, LIKE_SHIFT_MM = 12.0, 5.0  # and then it has to lie square over the other


@dataclass(frozen=True, eq=False)
class Endplate:
    """Centre (3,), cranial unit normal (3,), the surface's spread about the plane (one sigma), the face's size; mm.

    `part`: the face was larger, with something grown on, and only the part that its fellow's size allows was taken.
    """

    centre_mm: Array
    normal: Array
    spread_mm: float
    width_mm: float
    depth_mm: float
    part: bool = False


def fit(
    mesh: TriangleMesh[Patient], centre_mm: Array, axes: Array, outward: float, chosen: NDArray[np.bool_] | None = None,
    most_mm: tuple[float, float] = (np.inf, np.inf),
) -> Endplate | str:  # fmt: skip
    """The face that looks along `outward` (+1 cranial, -1 caudal) of `axes` (columns right, anterior, cranial).

    `chosen` (M,) marks the triangles of the body; None: all. A face larger than `most_mm` is cut to the part of
    that size that holds most of it. When the face is not there: the reason, in words.
    """
    corners = mesh.vertices_mm[mesh.triangles]
    middle = corners.mean(axis=1)
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(twice, axis=1)
    normals = twice / np.maximum(2 * area, 1e-12)[:, None]
    usable = np.ones(len(middle), dtype=np.bool_) if chosen is None else chosen.copy()
    up = axes[:, 2]
    plate: Endplate | None = None
    for _ in range(6):
        facing = usable & (outward * (normals @ up) > FACING)
        local = (middle - centre_mm) @ axes
        height = outward * local[:, 2]
        facing &= height > 0
        if plate is None:  # the highest third of the face's area marks its level, not the processes below it
            order = np.argsort(height[facing])
            share = np.cumsum(area[facing][order]) / max(float(area[facing].sum()), 1e-9)
            level = height[facing][order][min(int(np.searchsorted(share, 0.75)), len(order) - 1)] if len(order) else 0.0
            facing &= np.abs(height - level) < 6.0
        else:
            facing &= np.abs((middle - plate.centre_mm) @ plate.normal) < LIP_MM
        if facing.sum() < LEAST_TRIANGLES:
            return "no face looks that way"
        weight = area * np.abs(normals @ up)
        # the face's outline, a few triangles' noise aside
        x_low, x_high = _extent(local[facing, 0], weight[facing], most_mm[0])
        y_low, y_high = _extent(local[facing, 1], weight[facing], most_mm[1])
        width, depth = x_high - x_low, y_high - y_low
        u = (local[:, 0] - 0.5 * (x_low + x_high)) / (0.5 * width)
        v = (local[:, 1] - 0.5 * (y_low + y_high)) / (0.5 * depth)
        inner = facing & (u * u + v * v < MIDDLE_SHARE**2)
        if inner.sum() < LEAST_TRIANGLES:
            return "the face has a hole in its middle"
        ellipse = np.pi * (0.5 * MIDDLE_SHARE) ** 2 * width * depth
        cover = float(weight[inner].sum() / ellipse)
        p, w = middle[inner], weight[inner]
        centre, normal = _plane(p, w)
        for _ in range(2):
            off = (p - centre) @ normal
            spread = float(np.sqrt((w * off**2).sum() / w.sum()))
            kept = np.abs(off) < max(2.5 * spread, 0.1)
            centre, normal = _plane(p[kept], w[kept])
        if normal @ up < 0:
            normal = -normal
        up = normal
        plate = Endplate(centre, normal, spread, float(width), float(depth))
    assert plate is not None
    if cover < LEAST_COVER:
        return f"only {100 * cover:.0f} % of the face's middle looks that way; broken, eroded, or cut"
    if plate.spread_mm > MOST_UNEVEN_MM:
        return f"the face is uneven by {plate.spread_mm:.1f} mm; broken, or grown to its neighbour"
    return plate


def both(
    mesh: TriangleMesh[Patient], centre_mm: Array, axes: Array, chosen: NDArray[np.bool_]
) -> tuple[Endplate | str, Endplate | str]:
    """The upper and the lower face. Where one is too large for the other (the stump of a rib, an osteophyte), its part
    of the other's size is taken if it lies square to the other; else both stay as they are, to be judged.
    """
    upper, lower = (fit(mesh, centre_mm, axes, way, chosen) for way in (1.0, -1.0))
    if isinstance(upper, str) or isinstance(lower, str) or _unlike(upper, lower) <= MOST_UNLIKE:
        return upper, lower
    most = LIKE * min(upper.width_mm, lower.width_mm), LIKE * min(upper.depth_mm, lower.depth_mm)
    again = [fit(mesh, centre_mm, axes, way, chosen, most) for way in (1.0, -1.0)]
    first, second = again
    if isinstance(first, str) or isinstance(second, str):
        return upper, lower
    across = (first.centre_mm - second.centre_mm) @ axes[:, :2]
    square = first.normal @ second.normal > np.cos(np.radians(LIKE_LEAN_DEG)) and np.hypot(*across) < LIKE_SHIFT_MM
    return (replace(first, part=True), replace(second, part=True)) if square else (upper, lower)


def _unlike(upper: Endplate, lower: Endplate) -> float:
    wider = max(upper.width_mm, lower.width_mm) / min(upper.width_mm, lower.width_mm)
    return max(wider, max(upper.depth_mm, lower.depth_mm) / min(upper.depth_mm, lower.depth_mm))


def judged(
    upper: Endplate | str, lower: Endplate | str, frame: VertebralFrame
) -> tuple[Endplate | str, Endplate | str, str]:
    """Both faces held against each other, and a note about the body's shape.

    Two faces that can't be one body's are both taken back: which of them is wrong can't be told.
    """
    if isinstance(upper, str) or isinstance(lower, str):
        return upper, lower, ""
    between = frame.local(upper.centre_mm) - frame.local(lower.centre_mm)
    lean = float(np.degrees(np.arccos(np.clip(upper.normal @ lower.normal, -1.0, 1.0))))
    unlike = _unlike(upper, lower)
    wrong = ""
    if lean > MOST_LEAN_DEG:
        wrong = f"the two faces lean {lean:.0f} degrees apart, more than {MOST_LEAN_DEG:.0f}"
    elif unlike > MOST_UNLIKE:
        wrong = f"one face is {unlike:.1f} times as large as the other; an osteophyte, or a cut body"
    elif float(np.hypot(between[0], between[1])) > MOST_SHIFT_MM:
        wrong = f"the faces are {np.hypot(between[0], between[1]):.0f} mm out of line"
    elif not 6.0 < between[2] < 50.0:
        wrong = f"the faces are {between[2]:.0f} mm apart"
    if wrong:
        return wrong, wrong, ""
    notes = []
    if lean > NOTED_LEAN_DEG:
        notes.append(f"the endplates lean {lean:.0f} degrees apart: a wedged body, or a fracture")
    if upper.part:
        notes.append(
            "one endplate was too large (the stump of a rib, an osteophyte): a part was taken, up to 3 degrees off"
        )
    return upper, lower, "; ".join(notes)


def _extent(values: Array, weight: Array, most_mm: float) -> tuple[float, float]:
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    low = values[order[min(int(np.searchsorted(share, 0.003)), len(order) - 1)]]
    high = values[order[min(int(np.searchsorted(share, 0.997)), len(order) - 1)]]
    if high - low > most_mm:  # the window of that size with the most in it
        last = np.minimum(np.searchsorted(values[order], values[order] + most_mm), len(order) - 1)
        first = int(np.argmax(share[last] - share))
        low, high = values[order[first]], values[order[last[first]]]
    return float(low), max(float(high), float(low) + 1e-3)


def _plane(points: Array, weight: Array) -> tuple[Array, Array]:
    centre = (weight[:, None] * points).sum(axis=0) / weight.sum()
    d = points - centre
    _, vectors = np.linalg.eigh((weight[:, None] * d).T @ d)
    return centre, vectors[:, 0]
