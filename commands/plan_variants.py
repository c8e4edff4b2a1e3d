"""`osteotwin plan variant|list|compare|merge`: what if; plans of one case side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, say, tell
from commands.plan_desk import AsJson, Author, CaseFolder, append_edit, assessed, folded
from commands.plan_words import caution, uncertainty
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.comparison import Column

variant = typer.Typer(add_completion=False, no_args_is_help=True)


@variant.callback()
def variants() -> None:
    """Plans that start as another one is, to be changed on their own."""


@variant.command()
@command
def new(
    folder: CaseFolder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new plan's name.")],
    source: Annotated[str, typer.Option("--from", metavar="PLAN", help="The plan that it starts as.")] = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Start a plan as another one is now. This is also how an approved plan is changed: in a new draft of it."""
    from twin.case import Case
    from twin.plan.variants import started

    case = Case.open(folder)
    case.ensure_plan_name(name)
    with case.journal.lock():
        edit = started(case.journal.entries(), source, name, case.twin.twin_id)
        found = append_edit(case, name, author, edit)
    report = {"plan": name, "from": source, "items": [item.id for _, item in found.items()]}
    if as_json:
        emit(report)
        return
    tell(f"Plan {name} starts as {source} is: {', '.join(report['items']) or 'empty'}.")


@command
def listed(folder: CaseFolder, as_json: AsJson = False) -> None:
    """The plans of a case: what each holds, what it started from, and who reviewed or approved it."""
    from twin.case import Case
    from twin.plan.approval import authors, standing
    from twin.plan.plan import NOUNS
    from twin.plan.proposals import proposals
    from twin.plan.variants import names, source_of

    case = Case.open(folder)
    entries = case.journal.entries()
    rows: list[dict[str, Any]] = []
    for name in names(entries):
        plan, now = folded(case, name), standing(entries, name)
        open_proposals = [p for p in proposals(entries, name, case.twin.twin_id) if p.decision is None]
        rows.append(
            {
                "plan": name,
                "from": source_of(entries, name),
                "status": now.to_json(),
                "words": now.words,
                **{noun.plural: sorted(plan.of(noun)) for noun in NOUNS.values()},
                "authors": list(authors(entries, name)),
                "undecided": [p.key[1] for p in open_proposals],
            }
        )
    if as_json:
        emit({"plans": rows})
        return
    for row in rows:
        held = ", ".join(f"{len(row[n.plural])} {n.plural}" for n in NOUNS.values() if row[n.plural]) or "empty"
        came = f", from {row['from']}" if row["from"] else ""
        left = f"; {len(row['undecided'])} proposals undecided" if row["undecided"] else ""
        tell(f"{row['plan']}: {held}{came}; {row['words']}{left}")
    if not rows:
        tell("No plans yet.")


@command
def compare(
    folder: CaseFolder,
    names: Annotated[list[str], typer.Argument(metavar="PLAN…", help="Two or more plans of the case.")],
    picture: Annotated[Path | None, typer.Option("--picture", metavar="PNG", help="Draw the table there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lay plans side by side: grades, margins, hold, bone taken out, alignment, and what differs."""
    from twin.case import Case
    from twin.plan.approval import standing
    from twin.plan.comparison import compared, flat
    from twin.plan.measures.effects import effects

    if len(set(names)) < 2:
        raise Misuse(f"{', '.join(names)}: name two or more different plans")
    if picture is not None and picture.suffix.lower() != ".png":
        raise Misuse(f"--picture {picture.name}; the picture is a PNG", path=picture)
    case = Case.open(folder)
    for name in names:
        case.load_plan(name)
    columns = [_column(case, name) for name in dict.fromkeys(names)]
    now = effects(case.twin, ())
    report = compared(columns, flat(now.before.measures, now.legs_before))
    for row in report["plans"]:
        row["status"] = standing(case.journal.entries(), row["plan"]).to_json()
    report["uncertainty"] = uncertainty(case.twin)
    if picture is not None:
        report["picture"] = str(picture)
        _draw(case, report, picture)
    if as_json:
        emit(report)
        return
    from commands.plan_compare_words import printed

    tell(*printed(report), *caution(case.twin))


@command
def merge(
    folder: CaseFolder,
    source: Annotated[str, typer.Option("--from", metavar="PLAN", help="The plan that has it.")],
    item: Annotated[str, typer.Option("--item", metavar="ID", help="L4-left, L3-PSO …")],
    into: Annotated[str, typer.Option("--into", metavar="PLAN", help="The plan that gets it.")],
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Put one screw, cut, rod or implant of a plan into another, instead of what stands there under its name."""
    from twin.case import Case
    from twin.plan.edits import ensure_open
    from twin.plan.variants import merged

    case = Case.open(folder)
    for name in (source, into):
        if name not in case.plan_names:
            case.load_plan(name)  # raises, and says which plans there are
    with case.journal.lock():
        ensure_open(case.journal.entries(), into)
        edit, found = merged(case.journal.entries(), source, item, into, case.twin.twin_id)
        append_edit(case, into, author, edit)
    if as_json:
        emit({"plan": into, "from": source, "edit": edit.kind, "item": found.to_json()})
        return
    tell(f"{item} of {source} is in {into} now ({edit.kind.replace('_', ' ')}).")


def _column(case: Case, name: str) -> Column:
    from twin.plan.comparison import Column, flat
    from twin.plan.measures.effects import effects

    plan = folded(case, name)
    screws, cuts = assessed(case, plan)
    after = effects(case.twin, plan.osteotomies.values())
    return Column(plan, screws, cuts, flat(after.after.measures, after.legs_after))


def _draw(case: Case, report: dict[str, Any], picture: Path) -> None:
    from PIL import Image

    from commands.plan_compare_words import rows_of
    from render.table import table_page

    if picture.suffix.lower() != ".png":
        raise Misuse(f"--picture {picture.name}; the picture is a PNG", path=picture)
    notes = [
        "Rows that differ are marked. Bars: least wall margin, full at 4 mm.",
        f"Uncertainty: {uncertainty(case.twin)}",
    ]
    page = table_page("Plans side by side", [p["plan"] for p in report["plans"]], rows_of(report), notes)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(page).save(picture)
    say(f"Drawn: {picture}")
