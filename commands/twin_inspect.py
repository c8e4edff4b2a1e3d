"""`osteotwin twin inspect`: what a case holds, in words, JSON and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, progress_bar, tell
from commands.twin_pictures import draw
from commands.twin_words import density_words, landmark_words, provenance_words, summary, tell_summary


@command
def inspect(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="A case folder.")],
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also draw slices and a view a bone group into DIR.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a case holds: bones, levels, sides, fitness, structures, landmarks, density, provenance."""
    from twin.anatomy.local_frame import local_frames
    from twin.case import Case

    opened = Case.open(case)
    twin = opened.twin
    found = summary(opened) | {
        "twin_id": twin.twin_id,
        "schema": opened.stored["schema"],
        "program": opened.document["program"],
        "landmarks": [mark.to_json() for mark in twin.landmarks],
        "frames": local_frames(twin),
        "density": None if twin.density is None else dict(twin.density),
        "plans": list(opened.plan_names),
        "provenance": [dict(step) for step in twin.provenance],
    }
    if pictures is not None:
        with progress_bar("pictures") as progress:
            found["pictures"] = draw(opened, pictures, progress)
    if as_json:
        emit(found)
        return
    tell_summary(found)
    tell(*landmark_words(found["landmarks"]), *density_words(found["density"]))
    tell(*provenance_words(found["provenance"], found["program"]))
    tell(f"Plans: {', '.join(found['plans']) or 'none'}", *(f"Picture: {file}" for file in found.get("pictures", ())))
