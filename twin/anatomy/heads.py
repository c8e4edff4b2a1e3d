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
SIDES: tuple[tuple[Side, float], ...] = (("right", -1.0), ("left", 1.0))
MARGIN_MM = 35.0  # about where a centre may lie: the head's edge
LATERAL_MM = (50.0, 130.0)  # from the body's middle
# of a whole sphere's edge voxels that voted for the centre; the neck and the socket's floor never do
LEAST_SHARE = 0.18
CLEAR_SHARE = 0.6  # with that much the edges themselves are fitted; at 3 mm they are not to be told from the socket's
LEAST_SCORE = 0.55  # of the directions' mean boundary; a true head reaches 0.7 at 3 mm voxels
VOTED = 0.35  # places with this share of the most votes are looked at
MOST_PLACES = 2500
DIRECTIONS = 110
STARTS = 8  # the likeliest places, each followed to its best
RING_MM = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
NECK_COSINE = 0.6  # directions this near to the neck's have no boundary
FALL_HU = 80.0  # from the head to the joint space, full marks
RISE_HU = 150.0  # from the head to the socket's plate, full marks
RISE_SHARES = (0.9, 0.4)  # a rise counts less than a fall: where the head is, and then how large (its own bright shell
# is a rise too)
CALM_HU = (60.0, 200.0)  # the head's inside may vary so much for nothing, and by that much more for half the marks


Sphere = tuple[float, Array, float]  # score, centre (3,) mm, radius mm


@dataclass(frozen=True, eq=False)
class Head:
    """A femoral head: side, centre (3,) mm Patient, radius, the share of its sphere that was seen, and how clear its
    boundary is all around (0 to 1). A `prosthetic` one is as large as its cup's outside.
    """

    side: Side
    centre_mm: Array
    radius_mm: float
    share: float
    score: float = 0.0
    prosthetic: bool = False


def neck_axis(side: str) -> Array:
    """From the femoral head into its neck, roughly: lateral, down, a little back (neck-shaft angle 125 degrees)."""
    axis = np.array([0.75 if side == "left" else -0.75, 0.15, -0.65])
    return np.asarray(axis / np.linalg.norm(axis))


def find(working: Working, middle_x_mm: float, below_z_mm: float) -> tuple[Head, ...]:
    """At most one head a side, lower than `below_z_mm`; a side that shows none is left out (cut off, or an implant)."""
    low, high = working.patient_from_index(np.array([[0, 0, 0], np.array(working.hu.shape) - 1]))
    high[2] = min(high[2], below_z_mm)
    found = []
    for side, sign in SIDES:  # Patient: +x is left
        reach = np.sort(middle_x_mm + sign * np.array(LATERAL_MM))
        low[0], high[0] = reach
        head = within(working, side, low, high)
        if head is not None:
            found.append(head)
    return tuple(found)


