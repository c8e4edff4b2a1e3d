"""Breaches over the whole screw, other scales, and the facet joint above: all by construction."""

from dataclasses import replace

import manifold3d as m3
import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Directions, Points
from tests.twin.plan import bodies
from tests.twin.plan.bodies import PEDICLE_X, block, block_twin, landmarks_of, to_mesh, vertebra_solid
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.structure import MEASURED, Structure
from twin.anatomy.twin import Levels, Twin
from twin.plan.screws.facet import FacetCheck, neighbour_above
from twin.plan.screws.grade import grade_screw
from twin.plan.screws.scales import neo_grade
from twin.plan.screws.screw import Screw

R, D = 5.0, 6.0


def screw(medial=0.0, up=0.0, length=45.0, bone="vertebrae_L4", tip=(0.0, 0.0), diameter=D):
    """Through the left pedicle, shifted; `tip`: how far medially and up the axis is at the body's front."""
    x, z = PEDICLE_X - medial, 4.0 + up
    entry = np.array([x, bodies.REAR, z])
    front = np.array([x - tip[0], bodies.FRONT, z + tip[1]])
    return Screw("s", bone, "left", Points[Patient](entry), Points[Patient](front), diameter, length)


def graded(one, twin=None):
    return grade_screw(block_twin(5.0, one.bone) if twin is None else twin, one)


@pytest.mark.parametrize(
    ("medial", "up", "where"),
    [(1, 0, "canal"), (-1, 0, "pedicle_lateral"), (0, 1, "foramen_superior"), (0, -1, "foramen_inferior")],
)
def test_a_breach_in_the_pedicle_is_told_by_the_wall_it_passes(medial, up, where):
    found = graded(screw(3.4 * medial, 3.4 * up)).to_json()["breach_whole_mm"]
    assert found[where] == pytest.approx(3.4 + D / 2 - R, abs=0.06)
    others = {k: v for k, v in found.items() if k != where}
    assert max(others.values()) < found[where]


def test_a_contained_screw_breaches_nowhere_and_its_tip_is_that_deep():
    report = graded(screw(length=54.0)).to_json()
    assert set(report["breach_whole_mm"].values()) == {0.0}
    assert report["tip_depth_mm"] == pytest.approx(58.0 - 54.0, abs=0.06)
    assert report["chord_share"] == pytest.approx(54.0 / 58.0, abs=0.01)
    assert report["fill"] == pytest.approx(D / (2 * R), abs=0.01)
    assert report["within_80_percent"]
    assert not graded(screw(diameter=8.5)).to_json()["within_80_percent"]


def test_the_body_is_left_forward_beside_or_through_the_endplate():
    forward = graded(screw(length=60.0))
    assert forward.whole.anterior_mm == pytest.approx(2.0, abs=0.06)
    assert forward.whole.tip_mm == pytest.approx(-2.0, abs=0.06)
    beside = graded(screw(length=55.0, tip=(-9.0, 0.0)))
    assert beside.whole.beside_mm > 0.5
    assert beside.whole.anterior_mm == 0.0
    disc = graded(screw(length=55.0, tip=(0.0, 13.0)))
    assert disc.whole.disc_mm > 0.5
    assert (disc.whole.anterior_mm, disc.whole.beside_mm) == (0.0, 0.0)


@pytest.mark.parametrize(("breach", "neo"), [(0, 0), (0.1, 1), (1.99, 1), (2, 2), (3.99, 2), (4, 3), (9, 3)])
def test_neo(breach, neo):
    assert neo_grade(breach) == neo


@pytest.mark.parametrize(
    ("one", "grade"),
    [
        ({}, "I"), ({"medial": -3.4}, "II"), ({"length": 60.0}, "III"), ({"length": 55.0, "tip": (-9.0, 0.0)}, "III"),
        ({"medial": 3.4}, "IV"), ({"up": -3.4}, "IV"), ({"up": 3.4}, None),
    ],
)  # fmt: skip
def test_heary_by_direction_for_thoracic_screws_only(one, grade):
    assert graded(screw(bone="vertebrae_T8", **one)).heary == grade
    assert graded(screw(**one)).heary is None


