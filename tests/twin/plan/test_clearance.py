"""Screws and cuts against what lies beside the bones: distances by construction, roles obeyed."""

from dataclasses import replace

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from spatial.shapes import Plane
from tests.twin.plan.bodies import PEDICLE_X, block, block_twin, to_mesh
from twin.anatomy.structure import MEASURED, BadStructure, Structure
from twin.anatomy.twin import NoBone
from twin.plan.auto.autoplan import propose_screw
from twin.plan.screws.clearance import clearances, crossed, nearest_critical
from twin.plan.screws.grade import grade_screw
from twin.plan.screws.screw import Screw

BONE = "vertebrae_L4"
SCREW = Screw(
    "L4-left", BONE, "left", Points[Patient]([PEDICLE_X, 41.0, 4.0]), Points[Patient]([PEDICLE_X, 0.0, 4.0]), 6.0, 40.0
)


def twin_with(*structures, sd_mm=None):
    return replace(block_twin(), structures={s.name: s for s in structures}, surface_sd_mm=sd_mm)


def box(name, role, low, high, source="drawn.nii.gz"):
    return Structure(name, role, to_mesh(block(low, high)), source)


@pytest.mark.parametrize("gap_mm", [0.5, 2.0, 5.5, 9.0, 30.0])
def test_the_distance_to_a_wall_beside_the_screw(gap_mm):
    start = PEDICLE_X + 3.0 + gap_mm
    twin = twin_with(box("aorta", "critical", (start, -20, -20), (start + 10, 45, 30)))
    (found,) = clearances(twin, SCREW)
    assert found.distance_mm == pytest.approx(gap_mm, abs=0.12)
    assert found.sd_mm is None  # nobody knows how well it was drawn


def test_a_thin_structure_within_the_screw_is_met():
    twin = twin_with(box("root", "critical", (PEDICLE_X - 0.6, 20, 3.4), (PEDICLE_X + 0.6, 24, 4.6)))
    assert clearances(twin, SCREW)[0].distance_mm < 0


def test_context_is_not_measured_and_the_nearest_critical_is_not_the_target():
    twin = twin_with(
        box("fat", "context", (0, 0, 0), (30, 30, 30)),
        box("tumour", "target", (16, 0, 0), (20, 10, 8)),
        box("aorta", "critical", (20, -20, -20), (30, 45, 30)),
    )
    found = clearances(twin, SCREW)
    assert [c.structure for c in found] == ["tumour", "aorta"]
    nearest = nearest_critical(found)
    assert nearest is not None
    assert nearest.structure == "aorta"


def test_a_structure_measured_on_the_bones_is_as_sure_as_they_are():
    twin = twin_with(box("spinal_canal", "critical", (-6, 18, -20), (6, 30, 20), MEASURED), sd_mm=0.12)
    grade = grade_screw(twin, SCREW)
    assert grade.margin_sd_mm == 0.12
    assert grade.to_json()["structures"] == [
        {"name": "spinal_canal", "role": "critical", "distance_mm": pytest.approx(3.0, abs=0.1), "sd_mm": 0.12}
    ]


def test_a_proposal_keeps_off_a_critical_structure_by_taking_a_smaller_screw():
    free = propose_screw(block_twin(), BONE, "left")
    assert free.screw is not None
    wall = PEDICLE_X + free.screw.diameter_mm / 2.0 + 0.1
    twin = twin_with(box("vessel", "critical", (wall, 16, -3), (wall + 3, 31, 11)))
    kept = propose_screw(twin, BONE, "left")
    assert kept.screw is not None
    assert kept.grade is not None
    assert kept.screw.diameter_mm < free.screw.diameter_mm
    assert kept.grade.clearances[0].distance_mm >= 0.3
    target = propose_screw(
        replace(twin, structures={"vessel": replace(twin.structures["vessel"], role="target")}), BONE, "left"
    )
    assert target.screw is not None
    assert target.screw.diameter_mm == free.screw.diameter_mm


def test_a_pedicle_that_a_critical_structure_runs_through_takes_no_screw():
    twin = twin_with(box("vessel", "critical", (PEDICLE_X - 4, 20, 0), (PEDICLE_X + 4, 24, 8)))
    refused = propose_screw(twin, BONE, "left")
    assert refused.screw is None
    assert "vessel (critical)" in (refused.reason or "")


def test_a_scan_with_thick_slices_keeps_more_room():
    sure, unsure = (propose_screw(twin_with(sd_mm=sd), BONE, "left") for sd in (0.05, 0.9))
    assert sure.screw is not None
    assert unsure.screw is not None
    assert unsure.screw.diameter_mm < sure.screw.diameter_mm


def test_cut_planes_name_what_they_pass_through():
    twin = twin_with(
        box("spinal_canal", "critical", (-8, 18, -60), (8, 30, 60)),
        box("far", "critical", (-8, 118, -60), (8, 130, 60)),
        box("fat", "context", (-8, 18, -60), (8, 30, 60)),
    )
    across = Plane[Patient](np.zeros(3), np.array([0.0, 0.0, 1.0]))
    assert [s.name for s in crossed(twin, BONE, [across])] == ["spinal_canal"]
    beside = Plane[Patient](np.array([15.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    assert crossed(twin, BONE, [beside]) == ()


def test_open_or_oddly_named_structures_are_refused():
    open_mesh = to_mesh(block((0, 0, 0), (1, 1, 1)))
    open_mesh = type(open_mesh)(open_mesh.vertices_mm, open_mesh.triangles[:-1])
    with pytest.raises(BadStructure, match="not closed"):
        Structure("cord", "critical", open_mesh, "x")
    with pytest.raises(BadStructure, match="there are critical, target, context"):
        Structure("cord", "dangerous", to_mesh(block((0, 0, 0), (1, 1, 1))), "x")
    with pytest.raises(NoBone, match="another name"):
        replace(block_twin(), structures={"a": box("b", "context", (0, 0, 0), (1, 1, 1))})
