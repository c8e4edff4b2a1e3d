"""Which vertebra is which: counted up from the sacrum, down from the first ribs, and from the last ribs; with how sure
that is and why.

Five rib-less vertebrae are usual, and twelve pairs of ribs. One in ten people has another count: a sixth lumbar
vertebra or a lumbar one less, a thirteenth pair of ribs, ribs on L1. Where the scan holds both ends of the thorax the
counts tell these apart; where it does not, the likeliest name is given with little confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twin.anatomy.levels import Segment

USUAL_PAIRS = 12  # with a vertebra without ribs beyond either end, one is enough: a missed rib would spoil the count
LEAST_RIBLESS = 2  # vertebrae without ribs beyond the last pair; one alone may be a rib that was missed
SHORT_RIB_MM = 80.0  # the last ribs: a lumbar rib or a thirteenth is shorter than most twelfth ones
TWELFTH_MM = 150.0  # and the pair above is then a twelfth, shorter than any eleventh


@dataclass(frozen=True)
class Ribs:
    """The ribs on one vertebra: which sides were seen, and how long the longest is; None: cut by the scan's edge."""

    sides: frozenset[str] = frozenset()
    length_mm: float | None = None


@dataclass(frozen=True)
class Naming:
    """Names a segment (empty: none), confidence (0 to 1) of the absolute names, what it rests on, a transitional
    vertebra's name, and what to tell the user.
    """

    names: tuple[str, ...]
    confidence: float
    evidence: tuple[str, ...]
    transitional: str | None = None
    warnings: tuple[str, ...] = ()


def named(spine: Sequence[Segment], ribs: Sequence[Ribs]) -> Naming:
    """The names of the segments, from below upward; `ribs` says of each what ribs were seen on it."""
    has_sacrum = bool(spine) and spine[0].is_sacrum
    first = 1 if has_sacrum else 0
    bearing = [n for n in range(first, len(spine)) if ribs[n].sides]
    lone = []
    while len(bearing) > 1 and bearing[1] > bearing[0] + 1 and len(ribs[bearing[0]].sides) == 1:
        lone.append(f"a lone rib beside vertebra {bearing.pop(0) - first + 1} from below is not counted")
    lowest, highest = (bearing[0], bearing[-1]) if bearing else (None, None)
    pairs = None
    evidence = [
        "sacrum seen by its alae" if has_sacrum else "no sacrum in the scan",
        "no ribs seen" if lowest is None else f"last ribs on vertebra {lowest - first + 1} from below",
    ]
    if lowest is not None and highest is not None and len(spine) - 1 - highest >= LEAST_RIBLESS:
        pairs = highest - lowest + 1
        evidence.append(f"first ribs on vertebra {highest - first + 1} from below: {pairs} with ribs")
    if has_sacrum:
        count = None if lowest is None else lowest - first
        if count is not None:
            evidence.append(f"{count} vertebrae without ribs above the sacrum")
        reading = _from_sacrum(count, pairs, _last_are_short(ribs, bearing))
    else:
        reading = _from_ribs(lowest, None if pairs is None and not _whole_thorax(bearing, len(spine)) else highest)
    order = _order(reading.lumbar, reading.thoracic)
    names = []
    for n, segment in enumerate(spine):
        at = reading.start + n - first
        names.append("sacrum" if segment.is_sacrum else order[at] if 0 <= at < len(order) else "")
    return Naming(
        tuple(names), reading.confidence, (*evidence, *lone, *reading.because), reading.transitional, reading.warnings
    )


