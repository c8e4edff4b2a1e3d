"""`osteotwin plan decide|review|approve|withdraw`: who answers for a plan, proposal by proposal and place by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands import console
from commands.console import command, emit, say, tell
from commands.plan_desk import AsJson, CaseFolder, PlanName, assessed, folded, is_saved
from commands.plan_words import conflicts, screw_words
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.approval import Standing
    from twin.plan.findings import Finding
    from twin.plan.plan import Plan
    from twin.plan.proposals import Proposal

By = Annotated[str, typer.Option("--by", metavar="NAME", help="The person who does this.")]
Role = Annotated[str, typer.Option("--role", help="surgeon, assistant, radiologist, engineer or planner.")]
Comment = Annotated[str, typer.Option("--comment", help="What shall stand beside it in the journal.")]


@command
def decide(
    folder: CaseFolder,
    by: By,
    item: Annotated[str, typer.Option("--item", metavar="ID", help="The proposal: L4-left, L3-PSO.")],
    verdict: Annotated[str, typer.Option("--as", help="accepted, changed or refused (which takes it out).")],
    reason: Annotated[str, typer.Option("--reason", help="Why, in words.")],
    name: PlanName = "plan",
    as_json: AsJson = False,
) -> None:
    """Say of one proposal of the program what you made of it, and why. There is no way to accept all at once."""
    from twin.case import Case
    from twin.plan.approval import ROLES, ensure_person
    from twin.plan.edits import Edit, apply, ensure_open
    from twin.plan.plan import NOUNS
    from twin.plan.proposals import DECIDED, ensure_fits, ensure_reason, item_sha256, one_of, proposals, verdict_of

    said = verdict_of(verdict)
    ensure_person(by, ROLES[0])
    why = ensure_reason(reason, f"{said} {item}")
    case = Case.open(folder)
    with case.journal.lock():
        ensure_open(case.journal.entries(), name)
        proposal = one_of(proposals(case.journal.entries(), name, case.twin.twin_id), item)
        ensure_fits(proposal, said)
        noun, item_id = proposal.key
        found = folded(case, name)
        if said == "refused" and proposal.now is not None:
            edit = Edit(f"remove_{noun}", {"id": item_id})
            found = apply(found, edit)
            case.journal.append(by, edit.kind, edit.payload(name))
            case.save_plan(name, found.to_json(), by)
        elif not is_saved(case, name):
            case.save_plan(name, found.to_json(), by)
        decision = {
            "noun": noun,
            "id": item_id,
            "proposal": proposal.entry_id,
            "decision": said,
            "reason": why,
            "item_sha256": item_sha256(found.of(NOUNS[noun]).get(item_id)),
        }
        case.journal.append(by, DECIDED, {"plan": name, **decision})
        left = _undecided(case, name)
    if as_json:
        emit({"plan": name, **decision, "undecided": [one.key[1] for one in left]})
        return
    tell(f"{item_id}: {said} by {by}.", *([_left(left)] if left else []))


@command
def review(
    folder: CaseFolder, by: By, role: Role, name: PlanName = "plan", comment: Comment = "", as_json: AsJson = False
) -> None:
    """Note that a second person has looked at the plan as it is now; the next edit ends the review."""
    from twin.case import Case
    from twin.plan.approval import REVIEWED, NotApprovable, authors, ensure_person, objections_to, standing
    from twin.plan.edits import ensure_open

    ensure_person(by, role)
    case = Case.open(folder)
    with case.journal.lock():
        entries = case.journal.entries()
        ensure_open(entries, name)
        case.load_plan(name)
        against = objections_to(by, role, authors(entries, name), approving=False)
        if not folded(case, name).items():
            against.append("the plan is empty")
        if against:
            raise NotApprovable(f"plan {name!r} can't be reviewed: {'; '.join(against)}")
        case.journal.append(by, REVIEWED, {"plan": name, "role": role, "comment": comment, **_inputs(case, name)})
        _tell_standing(name, standing(case.journal.entries(), name), as_json)


@command
def approve(
    folder: CaseFolder,
    by: By,
    role: Role,
    name: PlanName = "plan",
    confirm: Annotated[
        str | None,
        typer.Option(metavar="PLACES", help="Each level with its side, typed again: 'L4 left, L4 right, L3'."),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option(metavar="KEY=REASON", help="Why one finding may stand; repeated.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what stands between, and approve nothing.")] = False,
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Approve a reviewed plan. Afterwards it stays as it is: a change makes a new draft.

    Every proposal needs its decision, every finding its written override, and level and side of each thing are typed
    again.
    """
    from twin.case import Case
    from twin.plan.approval import NotApprovable, ensure_person, standing
    from twin.plan.edits import APPROVED
    from twin.plan.findings import overridden
    from twin.plan.places import ensure_same, places
    from twin.plan.proposals import proposals

    ensure_person(by, role)
    case = Case.open(folder)
    with case.journal.lock():
        case.load_plan(name)
        plan = folded(case, name)
        typed = () if check or confirm is None else ensure_same(plan, confirm)
        screws, against, found = _judged(case, name, plan, by, role)
        kept, open_findings = overridden(found, override or ())
        if check:
            _tell_check(name, against, found, places(plan), as_json)
            return
        against += [f"{one.words} (--override '{one.key}=REASON')" for one in open_findings]
        if against:
            raise NotApprovable(f"plan {name!r} can't be approved: {'; '.join(against)}")
        typed = typed or ensure_same(plan, _typed(name, screws, plan))
        every = proposals(case.journal.entries(), name, case.twin.twin_id)
        payload = {
            "plan": name,
            "role": role,
            "comment": comment,
            **_inputs(case, name),
            "confirmed": list(typed),
            "overrides": kept,
            "proposals": [one.to_json() for one in every],
        }
        case.journal.append(by, APPROVED, payload)
        _tell_standing(name, standing(case.journal.entries(), name), as_json)