def within(working: Working, side: Side, low_mm: Array, high_mm: Array) -> Head | None:
    """The head of a left or right femur whose centre lies between two corners (3,); None when none shows."""
    grown = np.array([MARGIN_MM, MARGIN_MM, MARGIN_MM])
    at = working.index_from_patient(np.stack([low_mm - grown, high_mm + grown]))
    first = np.clip(np.floor(at[0]), 0, working.hu.shape).astype(int)
    last = np.clip(np.ceil(at[1]) + 1, 0, working.hu.shape).astype(int)
    if (last - first < 2 * RADIUS_MM[0] / working.spacing_mm).any():
        return None
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    block = ndimage.gaussian_filter(np.clip(working.hu[box], -100, 700), 1.0)
    gradient = np.stack(list(np.gradient(block)), axis=-1) / working.spacing_mm
    strength = np.linalg.norm(gradient, axis=-1)
    edge = strength > 35.0
    zyx = np.argwhere(edge)
    if len(zyx) < 200:
        return None
    inward = gradient[edge] / strength[edge][:, None]
    votes = np.zeros(edge.shape, dtype=np.float32)
    radii = np.arange(RADIUS_MM[0], RADIUS_MM[1], working.spacing_mm) / working.spacing_mm
    _vote(zyx.astype(np.float64), inward, radii, votes)
    votes = ndimage.gaussian_filter(votes, 1.2)
    for axis in range(3):
        there = working.origin_mm[2 - axis] + (first[axis] + np.arange(votes.shape[axis])) * working.spacing_mm
        outside = (there <= low_mm[2 - axis]) | (there >= high_mm[2 - axis])
        np.moveaxis(votes, axis, 0)[outside] = 0.0
    centre_mm, radius_mm, score = _roundest(working, side, votes, first)
    if score < LEAST_SCORE:
        return None
    spacing = working.spacing_mm
    centre = working.index_from_patient(centre_mm) - first
    fitted = _fitted(zyx.astype(float), inward, centre, radius_mm / spacing)
    if fitted is None or fitted[2] < LEAST_SHARE:
        return None
    at_mm, r = working.patient_from_index(fitted[0] + first), fitted[1] * spacing
    if fitted[2] > CLEAR_SHARE and np.linalg.norm(at_mm - centre_mm) < 5.0 and abs(r - radius_mm) < 3.5:
        centre_mm, radius_mm = at_mm, r
    return Head(side, centre_mm, radius_mm, fitted[2], score)


def _roundest(
    working: Working, side: str, votes: NDArray[np.float32], first: NDArray[np.int64]
) -> tuple[Array, float, float]:
    """Centre mm, radius and score of the sphere with the best boundary among the places with many votes."""
    every = max(1, round(4.0 / working.spacing_mm))
    sparse = ndimage.maximum_filter(votes, every)[::every, ::every, ::every]
    places = np.argwhere(sparse > VOTED * float(votes.max()))
    rank = np.argsort(-sparse[tuple(places.T)], kind="stable")[:MOST_PLACES]
    centres = working.patient_from_index(places[rank] * every + first)
    around = ways(DIRECTIONS)
    around = np.ascontiguousarray(around[around @ neck_axis(side) < NECK_COSINE])
    radii = np.arange(RADIUS_MM[0], RADIUS_MM[1], 1.5)
    ring = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], dtype=float)

    def scored(at_mm: Array, of_mm: Array, rise_share: float) -> Array:
        out = np.empty((len(at_mm), len(of_mm)))
        at = (at_mm - working.origin_mm) / working.spacing_mm
        _score(working.hu, at, of_mm, around, working.spacing_mm, rise_share, out)
        return out

    def refined(best: Sphere, steps: tuple[float, ...], rise_share: float, of_mm: Array) -> Sphere:
        for step in steps:
            at_mm = best[1] + 0.5 * step * ring
            scores = scored(at_mm, of_mm, rise_share)
            n, m = np.unravel_index(int(np.argmax(scores)), scores.shape)
            best = float(scores[n, m]), at_mm[n], float(of_mm[m])
            of_mm = best[2] + RING_MM * step
        return best

    if not len(centres):
        return np.zeros(3), 0.0, 0.0
    scores = scored(centres, radii, RISE_SHARES[0])
    likely = np.argsort(-scores.max(axis=1))[:STARTS]
    starts = [(float(scores[n].max()), centres[n], float(radii[int(np.argmax(scores[n]))])) for n in likely]
    where = max(
        (refined(start, (4.0, 2.0, 1.0), RISE_SHARES[0], start[2] + 4.0 * RING_MM) for start in starts),
        key=lambda sphere: sphere[0],
    )
    size = refined(where, (2.0, 1.0, 0.5), RISE_SHARES[1], where[2] + np.arange(-3.0, 6.1, 0.75))
    return size[1], size[2], where[0]


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
        p = np.empty(7)
        for m in range(radii.shape[0]):
            total = 0.0
            for w in range(ways.shape[0]):
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
