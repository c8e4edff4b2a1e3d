"""`osteotwin markers`: print marker bodies at true scale, and read other programs' geometry files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from commands.console import command, emit, tell
from commands.place import prepare
from spatial.faults import Misuse

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def markers() -> None:
    """Print marker bodies at true scale; convert other programs' files."""


Shape = Literal["board", "cube", "dodecahedron", "tool"]


@app.command()
@command
def make(
    out: Annotated[Path, typer.Argument(help="Pages to write: .pdf (all in one), .svg or .png (a file a page).")],
    body: Annotated[Path | None, typer.Option(help="Marker body file to print.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Or a new body: OpenCV's dictionary.")] = None,
    shape: Annotated[Shape, typer.Option(help="… its shape; solids are printed as nets to cut and fold.")] = "board",
    ids: Annotated[
        str | None, typer.Option(help="… its ids, as 0-3 or 4,7,9; as many as the shape has faces when left out.")
    ] = None,
    size_mm: Annotated[
        float | None, typer.Option(help="… edge of the black squares: 40 on a board, what fits on a solid's faces.")
    ] = None,
    edge_mm: Annotated[float, typer.Option(help="Solids: edge of a face; tool: width and height of a plate.")] = 40.0,
    gap_mm: Annotated[float, typer.Option(help="Board: white between the markers.")] = 20.0,
    columns: Annotated[int, typer.Option(help="Board: markers in a row.")] = 2,
    sides: Annotated[int, typer.Option(help="Tool: plates round the shaft.")] = 6,
    rows: Annotated[int, typer.Option(help="Tool: plates along it.")] = 1,
    reach_mm: Annotated[float, typer.Option(help="Tool: from the lowest plate's end to the tip.")] = 150.0,
    name: Annotated[str | None, typer.Option(help="The body's name; the shape's when left out.")] = None,
    paper: Annotated[str | None, typer.Option(help="A4, A3 or letter; what fits when left out.")] = None,
    save: Annotated[Path | None, typer.Option(help="Where the new body's file goes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print a marker body at true scale with rulers; or make a new one and write its body file too."""
    if (body is None) == (dictionary is None):
        raise Misuse("give either --body FILE or --dictionary NAME")
    lengths = {"--size-mm": size_mm, "--edge-mm": edge_mm, "--reach-mm": reach_mm}
    for option, mm in lengths.items():
        if mm is not None and not (math.isfinite(mm) and mm > 0):
            raise Misuse(f"{option} is {mm:g}; it must be above 0 mm")
    if not (math.isfinite(gap_mm) and gap_mm >= 0):
        raise Misuse(f"--gap-mm is {gap_mm:g}; it must be 0 mm or more")
    if columns < 1:
        raise Misuse(f"--columns is {columns}; a board has one or more")

    from tracking.bodies import body as bodies
    from tracking.bodies import shapes
    from tracking.bodies.sheet import PAPERS_MM, lay_out
    from tracking.bodies.sheet_files import write_sheets

    if paper is not None and paper not in PAPERS_MM:
        raise Misuse(f"--paper {paper}: {', '.join(PAPERS_MM)} are known")
    prepare(out, "OUT")
    prepare(save, "--save")
    made: bodies.Body[Any] | shapes.Solid
    if body is not None:
        made = bodies.load(body)
    else:
        assert dictionary is not None  # checked above; for mypy
        called = name or shape
        faces = {"board": 4, "cube": 6, "dodecahedron": 12, "tool": sides * rows}[shape]
        numbers = marker_ids(ids) if ids is not None else list(range(faces))
        try:
            if shape == "board":
                made = bodies.board(called, dictionary, numbers, 40.0 if size_mm is None else size_mm, gap_mm, columns)
            elif shape == "tool":
                made = shapes.tool(
                    called, dictionary, numbers, edge_mm, size_mm, sides=sides, rows=rows, reach_mm=reach_mm
                )  # fmt: skip
            else:
                build = shapes.cube if shape == "cube" else shapes.dodecahedron
                made = build(called, dictionary, numbers, edge_mm, size_mm)
        except bodies.BadBody as fault:
            raise Misuse(fault.message) from None  # all of it is what the options say
    sheets = lay_out(made, paper)
    written = write_sheets(sheets, out)
    known = made.body if isinstance(made, shapes.Solid) else made
    if save is not None:
        bodies.save(known, save)
    if as_json:
        size = [sheets[0].width_mm, sheets[0].height_mm]
        emit(
            {"sheet": str(written[0]), "sheets": [str(file) for file in written], "pages": len(sheets),
             "paper_mm": size, "body": None if save is None else str(save), **known.to_json()}
        )  # fmt: skip
        return
    files = ", ".join(map(str, written))
    pages = f"{len(sheets)} page{'s' if len(sheets) > 1 else ''}"
    tell(f"{files}: {known.name}, {len(known.corners_mm)} markers on {pages}; print at 100 % and measure both rulers")
    if body is None and save is None:
        tell("no --save: there is no body file, so nothing can track it yet")
    if isinstance(made, shapes.Solid):
        tell("a folded body is true to some tenths of a millimetre: measure it with `osteotwin calibrate body`")


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


def marker_ids(text: str) -> list[int]:
    """Ids from 0-3 or 4,7,9. Raises Misuse."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (part.isascii() and first.isdigit() and (last.isdigit() or not dash)):
            raise Misuse(f"--ids {text}: whole numbers as 0-3 or 4,7,9")
        if int(last or first) < int(first):
            raise Misuse(f"--ids {text}: {part} runs backwards; {last}-{first} is meant?")
        if int(last or first) - int(first) > 9999:
            raise Misuse(f"--ids {text}: {part} are more ids than any dictionary has")
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found):
        raise Misuse(f"--ids {text}: an id is there twice")
    return found
