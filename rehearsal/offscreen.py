"""A rehearsal without headset or display: events in, stereo pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rehearsal.events import Event, Side
from rehearsal.eyes import views
from rehearsal.log import Recording
from rehearsal.session import step
from rehearsal.staging import stage
from rehearsal.state import State
from render.offscreen import Offscreen
from render.scene import Scene
from spatial.frames import Stage

Picture = NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 1280, 960
FRAMES_PER_S = 3.0  # pictures a second of the session


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Both eyes at one instant."""

    t_ns: int
    left: Picture
    right: Picture

    @property
    def side_by_side(self) -> Picture:
        """Left beside right, for a film."""
        return np.hstack([self.left, self.right])


def run(state: State, events: Iterable[Event], recording: Recording | None = None) -> Iterator[State]:
    """Each event's state, noted in the recording (which the caller ends)."""
    for event in events:
        state = step(state, event)
        if recording is not None:
            recording.take(event, state)
        yield state


class Eyes:
    """Draws states for both eyes. Give it back with `release`, or use it in a `with`."""

    def __init__(self, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> None:
        """Make the GL context; raises NoGraphics."""
        self.size_px = (width_px, height_px)
        self._offscreen = Offscreen(width_px, height_px)

    def __enter__(self) -> Eyes:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release."""
        self.release()

    def draw(self, state: State) -> Frame | None:
        """Both eyes; None while the head has not been seen."""
        if state.head is None:
            return None
        scene: Scene[Stage] = stage(state)
        seen: dict[Side, Picture] = {}
        for side, view in views(state.head, *self.size_px).items():
            seen[side] = self._offscreen.picture(scene, view)
        return Frame(state.t_ns, seen["left"], seen["right"])

    def release(self) -> None:
        """Give the context back."""
        self._offscreen.release()


def film(
    states: Iterable[State], eyes: Eyes, frames_per_s: float = FRAMES_PER_S
) -> Iterator[tuple[State, Frame | None]]:
    """Every state, with a picture at each tick of the film's clock (None between)."""
    due_ns: int | None = None
    period_ns = round(1e9 / frames_per_s)
    for state in states:
        frame = None
        if due_ns is None or state.t_ns >= due_ns:
            frame = eyes.draw(state)
            due_ns = (state.t_ns if due_ns is None else due_ns) + period_ns
        yield state, frame


def save_eyes(folder: Path, frame: Frame) -> tuple[Path, Path]:
    """Write `eye_left.png` and `eye_right.png`."""
    paths = (folder / "eye_left.png", folder / "eye_right.png")
    for path, picture in zip(paths, (frame.left, frame.right), strict=True):
        Image.fromarray(picture).save(path)
    return paths
