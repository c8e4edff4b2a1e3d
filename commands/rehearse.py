"""`osteotwin rehearse`: practise the plan of a case in a headset, in a window, or played by a script into pictures."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Misuse

if TYPE_CHECKING:
    from rehearsal.events import Event
    from rehearsal.log import Recording
    from rehearsal.model import Model
    from rehearsal.state import State
    from twin.case import Case

app = typer.Typer(add_completion=False)

FILM_PX = (640, 480)  # an eye; they stand side by side
FILM_SPEED = 4.0  # the film runs so much faster than the session


class OneWay(Misuse):
    """None or several of --headset, --window and --offscreen."""


class WhichPlan(Misuse):
    """A case with no plan, or with several and no choice."""


@app.command()
@command
def rehearse(
    case_folder: Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")],
    headset: Annotated[bool, typer.Option("--headset", help="In the headset, through OpenXR.")] = False,
    window: Annotated[bool, typer.Option("--window", help="In a window, with mouse and keys.")] = False,
    offscreen: Annotated[
        Path | None, typer.Option(metavar="DIR", help="No display: pictures of both eyes and a film into DIR.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Show the left eye in a window too (with --headset).")
    ] = False,
    script: Annotated[
        Path | None,
        typer.Option(
            metavar="EVENTS.jsonl", help="What the hands do; without it a scripted surgeon performs the plan."
        ),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Where it is recorded (default: CASE/rehearsals/TIME.jsonl).")
    ] = None,
    plan: Annotated[str | None, typer.Option(metavar="NAME", help="Which plan, if the case has several.")] = None,
    author: Annotated[str, typer.Option(metavar="NAME", help="Who rehearses.")] = "surgeon",
    seed: Annotated[int, typer.Option(help="The scripted surgeon's.")] = 1,
    frames: Annotated[int | None, typer.Option(min=1, help="End a headset or window after so many frames.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Practise a plan; every movement is recorded, and `osteotwin replay LOG` computes the same session again."""
    from rehearsal.log import Recording, ensure_new
    from rehearsal.score import report
    from rehearsal.script import read_script
    from rehearsal.state import start
    from rehearsal.surgeon import rehearse_plan
    from twin.case import Case
    from twin.journal import JournalBusy

    if (headset, window, offscreen is not None).count(True) != 1:
        raise OneWay("choose one of --headset, --window and --offscreen DIR")
    if mirror and not headset:
        raise OneWay("--mirror shows what the headset sees; use it with --headset")
    if script is not None and offscreen is None:
        raise OneWay("--script plays without hands; use it with --offscreen DIR")
    case = Case.open(case_folder)
    model = model_of(case, plan)
    log = log or case_folder / "rehearsals" / time.strftime("%Y%m%dT%H%M%S.jsonl")
    ensure_new(log)
    events: tuple[Event, ...] = ()
    with progress_bar("Rehearsal") as progress:
        if script is not None:
            events = tuple(read_script(script))
        model.warm(progress)
        if offscreen is not None and script is None:
            progress("planning the movements", 1.0)
            events = rehearse_plan(model, seed)
    state = start(model, uuid.uuid4().hex, author)
    with Recording(log, state, case_folder) as recording:
        if offscreen is not None:
            state, extra = _offscreen(offscreen, events, state, recording)
        elif headset:
            state, extra = _headset(state, recording, frames, mirror)
        else:
            state, extra = _window(state, recording, frames)
        sha256 = recording.end()
    value: dict[str, Any] = {
        "log": str(log),
        "sha256": sha256,
        "events": state.seq,
        **report(state),
        **extra,
        "warnings": list(model.twin.warnings),
    }
    try:
        with case.journal:
            case.journal.append(author, "rehearsed", {"log": os.path.relpath(log, case_folder), "state_sha256": sha256})
    except JournalBusy:
        say("The case is open in another program, so its journal does not name this rehearsal; the log is whole.")
    if as_json:
        emit(value)
        return
    tell(f"{state.seq} events in {state.elapsed_s:.0f} s, recorded in {log}")
    for line in value["screws"]:
        off = line["deviation"]
        words = (
            f"entry {off['entry_mm']:.1f} mm, tip {off['tip_mm']:.1f} mm, angle {off['angle_deg']:.1f} deg off the plan"
            if off
            else "no planned screw near"
        )
        tell(f"  {line['id']}: grade {line['grade'] or 'not known'}; {words}")
    for line in value["osteotomies"]:
        planned_deg = line["planned_deg"]
        goal = "" if planned_deg is None else f" of {planned_deg:.1f}"
        tell(f"  {line['id']}: closed by {line['closed_deg']:.1f}{goal} deg")
    tell(*(f"  not done: {name}" for name in value["missing"]))
    tell("No uncertainty is given: this was a rehearsal on the twin. Not for treatment.")


