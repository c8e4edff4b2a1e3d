"""The spinal canal as a structure: what the vertebrae's bone leaves open around the cord, as one closed tube.

Measured on the surfaces, so a twin from meshes has it too. Each vertebra gives one point, the middle of its canal at
the pedicles. Around a curve through these points every bit of bone surface has a height, a direction and a distance;
the nearest in a cell is the wall. Where there is none (foramina, the gaps between laminae and at the discs) the wall
runs on from the next bone above and below. The curve is then moved to the middle of what was found, and it is done
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, gaussian_filter1d, minimum_filter
from scipy.spatial import cKDTree

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Array
from spatial.shapes import Plane
from twin.anatomy.bone import Landmark
from twin.anatomy.structure import MEASURED, Structure

NAME = "spinal_canal"
RAYS = 72
STEP_MM = 1.5
REACH_MM = 18.0  # a canal is 15 mm deep and 22 to 30 mm wide: half of that, and some
WIDER = 1.3  # than the usual wall in this direction: the gap between two bones, not a wall
SEARCH_MM = (4.0, -24.0)  # where a canal is looked for, before and behind the middle of the pedicles
MIDLINE_MM = 2.0  # bone this near the middle is the body's back wall or the lamina
LEAST_GAP_MM, MOST_DEPTH_MM = 6.0, 16.0  # between those two; where the lamina is open, no deeper than this
ASIDE_MM = np.arange(-3.0, 3.1, 0.5)
LEAST_ROOM_MM = 3.5
MOST_NARROW = 0.1  # of the rings may be narrower than that
BEYOND_MM = 18.0  # how far the tube may run on past the last vertebra's pedicles
LEAST_SEEN = 0.35  # of the directions of the outermost rings
KEPT_OFF_MM = 0.1  # the tube stays this far inside the bone's wall where there is one
PASSES = 3
STIFF_MM = 5.0  # the middle moves no faster than this along the canal


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
    at, aside = _ends(stations)
    surface = _near([mesh for name, mesh in meshes.items() if name.startswith(("vertebrae", "sacrum"))], at)
    curve = _Curve.through(at, aside)
    for n in range(PASSES):
        radius = curve.walls(surface)
        if not np.isfinite(radius).any():
            return None
        filled = _filled(radius)
        if n + 1 < PASSES:
            curve = curve.centred(filled)
    seen = np.flatnonzero(np.isfinite(radius).mean(axis=1) >= LEAST_SEEN)
    if len(seen) < 2:
        return None
    rings = slice(int(seen[0]), int(seen[-1]) + 1)
    if float((np.median(filled[rings], axis=1) < LEAST_ROOM_MM).mean()) > MOST_NARROW:
        return None  # the curve runs through bone: no canal is better than a wrong one
    return Structure(NAME, "critical", curve.tube(filled, rings), MEASURED)


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
    cut = mesh.section(Plane[Patient](between_mm, cranial)).mean(axis=1)
    x, y = ((cut - between_mm) @ axis for axis in (right, anterior))
    between = _first_gap(y[np.abs(x) < MIDLINE_MM])
    if between is None:
        return None
    best, most = None, LEAST_ROOM_MM
    for behind in np.arange(-between[0] + 1.0, -between[1] - 0.9, 0.5):
        ahead = y > -behind - 3.0  # the lamina may be open here
        beside = np.abs(y + behind) < 4.0
        for aside in ASIDE_MM:
            dx = x - aside
            if not ((beside & (dx > 0)).any() and (beside & (dx < 0)).any()):
                continue
            room = float(np.hypot(dx[ahead], (y + behind)[ahead]).min())
            if room > most:
                best, most = (aside, -behind), room
    if best is None:
        return None
    return _Station(between_mm + best[0] * right + best[1] * anterior, right, cranial)


def _first_gap(walls_mm: Array) -> tuple[float, float] | None:
    """The space on the midline behind the body: from its back wall to the lamina, where there is one."""
    high, low = SEARCH_MM
    at = np.sort(walls_mm[(walls_mm < high) & (walls_mm > low)])[::-1]
    front = [float(high), *at.tolist()]
    back = [*at.tolist(), float(low)]
    found = next(((a, b) for a, b in zip(front, back, strict=True) if a - b >= LEAST_GAP_MM), None)
    return None if found is None else (found[0], max(found[1], found[0] - MOST_DEPTH_MM))


def _ends(stations: list[_Station]) -> tuple[Array, Array]:
    """The stations' middles and rightward vectors, each (S, 3), with one more past either end."""
    first, last = stations[0], stations[-1]
    below, above = first.middle_mm - BEYOND_MM * first.cranial, last.middle_mm + BEYOND_MM * last.cranial
    at = np.vstack([below, *(s.middle_mm for s in stations), above])
    return at, np.vstack([first.right, *(s.right for s in stations), last.right])


def _near(meshes: list[TriangleMesh[Patient]], at_mm: Array) -> Array:
    """Surface points (N, 3) that may lie within reach of the canal."""
    low, high = at_mm.min(axis=0) - 2.0 * REACH_MM, at_mm.max(axis=0) + 2.0 * REACH_MM
    found = []
    for mesh in meshes:
        found.append(mesh.vertices_mm[((mesh.vertices_mm > low) & (mesh.vertices_mm < high)).all(axis=1)])
        near = ((mesh.vertices_mm > low) & (mesh.vertices_mm < high)).all(axis=1)[mesh.triangles].any(axis=1)
        corners = mesh.vertices_mm[mesh.triangles[near]]
        wide = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1) > STEP_MM
        for share in np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]]):  # a coarse mesh leaves cells empty
            found.append(np.einsum("c,tcx->tx", share / share.sum(), corners[wide]))
    return np.concatenate(found) if found else np.zeros((0, 3))


