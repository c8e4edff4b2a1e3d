"""The screws of several levels, chosen together: each pedicle's own best axis first, then heads that a rod can follow.

Along each side three neighbouring heads should lie on the spine's own curve: what the middle one is off the line of its
neighbours, less what the pedicles themselves are, costs LATERAL (across) and SAGITTAL (front to back) a square
millimetre. Screw after screw moves to the axis that is worth most with its neighbours held, up and down the side until
nothing moves. The diameter stays what the pedicle takes alone, and no wall gets nearer than the least margin: alignment
is paid for out of spare room only. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial.frames import Patient
from spatial.progress import Progress, silent
from spatial.rigid import Array, Directions, Points
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.auto.autoplan import (
    DIAMETERS_MM,
    LENGTHS_MM,
    Alternative,
    Proposal,
    Refusal,
    Sized,
    fitted,
    keep_mm,
    pedicle_of,
    refused,
    sized,
)
from twin.plan.auto.corridor import BACK_MM
from twin.plan.auto.pedicle import Aim, Pedicle
from twin.plan.levels import rank
from twin.plan.screws.grade import ScrewGrade, grade_screw
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.ladder import alternatives as ladder
from twin.plan.screws.screw import Screw
from twin.scan.volume import Volume

LATERAL, SAGITTAL = 0.04, 0.015  # mm of wall distance a square millimetre that a head is off its neighbours' line
SPARE_MM = 2.0  # bone around the thread beyond which more is worth nothing
SLACK_MM = 0.05  # between the walls as points and as rays
SWEEPS = 12
STILL_MM = 0.05
THICK_WORTH = 0.5  # mm of wall distance a millimetre of diameter, when alternatives are ranked
OTHER_MM, OTHER_RAD = 2.0, np.radians(5.0)  # an alternative is at least so far from what is proposed
SHIFTS_MM = np.linspace(-3.0, 3.0, 5)
TURNS_RAD = np.radians(np.linspace(-12.0, 12.0, 7))
LOOKED_AT = 40  # of the lattice's axes, those with most room


@dataclass(eq=False)
class _Place:
    """A pedicle with its axis while the side is being aligned."""

    pedicle: Pedicle
    aim: Aim
    alone: Array
    first: Sized
    x: Array
    head_mm: float
    middle_mm: Array
    counted_mm: float

    @property
    def diameter_mm(self) -> float:
        return self.first.screw.diameter_mm

    def head(self, x: Array) -> Array:
        """The head's centre (3,) on an axis."""
        line = self.pedicle.axis(x)
        back = self.pedicle.grid.trace(
            Points[Patient](line.point_mm), Directions[Patient](-line.direction), max_mm=BACK_MM
        )
        return np.asarray(line.point_mm - (min(float(back), BACK_MM) + self.head_mm) * line.direction)


def propose_construct(
    twin: Twin,
    pedicles: Sequence[tuple[str, Side]],
    volume: Volume | None = None,
    *,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    lengths_mm: Sequence[float] = LENGTHS_MM,
    library: Library | None = None,
    alternatives: int = 3,
    progress: Progress = silent,
) -> list[Proposal]:
    """A proposal for each pedicle, in the order given, with up to so many alternatives each (0: nor what to do where
    no screw fits). Raises NoBone.
    """
    head_mm = (library or load_library()).screws().head.height_mm / 2.0
    sizes = tuple(diameters_mm), tuple(lengths_mm)
    places: dict[int, _Place] = {}
    found: dict[int, Proposal] = {}
    for n, (bone, side) in enumerate(pedicles):
        progress(f"searching {bone} {side}", 0.7 * n / len(pedicles))
        place = _alone(twin, bone, side, volume, head_mm, sizes)
        if isinstance(place, Refusal):
            found[n] = refused(bone, side, place, ladder(twin, bone, side, volume) if alternatives else ())
        else:
            places[n] = place
    keep = keep_mm(twin)
    for side in ("left", "right"):
        chain = [places[n] for n in places if pedicles[n][1] == side]
        _align(sorted(chain, key=lambda p: rank(p.pedicle.bone) or 0), keep)
    for k, (n, place) in enumerate(places.items()):
        progress(f"grading {pedicles[n][0]} {pedicles[n][1]}", 0.7 + 0.3 * k / len(places))
        found[n] = _proposal(twin, place, volume, sizes, alternatives, keep)
    return [found[n] for n in range(len(pedicles))]


