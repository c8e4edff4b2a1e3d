"""The answer to a planning request: osteotomies and screws as proposals, each with its reasons and what binds it.

The first goal (by priority) that is not reached yet decides the cuts; all are measured after them and say by how much
they fall short.
Screws follow where bones are left to hold them. Nothing is applied here: it is a proposal, and nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spatial.progress import Progress, silent
from twin.anatomy.bone import Side
from twin.anatomy.twin import Twin
from twin.plan.auto.autoplan import DIAMETERS_MM, LENGTHS_MM, Proposal, Refusal, fitting_diameter_mm, keep_mm, refused
from twin.plan.auto.construct import propose_construct
from twin.plan.auto.rods import RodPlan, plan_rods
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.levels import RARE, bone_of, levels_between
from twin.plan.measures.correction import NoWay, Part, Way, leg_ways, measured_after, solve, spine_ways, turn_ways
from twin.plan.measures.measured import SIGNS, Measured
from twin.plan.plan import Item
from twin.plan.request import OF_SPINE, BadRequest, Goal, Request
from twin.plan.screws.implants import load_library
from twin.scan.volume import Volume

TAKES_PEDICLES = ("PSO", "VCR")
SIDES: tuple[Side, Side] = ("left", "right")
NEAR_LIMIT = 1.05  # a bend within this of the tightest one is at its limit
WALLS = ("medial", "lateral", "superior", "inferior")


@dataclass(frozen=True, eq=False)
class Reached:
    """One goal: measured now and after the proposal, and by how much it falls short (None: not measured)."""

    name: str
    goal: Goal
    now: Measured
    after: Measured

    @property
    def short_by(self) -> float | None:
        """In the goal's unit; 0 when it is reached."""
        return None if self.after.value is None else self.goal.short_by(self.after.value)

    def to_json(self) -> dict[str, Any]:
        """For `plan request --json`."""
        return {
            "name": self.name,
            "wanted": self.goal.words,
            "unit": self.after.unit,
            "now": self.now.to_json(),
            "after": self.after.to_json(),
            "short_by": self.short_by,
        }

    def words(self) -> str:
        """In a line."""
        short, sign = self.short_by, SIGNS[self.after.unit]
        verdict = (
            "not measured" if short is None else "reached" if short == 0.0 else f"falls short by {short:.1f}{sign}"
        )
        return f"{self.name}: wanted {self.goal.words}{sign}; {self.now.words()} -> {self.after.words()}: {verdict}"


@dataclass(frozen=True, eq=False)
class Held:
    """One pedicle's answer under the request's limits, with what binds it."""

    proposal: Proposal
    binding: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Answer:
    """What is proposed, what each goal comes to, and the other ways that were tried, best first."""

    request: Request
    way: Way | None
    others: tuple[Way, ...]
    goals: tuple[Reached, ...]
    screws: tuple[Held, ...]
    rods: tuple[RodPlan, ...]
    notes: tuple[str, ...]

    @property
    def cuts(self) -> tuple[Osteotomy, ...]:
        """The proposed osteotomies."""
        return () if self.way is None else self.way.cuts

    @property
    def items(self) -> tuple[Item, ...]:
        """All that is proposed."""
        screws = (held.proposal.screw for held in self.screws if held.proposal.screw is not None)
        return (*self.cuts, *screws, *(one.rod for one in self.rods))

    @property
    def bindings(self) -> Mapping[str, str]:
        """What binds each thing that is proposed, by its id."""
        cuts = {} if self.way is None else {cut.id: self.way.binding for cut in self.way.cuts}
        screws = {held.proposal.screw.id: held.binding for held in self.screws if held.proposal.screw is not None}
        return cuts | screws | {one.rod.id: rod_binding(one) for one in self.rods}


