"""Guidance by a tracker instead of a camera: sightings in, read-outs out; there is no picture to draw over.

The camera's frame is the tracker's then. A tracker tells of its tools one after the other; an instant is answered when
all of them were heard of, seen or lost, so that the tool is held against the reference of the same instant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np

from guidance.loop import Guided
from guidance.session import State, Tick, step
from guidance.stages import Stages
from tracking.frame import Frame
from tracking.pose.sighting import Sighting

PATIENCE_NS = 100_000_000
DARK = np.zeros((1, 1), np.uint8)  # a frame has a picture; a tracker takes none


def guide_by_tracker(
    batches: Iterable[Sequence[Sighting[Any]]],
    state: State,
    *,
    stages: Stages | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Generator[Guided]:
    """Follow a tracker to its end; `batches` holds what came since the last one, nothing where nothing came.

    Stamps are monotonic ns, as `clock` gives them. Of several instants in a batch the newest is answered. Without news
    the last instant is judged again by its age.
    """
    times = stages or Stages()
    names = [state.reference.name, *([state.instrument.name] if state.instrument else [])]
    newest: dict[str, int] = {}
    said: list[Sighting[Any]] = []  # since the last instant that was answered
    last_ns: int | None = None
    judged_ns = clock()
    index = 0
    for batch in batches:
        with times.stage("track"):
            for sighting in batch:
                if sighting.body in names:
                    state = step(state, sighting)
                    said.append(sighting)
                    newest[sighting.body] = max(newest.get(sighting.body, 0), sighting.t_ns)
        t_ns = min(newest.values()) if len(newest) == len(names) else None
        is_new = t_ns is not None and (last_ns is None or t_ns > last_ns)
        now_ns = clock()
        if t_ns is None or not (is_new or now_ns - judged_ns > PATIENCE_NS):
            continue
        with times.stage("step"):
            state = step(state, Tick(t_ns, now_ns))
        last_ns, judged_ns = t_ns, now_ns
        assert state.readout is not None
        sightings = tuple(said) if is_new else ()
        yield Guided(Frame(t_ns, DARK, index), state, state.readout, None, times.frame(), is_new, sightings)
        said = [] if is_new else said
        index += 1
