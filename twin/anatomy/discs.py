"""Discs along the canal: dark between two bright endplates, at regular distances.

In canal coordinates a disc is a pair of bright planes with a darker gap between, each with its own tilt (a disc is a
wedge) and roll (in scoliosis to the side as well). The marrow between a body's own endplates looks much the same, but
pedicles stand below a disc and the foramina beside and above it. Dynamic programming picks the chain whose spacings
change slowly from one level to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.compiled import njit, njit_parallel, prange
from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.working import Working

HALF_WIDTH_MM = 9.0  # across the middle: within the flat part of every endplate
ANTERIOR_MM = (12.0, 32.0)  # from the canal's centre: behind the body's middle, so no level is missed in a small spine
PIVOT_MM = 22.0
TILTS_DEG = np.arange(-34.0, 35.0, 2.0)
ROLLS_DEG = np.arange(-16.0, 17.0, 4.0)
GAP_MM = (2.0, 9.0)  # from the middle of a disc to either endplate
SPACING_MM = (17.0, 50.0)
STEP_MM = 0.75
LEAST_CONTRAST_HU = 12.0
LEAST_SHARE = 0.22  # of the contrast of the clearest discs
PEDICLE_MM = ((1.0, 8.0), (10.0, 18.0))  # anterior from the canal, lateral
PEDICLE_BELOW_MM = (7.0, 16.0)  # a disc's middle
FORAMEN_ABOVE_MM = (-2.0, 8.0)
BONE_RANGE_HU = 150.0


@dataclass(frozen=True)
class Disc:
    """A disc on the canal: where along it (mm, at PIVOT_MM in front), the tilts of the endplates around it (rad, +
    rises anteriorly) and their rolls (rad, + rises to the left).
    """

    along_mm: float
    upper_mm: float
    lower_mm: float
    upper_tilt_rad: float
    lower_tilt_rad: float
    contrast_hu: float
    upper_roll_rad: float = 0.0
    lower_roll_rad: float = 0.0

    def upper_at(self, left_mm: Array, anterior_mm: Array) -> Array:
        """Where along the canal the endplate above the disc lies."""
        return np.asarray(
            self.upper_mm
            + np.tan(self.upper_tilt_rad) * (anterior_mm - PIVOT_MM)
            + np.tan(self.upper_roll_rad) * left_mm
        )

    def lower_at(self, left_mm: Array, anterior_mm: Array) -> Array:
        """Where along the canal the endplate below the disc lies."""
        return np.asarray(
            self.lower_mm
            + np.tan(self.lower_tilt_rad) * (anterior_mm - PIVOT_MM)
            + np.tan(self.lower_roll_rad) * left_mm
        )


def find(working: Working, canal: Canal, bone_hu: float) -> tuple[Disc, ...]:
    """The discs from below upward; empty when none shows."""
    first, last = -60.0, float(canal.along_mm[-1]) + 12.0
    s = np.arange(first, last, STEP_MM)
    a = np.arange(ANTERIOR_MM[0], ANTERIOR_MM[1], 1.5)
    across = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 0.1, 3.0)
    at = np.stack(np.broadcast_arrays(s[:, None, None], across[None, :, None], a[None, None, :]), axis=-1)
    block = np.clip(working.sample(canal.points(np.ascontiguousarray(at))), -200.0, 700.0)
    tilts, rolls = np.radians(TILTS_DEG), np.radians(ROLLS_DEG)
    planes = np.empty((len(rolls), len(tilts), len(s)))
    _average(block, across, a - PIVOT_MM, np.tan(rolls) / STEP_MM, np.tan(tilts) / STEP_MM, planes)
    near, far = round(GAP_MM[0] / STEP_MM), round(GAP_MM[1] / STEP_MM)
    table = np.zeros((len(s), 7))
    _score(planes, near, far, table)
    table[:, 0] *= _phase(working, canal, s, bone_hu)
    table[(s < first + GAP_MM[1]) | (s > last - GAP_MM[1]), 0] = 0.0
    strong = np.sort(table[:, 0])[-max(1, len(s) // 30) :]
    least = max(LEAST_CONTRAST_HU, LEAST_SHARE * float(np.median(strong)))
    chain = _chain(
        np.minimum(table[:, 0], 2.5 * least), least, round(SPACING_MM[0] / STEP_MM), round(SPACING_MM[1] / STEP_MM)
    )
    discs = []
    for n in chain:
        contrast, up, upper, upper_roll, down, lower, lower_roll = table[n]
        discs.append(
            Disc(
                float(s[n] + 0.5 * STEP_MM * (up - down)), float(s[n] + up * STEP_MM), float(s[n] - down * STEP_MM),
                float(tilts[int(upper)]), float(tilts[int(lower)]), float(contrast),
                float(rolls[int(upper_roll)]), float(rolls[int(lower_roll)]),
            )
        )  # fmt: skip
    return tuple(discs)


def _phase(working: Working, canal: Canal, s: Array, bone_hu: float) -> Array:
    """How well pedicles and foramina stand as they do about a disc, at each place (N,): 0.1 to 1.2."""
    (rear, front), (inner, outer) = PEDICLE_MM
    x, a = np.meshgrid(np.arange(inner, outer + 0.1, 2.0), np.arange(rear, front + 0.1, 1.75), indexing="ij")
    beside = np.concatenate([x.ravel(), -x.ravel()])
    at = np.stack(np.broadcast_arrays(s[:, None], beside[None, :], np.tile(a.ravel(), 2)[None, :]), axis=-1)
    hu = working.sample(canal.points(np.ascontiguousarray(at)))
    bone = np.clip((hu - bone_hu) / BONE_RANGE_HU, 0.0, 1.0).mean(axis=1)
    total = np.concatenate([[0.0], np.cumsum(bone)])

    def mean(low_mm: float, high_mm: float) -> Array:
        low = np.clip(np.arange(len(s)) + round(low_mm / STEP_MM), 0, len(s) - 1)
        high = np.clip(np.arange(len(s)) + round(high_mm / STEP_MM) + 1, low + 1, len(s))
        return np.asarray((total[high] - total[low]) / (high - low))

    step = mean(-PEDICLE_BELOW_MM[1], -PEDICLE_BELOW_MM[0]) - mean(*FORAMEN_ABOVE_MM)
    strong = max(0.1, float(np.percentile(step, 85.0)))
    return np.clip(0.5 + 0.7 * step / strong, 0.1, 1.2)


@njit_parallel
def _average(block: Array, across: Array, front: Array, rolls: Array, tilts: Array, planes: Array) -> None:
    """Mean HU of a plane through each place: (roll, tilt, place); slopes are steps a millimetre."""
    n = block.shape[0]
    for t in prange(len(tilts)):
        for r in range(len(rolls)):
            for s in range(n):
                planes[r, t, s] = 0.0
            for x in range(len(across)):
                for a in range(len(front)):
                    shift = rolls[r] * across[x] + tilts[t] * front[a]
                    whole = int(np.floor(shift))
                    part = shift - whole
                    for s in range(n):
                        low = min(max(s + whole, 0), n - 1)
                        high = min(max(s + whole + 1, 0), n - 1)
                        planes[r, t, s] += block[low, x, a] * (1.0 - part) + block[high, x, a] * part
            for s in range(n):
                planes[r, t, s] /= len(across) * len(front)


@njit_parallel
def _score(planes: Array, near: int, far: int, table: Array) -> None:
    """A row a place: contrast, then of the upper and of the lower endplate: steps to it, its tilt and its roll."""
    rolls, tilts, n = planes.shape
    for place in prange(max(0, n - 2 * far)):
        s = far + np.int64(place)
        best = 0.0
        for r in range(rolls):
            for t in range(tilts):
                gap = planes[r, t, s]
                if gap > 600.0:
                    continue
                # upper and lower endplate: within 10 degrees of the middle plane, 4 to the side
                up, up_at, up_tilt, up_roll = -1e9, 0, t, r
                down, down_at, down_tilt, down_roll = -1e9, 0, t, r
                for q in range(max(0, r - 1), min(rolls, r + 2)):
                    for u in range(max(0, t - 5), min(tilts, t + 6)):
                        for d in range(near, far + 1):
                            if planes[q, u, s + d] > up:
                                up, up_at, up_tilt, up_roll = planes[q, u, s + d], d, u, q
                            if planes[q, u, s - d] > down:
                                down, down_at, down_tilt, down_roll = planes[q, u, s - d], d, u, q
                # peaks, not the flank of something brighter further away; upright planes before rolled ones
                value = (min(up, down) - gap) * (1.0 - 0.02 * abs(r - rolls // 2))
                if up_at == far or down_at == far:
                    value *= 0.5
                if value > best:
                    best = value
                    table[s, 0] = value
                    table[s, 1], table[s, 2], table[s, 3] = up_at, up_tilt, up_roll
                    table[s, 4], table[s, 5], table[s, 6] = down_at, down_tilt, down_roll


@njit
def _chain(score: Array, least: float, shortest: int, longest: int) -> list[int]:
    """The chain of places with the greatest sum of (score - least), spacings changing slowly (second-order)."""
    n = len(score)
    spans = longest - shortest + 1
    total = np.full((n, spans), -1e18)  # ends at place, came over a span
    came = np.full((n, spans), -2)
    start = np.full(n, -1e18)
    for s in range(n):
        if score[s] <= least:
            continue
        gain = score[s] - least
        start[s] = gain
        for d in range(spans):
            b = s - shortest - d
            if b < 0 or score[b] <= least:
                continue
            best, where = start[b], -1
            for e in range(spans):
                if total[b, e] > -1e17:
                    change = (d - e) / (0.25 * shortest)
                    value = total[b, e] - 0.5 * least * min(change * change, 4.0)
                    if value > best:
                        best, where = value, e
            total[s, d] = best + gain
            came[s, d] = where
    best, at, span = -1e18, -1, -1
    for s in range(n):
        if start[s] > best:
            best, at, span = start[s], s, -1
        for d in range(spans):
            if total[s, d] > best:
                best, at, span = total[s, d], s, d
    chain = [0 for _ in range(0)]
    while at >= 0:
        chain.append(at)
        if span < 0:
            break
        at, span = at - shortest - span, came[at, span]
    return chain[::-1]
