"""A correction in the case folder: the corrected twin in the place of the old one, in one step, and the way back.

The new folder is made beside the old one: what did not change is the same file (a hard link), what is replaced goes to
`previous/TWIN_ID/` with the case.json of then. The journal gets one entry that holds the strokes and the new hashes.
The two folders change places at once, so whoever is killed leaves the old case or the new one. Undoing puts the files
of `previous/` back: the same twin_id, so the plans that were made on it come back with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatial.faults import Misuse
from spatial.progress import Progress, part, silent
from twin.anatomy.bone import Bone
from twin.anatomy.correction import Corrected, corrected
from twin.anatomy.history import CORRECTED, UNCORRECTED, standing
from twin.anatomy.renaming import composed
from twin.anatomy.site import DEFAULT, Site
from twin.anatomy.strokes import Strokes
from twin.case import Case, clear_abandoned
from twin.case_document import CASE, CaseCorrupt, built_sha256, document_of, pretty
from twin.case_files import NoVoxels, confirmed_by, ensure_file_name, files_sha256, structure_file
from twin.case_journal import HEAD, JOURNAL, CaseJournal
from twin.case_structures import added
from twin.durable import exchange, file_sha256, held, sha256_of, sync, write_synced
from twin.journal import Entry
from twin.scan.nrrd import write_nrrd
from twin.surfaces.ply import ply_bytes

PREVIOUS = "previous"


class PlansWouldFail(Misuse):
    """A correction makes another twin: the plans that were made on this one would go with it."""


class NoCorrection(Misuse):
    """There is no correction to undo, or none to take over."""


def correct_case(
    case: Case,
    strokes: Strokes,
    by: str,
    *,
    keep_plans_aside: bool = False,
    progress: Progress = silent,
    site: Site = DEFAULT,
) -> tuple[Case, Corrected]:
    """The case with the strokes carried out, opened anew. `case` is closed.

    `keep_plans_aside` says that its plans may be put aside with the bones that they were made on (an undo brings
    both back). `site` reads the density. Raises BadStrokes, PlansWouldFail, NoVoxels, JournalBusy, CaseCorrupt.
    """
    if not case.has_volume or "labels.nrrd" not in case.files:
        raise NoVoxels("this twin was made from surfaces: without a CT and labels there is nothing to correct")
    with case:
        case.journal.lock()
        case.migrate(by)
        ensure_no_plans(case, keep_plans_aside)
        progress("reading the case", 0.0)
        volume, labels = case.volume(), case.labels()
        found = corrected(case.twin, volume, labels, strokes, by, part(progress, 0.1, 0.75), site)
        later = added(case.journal.entries())  # these have entries and files of their own
        built = {name: one for name, one in found.twin.structures.items() if name not in later}
        found = replace(found, twin=replace(found.twin, structures=built))
        progress("writing the case", 0.75)
        confirmed = found.twin.levels.confirmed_by
        with _beside(case) as building:
            files = _write_corrected(building, case, found)
            document = document_of(found.twin, files, found.twin.warnings, found.twin.provenance)
            payload = {
                **strokes.to_json(),
                "by": by,
                "changed": list(found.changed),
                "removed": list(found.removed),
                "notes": list(found.notes),
                "confirmed_by": confirmed,
                "before": {"twin_id": case.document["twin_id"], "built_sha256": built_sha256(case.document)},
            }
            _finish(building, case, document, by, CORRECTED, payload)
        progress("done", 1.0)
    return Case.open(case.folder), found


def undo_correction(case: Case, by: str, *, keep_plans_aside: bool = False) -> tuple[Case, Entry]:
    """The case as it was before its last correction, opened anew, and that correction's entry. `case` is closed.

    Raises NoCorrection, PlansWouldFail, JournalBusy, CaseCorrupt.
    """
    with case:
        case.journal.lock()
        found = standing(case.journal.entries())
        if not found:
            raise NoCorrection("no correction stands, so there is none to undo", path=case.folder)
        ensure_no_plans(case, keep_plans_aside)
        last = found[-1]
        aside = case.folder / PREVIOUS / str(last.payload["before"]["twin_id"])
        try:
            document = json.loads((aside / CASE).read_bytes())
            if built_sha256(document) != last.payload["before"]["built_sha256"]:
                raise CaseCorrupt("what a correction put aside has changed since (checksum)", path=aside)
            with _beside(case) as building:
                shutil.rmtree(building / PREVIOUS / aside.name)
                _put_aside_plans(building, case)
                for path in sorted((aside / "plans").glob("*.json")):
                    _link(path, building / "plans" / path.name)
                for name, sha256 in document["files"].items():
                    kept = aside / name if (aside / name).is_file() else case.folder / name
                    if file_sha256(kept) != sha256:
                        raise CaseCorrupt(f"{name} is not what it was before the correction (checksum)", path=kept)
                    _link(kept, building / name)
                _finish(building, case, document, by, UNCORRECTED, {"undoes": last.id, "by": by})
        except (OSError, ValueError, KeyError) as error:
            raise CaseCorrupt(f"what a correction put aside cannot be read ({error})", path=aside) from None
    return Case.open(case.folder), last


def corrections_of(case: Case) -> list[Strokes]:
    """The strokes of the corrections that stand in a case, in order: to carry them out on a twin built anew."""
    kept = [{key: e.payload[key] for key in ("strokes", "joins") if key in e.payload}
            for e in standing(case.journal.entries())]  # fmt: skip
    return [Strokes.from_json(value) for value in kept]


def ensure_no_plans(case: Case, keep_plans_aside: bool) -> None:
    """Raise PlansWouldFail when plans of this twin would be refused afterwards and nobody said that they may."""
    valid = []
    for name in case.plan_names:
        try:
            case.load_plan(name)
        except CaseCorrupt:
            continue  # it is refused already
        valid.append(name)
    if valid and not keep_plans_aside:
        raise PlansWouldFail(
            f"{len(valid)} plan{'s' * (len(valid) > 1)} ({', '.join(valid)}) would be put aside with the bones that "
            "they were made on; --force goes on, and `twin correct --undo` brings both back",
            path=case.folder,
        )


@contextmanager
def _beside(case: Case) -> Iterator[Path]:
    """A new folder beside the case with its plans and its past; gone after, unless it took the case's place."""
    folder = case.folder.absolute()
    clear_abandoned(folder)
    building = folder.with_name(f".{folder.name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir()
        with held(building):
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder).as_posix()
                built = name in case.files or name in (CASE, JOURNAL, HEAD)
                if path.is_dir():
                    (building / name).mkdir(exist_ok=True)
                elif not built and not any(piece.startswith(".") for piece in name.split("/")):
                    _link(path, building / name)
            yield building
    except OSError as error:
        raise CaseCorrupt(f"the case could not be written ({error.strerror})", path=folder) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_corrected(building: Path, case: Case, found: Corrected) -> dict[str, str]:
    """The built files of the corrected twin; what is the same is linked. Returns their hashes."""
    files: dict[str, str] = {}

    def new(name: str, data: bytes) -> None:
        (building / name).parent.mkdir(exist_ok=True)
        write_synced(building / name, data)
        files[name] = sha256_of(data)

    def same(name: str, old: str) -> None:
        _link(case.folder / old, building / name)
        files[name] = case.files[old]

    built_name = {now: then for then, now in composed(case.journal.entries()).items()}
    for bone in found.twin.bones.values():
        ensure_file_name(bone.name, "a bone")
        for level, mesh in enumerate((bone.surface, *bone.levels_of_detail)):
            if bone.name in found.changed:
                new(_bone_file(bone, level), ply_bytes(mesh))
            else:
                old = built_name.get(bone.name, bone.name)
                same(_bone_file(bone, level), _bone_file(bone, level).replace(bone.name, old))
    for structure in found.twin.structures.values():
        ensure_file_name(structure.name, "a structure")
        new(structure_file(structure.name), ply_bytes(structure.surface))
    new("landmarks.json", pretty({"landmarks": [mark.to_json() for mark in found.twin.landmarks]}))
    same("ct.nrrd", "ct.nrrd")
    names = {"osteotwin_names": {str(n): name for n, name in found.labels.names.items()}}
    write_nrrd(building / "labels.nrrd", found.labels.labels, found.labels.grid, packed=True, notes=names)
    sync(building / "labels.nrrd")
    files["labels.nrrd"] = file_sha256(building / "labels.nrrd")
    aside = _put_aside_plans(building, case)
    for name, sha256 in case.files.items():
        if files.get(name) != sha256:
            _link(case.folder / name, aside / name)
    write_synced(aside / CASE, pretty(case.document))
    return dict(sorted(files.items()))


