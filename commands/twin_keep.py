"""`osteotwin twin check`, `confirm` and `export`: what happens to a case that is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import command, emit, progress_bar, say, tell
from spatial.faults import Misuse

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="A case folder.")]


@command
def export(
    case: CaseFolder,
    form: Annotated[
        str,
        typer.Option("--format", metavar="nifti|stl|ply|obj|glb", help="nifti, glb: a file; stl, ply, obj: a folder."),
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="The file or folder to write.")],
    bones: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these: L1-L5,sacrum,hip_left; all if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write bones and structures for other programs: LPS millimetres (glb: metres, y up, as its format prescribes).

    nifti is one label map of the bones with TotalSegmentator's numbers. Colours go into glb and obj.
    """
    from twin.case import Case
    from twin.export import FORMS, export_case

    if form not in FORMS:
        raise Misuse(f"no format {form!r}; there are {', '.join(FORMS)}")
    opened = Case.open(case)
    with progress_bar("export") as progress:
        files = export_case(opened, form, out, names=None if bones is None else _chosen(bones), progress=progress)
    if as_json:
        emit({"case": str(case), "format": form, "files": [str(file) for file in files]})
    else:
        tell(f"{len(files)} file{'s' * (len(files) > 1)} written to {out}.")


@command
def check(
    case: CaseFolder,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring an older case to today's schema on the disk, if it is sound.")
    ] = False,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who migrates, as the journal shall keep it.")] = "osteotwin",
    as_json: Json = False,
) -> None:
    """Check checksums, schema and the journal's chain; exit 1 when anything is wrong."""
    from twin.case import Case, check_case
    from twin.case_document import read_document
    from twin.migration import SCHEMA

    problems = check_case(case)
    migrated_from = None
    if migrate and not problems:
        with Case.open(case) as opened:
            entry = opened.migrate(by)
        migrated_from = None if entry is None else entry.payload["from"]
        problems = check_case(case)
    schema = None if problems else read_document(case)[1]["schema"]
    if as_json:
        emit(
            {
                "case": str(case),
                "sound": not problems,
                "problems": problems,
                "schema": schema,
                "migrated_from": migrated_from,
            }
        )
    elif not problems:
        older = "" if schema == SCHEMA else f" Its schema is {schema}; --migrate brings it to {SCHEMA}."
        tell(
            "The case is sound." + older,
            *([] if migrated_from is None else [f"Migrated from schema {migrated_from}."]),
        )
    say(*problems)
    if problems:
        raise typer.Exit(1)


@command
def confirm(
    case: CaseFolder,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who confirms.")],
    levels: Annotated[bool, typer.Option("--levels", help="Confirm the absolute level names.")] = False,
    shift: Annotated[
        int | None,
        typer.Option(help="Correct them first: every vertebra and rib so many levels down (+1) or up (-1)."),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OLD=NEW", help="Correct one name first: L5=L6, rib_left_12=rib_left_11."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Record in the journal that a person has confirmed the level names, corrected before if need be.

    A correction renames bones, landmarks, labels and structures, and plans stay on their bones. The twin gets another
    id, so registrations made under the old names no longer fit.
    """
    from twin.anatomy.renaming import shifted
    from twin.case import Case

    if not levels:
        raise Misuse("say what is confirmed: --levels")
    if not by.strip():
        raise Misuse("--by needs a name")
    if shift is not None and named:
        raise Misuse("--shift moves all levels, --set names single ones; give one of them")
    if shift == 0:
        raise Misuse("--shift 0 changes nothing; leave it out to confirm the names as they are")
    with Case.open(case) as opened:
        renamed = _names(named or []) if shift is None else shifted(opened.twin.bones, shift)
        entry = opened.rename_levels(renamed, by.strip()) if renamed else opened.confirm_levels(by.strip())
    value = opened.twin.levels
    renamed = entry.payload.get("renamed", {})
    if as_json:
        about = {"confidence": value.confidence, "confirmed_by": value.confirmed_by, "transitional": value.transitional}
        emit(
            {
                "case": str(case),
                "levels": about,
                "renamed": renamed,
                "twin_id": opened.twin.twin_id,
                "entry": entry.id,
            }
        )
    else:
        tell(*(f"{old} is {new} now" for old, new in sorted(renamed.items())))
        tell(f"Levels confirmed by {value.confirmed_by}.")


def _chosen(words: str) -> list[str]:
    """`L1-L5,sacrum` as bones' (or structures') names."""
    from twin.plan.levels import SPINE, bone_of, levels_between

    found: list[str] = []
    for word in (part.strip() for part in words.split(",")):
        if all(end.strip().upper() in SPINE for end in word.split("-")):
            found += [bone_of(level) for level in levels_between(word)]
        elif word:
            found.append(word)
    if not found:
        raise Misuse("--bones names none")
    return found


def _names(pairs: list[str]) -> dict[str, str]:
    """`L5=L6` and `rib_left_12=rib_left_11` as bones' names."""
    from twin.plan.levels import SPINE

    def bone(word: str) -> str:
        return f"vertebrae_{word.upper()}" if word.upper() in SPINE[:-1] else word

    found: dict[str, str] = {}
    for pair in pairs:
        old, mark, new = pair.partition("=")
        if not mark or not old.strip() or not new.strip():
            raise Misuse(f"--set {pair!r}; write OLD=NEW, as in L5=L6")
        if bone(old.strip()) in found:
            raise Misuse(f"--set names {old.strip()} twice")
        found[bone(old.strip())] = bone(new.strip())
    return found