def model_of(case: Case, name: str | None) -> Model:
    """The case's twin with the plan to practise. Raises WhichPlan, NoPlan."""
    from rehearsal.model import Model
    from twin.plan.plan import Plan

    names = case.plan_names
    if name is None:
        if len(names) != 1:
            known = ", ".join(names) or "none; make one with: osteotwin plan auto CASE --levels L1-S1"
            raise WhichPlan(f"the case has {len(names)} plans ({known}); name one with --plan", path=case.folder)
        name = names[0]
    return Model(case.twin, Plan.from_json(case.load_plan(name)))


def _offscreen(
    folder: Path, events: Sequence[Event], state: State, recording: Recording
) -> tuple[State, dict[str, Any]]:
    """Play a script; leaves `eye_left.png`, `eye_right.png`, `rehearsal.mp4` and `report.json`."""
    from rehearsal.offscreen import FRAMES_PER_S, Eyes, Picture, film, run, save_eyes
    from rehearsal.score import report
    from tracking.video import write_mp4

    with progress_bar("Rehearsal") as progress:
        folder.mkdir(parents=True, exist_ok=True)
        last: list[State] = [state]

        with Eyes(*FILM_PX) as eyes:

            def pictures() -> Iterator[Picture]:
                for now, frame in film(run(state, events, recording), eyes):
                    last[0] = now
                    if frame is not None:
                        progress("drawing both eyes", now.seq / max(len(events), 1))
                        yield frame.side_by_side

            write_mp4(folder / "rehearsal.mp4", pictures(), FILM_SPEED * FRAMES_PER_S)
        with Eyes() as eyes:
            frame = eyes.draw(last[0])
        extra: dict[str, Any] = {"film": str(folder / "rehearsal.mp4"), "pictures": []}
        if frame is not None:
            extra["pictures"] = [str(path) for path in save_eyes(folder, frame)]
    (folder / "report.json").write_text(json.dumps(report(last[0]), indent=1, allow_nan=False), encoding="utf-8")
    return last[0], extra


def _headset(state: State, recording: Recording, frames: int | None, mirror: bool) -> tuple[State, dict[str, Any]]:
    from rehearsal.headset import rehearse as loop
    from render.headset import Headset

    with ExitStack() as stack:
        window = None
        if mirror:
            from render.window import Window

            window = stack.enter_context(Window(title="Osteotwin rehearsal"))
        context = None if window is None else window.context
        headset = stack.enter_context(Headset("Osteotwin rehearsal", context=context, samples=1))
        say(
            f"{headset.runtime_name}, {headset.headset_name}; take the headset off or press Ctrl-C to end",
            *headset.notes,
        )
        more = {"runtime": headset.runtime_name}
        try:
            return loop(headset, state, recording, frames=frames, window=window), more
        except KeyboardInterrupt:
            return recording.state, more


def _window(state: State, recording: Recording, frames: int | None) -> tuple[State, dict[str, Any]]:
    from rehearsal.window import HELP
    from rehearsal.window import rehearse as loop
    from render.window import Window

    say(HELP)
    with Window(title="Osteotwin rehearsal") as window:
        try:
            return loop(window, state, recording, frames=frames), {}
        except KeyboardInterrupt:
            return recording.state, {}