def test_a_cord_or_vessel_in_the_way_is_heary_v_and_the_canal_alone_is_not():
    bone = "vertebrae_T8"
    canal = Structure("spinal_canal", "critical", to_mesh(block((-7, 18, -20), (7, 30, 20))), MEASURED)
    aorta = Structure("aorta", "critical", to_mesh(block((5, -40, -20), (25, -18, 20))), "drawn")
    twin = replace(block_twin(5.0, bone), structures={s.name: s for s in (canal, aorta)})
    assert graded(screw(bone=bone, medial=3.4), twin).heary == "IV"
    assert graded(screw(bone=bone), twin).to_json()["canal_mm"] == pytest.approx(PEDICLE_X - D / 2 - 7, abs=0.1)
    assert graded(screw(bone=bone, length=60.0), twin).heary == "V"


GAP = 1.0


def jointed(side="left"):
    """L4 with a knob behind its pedicle that faces, across a joint of 1 mm, a process of L3."""
    knob = block((14, 36, 2), (20, 41, 24))
    lower = vertebra_solid(R) + knob
    upper = vertebra_solid(R).translate((0, 0, 38)) + block((4, 36, 12), (14 - GAP, 41, 40))
    mark = {}
    for name, bone, x, way in (("superior", "vertebrae_L4", 14.0, -1.0), ("inferior", "vertebrae_L3", 14.0 - GAP, 1.0)):
        at = Points[Patient]([x, 38.5, 18.0])
        mark[bone] = Landmark(f"facet_{name}_{side}", bone, side, at, Directions[Patient](np.array([way, 0, 0])), 0.5)
    marks = (*landmarks_of("vertebrae_L4"), *landmarks_of("vertebrae_L3", (0, 0, 38)), *mark.values())
    bones = {
        name: Bone(name, to_mesh(_fine(solid))) for name, solid in (("vertebrae_L4", lower), ("vertebrae_L3", upper))
    }
    return Twin("joint", bones, marks, Levels(1.0))


def _fine(solid: m3.Manifold) -> m3.Manifold:
    return solid.refine_to_length(1.5)


def test_the_facet_joint_above_is_met_by_shaft_or_head_or_not_at_all():
    twin = jointed()
    free = graded(screw(medial=-2.0, up=-3.0), twin).facet
    assert isinstance(free, FacetCheck)
    assert (free.neighbour, free.violated_by) == ("vertebrae_L3", None)
    # the joint's lowest points lie at z = 12, 13 <= x <= 14, and at the knob's foot; the shaft's top at z = 1 + 3
    assert free.shaft_mm > 3.0
    high = graded(screw(medial=-1.5, up=9.0), twin).facet  # x 13.5, z 13: right through it
    assert high.violated_by == "shaft"
    assert high.shaft_mm < -1.0
    near = graded(screw(medial=1.0, up=0.5), twin).facet  # x 11, z 4.5: below the joint, but the head is 13 mm wide
    assert near.violated_by is None or near.violated_by == "head"
    assert near.head_mm < near.shaft_mm


def test_a_head_that_stands_in_the_upper_bone_is_said():
    twin = jointed()
    shelf = to_mesh(_fine(block((4, 36, 12), (13, 41, 40)) + block((4, 41, 2), (24, 52, 40))))  # overhangs the entry
    over = Twin("over", {**twin.bones, "vertebrae_L3": Bone("vertebrae_L3", shelf)}, twin.landmarks, Levels(1.0))
    found = graded(screw(medial=-2.0, up=-3.0), over).facet
    assert found.violated_by == "head"
    assert found.head_to_bone_mm < 0


def test_without_neighbour_or_landmarks_it_says_why():
    assert "no vertebra above" in graded(screw()).to_json()["facet_reason"]
    twin = jointed()
    bare = Twin("bare", twin.bones, landmarks_of("vertebrae_L4"), Levels(1.0))
    assert "facet_superior_left" in graded(screw(), bare).to_json()["facet_reason"]
    assert neighbour_above(twin, "vertebrae_L4") == "vertebrae_L3"
    assert neighbour_above(twin, "vertebrae_L3") is None
    assert neighbour_above(twin, "hip_left") is None
