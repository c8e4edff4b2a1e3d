"""Structures added to a case, their roles, and another scan registered: events of the journal, checked files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import osteotwin
from spatial.frames import Patient, Series
from spatial.rigid import Rigid
from tests.twin.plan.bodies import block, block_twin, to_mesh
from twin import case_series, case_structures
from twin.anatomy.canal_tube import NAME as CANAL
from twin.anatomy.companion import Companion
from twin.anatomy.structure import MEASURED, Structure
from twin.case import Case
from twin.case_document import CaseCorrupt
from twin.case_structures import NoStructure
from twin.scan.matching import Matched
from twin.scan.volume import Grid, LabelMap, Volume


def cube(name, role="context"):
    return Structure(name, role, to_mesh(block((0, 0, 0), (5, 5, 5))), "drawn.nii.gz")


@pytest.fixture
def case(tmp_path):
    canal = Structure(CANAL, "critical", to_mesh(block((-6, 18, -20), (6, 30, 20))), MEASURED)
    with Case.create(tmp_path / "case", replace(block_twin(), structures={CANAL: canal}), None, None) as made:
        yield made


def test_a_structure_added_is_there_when_the_case_is_opened_again(case):
    case_structures.add(case.folder, case.journal, case.twin, cube("tumour", "target"), "Ada")
    twin = Case.open(case.folder).twin
    assert {n: s.role for n, s in twin.structures.items()} == {CANAL: "critical", "tumour": "target"}
    assert twin.structures["tumour"].surface.volume_ml == pytest.approx(0.125)
    assert case.check() == []


def test_roles_change_and_the_canal_stays_critical(case):
    case_structures.add(case.folder, case.journal, case.twin, cube("cord"), "Ada")
    case_structures.set_role(case.journal, case.refreshed(), "cord", "critical", "Ada")
    assert case.refreshed().structures["cord"].role == "critical"
    with pytest.raises(NoStructure, match="always critical"):
        case_structures.set_role(case.journal, case.twin, CANAL, "context", "Ada")
    with pytest.raises(NoStructure, match="it has"):
        case_structures.set_role(case.journal, case.twin, "aorta", "critical", "Ada")


def test_taking_out_leaves_what_was_built(case):
    case_structures.add(case.folder, case.journal, case.twin, cube("cord"), "Ada")
    case_structures.remove(case.folder, case.journal, case.refreshed(), "cord", "Ada")
    assert list(case.refreshed().structures) == [CANAL]
    assert case.check() == []
    with pytest.raises(NoStructure, match="always there"):
        case_structures.remove(case.folder, case.journal, case.twin, CANAL, "Ada")


def test_names_that_are_taken_or_no_file_are_refused(case):
    for name in (CANAL, "vertebrae_L4", "../x"):
        with pytest.raises(NoStructure):
            case_structures.add(case.folder, case.journal, case.twin, cube(name), "Ada")


def test_a_structure_that_was_changed_or_lost_on_the_disk_is_noticed(case):
    case_structures.add(case.folder, case.journal, case.twin, cube("cord"), "Ada")
    file = case.folder / case_structures.file_of("cord")
    file.write_bytes(file.read_bytes() + b" ")
    assert "has changed since it was added" in case.check()[0]
    with pytest.raises(CaseCorrupt, match="checksum"):
        Case.open(case.folder)
    file.unlink()
    assert "missing" in case.check()[0]


def companion(name="mr1"):
    move = Rigid[Patient, Series].exp(np.array([0.0, 0.0, 0.1]), np.array([1.0, 2.0, 3.0]))
    one = Matched(move, 0.2, 0.9, None, 1.0)
    return Companion(name, "MR", one, {"vertebrae_L4": one}, {"hip_left": "not in it"})


def test_another_scan_comes_back_as_it_was_saved(case):
    grid = Grid((4, 3, 2), np.array([1.0, 1.0, 3.0]), np.zeros(3), np.eye(3))
    volume = Volume(grid, np.arange(24, dtype=np.int16).reshape(2, 3, 4), {"modality": "MR"})
    case_series.save(case.folder, case.journal, companion(), volume, "Ada")
    again, voxels = case_series.load(case.folder, case.journal.entries(), "mr1")
    assert again.to_json() == companion().to_json()
    assert np.array_equal(voxels.hu, volume.hu)
    assert case.check() == []
    with pytest.raises(case_series.NoSeries, match="already"):
        case_series.save(case.folder, case.journal, companion(), volume, "Ada")
    with pytest.raises(case_series.NoSeries, match="there are: mr1"):
        case_series.load(case.folder, case.journal.entries(), "mr2")
    (case.folder / "series" / "mr1.json").write_text("{}")
    assert "has changed since it was registered" in case.check()[0]
    with pytest.raises(CaseCorrupt):
        case_series.load(case.folder, case.journal.entries(), "mr1")


def run(*words):
    return CliRunner().invoke(osteotwin.app, [str(w) for w in words])


def test_the_command_adds_by_label_map_and_plans_obey(tmp_path):
    import SimpleITK

    grid = Grid((40, 40, 40), np.full(3, 1.5), np.array([-20.0, -20.0, -25.0]), np.eye(3))
    labels = LabelMap(grid, np.ones(grid.shape, np.uint8), {1: "vertebrae_L4"})
    volume = Volume(grid, np.zeros(grid.shape, np.int16))
    Case.create(tmp_path / "case", block_twin(), volume, labels).close()
    drawn = np.zeros(grid.shape, np.uint8)
    drawn[5:20, 5:20, 5:20] = 1
    image = SimpleITK.GetImageFromArray(drawn)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    (tmp_path / "masks").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "masks" / "aorta.nii.gz"))
    listed = run(
        "twin", "structures", tmp_path / "case", "--add", tmp_path / "masks", "--role", "aorta=critical", "--json"
    )
    assert listed.exit_code == 0, listed.stderr
    (found,) = json.loads(listed.stdout)["structures"]
    assert (found["name"], found["role"]) == ("aorta", "critical")
    assert found["volume_ml"] == pytest.approx(15**3 * 1.5**3 / 1000, rel=0.03)
    assert found["source"].startswith("labels ")
    assert "masks" not in found["source"]  # a folder's name may be a patient's
    wrong = run("twin", "structures", tmp_path / "case", "--role", "aorta=dangerous")
    assert wrong.exit_code == 2
    assert "NAME=critical" in wrong.stderr
    planned = run("plan", "screw", tmp_path / "case", "--bone", "vertebrae_L4", "--side", "left", "--auto", "--json")
    assert json.loads(planned.stdout)["screws"][0]["structures"][0]["name"] == "aorta"
