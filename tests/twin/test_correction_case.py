"""Corrections in a case folder: one journal entry, all or nothing, and the way back; the command that does it."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from osteotwin import app
from tests.twin.plan.bodies import block, to_mesh
from tests.twin.test_correction import L3, L4, LOWER, UPPER, VOLUME, drawn, fused, moved, refined, stroke
from twin import case_correction, case_structures
from twin.anatomy.build import build_twin
from twin.anatomy.history import CORRECTED, live, standing
from twin.anatomy.site import Site
from twin.anatomy.structure import Structure
from twin.case import Case, check_case
from twin.case_correction import NoCorrection, PlansWouldFail, correct_case, corrections_of, undo_correction
from twin.case_document import CaseCorrupt

SPLIT = (stroke("L3", UPPER), stroke("L4", LOWER))
BITE = stroke("none", moved(UPPER, 0, 0, 12.0), radius=3.0)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A case of one bone that is two in truth."""
    folder = tmp_path_factory.mktemp("built") / "case"
    twin, labels = build_twin(VOLUME, fused())
    Case.create(folder, refined(twin), VOLUME, labels)
    return folder


@pytest.fixture
def case(built, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(built, folder)
    return folder


def state(folder):
    """Every file that is not the journal, with its bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith("journal") and "previous" not in p.parts
    }


def test_a_correction_is_one_entry_and_a_sound_case(case):
    before = Case.open(case)
    old_id, entries = before.twin.twin_id, len(before.journal.entries())
    after, found = correct_case(before, drawn(*SPLIT), "Dr A")
    assert check_case(case) == []
    assert set(after.twin.bones) == {L3, L4}
    assert after.twin.twin_id == found.twin.twin_id != old_id
    assert set(after.labels().names.values()) == {L3, L4}
    (entry,) = after.journal.entries()[entries:]
    assert (entry.kind, entry.author, entry.payload["changed"]) == (CORRECTED, "Dr A", [L3, L4])
    assert entry.payload["strokes"] == drawn(*SPLIT).to_json()["strokes"]
    assert (case / "previous" / old_id / "bones" / f"{L3}.ply").is_file()
    assert after.volume().hu.sum() == VOLUME.hu.sum()
    assert after.twin.provenance[-1]["step"] == "correction"
    assert sorted(p.name for p in case.parent.iterdir()) == ["case"]


def test_undo_brings_back_the_very_same_twin(case):
    whole = state(case)
    opened, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A")
    opened, _ = correct_case(opened, drawn(BITE), "Dr B")
    between = opened.twin.twin_id
    opened, undone = undo_correction(opened, "Dr C")
    assert undone.payload["by"] == "Dr B"
    assert set(opened.twin.bones) == {L3, L4}
    assert opened.twin.twin_id != between
    assert check_case(case) == []
    opened, undone = undo_correction(opened, "Dr C")
    assert undone.payload["by"] == "Dr A"
    assert state(case) == whole
    assert check_case(case) == []
    assert standing(opened.journal.entries()) == []
    with pytest.raises(NoCorrection, match="no correction stands"):
        undo_correction(opened, "Dr C")


def test_plans_go_with_the_bones_that_they_were_made_on(case):
    with Case.open(case) as opened:
        opened.save_plan("first", {"name": "first"})
        with pytest.raises(PlansWouldFail, match=r"1 plan \(first\) would be put aside.*--force"):
            correct_case(opened, drawn(*SPLIT), "Dr A")
    assert check_case(case) == []
    after, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A", keep_plans_aside=True)
    assert after.plan_names == ()
    after.save_plan("first", {"name": "first", "other": True})
    after.close()
    assert check_case(case) == []
    with pytest.raises(PlansWouldFail):
        undo_correction(Case.open(case), "Dr A")
    back, _ = undo_correction(Case.open(case), "Dr A", keep_plans_aside=True)
    assert "other" not in back.load_plan("first")
    assert check_case(case) == []


def test_names_and_confirmations_follow(case):
    with Case.open(case) as opened:
        opened.confirm_levels("Dr B")
        opened.rename_levels({L3: "vertebrae_L2"}, "Dr B")
    opened, _ = correct_case(Case.open(case), drawn(stroke("L2", UPPER), stroke("L3", LOWER)), "Dr A")
    assert set(opened.twin.bones) == {"vertebrae_L2", L3}
    assert opened.twin.levels.confirmed_by is None  # there is a level more
    assert (case / "bones" / "vertebrae_L2.ply").is_file()
    assert check_case(case) == []
    opened.rename_levels({L3: L4}, "Dr D")
    assert Case.open(case).twin.levels.confirmed_by == "Dr D"
    opened.close()
    opened, _ = undo_correction(Case.open(case), "Dr A")
    assert set(opened.twin.bones) == {"vertebrae_L2"}
    assert opened.twin.levels.confirmed_by == "Dr B"
    assert check_case(case) == []


def test_painting_keeps_the_confirmation(case):
    with Case.open(case) as opened:
        opened.confirm_levels("Dr B")
    opened, _ = correct_case(Case.open(case), drawn(BITE), "Dr A")
    assert opened.twin.levels.confirmed_by == "Dr B"
    assert check_case(case) == []


def test_whoever_is_stopped_leaves_the_old_case(case, monkeypatch):
    whole, journal = state(case), (case / "journal.jsonl").read_bytes()

    def stopped(*_, **__):
        raise KeyboardInterrupt

    for name in ("exchange", "write_nrrd"):
        with monkeypatch.context() as patch:
            patch.setattr(case_correction, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                correct_case(Case.open(case), drawn(*SPLIT), "Dr A")
        assert state(case) == whole
        assert (case / "journal.jsonl").read_bytes() == journal
        assert sorted(p.name for p in case.parent.iterdir()) == ["case"]
    opened, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A")
    assert check_case(case) == []
    opened.close()


def test_another_writer_is_refused(case):
    from twin.case_journal import LevelsChanged
    from twin.journal import JournalBusy

    other = Case.open(case)
    with Case.open(case) as writer:
        writer.journal.lock()
        with pytest.raises(JournalBusy):
            correct_case(other, drawn(*SPLIT), "Dr A")
    correct_case(Case.open(case), drawn(*SPLIT), "Dr A")[0].close()
    with pytest.raises(LevelsChanged):
        other.confirm_levels("Dr B")  # it still shows the bones of before
    assert check_case(case) == []


def test_what_was_put_aside_is_checked_before_it_comes_back(case):
    opened, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A")
    (aside,) = (case / "previous").iterdir()
    (aside / "landmarks.json").write_text("{}")
    with pytest.raises(CaseCorrupt, match=r"landmarks\.json is not what it was"):
        undo_correction(opened, "Dr A")
    assert check_case(case) == []
    assert sorted(p.name for p in case.parent.iterdir()) == ["case"]


def test_corrections_are_carried_out_again_on_a_new_build(case, built, tmp_path):
    opened, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A")
    opened, _ = correct_case(opened, drawn(BITE), "Dr A")
    fresh = tmp_path / "fresh"
    shutil.copytree(built, fresh)
    assert len(corrections_of(opened)) == 2
    opened.close()
    ran = CliRunner().invoke(app, ["twin", "correct", str(fresh), "--like", str(case), "--by", "Dr E", "--json"])
    assert ran.exit_code == 0, ran.output
    assert Case.open(fresh).twin.twin_id == Case.open(case).twin.twin_id


def test_the_command(case, tmp_path):
    file = tmp_path / "strokes.json"
    file.write_text(json.dumps({"strokes": list(SPLIT)}))
    ran = CliRunner().invoke(app, ["twin", "correct", str(case), "--strokes", str(file), "--by", "Dr A", "--json"])
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said["changed"] == [L3, L4]
    assert {bone["name"] for bone in said["bones"]} == {L3, L4}
    assert said["levels"]["confirmed_by"] is None
    assert said["twin_id"] == Case.open(case).twin.twin_id
    ran = CliRunner().invoke(app, ["twin", "correct", str(case), "--undo", "--by", "Dr A"])
    assert "taken back" in ran.stdout
    for arguments, code in (
        (["--by", "Dr A"], 2),
        (["--by", " ", "--undo"], 2),
        (["--by", "Dr A", "--undo"], 2),
        (["--by", "Dr A", "--undo", "--strokes", str(file)], 2),
        (["--by", "Dr A", "--strokes", str(tmp_path / "absent.json")], 2),
    ):
        assert CliRunner().invoke(app, ["twin", "correct", str(case), *arguments]).exit_code == code


def test_edits_stay_with_their_bones(case):
    """A plan edited before a correction does not come to life again on the new bones."""
    opened, _ = correct_case(Case.open(case), drawn(BITE), "Dr A")
    kinds = [entry.kind for entry in live(opened.journal.entries())]
    assert kinds == [CORRECTED]


def test_what_was_added_beside_the_bones_outlives_a_correction_and_its_undoing(case):
    tumour = Structure("tumour", "target", to_mesh(block((0, 0, 0), (5, 5, 5))), "drawn.nii.gz")
    opened = Case.open(case)
    case_structures.add(case, opened.journal, opened.twin, tumour, "Dr A")
    case_structures.set_role(opened.journal, opened.refreshed(), "tumour", "critical", "Dr A")
    opened, _ = correct_case(opened, drawn(*SPLIT), "Dr A")
    assert opened.twin.structures["tumour"].role == "critical"
    assert check_case(case) == []
    opened, _ = undo_correction(opened, "Dr A")
    assert opened.twin.structures["tumour"].role == "critical"
    assert check_case(case) == []


def test_a_correction_reads_the_density_by_the_site_that_it_is_given(case):
    site = Site(name="elsewhere", sha256="0" * 64)
    opened, _ = correct_case(Case.open(case), drawn(*SPLIT), "Dr A", site=site)
    assert opened.twin.density is not None
    assert opened.twin.density["site"]["name"] == "elsewhere"
    assert any("now by those of elsewhere" in text for text in opened.twin.warnings)
