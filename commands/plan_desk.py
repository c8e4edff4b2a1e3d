"""What every `osteotwin plan` command shares: the plan of a case as its journal leaves it, and how edits get there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import say
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.edits import Edit
    from twin.plan.plan import Item, Plan
    from twin.scan.volume import Volume

CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")]
PlanName = Annotated[str, typer.Option("--plan", metavar="NAME", help="Which plan of the case.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Author = Annotated[str, typer.Option("--by", metavar="NAME", help="Who edits, as the journal shall keep it.")]


def folded(case: Case, name: str) -> Plan:
    """The plan as the journal leaves it; says which edits no longer apply."""
    from twin.plan.edits import fold

    found, skipped = fold(case.journal.entries(), name, case.twin.twin_id)
    for item in skipped:
        say(f"An earlier {item.kind} no longer applies: {item.reason}.")
    return found


def append(
    case: Case,
    name: str,
    author: str,
    items: Sequence[Item],
    proposed: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Place or move each item: what changes something becomes an entry of the journal; then the plan is saved.

    `proposed`, by the item's id: which program's proposal it is, and why (`{"by": …, "binding": …}`); somebody has to
    decide on each before the plan can be approved. The plan is folded under the lock: another program may have edited
    it while this one was measuring. Raises PlanClosed.
    """
    from twin.plan.edits import Edit, apply, ensure_open

    with case.journal.lock():
        ensure_open(case.journal.entries(), name)
        before = found = folded(case, name)
        for item in items:
            origin = (proposed or {}).get(item.id)
            edit = Edit.placing(found, item, **({} if origin is None else {"proposed": dict(origin)}))
            changed = apply(found, edit)
            if changed != found:
                case.journal.append(author, edit.kind, edit.payload(name))
            found = changed
        if found != before or not is_saved(case, name):
            case.save_plan(name, found.to_json(), author)
    return found


def append_edit(case: Case, name: str, author: str, edit: Edit) -> Plan:
    """Carry out one edit and save the plan; the caller holds the lock. Raises EditDoesNotApply."""
    from twin.plan.edits import apply

    found = apply(folded(case, name), edit)
    case.journal.append(author, edit.kind, edit.payload(name))
    case.save_plan(name, found.to_json(), author)
    return found


def is_saved(case: Case, name: str) -> bool:
    """Whether the plan's file is sound and as new as the journal; an interrupted save leaves one that is not."""
    from twin.case_document import CaseCorrupt

    try:
        return name in case.plan_names and bool(case.load_plan(name))
    except CaseCorrupt as fault:
        say(f"{fault.message}; saved anew from the journal's edits.")
        return False


def assessed(case: Case, plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The reports of all screws and of all osteotomies of a plan, by id."""
    from commands.plan_words import osteotomy_report, screw_report
    from twin.plan.screws.grade import grade_screw

    volume = volume_of(case)
    screws = [screw_report(s, grade_screw(case.twin, s, volume)) for _, s in sorted(plan.screws.items())]
    return screws, [osteotomy_report(case, cut) for _, cut in sorted(plan.osteotomies.items())]


def volume_of(case: Case) -> Volume | None:
    """The CT of the case, or None for a twin made from surfaces."""
    return case.volume() if case.has_volume else None


def point_of(text: str, option: str) -> Any:
    """`x,y,z` in patient mm; raises Misuse."""
    import numpy as np

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(math.isfinite(v) for v in values):
        raise Misuse(f"{option} {text!r}; write three numbers x,y,z (patient LPS, mm)")
    return np.array(values)
