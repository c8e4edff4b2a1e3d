"""Older and newer cases, an edited case.json, a journal whose end is gone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.twin.schema_1 import write_schema_1
from tests.twin.test_case import labels, twin, volume
from twin.case import Case, check_case
from twin.case_files import CaseCorrupt
from twin.journal import JournalBroken
from twin.migration import SCHEMA, NewerCase, UnknownSchema, migrated


@pytest.fixture
def old(tmp_path):
    write_schema_1(tmp_path / "old", twin(), volume(), labels())
    return tmp_path / "old"


def tree(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_older_case_is_read_as_it_was_built_and_not_touched(old):
    before = tree(old)
    opened = Case.open(old)
    assert opened.document["schema"] == SCHEMA
    assert opened.stored["schema"] == 1
    found = opened.twin
    assert (found.levels.confidence, found.levels.evidence, found.levels.transitional) == (0.75, (), None)
    assert (found.structures, found.fitness, found.sides, found.surface_sd_mm) == ({}, None, (), None)
    assert np.array_equal(found.bones["sacrum"].surface.vertices_mm, twin().bones["sacrum"].surface.vertices_mm)
    assert np.array_equal(opened.volume().hu, volume().hu)
    assert any("older version" in warning for warning in found.warnings)
    assert check_case(old) == []
    assert tree(old) == before


def test_an_older_case_lives_on_in_its_schema(old):
    with Case.open(old) as opened:
        opened.save_plan("main", {"screws": []})
        opened.confirm_levels("Dr Ada")
    assert json.loads((old / "case.json").read_text())["schema"] == 1
    assert check_case(old) == []
    assert Case.open(old).twin.levels.confirmed_by == "Dr Ada"


def test_migration_changes_case_json_alone_and_is_noted(old):
    with Case.open(old) as opened:
        opened.save_plan("main", {"screws": []})
        opened.confirm_levels("Dr Ada")
    before = tree(old)
    with Case.open(old) as opened:
        entry = opened.migrate("Grace")
        assert (entry.kind, entry.author) == ("case_migrated", "Grace")
        assert (entry.payload["from"], entry.payload["to"]) == (1, SCHEMA)
        assert opened.migrate() is None
    after = tree(old)
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed == {"case.json", "journal.jsonl", "journal.head"}
    assert json.loads((old / "case.json").read_text())["schema"] == SCHEMA
    assert check_case(old) == []
    opened = Case.open(old)
    assert opened.twin.levels.confirmed_by == "Dr Ada"
    assert opened.load_plan("main")["screws"] == []


def test_a_migration_that_was_stopped_leaves_the_old_case(old, monkeypatch):
    def stopped(path, data):
        raise KeyboardInterrupt

    monkeypatch.setattr("twin.case.replace_synced", stopped)
    with pytest.raises(KeyboardInterrupt), Case.open(old) as opened:
        opened.migrate()
    monkeypatch.undo()
    assert Case.open(old).stored["schema"] == 1
    with Case.open(old) as opened:
        assert opened.migrate() is not None
    assert check_case(old) == []


def test_a_newer_case_is_refused(tmp_path):
    Case.create(tmp_path / "case", twin(), None, None)
    path = tmp_path / "case/case.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))
    with pytest.raises(NewerCase, match="schema 3, this program reads up to 2") as caught:
        Case.open(tmp_path / "case")
    assert caught.value.exit_code == 1
    assert check_case(tmp_path / "case") == [caught.value.message]
    for schema in (0, -1, 1.5, True, "2", None):
        with pytest.raises(UnknownSchema):
            migrated({"schema": schema})


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["fitness"]["guide"].update(fit=True),
        lambda d: d["levels"].update(confidence=0.99),
        lambda d: d["structures"]["canal"].update(role="context"),
        lambda d: d["density"].update(kind="qct"),
        lambda d: d.update(surface_sd_mm=0.01),
        lambda d: d["provenance"].pop(),
    ],
)
def test_an_edited_case_json_is_noticed(tmp_path, edit):
    Case.create(tmp_path / "case", twin(), None, None)
    path = tmp_path / "case/case.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    assert check_case(tmp_path / "case") == ["case.json has changed since the case was built (checksum)"]
    with pytest.raises(CaseCorrupt, match="checksum"):
        Case.open(tmp_path / "case")


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_journal_without_its_end_is_noticed(tmp_path, kept):
    with Case.create(tmp_path / "case", twin(), None, None) as case:
        case.save_plan("main", {"screws": []})
        case.journal.append("Ada", "rehearsed", {"log": "x"})  # nothing else in the case knows of this entry
    journal = tmp_path / "case/journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(b"".join(lines[:kept]))
    assert any(f"the last {3 - kept} are gone" in p for p in check_case(tmp_path / "case"))
    with pytest.raises(JournalBroken, match="are gone"):
        Case.open(tmp_path / "case")


def test_the_note_of_the_last_entry_may_lag_but_not_vanish(tmp_path):
    with Case.create(tmp_path / "case", twin(), None, None) as case:
        before = (case.folder / "journal.head").read_bytes()
        case.journal.append("Ada", "rehearsed", {"log": "x"})
    (tmp_path / "case/journal.head").write_bytes(before)  # the power went before the note was on the disk
    assert check_case(tmp_path / "case") == []
    (tmp_path / "case/journal.head").unlink()
    assert any("journal.head is missing" in problem for problem in check_case(tmp_path / "case"))
    (tmp_path / "case/journal.head").write_text("{}")
    with pytest.raises(JournalBroken, match=r"journal\.head cannot be read"):
        Case.open(tmp_path / "case")
