"""`osteotwin track … --rig`: the bodies in the pictures of several cameras at once, in the rig's frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.console import say
from commands.track_lines import NoMarkers, Output, Summary
from commands.track_wire import until
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.bodies.body import Body
    from tracking.pose.rig import RigSighting
    from tracking.rig_tracker import RigTracker
    from tracking.sources.together import Instant, Unused


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
    sources: list[str], rig: Path, bodies: list[Body[Any]], output: Output, every: int, seconds: float | None,
    sync_ms: float,
) -> None:  # fmt: skip
    """Follow the bodies to the end, the limit or Ctrl-C; then say what became of each. Raises Misuse, BadRig."""
    from tracking.calibration.rig_file import load_rig
    from tracking.frame import Stopped
    from tracking.rig_tracker import RigTracker
    from tracking.sources.source import losses, notes, open_source
    from tracking.sources.together import Unused, together

    cameras = load_rig(rig)
    if len(sources) != len(cameras):
        names = ", ".join(camera.name for camera in cameras)
        raise Misuse(f"{len(sources)} sources for the rig's {len(cameras)} cameras; give one each, in order: {names}")
    summary, quarrels, absent, unused = Summary(), Counter[str](), Counter[str](), Unused()
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(source)) for source in sources]
        say(*(note for pictures in opened for note in notes(pictures)))
        tracker = stack.enter_context(RigTracker(cameras, bodies))
        try:
            for instant in until(together(opened, round(sync_ms * 1e6), unused), seconds):
                if isinstance(instant, Stopped):
                    _stopped(tracker, instant, output, summary)
                    continue
                absent.update(c.name for c, frame in zip(cameras, instant, strict=True) if frame is None)
                _one(tracker, instant, output, every, summary, quarrels)
        finally:
            say(*(words for pictures in opened for words in losses(pictures)))
            say(*summary.lines())
            say(*(f"{name} contradicted the other cameras {count} times" for name, count in quarrels.items()))
            say(*(f"{name} gave no picture in {count} instants" for name, count in absent.items()))
            say(*(_left_over(unused, [camera.name for camera in cameras], sync_ms) if summary.pictures else ()))
    if not summary.pictures:
        raise Misuse(
            f"no pictures within {sync_ms:g} ms of one another (--sync-ms); were the cameras recorded together?"
        )
    if not summary.markers:
        dictionaries = ", ".join(sorted({body.dictionary for body in bodies}))
        raise NoMarkers(f"none of {summary.pictures} instants shows a marker of {dictionaries} to any camera")


def _left_over(unused: Unused, names: Sequence[str], sync_ms: float) -> list[str]:
    """Which pictures of recordings were not used, in words."""
    out = [f"{names[k]}: {_pictures(n)} had no partner within {sync_ms:g} ms" for k, n in unused.alone.items() if n]
    left = [f"{_pictures(count)} of {names[k]}" for k, count in sorted(unused.left.items()) if count]
    if unused.ended is not None and left:
        out.append(f"the recording of {names[unused.ended]} ended first; not used after that: {', '.join(left)}")
    return out


def _pictures(count: int) -> str:
    return f"{count} picture{'s' if count > 1 else ''}"


def _stopped(tracker: RigTracker, event: Any, output: Output, summary: Summary) -> None:
    lost = tracker.stopped(event)
    output.send(lost)
    if not summary.stopped:  # said once, not four times a second
        summary.stops += 1
        for sighting in lost:
            output.put(None, sighting, tracker.histories[sighting.body].at(sighting.t_ns))
    summary.stopped = True


def _one(
    tracker: RigTracker, instant: Instant, output: Output, every: int, summary: Summary, quarrels: Counter[str]
) -> None:
    summary.stopped = False
    index = next(frame.index for frame in instant if frame is not None)
    if index % every:
        return
    found = tracker.see(instant)
    output.send([one.sighting for one in found])
    summary.pictures += 1
    for one in found:
        summary.add(one.sighting)
        quarrels.update(one.disagreeing)
        timed = tracker.histories[one.sighting.body].at(one.sighting.t_ns)
        output.put(index, one.sighting, timed, {"cameras": shares(one)})
    if output.overlay is not None:
        from tracking.drawn import write_picture

        for name, picture in tracker.drawn(instant, found).items():
            write_picture(output.overlay / f"{index:06d}-{Path(name).name}.png", picture)
