"""Osteotomies of legs made of boxes: gaps, bridges, volumes, directions on both sides, several cuts at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.frames import Patient
from spatial.rigid import Points, rotation_exp
from tests.twin.plan.limbs import APART, DEEP, FEMUR, LATERAL, TIBIA, WIDTH, box_legs
from twin.anatomy.twin import NoBone, NoLandmark, Twin
from twin.plan.cuts import limb_cuts
from twin.plan.cuts.chain import in_turn, moves, part_names
from twin.plan.cuts.consequences import consequences, gap_mm
from twin.plan.cuts.contact import collisions, faces
from twin.plan.cuts.making import Options, derotation_of, make
from twin.plan.cuts.osteotomy import BadOsteotomy, Osteotomy
from twin.plan.cuts.reduction import carry_out, fragments, planned_landmarks
from twin.plan.cuts.side_effects import leg_effects

SIDES = ("left", "right")
GAP_MM = {
    (55, 5): 4.8, (55, 8): 7.7, (55, 10): 9.6, (55, 12): 11.5, (60, 5): 5.2, (60, 8): 8.4, (60, 10): 10.5,
    (60, 12): 12.5, (65, 5): 5.7, (65, 8): 9.1, (65, 10): 11.3, (65, 12): 13.6, (70, 5): 6.1, (70, 8): 9.8,
    (70, 10): 12.2, (70, 12): 14.6,
}  # fmt: skip


def level_hto(side, angle_deg, length_mm=60.0, **more):
    """A cut square to the axis, `length_mm` from hinge to medial cortex."""
    return limb_cuts.wedge(
        box_legs(), "open-wedge", f"tibia_{side}", math.radians(angle_deg), hinge_level_mm=30.0, entry_level_mm=30.0,
        bridge_mm=WIDTH - length_mm, **more,
    )  # fmt: skip


def place(name, bone, marks):
    return next(m.position.mm for m in marks if (m.name, m.bone) == (name, bone))


@pytest.mark.parametrize(("key", "gap"), GAP_MM.items())
@pytest.mark.parametrize("side", SIDES)
def test_hto_gaps_as_in_the_fact_sheet_measured_on_the_moved_bone(side, key, gap):
    length, angle = key
    cut = level_hto(side, angle, min(length, WIDTH - 1e-6))
    out = np.array([-LATERAL[side], 0, 0])
    entry = cut.hinge.point_mm + length * out
    moved = (cut.motion @ Points[Patient](entry)).mm
    exact = length * math.sqrt(2 - 2 * math.cos(math.radians(angle)))  # law of cosines
    assert np.linalg.norm(moved - entry) == pytest.approx(exact, abs=1e-9)
    assert exact == pytest.approx(gap, abs=0.051)
    assert cut.depth_mm == pytest.approx(length, abs=1e-4)
    assert consequences(box_legs(), cut).gap_mm["far cortex"] == pytest.approx(exact, abs=0.01)
    assert moved[2] < entry[2]  # the distal part goes down


@pytest.mark.parametrize("side", SIDES)
def test_an_opening_hto_brings_the_ankle_outward_by_its_angle_and_keeps_the_slope(side):
    cut = level_hto(side, 8.0)
    marks = planned_landmarks(box_legs(), [cut])
    ankle, knee = place("ankle_centre", f"tibia_{side}", marks), place("plateau_medial", f"tibia_{side}", marks)
    assert knee[2] == 0  # the plateau stays
    lateral = (ankle[0] - LATERAL[side] * APART / 2) * LATERAL[side]
    assert lateral > 30
    found = consequences(box_legs(), cut)
    assert found.words == "distal part 8.0\u00b0 valgus"
    assert found.turn_deg["valgus"] == pytest.approx(8.0, abs=1e-9)
    effects = leg_effects(box_legs(), [cut], cut.bone)
    assert effects["mpta_deg"]["before"] == pytest.approx(90.0)
    assert abs(effects["tibial_slope_medial_deg"]["change"]) < 1e-6
    assert effects["weight_bearing_line_percent"]["change"] > 0


@given(st.sampled_from(SIDES), st.floats(2, 20), st.floats(3, 20), st.floats(10, 60))
@settings(max_examples=20)
def test_bridge_gaps_and_graft_of_a_box_in_closed_form(side, angle_deg, bridge, level):
    angle = math.radians(angle_deg)
    cut = limb_cuts.wedge(
        box_legs(), "open-wedge", f"tibia_{side}", angle, hinge_level_mm=level, entry_level_mm=level, bridge_mm=bridge
    )
    found = consequences(box_legs(), cut)
    length = WIDTH - bridge
    assert found.hinge.bridge_mm == pytest.approx(bridge, abs=1e-6)
    assert found.hinge.length_mm == pytest.approx(DEEP, abs=1e-6)
    assert found.hinge.bridge_mm2 == pytest.approx(bridge * DEEP, rel=0.02)
    for where in ("anterior", "posterior"):  # a box is as wide in front as behind
        assert found.gap_mm[where] == pytest.approx(gap_mm(length, angle), abs=0.01)
    assert found.graft_ml == pytest.approx(angle * length**2 / 2 * DEEP / 1000, rel=1e-6)
    limits = {(c.limit_mm, c.status) for c in found.cautions}
    assert ((12.0, "unverified") in limits) == (gap_mm(length, angle) > 12.0)
    assert ((5.0, "unverified") in limits) == (bridge < 5.0)


def test_the_bridge_beyond_the_hinge_is_what_the_parts_press_into_each_other():
    cut = level_hto("left", 10.0, 60.0)
    (met,) = collisions(box_legs(), [cut])
    assert met.at_hinge
    angle = math.radians(10.0)
    # a triangle of base 10 mm on the cut, or a sector of it: between them
    assert 0.95 * 10**2 * angle / 2 * DEEP < met.volume_mm3 < 1.05 * 10**2 * math.tan(angle) / 2 * DEEP
    assert 0.8 < met.depth_mm < 2 * 10 * math.sin(angle / 2) + 0.1


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("kind", "bone", "words"), [
    ("open-wedge", "tibia", "valgus"), ("close-wedge", "tibia", "valgus"), ("open-wedge", "femur", "varus"),
    ("close-wedge", "femur", "varus"),
])  # fmt: skip
def test_usual_wedges_go_the_usual_way_on_both_sides(kind, bone, words, side):
    cut = make(box_legs(), kind, f"{bone}_{side}", math.radians(7.0))
    assert consequences(box_legs(), cut).words == f"distal part 7.0\u00b0 {words}"
    moved = planned_landmarks(box_legs(), [cut])
    outward = (place("ankle_centre", f"tibia_{side}", moved)[0] - LATERAL[side] * APART / 2) * LATERAL[side]
    assert (outward > 5) == (words == "valgus")
    made = fragments(box_legs(), cut)
    whole = box_legs().bone(cut.bone).surface.volume_ml
    parts = [
        m for m in (made.pieces.moving, made.pieces.staying, made.pieces.wedge, made.pieces.loose) if len(m.triangles)
    ]
    assert sum(m.volume_ml for m in parts) == pytest.approx(whole, rel=1e-9)
    assert all(m.is_closed for m in parts)
    assert part_names(cut) == ("distal", "proximal")


def test_a_closing_wedge_has_its_faces_on_each_other_and_the_height_of_the_chord():
    cut = limb_cuts.wedge(
        box_legs(),
        "close-wedge",
        "tibia_left",
        math.radians(9.0),
        hinge_level_mm=25.0,
        entry_level_mm=25.0,
        bridge_mm=5.0,
    )
    moved = cut.planes[0].moved(cut.motion)
    assert moved.angle_rad(cut.planes[1]) < 1e-9
    met = faces(box_legs(), cut)
    assert met.share == pytest.approx(1.0, abs=1e-6)
    assert met.contact_mm2 == pytest.approx(WIDTH * DEEP / math.cos(math.radians(4.5)), rel=1e-6)
    wedge = fragments(box_legs(), cut).pieces.wedge
    tan = math.tan(math.radians(4.5))
    assert wedge.volume_ml == pytest.approx((65**2) * tan * DEEP / 1000, rel=1e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("toward", "sign"), [("external", 1.0), ("internal", -1.0)])
def test_a_derotation_turns_the_toes_the_way_it_is_called(side, toward, sign):
    cut = limb_cuts.derotation(box_legs(), f"femur_{side}", math.radians(15.0), toward)
    toes = np.array([LATERAL[side] * APART / 2, -150.0, -TIBIA])
    moved = (cut.motion @ Points[Patient](toes)).mm
    assert (moved[0] - toes[0]) * LATERAL[side] == pytest.approx(sign * 150 * math.sin(math.radians(15.0)), abs=1e-6)
    assert consequences(box_legs(), cut).words == f"distal part 15.0\u00b0 {toward}"
    assert set(fragments(box_legs(), cut).moving) == {f"{n}_{side}" for n in ("tibia", "fibula", "patella")}


def version_of(marks, side):
    """Plain: the neck over the condyles in the plane across z, as nobody turned the axis."""
    neck = place("femoral_neck", f"femur_{side}", marks) - place("femoral_head", f"femur_{side}", marks)
    line = place("condyle_posterior_lateral", f"femur_{side}", marks) - place(
        "condyle_posterior_medial", f"femur_{side}", marks
    )

    def bearing(v):
        return math.degrees(math.atan2(v[1], v[0] * LATERAL[side]))

    return bearing(neck) - bearing(line)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("target", "toward"), [(15.0, "external"), (42.0, "internal")])
def test_excess_anteversion_asks_for_external_rotation_of_the_distal_part(side, target, toward):
    assert version_of(box_legs().landmarks, side) == pytest.approx(30.0)
    cut = make(box_legs(), "derotation", f"femur_{side}", options=Options(target_deg=target, at="distal"))
    assert consequences(box_legs(), cut).words == f"distal part {abs(target - 30):.1f}\u00b0 {toward}"
    assert version_of(planned_landmarks(box_legs(), [cut]), side) == pytest.approx(target, abs=0.01)


def test_excess_tibial_torsion_asks_for_internal_rotation():
    cut = make(box_legs(), "derotation", "tibia_right", options=Options(target_deg=25.0))
    assert consequences(box_legs(), cut).words == "distal part 15.0\u00b0 internal"
    assert leg_effects(box_legs(), [cut], "tibia_right")["tibial_torsion_deg"]["after"] == pytest.approx(25.0, abs=0.01)
    assert derotation_of("femur_left", 30.0, 15.0) == (pytest.approx(math.radians(15)), "external")
    assert derotation_of("tibia_left", 30.0, 40.0) == (pytest.approx(math.radians(10)), "external")


def test_a_derotation_closes_the_kerf_and_says_how_far_marks_part():
    cut = limb_cuts.derotation(box_legs(), "femur_left", math.radians(15.0), "external", kerf_mm=1.2)
    found = consequences(box_legs(), cut)
    assert found.shortening_mm == pytest.approx(1.2)
    assert found.cortex_offset_mm == pytest.approx(math.hypot(WIDTH / 2, DEEP / 2) * math.radians(15.0))
    assert fragments(box_legs(), cut).pieces.wedge.volume_ml == pytest.approx(WIDTH * DEEP * 1.2 / 1000, rel=1e-6)
    assert leg_effects(box_legs(), [cut], "femur_left")["femur_length_mm"]["change"] == pytest.approx(-1.2, abs=1e-6)
    assert not collisions(box_legs(), [cut])


def test_a_turn_about_a_leaning_shaft_tips_the_knee_and_the_amount_is_told():
    """About an axis 6 degrees inside the mechanical one, by 30 degrees: the coronal angle by spherical geometry."""
    legs, lean, turn = box_legs(), math.radians(6.0), math.radians(30.0)
    axis = np.array([math.sin(lean), 0.0, math.cos(lean)])
    cut = limb_cuts.derotation(legs, "femur_left", turn, "external", about="mechanical", level_mm=80.0)
    cut = Osteotomy(
        "x", "derotation", cut.bone, cut.planes, type(cut.hinge)(cut.hinge.point_mm, axis), turn, cut.depth_mm
    )
    told = leg_effects(legs, [cut], "femur_left")["mldfa_deg"]
    # the distal frame sees the head where the inverse turn takes it
    knee = np.array([APART / 2, 0, 0])
    head = np.array([APART / 2, 0, FEMUR])
    back = (cut.motion.inverse() @ Points[Patient](head)).mm - knee
    expected = math.degrees(math.atan2(back[0], back[2]))
    assert abs(expected) > 0.3
    assert abs(told["change"]) == pytest.approx(abs(expected), abs=0.03)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-30, 30), st.sampled_from(SIDES))
@settings(max_examples=25)
def test_a_single_oblique_cut_turns_in_its_own_face(valgus, flexion, external, side):
    parts = [math.radians(v) for v in (valgus, flexion, external)]
    if math.hypot(*parts) < math.radians(2.0):
        return
    out = LATERAL[side]
    x, y, z = np.eye(3)
    # valgus: the foot outward; flexion: the foot backward; external: the toes outward
    whole = rotation_exp(out * z * parts[2]) @ rotation_exp(x * parts[1]) @ rotation_exp(-out * y * parts[0])
    angle = math.acos((np.trace(whole) - 1) / 2)
    if angle < math.radians(1.0):
        return
    cut = limb_cuts.oblique(
        box_legs(), f"femur_{side}", valgus_rad=parts[0], flexion_rad=parts[1], external_rad=parts[2]
    )
    assert cut.motion.rotation == pytest.approx(whole, abs=1e-9)
    assert cut.angle_rad == pytest.approx(angle, abs=1e-6)
    assert abs(float(cut.planes[0].normal @ cut.hinge.direction)) == pytest.approx(1.0, abs=1e-9)
    assert cut.planes[0].moved(cut.motion).angle_rad(cut.planes[0]) < 1e-7


def test_a_biplanar_cut_leaves_the_tubercle_with_the_shaft():
    legs = box_legs()
    cut = limb_cuts.wedge(legs, "open-wedge", "tibia_left", math.radians(8.0), biplanar=True)
    made = fragments(legs, cut).pieces
    whole = legs.bone("tibia_left").surface.volume_ml
    assert made.moving.volume_ml + made.staying.volume_ml == pytest.approx(whole, rel=1e-9)
    assert made.moving.is_closed
    assert made.staying.is_closed
    flat = fragments(legs, limb_cuts.wedge(legs, "open-wedge", "tibia_left", math.radians(8.0))).pieces
    assert made.moving.volume_ml > flat.moving.volume_ml + 1.0
    x = APART / 2
    tubercle = Points[Patient](np.array([x, -DEEP / 2 + 1, -20.0]))
    assert any("below the plateau" in note for note in cut.notes)
    behind = Points[Patient](np.array([x, 0.0, -20.0]))
    assert cut.is_moving(tubercle)
    assert not cut.is_moving(behind)
    rise = np.cross(cut.more[0].normal, [1.0, 0, 0])
    rise = rise if rise[2] > 0 else -rise
    assert math.degrees(math.acos(rise @ [0, 1.0, 0])) == pytest.approx(110.0, abs=1e-6)  # against the way back


def test_femur_and_tibia_at_once_compose_from_the_foot_upward():
    legs = box_legs()
    femur = limb_cuts.derotation(legs, "femur_left", math.radians(20.0), "external")
    tibia = level_hto("left", 9.0)
    assert [c.id for c in in_turn([femur, tibia])] == [tibia.id, femur.id]
    for order in ([femur, tibia], [tibia, femur]):
        ankle = place("ankle_centre", "tibia_left", planned_landmarks(legs, order))
        start = place("ankle_centre", "tibia_left", legs.landmarks)
        by_hand = (femur.motion.matrix() @ tibia.motion.matrix() @ [*start, 1.0])[:3]
        assert ankle == pytest.approx(by_hand)
        bodies = {b.name: b for b in carry_out(legs, order)}
        assert bodies["tibia_left:distal"].planned_from_patient.matrix() == pytest.approx(
            femur.motion.matrix() @ tibia.motion.matrix()
        )
        assert bodies["tibia_left:proximal"].planned_from_patient.matrix() == pytest.approx(femur.motion.matrix())
        assert bodies["femur_left:proximal"].planned_from_patient.matrix() == pytest.approx(np.eye(4))
        assert bodies["tibia_right"].planned_from_patient.matrix() == pytest.approx(np.eye(4))


def test_two_cuts_of_one_bone_make_three_parts_that_ride_on_each_other():
    legs = box_legs()
    low = limb_cuts.derotation(legs, "tibia_left", math.radians(15.0), "internal", at="distal")
    high = level_hto("left", 9.0)
    bodies = {b.name: b for b in carry_out(legs, [low, high])}
    assert (
        set(bodies) >= {"tibia_left:distal:distal", "tibia_left:distal:proximal"}
        or len([n for n in bodies if n.startswith("tibia_left")]) == 3
    )
    own = [b for b in bodies.values() if b.bone == "tibia_left"]
    assert sum(b.mesh.volume_ml for b in own) == pytest.approx(legs.bone("tibia_left").surface.volume_ml, rel=1e-9)
    matrices = sorted((b.planned_from_patient.matrix().round(9).tolist() for b in own), key=str)
    wanted = [np.eye(4), high.motion.matrix(), high.motion.matrix() @ low.motion.matrix()]
    assert matrices == sorted((m.round(9).tolist() for m in wanted), key=str)


@pytest.mark.parametrize(("cut_bone", "bone", "goes"), [
    ("femur_left", "tibia_left", True), ("femur_left", "patella_left", True), ("femur_left", "tibia_right", False),
    ("femur_left", "hip_left", False), ("femur_left", "vertebrae_L3", False), ("femur_left", "sacrum", False),
    ("tibia_right", "fibula_right", True), ("tibia_right", "patella_right", False),
    ("tibia_right", "talus_right", True),
    ("tibia_right", "metatarsals_right", True), ("tibia_right", "femur_right", False),
    ("vertebrae_L3", "femur_left", False), ("vertebrae_L3", "talus_left", False),
])  # fmt: skip
def test_who_moves_with_a_leg(cut_bone, bone, goes):
    base = level_hto("left", 9.0)
    cut = Osteotomy("x", "plane", cut_bone, base.planes, base.hinge, 0.0, 10.0)
    assert moves(box_legs(), cut, bone) is goes


def test_a_pao_turns_the_socket_about_the_head_and_nothing_rides_on_it():
    import manifold3d as m3

    from tests.twin.plan.bodies import block, to_mesh
    from twin.anatomy.bone import Bone

    legs = box_legs()
    x = APART / 2
    hip = m3.Manifold.sphere(34.0, 48) - m3.Manifold.sphere(26.0, 48) - block((-60, -60, -80), (60, 60, -12))
    hip = hip.translate((x, 0, FEMUR)) + block((x - 20, -6, FEMUR + 30), (x + 20, 20, FEMUR + 130))
    twin = Twin("pelvis", {**legs.bones, "hip_left": Bone("hip_left", to_mesh(hip))}, legs.landmarks, legs.levels)
    cut = make(twin, "PAO", "hip_left", math.radians(12.0))
    made = fragments(twin, cut)
    assert not made.moving
    pieces = made.pieces
    total = sum(m.volume_ml for m in (pieces.moving, pieces.staying, pieces.loose) if len(m.triangles))
    assert total == pytest.approx(twin.bone("hip_left").surface.volume_ml, rel=1e-9)
    roof = np.array([x + 24.0, 0, FEMUR + 18.0])  # the outer edge of the roof comes outward and down
    moved = (cut.motion @ Points[Patient](roof)).mm
    before, after = (math.degrees(math.atan2(p[0] - x, p[2] - FEMUR)) for p in (roof, moved))
    assert after - before == pytest.approx(12.0, abs=1e-6)
    assert bool(cut.is_moving(Points[Patient](roof)))
    assert not bool(cut.is_moving(Points[Patient](np.array([x, 0, FEMUR + 100.0]))))
    assert consequences(twin, cut).words == "acetabulum part 12.0\u00b0 lateral cover"


@pytest.mark.parametrize(("kind", "options"), [
    ("open-wedge", Options(kerf_mm=1.2, biplanar=True)), ("close-wedge", Options()),
    ("derotation", Options(target_deg=10.0)),
    ("oblique", Options(valgus_deg=5.0, external_deg=20.0)), ("plane", Options(box_mm=(30.0, 20.0), at="proximal")),
])  # fmt: skip
def test_every_kind_survives_json(kind, options):
    cut = make(box_legs(), kind, "tibia_left", options=options)
    assert Osteotomy.from_json(cut.to_json()).to_json() == cut.to_json()


def test_a_document_of_the_first_schema_is_read():
    value = level_hto("left", 9.0).to_json()
    for key in ("kerf_mm", "shift_mm", "more_planes", "also", "outline_mm", "schwab_grade"):
        del value[key]
    again = Osteotomy.from_json(value)
    assert again.kerf_mm == 0
    assert again.more == ()
    assert again.motion.matrix() == pytest.approx(level_hto("left", 9.0).motion.matrix())


@pytest.mark.parametrize(("kind", "bone", "options", "words"), [
    ("PSO", "tibia_left", Options(), "open-wedge, close-wedge, derotation, oblique, plane"),
    ("derotation", "tibia_left", Options(), "--target-deg"),
    ("derotation", "tibia_left", Options(target_deg=5.0, toward="internal"), "leave --toward out"),
    ("oblique", "tibia_left", Options(), "no correction"),
    ("open-wedge", "tibia_left", Options(toward="external"), "--toward"),
    ("open-wedge", "tibia_left", Options(bridge_mm=90.0), "bridge of 90"),
    ("open-wedge", "femur_left", Options(biplanar=True), "biplanar"),
    ("plane", "tibia_left", Options(level_mm=900.0), "no bone"),
    ("plane", "patella_left", Options(), "vertebrae, femora"),
    ("plane", "tibia_left", Options(box_mm=(-1.0, 5.0)), "above zero"),
    ("PAO", "femur_left", Options(), "not available"),
    ("plane", "tibia_left", Options(level_mm=math.nan), "number"),
])  # fmt: skip
def test_what_is_not_possible_is_refused_with_what_is(kind, bone, options, words):
    with pytest.raises(BadOsteotomy, match=words):
        make(box_legs(), kind, bone, options=options)


def test_missing_bones_and_joints_are_named():
    with pytest.raises(NoBone, match="femur_left"):
        make(box_legs(), "open-wedge", "tibia_middle")
    legs = box_legs()
    short = Twin("cut", legs.bones, tuple(m for m in legs.landmarks if m.name != "ankle_centre"), legs.levels)
    with pytest.raises(NoLandmark, match="tibia_left can't be cut by its axes"):
        make(short, "open-wedge", "tibia_left")
