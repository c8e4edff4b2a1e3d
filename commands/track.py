"""`osteotwin track`: the pose of every marker body in every picture of a video, a folder, a camera."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, say
from commands.lens import lens
from commands.place import prepare, prepare_folder
from commands.track_lines import NoMarkers, Output, Summary, folder, with_reason, writer
from commands.track_order import Order
from commands.track_wire import follow, sending, until
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.diamonds import DiamondTracker
    from tracking.frame import Frame, FrameSource, Stopped
    from tracking.tracker import Tracker

app = typer.Typer(add_completion=False)
ASKED_ABOUT, FEW = 3, 2  # so many pictures with so few markers are asked what else they show


@app.command()
@command
def track(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video, folder, camera:N, a URL, igtl://HOST:PORT; synthetic:KEY=VALUE,… renders one, and "
            "faults=drop@10-12+… makes it fail (docs/TRACKING.md has the keys).",
        ),
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
    sync_ms: Annotated[
        float, typer.Option(help="How far apart the pictures of a rig's cameras may be; motion makes up for it.")
    ] = 8.0,
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
    prepare(out)
    prepare_folder(overlay, "--overlay")
    if smooth and (rig is not None or sources[0].startswith("igtl://")):
        raise Misuse("--smooth is for the pictures of one camera")
    if rig is not None:
        if camera or dictionary or not bodies:
            raise Misuse("a rig brings its cameras' files; give SOURCE… --rig FILE --bodies FILE")
        if not sync_ms > 0:
            raise Misuse(f"--sync-ms {sync_ms:g}: it must be above zero")
        from commands.track_rig import track_together
        from tracking.bodies.body import load
        from tracking.sources.source import is_live

        loaded = [load(path) for path in bodies]
        paced = not any(map(is_live, sources))
        with writer(out) as sink, sending(igtl, igtl_host, [body.name for body in loaded], paced=paced) as send:
            output = Output(as_json, sink, folder(overlay), send)
            track_together(sources, rig, loaded, output, every, seconds, sync_ms)
        return
    if len(sources) > 1:
        raise Misuse(f"{len(sources)} sources; several cameras need --rig FILE, written by `calibrate stereo`")
    source = sources[0]
    if source.startswith("igtl://"):
        if camera or bodies or dictionary or overlay or igtl is not None:
            raise Misuse(
                "a tracker on the wire knows its own bodies; give igtl://HOST:PORT with --out, --json, --seconds"
            )
        with writer(out) as sink:
            follow(source, seconds, Output(as_json, sink, None).put)
        return
    own = source.startswith("synthetic:") and not bodies and dictionary is None  # it shows what it stands for
    if bool(bodies) == (dictionary is not None) and not own:
        raise Misuse("give either --bodies FILE (repeated for several) or --dictionary NAME with --size-mm S")
    if dictionary is not None and size_mm is not None and diamond_mm is not None:
        raise Misuse("--size-mm is for single markers, --diamond-mm for diamonds of them; give one, not both")
    if dictionary is not None and size_mm is None and diamond_mm is None:
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
        with tracker, writer(out) as sink, sending(igtl, igtl_host, names, paced=not live) as send:
            output = Output(as_json, sink, folder(overlay), send, Limits().lag if smooth else 0)
            _follow(pictures, tracker, output, every, dictionary, seconds)


def _follow(
    pictures: FrameSource,
    tracker: Tracker | DiamondTracker,
    output: Output,
    every: int,
    dictionary: str | None,
    seconds: float | None,
) -> None:
    """Every picture to the end, to the limit or to Ctrl-C; then the summary."""
    from tracking.diamonds import DiamondTracker
    from tracking.sources.folder import FolderSource
    from tracking.sources.source import losses
    from tracking.sources.watch import watch

    summary = Summary(order=Order(numbered=not isinstance(pictures, FolderSource)))  # a folder names what it lacks
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
        say(*losses(pictures))
        raise _nothing(
            summary, puzzles, pictures.name, tracker.markers_seen if isinstance(tracker, DiamondTracker) else 0
        )
    if dictionary is not None:
        names = [body.name.split(":", 1) for body in tracker.bodies]
        ids = ", ".join(name for _, name in names)
        say(f"{len(names)} {names[0][0]}s of {dictionary} in {summary.pictures} pictures: {ids}")
    doubt = None if isinstance(tracker, DiamondTracker) else tracker.lens_doubt
    say(*([doubt.words] if doubt else ()))
    say(*losses(pictures), *summary.lines(), *([f"where little was found: {puzzles.advice}"] if puzzles.advice else []))


def _one(
    event: Frame | Stopped,
    tracker: Tracker | DiamondTracker,
    output: Output,
    every: int,
    summary: Summary,
    puzzles: _Puzzles,
    pictures: FrameSource,
) -> None:
    from tracking.frame import Stopped
    from tracking.sources.folder import FolderSource
    from tracking.sources.live import LiveSource
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
    place = None if isinstance(pictures, LiveSource) else summary.order.see(event)  # that one counts for itself
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
        if again:  # a recording of a scene at rest, or of a camera that froze
            sighting = with_reason(sighting, "the picture is the one before again")
        sighting = with_reason(sighting, place)
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


def _nothing(summary: Summary, puzzles: _Puzzles, name: str, strays: int) -> NoMarkers:
    if strays:
        return NoMarkers(
            f"{strays} markers in {summary.pictures} pictures, and no four of them make a diamond; are they single "
            "markers (--size-mm), or is a corner of the middle square covered?",
            path=name,
        )
    asked = ", ".join(
        name if ids is None else f"{name} (ids {', '.join(map(str, sorted(ids)))})"
        for name, ids in puzzles.asked.items()
    )
    seen = summary.hints.most_common(1)  # what the lines say: dark, washed out, seen twice
    advice = puzzles.advice or (seen[0][0] if seen else "is it another dictionary, or are the markers under 20 px?")
    return NoMarkers(f"none of the {summary.pictures} pictures shows a marker of {asked}; {advice}", path=name)