def _alone(
    twin: Twin,
    bone: str,
    side: Side,
    volume: Volume | None,
    head_mm: float,
    sizes: tuple[tuple[float, ...], tuple[float, ...]],
) -> _Place | Refusal:
    """The pedicle's own best axis: the one with most room where dense bone and the joint would take it off a screw."""
    pedicle = pedicle_of(twin, bone, side)
    if isinstance(pedicle, Refusal):
        return pedicle
    aim = Aim.of(twin, bone, side, volume)
    x, first = fitted(twin, pedicle, *sizes)
    if isinstance(first, Refusal):
        return first
    right = pedicle.frame.rotation[:, 0]
    middle = pedicle.isthmus_mm - ((pedicle.isthmus_mm - pedicle.frame.translation_mm) @ right) * right
    return _Place(pedicle, aim, x, first, x, head_mm, middle, pedicle.counted_mm(x))


def _align(chain: list[_Place], keep: float) -> None:
    """Move the axes of one side, cranial first, until the heads lie on a line that a rod can follow."""
    heads = [place.head(place.x) for place in chain]
    for sweep in range(SWEEPS):
        moved = 0.0
        order = range(len(chain)) if sweep % 2 == 0 else range(len(chain) - 1, -1, -1)
        for n in order:
            place = chain[n]
            aim = _pulled(place, _pulls(chain, heads, n), keep)
            x, _ = place.pedicle.best(aim, np.array([place.x, place.alone]))
            head = place.head(x)
            moved = max(moved, float(np.linalg.norm(head - heads[n])))
            place.x, heads[n] = x, head
        if moved < STILL_MM:
            break
    for n, place in enumerate(chain):
        place.aim = _pulled(place, _pulls(chain, heads, n), keep)


def _pulled(place: _Place, pulls: Array, keep: float) -> Aim:
    """What the pedicle is to aim at beside its neighbours. The nearest wall keeps the least margin, and the medial and
    the inferior one their extra as far as the pedicle alone has it.
    """
    thread = place.diameter_mm / 2.0
    floor = thread + keep + SLACK_MM
    return replace(
        place.aim, pulls=pulls, head_mm=place.head_mm, enough_mm=thread + SPARE_MM, floor_mm=floor,
        counted_floor_mm=min(place.counted_mm - SLACK_MM, floor),
    )  # fmt: skip


def _pulls(chain: list[_Place], heads: list[Array], n: int) -> Array:
    """Rows of `Aim.pulls` for head n: every three neighbours that it is one of."""
    rows = []
    for middle in (n - 1, n, n + 1):
        if not 1 <= middle <= len(chain) - 2:
            continue
        three = range(middle - 1, middle + 2)
        weight = _weights(chain[middle - 1].middle_mm, chain[middle].middle_mm, chain[middle + 1].middle_mm)
        off, own = np.zeros(3), 0.0
        for w, k in zip(weight, three, strict=True):
            off = off - w * chain[k].middle_mm
            if k == n:
                own = w
            else:
                off = off + w * heads[k]
        right, anterior, _ = chain[middle].pedicle.frame.rotation.T
        form = LATERAL * np.outer(right, right) + SAGITTAL * np.outer(anterior, anterior)
        rows.append([own, *(-off), *form.ravel()])
    return np.array(rows) if rows else np.zeros((0, 13))


def _weights(above: Array, middle: Array, below: Array) -> tuple[float, float, float]:
    """How three neighbours make up how far the middle one is off the line of the others."""
    line = below - above
    part = float(np.clip((middle - above) @ line / (line @ line), 0.0, 1.0))
    return -(1.0 - part), 1.0, -part


def _off_mm(aim: Aim, head: Array) -> float | None:
    """How far a head is off the line of its neighbours, mm (rms where it is one of several threes); None without."""
    if not len(aim.pulls):
        return None
    off = aim.pulls[:, :1] * head - aim.pulls[:, 1:4]
    forms = aim.pulls[:, 4:].reshape(-1, 3, 3)
    return float(np.sqrt(np.einsum("pa,pab,pb->p", off, forms, off).mean() / LATERAL))


