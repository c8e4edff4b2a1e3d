"""`osteotwin calibrate readout`: how long a camera's shutter takes from the first row to the last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import command, emit, progress_bar, tell
from commands.place import prepare
from commands.reading import reading
from spatial.faults import Misuse

if TYPE_CHECKING:
    from tracking.calibration.board import Board
    from tracking.calibration.board_view import BoardView
    from tracking.calibration.camera_file import Calibrated


@command
def readout(
    camera: Annotated[Path, typer.Argument(help="The camera's file.")],
    source: Annotated[str, typer.Argument(help="Video of the board moved before the camera, or camera:N.")],
    board: Annotated[str | None, typer.Option(help="The board; the camera file's own if not.")] = None,
    out: Annotated[Path | None, typer.Option(help="Camera file to write, with the readout time in it.")] = None,
    seconds: Annotated[float, typer.Option(help="Look at so much of the video.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure the readout time of a rolling shutter from a board that is moved; refused when it hardly moved."""
    if not seconds > 0:
        raise Misuse(f"--seconds {seconds:g}: it must be above zero")

    from tracking.calibration.board import Board
    from tracking.calibration.camera_file import load_calibrated, save_camera
    from tracking.calibration.readout import measure_readout

    known = load_calibrated(camera)
    if board is None and not known.board:
        raise Misuse("--board is needed: the camera file does not say with which board it was made", path=camera)
    plate = Board.parse(board or known.board)
    prepare(out)
    found = measure_readout(known, _views(source, plate, known, seconds), plate)
    if out is not None:
        save_camera(out, replace(known, readout_ns=found.readout_ns))
    if as_json:
        emit(
            {
                "camera": str(out or camera),
                "written": out is not None,
                "rolling": found.rolling,
                "readout_ns": found.readout_ns,
                "seconds": found.seconds,
                "sd_s": found.sd,
                "pictures": found.pictures,
                "speed_px_s": found.speed_px_s,
                "rms_px": found.rms_px,
                "corrected_px": found.corrected_px,
            }
        )
        return
    kind = "rolling shutter" if found.rolling else "no sign of a rolling shutter"
    tell(
        f"{kind}: {1e3 * found.seconds:.2f} ms from the first row to the last (sd {1e3 * found.sd:.2f} ms), "
        f"{found.pictures} pictures at {found.speed_px_s:.0f} px a second",
        f"residual {found.rms_px:.3f} px without it, {found.corrected_px:.3f} px with it",
        *([f"{out}: written"] if out is not None else []),
    )


def _views(source: str, board: Board, known: Calibrated, seconds: float) -> list[BoardView]:
    from tracking.calibration.board_view import BoardView, find_board
    from tracking.calibration.camera_file import require_resolution

    found: list[BoardView] = []
    first_ns: int | None = None
    with reading(source) as opened, progress_bar("Pictures") as progress:
        for frame in opened:
            require_resolution(frame.picture, known.pinhole)
            first_ns = frame.t_ns if first_ns is None else first_ns
            share = (frame.t_ns - first_ns) / (seconds * 1e9)
            if share > 1:
                break
            progress("looking for the board", share)
            if frame.repeated:
                continue
            view = find_board(
                frame.picture, board, name=f"picture {frame.index}", t_ns=frame.t_ns, pinhole=known.pinhole
            )
            if isinstance(view, BoardView):
                found.append(view)
    return found
