"""`osteotwin replay`: compute a recorded rehearsal again and say whether the same state came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, tell
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.anatomy.twin import Twin

app = typer.Typer(add_completion=False)


class WhichCase(Misuse):
    """A log that doesn't say which case it belongs to."""


@app.command()
@command
def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="The log of a rehearsal.")],
    case_folder: Annotated[
        Path | None, typer.Option("--case", metavar="CASE", help="The case, if it was moved away from the log.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fold the recorded events anew and compare the state document byte by byte; exit 1 when it differs."""
    from rehearsal.log import replay as recompute
    from twin.case import Case

    def twin_of(recorded: Path | None) -> Twin:
        folder = case_folder or recorded
        if folder is None:
            raise WhichCase("the log names no case; give it with --case", path=log)
        return Case.open(folder).twin

    found = recompute(log, twin_of)
    if as_json:
        emit(found.to_json())
    else:
        verdict = "the same state" if found.same else "ANOTHER STATE than was recorded"
        tell(f"{verdict}: {found.events} events, {len(found.state.history.deeds)} deeds, sha256 {found.sha256}")
        if found.recorded_sha256 is None:
            tell("The session was not ended; its deeds were compared.")
    if not found.same:
        raise typer.Exit(1)
