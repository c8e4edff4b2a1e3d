"""`osteotwin plan screw`: one screw by hand, by a rule, or proposed; graded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, say, tell
from commands.plan_along import Asked, aim_of, placed
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, append, point_of, volume_of
from commands.plan_words import caution, conflicts, intrusions, screw_report, screw_words, uncertainty
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.anatomy.bone import Side
    from twin.case import Case
    from twin.plan.auto.autoplan import Proposal
    from twin.scan.volume import Volume


@command
def screw(
    folder: CaseFolder,
    bone: Annotated[str, typer.Option(help="vertebrae_L4, or sacrum for S1.")],
    side: Annotated[str, typer.Option(help="left or right, the patient's.")],
    auto: Annotated[bool, typer.Option("--auto", help="Propose entry, target and size.")] = False,
    entry: Annotated[str | None, typer.Option(metavar="X,Y,Z", help="On or near the bone, patient mm (LPS).")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="A point that the axis runs to, in the body.")
    ] = None,
    diameter: Annotated[float | None, typer.Option(metavar="MM", help="Outer thread diameter.")] = None,
    length: Annotated[float | None, typer.Option(metavar="MM", help="From the entry to the tip.")] = None,
    along: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="axis (of the pedicle), cbt (cortical bone trajectory), s2ai (sacrum into ilium), "
            "lag (any bone: --entry, --target, --diameter).",
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Of the implant library; else the usual one.")] = None,
    fracture: Annotated[
        str | None, typer.Option(metavar="X,Y,Z,NX,NY,NZ", help="With lag: the thread lies beyond this plane.")
    ] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Place one screw: proposed (--auto), by a rule (--along), or given by entry, target, diameter and length."""
    from twin.case import Case
    from twin.plan.auto.autoplan import propose_screw

    if side not in ("left", "right"):
        raise Misuse(f"side {side!r}; left or right")
    if along is not None:
        if auto:
            raise Misuse("--auto and --along are two ways to find a screw; give one")
        which: Side = "left" if side == "left" else "right"
        asked = Asked(along, bone, which, entry, target, diameter, length, family, fracture)
        case = Case.open(folder)
        place(case, name, author, [_by_rule(case, asked)], as_json, f"plan screw --along {along}")
        return
    if fracture is not None or family is not None:
        raise Misuse("--fracture and --family belong to --along")
    given = {"--entry": entry, "--target": target, "--diameter": diameter, "--length": length}
    if auto and any(value is not None for value in given.values()):
        raise Misuse(
            f"--auto proposes all of them; leave out {', '.join(k for k, v in given.items() if v is not None)}"
        )
    if not auto and any(value is None for value in given.values()):
        raise Misuse(f"give {', '.join(k for k, v in given.items() if v is None)}, or --auto for a proposal")
    case = Case.open(folder)
    volume = volume_of(case)
    if auto:
        proposals = [propose_screw(case.twin, bone, "left" if side == "left" else "right", volume)]
    else:
        case.twin.bone(bone)
        proposals = [_by_hand(case, bone, side, entry or "", target or "", diameter or 0.0, length or 0.0, volume)]
    place(case, name, author, proposals, as_json, "plan screw --auto" if auto else None)


def place(
    case: Case, name: str, author: str, proposals: list[Proposal], as_json: bool, proposed_by: str | None = None,
    *, rods: bool = False,
) -> None:  # fmt: skip
    """Append the screws as edits, save the plan, report screws and refusals.

    `proposed_by`: the program's part that thought them up; None for screws by hand. `rods`: one a side as well.
    """
    from commands.plan_rods import place_rods, rod_words

    origins = {
        p.screw.id: {"by": proposed_by, "binding": p.grade.binding}
        for p in proposals
        if proposed_by is not None and p.screw is not None and p.grade is not None
    }
    after = append(case, name, author, [p.screw for p in proposals if p.screw is not None], origins)
    bent = place_rods(case, name, author, after) if rods else []
    screws = [
        {**screw_report(p.screw, p.grade), **aim_of(case.twin, p.screw), **p.reasons()}
        for p in proposals
        if p.screw is not None and p.grade is not None
    ]
    refused = [p.refusal() for p in proposals if p.screw is None]
    against = conflicts(after) + intrusions(screws)
    if case.twin.levels.confirmed_by is None:
        say("Nobody has confirmed the levels of this twin yet (osteotwin twin confirm).")
    if as_json:
        emit(
            {
                "plan": name,
                "screws": screws,
                "refused": refused,
                "conflicts": against,
                "uncertainty": uncertainty(case.twin),
                **({"rods": bent} if rods else {}),
            }
        )
        return
    tell(*(screw_words(s) for s in screws))
    tell(*(line for rod in bent for line in rod_words(rod)))
    tell(*(f"{r['bone']} {r['side']}: no screw: {r['reason']}\n  instead: {r['instead']}" for r in refused))
    tell(*against, *(caution(case.twin) if screws else ()))


def _by_rule(case: Case, asked: Asked) -> Proposal:
    """The rule's screw, or the refusal with what can be done instead."""
    from twin.plan.auto.autoplan import Proposal
    from twin.plan.screws.grade import OffBone, grade_screw
    from twin.plan.screws.ladder import alternatives
    from twin.plan.screws.placements import NoRoom

    volume = volume_of(case)
    try:
        made = placed(case.twin, asked)
    except (NoRoom, OffBone) as fault:
        if asked.rule not in ("axis", "cbt"):
            return Proposal(asked.bone, asked.side, None, None, fault.message, "another entry, target or size")
        rungs = alternatives(case.twin, asked.bone, asked.side, volume)
        return Proposal(asked.bone, asked.side, None, None, fault.message, rungs[0].reason, rungs=rungs)
    return Proposal(asked.bone, asked.side, made, grade_screw(case.twin, made, volume))


def _by_hand(
    case: Case, bone: str, side: str, entry: str, target: str, diameter: float, length: float, volume: Volume | None
) -> Proposal:
    """The screw that was asked for, its entry moved along the axis onto the bone."""
    import numpy as np

    from spatial.distance import DistanceGrid
    from spatial.frames import Patient
    from spatial.rigid import Directions, Points
    from twin.plan.auto.autoplan import Proposal, screw_id
    from twin.plan.screws.grade import entry_on_bone, grade_screw
    from twin.plan.screws.screw import BadScrew, Screw

    which: Side = "left" if side == "left" else "right"
    asked = Screw(
        screw_id(bone, which), bone, which, Points[Patient](point_of(entry, "--entry")),
        Points[Patient](point_of(target, "--target")), diameter, length,
    )  # fmt: skip
    way = asked.axis.direction
    grid = DistanceGrid[Patient].of(case.twin.bone(bone).surface)
    at = entry_on_bone(grid, asked.entry, Directions[Patient](way))
    if float(np.dot(asked.target.mm - at.mm, way)) < 0.1:
        raise BadScrew("the target lies before the bone on this axis; give a target in the body")
    made = Screw(asked.id, bone, which, at, asked.target, diameter, length)
    moved = float(np.linalg.norm(at.mm - asked.entry.mm))
    if moved > 1.0:
        say(f"The axis meets the bone {moved:.1f} mm from the given entry; the screw starts there.")
    return Proposal(bone, which, made, grade_screw(case.twin, made, volume))
