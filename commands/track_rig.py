"""`osteotwin track … --rig`: the bodies in the pictures of several cameras at once, in the rig's frame."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from commands.console import emit, say, tell
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.bodies.body import Body
    from tracking.pose.rig import RigSighting

SYNC_NS = 8_000_000  # half a frame at sixty a second


def shares(found: RigSighting[Any]) -> dict[str, Any]:
    """What each camera gave, for a JSON line."""
    return {
        name: {
            "agrees": share.agrees,
            "rms_px": share.rms_px,
            "corners_px": {str(marker): corners.tolist() for marker, corners in share.corners_px.items()},
        }
        for name, share in found.shares.items()
    }


def track_together(
    sources: list[str], rig: Path, bodies: list[Body[Any]], sink: TextIO | None, as_json: bool, every: int
) -> None:
    """Follow the bodies to the end of the shortest source; then say what became of each. Raises Misuse, BadRig."""
    from commands.track import NoMarkers, line, words
    from tracking.calibration.rig_file import load_rig
    from tracking.rig_tracker import RigTracker, together
    from tracking.sources.source import open_source

    cameras = load_rig(rig)
    if len(sources) != len(cameras):
        names = ", ".join(camera.name for camera in cameras)
        raise Misuse(f"{len(sources)} sources for the rig's {len(cameras)} cameras; give one each, in order: {names}")
    tracked: Counter[str] = Counter()
    quarrels: Counter[str] = Counter()
    pictures = markers = 0
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(source)) for source in sources]
        tracker = stack.enter_context(RigTracker(cameras, bodies))
        for frames in together(opened, SYNC_NS):
            if frames[0].index % every:
                continue
            pictures += 1
            for found in tracker.see(frames):
                sighting = found.sighting
                tracked[sighting.body] += sighting.status == "TRACKED"
                quarrels.update(found.disagreeing)
                markers += len(sighting.corners_px)
                if as_json or sink is not None:
                    timed = tracker.histories[sighting.body].at(sighting.t_ns)
                    value = {**line(frames[0].index, sighting, timed), "cameras": shares(found)}
                    if sink is not None:
                        sink.write(json.dumps(value, allow_nan=False) + "\n")
                    if as_json:
                        emit(value)
                if not as_json:
                    tell(words(frames[0].index, sighting))
    if not pictures:
        raise Misuse(
            f"no pictures within {SYNC_NS / 1e6:g} ms of one another; were the cameras recorded together?",
        )
    if not markers:
        dictionaries = ", ".join(sorted({body.dictionary for body in bodies}))
        raise NoMarkers(f"none of {pictures} instants shows a marker of {dictionaries} to any camera")
    say(*(f"{body.name}: tracked in {tracked[body.name]} of {pictures} instants" for body in bodies))
    say(*(f"{name} contradicted the other cameras {count} times" for name, count in quarrels.items()))
