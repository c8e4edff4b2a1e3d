"""`osteotwin audit`: is the case's journal whole, and who decided what."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import command, emit, say, tell

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def audit() -> None:
    """The journal: every edit, decision and approval, chained so that a change shows."""


@app.command()
@command
def verify(
    folder: Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")],
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="SHA256", help="A hash of the journal's end that was kept elsewhere; repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Check the chain and the rules of approval; tell plan by plan who did what, and when (UTC)."""
    from twin.audit import audit as go_through
    from twin.journal import JournalBroken

    found = go_through(folder, expect or ())
    report: dict[str, Any] = found.to_json()
    broken = found.chain.broken
    if not found.is_sound:
        message = "; ".join([*([broken.words] if broken else []), *found.problems])
        report["error"] = {"kind": JournalBroken.__name__, "message": f"{message}: {folder / 'journal.jsonl'}"}
    if as_json:
        emit(report)
    else:
        _tell(report)
    if not found.is_sound:
        say(report["error"]["message"])
        raise typer.Exit(1)


def _tell(report: dict[str, Any]) -> None:
    for line in report["case"]:
        tell(_line(line))
    for plan in report["plans"]:
        tell("", f"Plan {plan['plan']}: {plan['status']['state']}")
        tell(*(_line(line) for line in plan["events"]))
    tell("", *report["notes"])
    upto = "" if report["broken"] is None else " before the break; what comes after it is not believed"
    tell(f"{report['entries']} entries{upto}. Keep this hash elsewhere to notice a journal written anew:")
    tell(f"  {report['head_sha256']}")
    tell("Names are as they were typed; the program does not know who sat in front of it.")


def _line(event: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(event["t_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    role = f" ({event['role']})" if event["role"] else ""
    reason = f': "{event["reason"]}"' if event["reason"] else ""
    return f"  {event['line']:4d}  {when}  {event['by']}{role} {event['words']}{reason}"
