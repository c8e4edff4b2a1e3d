"""Other scans of the patient in a case: their voxels, and how they lie on the twin; events of the journal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from spatial.faults import Misuse
from twin.anatomy.companion import Companion
from twin.case_document import CaseCorrupt, pretty
from twin.durable import file_sha256, replace_synced, sync
from twin.journal import Entry, Journal
from twin.scan.names import is_safe
from twin.scan.nrrd import read_nrrd, write_nrrd
from twin.scan.volume import Volume

REGISTERED = "series_registered"


class NoSeries(Misuse):
    """A scan that the case does not have, or a name that can't be one."""


def names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The other scans of a case, in the order they came."""
    return tuple(dict.fromkeys(str(e.payload["name"]) for e in entries if e.kind == REGISTERED))


def save(folder: Path, journal: Journal, companion: Companion, volume: Volume, by: str) -> Entry:
    """Write the voxels and the registration, then say so in the journal. Raises NoSeries, JournalBusy, CaseCorrupt."""
    ensure_name(companion.name)
    if companion.name in names(journal.entries()):
        raise NoSeries(f"this case has a series {companion.name!r} already; give another name")
    journal.lock()
    place = folder / "series"
    voxels, words = place / f"{companion.name}.nrrd", place / f"{companion.name}.json"
    try:
        place.mkdir(exist_ok=True)
        notes = {"osteotwin_about": dict(volume.about), "osteotwin_warnings": list(volume.warnings)}
        write_nrrd(voxels, volume.hu, volume.grid, packed=True, notes=notes)
        sync(voxels)
        replace_synced(words, pretty(companion.to_json()))
    except OSError as error:
        raise CaseCorrupt(f"the series could not be written ({error.strerror})", path=folder) from None
    hashes = {path.name: file_sha256(path) for path in (voxels, words)}
    return journal.append(by, REGISTERED, {"name": companion.name, "modality": companion.modality, "files": hashes})


def load(folder: Path, entries: Sequence[Entry], name: str) -> tuple[Companion, Volume]:
    """A scan and its registration, hashes checked. Raises NoSeries, CaseCorrupt."""
    entry = next((e for e in reversed(entries) if e.kind == REGISTERED and e.payload["name"] == name), None)
    if entry is None:
        raise NoSeries(
            f"no series {name!r} in this case; there are: {', '.join(names(entries)) or 'none'}", path=folder
        )
    found = _problems(folder, entry)
    if found:
        raise CaseCorrupt(found[0], path=folder / "series")
    companion = Companion.from_json(json.loads((folder / "series" / f"{name}.json").read_bytes()))
    values, grid, notes = read_nrrd(folder / "series" / f"{name}.nrrd")
    about = notes.get("osteotwin_about", {})
    return companion, Volume(grid, values, about, tuple(notes.get("osteotwin_warnings", ())))


def problems(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """What is wrong with the files of other scans: a line each."""
    latest = {str(e.payload["name"]): e for e in entries if e.kind == REGISTERED}
    return [line for entry in latest.values() for line in _problems(folder, entry)]


def ensure_name(name: str) -> None:
    """Raise NoSeries when a name can't become a file's."""
    if not is_safe(name):
        raise NoSeries(f"{name!r} can't be a series' name; letters, digits, _ - . are allowed")


def _problems(folder: Path, entry: Entry) -> list[str]:
    found = []
    for file, sha256 in entry.payload["files"].items():
        path = folder / "series" / file
        if not path.is_file():
            found.append(f"series/{file} is missing")
        elif file_sha256(path) != sha256:
            found.append(f"series/{file} has changed since it was registered (checksum)")
    return found
