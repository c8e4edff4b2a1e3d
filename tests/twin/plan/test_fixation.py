"""Plates and nails on legs made of boxes, where they must lie flat and keep their wall, in closed form."""

import math

import manifold3d as m3
import numpy as np
import pytest

from tests.twin.plan.limbs import APART, DEEP, WIDTH, box_legs
from twin.plan.cuts import fixation
from twin.plan.cuts.implant import BadImplant, Implant
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.reduction import carry_out
from twin.plan.cuts.solid import solid_of
from twin.plan.screws.implants import BadImplant as NotInLibrary
from twin.plan.screws.implants import load_library


def solid(implant, thickness_mm=3.0):
    """The plate as a slab on its underside."""
    half = implant.width_mm / 2
    slab = m3.Manifold.cube((implant.width_mm, implant.length_mm, thickness_mm)).translate(
        (-half, -implant.length_mm / 2, 0)
    )
    pose = implant.patient_from_implant
    return slab.transform(np.column_stack([pose.rotation, pose.translation_mm]))


def planned(twin, cut):
    """The cut bone's parts as planned."""
    return [solid_of(b.planned_mesh) for b in carry_out(twin, [cut]) if b.bone == cut.bone and b.role != "removed"]


def test_a_plate_on_a_flat_side_touches_all_along_and_counts_its_holes():
    cut = make(box_legs(), "plane", "tibia_left", options=Options(level_mm=40.0))
    found = fixation.plate(box_legs(), cut, load_library())
    assert found.gap_mm == (pytest.approx(0.0, abs=0.01), pytest.approx(0.0, abs=0.01))
    pose = found.implant.patient_from_implant
    assert pose.rotation[:, 2] == pytest.approx([1, 0, 0], abs=1e-3)  # from lateral
    assert pose.translation_mm[0] == pytest.approx(APART / 2 + WIDTH / 2, abs=0.01)
    # eight holes from 18 to 116 mm below the knee, every 14: two above the cut at 40
    assert found.holes == (6, 2)
    assert found.source_status == "unverified"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_plate_over_an_opened_wedge_lies_medially_on_bone_and_in_none(side):
    cut = make(box_legs(), "open-wedge", f"tibia_{side}", math.radians(9.0))
    found = fixation.plate(box_legs(), cut, load_library())
    plate = solid(found.implant)
    # less than a tenth of a millimetre of the ridge, which lies between two stations
    assert sum(float((plate ^ part).volume()) for part in planned(box_legs(), cut)) < 16 * 2 * 0.1
    out = found.implant.patient_from_implant.rotation[:, 2]
    assert out[0] * (1 if side == "left" else -1) < -0.9
    near = solid(found.implant).translate(tuple(-0.5 * out))
    assert sum(float((near ^ part).volume()) for part in planned(box_legs(), cut)) > 0.5  # it touches
    assert 0 < found.gap_mm[0] < found.gap_mm[1] < 10  # the ridge keeps a straight plate off at one end


def test_a_nail_runs_in_the_middle_and_keeps_its_wall():
    cut = make(box_legs(), "derotation", "tibia_left", math.radians(12.0), options=Options(toward="external"))
    found = fixation.nail(box_legs(), cut, load_library(), 10.0)
    assert found.wall_mm == pytest.approx(DEEP / 2 - 5.0, abs=0.3)
    assert found.implant.length_mm == 340.0  # the longest of the library in 358 mm less what stays free
    pose = found.implant.patient_from_implant
    assert abs(pose.rotation[:, 1] @ [0, 0, 1]) == pytest.approx(1.0, abs=0.01)
    rod = m3.Manifold.cylinder(340.0, 5.0, circular_segments=48).rotate((-90, 0, 0))
    rod = rod.transform(np.column_stack([pose.rotation, pose.translation_mm]))
    inside = sum(float((rod ^ part).volume()) for part in planned(box_legs(), cut))
    assert inside == pytest.approx(rod.volume(), rel=1e-3)


def test_what_the_library_or_the_bone_can_not_take_is_said():
    legs = box_legs()
    far = make(legs, "plane", "tibia_left", options=Options(at="distal"))
    with pytest.raises(NotInLibrary, match="proximal tibia"):
        fixation.plate(legs, far, load_library())
    with pytest.raises(NotInLibrary, match=r"no nail of 7 mm for a tibia.*8\.0"):
        fixation.nail(legs, far, load_library(), 7.0)
    with pytest.raises(fixation.NoFixation, match="library's are longer"):
        fixation.nail(legs, far, load_library(), 8.0, 420.0)


def test_an_implant_survives_json_and_refuses_what_can_not_be():
    cut = make(box_legs(), "plane", "tibia_left", options=Options(level_mm=40.0))
    one = fixation.plate(box_legs(), cut, load_library()).implant
    assert Implant.from_json(one.to_json()).to_json() == one.to_json()
    with pytest.raises(BadImplant, match="plate or nail"):
        Implant("x", "cage", "f", "tibia_left", 1.0, 1.0, one.patient_from_implant)
    with pytest.raises(BadImplant, match="above zero"):
        Implant("x", "nail", "f", "tibia_left", 0.0, 1.0, one.patient_from_implant)
    with pytest.raises(BadImplant, match="lacks"):
        Implant.from_json({"id": "x"})
