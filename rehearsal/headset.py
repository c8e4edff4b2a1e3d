"""The rehearsal in a headset: frames in, both eyes and haptics out, every event recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rehearsal.controls import key_event, sample_of
from rehearsal.events import Event
from rehearsal.log import Recording
from rehearsal.session import step
from rehearsal.staging import stage
from rehearsal.state import State
from render.painter import Painter
from render.scene import Scene, View
from spatial.frames import Stage

if TYPE_CHECKING:
    from render.headset import EyeView, Headset, HeadsetFrame
    from render.window import Window

Watch = Callable[["HeadsetFrame", State, Any], None]


def view_of(eye: EyeView) -> View[Stage]:
    """An eye of the headset as the painter takes it."""
    return View(eye.stage_from_eye.inverse(), eye.projection, *eye.size_px)


def _paint(painter: Painter, scene: Scene[Stage], eye: EyeView, canvas: Any) -> None:
    painter.draw(scene, view_of(eye), canvas)


def rehearse(
    headset: Headset,
    state: State,
    recording: Recording | None = None,
    *,
    frames: int | None = None,
    window: Window | None = None,
    capture_every: int = 0,
    watch: Watch | None = None,
) -> State:
    """Until the runtime ends the session or the window is closed, or for so many drawn frames. Returns the last state.

    The headset should have been made with `samples=1`: the painter smooths. A `window` (whose context the headset was
    given) mirrors the left eye, and its keys are commands. `watch(frame, state, pictures)` sees every frame after it
    was drawn; pictures are (left, right) each `capture_every` frames, else None.
    """
    painter = Painter(headset.context)
    drawn = 0
    try:
        for frame in headset.frames():
            events: list[Event] = [sample_of(frame)]
            if window is not None:
                pressed = (key_event(key, frame.t_display_ns, state.author) for key in window.keys)
                events += [event for event in pressed if event is not None]
                window.keys.clear()
            for event in events:
                state = step(state, event)
                if recording is not None:
                    recording.take(event, state)
                for pulse in state.pulses:
                    frame.pulse(pulse.side, pulse.amplitude, pulse.seconds)
            pictures = None
            if frame.should_render and frame.views is not None:
                scene = stage(state)
                capture = capture_every > 0 and drawn % capture_every == 0
                pictures = frame.draw(partial(_paint, painter, scene), capture=capture)
                drawn += 1
                if window is not None:
                    window.mirror(frame.mirror)
            if watch is not None:
                watch(frame, state, pictures)
            if (frames is not None and drawn >= frames) or (window is not None and window.is_closed):
                headset.stop()
    finally:
        painter.release()
    return state
