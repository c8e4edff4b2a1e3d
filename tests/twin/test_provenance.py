"""What a case says of where it came from: inputs by their bytes, settings without identifiers, the program."""

from __future__ import annotations

import hashlib
import json
from datetime import date

import pytest

from tests.twin.test_case import twin, volume
from twin.case import Case
from twin.inputs import NoInput, input_sha256
from twin.program import program
from twin.recipe import Recipe


def test_a_folder_is_its_files_bytes_whatever_they_are_called(tmp_path):
    for folder, names in (("a", ("Doe^John.dcm", "2.dcm")), ("b", ("x", "sub/y"))):
        for name, data in zip(names, (b"one", b"two"), strict=True):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    a, b = input_sha256(tmp_path / "a"), input_sha256(tmp_path / "b")
    assert a == b
    assert (a["files"], a["bytes"]) == (2, 6)
    assert input_sha256(tmp_path / "b/x")["sha256"] == hashlib.sha256(b"one").hexdigest()
    (tmp_path / "b/x").write_bytes(b"One")
    assert input_sha256(tmp_path / "b")["sha256"] != a["sha256"]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "absent"):
        with pytest.raises(NoInput):
            input_sha256(tmp_path / nothing)


def test_settings_hold_no_identifier_and_tell_rows_apart(tmp_path):
    recipe = Recipe(tmp_path / "Doe^John", series="1.2.840.113619.2.55.3", surgery_since=date(2026, 3, 1))
    words = json.dumps(recipe.settings())
    assert "Doe" not in words
    assert "1.2.840" not in words
    assert "2026-03-01" in words
    assert Recipe(tmp_path).settings() != Recipe(tmp_path, segmenter="totalsegmentator").settings()


def test_a_case_knows_its_program_and_its_inputs(tmp_path):
    case = Case.create(
        tmp_path / "case", twin(), volume(), None, [{"step": "source", "inputs_sha256": {"source": "0" * 64}}]
    )
    assert case.document["program"] == program()
    assert program()["version"]
    built = case.journal.entries()[0]
    assert built.payload["program"] == program()
    assert [step["step"] for step in case.twin.provenance][:2] == ["scan", "source"]


def test_a_finished_row_is_known_by_its_bytes_and_settings(tmp_path):
    source = tmp_path / "ct.nii"
    source.write_bytes(b"voxels")
    recipe = Recipe(source)
    step = {"step": "source", "settings": recipe.settings(), "inputs_sha256": recipe.inputs_sha256()}
    Case.create(tmp_path / "case", twin(), None, None, [step])
    assert recipe.is_done(tmp_path / "case")
    assert not recipe.is_done(tmp_path / "other")
    assert not Recipe(source, segmenter="totalsegmentator").is_done(tmp_path / "case")
    source.write_bytes(b"Voxels")
    assert not recipe.is_done(tmp_path / "case")
