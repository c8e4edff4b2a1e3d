"""`osteotwin calibrate camera`: a lens from pictures of a board, accepted by the pose errors that it foretells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from commands.place import prepare, prepare_folder
from commands.reading import reading
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.rigid import Array
    from tracking.calibration.board import Board
    from tracking.calibration.camera_job import CameraCalibration
    from tracking.calibration.collect import Collected
    from tracking.calibration.predicted import Volume
    from tracking.sources.live import LiveSource

SHAPES = ("auto", "flat", "free")


@command
def camera(
    source: Annotated[str, typer.Argument(help="Folder of pictures, video file, camera:N.")],
    board: Annotated[str, typer.Option(help="charuco:7x5,30,22,DICT_5X5_100 or chessboard:9x6,25 (mm).")],
    out: Annotated[Path, typer.Option(help="Camera file to write (OpenCV YAML); only when the result is good.")],
    body: Annotated[
        Path | None, typer.Option(help="Body whose pose errors count; a board of four tags if not.")
    ] = None,
    volume_mm: Annotated[str, typer.Option(help="Distances of the working volume, as 400-800.")] = "400-800",
    limit_mm: Annotated[float, typer.Option(help="What the predicted pose error (95 %) may be there.")] = 0.3,
    model: Annotated[str, typer.Option(help="auto, or a lens model: k2, k3, rational, fisheye …")] = "auto",
    board_shape: Annotated[str, typer.Option(help="The board: auto, flat (as printed), free (estimated).")] = "auto",
    pictures: Annotated[Path | None, typer.Option(help="Folder for the maps of coverage and residuals.")] = None,
    most: Annotated[int, typer.Option(min=8, help="At most so many pictures of a video or a camera.")] = 60,
    anyway: Annotated[bool, typer.Option("--anyway", help="Write the file even if refused; it says so.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Calibrate a camera from pictures of a board; refused, with what to photograph next, when it would not do."""
    from tracking.calibration.board import Board
    from tracking.calibration.camera_file import save_camera
    from tracking.calibration.camera_job import calibrate_camera
    from tracking.calibration.lens_model import MODELS

    if model != "auto" and model not in MODELS:
        raise Misuse(f"--model {model}: auto, {', '.join(MODELS)}")
    if board_shape not in SHAPES:
        raise Misuse(f"--board-shape {board_shape}: {', '.join(SHAPES)}")
    if not limit_mm > 0:
        raise Misuse(f"--limit-mm {limit_mm:g}: it must be above zero")
    plate, volume, corners_mm = Board.parse(board), volume_of(volume_mm), body_of(body)
    prepare(out)
    prepare_folder(pictures, "--pictures")
    gathered = gather(source, plate, most, (corners_mm, volume, limit_mm))
    with progress_bar("Calibrating") as progress:
        done = calibrate_camera(
            gathered.found, plate, corners_mm, volume=volume, limit_mm=limit_mm, board_shape=board_shape,
            models=tuple(MODELS) if model == "auto" else (model,), progress=progress,
        )  # fmt: skip
    drawn = _draw(done, pictures) if pictures is not None else []
    written = done.good or anyway
    if written:
        save_camera(out, done.calibrated())
    if as_json:
        report = {"camera": str(out) if written else None, **to_json(done), "pictures": drawn, **picked(gathered)}
        if not done.good:
            report["error"] = {"kind": "NotGoodEnough", "message": "; ".join(done.refusals)}
        emit(report)
    else:
        tell(*words(done), *([f"{out}: written"] if written else []), *drawn)
    if not done.good:
        say(f"Not good enough: {'; '.join(done.refusals)}", *(f"Next: {line}" for line in done.advice))
        raise typer.Exit(1)


def volume_of(text: str) -> Volume:
    """`400-800` as a working volume."""
    from tracking.calibration.predicted import Volume

    near, _, far = text.partition("-")
    try:
        return Volume(float(near), float(far))
    except ValueError:
        raise Misuse(f"--volume-mm {text}: two distances in mm, as 400-800") from None


def body_of(path: Path | None) -> Array:
    """The corners (K, 3) of a body file; of a board of four 40 mm tags when left out."""
    import numpy as np

    from tracking.bodies.body import board, load

    chosen: Any = board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2) if path is None else load(path)
    return np.concatenate(list(chosen.corners_mm.values()))


