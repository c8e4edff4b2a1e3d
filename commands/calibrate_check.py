"""`osteotwin calibrate check`: is a camera still the one that its file describes?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.calibrate_camera import body_of, gather, volume_of
from commands.console import command, emit, say, tell
from spatial.faults import Misuse


@command
def check(
    camera: Annotated[Path, typer.Argument(help="Camera file to check.")],
    source: Annotated[str, typer.Argument(help="Pictures of the board, be it one: folder, video, camera:N.")],
    board: Annotated[str | None, typer.Option(help="The board; the camera file's own if not.")] = None,
    body: Annotated[
        Path | None, typer.Option(help="Body whose pose errors count; a board of four tags if not.")
    ] = None,
    volume_mm: Annotated[str, typer.Option(help="Distances of the working volume, as 400-800.")] = "400-800",
    limit_mm: Annotated[float, typer.Option(help="What the pose error of a change may be there.")] = 0.3,
    most: Annotated[int, typer.Option(min=1, help="At most so many pictures of a video or a camera.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare pictures of a board with a camera file: has the focus, the zoom or the lens moved?"""
    from tracking.calibration.board import Board
    from tracking.calibration.camera_file import load_calibrated
    from tracking.calibration.camera_job import TooFewPictures, sift
    from tracking.calibration.recheck import recheck

    if not limit_mm > 0:
        raise Misuse(f"--limit-mm {limit_mm:g}: it must be above zero")
    known = load_calibrated(camera)
    if board is None and not known.board:
        raise Misuse("--board is needed: the camera file does not say with which board it was made", path=camera)
    plate, volume, corners_mm = Board.parse(board or known.board), volume_of(volume_mm), body_of(body)
    gathered = gather(source, plate, most)
    views, aside = sift(gathered.found)
    if not views:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(aside.items())[:3])
        raise TooFewPictures(f"none of {gathered.looked_at} pictures shows the board usably ({why})")
    found = recheck(known, views, plate, corners_mm, volume=volume, limit_mm=limit_mm)
    if as_json:
        report: dict[str, Any] = {
            "camera": str(camera),
            "status": found.status,
            "reason": found.reason,
            "focal_change": found.change.focal,
            "focal_sd": found.change.focal_sd,
            "centre_change_px": list(found.change.centre_px),
            "centre_sd_px": list(found.change.centre_sd_px),
            "chi2": found.change.chi2,
            "error_mm": found.error_mm,
            "unsure_mm": found.unsure_mm,
            "limit_mm": limit_mm,
            "rms_px": found.rms_px,
            "file_rms_px": found.file_rms_px,
            "pictures": [view.name for view in views],
            "aside": aside,
        }
        if found.status == "DRIFTED":
            report["error"] = {"kind": "Drifted", "message": found.reason}
        emit(report)
    else:
        tell(f"{found.status}: {found.reason}", f"{len(views)} pictures, residual {found.rms_px:.3f} px with this file")
    if found.status == "DRIFTED":
        say(f"Drifted: {found.reason}")
        raise typer.Exit(1)
