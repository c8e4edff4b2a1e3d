"""Cutting blocks: closed, in one piece, off the bone, on and off along one line, slots where the saw shall go."""

import math

import numpy as np
import pytest

from spatial.faults import Misuse
from tests.twin.plan.bodies import block_spine, to_mesh
from tests.twin.plan.limbs import APART, DEEP, WIDTH, box_legs
from twin.anatomy.bone import Bone
from twin.anatomy.twin import Twin
from twin.plan.cuts.guide import GuideSettings, NoGuide, guide_block
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.solid import solid_of
from twin.surfaces.stl import read_stl, stl_bytes


def round_leg():
    """The left leg with a round tibia of 20 mm radius: an underside that curves away."""
    import manifold3d as m3

    legs = box_legs()
    rod = m3.Manifold.cylinder(340.0, 20.0, circular_segments=256).translate((APART / 2, 0, -345.0))
    bones = {**legs.bones, "tibia_left": Bone("tibia_left", to_mesh(rod.refine_to_length(6.0)))}
    return Twin("round", bones, legs.landmarks, legs.levels)


CASES = {
    "opening wedge": (box_legs, "open-wedge", "tibia_left", Options()),
    "closing wedge": (box_legs, "close-wedge", "femur_right", Options(hinge_level_mm=60.0, entry_level_mm=60.0)),
    "derotation of a round bone": (round_leg, "derotation", "tibia_left", Options(target_deg=30.0)),
    "plane through an arch": (block_spine, "plane", "vertebrae_L3", Options()),
}


@pytest.fixture(scope="module", params=CASES)
def made(request):
    twin, kind, bone, options = CASES[request.param]
    found = make(twin(), kind, bone, options=options)
    use = GuideSettings(width_mm=30.0, margin_mm=9.0) if bone == "vertebrae_L3" else GuideSettings()
    return twin(), found, use, guide_block(twin(), found, settings=use)


def test_a_block_is_closed_in_one_piece_and_keeps_its_air(made):
    twin, cut, use, guide = made
    assert guide.mesh.is_closed
    assert guide.mesh.volume_ml > 2
    assert len(solid_of(guide.mesh).decompose()) == 1
    both = solid_of(guide.mesh) ^ solid_of(twin.bone(cut.bone).surface)
    assert both.volume() < 1e-9
    assert 0.5 * use.fit_mm < guide.least_gap_mm < use.fit_mm + 0.5


def test_a_block_comes_off_along_the_approach(made):
    twin, cut, _, guide = made
    bone = solid_of(twin.bone(cut.bone).surface)
    for way in (0.5, 2.0, 6.0, 20.0):
        moved = solid_of(guide.mesh).translate(tuple(way * guide.approach))
        assert (moved ^ bone).volume() < 1e-9, way


def test_the_slots_lead_the_blade_along_each_plane_and_no_more(made):
    _, cut, use, guide = made
    solid = solid_of(guide.mesh)
    middle = np.mean(guide.mesh.bounds_mm, axis=0)
    first, second = cut.planes
    assert len(guide.slots) == (1 if first.angle_rad(second) < 1e-6 else 2)
    for plane in guide.slots:
        # the blade: as wide as the slot may be, through the whole block
        deep = guide.approach - (guide.approach @ plane.normal) * plane.normal
        deep = deep / np.linalg.norm(deep)
        across = np.cross(plane.normal, deep)
        at = middle - ((middle - plane.point_mm) @ plane.normal) * plane.normal
        import manifold3d as m3

        for thick, clear in ((use.blade_mm, True), (use.blade_mm + use.play_mm + 0.4, False)):
            pose = np.column_stack([across, plane.normal, deep, at])
            blade = m3.Manifold.cube((use.width_mm - 2 * use.side_mm - 2.0, thick, 200.0), True).transform(pose)
            assert ((blade ^ solid).volume() < 1e-6) is clear
        wide = m3.Manifold.cube((use.width_mm + 4, use.blade_mm, 200.0), True).transform(pose)
        assert (wide ^ solid).volume() > 5  # the sides hold


def test_pins_run_free_through_the_block_into_bone_and_past_the_slots(made):
    import manifold3d as m3

    twin, cut, use, guide = made
    assert 2 <= len(guide.pins) <= 4
    solid, bone = solid_of(guide.mesh), solid_of(twin.bone(cut.bone).surface)
    for pin in guide.pins:
        u = np.cross(pin.direction, np.eye(3)[int(np.argmin(np.abs(pin.direction)))])
        u /= np.linalg.norm(u)
        pose = np.column_stack([u, np.cross(pin.direction, u), pin.direction, pin.point_mm - 5 * pin.direction])
        rod = m3.Manifold.cylinder(35.0, use.pin_mm / 2, circular_segments=24).transform(pose)
        assert (rod ^ solid).volume() < 1e-6
        assert (rod ^ bone).volume() > 10


def test_the_underside_of_a_round_bone_follows_it():
    twin = round_leg()
    cut = make(twin, "plane", "tibia_left")
    use = GuideSettings()
    guide = guide_block(twin, cut, settings=use)
    radius = np.hypot(guide.mesh.vertices_mm[:, 0] - APART / 2, guide.mesh.vertices_mm[:, 1])
    assert radius.min() == pytest.approx(20.0 + use.fit_mm, abs=0.05)
    under = radius < 20.0 + use.fit_mm + 0.05
    assert under.sum() > 1000
    assert guide.contact_cm2 > 5


def test_the_file_for_print_reads_back_closed(made, tmp_path):
    guide = made[3]
    path = tmp_path / "block.stl"
    path.write_bytes(stl_bytes(guide.mesh))
    again = read_stl(path)
    assert again.volume_ml == pytest.approx(guide.mesh.volume_ml, rel=1e-4)
    assert again.is_closed


def test_an_opening_block_stands_where_the_wedge_opens():
    middle = guide_block(box_legs(), make(box_legs(), "open-wedge", "tibia_right")).mesh.centroid_mm
    assert middle[0] + APART / 2 > WIDTH / 2  # medial of the right bone
    assert abs(middle[1]) < DEEP / 2


def test_what_can_not_be_made_is_said():
    legs = box_legs()
    cut = make(legs, "plane", "tibia_left")
    with pytest.raises(NoGuide, match="square to its own plane"):
        guide_block(legs, cut, approach=np.array([0.0, 0.0, 1.0]))
    with pytest.raises(Misuse, match="no slot left"):
        GuideSettings(width_mm=10.0, side_mm=4.0)
    with pytest.raises(Misuse, match="guide sizes"):
        GuideSettings(fit_mm=math.nan)
    with pytest.raises(NoGuide, match="room for 0 pins"):  # it takes the whole arch, so nothing is left to sit on
        guide_block(block_spine(), make(block_spine(), "PSO", "vertebrae_L3"))
    narrow = make(legs, "close-wedge", "tibia_left", math.radians(1.0))
    with pytest.raises(NoGuide):
        guide_block(legs, narrow, settings=GuideSettings(margin_mm=2.0))
