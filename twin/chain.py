"""Where a journal's chain is broken, and by what: the line that was edited, lost, inserted, copied or moved.

`twin.journal.read` refuses a journal at the first line that does not follow. Here the lines around it are asked too:
the hash that the next line keeps of it, and the numbers of all others, tell which line it was. Somebody who writes the
whole rest anew, `journal.head` included, leaves a sound chain: against that helps only a hash that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twin.journal import GENESIS, Entry, parse

How = Literal["edited", "lost", "inserted", "copied", "moved", "truncated", "unreadable"]


@dataclass(frozen=True)
class Break:
    """The first line (counted from 1) that is not as it was written; for lost and cut-off ones the place of the gap."""

    line: int
    how: How
    words: str

    def to_json(self) -> dict[str, int | str]:
        """Its fields."""
        return {"line": self.line, "how": self.how, "words": self.words}


@dataclass(frozen=True, eq=False)
class Chain:
    """The entries up to the first break, and what broke there; `torn_bytes` of a last line that was never finished."""

    entries: tuple[Entry, ...]
    broken: Break | None
    torn_bytes: int

    def holds(self, sha256: str) -> bool:
        """Whether one of these entries has this hash."""
        return any(entry.sha256 == sha256 for entry in self.entries)


@dataclass(frozen=True, eq=False)
class _Line:
    entry: Entry | None
    sha256: str
    problem: str = ""


def read_chain(path: Path, head: tuple[int, str] | None) -> Chain:
    """Read a journal that may have been tampered with; `head` is the number and the hash of the last entry written."""
    *whole, tail = path.read_bytes().split(b"\n")
    lines = [_read(line) for line in whole]
    good: list[Entry] = []
    for n, line in enumerate(lines):
        follows = line.entry is not None and line.entry.seq == n
        if line.entry is None or not follows or line.entry.prev_sha256 != (lines[n - 1].sha256 if n else GENESIS):
            broken = _diagnosed(lines, n, head)
            return Chain(tuple(good[: broken.line - 1]), broken, len(tail))
        good.append(line.entry)
    return _against_head(tuple(good), head, len(tail))


def _against_head(good: tuple[Entry, ...], head: tuple[int, str] | None, torn: int) -> Chain:
    if head is None:
        return Chain(good, None, torn)
    seq, sha256 = head
    if seq >= len(good):
        gone = seq + 1 - len(good)
        words = f"the journal ends after line {len(good)}; {seq + 1} were written, the last {gone} are gone"
        return Chain(good, Break(len(good) + 1, "truncated", words), torn)
    if good[seq].sha256 != sha256:
        words = f"line {seq + 1} is not the one that was written last (journal.head)"
        return Chain(good[:seq], Break(seq + 1, "edited", words), torn)
    return Chain(good, None, torn)


def _read(line: bytes) -> _Line:
    sha256 = hashlib.sha256(line).hexdigest()
    try:
        return _Line(parse(line), sha256)
    except (ValueError, TypeError) as error:
        return _Line(None, sha256, str(error))


def _diagnosed(lines: Sequence[_Line], n: int, head: tuple[int, str] | None) -> Break:
    """What is wrong at the line of index `n`, the first that does not follow."""
    line, number = lines[n], n + 1
    before = lines[n - 1].sha256 if n else GENESIS
    if line.entry is None:
        if _follows(lines, n + 1, before):
            return Break(number, "inserted", f"line {number} was inserted and is no entry ({line.problem})")
        return Break(number, "unreadable", f"line {number} cannot be read ({line.problem}); it was edited")
    same = next((m for m, one in enumerate(lines) if m != n and one.sha256 == line.sha256), None)
    if same is not None:
        return Break(number, "copied", f"line {number} is a copy of line {same + 1}")
    later = next((m for m in range(n + 1, len(lines)) if lines[m].sha256 == line.entry.prev_sha256), None)
    if later is not None:
        words = f"line {number} stands out of its place: what it follows is in line {later + 1}"
        return Break(number, "moved", words)
    if _follows(lines, n + 1, before):
        return Break(number, "inserted", f"line {number} was inserted: line {number + 1} follows line {number - 1}")
    if n and line.entry.seq == n - 1 and line.entry.prev_sha256 == (lines[n - 2].sha256 if n > 1 else GENESIS):
        return Break(number - 1, "inserted", f"line {number - 1} was inserted: line {number} has its number and place")
    if line.entry.seq > n and line.entry.prev_sha256 != before:
        gone = line.entry.seq - n
        entries = "1 entry is" if gone == 1 else f"{gone} entries are"
        return Break(number, "lost", f"{entries} gone before line {number}, which was line {line.entry.seq + 1}")
    if line.entry.seq == n and n and _is_kept(lines, n, head):
        words = f"line {number - 1} was edited: line {number} keeps the hash of another"
        return Break(number - 1, "edited", words)
    return Break(number, "edited", f"line {number} was edited: it does not follow line {number - 1}")


def _follows(lines: Sequence[_Line], n: int, sha256: str) -> bool:
    """Whether the line of index `n` refers to this hash."""
    if n >= len(lines):
        return False
    entry = lines[n].entry
    return entry is not None and entry.prev_sha256 == sha256


def _is_kept(lines: Sequence[_Line], n: int, head: tuple[int, str] | None) -> bool:
    """Whether something that was written later vouches for the line of index `n`."""
    return _follows(lines, n + 1, lines[n].sha256) or (head is not None and head == (n, lines[n].sha256))
