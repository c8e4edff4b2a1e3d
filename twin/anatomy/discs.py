"""Discs along the canal: dark between two bright endplates, at regular distances.

The spine is straightened along the canal and averaged across its middle; a disc is then a pair of bright lines, each
with its own tilt (a disc is a wedge), with a darker gap between. Dynamic programming picks the chain whose spacings
change slowly from one level to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.compiled import njit
from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.working import Working

HALF_WIDTH_MM = 9.0  # across the middle: within the flat part of every endplate
ANTERIOR_MM = (12.0, 32.0)  # from the canal's centre: behind the body's middle, so no level is missed in a small spine
PIVOT_MM = 22.0
TILTS_DEG = np.arange(-34.0, 35.0, 2.0)
GAP_MM = (2.0, 9.0)  # from the middle of a disc to either endplate
SPACING_MM = (17.0, 50.0)
LEAST_CONTRAST_HU = 45.0


@dataclass(frozen=True)
class Disc:
    """A disc on the canal: where along it (mm, at PIVOT_MM in front), the tilts of the endplates around it (rad, +
    rises anteriorly).
    """

    along_mm: float
    upper_mm: float
    lower_mm: float
    upper_tilt_rad: float
    lower_tilt_rad: float
    contrast_hu: float

    def signed_mm(self, along_left_anterior: Array) -> Array:
        """Height (...) of canal coordinates (..., 3) above the disc's middle plane, along the canal."""
        slope = np.tan(0.5 * (self.upper_tilt_rad + self.lower_tilt_rad))
        return np.asarray(
            along_left_anterior[..., 0] - self.along_mm - slope * (along_left_anterior[..., 2] - PIVOT_MM)
        )


def find(working: Working, canal: Canal) -> tuple[Disc, ...]:
    """The discs from below upward; empty when none shows."""
    first, last = -60.0, float(canal.along_mm[-1]) + 12.0
    s = np.arange(first, last, 0.75)
    a = np.arange(ANTERIOR_MM[0], ANTERIOR_MM[1], 1.5)
    sheet = np.zeros((len(s), len(a)))
    across = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 0.1, 3.0)
    for x in across:
        at = np.stack(np.broadcast_arrays(s[:, None], x, a[None, :]), axis=-1).astype(float)
        sheet += np.clip(working.sample(canal.points(at)), -200.0, 700.0)
    sheet /= len(across)
    tilts = np.radians(TILTS_DEG)
    lines = np.empty((len(tilts), len(s)))
    for n, tilt in enumerate(tilts):
        shift = (a - PIVOT_MM) * np.tan(tilt)
        lines[n] = np.mean([np.interp(s + d, s, sheet[:, c]) for c, d in enumerate(shift)], axis=0)
    step = s[1] - s[0]
    near, far = round(GAP_MM[0] / step), round(GAP_MM[1] / step)
    table = np.zeros((len(s), 5))
    _score(lines, near, far, table)
    table[(s < first + GAP_MM[1]) | (s > last - GAP_MM[1]), 0] = 0.0
    strong = np.sort(table[:, 0])[-max(1, len(s) // 30) :]
    least = max(LEAST_CONTRAST_HU, 0.22 * float(np.median(strong)))
    chain = _chain(
        np.minimum(table[:, 0], 2.5 * least), least, round(SPACING_MM[0] / step), round(SPACING_MM[1] / step)
    )
    discs = []
    for n in chain:
        contrast, up, upper, down, lower = table[n]
        discs.append(
            Disc(
                float(s[n] + 0.5 * step * (up - down)), float(s[n] + up * step), float(s[n] - down * step),
                float(tilts[int(upper)]), float(tilts[int(lower)]), float(contrast),
            )
        )  # fmt: skip
    return tuple(discs)


@njit
def _score(lines: Array, near: int, far: int, table: Array) -> None:
    """A row a place: contrast, steps up to the upper endplate and its tilt, steps down to the lower and its tilt."""
    tilts, n = lines.shape
    for s in range(far, n - far):
        best = 0.0
        for t in range(tilts):
            gap = lines[t, s]
            # upper and lower endplate: tilts within 10 degrees of the middle plane's
            up, up_at, up_tilt = -1e9, 0, t
            down, down_at, down_tilt = -1e9, 0, t
            for u in range(max(0, t - 5), min(tilts, t + 6)):
                for d in range(near, far + 1):
                    if lines[u, s + d] > up:
                        up, up_at, up_tilt = lines[u, s + d], d, u
                    if lines[u, s - d] > down:
                        down, down_at, down_tilt = lines[u, s - d], d, u
            # peaks, not the flank of something brighter further away
            value = min(up, down) - gap
            if up_at == far or down_at == far:
                value *= 0.5
            if value > best:
                best = value
                table[s, 0] = value
                table[s, 1], table[s, 2] = up_at, up_tilt
                table[s, 3], table[s, 4] = down_at, down_tilt


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
