"""`osteotwin guide`: lay the twin and the plan over the live picture, with the error of every moment."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from commands.guide_wire import beside, by_tracker, shown_to
from commands.lens import lens
from commands.reading import reading
from spatial.faults import Fault, Misuse

if TYPE_CHECKING:
    from guidance.diary import Diary
    from guidance.loop import Guided
    from guidance.permission import Permission
    from guidance.session import State
    from guidance.stages import Stages
    from spatial.pinhole import Pinhole
    from tracking.calibration.camera_file import Calibrated
    from tracking.frame import FrameSource
    from twin.anatomy.twin import Twin
    from twin.case import Case

app = typer.Typer(add_completion=False)


class ReferenceNeverSeen(Fault):
    """Not one picture shows the body that is fixed to the patient, so there was nothing to guide by."""


def prepare(
    case: Case, registration_file: Path, bodies: list[Path], reference: str, instrument: str | None, plan: str | None,
    screw: str | None, limit_mm: float,
) -> State:  # fmt: skip
    """The session's first state from the files that the user named."""
    from guidance.registration import load_registration
    from guidance.session import Limits, NotGuidable, State, middle_of
    from tracking.bodies.body import Body
    from tracking.bodies.body import load as load_body
    from twin.plan.plan import Plan

    registration = load_registration(registration_file)
    if registration.twin_id != case.twin.twin_id:
        raise NotGuidable("the registration belongs to another twin; register this case again", path=registration_file)
    known: dict[str, Body[Any]] = {body.name: body for body in map(load_body, bodies)}
    for name in (reference, instrument):
        if name is not None and name not in known:
            raise NotGuidable(f"no body {name!r} in the --bodies files; they have {', '.join(known) or 'none'}")
    names = case.plan_names
    chosen = plan or (names[0] if len(names) == 1 else None)
    if chosen is None and (screw is not None or len(names) > 1):
        raise NotGuidable(f"which plan? --plan is one of {', '.join(names) or '(this case has none)'}")
    screws = Plan.from_json(case.load_plan(chosen)).screws if chosen else {}
    return State(
        registration=registration,
        reference=known[reference],
        screws=screws,
        focus=middle_of(case.twin),
        limits=Limits(tre95_mm=limit_mm),
        instrument=known[instrument] if instrument else None,
        screw=screw,
    )


class Session:
    """Guided frames on their way to the screen, the folder and stdout; keeps the case's journal and the tally."""

    def __init__(
        self, case: Case, about: dict[str, Any], reference: str, allowed: Permission, warnings: Sequence[str]
    ) -> None:
        """Nothing is written or said until the first frame."""
        from guidance.diary import Diary

        self.case, self.about, self.reference, self.allowed = case, about, reference, allowed
        self.warnings = warnings
        self.diary: Diary = Diary()

    def follow(self, frames: Iterator[Guided]) -> Generator[Guided]:
        """Pass the frames on; the journal gets the start, changes of trust, and the end with its cause.

        Raises ReferenceNeverSeen at the end of a source that never showed the reference.
        """
        started = time.monotonic()
        cause = "source ended"
        try:
            for guided in frames:
                if not self.diary.shown:
                    say(*self.warnings)
                    if self.allowed.override is not None:
                        self.case.journal.append(self.allowed.by, "guidance_override", self.allowed.override)
                    self.case.journal.append("guide", "guidance_started", self.about)
                self.diary, entry = self.diary.after(guided)
                if entry:
                    self.case.journal.append("guide", "guidance_trust", entry)
                yield guided
            if not self.diary.reference_seen:
                cause = "reference never seen"
                raise ReferenceNeverSeen(
                    f"body {self.reference!r} was not seen in any of {self.diary.shown} pictures; is it another body's "
                    "file, another dictionary, or was it out of sight?"
                )
        except GeneratorExit:
            cause = "closed"
            raise
        except BaseException as error:
            cause = cause if isinstance(error, ReferenceNeverSeen) else type(error).__name__
            raise
        finally:
            if self.diary.shown:
                self.case.journal.append(
                    "guide",
                    "guidance_stopped",
                    {
                        "cause": cause,
                        "frames": dict(self.diary.frames),
                        "changes": self.diary.changes,
                        "reference_seen": self.diary.reference_seen,
                        "seconds": round(time.monotonic() - started, 3),
                    },
                )


