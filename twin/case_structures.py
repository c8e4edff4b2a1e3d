"""Structures that were added to a case after it was built: each an event of the journal, its surface a file beside.

What was built is never changed: `structures/NAME.ply` is new, and the journal's entry has its hash. A role can be
changed, a structure that was added can be taken out again; the canal stays, and stays critical. Corrections of bones
and their undoing leave all of this as it is, so every entry counts here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from spatial.faults import Misuse
from twin.anatomy.canal_tube import NAME as CANAL
from twin.anatomy.structure import Role, Structure
from twin.anatomy.twin import Twin
from twin.case_document import CaseCorrupt
from twin.durable import file_sha256, replace_synced, sha256_of
from twin.journal import Entry, Journal
from twin.scan.names import is_safe
from twin.surfaces.ply import mesh_from_ply, ply_bytes

ADDED, ROLE_SET, REMOVED = "structure_added", "structure_role_set", "structure_removed"


class NoStructure(Misuse):
    """A structure that the twin does not have, or one that can't be added, changed or taken out."""


def with_added(folder: Path, twin: Twin, entries: Sequence[Entry]) -> Twin:
    """The twin with the structures and roles that the journal adds, every hash checked. Raises CaseCorrupt."""
    structures = dict(twin.structures)
    for name, payload in added(entries).items():
        path = folder / file_of(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CaseCorrupt(f"{file_of(name)} cannot be read ({error.strerror})", path=path) from None
        if sha256_of(data) != payload["sha256"]:
            raise CaseCorrupt(f"{file_of(name)} has changed since it was added (checksum)", path=path)
        structures[name] = Structure(name, payload["role"], mesh_from_ply(data, path), payload["source"])
    for name, role in _roles(entries).items():
        if name in structures:
            structures[name] = replace(structures[name], role=role)
    return twin if structures == dict(twin.structures) else replace(twin, structures=structures)


def added(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """What was added and not taken out since, by name."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.kind == ADDED:
            found[str(entry.payload["name"])] = dict(entry.payload)
        elif entry.kind == REMOVED:
            found.pop(str(entry.payload["name"]), None)
    return found


def problems(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """What is wrong with the files of added structures: a line each."""
    found = []
    for name, payload in added(entries).items():
        path = folder / file_of(name)
        if not path.is_file():
            found.append(f"{file_of(name)} is missing")
        elif file_sha256(path) != payload["sha256"]:
            found.append(f"{file_of(name)} has changed since it was added (checksum)")
    return found


def add(folder: Path, journal: Journal, twin: Twin, structure: Structure, by: str) -> Entry:
    """Write a structure's surface, then say so in the journal. Raises NoStructure, JournalBusy, CaseCorrupt."""
    if not is_safe(structure.name):
        raise NoStructure(f"{structure.name!r} can't be a structure's name; letters, digits, _ - . are allowed")
    if structure.name in twin.structures or structure.name in twin.bones:
        raise NoStructure(f"this twin has a {structure.name!r} already; take that out first, or give another name")
    journal.lock()
    data = ply_bytes(structure.surface)
    path = folder / file_of(structure.name)
    try:
        path.parent.mkdir(exist_ok=True)
        replace_synced(path, data)
    except OSError as error:
        raise CaseCorrupt(f"{file_of(structure.name)} could not be written ({error.strerror})", path=folder) from None
    about = {"name": structure.name, "role": structure.role, "source": structure.source, "sha256": sha256_of(data)}
    return journal.append(by, ADDED, about)


def set_role(journal: Journal, twin: Twin, name: str, role: str, by: str) -> Entry:
    """Give a structure another role. Raises NoStructure, also for the canal, which stays critical."""
    _ensure_known(twin, name)
    if role not in get_args(Role):
        raise NoStructure(f"role {role!r}; there are {', '.join(get_args(Role))}")
    if name == CANAL and role != "critical":
        raise NoStructure("the canal is always critical")
    return journal.append(by, ROLE_SET, {"name": name, "role": role})


def remove(folder: Path, journal: Journal, twin: Twin, name: str, by: str) -> Entry:
    """Take out a structure that was added; its file goes too. Raises NoStructure for what was built with the twin."""
    _ensure_known(twin, name)
    if name == CANAL:
        raise NoStructure("the canal is always there, and can't be taken out")
    if name not in added(journal.entries()):
        raise NoStructure(
            f"{name} was built with the twin and can't be taken out; a role of context hides it from plans"
        )
    entry = journal.append(by, REMOVED, {"name": name})
    (folder / file_of(name)).unlink(missing_ok=True)
    return entry


def file_of(name: str) -> str:
    """Where a structure's surface stands in the case."""
    return f"structures/{name}.ply"


def _roles(entries: Sequence[Entry]) -> dict[str, Role]:
    found: dict[str, Role] = {}
    for entry in entries:
        if entry.kind == ROLE_SET:
            found[str(entry.payload["name"])] = entry.payload["role"]
        elif entry.kind in (ADDED, REMOVED):
            found.pop(str(entry.payload["name"]), None)
    return found


def _ensure_known(twin: Twin, name: str) -> None:
    if name not in twin.structures:
        known = ", ".join(twin.structures) or "none"
        raise NoStructure(f"no structure {name!r} in this twin; it has: {known}")
