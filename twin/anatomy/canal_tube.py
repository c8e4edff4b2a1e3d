"""The spinal canal as a structure: what the vertebrae's bone leaves open around the cord, as one closed tube.

Measured on the surfaces, so a twin from meshes has it too. Each vertebra gives one point, the middle of its canal at
the pedicles; across a curve through these points rays look for bone all around. Where there is none (foramina, the gaps
between laminae and at the discs) the wall runs on from the next bone above and below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from spatial.shapes import Plane
from twin.anatomy.bone import Landmark
from twin.anatomy.structure import MEASURED, Structure

NAME = "spinal_canal"
RAYS = 72
STEP_MM = 2.0
REACH_MM = 18.0  # a canal is 15 mm deep and 22 to 30 mm wide: half of that, and some
WIDER = 1.3  # than the usual wall in this direction: the ray has left through a gap
BEHIND_MM = np.arange(-2.0, 20.5, 0.5)  # where a canal's middle is looked for, behind the middle of the pedicles
ASIDE_MM = np.arange(-2.0, 2.1, 0.5)
BEYOND_MM = 18.0  # how far the tube may run on past the last vertebra's pedicles
LEAST_SEEN = 0.4  # of the rays of the outermost rings
KEPT_OFF_MM = 0.1  # the tube stays this far inside the bone's wall where there is one


@dataclass(frozen=True, eq=False)
class _Station:
    """One vertebra's canal: its middle (3,) and the unit vectors (3,) to the patient's right and to the head."""

    middle_mm: Array
    right: Array
    cranial: Array


def canal_structure(meshes: Mapping[str, TriangleMesh[Patient]], landmarks: Iterable[Landmark]) -> Structure | None:
    """The canal along every vertebra whose pedicles were measured; critical always. None when no vertebra has them."""
    stations = _stations(meshes, landmarks)
    if not stations:
        return None
    middle, tangent, right = _curve(stations)
    radius = np.array([_walls(_near(meshes, m), m, t, r) for m, t, r in zip(middle, tangent, right, strict=True)])
    seen = np.flatnonzero(np.isfinite(radius).mean(axis=1) >= LEAST_SEEN)
    if len(seen) < 2:
        return None
    rings = slice(seen[0], seen[-1] + 1)
    return Structure(
        NAME, "critical", _tube(middle[rings], tangent[rings], right[rings], _filled(radius[rings])), MEASURED
    )


def with_canal(
    meshes: Mapping[str, TriangleMesh[Patient]], landmarks: Iterable[Landmark]
) -> tuple[dict[str, Structure], tuple[str, ...]]:
    """The structures of a new twin: its canal, wherever there are vertebrae; and what to say when it has none."""
    canal = canal_structure(meshes, landmarks)
    if canal is not None:
        return {canal.name: canal}, ()
    if any(name.startswith("vertebrae") for name in meshes):
        return {}, ("the spinal canal could not be measured (no pair of pedicles): nothing warns of it",)
    return {}, ()


def _stations(meshes: Mapping[str, TriangleMesh[Patient]], landmarks: Iterable[Landmark]) -> list[_Station]:
    """The canal's middles, from the lowest upward."""
    pedicles = {(m.bone, m.side): m for m in landmarks if m.name in ("pedicle_left", "pedicle_right")}
    found = []
    for bone in sorted({bone for bone, _ in pedicles}):
        left, right = pedicles.get((bone, "left")), pedicles.get((bone, "right"))
        if bone not in meshes or left is None or right is None or left.direction is None or right.direction is None:
            continue
        x = right.position.mm - left.position.mm
        x = x / np.linalg.norm(x)
        y = left.direction.unit + right.direction.unit
        y = y - (y @ x) * x
        y = y / np.linalg.norm(y)
        station = _middle(meshes[bone], 0.5 * (left.position.mm + right.position.mm), x, y)
        if station is not None:
            found.append(station)
    return sorted(found, key=lambda s: float(s.middle_mm[2]))


def _middle(mesh: TriangleMesh[Patient], between_mm: Array, right: Array, anterior: Array) -> _Station | None:
    """The point of the section at the pedicles that has most room to the body and to either side."""
    cranial = np.cross(right, anterior)
    segments = _flat(mesh.section(Plane[Patient](between_mm, cranial)), between_mm, right, anterior)
    if not len(segments):
        return None
    angles = np.deg2rad(np.arange(-30.0, 211.0, 10.0))  # from the right over the front to the left, and a little behind
    best, most = None, 0.0
    for behind in BEHIND_MM:
        for aside in ASIDE_MM:
            room = _hits(segments - np.array([aside, -behind]), angles)
            if np.isfinite(room).mean() > 0.8 and room.min() > most:
                best, most = (aside, -behind), float(room.min())
    if best is None or most < 3.0:
        return None
    return _Station(between_mm + best[0] * right + best[1] * anterior, right, cranial)


