"""`osteotwin markers`: print marker bodies at true scale, and read other programs' geometry files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, tell
from spatial.faults import Misuse

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def markers() -> None:
    """Print marker bodies at true scale; convert other programs' files."""


@app.command()
@command
def make(
    out: Annotated[Path, typer.Argument(help="Sheet to write: .svg, .pdf or .png.")],
    body: Annotated[Path | None, typer.Option(help="Marker body file to print.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Or a new flat board: OpenCV's dictionary.")] = None,
    ids: Annotated[str, typer.Option(help="… its ids, as 0-3 or 4,7,9.")] = "0-3",
    size_mm: Annotated[float, typer.Option(help="… edge of the black squares.")] = 40.0,
    gap_mm: Annotated[float, typer.Option(help="… white between them.")] = 20.0,
    columns: Annotated[int, typer.Option(help="… markers in a row.")] = 2,
    name: Annotated[str, typer.Option(help="… the body's name.")] = "board",
    save: Annotated[Path | None, typer.Option(help="… and where its body file goes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print a marker body at true scale with a ruler; or lay out a new flat board and write its body file too."""
    if (body is None) == (dictionary is None):
        raise Misuse("give either --body FILE or --dictionary NAME")

    from tracking.bodies import body as bodies
    from tracking.bodies.sheet import lay_out, write_sheet

    if body is not None:
        made = bodies.load(body)
    else:
        assert dictionary is not None  # checked above; for mypy
        made = bodies.board(name, dictionary, _ids(ids), size_mm, gap_mm, columns)
    sheet = lay_out(made)
    write_sheet(sheet, out)
    if save is not None:
        bodies.save(made, save)
    if as_json:
        paper = [sheet.width_mm, sheet.height_mm]
        emit({"sheet": str(out), "paper_mm": paper, "body": None if save is None else str(save), **made.to_json()})
    else:
        tell(f"{out}: {made.name}, {len(made.corners_mm)} markers; print at 100 % and measure the ruler")


@app.command()
@command
def convert(
    source: Annotated[Path, typer.Argument(help="scikit-surgery BARD's text: id, centre, four corners a row.")],
    out: Annotated[Path, typer.Option(help="Marker body file to write.")],
    dictionary: Annotated[str, typer.Option(help="OpenCV's dictionary of the ids.")] = "DICT_ARUCO_ORIGINAL",
    name: Annotated[str | None, typer.Option(help="The body's name; the file's when left out.")] = None,
    tip: Annotated[Path | None, typer.Option(help="Text file with the tip's x y z in the body's frame, mm.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Turn BARD's text file into a marker body file; the frame is kept (y down the print, z into it)."""
    from tracking.bodies import body as bodies

    made = bodies.from_bard_files(source, name or source.stem, dictionary, tip)
    bodies.save(made, out)
    if as_json:
        emit({"body": str(out), **made.to_json()})
    else:
        tell(f"{out}: {made.name}, {len(made.corners_mm)} markers of {dictionary}")


def _ids(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise Misuse(f"--ids {text}: whole numbers as 0-3 or 4,7,9")
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found):
        raise Misuse(f"--ids {text}: an id is there twice")
    return found
