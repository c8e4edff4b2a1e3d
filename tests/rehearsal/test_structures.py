"""Roles in the rehearsal: a critical structure is told at the tool, felt, drawn and kept in the score's numbers."""

from dataclasses import replace

import numpy as np
import pytest

from rehearsal import drill
from rehearsal.drill import Drilling
from rehearsal.instruments import ZONE_RGB
from rehearsal.model import Model
from rehearsal.readouts import _structure_lines
from rehearsal.staging import _bent
from rehearsal.strokes import PULSES
from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import PEDICLE_X, block, block_spine, block_twin, to_mesh
from twin.anatomy.structure import Structure
from twin.journal import canonical_json
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.plan import Plan
from twin.plan.screws.screw import Screw

SCREW = Screw(
    "s",
    "vertebrae_L4",
    "left",
    Points[Patient]([PEDICLE_X, 41.0, 4.0]),
    Points[Patient]([PEDICLE_X, 0, 4.0]),
    6.0,
    40.0,
)


def model(role, gap_mm):
    start = PEDICLE_X + 3.0 + gap_mm
    vessel = Structure("left_root", role, to_mesh(block((start, 0, -5), (start + 4, 40, 15))), "drawn")
    twin = replace(block_twin(), structures={"left_root": vessel})
    return Model(twin, Plan("p", twin.twin_id))


@pytest.mark.parametrize(
    ("role", "gap_mm", "zone"),
    [
        ("critical", -1.0, "critical"),
        ("critical", 0.5, "near_wall"),
        ("critical", 4.0, "bone"),
        ("target", -1.0, "bone"),
    ],
)
def test_the_zone_of_the_drill_obeys_the_role(role, gap_mm, zone):
    at = model(role, gap_mm)
    crossing = type("C", (), {"along_mm": 0.0, "is_entry": True})()
    drilling = Drilling(0, 0.0, "vertebrae_L4", SCREW.axis, (crossing,), True, 40.0)
    graded = drill._graded(drilling, at)
    assert graded.zone == zone
    assert zone not in PULSES or PULSES[zone][0] > 0
    assert zone in ZONE_RGB


def test_the_read_out_names_the_nearest_critical_one_and_says_when_it_is_entered():
    grade = model("critical", -1.0).grade(SCREW)
    ((words, rgb),) = _structure_lines(grade["structures"])
    assert words == "IN left root by 1.0 mm"
    assert rgb == ZONE_RGB["critical"]


def test_a_screw_that_can_not_be_graded_still_tells_its_distances():
    at = model("critical", 2.0)
    bare = Model(replace(at.twin, landmarks=()), at.planned)
    grade = bare.grade(SCREW)
    assert grade["grade"] is None
    assert grade["structures"][0]["distance_mm"] == pytest.approx(2.0, abs=0.1)


def test_two_twins_that_differ_in_a_role_alone_are_told_apart():
    assert model("critical", 1.0).sha256 != model("target", 1.0).sha256


def test_a_closed_cut_bends_the_canal_with_the_fragment():
    tube = to_mesh(block((-6, 20, -55), (6, 28, 55)).refine_to_length(4.0))
    twin = replace(block_spine(), structures={"spinal_canal": Structure("spinal_canal", "critical", tube, "bones")})
    cut = Osteotomy.make(twin, "close-wedge", "vertebrae_L3", np.deg2rad(20.0))
    (still,) = _bent(twin, ())
    (moved,) = _bent(twin, ((canonical_json(cut.to_json()), cut.angle_rad),))
    assert still.mesh is tube
    shift = np.linalg.norm(moved.mesh.vertices_mm - tube.vertices_mm, axis=1)
    cranial = tube.vertices_mm[:, 2] > 30.0
    assert shift[cranial].min() > 3.0
    assert shift[tube.vertices_mm[:, 2] < -30.0].max() == 0.0