def _proposal(
    twin: Twin,
    place: _Place,
    volume: Volume | None,
    sizes: tuple[tuple[float, ...], tuple[float, ...]],
    alternatives: int,
    keep: float,
) -> Proposal:
    """The screw on the aligned axis, or on the pedicle's own where that one is refused a size."""
    pedicle, first = place.pedicle, place.first
    same = tuple(d for d in sizes[0] if d == place.diameter_mm)
    found = sized(twin, pedicle, place.x, same, sizes[1])
    words = _moved_words(place)
    if isinstance(found, Refusal) or found.screw.length_mm < first.screw.length_mm - 5.0:
        place.x, found, words = place.alone, first, "its own best axis; the rod's line would cost length"
    limits = {**found.limits, "place": words}
    if "diameter" in first.limits:
        limits["diameter"] = first.limits["diameter"]
    grade = grade_screw(twin, found.screw, volume, patient_from_bone=pedicle.frame)
    others: list[tuple[float, Alternative]] = []
    for kind, x, diameters in _other_ways(place, sizes[0], keep):
        if len(others) == alternatives:
            break
        other = sized(twin, pedicle, x, diameters, sizes[1])
        if isinstance(other, Refusal):
            continue
        graded = grade_screw(twin, other.screw, volume, patient_from_bone=pedicle.frame)
        against = _trades(place, (found.screw, grade), (other.screw, graded))
        worth = place.pedicle.worth(place.aim, x) + THICK_WORTH * against["diameter_mm"]
        others.append((worth, Alternative(kind, other.screw, graded, against)))
    ranked = tuple(one for _, one in sorted(others, key=lambda pair: -pair[0]))
    return Proposal(pedicle.bone, pedicle.side, found.screw, grade, limits=limits, alternatives=ranked)


def _moved_words(place: _Place) -> str:
    """Whether the rod's line moved the axis off the pedicle's own best one."""
    shift, turn = _apart(place, place.x, place.alone)
    if shift < 0.3 and turn < np.radians(1.0):
        return "its own best axis"
    return f"{shift:.1f} mm, {np.degrees(turn):.1f} degrees off its own best axis, for the rod's line and dense bone"


def _apart(place: _Place, x: Array, y: Array) -> tuple[float, float]:
    """Between two axes: mm at the isthmus, and the angle (rad)."""
    a, b = place.pedicle.axis(x), place.pedicle.axis(y)
    cosine = float(np.clip(a.direction @ b.direction, -1.0, 1.0))
    return float(np.hypot(*(x[:2] - y[:2]))), float(np.arccos(cosine))


def _other_ways(
    place: _Place, diameters_mm: tuple[float, ...], keep: float
) -> list[tuple[str, Array, tuple[float, ...]]]:
    """Other screws that this pedicle could take: kind, axis, and the diameters it may have."""
    up_to = tuple(d for d in diameters_mm if d <= place.diameter_mm)
    thinner = max((d for d in up_to if d < place.diameter_mm), default=None)
    ways: list[tuple[str, Array, tuple[float, ...]]] = []
    shift, turn = _apart(place, place.x, place.alone)
    if shift > 0.5 or turn > np.radians(1.5):
        ways.append(("roomiest", place.alone, up_to))
    other = _elsewhere(place, (thinner or place.diameter_mm) / 2.0 + keep + SLACK_MM)
    if other is not None:
        ways.append(("another way in", other, up_to))
    if thinner is not None:
        ways.append(("thinner", place.x, (thinner,)))
    return ways


def _elsewhere(place: _Place, least_mm: float) -> Array | None:
    """Of a lattice of axes the one worth most that is clearly another than the one proposed."""
    pedicle = place.pedicle
    axes, room = pedicle.lattice((SHIFTS_MM, SHIFTS_MM, TURNS_RAD, TURNS_RAD), 20.0, least_mm)
    away = axes - place.x
    far = (np.hypot(away[:, 0], away[:, 1]) >= OTHER_MM) | (np.hypot(away[:, 2], away[:, 3]) >= OTHER_RAD)
    axes, spare = axes[far], room[far]
    best: Array | None = None
    most = -np.inf
    for x in axes[np.argsort(-spare, kind="stable")[:LOOKED_AT]]:
        worth = pedicle.worth(place.aim, x)
        if worth > most:
            best, most = x, worth
    return best


def _trades(place: _Place, ours: tuple[Screw, ScrewGrade], other: tuple[Screw, ScrewGrade]) -> dict[str, float]:
    """What the other screw gains (+) and costs (-) against ours; `rod_line_mm`: how much further off its head is."""
    (screw, grade), (theirs, graded) = ours, other
    walls = ("medial", "lateral", "superior", "inferior")
    least = min(graded.margin_mm[w] for w in walls) - min(grade.margin_mm[w] for w in walls)
    trades = {
        "least_margin_mm": least,
        "diameter_mm": theirs.diameter_mm - screw.diameter_mm,
        "length_mm": theirs.length_mm - screw.length_mm,
    }
    off = [_off_mm(place.aim, s.entry.mm - place.head_mm * s.axis.direction) for s in (screw, theirs)]
    if off[0] is not None and off[1] is not None:
        trades["rod_line_mm"] = off[1] - off[0]
    hu = [g.hu.get("thread") for g in (grade, graded)]
    if hu[0] is not None and hu[1] is not None:
        trades["thread_hu"] = hu[1] - hu[0]
    return trades
