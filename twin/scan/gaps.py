"""The distances between slices: one for all, a change of protocol on the way, or a slice that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.fitness import TOUCHING
from twin.scan.headers import Header
from twin.scan.refusals import IrregularSlices

POSITION_TOLERANCE_MM = 0.06  # positions are often rounded to 0.1 mm
FINE_MM = 1.25  # the usual protocol for planning pedicle screws
SHORTEST_RUN = 3  # gaps of one width that make a protocol; fewer may be damage
MOST_RUNS = 4


@dataclass(frozen=True)
class _Run:
    start: int
    gaps: tuple[float, ...]

    @property
    def pitch_mm(self) -> float:
        return float(np.mean(self.gaps))


def changed_pitch_mm(slices: Sequence[Header], gaps: Array) -> float | None:
    """The finest spacing of a stack whose protocol changed on the way, None when a slice may be missing.

    A change of protocol is: a few long runs, each of one spacing, where the slice thickness changes with the spacing;
    one gap between two runs that is no wider than the wider of them; every two neighbours touch or overlap; the
    instance numbers, if any, run on without a hole. A copy that lost slices breaks at least one of these: the slices
    beside the hole keep their thickness and no longer touch, or the hole stands alone.
    """
    runs = _runs(gaps)
    long = [run for run in runs if len(run.gaps) >= SHORTEST_RUN]
    if not 2 <= len(long) <= MOST_RUNS or runs[0] not in long or runs[-1] not in long:
        return None
    for before, run, after in zip(runs, runs[1:], runs[2:], strict=False):
        if run not in long and (
            len(run.gaps) > 1
            or before not in long
            or after not in long
            or run.gaps[0] > max(before.pitch_mm, after.pitch_mm) + POSITION_TOLERANCE_MM
        ):
            return None
    thickness = [h.thickness_mm for h in slices]
    if not all(thickness):
        return None
    thick = np.array(thickness, float)
    if (gaps > TOUCHING * (thick[:-1] + thick[1:]) / 2).any():
        return None
    inner = [thick[run.start + 1 : run.start + len(run.gaps)] for run in long]
    if any(np.ptp(t) > 0.01 * t[0] for t in inner):
        return None
    if any(abs(a[0] - b[0]) < 0.05 * a[0] for a, b in pairwise(inner)):
        return None
    numbers = [h.instance_number for h in slices]
    if all(n is not None for n in numbers):
        steps = np.diff(np.array(numbers, float))
        if not ((steps == 1).all() or (steps == -1).all()):
            return None
    return min(run.pitch_mm for run in long)


def _runs(gaps: Array) -> list[_Run]:
    runs: list[_Run] = []
    for index, gap in enumerate(gaps):
        usual = float(np.median(runs[-1].gaps)) if runs else np.inf
        if runs and abs(gap - usual) <= max(0.02 * usual, POSITION_TOLERANCE_MM):
            runs[-1] = _Run(runs[-1].start, (*runs[-1].gaps, float(gap)))
        else:
            runs.append(_Run(index, (float(gap),)))
    return runs


def irregular(slices: Sequence[Header], gaps: Array, lean_deg: float) -> Fault:
    """What is wrong with the gaps, the worst of them named."""
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > max(0.02 * usual, POSITION_TOLERANCE_MM))
    tilted = f"; the gantry is tilted by {lean_deg:.1f} degrees as well" if lean_deg else ""
    if not len(odd):
        odd = np.array([int(np.argmax(np.abs(gaps - usual)))])
    worst = int(odd[np.argmax(np.abs(gaps[odd] - usual))])
    lost = gaps[odd] / usual
    if (np.abs(lost - np.rint(lost)) < 0.05).all() and (lost > 1.5).all() and len(odd) <= max(1, len(gaps) // 4):
        count = int(np.rint(lost).sum()) - len(odd)
        cause = f"are {count} slices missing?" if count > 1 else "is a slice missing?"
        more = f" ({len(odd)} gaps in all)" if len(odd) > 1 else ""
        return IrregularSlices(
            f"gap of {gaps[worst]:.2f} mm after slice {worst + 1}{more}, the others are {usual:.2f} mm apart; "
            f"{cause}{tilted}",
            path=slices[worst].path,
        )
    spread = " and ".join(f"{g:.2f}" for g in distinct_mm(gaps))
    return IrregularSlices(
        f"slices are {spread} mm apart, one distance is needed (it changes after slice {int(odd[0]) + 1}); were two "
        f"scans joined, or is a slice missing?{tilted}",
        path=slices[int(odd[0])].path,
    )


def distinct_mm(gaps: Array) -> list[float]:
    """The first few widths that occur."""
    values: list[float] = []
    for gap in gaps:
        if all(abs(gap - v) > POSITION_TOLERANCE_MM for v in values):
            values.append(float(gap))
    return values[:4]


def coarse(pitch_mm: float) -> list[str]:
    """What slices too far apart for the spine's small parts are told with; nothing for fine ones."""
    if pitch_mm <= FINE_MM:
        return []
    return [f"slices are {pitch_mm:.2f} mm apart; pedicles and facets need {FINE_MM:g} mm or less"]
