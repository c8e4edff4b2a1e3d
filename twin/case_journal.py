"""The case's journal, and beside it a note of its last entry, so that an end which was cut off is noticed.

The chain proves that no entry inside was changed or lost, but a journal without its last lines is a sound chain too.
`journal.head` names the last entry; it is replaced after each append, so it may lag behind by one entry after a power
loss, and never runs ahead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from spatial.faults import Fault
from twin.anatomy.history import CORRECTED, UNCORRECTED
from twin.anatomy.renaming import RENAMED
from twin.durable import replace_synced
from twin.journal import Entry, Journal, JournalBroken, JournalBusy, JournalNotWritten, canonical_json, lock_file

JOURNAL = "journal.jsonl"
HEAD = "journal.head"


class LevelsChanged(Fault):
    """The bones are others, or have other names, than when this program opened the case."""


class CaseJournal(Journal):
    """The journal of a case folder: each append is noted in `journal.head`."""

    def __init__(self, folder: Path) -> None:
        """Open; verifies the chain and its end. Raises JournalBroken."""
        super().__init__(folder / JOURNAL)
        problem = end_problem(folder, self.entries())
        if problem:
            raise JournalBroken(problem, path=self.path)

    def _writable(self) -> IO[bytes]:
        """As `Journal` does; refused when another program gave the levels other names since this one read the case."""
        known = len(self.entries())
        file = super()._writable()
        if known and any(entry.kind in (RENAMED, CORRECTED, UNCORRECTED) for entry in self.entries()[known:]):
            self.close()
            raise LevelsChanged(
                "another program corrected the bones or their names; open the case again", path=self.path
            )
        return file

    def append(
        self,
        author: str,
        kind: str,
        payload: dict[str, Any],
        t_ns: int | None = None,
        entry_id: str | None = None,
    ) -> Entry:
        """As `Journal.append`; the note of the last entry follows."""
        entry = super().append(author, kind, payload, t_ns, entry_id)
        note = canonical_json({"seq": entry.seq, "sha256": entry.sha256}) + b"\n"
        try:
            replace_synced(self.path.with_name(HEAD), note)
        except BaseException as error:  # the entry stands, but who appends must not go on as if all were well
            with suppress(OSError):
                self.close()
            if isinstance(error, OSError):
                raise JournalNotWritten(f"{HEAD} could not be written ({error.strerror})", path=self.path) from None
            raise
        return entry


def head_note(folder: Path) -> tuple[int, str] | None:
    """Number and hash of the last entry as `journal.head` keeps them; None in an older case, which has no such note.

    Raises JournalBroken when the note can't be read.
    """
    try:
        note = json.loads((folder / HEAD).read_bytes())
        return int(note["seq"]), str(note["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalBroken(
            f"{HEAD} cannot be read ({type(error).__name__}); was it edited?", path=folder / HEAD
        ) from None


def end_problem(folder: Path, entries: Sequence[Entry]) -> str | None:
    """What is wrong with the journal's end, or None; a case without the note (an older one) can't tell."""
    try:
        note = head_note(folder)
    except JournalBroken as fault:
        return fault.message
    if note is None:
        return None
    seq, sha256 = note
    if seq >= len(entries):
        gone = seq + 1 - len(entries)
        return (
            f"the journal has {len(entries)} entries, {seq + 1} were written: the last {gone} are gone; "
            "restore journal.jsonl from a copy"
        )
    if entries[seq].sha256 != sha256:
        return f"entry {seq} is not the one that was written; restore journal.jsonl from a copy"
    return None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the journal of a case that is to be replaced, sound or not. Raises JournalBusy when somebody writes to it.

    On Windows, where an open file's folder can't be moved, this only looks.
    """
    path = folder / JOURNAL
    if not path.is_file():
        yield
        return
    file = path.open("r+b")
    try:
        try:
            lock_file(file)
        except OSError:
            raise JournalBusy("another program is writing to this case; close it first", path=path) from None
        if sys.platform == "win32":
            file.close()
        yield
    finally:
        file.close()
