"""A person corrects the level names: everything follows by one event, and the built files stay as they are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points
from tests.twin.schema_1 import write_schema_1
from tests.twin.test_case import CORNERS, FACES, GRID
from tests.twin.test_case import twin as small_twin
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.renaming import BadLevelNames, renamed_words, shifted
from twin.anatomy.structure import Structure
from twin.anatomy.twin import Levels
from twin.case import Case, check_case
from twin.case_journal import LevelsChanged
from twin.plan.edits import Edit, fold
from twin.plan.plan import Plan
from twin.plan.screws.screw import Screw
from twin.plan.undoing import UNDO
from twin.scan.volume import LabelMap

LUMBAR = [f"vertebrae_L{n}" for n in range(1, 6)]


def bone_at(name, z_mm):
    return Bone(name, TriangleMesh[Patient](CORNERS + np.array([0.0, 0.0, z_mm]), FACES))


def spine():
    names = ["sacrum", *LUMBAR[::-1]]
    bones = {name: bone_at(name, 30.0 * n) for n, name in enumerate(names)}
    marks = tuple(
        Landmark("pedicle_left", name, "left", Points[Patient]([0, 0, 30.0 * n]), None, 0.5)
        for n, name in enumerate(names)
    )
    density = {"calibrated": False, "bodies": {name: {"mean_hu": 100.0 + n} for n, name in enumerate(names)}}
    disc = Structure("disc_L4_L5", "context", bones["vertebrae_L4"].surface, "discs.nii.gz")
    return replace(
        small_twin(), bones=bones, landmarks=marks, levels=Levels(0.8, None, ("the sacrum is seen",)),
        density=density, warnings=("L5 has a pars defect",), structures={"disc_L4_L5": disc},
    )  # fmt: skip


def screw(level, z_mm=0.0):
    return Screw(
        f"{level}-left", f"vertebrae_{level}", "left", Points[Patient]([0, 0, z_mm]), Points[Patient]([0, -30, z_mm]),
        6.5, 45.0,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    values = np.zeros(GRID.shape, np.uint8)
    values[2:4], values[4:6] = 27, 28
    labels = LabelMap(GRID, values, {27: "vertebrae_L5", 28: "vertebrae_L4"})
    Case.create(tmp_path / "case", spine(), None, labels)
    return tmp_path / "case"


def test_everything_follows_one_shift(folder):
    built = {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in (".ply", ".nrrd")}
    with Case.open(folder) as case:
        old_id = case.twin.twin_id
        entry = case.rename_levels(shifted(case.twin.bones, -1), "Dr Ada")
    assert (entry.kind, entry.author) == ("levels_renamed", "Dr Ada")
    opened = Case.open(folder)
    found = opened.twin
    assert set(found.bones) == {"sacrum", "vertebrae_T12", *LUMBAR[:4]}
    for was, now in zip(LUMBAR, ["vertebrae_T12", *LUMBAR[:4]], strict=True):
        assert found.bones[now].name == now
        assert np.array_equal(found.bones[now].surface.vertices_mm, spine().bones[was].surface.vertices_mm)
        assert (
            found.landmark("pedicle_left", now).position.mm[2] == spine().landmark("pedicle_left", was).position.mm[2]
        )
        assert found.density["bodies"][now] == spine().density["bodies"][was]
    assert opened.labels().names == {27: "vertebrae_L4", 28: "vertebrae_L3"}
    assert list(found.structures) == ["disc_L3_L4"]
    assert found.warnings == ("L4 has a pars defect",)
    assert found.levels.confirmed_by == "Dr Ada"
    assert found.levels.confidence == pytest.approx(0.2)
    assert found.levels.evidence[0].startswith("named by Dr Ada: L1 -> T12, L2 -> L1")
    assert found.twin_id != old_id
    assert check_case(folder) == []
    assert {p: p.read_bytes() for p in built} == built


def test_shifting_back_gives_the_built_twin(folder):
    with Case.open(folder) as case:
        old_id = case.twin.twin_id
        case.rename_levels(shifted(case.twin.bones, -1), "Ada")
        case.rename_levels(shifted(case.twin.bones, 1), "Grace")
        assert case.twin.twin_id == old_id
        assert set(case.twin.bones) == set(spine().bones)
        assert case.twin.levels == replace(spine().levels, confirmed_by="Grace")
    assert check_case(folder) == []
    assert "renamed" not in json.loads((folder / "case.json").read_text())["levels"]


def test_a_sixth_lumbar_vertebra_is_named_one_by_one(folder):
    names = {f"vertebrae_L{n}": f"vertebrae_L{n + 1}" for n in range(1, 6)}
    with Case.open(folder) as case:
        case.rename_levels(names, "Ada")
    found = Case.open(folder).twin
    assert found.levels.transitional == "vertebrae_L6"
    assert "vertebrae_L6" in found.bones
    assert "vertebrae_L1" not in found.bones


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ({"vertebrae_L5": "vertebrae_L4"}, "there twice"),
        ({"vertebrae_L5": "sacrum"}, "can't become"),
        ({"vertebrae_L5": "vertebrae_L9"}, "can't become"),
        ({"sacrum": "vertebrae_L6"}, "can't become"),
        ({"vertebrae_L4": "vertebrae_L5", "vertebrae_L5": "vertebrae_L4"}, "below"),
    ],
)
def test_names_that_cannot_be_are_refused(folder, renamed, words):
    before = (folder / "journal.jsonl").read_bytes()
    with Case.open(folder) as case, pytest.raises(BadLevelNames, match=words):
        case.rename_levels(renamed, "Ada")
    assert (folder / "journal.jsonl").read_bytes() == before
    with pytest.raises(BadLevelNames, match="no level"):
        shifted(["vertebrae_L5"], 1)
    with pytest.raises(BadLevelNames, match="rib_left_12"):
        shifted(["vertebrae_T12", "rib_left_12"], 1)
    assert shifted(["vertebrae_T12", "rib_left_12", "hip_left"], -1) == {
        "vertebrae_T12": "vertebrae_T11", "rib_left_12": "rib_left_11",
    }  # fmt: skip


def test_plans_stay_on_their_bones(folder):
    with Case.open(folder) as case:
        plan = Plan("main", case.twin.twin_id)
        entries = []
        for level in ("L5", "L4", "L3"):
            edit = Edit.placing(plan, screw(level))
            entries.append(case.journal.append("Ada", edit.kind, edit.payload("main")))
            plan = plan.plus(screw(level))
        case.journal.append("Ada", UNDO, {"plan": "main", "undoes": entries[2].id})
        case.save_plan("main", plan.without("screw", "L3-left").to_json())
        case.rename_levels(shifted(case.twin.bones, -1), "Dr Ada")
        saved = case.load_plan("main")
        assert saved["twin_id"] == case.twin.twin_id
        assert {s["id"]: s["bone"] for s in saved["screws"].values()} == {
            "L4-left": "vertebrae_L4", "L3-left": "vertebrae_L3",
        }  # fmt: skip
        case.journal.append("Ada", UNDO, {"plan": "main", "undoes": entries[1].id})
        found, skipped = fold(case.journal.entries(), "main", case.twin.twin_id)
        assert (list(found.screws), skipped) == (["L4-left"], ())
        case.save_plan("main", found.to_json())
    assert check_case(folder) == []


def test_a_correction_that_was_stopped_halfway_is_finished_by_confirming_again(folder, monkeypatch):
    def stopped(path, data):
        raise KeyboardInterrupt

    with Case.open(folder) as case:
        case.save_plan("main", Plan("main", case.twin.twin_id).to_json())
        monkeypatch.setattr("twin.case.replace_synced", stopped)
        with pytest.raises(KeyboardInterrupt):
            case.rename_levels(shifted(case.twin.bones, -1), "Ada")
        monkeypatch.undo()
    problems = check_case(folder)
    assert any("different names" in p for p in problems)
    assert any("plan main was saved before its last edit" in p for p in problems)
    assert "vertebrae_T12" in Case.open(folder).twin.bones  # the journal holds
    with Case.open(folder) as case:
        case.confirm_levels("Ada")
        case.save_plan("main", fold(case.journal.entries(), "main", case.twin.twin_id)[0].to_json())
    assert check_case(folder) == []


def test_who_read_the_old_names_writes_nothing_more(folder):
    stale = Case.open(folder)
    with Case.open(folder) as case:
        case.rename_levels(shifted(case.twin.bones, -1), "Ada")
    with pytest.raises(LevelsChanged, match="open the case again"):
        stale.save_plan("main", {"screws": []})
    with Case.open(folder) as case:
        case.save_plan("main", {"screws": []})


def test_an_older_case_is_migrated_before_its_levels_are_renamed(tmp_path):
    write_schema_1(tmp_path / "old", spine(), None, None)
    with Case.open(tmp_path / "old") as case:
        case.rename_levels(shifted(case.twin.bones, -1), "Ada")
        assert [e.kind for e in case.journal.entries()] == ["case_built", "case_migrated", "levels_renamed"]
    assert check_case(tmp_path / "old") == []


def test_words_are_renamed_all_at_once():
    renamed = {"vertebrae_L4": "vertebrae_L5", "vertebrae_L5": "vertebrae_L6", "rib_left_12": "rib_left_11"}
    assert renamed_words("vertebrae_L4, L5-left, XL4, L45, rib_left_12", renamed) == (
        "vertebrae_L5, L6-left, XL4, L45, rib_left_11"
    )
