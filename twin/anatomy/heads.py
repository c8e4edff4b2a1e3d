"""Femoral heads in a CT: spheres. The votes of their edges (Hough transform on gradients) say where to look; the sphere
taken is the one whose whole boundary shows at one radius, whether it falls to the joint space or rises to the socket.

Votes alone end in the socket: its inner wall is brighter than the head and nearly as round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array
from twin.anatomy.bone import Side
from twin.anatomy.working import Working

RADIUS_MM = (17.0, 31.0)
LATERAL_MM = (50.0, 130.0)  # from the body's middle
# of a whole sphere's edge voxels that voted for the centre; the neck and the socket's floor never do
LEAST_SHARE = 0.18
CLEAR_SHARE = 0.6  # with that much the edges themselves are fitted; at 3 mm they are not to be told from the socket's
LEAST_SCORE = 0.55  # of the directions' mean boundary; a true head reaches 0.7 at 3 mm voxels
VOTED = 0.35  # places with this share of the most votes are looked at
MOST_PLACES = 2500
DIRECTIONS = 110
RING_MM = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
NECK_COSINE = 0.6  # directions this near to the neck's have no boundary
FALL_HU = 80.0  # from the head to the joint space, full marks
RISE_HU = 150.0  # from the head to the socket's plate, full marks
RISE_SHARES = (0.9, 0.4)  # a rise counts less than a fall: where the head is, and then how large (its own bright shell
# is a rise too)
CALM_HU = (60.0, 200.0)  # the head's inside may vary so much for nothing, and by that much more for half the marks


@dataclass(frozen=True, eq=False)
class Head:
    """A femoral head: side, centre (3,) mm Patient, radius, and the share of its sphere that was seen."""

    side: Side
    centre_mm: Array
    radius_mm: float
    share: float


def neck_axis(side: str) -> Array:
    """From the femoral head into its neck, roughly: lateral, down, a little back (neck-shaft angle 125 degrees)."""
    axis = np.array([0.75 if side == "left" else -0.75, 0.15, -0.65])
    return np.asarray(axis / np.linalg.norm(axis))


def find(working: Working, middle_x_mm: float, below_z_mm: float) -> tuple[Head, ...]:
    """At most one head a side, lower than `below_z_mm`; a side that shows none is left out (cut off, or an implant)."""
    top = int(np.clip(round((below_z_mm - working.origin_mm[2]) / working.spacing_mm), 0, working.hu.shape[0]))
    if top < 2 * RADIUS_MM[0] / working.spacing_mm:
        return ()
    block = ndimage.gaussian_filter(np.clip(working.hu[:top], -100, 700), 1.0)
    gradient = np.stack(list(np.gradient(block)), axis=-1) / working.spacing_mm
    strength = np.linalg.norm(gradient, axis=-1)
    x = np.arange(block.shape[2]) * working.spacing_mm + working.origin_mm[0] - middle_x_mm
    found = []
    sides: tuple[tuple[Side, float], ...] = (("right", -1.0), ("left", 1.0))  # Patient: +x is left
    for side, sign in sides:
        columns = np.flatnonzero((sign * x > LATERAL_MM[0] - 35) & (sign * x < LATERAL_MM[1] + 35))
        if len(columns) < 10:
            continue
        first, last = int(columns[0]), int(columns[-1]) + 1
        edge = strength[:, :, first:last] > 35.0
        zyx = np.argwhere(edge)
        if len(zyx) < 200:
            continue
        g = gradient[:, :, first:last][edge] / strength[:, :, first:last][edge][:, None]
        votes = np.zeros(edge.shape, dtype=np.float32)
        radii = np.arange(RADIUS_MM[0], RADIUS_MM[1], working.spacing_mm) / working.spacing_mm
        _vote(zyx.astype(np.float64), g, radii, votes)
        votes = ndimage.gaussian_filter(votes, 1.2)
        votes[:, :, (sign * x[first:last] <= LATERAL_MM[0]) | (sign * x[first:last] >= LATERAL_MM[1])] = 0.0
        at, radius = _roundest(working, side, votes, first)
        if radius == 0.0:
            continue
        spacing = working.spacing_mm
        offset = np.array([0.0, 0.0, first])
        fitted = _fitted(zyx.astype(float), g, working.index_from_patient(at) - offset, radius / spacing)
        if fitted is None:
            continue
        centre, r, share = fitted
        fine = working.patient_from_index(centre + offset)
        if share > CLEAR_SHARE and np.linalg.norm(fine - at) < 5.0 and abs(r * spacing - radius) < 3.5:
            at, radius = fine, r * spacing
        found.append(Head(side, at, radius, share))
    return tuple(h for h in found if h.share >= LEAST_SHARE)


def _roundest(working: Working, side: str, votes: NDArray[np.float32], first: int) -> tuple[Array, float]:
    """Centre mm and radius of the sphere with the best boundary among the places with many votes; radius 0: none."""
    every = max(1, round(4.0 / working.spacing_mm))
    sparse = ndimage.maximum_filter(votes, every)[::every, ::every, ::every]
    places = np.argwhere(sparse > VOTED * float(votes.max()))
    rank = np.argsort(-sparse[tuple(places.T)], kind="stable")[:MOST_PLACES]
    centres = working.patient_from_index(places[rank] * every + np.array([0.0, 0.0, first]))
    around = ways(DIRECTIONS)
    around = np.ascontiguousarray(around[around @ neck_axis(side) < NECK_COSINE])
    radii = np.arange(RADIUS_MM[0], RADIUS_MM[1], 1.5)
    ring = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], dtype=float)
    best: tuple[float, Array, float] = (0.0, np.zeros(3), 0.0)
    for step, rise_share in ((4.0, 0), (2.0, 0), (1.0, 0), (2.0, 1), (1.0, 1), (0.5, 1)):
        scores = np.empty((len(centres), len(radii)))
        at = (centres - working.origin_mm) / working.spacing_mm
        _score(working.hu, at, radii, around, working.spacing_mm, RISE_SHARES[rise_share], scores)
        n, m = np.unravel_index(int(np.argmax(scores)), scores.shape)
        best = float(scores[n, m]), centres[n], float(radii[m])
        if rise_share == 0 and best[0] < LEAST_SCORE:
            return best[1], 0.0
        centres = best[1] + 0.5 * step * ring
        radii = best[2] + (np.arange(-3.0, 6.1, 0.75) if step == 1.0 and rise_share == 0 else RING_MM * step)
    return best[1], best[2]


def ways(count: int) -> Array:
    """Unit directions (count, 3), evenly over the sphere (Fibonacci)."""
    n = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * n / count), np.pi * (1 + 5**0.5) * n
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=-1)


def _fitted(zyx: Array, inward: Array, centre: Array, radius: float) -> tuple[Array, float, float] | None:
    """Sphere through the edge voxels that look at the centre: (centre, radius) in voxels, share of the sphere seen."""
    shell = np.zeros(len(zyx), dtype=np.bool_)
    for sweep in range(10):
        d = centre - zyx
        far = np.linalg.norm(d, axis=1)
        looks = (d * inward).sum(axis=1) > 0.96 * far
        if sweep == 0:  # the shell that many edges share, area for area
            bins = np.arange(max(1.0, radius - 2.5), radius + 3.6, 0.5)
            count, edges = np.histogram(far[looks], bins)
            density = ndimage.gaussian_filter1d(count / (0.5 * (edges[1:] + edges[:-1])) ** 2, 1.0)
            best = int(np.argmax(density))
            radius = float(0.5 * (edges[best] + edges[best + 1]))
        shell = looks & (np.abs(far - radius) < max(1.0, 2.4 - 0.2 * sweep))
        if shell.sum() < 50:
            return None
        p = zyx[shell]
        A = np.column_stack([2 * p, np.ones(len(p))])
        solution, *_ = np.linalg.lstsq(A, (p**2).sum(axis=1), rcond=None)
        centre = solution[:3]
        radius = float(np.sqrt(max(solution[3] + centre @ centre, 1.0)))
    directions = (zyx[shell] - centre) / radius
    cells = np.unique(np.round(directions * 5).astype(int), axis=0)
    whole = 300.0  # cells of this size that a whole sphere fills
    return centre, radius, min(1.0, len(cells) / whole)


@njit
def _vote(zyx: Array, inward: Array, radii: Array, votes: NDArray[np.float32]) -> None:
    nz, ny, nx = votes.shape
    for n in range(zyx.shape[0]):
        for r in range(len(radii)):
            z = int(zyx[n, 0] + radii[r] * inward[n, 0] + 0.5)
            y = int(zyx[n, 1] + radii[r] * inward[n, 1] + 0.5)
            x = int(zyx[n, 2] + radii[r] * inward[n, 2] + 0.5)
            if 0 <= z < nz and 0 <= y < ny and 0 <= x < nx:
                votes[z, y, x] += 1.0


@njit
def _hu_at(hu: NDArray[np.float32], x: float, y: float, z: float) -> float:
    """Trilinear, between -100 and 500; the edge goes on outside."""
    nz, ny, nx = hu.shape
    x, y, z = min(max(x, 0.0), nx - 1.001), min(max(y, 0.0), ny - 1.001), min(max(z, 0.0), nz - 1.001)
    i, j, k = int(x), int(y), int(z)
    a, b, c = x - i, y - j, z - k
    low = (hu[k, j, i] * (1 - a) + hu[k, j, i + 1] * a) * (1 - b)
    low += (hu[k, j + 1, i] * (1 - a) + hu[k, j + 1, i + 1] * a) * b
    high = (hu[k + 1, j, i] * (1 - a) + hu[k + 1, j, i + 1] * a) * (1 - b)
    high += (hu[k + 1, j + 1, i] * (1 - a) + hu[k + 1, j + 1, i + 1] * a) * b
    value: float = min(max(low * (1 - c) + high * c, -100.0), 500.0)
    return value


@njit_parallel
def _score(
    hu: NDArray[np.float32],
    centres: Array,
    radii: Array,
    ways: Array,
    spacing_mm: float,
    rise_share: float,
    out: Array,
) -> None:
    """Mean over the directions of how clearly the HU change just outside each radius, less what varies inside."""
    for n in prange(centres.shape[0]):
        for m in range(radii.shape[0]):
            total = 0.0
            for w in range(ways.shape[0]):
                p = np.empty(7)
                for s in range(7):
                    d = -6.0 + 2.0 * s if s < 3 else -0.5 + 1.5 * (s - 3)  # -6 -4 -2 | -0.5 1 2.5 4
                    t = (radii[m] + d) / spacing_mm
                    p[s] = _hu_at(
                        hu,
                        centres[n, 0] + t * ways[w, 0],
                        centres[n, 1] + t * ways[w, 1],
                        centres[n, 2] + t * ways[w, 2],
                    )
                fall = (0.5 * (p[2] + p[3]) - min(p[4], p[5], p[6])) / FALL_HU
                rise = (max(p[5], p[6]) - p[2]) / RISE_HU
                restless = (abs(p[0] - p[2]) + abs(p[1] - p[2]) - CALM_HU[0]) / CALM_HU[1]
                total += max(min(max(fall, 0.0), 1.0), rise_share * min(max(rise, 0.0), 1.0)) - 0.5 * min(
                    max(restless, 0.0), 1.0
                )
            out[n, m] = total / ways.shape[0]
