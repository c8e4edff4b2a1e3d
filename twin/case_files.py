"""The files of a case folder: how each is written, hashed and read; `twin.case` says what they mean together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatial.faults import Fault, Misuse
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.progress import Progress
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.history import CORRECTED, live
from twin.anatomy.renaming import RENAMED, composed, renamed_twin
from twin.anatomy.structure import BadStructure, Structure
from twin.anatomy.twin import Twin
from twin.case_document import (
    CASE,
    CaseCorrupt,
    built_sha256,
    document_of,
    fitness_of,
    levels_of,
    pretty,
    sides_of,
)
from twin.case_document import NoCase as NoCase
from twin.case_journal import CaseJournal
from twin.case_structures import with_added
from twin.durable import file_sha256, sha256_of, sync, write_synced
from twin.journal import Entry, canonical_json
from twin.plan.edits import EDIT_KINDS
from twin.plan.undoing import UNDO
from twin.program import program
from twin.scan.names import is_safe
from twin.scan.nrrd import write_nrrd
from twin.scan.volume import LabelMap, Volume
from twin.surfaces.ply import mesh_from_ply, ply_bytes

CONFIRMED = "levels_confirmed"
WRITERS = 4  # disks take several files at once, and hashing leaves the interpreter's lock


class CaseExists(Misuse):
    """Something is already where the new case should go."""


class NoPlan(Misuse):
    """A plan that this case does not have, or a name that can't be one."""


class NoVoxels(Fault):
    """This twin was made from surfaces: it has no CT or no labels."""


def write_case(
    folder: Path,
    twin: Twin,
    volume: Volume | None,
    labels: LabelMap | None,
    provenance: Sequence[Mapping[str, Any]],
    author: str,
    progress: Progress,
) -> None:
    """Every file of a new case, case.json last."""
    parts = ["bones", "plans", *(["structures"] if twin.structures else [])]
    for name in parts:
        (folder / name).mkdir()
    with ThreadPoolExecutor(WRITERS) as beside:  # the CT is the most of it: it goes to the disk beside the rest
        voxels = [] if volume is None else [beside.submit(_write_ct, folder, volume)]
        _write_surfaces(folder, twin, progress)
        (folder / "landmarks.json").write_bytes(pretty({"landmarks": [mark.to_json() for mark in twin.landmarks]}))
        if labels is not None:
            progress("writing labels", 0.6)
            names = {"osteotwin_names": {str(n): name for n, name in labels.names.items()}}
            write_nrrd(folder / "labels.nrrd", labels.labels, labels.grid, packed=True, notes=names)
        progress("writing the CT", 0.8)
        for one in voxels:
            one.result()
        written = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        hashes = beside.map(_settled, written)
        files = {path.relative_to(folder).as_posix(): sha256 for path, sha256 in zip(written, hashes, strict=True)}
    steps = [*([] if volume is None else [{"step": "scan", **volume.about}]), *provenance, *twin.provenance]
    warnings = dict.fromkeys(
        [*(() if volume is None else volume.warnings), *twin.warnings, *(() if labels is None else labels.warnings)]
    )
    document = document_of(twin, files, list(warnings), steps)
    with CaseJournal(folder) as journal:
        about = {"twin_id": twin.twin_id, "files_sha256": files_sha256(files), "program": program()}
        journal.append(author, "case_built", {**about, "built_sha256": built_sha256(document)})
    for name in parts:
        sync(folder / name)
    progress("writing case.json", 1.0)
    write_synced(folder / CASE, pretty(document))
    sync(folder)


def _write_surfaces(folder: Path, twin: Twin, progress: Progress) -> None:
    for number, bone in enumerate(twin.bones.values()):
        progress("writing bones", 0.5 * number / len(twin.bones))
        ensure_file_name(bone.name, "a bone")
        for level, mesh in enumerate((bone.surface, *bone.levels_of_detail)):
            (folder / "bones" / f"{bone.name}{f'.lod{level}' if level else ''}.ply").write_bytes(ply_bytes(mesh))
    for structure in twin.structures.values():
        ensure_file_name(structure.name, "a structure")
        (folder / structure_file(structure.name)).write_bytes(ply_bytes(structure.surface))


def _write_ct(folder: Path, volume: Volume) -> None:
    notes = {"osteotwin_about": dict(volume.about), "osteotwin_warnings": list(volume.warnings)}
    write_nrrd(folder / "ct.nrrd", volume.hu, volume.grid, packed=False, notes=notes)


