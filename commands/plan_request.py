"""`osteotwin plan request`: a typed request answered by proposals; a sentence turned into such a request, on demand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands import console
from commands.console import command, emit, progress_bar, say, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append, volume_of
from commands.plan_rods import rod_words
from commands.plan_words import caution, conflicts, intrusions, osteotomy_report, screw_report, screw_words, uncertainty
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.answer import Answer
    from twin.plan.request import Request

BY = "plan request"


@command
def request(
    folder: CaseFolder,
    form: Annotated[Path | None, typer.Argument(metavar="REQUEST", help="A YAML or JSON file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Answer, and put nothing into the plan.")] = False,
    text: Annotated[str | None, typer.Option("--text", help="A sentence that a model turns into a request.")] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="URL", help="With --text: an OpenAI-compatible endpoint.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="With --text: the model's name there.")] = None,
    patience_s: Annotated[float, typer.Option("--timeout-s", min=1, max=600, help="With --text.")] = 60.0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="With --text: where the request goes.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --text: you have read it; write it.")] = False,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Answer a request with proposals: cuts that reach the goals, screws within the limits, and what binds each.

    With --text a sentence becomes a request file through the endpoint that you name. It is shown, and never carried
    out: you read it and pass it on as REQUEST.
    """
    if (form is None) == (text is None):
        raise Misuse("give a REQUEST file, or --text with --endpoint")
    if text is not None:
        _dictate(text, endpoint, model, patience_s, out, yes, as_json)
        return
    if endpoint is not None or model is not None or out is not None or yes:
        raise Misuse("--endpoint, --model, --out and --yes belong to --text")
    assert form is not None
    from twin.case import Case
    from twin.plan.answer import answer
    from twin.plan.request import read_request

    asked = read_request(form)
    case = Case.open(folder)
    with progress_bar("Request") as progress:
        found = answer(case.twin, asked, volume_of(case), progress=progress)
    report = _report(case, found, name)
    if not dry_run:
        _place(case, name, author, asked, found)
    report["applied"] = not dry_run
    if as_json:
        emit(report)
        return
    _tell(case, report, found)


def _place(case: Case, name: str, author: str, asked: Request, found: Answer) -> None:
    """The request as an event, then each proposal as an edit that somebody has to decide on."""
    from twin.plan.edits import ensure_open
    from twin.plan.proposals import REQUESTED

    kept = {"plan": name, "request": asked.to_json(), "sha256": asked.sha256}
    with case.journal.lock():
        ensure_open(case.journal.entries(), name)
        case.ensure_plan_name(name)
        case.journal.append(author, REQUESTED, kept)
    origin = {"by": BY, "request_sha256": asked.sha256}
    origins = {one: {**origin, "binding": why} for one, why in found.bindings.items()}
    append(case, name, author, found.items, origins)


def _report(case: Case, found: Answer, name: str) -> dict[str, Any]:
    from twin.plan.answer import rod_binding
    from twin.plan.plan import Plan

    plan = Plan(name, case.twin.twin_id)
    for item in found.items:
        plan = plan.plus(item)
    screws = [
        {**screw_report(p.screw, p.grade), "binding": held.binding, "reasons": list(held.reasons)}
        for held in found.screws
        if (p := held.proposal).screw is not None and p.grade is not None
    ]
    return {
        "plan": name,
        "request": found.request.to_json(),
        "request_sha256": found.request.sha256,
        "goals": [goal.to_json() for goal in found.goals],
        "osteotomies": [
            {**osteotomy_report(case, cut), "binding": found.way.binding, "reasons": [found.way.words]}
            for cut in found.cuts
            if found.way is not None
        ],
        "screws": screws,
        "rods": [{**one.to_json(), "binding": rod_binding(one)} for one in found.rods],
        "refused": [held.proposal.refusal() for held in found.screws if held.proposal.screw is None],
        "others": [way.to_json() for way in found.others],
        "notes": list(found.notes),
        "conflicts": conflicts(plan) + intrusions(screws),
        "uncertainty": uncertainty(case.twin),
    }


def _tell(case: Case, report: dict[str, Any], found: Answer) -> None:
    if found.way is not None:
        tell(f"Proposed: {found.way.words}; bound by {found.way.binding}.")
    tell(*(goal.words() for goal in found.goals))
    tell(*(f"{screw_words(one)}; bound by {one['binding']}" for one in report["screws"]))
    tell(*(line for one in report["rods"] for line in rod_words(one)))
    tell(*(f"{r['bone']} {r['side']}: no screw: {r['reason']}\n  instead: {r['instead']}" for r in report["refused"]))
    for way in found.others[:3]:
        short = (
            ""
            if way.short_by is None
            else ", reaches the goal"
            if way.short_by == 0
            else f", short by {way.short_by:.1f}"
        )
        tell(f"Another way: {way.words}{short}" if way.failed is None else f"Not possible: {way.words}: {way.failed}")
    tell(*found.notes, *report["conflicts"])
    tell(
        f"These are proposals in plan {report['plan']}: decide on each (osteotwin plan decide)."
        if report["applied"]
        else "Nothing was put into a plan (--dry-run)."
    )
    tell(*caution(case.twin))


def _dictate(
    text: str, endpoint: str | None, model: str | None, patience_s: float, out: Path | None, yes: bool, as_json: bool
) -> None:
    """Ask, check, show, and after a yes write the file; nothing is carried out."""
    from commands.chat_endpoint import ask
    from twin.plan.dictation import messages, read_answer

    if endpoint is None:
        raise Misuse("--text needs --endpoint URL: no model is asked unless you name one")
    if out is not None and os.path.lexists(out):
        raise Misuse("there is a file already; choose another name", path=out)
    if yes and out is None:
        raise Misuse("--yes writes the request, so it needs --out FILE")
    made = read_answer(ask(endpoint, messages(text), model, patience_s=patience_s))
    say("The model reads your sentence as:", *(f"  {line}" for line in made.to_yaml().splitlines()))
    agreed = yes or (out is not None and console.at_keyboard() and typer.confirm("Is this what you mean?", err=True))
    written = out if agreed else None
    if written is not None:
        with written.open("x", encoding="utf-8") as file:
            file.write(made.to_yaml())
    if as_json:
        emit({"request": made.to_json(), "written": None if written is None else str(written), "applied": False})
        return
    if written is None:
        tell(made.to_yaml(), "Nothing was written (--out FILE, and --yes or a keyboard); nothing was carried out.")
    else:
        tell(f"Written to {written}. Nothing was carried out: read it, then osteotwin plan request CASE {written}")
