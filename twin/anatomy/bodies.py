"""The outline of each vertebral body: a closed curve a height, where bone falls off outward all around.

Marrow may be darker than muscle, a vessel full of contrast medium as bright as bone, and osteophytes and calcified
walls touch both. The outline tells what lies inside a body (bone, however dark) and what only leans on it. It is found
in polar coordinates about the body's middle: first one curve for all heights, then one a height that stays near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.levels import CUT_HEIGHT_MM, Segment
from twin.anatomy.working import Working

MIDDLE_MM = 22.0  # in front of the canal
WALL_MM = 6.5  # in front of the canal begins the body
SHARES = np.linspace(0.1, 0.9, 9)  # of the height between the endplates
ANGLES = 48
RADII_MM = np.arange(7.0, 36.1, 0.75)
STEEPEST = 2  # radii from one angle to the next
NEAR_MM = 2.5  # a height's curve from the common one
CLEAR_HU = 200.0  # a fall like this is an edge for sure
AROUND_MM, AROUND_SHARES = 46.0, (-0.3, 1.3)  # what is looked at, to the sides and in front; of its height
SHELL_MM = 1.0  # the threshold finds the cortex itself
PLATE_MM = 1.5
CUT_SHARE = 0.6  # of the usual height, where a body's other endplate is not known
DISC_MM = 5.0
OSTEOPHYTE_MM = 3.0  # may stand out this far; what leans on a body further out is a vessel, a duct, a gut
VESSEL_MM = 20.0
BESIDE_MM = 22.0  # in front of the canal: further back stand pedicles, ribs, and L5's transverse processes
LEAST_EDGE = 0.12  # mean of it along a believable outline


@dataclass(frozen=True, eq=False)
class Outline:
    """A body's radius_mm (heights, angles) about its middle, at SHARES of its height; angle 0 is anterior, +90
    degrees left.
    """

    segment: Segment
    radius_mm: Array

    def beyond_mm(self, at: Array) -> Array:
        """How far (N,) outside the outline canal coordinates (N, 3) lie, negative inside; across the body."""
        share = np.clip(self.segment.share(at), SHARES[0], SHARES[-1])
        row = (share - SHARES[0]) / (SHARES[1] - SHARES[0])
        front = at[:, 2] - MIDDLE_MM
        column = np.arctan2(at[:, 1], front) / (2.0 * np.pi) * ANGLES
        low_r, low_c = np.minimum(row.astype(int), len(SHARES) - 2), np.floor(column).astype(int)
        r, c = row - low_r, column - low_c
        value = np.zeros(len(at))
        for dr, wr in ((0, 1.0 - r), (1, r)):
            for dc, wc in ((0, 1.0 - c), (1, c)):
                value += wr * wc * self.radius_mm[low_r + dr, (low_c + dc) % ANGLES]
        return np.asarray(np.hypot(at[:, 1], front) - value)


def find(working: Working, canal: Canal, spine: tuple[Segment, ...]) -> tuple[Outline | None, ...]:
    """An outline a segment; None for the sacrum and where none shows."""
    return tuple(None if segment.is_sacrum else _outline(working, canal, segment) for segment in spine)


def fill_and_clear(
    working: Working, canal: Canal, outlines: Sequence[Outline | None]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Working voxels inside a body (bone, however dark), and those in front of one that only lean on it (no bone)."""
    inside = np.zeros(working.hu.shape, dtype=np.bool_)
    leaning = np.zeros_like(inside)
    for outline in outlines:
        if outline is None:
            continue
        left, front = np.array(list(product((-AROUND_MM, AROUND_MM), (WALL_MM, MIDDLE_MM + AROUND_MM)))).T
        rims = [np.column_stack([_height(outline.segment, s, left, front), left, front]) for s in AROUND_SHARES]
        zyx = working.around(canal.points(np.concatenate(rims)))
        at = canal.coordinates(working.patient_from_index(zyx))
        zyx, at = zyx[at[:, 2] > WALL_MM], at[at[:, 2] > WALL_MM]
        up, down = outline.segment.heights_mm(at)
        share, beyond = outline.segment.share(at), outline.beyond_mm(at)
        low_share = 0.0 if outline.segment.below is not None else 1.0 - CUT_SHARE
        high_share = 1.0 if outline.segment.above is not None else CUT_SHARE
        within = (up > PLATE_MM) & (down > PLATE_MM) & (share > low_share) & (share < high_share)
        inside[tuple(zyx[within & (beyond < -SHELL_MM) & (at[:, 2] > WALL_MM + SHELL_MM)].T)] = True
        off = (up > -DISC_MM) & (down > -DISC_MM) & (share > AROUND_SHARES[0]) & (share < AROUND_SHARES[1])
        off &= (beyond > OSTEOPHYTE_MM) & (beyond < VESSEL_MM) & (at[:, 2] > BESIDE_MM)
        leaning[tuple(zyx[off].T)] = True
    return inside, leaning & ~inside


