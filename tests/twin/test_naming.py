"""Level names by count: from the sacrum, from the last ribs, from the first; and what a transitional spine does."""

import numpy as np
import pytest

from twin.anatomy import ribs
from twin.anatomy.levels import Segment
from twin.anatomy.naming import Naming, Ribs, named

BOTH = frozenset({"left", "right"})


def counted(
    ribless: int, bearing: int, above: int = 0, *, sacrum: bool = True, lengths: tuple[float | None, ...] = ()
) -> Naming:
    """The names of a spine: (a sacrum,) some vertebrae without ribs, some with, some without."""
    long = [Ribs(BOTH, lengths[n] if n < len(lengths) else None) for n in range(bearing)]
    borne = [*[Ribs()] * (ribless + sacrum), *long, *[Ribs()] * above]
    spine = [Segment(None, None, is_sacrum=sacrum and n == 0) for n in range(len(borne))]
    return named(spine, borne)


def test_five_without_ribs_and_twelve_with_are_the_usual_spine() -> None:
    some = counted(5, 2)
    assert some.names[:3] == ("sacrum", "vertebrae_L5", "vertebrae_L4")
    assert some.names[6:] == ("vertebrae_T12", "vertebrae_T11")
    assert some.confidence > 0.9
    assert some.transitional is None
    assert not some.warnings
    whole = counted(5, 12, 3)
    assert whole.names[-3:] == ("vertebrae_C7", "vertebrae_C6", "vertebrae_C5")
    assert whole.confidence > some.confidence
    assert any("12 with ribs" in line for line in whole.evidence)


@pytest.mark.parametrize(
    ("ribless", "pairs", "lowest", "first_with_ribs", "transitional"),
    [
        (6, 12, "vertebrae_L6", "vertebrae_T12", "vertebrae_L6"),
        (5, 13, "vertebrae_L5", "vertebrae_T13", "vertebrae_T13"),
        (4, 12, "vertebrae_L4", "vertebrae_T12", "vertebrae_L4"),
        (4, 13, "vertebrae_L5", "vertebrae_L1", None),  # ribs on L1
        (6, 11, "vertebrae_L5", "vertebrae_T11", None),  # a T12 without ribs
    ],
)
def test_both_ends_of_the_thorax_tell_a_transitional_spine(
    ribless: int, pairs: int, lowest: str, first_with_ribs: str, transitional: str | None
) -> None:
    seen = counted(ribless, pairs, 3)
    assert seen.names[1] == lowest
    assert seen.names[1 + ribless] == first_with_ribs
    assert "vertebrae_T1" in seen.names
    assert seen.transitional == transitional
    assert seen.confidence >= 0.8


def test_without_the_first_ribs_an_odd_count_is_doubted() -> None:
    six = counted(6, 2)
    assert six.transitional == "vertebrae_L6"
    assert six.names[1] == "vertebrae_L6"
    assert six.confidence < 0.7
    assert "confirmed" in six.warnings[0]
    short = counted(5, 3, lengths=(60.0, 110.0, None))
    assert short.transitional == "vertebrae_T13"
    assert short.confidence <= 0.5
    assert counted(5, 3, lengths=(60.0, 190.0, None)).transitional is None  # a short twelfth rib is no thirteenth
    assert counted(3, 3).confidence < 0.5


def test_without_a_sacrum_the_ribs_count_and_nothing_is_a_guess() -> None:
    last = counted(3, 2, sacrum=False)
    assert last.names == tuple(f"vertebrae_{n}" for n in ("L3", "L2", "L1", "T12", "T11"))
    assert last.confidence == pytest.approx(0.5)
    first = counted(0, 9, 2, sacrum=False)
    assert first.names[-3:] == ("vertebrae_T1", "vertebrae_C7", "vertebrae_C6")
    assert first.names[0] == "vertebrae_T9"
    thorax = counted(1, 12, 1, sacrum=False)
    assert (thorax.names[0], thorax.names[1], thorax.names[-1]) == ("vertebrae_L1", "vertebrae_T12", "vertebrae_C7")
    assert thorax.confidence == pytest.approx(0.8)
    assert counted(1, 11, 1, sacrum=False).confidence < 0.2  # eleven may be twelve with one missed
    short = counted(1, 11, 2, sacrum=False)  # the first or the last pair may be the one
    assert short.confidence < 0.5
    assert "off by one" in short.warnings[0]
    guess = counted(0, 2, sacrum=False)
    assert guess.confidence < 0.2
    assert "guess" in guess.warnings[0]
    assert counted(3, 0, sacrum=False).confidence < 0.2


def test_a_lone_rib_far_below_the_others_is_not_counted() -> None:
    one, none = Ribs(frozenset({"left"})), Ribs()
    spine = [Segment(None, None, is_sacrum=n == 0) for n in range(9)]
    found = named(spine, [none, none, none, one, none, none, *[Ribs(BOTH)] * 3])
    assert found.names[6] == "vertebrae_T12"
    assert found.confidence > 0.9
    assert any("lone" in line for line in found.evidence)


def test_ribs_are_numbered_by_their_order_along_the_wall() -> None:
    """Four ribs of one side cut out of the middle: only the hindmost reaches the spine."""
    at, heights = {}, {}
    z = np.linspace(0.0, 30.0, 40)
    for n, key in enumerate("abcd"):
        angle = np.radians(20.0 + 25.0 * n + 0.3 * (30.0 - z))
        at[key] = np.column_stack([z, 140.0 * np.sin(angle), ribs.TRUNK_MM - 100.0 * np.cos(angle)])
        heights[key] = z
    assert ribs.numbered(at, heights, {"a": 11}) == {"a": 11, "b": 10, "c": 9, "d": 8}
    assert ribs.numbered(at, heights, {}) == {}