@contextmanager
def opened(source: str, camera: Path | None) -> Iterator[tuple[FrameSource, Calibrated]]:
    """The source and its lens."""
    with reading(source) as frames:
        yield frames, lens(frames, camera)


@contextmanager
def _by_pictures(
    source: str, camera: Path | None, state: State, twin: Twin, draw: bool, stages: Stages, is_live: bool,
    reference_from: str | None, hand_eye: Path | None,
) -> Iterator[tuple[Generator[Guided], Pinhole]]:  # fmt: skip
    """Guidance over pictures, and the lens that they were taken through."""
    from guidance.loop import guide as run

    clock = time.monotonic_ns if is_live else None
    with (
        beside(reference_from, hand_eye, state) as also,
        opened(source, camera) as (pictures, known),
        closing(run(pictures, known, state, twin, draw=draw, stages=stages, clock=clock, also=also)) as guided,
    ):
        yield guided, known.pinhole


def _source_words(source: str) -> str:
    """Of what kind the source is, for the journal; a file's or a machine's name may tell of a patient."""
    if source.startswith("camera:"):
        return source
    kind = source.partition(":")[0]
    known = {"synthetic": "synthetic", "igtl": "tracker"}
    return known.get(kind, "stream" if "://" in source else "file")


@app.command()
@command
def guide(
    case_folder: Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")],
    source: Annotated[str, typer.Option("--source", help="Video, folder, camera:N, synthetic:SPEC, igtl://….")],
    bodies: Annotated[list[Path], typer.Option("--bodies", help="Marker body file; repeat for several.")],
    registration: Annotated[Path, typer.Option("--registration", help="Written by `osteotwin register`.")],
    reference: Annotated[str, typer.Option("--reference", help="Name of the body fixed to the patient.")],
    camera: Annotated[
        Path | None, typer.Option("--camera", help="OpenCV's YAML of this camera at this resolution.")
    ] = None,
    instrument: Annotated[str | None, typer.Option("--instrument", help="Name of the tracked tool's body.")] = None,
    plan: Annotated[str | None, typer.Option("--plan", help="The plan to show; needed when there are several.")] = None,
    screw: Annotated[str | None, typer.Option("--screw", help="The screw to guide to.")] = None,
    limit_mm: Annotated[float, typer.Option(min=0.1, help="Largest predicted error (95 %) that reads GUIDING.")] = 2.0,
    offscreen: Annotated[Path | None, typer.Option("--offscreen", help="Write pictures and an MP4 there.")] = None,
    window: Annotated[bool, typer.Option("--window", help="Show the overlay in a window.")] = False,
    override: Annotated[
        str | None, typer.Option("--override", metavar="REASON", help="Guide on a scan that is judged unfit for it.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who answers for the override.")] = None,
    reference_from: Annotated[
        str | None,
        typer.Option(
            metavar="igtl://…", help="A tracker that sees the bodies too, beside the camera; with --hand-eye."
        ),
    ] = None,
    hand_eye: Annotated[
        Path | None, typer.Option("--hand-eye", help="Where the camera is for that tracker: calibrate hand-eye's file.")
    ] = None,
    igtl: Annotated[int | None, typer.Option(metavar="PORT", help="Show it to 3D Slicer by OpenIGTLink.")] = None,
    igtl_host: Annotated[str, typer.Option(metavar="ADDRESS", help="… on this address.")] = "127.0.0.1",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop a tracker after so long.")] = None,
    poses: Annotated[Path | None, typer.Option(help="Write raw and filtered poses there, as JSON lines.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line a frame on stdout.")] = False,
) -> None:
    """Guide over a camera, a video or a folder: where the twin stands, how the tool deviates, how far off it may be."""
    if window and offscreen:
        raise Misuse("choose --window or --offscreen")
    by_wire = source.startswith("igtl://")
    if by_wire and (window or offscreen or camera):
        raise Misuse("a tracker gives no picture: guide by igtl://… without --camera, --window, --offscreen")
    from guidance.permission import permission
    from guidance.stages import Stages
    from tracking.sources.source import is_live as goes_on
    from twin.case import Case
    from twin.plan.approval import standing

    case = Case.open(case_folder)
    allowed = permission(case.twin, override, by, date.today())
    state = prepare(case, registration, bodies, reference, instrument, plan, screw, limit_mm)
    is_live = by_wire or goes_on(source)
    if (reference_from is None) != (hand_eye is None) or (reference_from and (by_wire or not is_live)):
        raise Misuse("--reference-from and --hand-eye go together, and with a live camera (--source camera:N or a URL)")
    chosen = plan or (case.plan_names[0] if len(case.plan_names) == 1 else None)
    status = None if chosen is None else standing(case.journal.entries(), chosen)
    warnings = list(allowed.words)
    if status is not None and status.state != "approved":
        warnings.append(f"WARNING: plan {chosen!r} is not approved: {status.words} (osteotwin plan approve)")
    about = {
        "source": _source_words(source),
        "registration_sha256": hashlib.sha256(registration.read_bytes()).hexdigest(),
        "reference": reference,
        "instrument": instrument,
        "plan": chosen,
        "plan_status": None if status is None else status.state,
        "screw": screw,
        "limit_mm": limit_mm,
    }
    session, stages = Session(case, about, reference, allowed, warnings), Stages()
    with (
        case.journal,
        by_tracker(source, state, stages, seconds)
        if by_wire
        else _by_pictures(
            source, camera, state, case.twin, bool(offscreen), stages, is_live, reference_from, hand_eye
        ) as (guided, pinhole),
        shown_to(igtl, igtl_host, state, case.twin, "Tracker" if by_wire else "Camera") as show_on,
        closing(session.follow(show_on(guided))) as followed,
        closing(_with_poses(followed, poses)) as frames,
    ):
        if window and pinhole is not None:
            from guidance.window import show

            show(frames, pinhole, case.twin, emit if as_json else None, stages=stages)
        elif offscreen is not None:
            _record(frames, offscreen, is_live, as_json)
        else:
            for one in frames:
                _put(one, as_json)
    _sum_up(session.diary, stages.summary(), as_json)


