"""The files of a case folder: how each is written, hashed and read; `twin.case` says what they mean together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spatial.faults import Fault, Misuse
from spatial.progress import Progress
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin
from twin.journal import Entry, Journal, canonical_json
from twin.plan.edits import EDIT_KINDS, UNDO
from twin.scan.names import is_safe
from twin.scan.nrrd import write_nrrd
from twin.scan.volume import LabelMap, Volume
from twin.surfaces.ply import mesh_from_ply, ply_bytes

SCHEMA = 1
JOURNAL = "journal.jsonl"


class NoCase(Misuse):
    """There is no case here."""


class CaseExists(Misuse):
    """Something is already where the new case should go."""


class CaseCorrupt(Fault):
    """A file of the case is missing, changed or does not fit the others."""


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
    for number, bone in enumerate(twin.bones.values()):
        progress("writing bones", 0.5 * number / len(twin.bones))
        if not is_safe(bone.name):
            raise CaseCorrupt(f"{bone.name!r} can't be a bone's name; letters, digits, _ - . are allowed")
        for level, mesh in enumerate((bone.surface, *bone.levels_of_detail)):
            write_synced(folder / "bones" / f"{bone.name}{f'.lod{level}' if level else ''}.ply", ply_bytes(mesh))
    write_synced(folder / "landmarks.json", pretty({"landmarks": [mark.to_json() for mark in twin.landmarks]}))
    warnings = dict.fromkeys(twin.warnings)
    steps = [*provenance, *twin.provenance]
    if volume is not None:
        steps.insert(0, {"step": "scan", **volume.about})
        progress("writing the CT", 0.5)
        notes = {"osteotwin_about": dict(volume.about), "osteotwin_warnings": list(volume.warnings)}
        write_nrrd(folder / "ct.nrrd", volume.hu, volume.grid, packed=False, notes=notes)
        warnings = dict.fromkeys([*volume.warnings, *warnings])
    if labels is not None:
        progress("writing labels", 0.8)
        names = {"osteotwin_names": {str(n): name for n, name in labels.names.items()}}
        write_nrrd(folder / "labels.nrrd", labels.labels, labels.grid, packed=True, notes=names)
        warnings = dict.fromkeys([*warnings, *labels.warnings])
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    with Journal(folder / JOURNAL) as journal:
        journal.append(author, "case_built", {"twin_id": twin.twin_id, "files_sha256": files_sha256(files)})
    document = {
        "schema": SCHEMA,
        "twin_id": twin.twin_id,
        "levels": {"confidence": twin.levels.confidence, "confirmed_by": twin.levels.confirmed_by},
        "bones": {name: len(bone.levels_of_detail) for name, bone in twin.bones.items()},
        "files": files,
        "density": None if twin.density is None else dict(twin.density),
        "warnings": list(warnings),
        "provenance": [dict(step) for step in steps],
    }
    for name in files:
        sync(folder / name)
    for part in (folder / "bones", folder / "plans"):
        sync(part)
    progress("writing case.json", 1.0)
    write_synced(folder / "case.json", pretty(document))
    sync(folder)


def read_document(folder: Path) -> dict[str, Any]:
    """case.json, its shape checked. Raises NoCase, CaseCorrupt."""
    path = folder / "case.json"
    if not path.is_file():
        raise NoCase("there is no case here (no case.json)", path=folder)
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != SCHEMA:
            raise CaseCorrupt(
                f"schema {value['schema']}, this program reads {SCHEMA}; was it made by a newer version?", path=path
            )
        sound = (
            isinstance(value["twin_id"], str)
            and isinstance(value["levels"]["confidence"], (int, float))
            and all(is_inside(name) and len(value["files"][name]) == 64 for name in value["files"])
            and all(is_safe(name) and isinstance(count, int) for name, count in value["bones"].items())
            and isinstance(value["provenance"], list)
        )
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise CaseCorrupt(f"case.json cannot be read ({type(error).__name__}: {error})", path=path) from None
    if not sound:
        raise CaseCorrupt("case.json holds values of the wrong kind; was it edited?", path=path)
    return dict(value)


def read_twin(folder: Path, document: Mapping[str, Any], entries: Sequence[Entry]) -> Twin:
    """Bones, landmarks and levels, every hash checked. Raises CaseCorrupt."""
    bones = {}
    for name, coarser in document["bones"].items():
        meshes = []
        for level in range(coarser + 1):
            file = f"bones/{name}{f'.lod{level}' if level else ''}.ply"
            meshes.append(mesh_from_ply(checked_bytes(folder, document, file), folder / file))
        bones[name] = Bone(name, meshes[0], tuple(meshes[1:]))
    try:
        marks = json.loads(checked_bytes(folder, document, "landmarks.json"))["landmarks"]
    except (ValueError, KeyError) as error:
        raise CaseCorrupt(f"landmarks.json cannot be read ({error})", path=folder / "landmarks.json") from None
    levels = Levels(document["levels"]["confidence"], confirmed_by(entries) or document["levels"].get("confirmed_by"))
    return Twin(
        document["twin_id"],
        bones,
        tuple(Landmark.from_json(mark) for mark in marks),
        levels,
        document.get("density"),
        tuple(document["provenance"]),
        tuple(document.get("warnings", ())),
    )


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
        if json.loads(data).get("twin_id") != twin_id:
            return f"plan {path.stem} was made on another twin"
    except (OSError, ValueError, AttributeError):
        return f"plan {path.stem} cannot be read"
    saved = [e for e in entries if e.kind == "plan_saved" and e.payload.get("name") == path.stem]
    if not saved:
        return f"plan {path.stem} is not in the journal"
    if saved[-1].payload.get("sha256") != sha256_of(data):
        return f"plan {path.stem} has changed since it was saved (checksum)"
    edited = [e for e in entries if e.kind in (*EDIT_KINDS, UNDO) and e.payload.get("plan") == path.stem]
    if edited and edited[-1].seq > saved[-1].seq:
        return f"plan {path.stem} was saved before its last edit (was a program stopped?); the next edit saves it anew"
    return None


def confirmed_by(entries: Sequence[Entry]) -> str | None:
    """Who last confirmed the levels, by the journal."""
    return next((str(e.payload["by"]) for e in reversed(entries) if e.kind == "levels_confirmed"), None)


def files_sha256(files: Mapping[str, str]) -> str:
    """The hash of the list of built files."""
    return sha256_of(canonical_json(dict(files)))


def is_inside(name: str) -> bool:
    """Whether a listed file name stays within the case."""
    parts = name.split("/")
    return (
        not name.startswith("/")
        and "\\" not in name
        and ":" not in name
        and all(p not in ("", ".", "..") for p in parts)
    )


def pretty(value: Any) -> bytes:
    """JSON for people: one key a line."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256_of(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_synced(path: Path, data: bytes) -> None:
    """Write and wait for the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk; folders can't be synced on Windows, and need not be."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
