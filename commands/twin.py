"""`osteotwin twin`: build, inspect, correct, export, check and confirm a patient twin."""

from __future__ import annotations

import typer

from commands.twin_build import build
from commands.twin_correct import correct
from commands.twin_inspect import inspect
from commands.twin_keep import check, confirm, export
from commands.twin_series import register, structures

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def twin() -> None:
    """The patient twin: bones, landmarks and where all of it came from."""


for one in (build, inspect, correct, register, structures, export, check, confirm):
    app.command()(one)
