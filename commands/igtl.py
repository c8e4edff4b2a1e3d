"""`osteotwin igtl`: a case shown to 3D Slicer, a look at what a wire carries, trajectories read as candidate screws."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from interop.axes import Axes
    from interop.openigtlink.message import Message
    from interop.openigtlink.scene import Candidate
    from spatial.frames import Patient
    from spatial.rigid import Points
    from twin.anatomy.bone import Side
    from twin.case import Case

app = typer.Typer(no_args_is_help=True, add_completion=False, help="OpenIGTLink, the wire to 3D Slicer and PLUS.")
CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")]
AxesOption = Annotated[str, typer.Option("--axes", help="RAS, as 3D Slicer expects it, or LPS.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; else Ctrl-C ends it.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]


class NothingHeard(Fault):
    """Not one message of OpenIGTLink came."""


class NoTrajectories(Fault):
    """Nobody sent a trajectory."""


def _told(words: str) -> None:
    say(f"OpenIGTLink: {words}")


def _axes(word: str) -> Axes:
    match word.upper():
        case "RAS" | "LPS" as axes:
            return axes
    raise Misuse(f"--axes {word!r}; RAS or LPS")


@app.command()
@command
def serve(
    folder: CaseFolder,
    plan: Annotated[str | None, typer.Option("--plan", help="Send this plan's screws too.")] = None,
    with_ct: Annotated[bool, typer.Option("--ct", help="Send the CT too (large).")] = False,
    triangles: Annotated[int, typer.Option(min=1000, help="At most so many a bone.")] = 60_000,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 18944,
    host: Annotated[str, typer.Option(help="This machine's address; other machines reach 0.0.0.0.")] = "127.0.0.1",
    axes: AxesOption = "RAS",
    seconds: Seconds = None,
    as_json: AsJson = False,
) -> None:
    """Show a case to whoever connects: its bones, the CT, a plan's screws. Trajectories sent to it are candidates."""
    from interop.openigtlink import scene
    from interop.openigtlink.broadcast import Broadcast
    from interop.openigtlink.shapes import Trajectories
    from twin.case import Case
    from twin.plan.plan import Plan

    turned, case = _axes(axes), Case.open(folder)
    with progress_bar("igtl") as progress:
        progress("bones", 0.0)
        standing = scene.bones(case.twin, turned, triangles)
        if plan is not None:
            standing.append(scene.trajectories(plan, Plan.from_json(case.load_plan(plan)).screws, turned))
        if with_ct:
            progress("CT", 0.5)
            standing.append(scene.ct(case.volume(), turned))

    def received(message: Message) -> None:
        if isinstance(message.content, Trajectories):
            _show(case, scene.candidates(message.content.elements, case.twin, turned), plan, None, as_json)

    begun = time.monotonic()
    with Broadcast(port, host, standing=standing, told=_told, received=received) as wire:
        say(f"{len(standing)} things to show on {host}:{wire.port}, in {turned}; Ctrl-C ends it")
        if as_json:
            emit({"port": wire.port, "sends": [{"type": m.type, "name": m.device} for m in standing]})
        while seconds is None or time.monotonic() - begun < seconds:
            time.sleep(0.05)