@command
def withdraw(
    folder: CaseFolder,
    by: By,
    role: Role,
    reason: Annotated[str, typer.Option("--reason", help="Why, in words.")],
    name: PlanName = "plan",
    as_json: AsJson = False,
) -> None:
    """Take an approval back. The plan stays closed: what is to be done instead is a new draft."""
    from twin.case import Case
    from twin.plan.approval import WITHDRAWN, NotApprovable, ensure_person, standing
    from twin.plan.proposals import ensure_reason

    ensure_person(by, role)
    why = ensure_reason(reason, "taking an approval back")
    case = Case.open(folder)
    with case.journal.lock():
        now = standing(case.journal.entries(), name)
        if now.state != "approved" or now.entry is None:
            raise NotApprovable(f"plan {name!r} is {now.words}, so there is no approval to take back")
        payload = {"plan": name, "role": role, "reason": why, "approval": now.entry.id, **_inputs(case, name)}
        case.journal.append(by, WITHDRAWN, payload)
        _tell_standing(name, standing(case.journal.entries(), name), as_json)


def _judged(
    case: Case, name: str, plan: Plan, by: str, role: str
) -> tuple[list[dict[str, Any]], list[str], tuple[Finding, ...]]:
    """The screws' reports; what stands against an approval, a line each; and the findings that want an override."""
    from twin.plan.approval import authors, objections_to, standing
    from twin.plan.edits import fold
    from twin.plan.findings import findings
    from twin.plan.levels import level_of
    from twin.plan.places import bones

    entries = case.journal.entries()
    now = standing(entries, name)
    against = objections_to(by, role, authors(entries, name), approving=True)
    if not plan.items():
        against.append("the plan is empty")
    if now.state != "reviewed":
        against.append(f"it is {now.words}; it has to be reviewed first (osteotwin plan review)")
    if case.twin.levels.confirmed_by is None and any(level_of(bone) for bone in bones(plan)):
        against.append("nobody has confirmed the levels of this twin (osteotwin twin confirm)")
    if left := _undecided(case, name):
        against.append(_left(left))
    screws, cuts = assessed(case, plan)
    _, skipped = fold(entries, name, case.twin.twin_id)
    return screws, against, findings(case.twin, screws, cuts, conflicts(plan), skipped)


def _inputs(case: Case, name: str) -> dict[str, Any]:
    """What a signature is under: the plan's bytes, the twin, the CT, the program."""
    from twin.case_document import built_sha256
    from twin.plan.approval import saved_sha256
    from twin.program import program

    return {
        "plan_sha256": saved_sha256(case.journal.entries(), name),
        "twin_id": case.twin.twin_id,
        "twin_sha256": built_sha256(case.document),
        "ct_sha256": case.files.get("ct.nrrd"),
        "program": program(),
    }


def _undecided(case: Case, name: str) -> list[Proposal]:
    from twin.plan.proposals import proposals

    every = proposals(case.journal.entries(), name, case.twin.twin_id)
    return [one for one in every if one.decision is None]


def _left(left: Sequence[Proposal]) -> str:
    names = ", ".join(f"{one.key[1]} ({one.stands})" for one in left)
    return f"nobody has decided on {len(left)} of the program's proposals: {names} (osteotwin plan decide)"


def _typed(name: str, screws: Sequence[dict[str, Any]], plan: Plan) -> str:
    """Asked at the keyboard, under the plan in words; without one the option is needed."""
    if not console.at_keyboard():
        raise Misuse("--confirm is needed: each level with its side, typed again, such as 'L4 left, L4 right, L3'")
    say(f"Plan {name}:", *(f"  {screw_words(one)}" for one in screws))
    say(*(f"  {one.id}: {one.kind} of {one.bone}" for one in plan.osteotomies.values()))
    return str(typer.prompt("Type each level with its side (L4 left, L4 right, L3, …)", err=True))


def _tell_standing(name: str, now: Standing, as_json: bool) -> None:
    if as_json:
        emit({"plan": name, "status": now.to_json()})
        return
    tell(f"Plan {name}: {now.words}.")


def _tell_check(
    name: str, against: Sequence[str], found: Sequence[Finding], asked: Sequence[str], as_json: bool
) -> None:
    if as_json:
        emit({"plan": name, "against": list(against), "findings": [f.to_json() for f in found], "places": len(asked)})
        return
    tell(*(f"missing: {line}" for line in against), *(f"override: {f.key}: {f.words}" for f in found))
    tell(f"{len(asked)} places to type again.")