def gather(source: str, board: Board, most: int, goal: tuple[Array, Volume, float] | None = None) -> Collected:
    """Look for the board in a source; with `goal` a live camera is guided until it is reached.

    Raises WrongBoard, TooFewPictures.
    """
    from tracking.calibration.board_hunt import another_board
    from tracking.calibration.board_view import BoardView
    from tracking.calibration.camera_job import TooFewPictures, WrongBoard
    from tracking.calibration.collect import collect
    from tracking.sources.live import LiveSource

    with reading(source) as opened:
        name = opened.name
        if goal is not None and isinstance(opened, LiveSource):
            gathered = _guided(opened, board, most, goal)
        else:
            with progress_bar("Pictures") as progress:
                gathered = collect(opened, board, most=most, progress=progress)
    if gathered.turned_down:
        why = ", ".join(f"{count} {kind}" for kind, count in gathered.turned_down.items())
        say(f"{gathered.looked_at} pictures looked at: {len(gathered.found)} taken; not taken: {why}")
    usable = sum(isinstance(view, BoardView) for view in gathered.found)
    if usable < max(1, gathered.looked_at // 4) and gathered.samples:
        instead = another_board(gathered.samples, board)
        if instead is not None:
            raise WrongBoard(f"{usable} of {gathered.looked_at} pictures show {board}; {instead}", path=name)
    if not gathered.found:
        why = ", ".join(f"{count} {kind}" for kind, count in gathered.turned_down.items())
        raise TooFewPictures(f"none of {gathered.looked_at} pictures could be taken ({why or 'none came'})", path=name)
    return gathered


def _guided(opened: LiveSource, board: Board, most: int, goal: tuple[Array, Volume, float]) -> Collected:
    """From a live camera: told in a window, or in words, what to do next."""
    from tracking.calibration.collect import collect
    from tracking.calibration.guide import Guide, open_window

    window = open_window()
    if window is None:
        say("no display: told in words; Ctrl-C cancels")
    guide = Guide(board, *goal, say=say, window=window)
    try:
        return collect(opened, board, most=most, watch=guide.watch)
    finally:
        if window is not None:
            window.close()


def picked(gathered: Collected) -> dict[str, Any]:
    """How a video or a camera was chosen from, for `--json`."""
    return {"looked_at": gathered.looked_at, "turned_down": gathered.turned_down}


def to_json(done: CameraCalibration) -> dict[str, Any]:
    """The whole result."""
    import math

    fit, lens = done.choice.fit, done.choice.fit.pinhole
    sds = [float(v) for v in fit.covariance.diagonal() ** 0.5]

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "good": done.good,
        "refusals": list(done.refusals),
        "advice": list(done.advice),
        "notes": list(done.notes),
        "board": str(done.board),
        "size_px": [lens.width_px, lens.height_px],
        "model": done.choice.name,
        "lens": lens.lens,
        "camera_matrix": lens.matrix.tolist(),
        "distortion": list(lens.distortion),
        "parameters": {
            name: {"value": float(value), "sd": sd}
            for name, value, sd in zip(fit.names, fit.parameters, sds, strict=True)
        },
        "parameter_covariance": fit.covariance.tolist(),
        "rms_px": fit.rms_px,
        "held_out_px": done.choice.score.held_out_px,
        "excess_px": fit.excess_px,
        "widened": fit.widened,
        "predicted": {
            "worst_mm": done.predicted.worst_mm,
            "median_mm": done.predicted.median_mm,
            "relative_mm": done.predicted.relative_mm,
            "turn_deg": done.predicted.turn_deg,
            "worst_at_mm": list(done.predicted.worst_at_mm),
            "limit_mm": done.limit_mm,
            "quantile": 0.95,
        },
        "models": [
            {
                "name": score.name,
                "parameters": score.parameters,
                "rms_px": number(score.fitted_px),
                "held_out_px": number(score.held_out_px),
                "refused": score.refused,
            }
            for score in done.choice.scores
        ],
        "views": [
            {
                "name": view.name,
                "corners": len(view),
                "rms_px": float(rms),
                "blur_px": view.blur_px,
                "focal_change": float(change),
                "focal_sd": float(sd),
            }
            for view, rms, change, sd in zip(done.used, fit.view_rms_px, done.drift.change, done.drift.sd, strict=True)
        ],
        "aside": dict(done.aside),
        "coverage": done.coverage.to_json(),
        "board_offsets_mm": fit.offsets_mm.tolist() if done.choice.name.endswith("+board") else None,
    }


def words(done: CameraCalibration) -> Sequence[str]:
    """The same for a person."""
    fit = done.choice.fit
    corners = sum(len(view) for view in done.used)
    lines = [
        f"{len(done.used)} pictures, {corners} corners, residual {fit.rms_px:.3f} px "
        f"({done.choice.score.held_out_px:.3f} px on unseen pictures)",
        f"lens model {done.choice.name}:",
    ]
    for name, value, variance in zip(fit.names, fit.parameters, fit.covariance.diagonal(), strict=True):
        unit = " px" if name in ("fx", "fy", "cx", "cy") else ""
        digits = 2 if unit else 5
        lines.append(f"  {name} {value:.{digits}f} ± {variance**0.5:.{digits}f}{unit} (1 sd)")
    seen = done.predicted
    beside = (
        "two bodies beside each other do not fit into the picture there"
        if seen.relative_mm is None
        else f"an instrument against the reference {seen.relative_mm:.2f} mm"
    )
    lines.append(
        f"predicted pose error in the working volume (95 %): {seen.worst_mm:.2f} mm at the worst place, "
        f"{seen.median_mm:.2f} mm at the median; {beside}; limit {done.limit_mm:g} mm"
    )
    lines += [f"set aside: {name}: {reason}" for name, reason in done.aside.items()]
    return [*lines, *(f"note: {note}" for note in done.notes)]


def _draw(done: CameraCalibration, folder: Path) -> list[str]:
    from tracking.calibration.chart import draw_coverage, draw_residuals, write_chart

    fit = done.choice.fit
    charts = {
        "coverage.png": draw_coverage(done.used, fit.poses, done.board, fit.pinhole),
        "residuals.png": draw_residuals(fit),
    }
    for name, chart in charts.items():
        write_chart(chart, folder / name)
    return [str(folder / name) for name in charts]
