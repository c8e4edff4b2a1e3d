"""The demo's rehearsal: the plan performed with unsteady hands, seen by both eyes, recorded and replayed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rehearsal.events import SIDES
from rehearsal.log import Recording
from rehearsal.model import Model
from rehearsal.offscreen import Eyes, film, run, save_eyes
from rehearsal.score import report
from rehearsal.session import start
from rehearsal.surgeon import rehearse_plan as script_of
from spatial.progress import Progress
from tracking.video import write_mp4
from twin.case import Case
from twin.plan.plan import Plan

EYE_PX = (960, 960)
FILM_PX = (480, 480)
FILM_FPS = 0.75  # pictures a second of session time; the film plays them at 5


def rehearse_plan(case: Case, plan: Plan, out: Path, progress: Progress) -> dict[str, Any]:
    """Play the script, write eye_left.png, eye_right.png, rehearsal.mp4 and the log; replay it in a fresh process."""
    model = Model(case.twin, plan)
    events = script_of(model)
    log = out / "rehearsal" / "session.jsonl"
    state = start(model, "demo")
    pictures: list[NDArray[np.uint8]] = []
    best = None
    with Recording(log, state, case.folder) as recording, Eyes(*FILM_PX) as eyes:
        for n, (now, frame) in enumerate(film(run(state, events, recording), eyes, FILM_FPS)):
            state = now
            if frame is not None:
                pictures.append(frame.side_by_side)
            half_done = 2 * len(state.execution.plan.screws) <= len(plan.screws)
            if half_done and any(state.hand(side).drilling is not None for side in SIDES):
                best = state
            progress("rehearsing", n / max(len(events), 1))
        sha256 = recording.end()
    with case:
        case.journal.append("demo", "rehearsed", {"log": "../rehearsal/session.jsonl", "state_sha256": sha256})
    write_mp4(out / "rehearsal.mp4", pictures, 5.0)
    with Eyes(*EYE_PX) as eyes:
        frame = eyes.draw(best or state)
        if frame is not None:
            save_eyes(out, frame)
    replayed = subprocess.run(
        [sys.executable, "-m", "osteotwin", "replay", str(log), "--json"], capture_output=True, text=True, check=False
    )
    return {
        "events": len(events),
        "state_sha256": sha256,
        "replay_same": replayed.returncode == 0,
        "score": report(state),
    }
