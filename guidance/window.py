"""Guidance in a window: each frame as soon as it is tracked, until the window is closed or the source ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from guidance.loop import Guided, colour
from guidance.overlay import overlay
from guidance.stages import Stages
from render.window import Window
from spatial.pinhole import Pinhole
from tracking.undistort import undistort
from twin.anatomy.twin import Twin


def show(
    frames: Iterator[Guided],
    pinhole: Pinhole,
    twin: Twin,
    emit: Callable[[dict[str, Any]], None] | None = None,
    *,
    stages: Stages | None = None,
    shown: Callable[[Window, Guided], None] | None = None,
) -> int:
    """Draw every guided frame; `emit` gets its line, `shown` the window after it. Returns how many. Raises NoWindow."""
    ideal = pinhole.undistorted()
    times = stages or Stages()
    count = 0
    with Window(min(pinhole.width_px, 1600), min(pinhole.height_px, 900), "Osteotwin guidance", samples=0) as window:
        for one in frames:
            with times.stage("draw"):
                backdrop = undistort(colour(one.frame.picture), pinhole)
                window.draw(*overlay(one.state, twin, backdrop, ideal))
            count += 1
            if emit is not None:
                emit(one.to_json())
            if shown is not None:
                shown(window, one)
            if window.is_closed:
                break
    return count
