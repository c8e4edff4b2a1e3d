"""The one log: chained, recovered after a torn write, refused after tampering."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.journal import (
    GENESIS,
    Journal,
    JournalBroken,
    JournalBusy,
    JournalNotWritten,
    NotJson,
    canonical_json,
    parse,
)

ROOT = Path(__file__).resolve().parents[2]
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def filled(path, count=5):
    with Journal(path) as journal:
        for i in range(count):
            journal.append("surgeon", "place_screw", {"length_mm": 45.0 + i}, t_ns=i)
    return path


@given(st.dictionaries(st.text(), values))
def test_an_entry_reads_back_to_the_same_bytes(payload):
    line = canonical_json(payload)
    assert canonical_json(json.loads(line)) == line


def test_entries_chain_and_read_back(tmp_path):
    entries = Journal(filled(tmp_path / "journal.jsonl")).entries()
    assert [e.seq for e in entries] == [0, 1, 2, 3, 4]
    assert entries[0].prev_sha256 == GENESIS
    assert all(b.prev_sha256 == a.sha256 for a, b in pairwise(entries))
    assert parse(entries[2].line()) == entries[2]


def test_a_torn_tail_is_set_aside_and_writing_goes_on(tmp_path):
    path = filled(tmp_path / "journal.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    journal = Journal(path)
    assert len(journal.entries()) == 4
    assert journal.recovered_bytes > 0
    with journal:
        journal.append("surgeon", "place_screw", {})
    assert path.with_suffix(".torn").read_bytes()
    assert len(Journal(path).entries()) == 5


@pytest.mark.parametrize("damage", ["change", "drop", "swap", "append"])
def test_tampering_is_refused_with_the_line(tmp_path, damage):
    path = filled(tmp_path / "journal.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "change":
        lines[2] = lines[2].replace(b"47.0", b"99.0")
    elif damage == "drop":
        del lines[2]
    elif damage == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    else:
        lines.append(lines[0])
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalBroken, match=r"line \d"):
        Journal(path)


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("a", "k", {})
        other = Journal(path)
        with pytest.raises(JournalBusy):
            other.append("b", "k", {})


def test_a_killed_writer_leaves_every_acknowledged_entry(tmp_path):
    path = tmp_path / "journal.jsonl"
    program = (
        "import sys, os; from pathlib import Path; from twin.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]))\n"
        "for i in range(10**6): print(j.append('a', 'k', {'i': i}).seq, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, cwd=ROOT) as child:
        seen = [int(child.stdout.readline()) for _ in range(50)]
        child.kill()
        seen += [int(line) for line in child.stdout.read().split()]
    assert len(Journal(path).entries()) >= len(seen)


def test_what_json_cannot_hold_is_refused(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(NotJson):
        journal.append("a", "k", {"x": float("nan")})


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "No space left"), JournalNotWritten), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_failed_write_never_spoils_the_next_one(tmp_path, monkeypatch, error, raised):
    """Whether the line had arrived before the failure or not, the chain holds and the case can be written again."""
    journal = Journal(filled(tmp_path / "j.jsonl"))
    with monkeypatch.context() as patch:

        def fail(_handle):
            raise error

        patch.setattr("twin.journal.os.fsync", fail)
        with pytest.raises(raised):
            journal.append("a", "k", {"try": 1})
    journal.append("a", "k", {"try": 2})
    journal.close()
    assert Journal(journal.path).entries() == journal.entries()


def test_the_lock_shows_what_another_wrote_before(tmp_path):
    path = filled(tmp_path / "j.jsonl")
    late = Journal(path)
    with Journal(path) as journal:
        journal.append("a", "k", {})
        with pytest.raises(JournalBusy):
            late.lock()
    with late.lock():
        assert len(late.entries()) == 6


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalNotWritten):
        Journal(tmp_path / "file" / "j.jsonl").append("a", "k", {})