def _outline(working: Working, canal: Canal, segment: Segment) -> Outline | None:
    angle = 2.0 * np.pi * np.arange(ANGLES) / ANGLES
    reach = np.concatenate([RADII_MM[0] - 0.75 * np.arange(3, 0, -1), RADII_MM, RADII_MM[-1] + 0.75 * np.arange(1, 5)])
    left = np.sin(angle)[:, None] * reach
    front = MIDDLE_MM + np.cos(angle)[:, None] * reach
    at = np.stack(
        [np.stack([_height(segment, share, left, front), left, front], axis=-1) for share in SHARES]
    )  # heights, angles, radii, 3
    hu = working.sample(canal.points(at))
    seen = (hu > -500.0).mean(axis=(1, 2)) > 0.8
    if not seen.any():
        return None
    total = np.cumsum(np.clip(hu, -100.0, 500.0), axis=2)
    inside = (total[..., 3:-4] - np.concatenate([np.zeros((*total.shape[:2], 1)), total[..., :-8]], axis=2)) / 4.0
    outside = (total[..., 7:] - total[..., 4:-3]) / 3.0
    edge = np.clip((inside - outside) / CLEAR_HU, 0.0, 1.0)
    edge[~seen] = 0.0
    # behind its wall a body goes over into pedicles and canal: no further
    back = MIDDLE_MM + np.cos(angle)[:, None] * RADII_MM < WALL_MM
    edge[:, back] = -1.0
    common = _circle(edge[seen].mean(axis=0), STEEPEST)
    if float(edge[seen].mean(axis=0)[np.arange(ANGLES), common].mean()) < LEAST_EDGE:
        return None
    radius = np.empty((len(SHARES), ANGLES))
    away = (RADII_MM[None, :] - RADII_MM[common][:, None]) / NEAR_MM
    for n in range(len(SHARES)):
        own = _circle(edge[n] - 0.15 * away**2, STEEPEST) if seen[n] else common
        radius[n] = RADII_MM[own]
    return Outline(segment, radius)


def _height(segment: Segment, share: float, left: Array, front: Array) -> Array:
    """Along the canal, at a share of the body's height."""
    if segment.below is not None and segment.above is not None:
        low, high = segment.below.upper_at(left, front), segment.above.lower_at(left, front)
        return np.asarray(low + share * (high - low))
    if segment.above is not None:
        return np.asarray(segment.above.lower_at(left, front) - (1.0 - share) * CUT_HEIGHT_MM)
    if segment.below is not None:
        return np.asarray(segment.below.upper_at(left, front) + share * CUT_HEIGHT_MM)
    return np.zeros_like(left) + share * CUT_HEIGHT_MM


@njit
def _circle(gain: NDArray[np.float64], steepest: int) -> NDArray[np.int64]:
    """The closed curve (an index an angle) of the greatest sum: three turns of dynamic programming, the middle one."""
    angles, n = gain.shape
    total = np.zeros(n)
    came = np.zeros((3 * angles, n), dtype=np.int64)
    for turn in range(3 * angles):
        new = np.empty(n)
        for r in range(n):
            best, where = -1e18, r
            for p in range(max(0, r - steepest), min(n, r + steepest + 1)):
                value = total[p] - 0.06 * (p - r) * (p - r)
                if value > best:
                    best, where = value, p
            new[r] = best + gain[turn % angles, r]
            came[turn, r] = where
        total = new
    at = int(np.argmax(total))
    out = np.zeros(angles, dtype=np.int64)
    for turn in range(3 * angles - 1, -1, -1):
        if angles <= turn < 2 * angles:
            out[turn - angles] = at
        at = came[turn, at]
    return out
