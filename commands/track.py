"""`osteotwin track`: the pose of every marker body in every picture of a video, a folder, a camera."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from commands.console import command, emit, say, tell
from commands.lens import lens
from commands.track_wire import Send, follow, nothing, sending, until
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from tracking.diamonds import DiamondTracker
    from tracking.frame import Frame, FrameSource, Stopped
    from tracking.history.history import PoseHistory
    from tracking.history.timed import TimedPose
    from tracking.pose.sighting import Sighting
    from tracking.tracker import Tracker

app = typer.Typer(add_completion=False)
ASKED_ABOUT, FEW = 3, 2  # so many pictures with so few markers are asked what else they show


class NoMarkers(Fault):
    """Not one picture shows a marker that was asked for."""


def line(index: int | None, sighting: Sighting[Any], timed: TimedPose[Any]) -> dict[str, Any]:
    """One line of `--json`; a lost body has no pose, and says why. `filtered` is the history's pose at that instant.

    `index` is None where the camera gave no picture.
    """
    found = sighting.camera_from_body
    known = timed.uncertain
    return {
        "frame": index,
        "t_ns": sighting.t_ns,
        "body": sighting.body,
        "status": sighting.status,
        "how": timed.how,
        "cause": sighting.cause or timed.cause,
        "reason": sighting.reason or timed.reason,
        "camera_from_body": found.pose.to_json() if found else None,
        "covariance": found.covariance.tolist() if found else None,
        "rms_px": sighting.rms_px if sighting.rms_px is not None and math.isfinite(sighting.rms_px) else None,
        "corners_px": {str(marker): corners.tolist() for marker, corners in sighting.corners_px.items()},
        "ambiguity": sighting.ambiguity if math.isfinite(sighting.ambiguity) else None,
        "filtered": None
        if known is None
        else {"camera_from_body": known.pose.to_json(), "covariance": known.covariance.tolist()},
        "age_ms": timed.age_ns / 1e6,
    }


def words(index: int | None, sighting: Sighting[Any]) -> str:
    """The same for a person."""
    frame = "-" if index is None else str(index)
    found = sighting.camera_from_body
    if found is None:
        return f"{frame:>5s}  {sighting.body:16s} LOST     {sighting.reason}"
    x, y, z = found.pose.translation_mm
    sd_mm = math.sqrt(float(found.covariance[5, 5]))
    doubt = f"; {sighting.reason}" if sighting.reason else ""
    by = "" if sighting.rms_px is None else f"  {len(sighting.corners_px)} markers, {sighting.rms_px:.2f} px"
    return (
        f"{frame:>5s}  {sighting.body:16s} TRACKED  x {x:8.2f}  y {y:8.2f}  z {z:8.2f} mm (sd {sd_mm:.2f}){by}{doubt}"
    )


@dataclass
class Summary:
    """What became of each body's pictures: how often it was tracked, and how often lost for which cause."""

    pictures: int = 0
    stops: int = 0
    stopped: bool = False
    markers: int = 0
    tracked: Counter[str] = field(default_factory=Counter)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, sighting: Sighting[Any]) -> None:
        """Count one."""
        self.markers += len(sighting.corners_px)
        causes = self.lost.setdefault(sighting.body, Counter())
        if sighting.status == "TRACKED":
            self.tracked[sighting.body] += 1
        else:
            causes[sighting.cause or "residual"] += 1

    def lines(self) -> list[str]:
        """A line a body; a single marker is counted from the picture on in which it was first seen."""
        out = []
        for body, causes in self.lost.items():
            total = self.tracked[body] + causes.total()
            why = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
            out.append(
                f"{body}: tracked in {self.tracked[body]} of {total} pictures" + (f"; lost: {why}" if why else "")
            )
        if self.stops:
            out.append(f"the camera stopped {self.stops} times")
        return out


