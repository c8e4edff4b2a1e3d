"""The one log of the product: hash-chained canonical JSON lines, flushed to disk before anyone is told "done".

An entry is `{seq, id, author, t_ns, kind, payload, prev_sha256}`; the hash of a line is over its exact bytes without
the line end. A torn tail (power loss in the middle of a line) is moved aside and reported; a broken chain is a Fault.
Appending is the only write: undo is an event too. Who decides from the entries what to write takes the
`lock` first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from spatial.faults import Fault

GENESIS = "0" * 64


class JournalBroken(Fault):
    """A line that does not follow from the one before: changed, lost or inserted by another program."""


class JournalBusy(Fault):
    """Another process is writing to this case."""


class JournalNotWritten(Fault):
    """The disk did not take an entry: it is full, gone or write-protected."""


class NotJson(Fault):
    """A value that no JSON document can hold: NaN, infinity, an object of Python's."""


def canonical_json(value: Any) -> bytes:
    """One byte string a value: sorted keys, no spaces, UTF-8, shortest round-trip floats; NaN and infinity are refused.

    The form is RFC 8785's in spirit; floats follow Python's repr, so the reader must be Python or parse doubles
    exactly.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise NotJson(f"a value cannot be written as JSON: {error}") from None
    return text.encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: who, when (integer ns), what kind, with what outcome, and what it follows."""

    seq: int
    id: str
    author: str
    t_ns: int
    kind: str
    payload: dict[str, Any]
    prev_sha256: str

    def line(self) -> bytes:
        """The exact bytes in the file, without the line end."""
        return canonical_json({name: getattr(self, name) for name in self.__slots__})

    @property
    def sha256(self) -> str:
        """The hash that the next entry refers to."""
        return hashlib.sha256(self.line()).hexdigest()


def parse(line: bytes) -> Entry:
    """Read one line; raises ValueError when it is not an entry in canonical form."""
    value = json.loads(line)
    if not isinstance(value, dict) or set(value) != set(Entry.__slots__):
        raise ValueError("not a journal entry")
    entry = Entry(**value)
    if entry.line() != line:
        raise ValueError("not in canonical form")
    return entry


class Journal:
    """An append-only file of entries. Open it once a process; a second writer is refused."""

    def __init__(self, path: Path) -> None:
        """Open or create; verifies the whole chain and recovers a torn tail. Raises JournalBroken."""
        self.path = path
        self.recovered_bytes = 0
        self._file: IO[bytes] | None = None
        self._entries: list[Entry] = []
        if path.exists():
            self._entries, good = read(path)
            self.recovered_bytes = path.stat().st_size - good

    def __enter__(self) -> Journal:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @property
    def head_sha256(self) -> str:
        """Hash of the last entry; zeros for an empty journal."""
        return self._entries[-1].sha256 if self._entries else GENESIS

    def entries(self) -> tuple[Entry, ...]:
        """Everything so far, in order."""
        return tuple(self._entries)

    def append(
        self,
        author: str,
        kind: str,
        payload: dict[str, Any],
        t_ns: int | None = None,
        entry_id: str | None = None,
    ) -> Entry:
        """Write one entry and wait until it is on the disk.

        Raises JournalBusy when another process writes, JournalNotWritten, and NotJson for the payload.
        """
        file = self._writable()
        entry = Entry(
            seq=len(self._entries),
            id=entry_id or uuid.uuid4().hex,
            author=author,
            t_ns=time.time_ns() if t_ns is None else t_ns,
            kind=kind,
            payload=json.loads(canonical_json(payload)),
            prev_sha256=self.head_sha256,
        )
        line = entry.line() + b"\n"
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except BaseException as error:  # Ctrl-C too: nobody knows how much arrived, so the next append reads it anew
            with suppress(OSError):  # closing flushes, which fails again
                self.close()
            if isinstance(error, OSError):
                raise JournalNotWritten(f"the entry could not be written ({error.strerror})", path=self.path) from None
            raise
        self._entries.append(entry)
        return entry

    def lock(self) -> Journal:
        """Take the writer's lock now: what is read after this stays true until `close`.

        Raises JournalBusy, JournalNotWritten.
        """
        self._writable()
        return self

    def close(self) -> None:
        """Release the file and its lock."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _writable(self) -> IO[bytes]:
        if self._file is not None:
            return self._file
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab")
        except OSError as error:
            raise JournalNotWritten(f"cannot be opened for writing ({error.strerror})", path=self.path) from None
        try:
            lock_file(file)
        except OSError:
            file.close()
            raise JournalBusy("another program is writing to this case; close it first", path=self.path) from None
        try:
            self._entries, good = read(self.path)  # someone may have appended between reading and locking
            torn = self.path.read_bytes()[good:]
            if torn:
                self.path.with_suffix(".torn").write_bytes(torn)
                file.truncate(good)
        except BaseException:
            file.close()
            raise
        self._file = file
        return file


def read(path: Path) -> tuple[list[Entry], int]:
    """All entries and the byte count of the intact part; only a last line without an end may be torn.

    Raises JournalBroken naming the first line that does not follow.
    """
    entries: list[Entry] = []
    good, previous = 0, GENESIS
    data = path.read_bytes()
    for number, line in _lines(data):
        try:
            entry = parse(line)
        except (ValueError, TypeError) as error:
            raise JournalBroken(f"line {number} cannot be read ({error}); was the file edited?", path=path) from None
        if entry.seq != len(entries) or entry.prev_sha256 != previous:
            raise JournalBroken(
                f"line {number} does not follow line {number - 1}: an entry was changed, lost or inserted",
                path=path,
            )
        previous = entry.sha256
        entries.append(entry)
        good += len(line) + 1
    return entries, good


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    *whole, _tail = data.split(b"\n")
    yield from enumerate(whole, start=1)


def lock_file(file: IO[bytes]) -> None:
    """Take the writer's lock; the operating system frees it when the process ends. Raises OSError when it is taken."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
