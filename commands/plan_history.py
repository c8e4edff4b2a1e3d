"""`osteotwin plan undo`: taking back, and taking back the taking back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName
from spatial.faults import Fault


class NothingToUndo(Fault):
    """No edit of this plan is in force."""


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
    from twin.plan.edits import ensure_open, fold, redoable, undoable
    from twin.plan.plan import NOUNS
    from twin.plan.undoing import UNDO

    case = Case.open(folder)
    with case.journal.lock():
        entries = case.journal.entries()
        ensure_open(entries, name)
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
        **{noun.plural: sorted(found.of(noun)) for noun in NOUNS.values()},
        "skipped": [s.to_json() for s in skipped],
    }
    if as_json:
        emit(report)
        return
    held = ", ".join(item.id for _, item in found.items()) or "nothing"
    tell(f"{'Redone' if redo else 'Undone: ' + target.kind}. The plan holds {held}.")