def _with_poses(frames: Generator[Guided], file: Path | None) -> Generator[Guided]:
    """Pass the frames on; their poses go to the file, a line a body a picture."""
    import json

    from guidance.poses import pose_lines

    if file is None:
        yield from frames
        return
    if file.exists():
        raise Misuse("there is a file already; name another for the poses", path=file)
    try:
        lines = file.open("w", encoding="utf-8")
    except OSError as error:
        raise Misuse(f"the poses can't be written: {error.strerror}", path=file) from None
    with lines:
        for one in frames:
            lines.writelines(json.dumps(line, allow_nan=False) + "\n" for line in pose_lines(one))
            yield one


def _record(frames: Iterator[Guided], folder: Path, is_live: bool, as_json: bool) -> None:
    """Into the folder; what a camera gave is kept when it breaks off, a file can be run again."""
    from guidance.record import Recorder

    recorder = Recorder(folder)
    try:
        with progress_bar("Guiding") as progress:
            for guided in frames:
                recorder.add(guided)
                progress(f"frame {guided.frame.index}: {guided.readout.trust}", 0.0)
                if as_json:
                    emit(guided.to_json())
            progress("writing the video", 1.0)
    except BaseException:
        if is_live and recorder.count:
            say(f"{recorder.finish()} frames in {folder}")
        raise
    else:
        say(f"{recorder.finish()} frames in {folder}")
    finally:
        recorder.abort()


def _put(guided: Guided, as_json: bool) -> None:
    if as_json:
        emit(guided.to_json())
        return
    readout = guided.readout
    words = f"{guided.frame.index:5d}  {readout.trust:8s} {readout.how:12s}"
    if readout.tre95_mm is not None:
        words += f" within {readout.tre95_mm:.2f} mm (95 %) at {readout.target}"
    for name, off in readout.deviation.items():
        words += f"  {name}: entry {off.entry_mm:.1f} tip {off.tip_mm:.1f} depth {off.depth_mm:+.1f} mm"
    tell(words + (f"  {readout.reason}" if readout.reason else ""))


def _sum_up(diary: Diary, stages: dict[str, dict[str, float]], as_json: bool) -> None:
    write = say if as_json else tell
    write(*(f"{trust}: {count} of {diary.shown} frames" for trust, count in diary.frames.items()))
    say("; ".join(f"{name} {s['p50_ms']:.1f} ms (99 %: {s['p99_ms']:.1f})" for name, s in stages.items()))