def _settled(path: Path) -> str:
    """The hash of a file that is on the disk now."""
    sync(path)
    return file_sha256(path)


def read_twin(folder: Path, document: Mapping[str, Any], entries: Sequence[Entry]) -> Twin:
    """The twin with the names that people gave its levels since, every hash checked. Raises CaseCorrupt."""
    bones = {}
    for name, coarser in document["bones"].items():
        files = [f"bones/{name}{f'.lod{level}' if level else ''}.ply" for level in range(coarser + 1)]
        meshes = [checked_mesh(folder, document, file) for file in files]
        bones[name] = Bone(name, meshes[0], tuple(meshes[1:]))
    try:
        structures = {
            name: Structure(name, one["role"], checked_mesh(folder, document, structure_file(name)), one["source"])
            for name, one in document["structures"].items()
        }
        marks = json.loads(checked_bytes(folder, document, "landmarks.json"))["landmarks"]
    except BadStructure as fault:
        raise CaseCorrupt(fault.message, path=folder) from None
    except (ValueError, KeyError) as error:
        raise CaseCorrupt(f"landmarks.json cannot be read ({error})", path=folder / "landmarks.json") from None
    levels = levels_of(document)
    built = Twin(
        document["twin_id"],
        bones,
        tuple(Landmark.from_json(mark) for mark in marks),
        replace(levels, confirmed_by=confirmed_by(entries) or levels.confirmed_by),
        document.get("density"),
        tuple(document["provenance"]),
        tuple(document.get("warnings", ())),
        structures,
        fitness_of(document),
        sides_of(document),
        document["surface_sd_mm"],
    )
    return renamed_twin(with_added(folder, built, entries), composed(entries), confirmed_by(entries) or "a person")


def checked_mesh(folder: Path, document: Mapping[str, Any], file: str) -> TriangleMesh[Patient]:
    """A surface of the case, its hash checked. Raises CaseCorrupt, BadSurfaceFile."""
    return mesh_from_ply(checked_bytes(folder, document, file), folder / file)


def structure_file(name: str) -> str:
    """Where a structure's surface stands in the case."""
    return f"structures/{name}.ply"


def ensure_file_name(name: str, what: str) -> None:
    """Raise CaseCorrupt when a name can't become a file's."""
    if not is_safe(name):
        raise CaseCorrupt(f"{name!r} can't be {what}'s name; letters, digits, _ - . are allowed")


def checked_bytes(folder: Path, document: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a built file, its hash checked. Raises CaseCorrupt."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise CaseCorrupt(f"{name} cannot be read ({error.strerror})", path=folder / name) from None
    if sha256_of(data) != document["files"].get(name):
        raise CaseCorrupt(f"{name} has changed since the case was built (checksum)", path=folder / name)
    return data


def plan_problem(path: Path, entries: Sequence[Entry], twin_id: str) -> str | None:
    """Why a plan file can't be trusted, or None: it must be as it was saved, after the plan's last edit."""
    try:
        data = path.read_bytes()
        own_twin = json.loads(data).get("twin_id")
    except (OSError, ValueError, AttributeError):
        return f"plan {path.stem} cannot be read"
    entries = live(entries)
    saved = [e for e in entries if e.kind == "plan_saved" and e.payload.get("name") == path.stem]
    if not saved:
        return f"plan {path.stem} is not in the journal"
    if saved[-1].payload.get("sha256") != sha256_of(data):
        return f"plan {path.stem} has changed since it was saved (checksum)"
    edited = [e for e in entries if e.kind == RENAMED or _edits(e, path.stem)]
    if edited and edited[-1].seq > saved[-1].seq:
        return f"plan {path.stem} was saved before its last edit (was a program stopped?); the next edit saves it anew"
    return None if own_twin == twin_id else f"plan {path.stem} was made on another twin"


def _edits(entry: Entry, plan: str) -> bool:
    return entry.kind in (*EDIT_KINDS, UNDO) and entry.payload.get("plan") == plan


def confirmed_by(entries: Sequence[Entry]) -> str | None:
    """Who last confirmed (or gave) the level names, by the journal."""
    for entry in reversed(live(entries)):
        if entry.kind in (CONFIRMED, RENAMED):
            return str(entry.payload["by"])
        if entry.kind == CORRECTED:  # whether what was confirmed before still holds
            before = entry.payload.get("confirmed_by")
            return None if before is None else str(before)
    return None


def files_sha256(files: Mapping[str, str]) -> str:
    """The hash of the list of built files."""
    return sha256_of(canonical_json(dict(files)))
