"""The case folder: one patient twin on disk, with its plans and its journal; no identifiers.

`case.json` lists every built file with its hash and is replaced last; the journal's first entry names its hash, and
each saved plan is an entry with its hash, so the chain guards what changes later. A new case is built beside its place
and moved there in one step: a folder that exists is a whole case. Whoever only reads never writes: an older schema is
read in today's words, and becomes so on the disk when somebody asks for it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from glob import escape as glob_escape
from pathlib import Path
from typing import Any

from spatial.progress import Progress, silent
from twin.anatomy.renaming import RENAMED, composed, ensure_sound, renamed_labels
from twin.anatomy.twin import Twin
from twin.case_check import CHANGED, document_state
from twin.case_check import check_case as check_case
from twin.case_document import CASE, CaseCorrupt, built_sha256, pretty, read_document
from twin.case_files import CONFIRMED, CaseExists, NoPlan, NoVoxels, plan_problem, read_twin, write_case
from twin.case_journal import CaseJournal, only_writer
from twin.durable import exchange, file_sha256, held, is_abandoned, replace_synced, sha256_of, sync, write_synced
from twin.journal import Entry, canonical_json
from twin.migration import SCHEMA
from twin.plan.edits import fold
from twin.scan.names import is_safe
from twin.scan.nrrd import read_nrrd
from twin.scan.volume import LabelMap, Volume


class Case:
    """An opened case: `twin` in memory, CT and labels on demand, plans and journal.

    The first change takes the writer's lock, which lasts until `close` (or the end of a `with` block).
    """

    def __init__(
        self, folder: Path, document: Mapping[str, Any], stored: Mapping[str, Any], twin: Twin, journal: CaseJournal
    ) -> None:
        """Use `Case.open` or `Case.create`. `document` is in today's schema, `stored` as case.json has it."""
        self.folder, self.document, self.stored, self.twin, self.journal = folder, document, stored, twin, journal

    @classmethod
    def ensure_free(cls, folder: Path, *, replace: bool = False) -> None:
        """Raise CaseExists or JournalBusy unless a case can be made here; ask before a long build."""
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not (folder / "case.json").is_file():
            raise CaseExists("the folder is not empty and is no case; choose another name", path=folder)
        if not replace:
            raise CaseExists(
                "there is a case here already; --force replaces it with its plans and journal", path=folder
            )
        with only_writer(folder):
            pass

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
        clear_abandoned(folder)
        building = folder.with_name(f".{folder.name}.building-{os.getpid()}")
        retired = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
        try:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            with held(building):
                write_case(building, twin, volume, labels, provenance, author, progress)
                cls.ensure_free(folder, replace=replace)  # another program may have made a case here since
                _move_in(building, folder, retired)
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
        """Read a case: schema, journal chain, hashes of bones and landmarks.

        Raises NoCase, CaseCorrupt, NewerCase, JournalBroken.

        The CT and the labels are checked when they are read.
        """
        document, stored = read_document(folder)
        journal = CaseJournal(folder)
        if stored["schema"] == SCHEMA and document_state(document, journal.entries()) == "changed":
            raise CaseCorrupt(CHANGED, path=folder / CASE)
        twin = read_twin(folder, document, journal.entries())
        for name in document["files"]:
            if not (folder / name).is_file():
                raise CaseCorrupt(f"{name} is missing from the case", path=folder)
        return cls(folder, document, stored, twin, journal)

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
        warnings = tuple(notes.get("osteotwin_warnings", ()))
        return Volume(grid, values, notes.get("osteotwin_about", {}), warnings, self.twin.fitness)

    def labels(self) -> LabelMap:
        """The label map, its hash checked. Raises NoVoxels, CaseCorrupt."""
        values, grid, notes = self._voxels("labels.nrrd", "label map")
        built = LabelMap(grid, values, {int(n): name for n, name in notes["osteotwin_names"].items()})
        return renamed_labels(built, composed(self.journal.entries()))

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
        entry = self.journal.append(by, CONFIRMED, {"levels": _level_names(self.twin), "by": by})
        self._store_levels(by)
        return entry

    def rename_levels(self, renamed: Mapping[str, str], by: str) -> Entry:
        """Give levels the names that a person says are right, which confirms them; plans stay on their bones.

        One entry of the journal is the change: bones, landmarks, labels, structures and plans follow from it. An older
        case is migrated first: its program would show the old names. Raises BadLevelNames, JournalBusy.
        """
        self.journal.lock()
        renamed = {old: new for old, new in renamed.items() if old != new}
        ensure_sound(self.twin, renamed)
        self.migrate(by)
        after = sorted(renamed.get(name, name) for name in _level_names(self.twin))
        entry = self.journal.append(by, RENAMED, {"renamed": renamed, "levels": after, "by": by})
        self._store_levels(by)
        for name in self.plan_names:
            plan, _skipped = fold(self.journal.entries(), name, self.twin.twin_id)
            self.save_plan(name, plan.to_json(), by)
        return entry

    def _store_levels(self, by: str) -> None:
        """What the journal says of the levels, for whoever reads case.json alone."""
        names = composed(self.journal.entries())
        levels = {**self.stored["levels"], "confirmed_by": by, **({"renamed": names} if names else {})}
        if not names:
            levels.pop("renamed", None)
        self._store({**self.stored, "levels": levels})

    def migrate(self, author: str = "osteotwin") -> Entry | None:
        """Bring case.json to today's schema on the disk, noted in the journal; None when it is there already."""
        self.journal.lock()
        self._reload()
        if self.stored["schema"] == SCHEMA:
            return None
        about = {"from": self.stored["schema"], "to": SCHEMA, "built_sha256": built_sha256(self.document)}
        entry = self.journal.append(author, "case_migrated", about)
        self._store(self.document)
        return entry

    def refreshed(self) -> Twin:
        """The twin as the journal's last entry leaves it."""
        self._reload()
        return self.twin

    def _reload(self) -> None:
        """Read case.json and the twin again: another program may have changed them before the lock was ours."""
        self.document, self.stored = read_document(self.folder)
        self.twin = read_twin(self.folder, self.document, self.journal.entries())

    def _store(self, document: Mapping[str, Any]) -> None:
        """Replace case.json, and read the twin anew from it."""
        try:
            replace_synced(self.folder / CASE, pretty(document))
        except OSError as error:
            raise CaseCorrupt(f"case.json could not be written ({error.strerror})", path=self.folder) from None
        self._reload()

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

    @staticmethod
    def ensure_plan_name(name: str) -> None:
        """Raise NoPlan for a name that can't be a plan's."""
        if not is_safe(name):
            raise NoPlan(f"{name!r} can't be a plan's name; letters, digits, _ - . are allowed")

    def _plan_path(self, name: str) -> Path:
        self.ensure_plan_name(name)
        return self.folder / "plans" / f"{name}.json"


def _level_names(twin: Twin) -> list[str]:
    return sorted(name for name in twin.bones if name.startswith("vertebrae_") or name == "sacrum")


def clear_abandoned(folder: Path) -> None:
    """Remove what killed builds left beside a case; put an old case back that was moved aside and not replaced."""
    for kind in ("building", "replaced"):
        for left in sorted(folder.parent.glob(f".{glob_escape(folder.name)}.{kind}-*")):
            if not is_abandoned(left):
                continue
            if kind == "replaced" and not folder.exists():
                left.rename(folder)
                sync(folder.parent)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _move_in(building: Path, folder: Path, retired: Path) -> None:
    """Give the new case its name; an old one goes aside in the same step where the system can do that."""
    if not folder.exists():
        building.rename(folder)
    elif not any(folder.iterdir()):
        folder.rmdir()
        building.rename(folder)
    else:
        with only_writer(folder):
            if exchange(building, folder):
                building.rename(retired)
            else:
                folder.rename(retired)
                building.rename(folder)
    sync(folder.parent)
