"""`osteotwin plan reveal`: own plan first, then the sealed proposals beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, tell
from commands.plan_desk import AsJson, Author, CaseFolder, PlanName, folded, volume_of
from spatial.faults import Misuse

if TYPE_CHECKING:
    from twin.case import Case
    from twin.plan.auto.autoplan import Proposal
    from twin.plan.screws.screw import Screw
    from twin.plan.sealed import Seal
    from twin.scan.volume import Volume


@command
def reveal(
    folder: CaseFolder,
    give_up: Annotated[
        list[str] | None, typer.Option("--give-up", metavar="ID", help="Open this one without a screw of your own.")
    ] = None,
    name: PlanName = "plan",
    author: Author = "planner",
    as_json: AsJson = False,
) -> None:
    """Open the sealed proposals of pedicles that have a screw of your own, and hold both against each other."""
    from twin.case import Case
    from twin.plan.sealed import REVEALED, own_screws, seals

    case = Case.open(folder)
    with case.journal.lock():
        entries = case.journal.entries()
        found = seals(entries, name)
        strange = sorted(set(give_up or ()) - set(found))
        if strange:
            raise Misuse(f"no sealed proposal for {', '.join(strange)}; there are {', '.join(sorted(found)) or 'none'}")
        own = own_screws(entries, name, folded(case, name).screws)
        volume = volume_of(case)
        shown, waiting = [], []
        for one in found.values():
            if not (one.is_open or one.screw in own or one.screw in (give_up or ())):
                waiting.append(one.screw)
                continue
            report = _compared(case, one, own.get(one.screw), volume)
            if not one.is_open:
                told = {"plan": name, "id": one.screw, "sha256": one.sha256, "differs": report["differs"]}
                case.journal.append(author, REVEALED, told)
            shown.append(report)
    if as_json:
        emit({"plan": name, "revealed": shown, "waiting": waiting})
        return
    tell(*(_words(report) for report in shown))
    if waiting:
        tell(f"Still sealed, until you place a screw of your own: {', '.join(waiting)}")
    if not found:
        tell("Nothing is sealed; `osteotwin plan auto --sealed` makes proposals that wait for yours.")


def seal(case: Case, name: str, author: str, proposals: list[Proposal], as_json: bool) -> None:
    """Put proposals into the journal unread."""
    from twin.plan.edits import ensure_open
    from twin.plan.sealed import SEALED, sealing

    payload = sealing(name, proposals)
    with case.journal.lock():
        ensure_open(case.journal.entries(), name)
        case.journal.append(author, SEALED, payload)
    told = [{"id": key, "sha256": one["sha256"]} for key, one in payload["seals"].items()]
    if as_json:
        emit({"plan": name, "sealed": told})
        return
    tell(
        f"{len(told)} proposals are sealed: {', '.join(one['id'] for one in told)}.",
        "Place your own screws (osteotwin plan screw), then see both: osteotwin plan reveal.",
    )


def refuse_while_sealed(case: Case, name: str, levels: tuple[str, ...]) -> None:
    """Raise Misuse where a proposal would be told that waits under a seal for the surgeon's own screw."""
    from twin.plan.sealed import seals

    asked = {f"{level}-{side}" for level in levels for side in ("left", "right")}
    closed = [one.screw for one in seals(case.journal.entries(), name).values() if not one.is_open]
    waiting = [screw for screw in closed if screw in asked]
    if waiting:
        raise Misuse(
            f"sealed proposals wait for your own screws of {', '.join(waiting)}; place them, then: "
            "osteotwin plan reveal CASE (or open one without: --give-up ID)"
        )


def _compared(case: Case, one: Seal, own: Screw | None, volume: Volume | None) -> dict[str, Any]:
    """A seal's content beside the surgeon's own screw, and how far apart they are."""
    from commands.plan_words import screw_report
    from twin.anatomy.local_frame import bone_frame
    from twin.anatomy.twin import NoLandmark
    from twin.plan.screws.grade import grade_screw
    from twin.plan.screws.screw import Screw
    from twin.plan.sealed import against

    content = one.read()
    proposed = None if content["screw"] is None else Screw.from_json(content["screw"])
    differs = None
    if proposed is not None and own is not None:
        try:
            frame = bone_frame(case.twin, own.bone)
        except NoLandmark:
            frame = None
        differs = against(proposed, own, frame).to_json()
    return {
        "id": one.screw,
        "sha256": one.sha256,
        "own": None if own is None else screw_report(own, grade_screw(case.twin, own, volume)),
        "proposed": None if proposed is None else {**content["screw"], **content["grade"]},
        "limits": content.get("limits"),
        "reason": content.get("reason"),
        "differs": differs,
    }


def _words(report: dict[str, Any]) -> str:
    """Both screws in a line."""

    def side(screw: dict[str, Any]) -> str:
        return f"{screw['diameter_mm']:g} x {screw['length_mm']:g} mm, grade {screw['grade']}"

    own = "none" if report["own"] is None else side(report["own"])
    proposed = f"none: {report['reason']}" if report["proposed"] is None else side(report["proposed"])
    line = f"{report['id']}: yours {own}; proposed {proposed}"
    gap = report["differs"]
    if gap is None:
        return line
    return (
        f"{line}; entries {gap['entry_mm']:.1f} mm, tips {gap['tip_mm']:.1f} mm, {gap['angle_deg']:.1f} degrees apart"
    )