@app.command()
@command
def track(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Video, folder, camera:N, a URL, synthetic:SPEC; igtl://HOST:PORT."),
    ],
    camera: Annotated[Path | None, typer.Option(help="Camera file (OpenCV YAML). synthetic: brings its own.")] = None,
    rig: Annotated[
        Path | None,
        typer.Option(help="Rig file of `calibrate stereo`: a SOURCE a camera, in its order; brings lenses."),
    ] = None,
    bodies: Annotated[
        list[Path] | None, typer.Option(help="Marker body file; repeat for several. synthetic: has its own.")
    ] = None,
    dictionary: Annotated[str | None, typer.Option(help="Instead: OpenCV's dictionary of single markers.")] = None,
    size_mm: Annotated[float | None, typer.Option(help="… and the edge of their black square.")] = None,
    diamond_mm: Annotated[
        float | None, typer.Option(help="… or the squares' edge of ChArUco diamonds of them.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Use every N-th picture only.")] = 1,
    overlay: Annotated[Path | None, typer.Option(help="Folder for the pictures with what was found drawn in.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the JSON lines, beside or instead of --json.")] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="`filtered` knows the five pictures after it too, and comes after them.")
    ] = False,
    igtl: Annotated[int | None, typer.Option(metavar="PORT", help="Send the poses by OpenIGTLink (18944).")] = None,
    igtl_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="… on this address; other machines reach 0.0.0.0.")
    ] = "127.0.0.1",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop a live source after so long.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line a body a frame on stdout.")] = False,
) -> None:
    """Say where each marker body is in each picture, with its covariance, or why it is lost. Ctrl-C ends it."""
    if smooth and (rig is not None or sources[0].startswith("igtl://")):
        raise Misuse("--smooth is for the pictures of one camera")
    if rig is not None:
        if camera or dictionary or overlay or igtl is not None or seconds is not None or not bodies:
            raise Misuse("a rig brings its cameras' files; give SOURCE… --rig FILE --bodies FILE with --out, --json")
        from commands.track_rig import track_together
        from tracking.bodies.body import load

        with _writer(out) as sink:
            track_together(sources, rig, [load(path) for path in bodies], sink, as_json, every)
        return
    if len(sources) > 1:
        raise Misuse(f"{len(sources)} sources; several cameras need --rig FILE, written by `calibrate stereo`")
    source = sources[0]
    if source.startswith("igtl://"):
        if camera or bodies or dictionary or overlay or igtl is not None:
            raise Misuse(
                "a tracker on the wire knows its own bodies; give igtl://HOST:PORT with --out, --json, --seconds"
            )
        with _writer(out) as sink:
            follow(source, seconds, _Output(as_json, sink, None).put)
        return
    own = source.startswith("synthetic:") and not bodies and dictionary is None  # it shows what it stands for
    if bool(bodies) == (dictionary is not None) and not own:
        raise Misuse("give either --bodies FILE (repeated for several) or --dictionary NAME with --size-mm S")
    if dictionary is not None and (size_mm is None) == (diamond_mm is None):
        raise Misuse("--dictionary needs --size-mm, the edge of the markers' black square, or else --diamond-mm")
    for name, mm in (("--size-mm", size_mm), ("--diamond-mm", diamond_mm)):
        if mm is not None and not (math.isfinite(mm) and mm > 0):
            raise Misuse(f"{name} is {mm:g}; an edge is longer than 0 mm")

    from tracking.bodies.body import load
    from tracking.detection.codes import code_book
    from tracking.diamonds import DiamondTracker
    from tracking.history.history import Limits
    from tracking.sources.live import LiveSource
    from tracking.sources.source import notes, open_source
    from tracking.tracker import Tracker

    loaded = [load(path) for path in bodies or ()]
    if dictionary is not None:
        code_book(dictionary)
    with open_source(source) as pictures:
        say(*notes(pictures))
        known = lens(pictures, camera)
        if own:
            loaded = list(getattr(getattr(pictures, "source", pictures), "bodies", ()))
        live = isinstance(pictures, LiveSource)
        tracker: Tracker | DiamondTracker
        if dictionary is not None and diamond_mm is not None:
            tracker = DiamondTracker(known, dictionary, diamond_mm)
        elif dictionary is not None and size_mm is not None:
            tracker = Tracker.of_singles(known, dictionary, size_mm, live=live)
        else:
            tracker = Tracker(known, loaded, live=live)
        names = [body.name for body in loaded]
        with tracker, _writer(out) as sink, sending(igtl, igtl_host, names, paced=not live) as send:
            output = _Output(as_json, sink, _folder(overlay), send, Limits().lag if smooth else 0)
            _follow(pictures, tracker, output, every, dictionary, seconds)


@dataclass(frozen=True)
class _Output:
    as_json: bool
    sink: TextIO | None
    overlay: Path | None
    send: Send = nothing
    behind: int = 0
    waiting: dict[str, deque[tuple[int | None, Sighting[Any], PoseHistory[Any]]]] = field(default_factory=dict)

    def put_later(self, index: int | None, sighting: Sighting[Any], history: PoseHistory[Any]) -> None:
        """With the pose that the history gives once it has seen `behind` pictures more."""
        queue = self.waiting.setdefault(sighting.body, deque())
        queue.append((index, sighting, history))
        if len(queue) > self.behind:
            self._put_first(queue)

    def flush(self) -> None:
        """What still waits, in the order of its instants."""
        while queues := [queue for queue in self.waiting.values() if queue]:
            self._put_first(min(queues, key=lambda queue: queue[0][1].t_ns))

    def _put_first(self, queue: deque[tuple[int | None, Sighting[Any], PoseHistory[Any]]]) -> None:
        index, sighting, history = queue.popleft()
        self.put(index, sighting, history.at(sighting.t_ns))

    def put(self, index: int | None, sighting: Sighting[Any], timed: TimedPose[Any]) -> None:
        if self.as_json or self.sink is not None:
            value = line(index, sighting, timed)
            if self.sink is not None:
                self.sink.write(json.dumps(value, allow_nan=False) + "\n")
            if self.as_json:
                emit(value)
        if not self.as_json:
            tell(words(index, sighting))


