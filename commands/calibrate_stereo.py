"""`osteotwin calibrate stereo`: where the cameras of a rig stand, from pictures of one board."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from commands.place import prepare
from commands.reading import reading
from commands.track_wire import until
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.pinhole import Pinhole
    from tracking.calibration.board import Board
    from tracking.calibration.board_view import BoardView
    from tracking.calibration.stereo import RigCalibration


@command
def stereo(
    sources: Annotated[list[str], typer.Argument(help="A folder, video or live camera each, as --cameras are.")],
    cameras: Annotated[list[Path], typer.Option(help="Camera file; repeat, one a source.")],
    board: Annotated[str, typer.Option(help="charuco:7x5,30,22,DICT_5X5_100 or chessboard:9x6,25 (mm).")],
    out: Annotated[Path, typer.Option(help="Rig file to write (JSON).")],
    name: Annotated[list[str] | None, typer.Option(help="The cameras' names; their files' if not.")] = None,
    limit_mm: Annotated[float, typer.Option(help="What the predicted error between cameras (95 %) may be.")] = 0.3,
    working_mm: Annotated[float, typer.Option(help="… at this distance.")] = 600.0,
    sync_ms: Annotated[float, typer.Option(help="How late a camera may be behind the first.")] = 2.0,
    seconds: Annotated[float, typer.Option(min=1, help="Look so long at live cameras.")] = 60.0,
    most: Annotated[int, typer.Option(min=6, help="… and take at most so many instants.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure where two or more cameras stand; refused when they are not synchronous, or too uncertain."""
    if len(sources) < 2 or len(sources) != len(cameras):
        raise Misuse(f"{len(sources)} sources and {len(cameras)} camera files; two or more, as many of each")
    if name is not None and len(name) != len(cameras):
        raise Misuse(f"{len(name)} names for {len(cameras)} cameras")
    if not (limit_mm > 0 and working_mm > 0 and sync_ms > 0):
        raise Misuse("--limit-mm, --working-mm and --sync-ms must be above zero")
    names = name or _names(cameras)
    if len(set(names)) < len(names):
        raise Misuse(f"two cameras are named alike: {', '.join(names)}; --name gives others")

    from tracking.calibration.board import Board
    from tracking.calibration.camera_file import load_calibrated
    from tracking.calibration.pairing import pair_up
    from tracking.calibration.rig_file import save_rig
    from tracking.calibration.stereo import calibrate_rig
    from tracking.sources.source import is_live

    plate = Board.parse(board)
    prepare(out)
    lenses = [load_calibrated(path) for path in cameras]
    if any(map(is_live, sources)):
        shots = _live(sources, plate, [lens.pinhole for lens in lenses], seconds, most)
    else:
        views = [_views(source, plate, lens.pinhole) for source, lens in zip(sources, lenses, strict=True)]
        shots = pair_up(views, by_name=all(Path(source).is_dir() for source in sources))
    done = calibrate_rig(shots, lenses, plate, limit_mm=limit_mm, sync_ms=sync_ms, working_mm=working_mm)
    say(*done.doubts)
    evidence = _evidence(done, plate, limit_mm, working_mm)
    value = save_rig(out, names, list(cameras), done.rig_from_camera, evidence)
    if as_json:
        emit({"rig": str(out), **value})
    else:
        tell(*_words(done, names, working_mm), f"{out}: written")


def _names(cameras: list[Path]) -> list[str]:
    """The files' names; the folders' where the files are all called alike."""
    stems = [path.stem for path in cameras]
    return stems if len(set(stems)) == len(stems) else [path.resolve().parent.name for path in cameras]


def _live(
    sources: list[str], board: Board, lenses: list[Pinhole], seconds: float, most: int
) -> list[dict[int, BoardView]]:
    """Instants from live cameras, told in words what to do. Raises WrongResolution, CameraSilent."""
    from tracking.calibration.collect import collect_rig
    from tracking.calibration.pairing import NEAR_NS
    from tracking.sources.source import is_live, notes, open_source
    from tracking.sources.together import together

    if not all(map(is_live, sources)):
        raise Misuse("live cameras and recordings can't be put together; give one kind")
    say(f"looking for {seconds:g} s: move the board about where the pictures overlap, and hold it still each time")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(source)) for source in sources]
        say(*(note for pictures in opened for note in notes(pictures)))
        instants = until(together(opened, NEAR_NS), seconds)
        return collect_rig(instants, board, lenses, most=most, told=say)


def _views(source: str, board: Board, pinhole: Any) -> list[BoardView]:
    """All views of the board in one camera's pictures. Raises WrongResolution, TooFewPictures."""
    from tracking.calibration.board_view import BoardView, find_board
    from tracking.calibration.camera_file import require_resolution
    from tracking.calibration.camera_job import TooFewPictures

    if not Path(source).exists():
        raise Misuse(f"{source}: no such folder or video; live cameras are camera:0, camera:1")
    found: list[BoardView] = []
    reason, count = "", 0
    with reading(source) as opened, progress_bar(f"Pictures of {Path(source).name}") as progress:
        files = getattr(opened, "files", None)
        for frame in opened:
            require_resolution(frame.picture, pinhole)
            title = files[frame.index].name if files else f"picture {frame.index}"
            progress("looking for the board", frame.index / len(files) if files else 0.0)
            view = find_board(frame.picture, board, name=title, t_ns=frame.t_ns, pinhole=pinhole)
            count += 1
            if isinstance(view, BoardView):
                found.append(view)
            else:
                reason = f"{view.name}: {view.reason}"
    if not found:
        raise TooFewPictures(f"none of {count} pictures shows the board usably ({reason})", path=source)
    return found


def _evidence(done: RigCalibration, board: Board, limit_mm: float, working_mm: float) -> dict[str, Any]:
    return {
        "kind": "rig",
        "board": str(board),
        "shots": done.shots,
        "shots_of_camera": list(done.common),
        "rms_px": list(done.rms_px),
        "excess_px": done.excess_px,
        "held_out_px": done.held_out_px,
        "epipolar_px": done.epipolar_px,
        "late_ms": list(done.late_ms),
        "late_sd_ms": [sd if math.isfinite(sd) else None for sd in done.late_sd_ms],
        "predicted_mm": done.predicted_mm,
        "doubts": list(done.doubts),
        "limit_mm": limit_mm,
        "working_mm": working_mm,
    }


def _words(done: RigCalibration, names: list[str], working_mm: float) -> list[str]:
    lines = [f"{done.shots} instants; residual on instants that were left out {done.held_out_px:.2f} px, corners lie "
             f"{done.epipolar_px:.2f} px off each other's epipolar lines"]  # fmt: skip
    for k, place in enumerate(done.rig_from_camera):
        x, y, z = place.pose.translation_mm
        if k == 0:
            lines.append(f"{names[0]}: the rig's frame; residual {done.rms_px[0]:.2f} px")
            continue
        sd = (place.covariance.diagonal()[3:].sum()) ** 0.5
        late = (
            f"{done.late_ms[k]:+.2f} ms (sd {done.late_sd_ms[k]:.2f}) behind the first"
            if math.isfinite(done.late_sd_ms[k])
            else "lateness not tested: the board stood still or jumped"
        )
        lines.append(
            f"{names[k]}: at ({x:.2f}, {y:.2f}, {z:.2f}) mm (sd {sd:.2f}), turned by "
            f"{math.degrees(place.pose.angle_rad):.2f} degrees; residual {done.rms_px[k]:.2f} px; {late}"
        )
    lines.append(f"predicted error between the cameras at {working_mm:g} mm: {done.predicted_mm:.2f} mm (95 %)")
    return lines