def _put_aside_plans(building: Path, case: Case) -> Path:
    """Move the plans to where the bones go that they were made on; returns that folder."""
    aside = building / PREVIOUS / str(case.document["twin_id"])
    aside.mkdir(parents=True, exist_ok=True)
    for path in sorted((building / "plans").glob("*.json")):
        _link(path, aside / "plans" / path.name)
        path.unlink()
    return aside


def _bone_file(bone: Bone, level: int) -> str:
    return f"bones/{bone.name}{f'.lod{level}' if level else ''}.ply"


def _finish(
    building: Path, case: Case, document: Mapping[str, Any], by: str, kind: str, payload: Mapping[str, Any]
) -> None:
    """The journal's entry and case.json, all flushed; then the new folder takes the old one's place."""
    for name in (JOURNAL, HEAD):
        if (case.folder / name).is_file():
            shutil.copyfile(case.folder / name, building / name)
    hashes = {"twin_id": document["twin_id"], "files_sha256": files_sha256(document["files"])}
    with CaseJournal(building) as journal:
        journal.append(by, kind, {**payload, **hashes, "built_sha256": built_sha256(document)})
        entries = journal.entries()
    names = composed(entries)
    levels = {**document["levels"], "confirmed_by": confirmed_by(entries), "renamed": names}
    if not names:
        del levels["renamed"]
    write_synced(building / CASE, pretty({**document, "levels": levels}))
    for place in sorted({building, *(path for path in building.rglob("*") if path.is_dir())}):
        sync(place)
    folder = case.folder.absolute()
    retired = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    shutil.rmtree(retired, ignore_errors=True)
    try:
        if os.name == "nt":
            case.close()  # an open file's folder can't be moved there
        if not exchange(building, folder):
            folder.rename(retired)
            building.rename(folder)
        sync(folder.parent)
    finally:
        case.close()
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        shutil.rmtree(retired, ignore_errors=True)


def _link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where the file system knows no links."""
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)


def told(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What has been corrected since the twin was built, for people: a line an entry of the journal."""
    return [
        {"id": e.id, "by": e.payload.get("by", e.author), "changed": e.payload["changed"],
         "removed": e.payload["removed"], "strokes": len(e.payload["strokes"])}
        for e in standing(entries)
    ]  # fmt: skip
