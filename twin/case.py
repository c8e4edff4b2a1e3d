"""The case folder: one patient twin on disk, with its plans and its journal; no identifiers.

`case.json` lists every built file with its hash and is replaced last; the journal's first entry names the hash of that
list, and each saved plan is an entry with its hash, so the chain guards what changes later. A new case is built beside
its place and moved there in one step: a folder that exists is a whole case.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from spatial.faults import Fault
from spatial.progress import Progress, silent
from twin.anatomy.twin import Twin
from twin.case_files import (
    JOURNAL,
    CaseCorrupt,
    CaseExists,
    NoPlan,
    NoVoxels,
    confirmed_by,
    file_sha256,
    files_sha256,
    plan_problem,
    pretty,
    read_document,
    read_twin,
    sha256_of,
    sync,
    write_case,
    write_synced,
)
from twin.journal import Entry, Journal, canonical_json, read
from twin.scan.names import is_safe
from twin.scan.nrrd import read_nrrd
from twin.scan.volume import LabelMap, Volume


class Case:
    """An opened case: `twin` in memory, CT and labels on demand, plans and journal.

    The first change takes the writer's lock, which lasts until `close` (or the end of a `with` block).
    """

    def __init__(self, folder: Path, document: Mapping[str, Any], twin: Twin, journal: Journal) -> None:
        """Use `Case.open` or `Case.create`."""
        self.folder, self.document, self.twin, self.journal = folder, document, twin, journal

    @classmethod
    def ensure_free(cls, folder: Path, *, replace: bool = False) -> None:
        """Raise CaseExists unless a case can be made here; ask before a long build."""
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not (folder / "case.json").is_file():
            raise CaseExists("the folder is not empty and is no case; choose another name", path=folder)
        if not replace:
            raise CaseExists(
                "there is a case here already; --force replaces it with its plans and journal", path=folder
            )

    @classmethod
    def create(
        cls,
        folder: Path,
        twin: Twin,
        volume: Volume | None,
        labels: LabelMap | None,
        provenance: Sequence[Mapping[str, Any]] = (),
        *,
        replace: bool = False,
        author: str = "osteotwin",
        progress: Progress = silent,
    ) -> Case:
        """Write a whole case; on failure or Ctrl-C nothing is left and an old case stays. Raises CaseExists.

        `provenance` steps (the scan's) are put before the twin's own.
        """
        cls.ensure_free(folder, replace=replace)
        folder = folder.absolute()
        building = folder.with_name(f".{folder.name}.building-{os.getpid()}")
        retired = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
        try:
            shutil.rmtree(building, ignore_errors=True)
            (building / "bones").mkdir(parents=True)
            (building / "plans").mkdir()
            write_case(building, twin, volume, labels, provenance, author, progress)
            cls.ensure_free(folder, replace=replace)  # another program may have made a case here since
            if folder.exists() and any(folder.iterdir()):
                folder.rename(retired)
            elif folder.exists():
                folder.rmdir()
            building.rename(folder)
            sync(folder.parent)
        except OSError as error:
            raise CaseCorrupt(f"the case could not be written ({error.strerror})", path=folder) from None
        finally:
            if retired.exists() and not folder.exists():
                retired.rename(folder)
            shutil.rmtree(building, ignore_errors=True)
            shutil.rmtree(retired, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Case:
        """Read a case: schema, journal chain, hashes of bones and landmarks. Raises NoCase, CaseCorrupt, JournalBroken.

        The CT and the labels are checked when they are read.
        """
        document = read_document(folder)
        journal = Journal(folder / JOURNAL)
        twin = read_twin(folder, document, journal.entries())
        for name in document["files"]:
            if not (folder / name).is_file():
                raise CaseCorrupt(f"{name} is missing from the case", path=folder)
        return cls(folder, document, twin, journal)

    def __enter__(self) -> Case:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the journal."""
        self.close()

    def close(self) -> None:
        """Release the journal and its lock; the case can still be read."""
        self.journal.close()

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Built files and their SHA-256."""
        return dict(self.document["files"])

    @property
    def has_volume(self) -> bool:
        """Whether there is a CT."""
        return "ct.nrrd" in self.files

    def volume(self) -> Volume:
        """The CT, its hash checked. Raises NoVoxels, CaseCorrupt."""
        values, grid, notes = self._voxels("ct.nrrd", "CT")
        return Volume(grid, values, notes.get("osteotwin_about", {}), tuple(notes.get("osteotwin_warnings", ())))

    def labels(self) -> LabelMap:
        """The label map, its hash checked. Raises NoVoxels, CaseCorrupt."""
        values, grid, notes = self._voxels("labels.nrrd", "label map")
        return LabelMap(grid, values, {int(n): name for n, name in notes["osteotwin_names"].items()})

    @property
    def plan_names(self) -> tuple[str, ...]:
        """The saved plans, by name."""
        return tuple(sorted(p.stem for p in (self.folder / "plans").glob("*.json") if not p.name.startswith(".")))

    def load_plan(self, name: str) -> dict[str, Any]:
        """A plan as it was saved, its hash and its age checked against the journal. Raises NoPlan, CaseCorrupt."""
        path = self._plan_path(name)
        if not path.is_file():
            known = ", ".join(self.plan_names) or "none yet"
            raise NoPlan(f"no plan {name!r} in this case; there are: {known}", path=self.folder)
        problem = plan_problem(path, self.journal.entries(), self.twin.twin_id)
        if problem:
            raise CaseCorrupt(problem, path=path)
        value: dict[str, Any] = json.loads(path.read_bytes())
        return value

    def save_plan(self, name: str, plan: Mapping[str, Any], author: str = "osteotwin") -> Entry:
        """Save a plan (its `twin_id` is set) and note it in the journal. Raises NoPlan, JournalBusy, CaseCorrupt."""
        path = self._plan_path(name)
        if plan.get("twin_id", self.twin.twin_id) != self.twin.twin_id:
            raise CaseCorrupt(f"plan {name!r} was made on another twin", path=path)
        data = canonical_json({**plan, "twin_id": self.twin.twin_id}) + b"\n"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write_synced(temporary, data)
            entry = self.journal.append(author, "plan_saved", {"name": name, "sha256": sha256_of(data)})
            temporary.replace(path)
            sync(path.parent)
        except OSError as error:
            raise CaseCorrupt(f"the plan could not be saved ({error.strerror})", path=path) from None
        finally:
            temporary.unlink(missing_ok=True)
        return entry

    def confirm_levels(self, by: str) -> Entry:
        """Note that a person confirmed the level names: the journal first, then case.json. Raises JournalBusy."""
        names = sorted(n for n in self.twin.bones if n.startswith("vertebrae_") or n == "sacrum")
        entry = self.journal.append(by, "levels_confirmed", {"levels": names, "by": by})
        self.document = {**self.document, "levels": {**self.document["levels"], "confirmed_by": by}}
        temporary = self.folder / f".case.json.{os.getpid()}"
        try:
            write_synced(temporary, pretty(self.document))
            temporary.replace(self.folder / "case.json")
            sync(self.folder)
        except OSError as error:
            raise CaseCorrupt(f"case.json could not be written ({error.strerror})", path=self.folder) from None
        finally:
            temporary.unlink(missing_ok=True)
        self.twin = read_twin(self.folder, self.document, self.journal.entries())
        return entry

    def check(self) -> list[str]:
        """Everything that can be checked, the CT's hash included: a line a problem, empty when the case is sound."""
        return check_case(self.folder)

    def _voxels(self, name: str, what: str) -> tuple[Any, Any, dict[str, Any]]:
        if name not in self.files:
            raise NoVoxels(f"this twin has no {what}: it was made from surfaces", path=self.folder)
        path = self.folder / name
        if file_sha256(path) != self.files[name]:
            raise CaseCorrupt(f"{name} has changed since the case was built (checksum)", path=path)
        return read_nrrd(path)

    def _plan_path(self, name: str) -> Path:
        if not is_safe(name):
            raise NoPlan(f"{name!r} can't be a plan's name; letters, digits, _ - . are allowed")
        return self.folder / "plans" / f"{name}.json"


def check_case(folder: Path) -> list[str]:
    """Check schema, every checksum, the journal's chain, plans and stray files; a line a problem. Raises NoCase."""
    try:
        document = read_document(folder)
    except CaseCorrupt as fault:
        return [fault.message]
    problems: list[str] = []
    entries: list[Entry] = []
    try:
        entries, good = read(folder / JOURNAL)
        if good < (folder / JOURNAL).stat().st_size:
            problems.append("the journal's last line is torn (it is moved aside at the next change)")
    except (Fault, OSError) as error:
        problems.append(error.message if isinstance(error, Fault) else f"{JOURNAL} cannot be read ({error.strerror})")
    for name, sha256 in document["files"].items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != sha256:
            problems.append(f"{name} has changed since the case was built (checksum)")
    if entries and not problems:
        built = next((e.payload for e in entries if e.kind == "case_built"), {})
        if built.get("files_sha256") != files_sha256(document["files"]) or built.get("twin_id") != document["twin_id"]:
            problems.append("case.json lists other files than the journal says were built")
    confirmed = confirmed_by(entries)
    if entries and confirmed != document["levels"].get("confirmed_by"):
        problems.append(
            f"levels confirmed by {document['levels'].get('confirmed_by')} in case.json, by {confirmed} in the journal"
        )
    for path in sorted((folder / "plans").glob("*.json")):
        problem = None if path.name.startswith(".") else plan_problem(path, entries, document["twin_id"])
        if problem:
            problems.append(problem)
    saved = {e.payload.get("name") for e in entries if e.kind == "plan_saved"}
    problems += [
        f"plan {n} is missing" for n in sorted(map(str, saved)) if not (folder / "plans" / f"{n}.json").is_file()
    ]
    known = {*document["files"], "case.json", JOURNAL}
    for path in sorted((folder / "bones").glob("*")):
        if f"bones/{path.name}" not in known:
            problems.append(f"bones/{path.name} does not belong to the case")
    return problems