@app.command()
@command
def listen(
    address: Annotated[str, typer.Argument(metavar="igtl://HOST:PORT", help="As for track.")],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to listen.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Say what a server sends: each device's type, how often, how late, and what could not be read."""
    from interop.openigtlink.listening import listened

    with progress_bar("igtl") as progress:
        heard = listened(address, seconds, progress)
    if heard.silence is not None:
        raise NothingHeard(f"{heard.silence} ({seconds:g} s)")
    if as_json:
        emit(heard.to_json())
        return
    for row in heard.rows:
        rate = "once" if row.count == 1 else f"{row.count} times, {row.per_second:.1f} a second"
        late = "" if row.late_ms is None else f", {row.late_ms:.1f} ms late at most by its stamps"
        tell(f"{row.type:12s} {row.device:20s} {rate}{late}  {row.last}")
    for words, count in heard.refused.items():
        tell(f"not read, {count} times: {words}")
    if heard.trouble:
        tell(f"{heard.breaks} breaks: {heard.trouble}")


@app.command()
@command
def candidates(
    folder: CaseFolder,
    address: Annotated[str, typer.Argument(metavar="igtl://HOST:PORT", help="Who has the trajectories.")],
    plan: Annotated[str | None, typer.Option("--plan", help="The plan that the shown commands would edit.")] = None,
    diameter: Annotated[float | None, typer.Option(min=0.5, metavar="MM", help="Grade them at this diameter.")] = None,
    axes: AxesOption = "RAS",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to listen.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Ask for trajectories and show them as candidate screws, each with the command that would place it."""
    from interop.openigtlink import scene
    from interop.openigtlink.listening import trajectories
    from twin.case import Case

    turned, case = _axes(axes), Case.open(folder)
    sent = trajectories(address, seconds)
    if not sent:
        raise NoTrajectories(f"no trajectory came from {address}; does it know GET_TRAJ, or send TRAJ by itself?")
    _show(case, scene.candidates(sent, case.twin, turned), plan, diameter, as_json)


def _show(case: Case, found: Sequence[Candidate], plan: str | None, diameter: float | None, as_json: bool) -> None:
    rows = [_row(case, one, plan, diameter) for one in found]
    if as_json:
        emit({"candidates": rows})
        return
    for row in rows:
        grade = f"grade {row['grade']}" if row["grade"] else "not graded (--diameter)" if row["bone"] else ""
        where = f"{row['bone']} {row['side']}, {row['length_mm']:.1f} mm, {grade}" if row["bone"] else "no screw"
        tell(f"{row['name']}: {where}" + (f"; {row['reason']}" if row["reason"] else ""))
        if row["command"]:
            tell(f"  {row['command']}")


def _row(case: Case, one: Candidate, plan: str | None, diameter: float | None) -> dict[str, Any]:
    """A candidate for a program to read; `command` is what a person would run to place it."""
    grade, reason, line = None, one.why, None
    if one.bone is not None and one.side is not None and one.entry is not None and one.target is not None:
        mm = [",".join(f"{x:.2f}" for x in point.mm) for point in (one.entry, one.target)]
        words = ["osteotwin", "plan", "screw", str(case.folder), "--bone", one.bone, "--side", one.side]
        words += ["--entry", mm[0], "--target", mm[1], "--length", f"{one.length_mm:.1f}"]
        words += ["--diameter", "D" if diameter is None else f"{diameter:g}", *(["--plan", plan] if plan else [])]
        line = shlex.join(words)
        if diameter is not None:
            grade, trouble = _graded(case, one.name, one.bone, one.side, one.entry, one.target, diameter)
            reason = trouble or reason
    return {
        "name": one.name,
        "bone": one.bone,
        "side": one.side,
        "entry_mm": None if one.entry is None else one.entry.mm.tolist(),
        "target_mm": None if one.target is None else one.target.mm.tolist(),
        "length_mm": one.length_mm,
        "sent_diameter_mm": one.sent_diameter_mm,
        "diameter_mm": diameter,
        "grade": grade,
        "reason": reason,
        "command": line,
    }


def _graded(
    case: Case, name: str, bone: str, side: Side, entry: Points[Patient], target: Points[Patient], diameter: float,
) -> tuple[str | None, str | None]:  # fmt: skip
    """The grade, or why there is none."""
    from twin.plan.screws.grade import grade_screw
    from twin.plan.screws.screw import Screw

    length_mm = float(np.linalg.norm(target.mm - entry.mm))
    try:
        screw = Screw(name or "candidate", bone, side, entry, target, diameter, length_mm)
        return str(grade_screw(case.twin, screw).grade), None
    except Fault as fault:
        return None, fault.message
