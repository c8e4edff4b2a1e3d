"""`osteotwin twin correct`: a person's strokes put bones right, and can be taken back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import command, emit, progress_bar, say, tell
from commands.twin_words import levels_words
from spatial.faults import Misuse
from spatial.progress import Progress, part

if TYPE_CHECKING:
    from twin.anatomy.strokes import Strokes
    from twin.case import Case

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="A case folder.")]


@command
def correct(
    case: CaseFolder,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who corrects.")],
    strokes: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="The strokes: bone, points_mm, radius_mm each.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="CASE", help="Carry out the corrections of another case, of the same CT built before."),
    ] = None,
    site: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The hospital's settings for the density, as for build.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last correction back.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Put plans aside that were made on the bones as they are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Paint, erase, part and join bones; only what was touched is made anew. The journal keeps the strokes.

    The bones have another identity afterwards, so the plans that were made on them are put aside with them.
    """
    if sum((strokes is not None, like is not None, undo)) != 1:
        raise Misuse("say one of --strokes FILE.json, --like CASE and --undo")
    if not by.strip():
        raise Misuse("--by needs a name")
    started = time.perf_counter()
    with progress_bar("correct") as progress:
        found = (
            _undone(case, by.strip(), force)
            if undo
            else _corrected(case, strokes, like, by.strip(), force, site, progress)
        )
    found["seconds"] = round(time.perf_counter() - started, 3)
    if as_json:
        emit(found)
        return
    say(*found["warnings"])
    if undo:
        tell(f"The correction of {found['undone']['by']} is taken back.")
    else:
        tell(f"Made anew: {', '.join(found['changed']) or 'none'}; gone: {', '.join(found['removed']) or 'none'}.")
    for bone in found["bones"]:
        tell(f"{bone['name']:<16} {bone['volume_ml']:8.2f} ml")
    tell(levels_words(found["levels"]))
    tell("Volumes are those of the surfaces; no uncertainty is stated for them.")


def _corrected(
    folder: Path, file: Path | None, like: Path | None, by: str, force: bool, site: Path | None, progress: Progress
) -> dict[str, Any]:
    from twin.anatomy.site import site_of
    from twin.anatomy.strokes import Strokes
    from twin.case import Case
    from twin.case_correction import NoCorrection, correct_case, corrections_of

    settings = site_of(os.environ, site)
    todo: list[Strokes] = []
    if file is not None:
        todo = [Strokes.load(file)]
    elif like is not None:
        todo = corrections_of(Case.open(like))
        if not todo:
            raise NoCorrection("no correction stands in that case, so there is none to carry out", path=like)
    changed: set[str] = set()
    removed: set[str] = set()
    notes: list[str] = []
    case = Case.open(folder)
    for n, one in enumerate(todo):
        case, found = correct_case(
            case,
            one,
            by,
            keep_plans_aside=force,
            progress=part(progress, n / len(todo), (n + 1) / len(todo)),
            site=settings,
        )
        changed |= set(found.changed)
        removed = (removed | set(found.removed)) - set(found.changed)
        notes += found.notes
    return {
        "case": str(folder),
        "twin_id": case.twin.twin_id,
        "corrections": len(todo),
        "changed": sorted(changed & set(case.twin.bones)),
        "removed": sorted(removed),
        "warnings": notes,
        **_state(case, changed),
    }


def _undone(folder: Path, by: str, force: bool) -> dict[str, Any]:
    from twin.case import Case
    from twin.case_correction import undo_correction

    case, entry = undo_correction(Case.open(folder), by, keep_plans_aside=force)
    undone = {"id": entry.id, "by": entry.payload["by"]}
    changed = {*entry.payload["changed"], *entry.payload["removed"]}
    return {
        "case": str(folder), "twin_id": case.twin.twin_id, "undone": undone, "warnings": [], **_state(case, changed),
    }  # fmt: skip


def _state(case: Case, names: set[str]) -> dict[str, Any]:
    """The bones that were touched as they are now, and the levels."""
    levels = case.twin.levels
    return {
        "bones": [
            {
                "name": bone.name,
                "volume_ml": round(bone.volume_ml, 3),
                "closed": bone.is_closed,
                "triangles": len(bone.surface.triangles),
            }
            for name, bone in case.twin.bones.items()
            if name in names
        ],
        "levels": {"confidence": levels.confidence, "confirmed_by": levels.confirmed_by},
        "plans": list(case.plan_names),
    }