def answer(twin: Twin, request: Request, volume: Volume | None = None, *, progress: Progress = silent) -> Answer:
    """Proposals for a request. Raises BadRequest (a name that this twin or the library does not know), UnknownLevel."""
    guarded = _guarded(twin, request.constraints.no_go)
    fixed = _fixed(request, twin)
    side: Side | None = None if request.side == "both" else request.side
    ways: list[Way] = []
    notes: list[str] = []
    goals = request.ordered
    before = {name: measured_after(twin, name, side, ()) for name in goals}
    driver = next(
        (name for name, goal in goals.items() if Reached(name, goal, before[name], before[name]).short_by), None
    )
    if goals and driver is None:
        notes.append("no goal asks for a cut: each is reached already, or can't be measured")
    elif driver is not None:
        progress("looking for cuts", 0.0)
        try:
            ways = solve(twin, driver, goals[driver], side, _ways(twin, request, fixed, side))
        except NoWay as fault:
            notes.append(fault.message)
    way = next((one for one in ways if one.cuts), None)
    cuts = () if way is None else way.cuts
    if ways and way is None:
        notes.append("no cut brings the goal nearer: " + "; ".join(f"{w.words}: {w.failed}" for w in ways))
    reached = tuple(
        Reached(name, goal, before[name], measured_after(twin, name, side, cuts)) for name, goal in goals.items()
    )
    screws = _screws(guarded, request, fixed, cuts, volume, progress) if request.procedure in OF_SPINE else ()
    rods = () if cuts else _rods(twin, screws)
    if screws and cuts:
        notes.append("no rod is bent: the cuts move its screws against each other")
    if way is not None and way.short_by:
        sign = "" if driver is None else SIGNS[driver.rpartition("_")[2]]
        notes.append(f"the nearest way falls short by {way.short_by:.1f}{sign}: {way.binding}")
    return Answer(request, way, tuple(one for one in ways if one is not way), reached, screws, rods, tuple(notes))


def _ways(twin: Twin, request: Request, fixed: Sequence[str], side: Side | None) -> list[tuple[Part, ...]]:
    if side is None or request.procedure in OF_SPINE:
        return spine_ways(twin, request.constraints, fixed)
    if request.procedure == "derotation":
        limb = "femur" if "femoral_version_deg" in request.goals.asked else "tibia"
        twin.bone(f"{limb}_{side}")
        return turn_ways(request.constraints, limb, side)
    limb = "tibia" if request.procedure == "high_tibial_osteotomy" else "femur"
    twin.bone(f"{limb}_{side}")
    return leg_ways(twin, request.constraints, limb, side)


def _guarded(twin: Twin, no_go: Sequence[str]) -> Twin:
    """The twin with the structures of the request as critical ones, which proposals keep away from."""
    strange = [name for name in no_go if name not in twin.structures]
    if strange:
        known = ", ".join(sorted(twin.structures)) or "none"
        raise BadRequest(f"no_go {', '.join(strange)}: not a structure of this twin; there are: {known}")
    structures = {
        name: replace(one, role="critical") if name in no_go else one for name, one in twin.structures.items()
    }
    return replace(twin, structures=structures)


def _fixed(request: Request, twin: Twin) -> list[str]:
    if request.levels is None:
        return []
    levels = levels_between(request.levels)
    return [bone_of(level) for level in levels if level not in RARE or bone_of(level) in twin.bones]


def _sizes(request: Request) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Diameters and lengths to choose from: the family's, or what the automatic plan takes. Raises BadImplant."""
    name = request.constraints.screw_family
    if name is None:
        return DIAMETERS_MM, LENGTHS_MM
    family = load_library().screws(name)
    if family.kind != "pedicle":
        raise BadRequest(
            f"screw_family {name}: these are {family.kind} screws; a fixation is planned with pedicle screws"
        )
    return family.diameters_mm, family.lengths_mm


