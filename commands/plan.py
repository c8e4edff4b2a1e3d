"""`osteotwin plan`: screws and osteotomies on a case, each edit an event that can be undone."""

from __future__ import annotations

import typer

from commands.plan_approach import approach
from commands.plan_approve import approve, decide, review, withdraw
from commands.plan_auto import auto
from commands.plan_corridor import corridor
from commands.plan_cuts import osteotomy
from commands.plan_guide_block import guide_block
from commands.plan_history import undo
from commands.plan_implant import implant
from commands.plan_measure import assess, deformity
from commands.plan_pictures import pictures
from commands.plan_request import request
from commands.plan_reveal import reveal
from commands.plan_rods import rod
from commands.plan_screws import screw
from commands.plan_variants import compare, listed, merge, variant

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def plan() -> None:
    """Screws and osteotomies, graded on the twin."""


for one in (screw, auto, reveal, corridor, rod, osteotomy, assess, deformity, undo, approach, pictures):
    app.command()(one)
for one in (decide, review, approve, withdraw, compare, merge, request):
    app.command()(one)
app.command()(implant)
app.command("guide-block")(guide_block)
app.command("list")(listed)
app.add_typer(variant, name="variant")