def _follow(
    pictures: FrameSource,
    tracker: Tracker | DiamondTracker,
    output: _Output,
    every: int,
    dictionary: str | None,
    seconds: float | None,
) -> None:
    """Every picture to the end, to the limit or to Ctrl-C; then the summary."""
    from tracking.sources.source import losses
    from tracking.sources.watch import watch

    summary = Summary()
    puzzles = _Puzzles(tracker)
    try:
        for event in until(watch(pictures), seconds):
            _one(event, tracker, output, every, summary, puzzles, pictures)
        output.flush()
    except KeyboardInterrupt:
        output.flush()
        say(*losses(pictures), *summary.lines())
        raise
    if not summary.markers:
        raise _nothing(summary.pictures, puzzles, pictures.name, getattr(tracker, "markers_seen", 0))
    if dictionary is not None:
        names = [body.name.split(":", 1) for body in tracker.bodies]
        ids = ", ".join(name for _, name in names)
        say(f"{len(names)} {names[0][0]}s of {dictionary} in {summary.pictures} pictures: {ids}")
    doubt = getattr(tracker, "lens_doubt", None)
    say(*([doubt.words] if doubt else ()))
    say(*losses(pictures), *summary.lines(), *([f"where little was found: {puzzles.advice}"] if puzzles.advice else []))


def _one(
    event: Frame | Stopped,
    tracker: Tracker | DiamondTracker,
    output: _Output,
    every: int,
    summary: Summary,
    puzzles: _Puzzles,
    pictures: FrameSource,
) -> None:
    from tracking.frame import Stopped
    from tracking.sources.folder import FolderSource
    from tracking.sources.video_file import VideoSource

    if isinstance(event, Stopped):
        lost = tracker.stopped(event)
        output.send(lost)
        if not summary.stopped:  # said once, not four times a second
            summary.stops += 1
            for sighting in lost:
                output.put_later(None, sighting, tracker.histories[sighting.body])
        summary.stopped = True
        return
    summary.stopped = False
    if event.index % every:
        return
    again = event.repeated and isinstance(pictures, FolderSource | VideoSource)
    sightings = tracker.see(replace(event, repeated=False) if again else event)
    output.send(sightings)
    summary.pictures += 1
    found = sum(len(sighting.corners_px) for sighting in sightings)
    puzzles.ask(event, found)
    for sighting in sightings:
        if not found and sighting.cause == "too few markers" and puzzles.advice:
            sighting = replace(sighting, reason=f"{sighting.reason}; {puzzles.advice}")
        if again and sighting.reason is None:  # a recording of a scene at rest, or of a camera that froze
            sighting = replace(sighting, reason="the picture is the one before again")
        summary.add(sighting)
        output.put_later(event.index, sighting, tracker.histories[sighting.body])
    if output.overlay is not None:
        from tracking.drawn import drawn, write_picture

        picture = drawn(event.picture, sightings, tracker.bodies, tracker.pinhole)
        write_picture(output.overlay / f"{event.index:06d}.png", picture)


class _Puzzles:
    """Pictures in which nothing, or a stray marker or two, was found: what would explain them better?"""

    def __init__(self, tracker: Tracker | DiamondTracker) -> None:
        self.asked = dict(tracker.wanted)
        self.words: Counter[str] = Counter()
        self.pictures = 0

    def ask(self, frame: Frame, found: int) -> None:
        if found > FEW or self.pictures >= ASKED_ABOUT or frame.repeated:
            return
        from tracking.detection.hints import explain
        from tracking.detection.markers import grey

        self.pictures += 1
        hint = explain(grey(frame.picture), self.asked)
        if hint is not None and len(hint.markers) > found and (hint.mirrored or hint.dictionary not in self.asked):
            self.words[hint.words] += 1

    @property
    def advice(self) -> str | None:
        return self.words.most_common(1)[0][0] if self.words else None


def _folder(path: Path | None) -> Path | None:
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _writer(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as sink:
        yield sink


def _nothing(pictures: int, puzzles: _Puzzles, name: str, strays: int) -> NoMarkers:
    if strays:
        return NoMarkers(
            f"{strays} markers in {pictures} pictures, and no four of them make a diamond; are they single markers "
            "(--size-mm), or is a corner of the middle square covered?",
            path=name,
        )
    asked = ", ".join(
        name if ids is None else f"{name} (ids {', '.join(map(str, sorted(ids)))})"
        for name, ids in puzzles.asked.items()
    )
    advice = puzzles.advice or "is it another dictionary, or are the markers smaller than 20 px?"
    return NoMarkers(f"none of the {pictures} pictures shows a marker of {asked}; {advice}", path=name)
