"""The case folder: exact round trips, nothing half-written, every change noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from spatial.faults import Fault
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points, rotation_exp
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.structure import Structure
from twin.anatomy.twin import Levels, SideEvidence, Twin
from twin.case import Case, check_case
from twin.case_files import CaseCorrupt, CaseExists, NoCase, NoPlan, NoVoxels
from twin.journal import JournalBroken, JournalBusy
from twin.scan.fitness import Fitness, Judgement
from twin.scan.volume import Grid, LabelMap, Volume

GRID = Grid((9, 8, 7), np.array([0.7, 0.8, 1 / 3]), np.array([0.1, -1e3 / 7, 5.5]), rotation_exp([0.1, -0.4, 0.2]))
CORNERS = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]) / 3
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def twin() -> Twin:
    fine = TriangleMesh[Patient](CORNERS, FACES)
    coarse = TriangleMesh[Patient](CORNERS * 1.01, FACES)
    bones = {name: Bone(name, fine, (coarse, coarse)) for name in ("vertebrae_L3", "sacrum")}
    axis = Directions[Patient]([0.1, -0.9, 0.3])
    marks = (
        Landmark("pedicle_left", "vertebrae_L3", "left", Points[Patient]([1 / 3, 2, 3]), axis, 0.5),
        Landmark("promontory", "sacrum", None, Points[Patient]([1, 2, 3]), None, None),
    )
    return Twin(
        "a1b2c3",
        bones,
        marks,
        Levels(0.75, None, ("the sacrum is seen", "ribs start at the sixth vertebra"), "vertebrae_L6"),
        {"kind": "hu"},
        ({"step": "surface", "iso": 0.1},),
        ("coarse",),
        {
            "canal": Structure("canal", "critical", coarse, "canal of the CT"),
            "disc_L3_L4": Structure("disc_L3_L4", "context", fine, "discs.nii.gz"),
        },
        Fitness(Judgement(True), Judgement(True, ("0.8 mm slices",)), Judgement(False, ("2.0 mm slices",))),
        (SideEvidence("laterality", None, "the scan says nothing"), SideEvidence("order", True, "2 pairs")),
        0.21,
    )


def volume() -> Volume:
    hu = np.random.default_rng(1).integers(-1024, 3000, GRID.shape).astype(np.int16)
    return Volume(GRID, hu, {"format": "DICOM", "slices": 7}, ("thick slices",))


def labels() -> LabelMap:
    values = np.zeros(GRID.shape, np.uint8)
    values[2:4] = 29
    return LabelMap(GRID, values, {29: "vertebrae_L3"})


@pytest.fixture
def case(tmp_path) -> Iterator[Case]:
    with Case.create(tmp_path / "case", twin(), volume(), labels(), [{"step": "load"}]) as case:
        yield case


def read_everything(folder):
    opened = Case.open(folder)
    return opened.volume(), opened.labels()


def test_round_trip_is_exact(case):
    opened = Case.open(case.folder)
    a, b = twin(), opened.twin
    assert (b.twin_id, b.levels, b.density) == (a.twin_id, a.levels, a.density)
    assert list(b.bones) == list(a.bones)
    for name in a.bones:
        old = (a.bones[name].surface, *a.bones[name].levels_of_detail)
        new = (b.bones[name].surface, *b.bones[name].levels_of_detail)
        for x, y in zip(old, new, strict=True):
            assert np.array_equal(x.vertices_mm, y.vertices_mm)
            assert np.array_equal(x.triangles, y.triangles)
    assert [m.to_json() for m in b.landmarks] == [m.to_json() for m in a.landmarks]
    assert [dict(step) for step in b.provenance] == [
        {"step": "scan", "format": "DICOM", "slices": 7}, {"step": "load"}, {"step": "surface", "iso": 0.1},
    ]  # fmt: skip
    assert b.warnings == ("thick slices", "coarse")
    assert (b.fitness, b.sides, b.surface_sd_mm) == (a.fitness, a.sides, a.surface_sd_mm)
    assert list(b.structures) == ["canal", "disc_L3_L4"]
    for name, one in a.structures.items():
        assert (b.structures[name].role, b.structures[name].source) == (one.role, one.source)
        assert np.array_equal(b.structures[name].surface.vertices_mm, one.surface.vertices_mm)
    for name in ("spacing_mm", "origin_mm", "axes"):
        assert np.array_equal(getattr(opened.volume().grid, name), getattr(GRID, name))
        assert np.array_equal(getattr(opened.labels().grid, name), getattr(GRID, name))
    assert np.array_equal(opened.volume().hu, volume().hu)
    assert dict(opened.volume().about) == dict(volume().about)
    assert np.array_equal(opened.labels().labels, labels().labels)
    assert opened.labels().names == {29: "vertebrae_L3"}
    assert opened.check() == []


def test_files_are_what_the_contract_says(case):
    document = json.loads((case.folder / "case.json").read_text())
    assert document["schema"] == 2
    assert {"ct.nrrd", "labels.nrrd", "landmarks.json", "bones/sacrum.ply", "bones/sacrum.lod1.ply"} <= set(
        document["files"]
    )
    assert sorted(p.name for p in case.folder.iterdir()) == [
        "bones", "case.json", "ct.nrrd", "journal.head", "journal.jsonl", "labels.nrrd", "landmarks.json", "plans",
        "structures",
    ]  # fmt: skip


def test_another_program_reads_the_voxels_in_place(case):
    for name, values in (("ct.nrrd", volume().hu), ("labels.nrrd", labels().labels)):
        image = SimpleITK.ReadImage(str(case.folder / name))
        assert np.array_equal(SimpleITK.GetArrayFromImage(image), values)
        assert image.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0)) == pytest.approx(
            tuple(GRID.patient_from_index(np.array([1.0, 2.0, 3.0])).mm), abs=1e-9
        )


def test_a_twin_from_meshes_has_no_voxels(tmp_path):
    case = Case.create(tmp_path / "case", twin(), None, None)
    assert not case.has_volume
    with pytest.raises(NoVoxels, match="no CT"):
        case.volume()
    with pytest.raises(NoVoxels, match="no label map"):
        case.labels()
    assert case.check() == []


@pytest.mark.parametrize(
    "name",
    ["ct.nrrd", "labels.nrrd", "landmarks.json", "bones/sacrum.ply", "bones/sacrum.lod2.ply", "structures/canal.ply"],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_every_changed_file_is_noticed(case, name, damage):
    path = case.folder / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-3])
    else:
        path.unlink()
    assert any(name in problem for problem in check_case(case.folder))
    with pytest.raises(CaseCorrupt, match=r"checksum|missing|cannot be read") as caught:
        read_everything(case.folder)
    assert caught.value.exit_code == 1


def test_a_changed_list_of_files_is_noticed(case):
    document = json.loads((case.folder / "case.json").read_text())
    (case.folder / "bones/sacrum.ply").write_bytes((case.folder / "bones/sacrum.lod1.ply").read_bytes())
    document["files"]["bones/sacrum.ply"] = document["files"]["bones/sacrum.lod1.ply"]
    (case.folder / "case.json").write_text(json.dumps(document))
    assert any("journal" in problem for problem in check_case(case.folder))


def case_json(**changes):
    value = {"schema": 1, "twin_id": "a", "levels": {"confidence": 1}, "files": {}, "bones": {}, "provenance": []}
    return json.dumps(value | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"schema": 3}', "newer"),
        ('{"schema": 1, "twin_id": "a"}', "cannot be read"),
        (case_json(twin_id=3), "wrong kind"),
        (case_json(files={"../x": "0" * 64}), "wrong kind"),
        (case_json(files={"/etc/passwd": "0" * 64}), "wrong kind"),
        (case_json(bones={"../../x": 0}), "wrong kind"),
    ],
)
def test_a_bad_case_json_is_one_line(case, text, words):
    (case.folder / "case.json").write_text(text)
    with pytest.raises(Fault, match=words) as caught:
        Case.open(case.folder)
    assert "\n" not in str(caught.value)
    assert check_case(case.folder)


def test_a_broken_chain_is_noticed(case):
    case.save_plan("main", {"screws": []})
    journal = case.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"plan_saved", b"plan_saveD"))
    assert check_case(case.folder)
    with pytest.raises(JournalBroken, match="entry 1 is not the one that was written"):
        Case.open(case.folder)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[1:]))
    with pytest.raises(JournalBroken):
        Case.open(case.folder)


def test_plans_are_kept_with_their_twin_and_hash(case):
    case.save_plan("main", {"screws": [{"id": "a", "x": 1 / 3}]}, author="Ada")
    case.save_plan("second.try", {"screws": []})
    assert case.plan_names == ("main", "second.try")
    assert case.load_plan("main") == {"screws": [{"id": "a", "x": 1 / 3}], "twin_id": "a1b2c3"}
    case.close()
    assert Case.open(case.folder).load_plan("main")["screws"][0]["x"] == 1 / 3
    assert check_case(case.folder) == []
    with pytest.raises(NoPlan, match=r"there are: main, second\.try"):
        case.load_plan("other")
    for name in ("../main", "a/b", ".hidden", "", "a\\b", "x" * 80):
        with pytest.raises(NoPlan, match="plan's name"):
            case.save_plan(name, {})
    with pytest.raises(CaseCorrupt, match="another twin"):
        case.save_plan("main", {"twin_id": "zzz"})
    path = case.folder / "plans/main.json"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    assert any("plan main has changed" in problem for problem in check_case(case.folder))
    with pytest.raises(CaseCorrupt, match="checksum"):
        case.load_plan("main")
    path.unlink()
    assert "plan main is missing" in check_case(case.folder)


def test_one_writer_at_a_time(case):
    case.save_plan("main", {"screws": []})  # this process now holds the journal
    program = (
        "import sys; from pathlib import Path; from twin.case import Case\n"
        "from twin.journal import JournalBusy\n"
        "try:\n    Case.open(Path(sys.argv[1])).save_plan('other', {})\n"
        "except JournalBusy:\n    sys.exit(7)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(case.folder)], check=False)
    assert run.returncode == 7
    assert case.plan_names == ("main",)
    with pytest.raises(JournalBusy):
        Case.open(case.folder).save_plan("other", {})
    case.close()
    with Case.open(case.folder) as other:
        other.save_plan("other", {})


def test_levels_are_confirmed_in_the_journal_and_the_case(case):
    case.confirm_levels("Dr Ada")
    case.close()
    opened = Case.open(case.folder)
    assert opened.twin.levels == replace(twin().levels, confirmed_by="Dr Ada")
    assert opened.check() == []
    assert opened.journal.entries()[-1].kind == "levels_confirmed"
    document = json.loads((case.folder / "case.json").read_text())
    document["levels"]["confirmed_by"] = "Mallory"
    (case.folder / "case.json").write_text(json.dumps(document))
    assert any("Mallory" in problem for problem in check_case(case.folder))
    assert Case.open(case.folder).twin.levels.confirmed_by == "Dr Ada"


def test_existing_folders_are_not_overwritten(tmp_path, case):
    with pytest.raises(CaseExists, match="--force") as caught:
        Case.create(case.folder, twin(), None, None)
    assert caught.value.exit_code == 2
    case.save_plan("main", {})
    case.close()
    replaced = Case.create(case.folder, twin(), None, None, replace=True)
    assert replaced.plan_names == ()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(CaseExists, match="is no case"):
        Case.create(tmp_path / "other", twin(), None, None, replace=True)
    (tmp_path / "empty").mkdir()
    assert Case.create(tmp_path / "empty", twin(), None, None).check() == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "empty", "other"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_nothing_is_left_when_the_writing_stops(tmp_path, failure):
    def stop(what, _fraction):
        if what == "writing labels":
            raise failure("stop")

    kinds = (KeyboardInterrupt, CaseCorrupt)
    with pytest.raises(kinds):
        Case.create(tmp_path / "case", twin(), volume(), labels(), progress=stop)
    assert list(tmp_path.iterdir()) == []
    Case.create(tmp_path / "case", twin(), None, None)
    before = (tmp_path / "case/case.json").read_bytes()
    with pytest.raises(kinds):
        Case.create(tmp_path / "case", twin(), volume(), labels(), replace=True, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    assert (tmp_path / "case/case.json").read_bytes() == before


def test_no_case_here(tmp_path):
    with pytest.raises(NoCase) as caught:
        Case.open(tmp_path)
    assert caught.value.exit_code == 2
    shutil.rmtree(tmp_path)
    with pytest.raises(NoCase):
        check_case(tmp_path)


def test_a_case_made_while_another_was_building_stays(tmp_path):
    def made_meanwhile(what, fraction):
        if not (tmp_path / "case").exists():
            Case.create(tmp_path / "other", twin(), None, None, author="first").close()
            (tmp_path / "other").rename(tmp_path / "case")  # as another process would

    with pytest.raises(CaseExists):
        Case.create(tmp_path / "case", twin(), None, None, author="second", progress=made_meanwhile)
    assert Case.open(tmp_path / "case").journal.entries()[0].author == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