@dataclass(frozen=True, eq=False)
class _Curve:
    """Points (S, 3) along a canal, STEP_MM apart; unit tangents to the head; rightward unit vectors square to them."""

    middle_mm: Array
    tangent: Array
    right: Array

    @classmethod
    def through(cls, at_mm: Array, aside: Array) -> _Curve:
        """The smooth curve through points (S, 3), with rightward vectors (S, 3) between which others lie."""
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(at_mm, axis=0), axis=1))])
        where = np.arange(0.0, along[-1], STEP_MM)
        curve = CubicSpline(along, at_mm)
        tangent = curve(where, 1)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        right = np.column_stack([np.interp(where, along, aside[:, n]) for n in range(3)])
        right -= (right * tangent).sum(axis=1, keepdims=True) * tangent
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        return cls(np.asarray(curve(where)), np.asarray(tangent), np.asarray(right))

    @property
    def front(self) -> Array:
        """Forward unit vectors (S, 3)."""
        return np.cross(self.tangent, self.right)

    def walls(self, surface_mm: Array) -> Array:
        """Distance (S, RAYS) to the nearest surface point of each cell; directions from the right over the front.

        nan where a cell holds none.
        """
        found = cKDTree(self.middle_mm).query(surface_mm, distance_upper_bound=REACH_MM)
        near = np.isfinite(found[0])
        ring = np.asarray(found[1])[near]
        off = surface_mm[near] - self.middle_mm[ring]
        x, y = (off * self.right[ring]).sum(axis=1), (off * self.front[ring]).sum(axis=1)
        turn = np.rint(np.arctan2(y, x) * RAYS / (2.0 * np.pi)).astype(int) % RAYS
        out = np.full(len(self.middle_mm) * RAYS, np.inf)
        np.minimum.at(out, ring * RAYS + turn, np.hypot(x, y))
        return np.where(np.isfinite(out), out, np.nan).reshape(-1, RAYS)

    def centred(self, radius_mm: Array) -> _Curve:
        """The curve moved to the middle of the walls (S, RAYS) on its right and left, in its front and back."""
        quarter, width = RAYS // 4, RAYS // 12
        side = [radius_mm[:, np.arange(n * quarter - width, n * quarter + width + 1) % RAYS] for n in range(4)]
        right, front, left, back = (np.median(s, axis=1) for s in side)
        stiff = STIFF_MM / STEP_MM
        x, y = (gaussian_filter1d(0.5 * d, stiff, mode="nearest") for d in (right - left, front - back))
        return _Curve.through(self.middle_mm + x[:, None] * self.right + y[:, None] * self.front, self.right)

    def tube(self, radius_mm: Array, rings: slice) -> TriangleMesh[Patient]:
        """The closed tube with radii (S, RAYS) over some of the rings, both ends capped flat."""
        middle, right, front, radius = (v[rings] for v in (self.middle_mm, self.right, self.front, radius_mm))
        angle = 2.0 * np.pi * np.arange(RAYS) / RAYS
        way = np.cos(angle)[:, None] * right[:, None] + np.sin(angle)[:, None] * front[:, None]
        ring = middle[:, None] + radius[:, :, None] * way
        count = len(middle)
        vertices = np.vstack([ring.reshape(-1, 3), middle[:1], middle[-1:]])
        s, n = np.meshgrid(np.arange(count - 1), np.arange(RAYS), indexing="ij")
        here, beside = s * RAYS + n, s * RAYS + (n + 1) % RAYS
        side = np.stack([here, beside, beside + RAYS, here, beside + RAYS, here + RAYS], axis=-1).reshape(-1, 3)
        turn = np.arange(RAYS)
        bottom, top, last = count * RAYS, count * RAYS + 1, (count - 1) * RAYS
        low = np.column_stack([np.full(RAYS, bottom), (turn + 1) % RAYS, turn])
        high = np.column_stack([np.full(RAYS, top), last + turn, last + (turn + 1) % RAYS])
        return TriangleMesh[Patient](vertices, np.concatenate([side, low, high]).astype(np.int32))


def _filled(radius_mm: Array) -> Array:
    """Radii (S, RAYS) without gaps: bone where it was seen, else what the bone above, below and beside says."""
    out = radius_mm.copy()
    out[out > WIDER * _median(out)] = np.nan
    rows, turn = np.arange(len(out)), np.arange(RAYS)
    for n in range(RAYS):
        known = np.isfinite(out[:, n])
        if known.any():
            out[:, n] = np.interp(rows, rows[known], out[known, n])
    known = np.isfinite(out[0])
    for row in out:  # directions in which no vertebra has a wall: between those that have
        row[~known] = np.interp(turn[~known], turn[known], row[known], period=RAYS)
    smooth = gaussian_filter(out, (1.0, 1.0), mode=("nearest", "wrap"))
    wall = np.where(np.isfinite(radius_mm), radius_mm, np.inf)
    beside = minimum_filter(wall, 3, mode=("nearest", "wrap"))  # an edge may pass between the points of an empty cell
    wall = np.where(np.isfinite(radius_mm), wall, beside)
    return np.asarray(np.maximum(np.minimum(smooth, wall - KEPT_OFF_MM), 0.2))


def _median(values: Array) -> Array:
    """The median (RAYS,) of what is known in each direction; where nothing is, that of all."""
    known = np.isfinite(values).any(axis=0)
    out = np.full(known.shape, float(np.nanmedian(values)))
    out[known] = np.nanmedian(values[:, known], axis=0)
    return out