@dataclass(frozen=True)
class _Reading:
    """How many lumbar and thoracic vertebrae there are, and which of them, from below, the scan's lowest is."""

    confidence: float
    lumbar: int = 5
    thoracic: int = 12
    start: int = 0
    transitional: str | None = None
    because: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _from_sacrum(count: int | None, pairs: int | None, short: bool) -> _Reading:
    """By the number of rib-less vertebrae above the sacrum, and of vertebrae with ribs where all were seen."""
    if count is None:
        return _Reading(0.85, because=("five lumbar vertebrae taken for granted",))
    doubt = "; the levels need to be confirmed"
    if count == 5 and pairs == 13:
        return _Reading(0.95, 5, 13, 0, "vertebrae_T13", ("13 pairs of ribs: the lowest is called T13",))
    if count == 5 and pairs is None and short:
        why = "the last two pairs of ribs are as short as a twelfth and a thirteenth"
        return _Reading(0.5, 5, 13, 0, "vertebrae_T13", (why,), (f"{why}: T13 or a short T12{doubt}",))
    if count == 5:
        usual = pairs in (None, 12)
        wrong = () if usual else (f"{pairs} pairs of ribs above five lumbar vertebrae, 12 are usual{doubt}",)
        return _Reading((0.95 if pairs is None else 0.99) if usual else 0.5, warnings=wrong)
    if count == 6 and pairs == 11:
        why = "11 pairs of ribs above six vertebrae: T12 has no ribs"
        return _Reading(0.8, because=(why,), warnings=(why + doubt,))
    if count == 6:
        why = "six vertebrae without ribs above the sacrum: the lowest is called L6"
        if pairs == 12:
            return _Reading(0.95, 6, 12, 0, "vertebrae_L6", (why,))
        unsure = f"{why}, or T12 has no ribs or they were missed{doubt}"
        return _Reading(0.6, 6, 12, 0, "vertebrae_L6", (why,), (unsure,))
    if count == 4 and (pairs == 13 or (pairs is None and short)):
        why = "four vertebrae without ribs above the sacrum, and short ribs on the next: it is called L1, with ribs"
        return _Reading(0.8 if pairs == 13 else 0.5, because=(why,), warnings=(why + doubt,))
    if count == 4:
        why = "four vertebrae without ribs above the sacrum: the lowest is called L4"
        if pairs == 12:
            return _Reading(0.95, 4, 12, 0, "vertebrae_L4", (why,))
        return _Reading(0.6, 4, 12, 0, "vertebrae_L4", (why,), (f"{why}, or L1 bears ribs{doubt}",))
    return _Reading(
        0.4, warnings=(f"{count} vertebrae without ribs above the sacrum, 5 are usual: a rib was missed{doubt}",)
    )


def _from_ribs(lowest: int | None, top: int | None) -> _Reading:
    """Without a sacrum: down from the first ribs (`top`), else up from the last, else by guess."""
    if lowest is not None and top is not None:
        pairs = top - lowest + 1
        thoracic = 13 if lowest >= LEAST_RIBLESS and pairs == 13 else 12
        if lowest > 0 and pairs < USUAL_PAIRS:
            return _Reading(
                0.3, 5, thoracic, 5 + thoracic - 1 - top,
                warnings=(
                    f"{pairs} pairs of ribs between vertebrae without: one was missed at the upper or the lower end, "
                    "so all names may be off by one; they need to be confirmed",
                ),
            )  # fmt: skip
        return _Reading(
            0.8, 5, thoracic, 5 + thoracic - 1 - top, "vertebrae_T13" if thoracic == 13 else None,
            warnings=("no sacrum in the scan: levels counted from the first ribs; they need to be confirmed",),
        )  # fmt: skip
    if lowest is not None and lowest >= LEAST_RIBLESS:
        return _Reading(
            0.5, start=5 - lowest,
            warnings=("no sacrum in the scan: levels counted from the lowest pair of ribs; they need to be confirmed",),
        )  # fmt: skip
    called = "L5" if lowest is None else "T12"
    return _Reading(
        0.1, start=0 if lowest is None else 5,
        warnings=(
            f"no sacrum in the scan and no end of the ribs: the lowest vertebra is called {called} by guess; "
            "the levels need to be confirmed",
        ),
    )  # fmt: skip


def _whole_thorax(bearing: Sequence[int], count: int) -> bool:
    """Twelve pairs of ribs in a row, and a vertebra without ribs beyond either end."""
    if not bearing or bearing[0] == 0 or bearing[-1] == count - 1:
        return False
    return bearing[-1] - bearing[0] + 1 == USUAL_PAIRS == len(bearing)


def _order(lumbar: int, thoracic: int) -> tuple[str, ...]:
    return tuple(
        [f"vertebrae_L{n}" for n in range(lumbar, 0, -1)]
        + [f"vertebrae_T{n}" for n in range(thoracic, 0, -1)]
        + [f"vertebrae_C{n}" for n in range(7, 0, -1)]
    )


def _last_are_short(ribs: Sequence[Ribs], bearing: Sequence[int]) -> bool:
    """Whether the two lowest pairs are as short as a twelfth and a thirteenth; False when either is cut."""
    if len(bearing) < 2:
        return False
    last, next_up = ribs[bearing[0]].length_mm, ribs[bearing[1]].length_mm
    return last is not None and next_up is not None and last < SHORT_RIB_MM and next_up < TWELFTH_MM
