"""Cuts, wedges and what they move: closed forms, conserved volume, and the phantom's truth by other code."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points
from spatial.shapes import Plane, angle_between_rad
from tests.twin.plan.bodies import BACK, FRONT, HEIGHT, block, block_spine, to_mesh, vertebra_solid
from tests.twin.plan.phantom_twin import marks, phantom, phantom_twin
from twin.anatomy.twin import NoBone
from twin.plan.cuts.chain import moves
from twin.plan.cuts.cut import NotCut, cut_mesh, cut_wedge
from twin.plan.cuts.making import SPINE_KINDS
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy, wedge_height_mm
from twin.plan.cuts.reduction import fragments, planned_from_patient, planned_landmarks
from twin.plan.measures.alignment import measure_alignment

# (depth mm, angle deg): chord of the wedge at the posterior wall, from the clinical fact sheet
PSO_MM = {
    (30, 10): 5.2, (30, 25): 13.0, (30, 30): 15.5, (30, 35): 18.0, (34, 10): 5.9, (34, 25): 14.7, (34, 30): 17.6,
    (34, 35): 20.4, (38, 10): 6.6, (38, 25): 16.4, (38, 30): 19.7, (38, 35): 22.9,
}  # fmt: skip
GAP_MM = {(55, 5): 4.8, (60, 8): 8.4, (60, 12): 12.5, (65, 10): 11.3, (70, 12): 14.6}


@pytest.mark.parametrize(("key", "height"), [*PSO_MM.items(), *GAP_MM.items()])
def test_wedge_heights_as_in_the_fact_sheet(key, height):
    depth, angle = key
    assert wedge_height_mm(depth, math.radians(angle)) == pytest.approx(height, abs=0.051)


def spine_pso(angle_deg=30.0, **kwargs):
    return Osteotomy.pso(block_spine(), "vertebrae_L3", math.radians(angle_deg), **kwargs)


@given(
    st.floats(0, 2 * np.pi), st.floats(-1, 1), st.floats(-12, 12),
)  # fmt: skip
@settings(max_examples=25)
def test_a_cut_conserves_volume_and_both_pieces_are_closed(turn, rise, offset):
    mesh = to_mesh(vertebra_solid(5.0))
    normal = np.array([np.cos(turn), np.sin(turn), rise])
    plane = Plane[Patient](np.array([0.0, 8.0, 0.0]) + offset * normal, normal)
    above, below = cut_mesh(mesh, plane)
    parts = [m for m in (above, below) if len(m.triangles)]
    assert sum(m.volume_ml for m in parts) == pytest.approx(mesh.volume_ml, rel=1e-9)
    assert all(m.is_closed for m in parts)
    for part, sign in ((above, 1), (below, -1)):
        if len(part.triangles):
            assert (sign * plane.signed_distance_mm(Points[Patient](part.vertices_mm))).min() >= -1e-6


def test_a_box_cut_in_the_middle_in_closed_form_and_a_miss_leaves_it_whole():
    mesh = to_mesh(block((0, 0, 0), (10, 20, 30)))
    above, below = cut_mesh(mesh, Plane[Patient]([0, 0, 12.0], [0, 0, 1.0]))
    assert (above.volume_ml, below.volume_ml) == (pytest.approx(3.6), pytest.approx(2.4))
    above, below = cut_mesh(mesh, Plane[Patient]([0, 0, 50.0], [0, 0, 1.0]))
    assert not len(above.triangles)
    assert below.volume_ml == pytest.approx(6.0)


def test_an_open_mesh_is_not_cut():
    mesh = to_mesh(block((0, 0, 0), (10, 20, 30)))
    with pytest.raises(NotCut, match="closed"):
        cut_mesh(TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[1:]), Plane[Patient]([0, 0, 12.0], [0, 0, 1.0]))


@given(st.floats(5, 50), st.floats(-6, 6))
@settings(max_examples=15)
def test_a_wedge_conserves_volume_whatever_angle_and_height(angle_deg, height_mm):
    cut = spine_pso(angle_deg, height_mm=height_mm)
    whole = block_spine().bone("vertebrae_L3").surface
    pieces = cut_wedge(whole, *cut.planes, cut.bisector)
    parts = [m for m in (pieces.moving, pieces.staying, pieces.wedge, pieces.loose) if len(m.triangles)]
    assert sum(m.volume_ml for m in parts) == pytest.approx(whole.volume_ml, rel=1e-6)
    assert all(m.is_closed for m in parts)
    assert pieces.removed_ml < whole.volume_ml


def test_pso_hinge_is_on_the_front_wall_and_the_wedge_takes_the_pedicles():
    cut = spine_pso()
    assert cut.hinge.point_mm == pytest.approx([0.3, FRONT + 0.2, 0.0], abs=0.02)
    assert cut.hinge.direction == pytest.approx([-1, 0, 0], abs=1e-9)  # the patient's right
    assert cut.depth_mm == pytest.approx(BACK - FRONT, abs=0.03)
    upper, lower = cut.planes
    for side in ("left", "right"):
        isthmus = block_spine().landmark(f"pedicle_{side}", "vertebrae_L3").position.mm
        for z in (-5, 5):
            rim = Points[Patient](isthmus + np.array([0, 0, z]))
            assert upper.signed_distance_mm(rim) < 0 < lower.signed_distance_mm(rim)
    back = Points[Patient](np.array([0.3, BACK + 0.2, HEIGHT / 2 - 2]))
    assert upper.signed_distance_mm(back) >= -1e-6  # two millimetres of bone stay under the endplate
    assert cut.notes == ()


def test_a_wedge_too_high_for_the_body_is_said_to_open_a_disc():
    assert any("disc" in note for note in spine_pso(50.0).notes)
    assert any("25 to 40" in note for note in spine_pso(50.0).notes)


@pytest.mark.parametrize("kind", ["PSO", "close-wedge"])
def test_after_the_turn_the_upper_cut_lies_on_the_lower_one(kind):
    cut = Osteotomy.make(block_spine(), kind, "vertebrae_L3", math.radians(28))
    moved = cut.planes[0].moved(planned_from_patient(cut))
    assert moved.angle_rad(Plane(cut.planes[1].point_mm, cut.planes[1].normal)) < 1e-9
    assert cut.planes[0].angle_rad(cut.planes[1]) == pytest.approx(math.radians(28), abs=1e-9)
    assert cut.bisector.angle_rad(cut.planes[0]) == pytest.approx(math.radians(14), abs=1e-9)
    for part, plane, sign in zip(("cranial", "caudal"), (moved, cut.planes[1]), (1, -1), strict=True):
        mesh = fragments(block_spine(), cut).planned_meshes(block_spine())[f"vertebrae_L3:{part}"]
        behind = mesh.vertices_mm[mesh.vertices_mm[:, 1] > FRONT + 0.5]
        assert (sign * plane.signed_distance_mm(Points(behind))).min() >= -1e-6


@pytest.mark.parametrize(("kind", "height"), [("PSO", "posterior"), ("open-wedge", "anterior")])
def test_the_gap_is_as_high_as_the_chord_says(kind, height):
    angle = math.radians(20)
    cut = Osteotomy.make(block_spine(), kind, "vertebrae_L3", angle)
    turn = planned_from_patient(cut)
    way = np.cross(cut.planes[0].normal, cut.hinge.direction)  # in the upper cut, across the hinge
    far = cut.hinge.point_mm + (1 if height == "anterior" else -1) * cut.depth_mm * way * np.sign(-way[1])
    moved = (turn @ Points[Patient](far)).mm
    assert np.linalg.norm(moved - far) == pytest.approx(cut.wedge_height_mm, rel=1e-9)
    assert (moved[2] > far[2]) == (kind == "open-wedge")


def test_everything_cranial_moves_and_the_rest_stays():
    spine = block_spine()
    done = fragments(spine, spine_pso())
    assert set(done.moving) == {"vertebrae_L2", "implant"}
    assert done.fixed == ("vertebrae_L4",)
    planned = done.planned_meshes(spine)
    assert np.array_equal(planned["vertebrae_L4"].vertices_mm, spine.bone("vertebrae_L4").surface.vertices_mm)
    assert planned["vertebrae_L2"].volume_ml == pytest.approx(spine.bone("vertebrae_L2").surface.volume_ml)
    assert planned["vertebrae_L2"].centroid_mm[1] > spine.bone("vertebrae_L2").surface.centroid_mm[1] + 5  # backward


@pytest.mark.parametrize(
    ("cut_bone", "bone", "goes"),
    [
        ("vertebrae_L3", "vertebrae_T10", True), ("vertebrae_L3", "rib_left_12", True), ("vertebrae_L3", "skull", True),
        ("vertebrae_L3", "sacrum", False), ("vertebrae_L3", "hip_left", False), ("vertebrae_L3", "femur_right", False),
        ("vertebrae_T11", "rib_right_11", True), ("vertebrae_T11", "rib_right_12", False),
        ("vertebrae_T11", "vertebrae_T12", False), ("vertebrae_T11", "sternum", True),
    ],
)  # fmt: skip
def test_who_moves_goes_by_the_order_of_the_spine(cut_bone, bone, goes):
    cut = Osteotomy("x", "plane", cut_bone, (Plane([0, 0, 0.0], [0, 0, 1.0]),) * 2, spine_pso().hinge, 0.0, 30.0)
    assert moves(block_spine(), cut, bone) is goes


def test_two_osteotomies_add_up_and_the_upper_one_rides_on_the_lower():
    spine = block_spine()
    cuts = [Osteotomy.pso(spine, bone, math.radians(a)) for bone, a in (("vertebrae_L3", 15), ("vertebrae_L4", 20))]
    for order in (cuts, cuts[::-1]):
        found = {(m.name, m.bone): m for m in planned_landmarks(spine, order)}
        tilt = found["endplate_superior", "vertebrae_L2"].direction.unit
        assert math.degrees(angle_between_rad(tilt, np.array([0, 0, 1.0]))) == pytest.approx(35, abs=1e-6)
        both = planned_from_patient(cuts[1]).matrix() @ planned_from_patient(cuts[0]).matrix()
        start = spine.landmark("endplate_superior", "vertebrae_L2").position.mm
        assert found["endplate_superior", "vertebrae_L2"].position.mm == pytest.approx(
            both[:3, :3] @ start + both[:3, 3]
        )


@pytest.mark.parametrize("angle_deg", [25.0, 30.0, 35.0])
def test_on_the_phantom_the_lordosis_gains_the_angle_and_the_hinge_lies_on_the_true_cortex(angle_deg):
    twin = phantom_twin(("vertebrae_L3",))
    cut = Osteotomy.make(twin, "PSO", "vertebrae_L3", math.radians(angle_deg))
    forward = np.cross(cut.bisector.normal, cut.hinge.direction)
    behind = cut.hinge.point_mm - 5.0 * forward
    assert phantom().crossings("vertebrae_L3", behind[None], forward[None], 20.0)[0] == pytest.approx(5.0, abs=0.1)
    # lordosis by other code: the truth's normals, turned by the rotation written out
    normals = {m.bone: m.direction.unit for m in marks() if m.name == "endplate_superior"}
    u, n = cut.hinge.direction, normals["vertebrae_L1"]
    a = math.radians(angle_deg)
    turned = n * math.cos(a) + np.cross(u, n) * math.sin(a) + u * (u @ n) * (1 - math.cos(a))

    def tilt(v):
        return math.degrees(math.atan2(-v[1], v[2]))

    truth = tilt(normals["sacrum"]) - tilt(turned)
    planned = measure_alignment(planned_landmarks(twin, [cut])).lumbar_lordosis_deg
    assert planned == pytest.approx(truth, abs=0.1)
    assert truth - (tilt(normals["sacrum"]) - tilt(n)) == pytest.approx(angle_deg, abs=0.1)


def test_on_the_phantom_the_pieces_are_closed_and_nothing_is_lost():
    twin = phantom_twin(("vertebrae_L3",))
    whole = twin.bone("vertebrae_L3").surface
    pieces = fragments(twin, Osteotomy.make(twin, "PSO", "vertebrae_L3", math.radians(30))).pieces
    parts = (pieces.moving, pieces.staying, pieces.wedge, pieces.loose)
    assert all(m.is_closed for m in parts)
    assert sum(m.volume_ml for m in parts) == pytest.approx(whole.volume_ml, rel=1e-6)
    assert all(m.volume_ml > 3 for m in parts[:3])


def test_supine_alignment_of_the_phantom_and_pi_is_pt_plus_ss():
    found = measure_alignment(marks())
    assert found.posture == "supine"
    total = found.pelvic_tilt_deg + found.sacral_slope_deg
    assert found.pelvic_incidence_deg == pytest.approx(total, abs=0.1)
    assert 35 <= found.pelvic_incidence_deg <= 85
    assert 31 <= found.lumbar_lordosis_deg <= 88
    none = measure_alignment(m for m in marks() if m.bone != "sacrum")
    assert none.lumbar_lordosis_deg is None
    assert none.pelvic_incidence_deg is None


@pytest.mark.parametrize("kind", SPINE_KINDS)
def test_an_osteotomy_survives_json(kind):
    cut = Osteotomy.make(block_spine(), kind, "vertebrae_L3", math.radians(17.3))
    again = Osteotomy.from_json(cut.to_json())
    assert again.to_json() == cut.to_json()


def test_what_is_not_possible_is_refused_with_what_is():
    with pytest.raises(BadOsteotomy, match="PSO, SPO, VCR, open-wedge, close-wedge"):
        Osteotomy.make(block_spine(), "chevron", "vertebrae_L3", 0.5)
    with pytest.raises(BadOsteotomy, match="takes 1 to 60"):
        spine_pso(75)
    with pytest.raises(BadOsteotomy, match="vertebrae"):
        Osteotomy.make(block_spine(), "PSO", "implant", 0.5)
    with pytest.raises(NoBone, match="vertebrae_L2"):
        Osteotomy.make(block_spine(), "PSO", "vertebrae_L5", 0.5)
    with pytest.raises(BadOsteotomy, match="outside its body"):
        spine_pso(30, height_mm=40)
    with pytest.raises(BadOsteotomy, match="hinge"):
        Osteotomy.from_json(
            {"id": "x", "kind": "PSO", "bone": "b", "planes": [{"point_mm": [0, 0, 0], "normal": [0, 0, 1]}] * 2}
        )
