"""`osteotwin calibrate board`: a board to calibrate with, printed at true scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, tell
from commands.place import prepare


@command
def board(
    out: Annotated[Path, typer.Argument(help="Sheet to write: .pdf, .svg or .png.")],
    board: Annotated[str, typer.Option(help="charuco:7x5,30,22,DICT_5X5_100 or chessboard:9x6,25 (mm).")],
    paper: Annotated[str | None, typer.Option(help="A4, A3 or letter; the smallest that fits if not.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print a calibration board at true scale, with rulers."""
    from tracking.bodies.sheet_files import write_sheets
    from tracking.calibration.board import Board
    from tracking.calibration.board_sheet import lay_out_board

    plate = Board.parse(board)
    sheet = lay_out_board(plate, paper)
    prepare(out, "OUT")
    write_sheets((sheet,), out)
    if as_json:
        emit({"sheet": str(out), "board": str(plate), "paper_mm": [sheet.width_mm, sheet.height_mm]})
    else:
        tell(f"{out}: {plate}; print at 100 %, measure the rulers and a row of squares")