def _curve(stations: list[_Station]) -> tuple[Array, Array, Array]:
    """Points (S, 3) every 2 mm along the canal, unit tangents to the head and rightward vectors square to them."""
    at = np.array([s.middle_mm for s in stations])
    first, last = stations[0].cranial, stations[-1].cranial
    at = np.vstack([at[0] - BEYOND_MM * first, at, at[-1] + BEYOND_MM * last])
    aside = np.array([stations[0].right, *(s.right for s in stations), stations[-1].right])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(at, axis=0), axis=1))])
    where = np.arange(0.0, along[-1], STEP_MM)
    curve = CubicSpline(along, at)
    tangent = curve(where, 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    right = np.column_stack([np.interp(where, along, aside[:, n]) for n in range(3)])
    right -= (right * tangent).sum(axis=1, keepdims=True) * tangent
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.asarray(curve(where)), np.asarray(tangent), np.asarray(right)


def _near(meshes: Mapping[str, TriangleMesh[Patient]], point_mm: Array) -> list[TriangleMesh[Patient]]:
    found = []
    for name, mesh in meshes.items():
        if not (name.startswith("vertebrae") or name == "sacrum"):
            continue
        low, high = mesh.bounds_mm
        if ((point_mm > low - REACH_MM) & (point_mm < high + REACH_MM)).all():
            found.append(mesh)
    return found


def _walls(meshes: list[TriangleMesh[Patient]], middle_mm: Array, tangent: Array, right: Array) -> Array:
    """Distance (RAYS,) from the middle to bone all around, counted from the right over the front; nan: no bone."""
    front = np.cross(tangent, right)
    plane = Plane[Patient](middle_mm, tangent)
    pieces = [_flat(mesh.section(plane), middle_mm, right, front) for mesh in meshes]
    segments = np.concatenate(pieces) if pieces else np.zeros((0, 2, 2))
    close = np.linalg.norm(segments, axis=2).min(axis=1) < REACH_MM + 2.0
    ways = _hits(segments[close], 2.0 * np.pi * np.arange(RAYS) / RAYS)
    return np.where(ways <= REACH_MM, ways, np.nan)


def _flat(segments_mm: Array, origin_mm: Array, right: Array, front: Array) -> Array:
    """Segments (K, 2, 3) of a plane in its two axes: (K, 2, 2)."""
    return np.asarray((segments_mm - origin_mm) @ np.column_stack([right, front]))


def _hits(segments: Array, angles_rad: Array) -> Array:
    """Ways (T,) from the origin to the first of the segments (K, 2, 2) along rays in the plane; inf: none."""
    if not len(segments):
        return np.full(len(angles_rad), np.inf)
    way = np.column_stack([np.cos(angles_rad), np.sin(angles_rad)])
    a, e = segments[:, 0], segments[:, 1] - segments[:, 0]
    across = way[:, None, 0] * e[:, 1] - way[:, None, 1] * e[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (a[:, 0] * e[:, 1] - a[:, 1] * e[:, 0]) / across
        u = (a[:, 0] * way[:, None, 1] - a[:, 1] * way[:, None, 0]) / across
    return np.asarray(np.where((t > 0) & (u >= 0) & (u <= 1), t, np.inf).min(axis=1))


def _filled(radius_mm: Array) -> Array:
    """Radii (S, RAYS) without gaps: bone where it was seen, else what the bone above, below and beside says."""
    out = radius_mm.copy()
    usual = _median(out, axis=0)
    out[out > WIDER * usual] = np.nan
    rows = np.arange(len(out))
    for n in range(RAYS):
        known = np.isfinite(out[:, n])
        if known.any():
            out[:, n] = np.interp(rows, rows[known], out[known, n])
    known = np.isfinite(out[0])
    turn = np.arange(RAYS)
    for row in out:  # directions in which no vertebra has a wall: between those that have
        row[~known] = np.interp(turn[~known], turn[known], row[known], period=RAYS)
    smooth = gaussian_filter(out, (1.0, 1.0), mode=("nearest", "wrap"))
    wall = np.where(np.isfinite(radius_mm), radius_mm, np.inf)
    return np.asarray(np.minimum(smooth, wall - KEPT_OFF_MM))


def _median(values: Array, axis: int) -> Array:
    """The median of what is known; where nothing is, the median of all."""
    known = np.isfinite(values).any(axis=axis)
    out = np.full(known.shape, float(np.nanmedian(values)))
    out[known] = np.nanmedian(values[:, known], axis=axis)
    return out


def _tube(middle: Array, tangent: Array, right: Array, radius: Array) -> TriangleMesh[Patient]:
    """The closed tube through the rings (S, RAYS), both ends capped flat."""
    angle = 2.0 * np.pi * np.arange(RAYS) / RAYS
    front = np.cross(tangent, right)
    ring = middle[:, None] + radius[:, :, None] * (
        np.cos(angle)[:, None] * right[:, None] + np.sin(angle)[:, None] * front[:, None]
    )
    count = len(middle)
    vertices = np.vstack([ring.reshape(-1, 3), middle[:1], middle[-1:]])
    s, n = np.meshgrid(np.arange(count - 1), np.arange(RAYS), indexing="ij")
    here, beside = s * RAYS + n, s * RAYS + (n + 1) % RAYS
    side = np.stack([here, beside, beside + RAYS, here, beside + RAYS, here + RAYS], axis=-1).reshape(-1, 3)
    turn = np.arange(RAYS)
    bottom, top = count * RAYS, count * RAYS + 1
    last = (count - 1) * RAYS
    caps = np.concatenate(
        [
            np.column_stack([np.full(RAYS, bottom), (turn + 1) % RAYS, turn]),
            np.column_stack([np.full(RAYS, top), last + turn, last + (turn + 1) % RAYS]),
        ]
    )
    triangles: NDArray[np.int32] = np.concatenate([side, caps]).astype(np.int32)
    return TriangleMesh[Patient](vertices, triangles)
