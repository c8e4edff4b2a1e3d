"""The rehearsal in a window: mouse and keys instead of a headset; the same session, the same record.

The mouse points the right hand's tool (left button: trigger, wheel: nearer and farther), the right button turns the
model, the middle one carries it. 1 hand, 2 drill, 3 saw, U undo, Y redo, R back on the table, Esc ends.
"""

from __future__ import annotations

import time

from rehearsal.controls import FOV_Y_RAD, Desktop, Mouse, key_event
from rehearsal.events import Event
from rehearsal.eyes import projection
from rehearsal.log import Recording
from rehearsal.session import step
from rehearsal.staging import stage
from rehearsal.state import State
from render.orientation import orientation_labels
from render.scene import View
from render.window import Window
from spatial.frames import Stage

HELP = (
    "left button: tool   wheel: depth   right button: turn   1 hand  2 drill  3 saw   U undo  Y redo  R reset  Esc end"
)


def rehearse(window: Window, state: State, recording: Recording | None = None, *, frames: int | None = None) -> State:
    """Until the window is closed, or for so many frames. Returns the last state."""
    desktop = Desktop()
    drawn = 0
    while not window.is_closed and (frames is None or drawn < frames):
        size_px = window.size_px
        t_ns = time.monotonic_ns()
        x_px, y_px, held, scrolled = window.pointer()
        mouse = Mouse(x_px, y_px, "left" in held, "middle" in held, "right" in held, scrolled)
        desktop = desktop.moved(mouse)
        events: list[Event] = [desktop.sample(t_ns, size_px)]
        events += [event for key in window.keys if (event := key_event(key, t_ns, state.author)) is not None]
        window.keys.clear()
        for event in events:
            state = step(state, event)
            if recording is not None:
                recording.take(event, state)
        view = View[Stage](desktop.head.inverse(), projection(*size_px, FOV_Y_RAD), *size_px)
        letters = orientation_labels(view, state.stage_from_patient)
        window.draw(stage(state).plus(screen_texts=letters), view)
        drawn += 1
    return state
