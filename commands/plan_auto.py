"""`osteotwin plan auto`: screws for a set of levels, chosen together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, progress_bar
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, volume_of
from commands.plan_reveal import refuse_while_sealed, seal
from commands.plan_screws import place
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.progress import Progress
    from twin.anatomy.bone import Side
    from twin.case import Case
    from twin.plan.auto.autoplan import Proposal
    from twin.scan.volume import Volume


@command
def auto(
    folder: CaseFolder,
    levels: Annotated[str, typer.Option(help="L1-S1, or L1,L2,L4.")],
    rods: Annotated[bool, typer.Option("--rods", help="Bend a rod along the heads of each side as well.")] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Keep the proposals unread until your own screws are there (plan reveal).")
    ] = False,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Propose a screw for both pedicles of each level, chosen together for a rod."""
    from twin.case import Case
    from twin.plan.levels import levels_between

    asked = levels_between(levels)
    if sealed and rods:
        raise Misuse("--sealed proposals have no rods yet; leave --rods until they are revealed")
    case = Case.open(folder)
    if not sealed:
        refuse_while_sealed(case, name, asked)
    volume = volume_of(case)
    with progress_bar("plan auto") as progress:
        proposals = proposed(case, asked, volume, progress)
    if sealed:
        seal(case, name, author, proposals, as_json)
    else:
        place(case, name, author, proposals, as_json, "plan auto", rods=rods)


def proposed(case: Case, levels: tuple[str, ...], volume: Volume | None, progress: Progress) -> list[Proposal]:
    """A proposal or a refusal for both pedicles of each level, in the order of the levels."""
    from twin.plan.auto.autoplan import Refusal, refused
    from twin.plan.auto.construct import propose_construct
    from twin.plan.levels import RARE, bone_of

    sides: tuple[Side, ...] = ("left", "right")
    bones = [bone_of(level) for level in levels if bone_of(level) in case.twin.bones or level not in RARE]
    pedicles = [(bone, side) for bone in bones for side in sides]
    here = [pair for pair in pedicles if pair[0] in case.twin.bones]
    found = dict(zip(here, propose_construct(case.twin, here, volume, progress=progress), strict=True))
    has = f"it has {', '.join(sorted(case.twin.bones))}"
    return [
        found.get(pair) or refused(*pair, Refusal(f"{pair[0]} is not in this twin", has)) for pair in pedicles
    ]  # fmt: skip
