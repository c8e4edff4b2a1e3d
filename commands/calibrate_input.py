"""What the calibrations are fed with: recorded poses, or pictures that are tracked first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.console import progress_bar, say
from commands.lens import lens
from commands.reading import reading
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.bodies.body import Body
    from tracking.calibration.recording import Recording
    from tracking.frame import Frame, FrameSource

LIVE_S = 30.0


def recorded(source: str, camera: Path | None, bodies: Sequence[Body[Any]], seconds: float | None) -> Recording:
    """Poses of the bodies from a file of poses, or tracked in pictures for at most `seconds`."""
    from tracking.calibration.recording import is_recording, load_recording, record

    if is_recording(source):
        return load_recording(source)
    with reading(source) as pictures, progress_bar("Tracking") as progress:
        return record(pictures.name, limited(source, pictures, seconds), lens(pictures, camera), bodies, progress)


def limited(source: str, pictures: FrameSource, seconds: float | None) -> Iterator[Frame]:
    """The pictures of at most `seconds`; of half a minute where the source has no end."""
    if seconds is None and not Path(source).exists() and not source.startswith("synthetic:"):
        seconds = LIVE_S
        say(f"recording for {seconds:g} s (--seconds changes it)")
    if seconds is not None and not seconds > 0:
        raise Misuse(f"--seconds {seconds}: it must be above zero")
    first_ns = None
    for frame in pictures:
        first_ns = frame.t_ns if first_ns is None else first_ns
        if seconds is not None and frame.t_ns - first_ns > seconds * 1e9:
            return
        yield frame


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a file, atomically."""
    from tracking.part_file import part_file

    with part_file(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
