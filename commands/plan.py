"""`osteotwin plan`: screws and osteotomies on a case, each edit an event that can be undone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, say, tell
from commands.plan_words import (
    caution,
    conflicts,
    intrusions,
    osteotomy_report,
    osteotomy_words,
    screw_report,
    screw_words,
    uncertainty,
)
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from twin.anatomy.bone import Side
    from twin.case import Case
    from twin.plan.autoplan import Proposal
    from twin.plan.osteotomy import Osteotomy
    from twin.plan.plan import Plan
    from twin.plan.screw import Screw
    from twin.scan.volume import Volume

app = typer.Typer(add_completion=False, no_args_is_help=True)

CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")]
PlanName = Annotated[str, typer.Option("--plan", metavar="NAME", help="Which plan of the case.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Author = Annotated[str, typer.Option("--by", metavar="NAME", help="Who edits, as the journal shall keep it.")]
USUAL_DEG = {"PSO": 30.0, "close-wedge": 10.0, "open-wedge": 10.0, "plane": 0.0}


class NothingToUndo(Fault):
    """No edit of this plan is in force."""


@app.callback()
def plan() -> None:
    """Screws and osteotomies, graded on the twin."""


@app.command()
@command
def screw(
    folder: CaseFolder,
    bone: Annotated[str, typer.Option(help="vertebrae_L4, or sacrum for S1.")],
    side: Annotated[str, typer.Option(help="left or right, the patient's.")],
    auto: Annotated[bool, typer.Option("--auto", help="Propose entry, target and size.")] = False,
    entry: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="On or near the bone, patient mm (LPS).")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="A point that the axis runs to, in the body.")
    ] = None,
    diameter: Annotated[float | None, typer.Option(metavar="MM", help="Outer thread diameter.")] = None,
    length: Annotated[float | None, typer.Option(metavar="MM", help="From the entry to the tip.")] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Place one pedicle screw: proposed (--auto) or given by entry, target, diameter and length."""
    from twin.case import Case
    from twin.plan.autoplan import propose_screw

    if side not in ("left", "right"):
        raise Misuse(f"side {side!r}; left or right")
    given = {"--entry": entry, "--target": target, "--diameter": diameter, "--length": length}
    if auto and any(value is not None for value in given.values()):
        raise Misuse(
            f"--auto proposes all of them; leave out {', '.join(k for k, v in given.items() if v is not None)}"
        )
    if not auto and any(value is None for value in given.values()):
        raise Misuse(f"give {', '.join(k for k, v in given.items() if v is None)}, or --auto for a proposal")
    case = Case.open(folder)
    volume = _volume(case)
    if auto:
        proposals = [propose_screw(case.twin, bone, "left" if side == "left" else "right", volume)]
    else:
        case.twin.bone(bone)
        proposals = [_by_hand(case, bone, side, entry or "", target or "", diameter or 0.0, length or 0.0, volume)]
    _place(case, name, author, proposals, as_json)


