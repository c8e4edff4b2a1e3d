"""`osteotwin plan auto`: screws for a set of levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, volume_of
from commands.plan_screws import place

if TYPE_CHECKING:
    from twin.anatomy.bone import Side


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
    volume = volume_of(case)
    sides: tuple[Side, ...] = ("left", "right")
    proposals = []
    for level in asked:
        bone = bone_of(level)
        if bone in case.twin.bones:
            proposals += [propose_screw(case.twin, bone, side, volume) for side in sides]
        elif level not in RARE:
            reason, instead = f"{bone} is not in this twin", f"it has {', '.join(sorted(case.twin.bones))}"
            proposals += [Proposal(bone, side, None, None, reason, instead) for side in sides]
    place(case, name, author, proposals, as_json, "plan auto")
