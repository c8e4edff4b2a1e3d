"""`osteotwin track`: the pose of every marker body in every picture of a video, a folder, a camera."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, say, tell
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from spatial.pinhole import Pinhole
    from tracking.bodies.body import Body
    from tracking.frame import FrameSource
    from tracking.pose.sighting import Sighting

app = typer.Typer(add_completion=False)


class NoMarkers(Fault):
    """Not one picture shows a marker that was asked for."""


def line(index: int, sighting: Sighting[Any]) -> dict[str, Any]:
    """One line of `--json`; a lost body has no pose, and says why."""
    found = sighting.camera_from_body
    return {
        "frame": index,
        "t_ns": sighting.t_ns,
        "body": sighting.body,
        "status": sighting.status,
        "how": "EXACT" if found else "STALE",
        "reason": sighting.reason,
        "camera_from_body": found.pose.to_json() if found else None,
        "covariance": found.covariance.tolist() if found else None,
        "rms_px": sighting.rms_px if sighting.rms_px is not None and math.isfinite(sighting.rms_px) else None,
        "corners_px": {str(marker): corners.tolist() for marker, corners in sighting.corners_px.items()},
        "ambiguity": sighting.ambiguity if math.isfinite(sighting.ambiguity) else None,
    }


def words(index: int, sighting: Sighting[Any]) -> str:
    """The same for a person."""
    found = sighting.camera_from_body
    if found is None:
        return f"{index:5d}  {sighting.body:16s} LOST     {sighting.reason}"
    x, y, z = found.pose.translation_mm
    sd_mm = math.sqrt(float(found.covariance[5, 5]))
    return (
        f"{index:5d}  {sighting.body:16s} TRACKED  x {x:8.2f}  y {y:8.2f}  z {z:8.2f} mm (sd {sd_mm:.2f})  "
        f"{len(sighting.corners_px)} markers, {sighting.rms_px:.2f} px"
    )


@app.command()
@command
def track(
    source: Annotated[str, typer.Argument(help="Video file, folder of pictures, camera:N or synthetic:SPEC.")],
    camera: Annotated[Path | None, typer.Option(help="Camera file (OpenCV YAML). synthetic: brings its own.")] = None,
    bodies: Annotated[list[Path] | None, typer.Option(help="Marker body file; repeat for several.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Instead: OpenCV's dictionary of single markers.")] = None,
    size_mm: Annotated[float | None, typer.Option(help="… and the edge of their black square.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line a body a frame on stdout.")] = False,
) -> None:
    """Say where each marker body is in each picture, with its covariance, or why it is lost."""
    if bool(bodies) == (dictionary is not None):
        raise Misuse("give either --bodies FILE (repeated for several) or --dictionary NAME with --size-mm S")
    if dictionary is not None and size_mm is None:
        raise Misuse("--dictionary needs --size-mm: the edge of the markers' black square")

    from tracking.bodies.body import load
    from tracking.detection.markers import find_dictionary
    from tracking.sources.source import open_source

    loaded = [load(path) for path in bodies or ()]
    if dictionary is not None:
        find_dictionary(dictionary)
    with open_source(source) as pictures:
        pinhole = _lens(pictures, camera)
        if dictionary is not None:
            assert size_mm is not None  # checked above; for mypy
            _singles(pictures, pinhole, dictionary, size_mm, as_json)
        else:
            _bodies(pictures, pinhole, loaded, as_json)


def _lens(pictures: FrameSource, camera: Path | None) -> Pinhole:
    from tracking.calibration.camera_file import load_camera

    if camera is not None:
        return load_camera(camera)
    own: Pinhole | None = getattr(pictures, "pinhole", None)
    if own is None:
        raise Misuse("--camera FILE is needed: without a calibration (OpenCV's YAML) there is no pose")
    return own


def _bodies(pictures: FrameSource, pinhole: Pinhole, loaded: list[Body[Any]], as_json: bool) -> None:
    from tracking.tracker import Tracker

    tracker = Tracker(pinhole, loaded)
    tracked = dict.fromkeys((body.name for body in loaded), 0)
    seen, frames = 0, 0
    for frame in pictures:
        frames += 1
        for sighting in tracker.see(frame):
            seen += len(sighting.corners_px)
            tracked[sighting.body] += sighting.status == "TRACKED"
            _put(frame.index, sighting, as_json)
    if not seen:
        raise _nothing(frames, ", ".join(sorted({body.dictionary for body in loaded})), pictures.name)
    say(*(f"{name}: tracked in {count} of {frames} pictures" for name, count in tracked.items()))


def _singles(pictures: FrameSource, pinhole: Pinhole, dictionary: str, size_mm: float, as_json: bool) -> None:
    from tracking.bodies.body import Body
    from tracking.calibration.camera_file import require_resolution
    from tracking.detection.markers import detect
    from tracking.history.history import PoseHistory
    from tracking.pose.pose import track_body

    known: dict[int, Body[Any]] = {}
    histories: dict[int, PoseHistory[Any]] = {}
    frames = 0
    for frame in pictures:
        frames += 1
        require_resolution(frame.picture, pinhole)
        detections = detect(frame.picture, dictionary, pinhole)
        for marker in detections.ids.tolist():
            if marker not in known:
                known[marker] = Body[Any].single(marker, dictionary, size_mm)
                histories[marker] = PoseHistory()
        for marker, body in sorted(known.items()):
            prior = histories[marker].at(frame.t_ns).pose
            sighting = track_body(detections, body, pinhole, t_ns=frame.t_ns, prior=prior)
            histories[marker].add(sighting)
            _put(frame.index, sighting, as_json)
    if not known:
        raise _nothing(frames, dictionary, pictures.name)
    say(f"{len(known)} markers of {dictionary} in {frames} pictures: {', '.join(map(str, sorted(known)))}")


def _put(index: int, sighting: Sighting[Any], as_json: bool) -> None:
    if as_json:
        emit(line(index, sighting))
    else:
        tell(words(index, sighting))


def _nothing(frames: int, dictionary: str, name: str) -> NoMarkers:
    return NoMarkers(
        f"none of the {frames} pictures shows a marker of {dictionary} that was asked for; "
        "is it another dictionary, a mirrored picture, or are the markers smaller than 3 % of the picture?",
        path=name,
    )