@app.command()
@command
def auto(
    folder: CaseFolder,
    levels: Annotated[str, typer.Option(help="L1-S1, or L1,L2,L4.")],
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Propose a screw for both pedicles of each level."""
    from twin.case import Case
    from twin.plan.autoplan import Proposal, propose_screw
    from twin.plan.levels import RARE, bone_of, levels_between

    asked = levels_between(levels)
    case = Case.open(folder)
    volume = _volume(case)
    sides: tuple[Side, ...] = ("left", "right")
    proposals = []
    for level in asked:
        bone = bone_of(level)
        if bone in case.twin.bones:
            proposals += [propose_screw(case.twin, bone, side, volume) for side in sides]
        elif level not in RARE:
            reason, instead = f"{bone} is not in this twin", f"it has {', '.join(sorted(case.twin.bones))}"
            proposals += [Proposal(bone, side, None, None, reason, instead) for side in sides]
    _place(case, name, author, proposals, as_json)


@app.command()
@command
def osteotomy(
    folder: CaseFolder,
    kind: Annotated[str, typer.Option(help="PSO, close-wedge, open-wedge or plane.")],
    bone: Annotated[str, typer.Option(help="The vertebra to cut: vertebrae_L3.")],
    angle_deg: Annotated[
        float | None, typer.Option(help="How far it closes or opens; the usual angle if left out.")
    ] = None,
    height_mm: Annotated[float, typer.Option(help="Hinge above the middle of the body.")] = 0.0,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Plan an osteotomy of a vertebra: planes, hinge, fragments, and the lordosis that it gives."""
    from twin.case import Case
    from twin.plan.osteotomy import Osteotomy, check_kind

    check_kind(kind)
    if kind == "plane" and angle_deg:
        raise Misuse(f"--angle-deg {angle_deg:g}; a plane only cuts, so leave the angle out")
    angle = USUAL_DEG[kind] if angle_deg is None else angle_deg
    case = Case.open(folder)
    cut = Osteotomy.make(case.twin, kind, bone, math.radians(angle), height_mm=height_mm)
    report = osteotomy_report(case, cut)
    after = _append(case, name, author, [cut])
    report["conflicts"] = conflicts(after)
    if as_json:
        emit({"plan": name, **report, "uncertainty": uncertainty(case.twin)})
        return
    tell(*osteotomy_words(report), *report["conflicts"], *caution(case.twin))


@app.command()
@command
def assess(folder: CaseFolder, name: PlanName = "plan", as_json: AsJson = False) -> None:
    """Grade every screw, carry out every osteotomy, and measure the alignment before and after."""
    from twin.case import Case
    from twin.plan.alignment import measure_alignment
    from twin.plan.edits import fold
    from twin.plan.grade import grade_screw
    from twin.plan.reduction import planned_landmarks

    case = Case.open(folder)
    if name not in case.plan_names:
        case.load_plan(name)  # raises, and says which plans there are
    found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
    volume = _volume(case)
    before = measure_alignment(case.twin.landmarks)
    after = measure_alignment(planned_landmarks(case.twin, found.osteotomies.values()))
    report: dict[str, Any] = {
        "plan": name,
        "twin_id": case.twin.twin_id,
        "screws": [screw_report(s, grade_screw(case.twin, s, volume)) for _, s in sorted(found.screws.items())],
        "osteotomies": [osteotomy_report(case, o) for _, o in sorted(found.osteotomies.items())],
        "alignment": {"before": before.to_json(), "after": after.to_json()},
        "conflicts": conflicts(found),
        "skipped": [s.to_json() for s in skipped],
        "uncertainty": uncertainty(case.twin),
    }
    report["conflicts"] += intrusions(report["screws"])
    if as_json:
        emit(report)
        return
    tell(*(screw_words(s) for s in report["screws"]))
    for cut in report["osteotomies"]:
        tell(*osteotomy_words(cut))
    change = [f"{v:.1f}" for v in (before.lumbar_lordosis_deg, after.lumbar_lordosis_deg) if v is not None]
    tell(f"Lordosis {' -> '.join(change)} degrees ({before.posture})" if change else "Lordosis: landmarks are missing")
    tell(*report["conflicts"], *(f"skipped {s['kind']}: {s['reason']}" for s in report["skipped"]), *caution(case.twin))


@app.command()
@command
def undo(
    folder: CaseFolder,
    name: PlanName = "plan",
    redo: Annotated[bool, typer.Option("--redo", help="Take back the last undo instead.")] = False,
    only: Annotated[str | None, typer.Option("--of", metavar="NAME", help="Only what this author did.")] = None,
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Take back the last edit of a plan (or, with --redo, the last undo). Undoing is an event too."""
    from twin.case import Case
    from twin.plan.edits import UNDO, fold, redoable, undoable

    case = Case.open(folder)
    with case.journal.lock():
        entries = case.journal.entries()
        target = redoable(entries, name, only) if redo else undoable(entries, name, only)
        if target is None:
            verb = "redo" if redo else "undo"
            raise NothingToUndo(f"nothing to {verb} in plan {name!r}" + (f" of {only}" if only else ""))
        case.journal.append(author, UNDO, {"plan": name, "undoes": target.id})
        found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
        case.save_plan(name, found.to_json(), author)
    report: dict[str, Any] = {
        "plan": name,
        "undone": {"entry": target.id, "kind": target.kind},
        "screws": sorted(found.screws),
        "osteotomies": sorted(found.osteotomies),
        "skipped": [s.to_json() for s in skipped],
    }
    if as_json:
        emit(report)
        return
    held = ", ".join([*report["screws"], *report["osteotomies"]]) or "nothing"
    tell(f"{'Redone' if redo else 'Undone: ' + target.kind}. The plan holds {held}.")


def _by_hand(
    case: Case, bone: str, side: str, entry: str, target: str, diameter: float, length: float, volume: Volume | None
) -> Proposal:
    """The screw that was asked for, its entry moved along the axis onto the bone."""
    import numpy as np

    from spatial.distance import DistanceGrid
    from spatial.frames import Patient
    from spatial.rigid import Directions, Points
    from twin.plan.autoplan import Proposal, screw_id
    from twin.plan.grade import entry_on_bone, grade_screw
    from twin.plan.screw import BadScrew, Screw

    which: Side = "left" if side == "left" else "right"
    asked = Screw(
        screw_id(bone, which), bone, which, Points[Patient](_point(entry, "--entry")),
        Points[Patient](_point(target, "--target")), diameter, length,
    )  # fmt: skip
    way = asked.axis.direction
    grid = DistanceGrid[Patient].of(case.twin.bone(bone).surface)
    at = entry_on_bone(grid, asked.entry, Directions[Patient](way))
    if float(np.dot(asked.target.mm - at.mm, way)) < 0.1:
        raise BadScrew("the target lies before the bone on this axis; give a target in the body")
    made = Screw(asked.id, bone, which, at, asked.target, diameter, length)
    moved = float(np.linalg.norm(at.mm - asked.entry.mm))
    if moved > 1.0:
        say(f"The axis meets the bone {moved:.1f} mm from the given entry; the screw starts there.")
    return Proposal(bone, which, made, grade_screw(case.twin, made, volume))


def _place(case: Case, name: str, author: str, proposals: list[Proposal], as_json: bool) -> None:
    """Append the screws as edits, save the plan, report screws and refusals."""
    after = _append(case, name, author, [p.screw for p in proposals if p.screw is not None])
    screws = [screw_report(p.screw, p.grade) for p in proposals if p.screw is not None and p.grade is not None]
    refused = [p.refusal() for p in proposals if p.screw is None]
    against = conflicts(after) + intrusions(screws)
    if case.twin.levels.confirmed_by is None:
        say("Nobody has confirmed the levels of this twin yet (osteotwin twin confirm).")
    if as_json:
        emit(
            {
                "plan": name,
                "screws": screws,
                "refused": refused,
                "conflicts": against,
                "uncertainty": uncertainty(case.twin),
            }
        )
        return
    tell(*(screw_words(s) for s in screws))
    tell(*(f"{r['bone']} {r['side']}: no screw: {r['reason']}\n  instead: {r['instead']}" for r in refused))
    tell(*against, *(caution(case.twin) if screws else ()))


def _fold(case: Case, name: str) -> Plan:
    """The plan as the journal leaves it; says which edits no longer apply."""
    from twin.plan.edits import fold

    found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
    for item in skipped:
        say(f"An earlier {item.kind} no longer applies: {item.reason}.")
    return found


def _append(case: Case, name: str, author: str, items: Sequence[Screw | Osteotomy]) -> Plan:
    """Place or move each item: what changes something becomes an entry of the journal; then the plan is saved.

    The plan is folded under the lock: another program may have edited it while this one was measuring.
    """
    from twin.plan.edits import Edit, apply
    from twin.plan.screw import Screw

    with case.journal.lock():
        before = found = _fold(case, name)
        for item in items:
            edit = Edit.screw(found, item) if isinstance(item, Screw) else Edit.osteotomy(found, item)
            changed = apply(found, edit)
            if changed != found:
                case.journal.append(author, edit.kind, edit.payload(name))
            found = changed
        if found != before or not _is_saved(case, name):
            case.save_plan(name, found.to_json(), author)
    return found


def _is_saved(case: Case, name: str) -> bool:
    """Whether the plan's file is sound and as new as the journal; an interrupted save leaves one that is not."""
    from twin.case_document import CaseCorrupt

    try:
        return name in case.plan_names and bool(case.load_plan(name))
    except CaseCorrupt as fault:
        say(f"{fault.message}; saved anew from the journal's edits.")
        return False


def _volume(case: Case) -> Volume | None:
    return case.volume() if case.has_volume else None


def _point(text: str, option: str) -> Any:
    """`x,y,z` in patient mm; raises Misuse."""
    import numpy as np

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(math.isfinite(v) for v in values):
        raise Misuse(f"{option} {text!r}; write three numbers x,y,z (patient LPS, mm)")
    return np.array(values)