def _screws(
    twin: Twin,
    request: Request,
    fixed: Sequence[str],
    cuts: Sequence[Osteotomy],
    volume: Volume | None,
    progress: Progress,
) -> tuple[Held, ...]:
    every, lengths = _sizes(request)
    most = request.constraints.max_diameter_mm
    diameters = [d for d in every if most is None or d <= most]
    if not diameters:
        raise BadRequest(f"max_diameter_mm {most:g}: the thinnest screw to choose from has {min(every):g} mm")
    sides = SIDES if request.side == "both" else (request.side,)
    taken = {cut.bone: cut.id for cut in cuts if cut.kind in TAKES_PEDICLES}
    places = [(bone, side) for bone in fixed for side in sides]
    here = [place for place in places if place[0] in twin.bones and place[0] not in taken]
    made = propose_construct(
        twin, here, volume, diameters_mm=diameters, lengths_mm=lengths, library=load_library(), progress=progress
    )
    found: dict[tuple[str, Side], Held] = {}
    for place, proposal in zip(here, made, strict=True):
        found[place] = _within(twin, request, proposal, diameters, every, lengths, volume)
    for place in places:
        if place not in found:
            why = _absent(twin, place[0], taken)
            found[place] = Held(refused(*place, why), why.reason, ())
    return tuple(found[place] for place in places)


def _rods(twin: Twin, screws: Sequence[Held]) -> tuple[RodPlan, ...]:
    placed = {held.proposal.screw.id: held.proposal.screw for held in screws if held.proposal.screw is not None}
    return tuple(plan_rods(twin, placed))


def rod_binding(found: RodPlan) -> str:
    """What keeps a rod from lying nearer in its heads: how tightly it may be bent, else the head that is most off."""
    if found.rod.radius_mm <= NEAR_LIMIT * found.least_radius_mm:
        return f"bent no tighter than {found.least_radius_mm:.0f} mm"
    worst = max(found.seats, key=lambda seat: seat.residual_mm)
    return f"head of {worst.screw}, {worst.residual_mm:.1f} mm off the rod"


def _absent(twin: Twin, bone: str, taken: Mapping[str, str]) -> Refusal:
    if bone in taken:
        return Refusal(f"{taken[bone]} takes the pedicle out", "fix the levels above and below")
    return Refusal(f"{bone} is not in this twin", f"it has {', '.join(sorted(twin.bones))}")


def _within(
    twin: Twin,
    request: Request,
    proposal: Proposal,
    diameters: Sequence[float],
    every: Sequence[float],
    lengths: Sequence[float],
    volume: Volume | None,
) -> Held:
    """The proposal held against the least margin: a thinner screw if that helps, else a refusal."""
    wanted, thinner = request.constraints.min_margin_mm, list(diameters)
    first = proposal
    while proposal.screw is not None and proposal.grade is not None:
        margin = min(proposal.grade.margin_mm[wall] for wall in WALLS)
        if margin >= wanted:
            break
        thinner = [d for d in thinner if d < proposal.screw.diameter_mm]
        if not thinner:
            reason = f"the thinnest screw leaves {margin:.2f} mm to the nearest wall; min_margin_mm asks {wanted:g}"
            return Held(
                refused(proposal.bone, proposal.side, Refusal(reason, "a hook, or a smaller margin")), reason, ()
            )
        (proposal,) = propose_construct(
            twin, [(proposal.bone, proposal.side)], volume, diameters_mm=thinner, lengths_mm=lengths
        )
    if proposal.screw is None or proposal.grade is None:
        return Held(proposal, proposal.reason or "", ())
    named = replace(proposal, screw=replace(proposal.screw, family=request.constraints.screw_family or ""))
    reasons = [f"{what}: {why}" for what, why in proposal.limits.items()]
    if first.screw is not None and proposal.screw.diameter_mm < first.screw.diameter_mm:
        reasons.append(f"thinner than {first.screw.diameter_mm:g} mm to keep min_margin_mm {wanted:g}")
        return Held(named, "min_margin_mm", tuple(reasons))
    thicker = min((d for d in every if d > max(diameters)), default=None)
    if thicker is not None and proposal.screw.diameter_mm == max(diameters):
        left = min(proposal.grade.margin_mm[wall] for wall in WALLS) - (thicker - proposal.screw.diameter_mm) / 2.0
        fits = fitting_diameter_mm(proposal.grade.width_mm or 0.0, [thicker]) is not None
        if fits and left >= max(wanted, keep_mm(twin)):
            most = request.constraints.max_diameter_mm
            reasons.append(f"{thicker:g} mm would fit; max_diameter_mm {most:g} does not allow it")
            return Held(named, "max_diameter_mm", tuple(reasons))
    return Held(named, proposal.grade.binding, tuple(reasons))
