"""A twin and its plan as scene parts: names, levels of detail, screws on their axes, the spine after an osteotomy."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from render.anatomy import (
    bone_label,
    bone_labels,
    bone_outlines,
    bone_parts,
    bone_rgb,
    standard_views,
    standing_of,
    voxels_of,
)
from render.offscreen import Offscreen
from render.orientation import edge_letters
from render.planning import cut_plane_parts, plan_parts, planned_parts, screw_outlines, screw_parts
from render.scene import Scene
from render.solids import screw_mesh
from spatial.frames import Patient
from spatial.rigid import Points, Rigid
from spatial.shapes import Line, Plane
from tests.render.shapes import icosphere
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, NoBone, Twin
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import fragments, planned_from_patient
from twin.plan.plan import Plan
from twin.plan.screws.screw import Screw
from twin.scan.fitness import Fitness, Judgement
from twin.scan.volume import Grid, Volume

LEVELS = {"vertebrae_L2": 40.0, "vertebrae_L3": 0.0, "vertebrae_L4": -40.0, "sacrum": -80.0, "hip_left": -110.0}


@pytest.fixture(scope="module")
def twin() -> Twin:
    """Balls for bones, one above the other; L3's endplates are known."""
    bones = {}
    for name, z in LEVELS.items():
        shift: Rigid[Patient, Any] = Rigid.exp((0, 0, 0), (60.0 if name == "hip_left" else 0.0, 0.0, z))
        fine, coarse = icosphere(17.0, 4).moved(shift), icosphere(17.0, 2).moved(shift)
        bones[name] = Bone(name, fine, (coarse,))
    plates = tuple(
        Landmark(f"endplate_{where}", "vertebrae_L3", None, Points[Patient](np.array([0.0, -4.0, z])), None, None)
        for where, z in (("superior", 12.0), ("inferior", -12.0))
    )
    return Twin("t", bones, plates, Levels(1.0))


@pytest.fixture(scope="module")
def plan() -> Plan:
    cut = Osteotomy(
        "cut",
        "PSO",
        "vertebrae_L3",
        (
            Plane[Patient](np.array([0.0, -17.0, 0.0]), np.array([0.0, -0.17365, 0.98481])),
            Plane[Patient](np.array([0.0, -17.0, 0.0]), np.array([0.0, 0.17365, 0.98481])),
        ),
        Line[Patient](np.array([0.0, -17.0, 0.0]), np.array([-1.0, 0.0, 0.0])),
        np.radians(20.0),
        34.0,
    )
    screws = {
        f"{level} {side}": Screw(
            f"{level} {side}",
            f"vertebrae_{level}",
            side,
            Points[Patient](np.array([x, 20.0, LEVELS[f"vertebrae_{level}"]])),
            Points[Patient](np.array([0.5 * x, -10.0, LEVELS[f"vertebrae_{level}"]])),
            6.5,
            40.0,
        )
        for level in ("L2", "L4")
        for side, x in (("left", 9.0), ("right", -9.0))
    }
    return Plan("plan", "t", screws, {"cut": cut})


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("vertebrae_L3", "L3"),
        ("vertebrae_T12", "T12"),
        ("sacrum", "S1"),
        ("hip_left", "L hip"),
        ("femur_right", "R femur"),
        ("rib_left_11", "L rib 11"),
    ],
)
def test_bones_are_called_as_surgeons_call_them(name: str, label: str) -> None:
    assert bone_label(name) == label


def test_labels_stand_in_the_bodies(twin: Twin) -> None:
    labels = {label.text: label.position_mm for label in bone_labels(twin)}
    assert set(labels) == {"L2", "L3", "L4", "S1", "L hip"}
    assert np.abs(labels["L3"] - (0, -4, 0)).max() < 1e-9  # between the endplates
    assert np.abs(labels["L2"] - (0, 0, 40)).max() < 1e-6  # the centre of the volume
    assert labels["L hip"][0] > 50


def test_neighbouring_levels_differ_in_colour() -> None:
    for palette in ("natural", "distinct"):
        colours = [bone_rgb(f"vertebrae_{level}", palette) for level in ("T11", "T12", "L1", "L2", "L3", "L4", "L5")]
        assert all(a != b for a, b in pairwise(colours))


def test_bones_keep_to_their_triangles(twin: Twin) -> None:
    fine = sum(len(part.mesh.triangles) for part in bone_parts(twin))
    coarse = sum(len(part.mesh.triangles) for part in bone_parts(twin, max_triangles=5000))
    assert fine == 5 * 20 * 4**4
    assert coarse == 5 * 20 * 4**2
    only = bone_parts(twin, names=["sacrum"], mode="xray")
    assert [part.name for part in only] == ["sacrum"]
    assert only[0].material.mode == "xray"
    assert only[0].mesh is bone_parts(twin, names=["sacrum"])[0].mesh  # the same object: one upload
    with pytest.raises(NoBone):
        bone_parts(twin, names=["vertebrae_C1"])


def test_standard_views_hold_the_twin_and_stand_head_up(twin: Twin) -> None:
    views = standard_views(twin, 300, 400)
    assert set(views) == {"anterior", "posterior", "left", "right", "oblique"}
    points = Points[Patient](np.concatenate([bone.surface.vertices_mm for bone in twin.bones.values()]))
    for view in views.values():
        px = view.pixels(points)
        assert px.min() > 0
        assert (px < (300, 400)).all()
        assert edge_letters(view.rotation)["top"][0] == "H"
    assert edge_letters(views["anterior"].rotation)["left"] == "R"


def test_a_screw_is_drawn_on_its_axis_with_its_size(plan: Plan) -> None:
    screw = plan.screws["L4 left"]
    (part,), (axis,) = screw_parts([screw], {"L4 left": "C"}, with_axes=True)
    vertices = part.mesh.vertices_mm @ part.matrix()[:3, :3].T + part.matrix()[:3, 3]
    along = (vertices - screw.entry.mm) @ screw.axis.direction
    radius_mm = screw.axis.distance_mm(Points[Patient](vertices))
    assert along.max() == pytest.approx(40.0)
    assert np.abs(vertices[np.argmax(along)] - screw.tip.mm).max() < 1e-9
    assert radius_mm[(along > 1) & (along < 30)].max() == pytest.approx(3.25)
    assert along.min() < -10  # the head stands out of the bone
    assert part.mesh is screw_mesh(6.5, 40.0)
    assert part.material.rgb != screw_parts([screw])[0][0].material.rgb
    ends = axis.points_mm[0]
    assert screw.axis.distance_mm(Points[Patient](ends)).max() < 1e-9


def test_a_cut_plane_lies_on_its_plane() -> None:
    plane = Plane[Patient](np.array([3.0, 4.0, 5.0]), np.array([0.2, -0.3, 1.0]))
    square, border = cut_plane_parts("cut", plane, 20.0)
    corners = square.mesh.vertices_mm @ square.matrix()[:3, :3].T + square.matrix()[:3, 3]
    assert np.abs(plane.signed_distance_mm(Points[Patient](corners))).max() < 1e-9
    assert np.abs(plane.signed_distance_mm(Points[Patient](border.points_mm))).max() < 1e-9
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(40.0)


def test_the_plan_shows_screws_planes_and_wedge(twin: Twin, plan: Plan, offscreen: Offscreen) -> None:
    made = fragments(twin, plan.osteotomies["cut"])
    parts = plan_parts(twin, plan, made=[made], with_sizes=True, grades={"L2 left": "B"})
    names = [part.name for part in parts.meshes]
    assert {"L2 left", "L4 right", "cut 0", "cut 1", "cut wedge"} <= set(names)
    assert [label.text for label in parts.labels] == ["6.5 × 40"] * 4
    assert all(part.layer == "plan" for part in (*parts.meshes, *parts.lines))
    view = standard_views(twin, 200, 300)["left"]
    scene = Scene(meshes=bone_parts(twin, mode="xray")).plus(parts.meshes, parts.lines, parts.labels)
    picture = offscreen.picture(scene, view).astype(int)
    assert ((picture[..., 0] - picture[..., 2]) > 50).sum() > 100  # the red wedge
    assert [part.name for part in scene.without("plan").meshes] == list(LEVELS)


def test_the_planned_spine_turns_about_the_hinge(twin: Twin, plan: Plan) -> None:
    cut = plan.osteotomies["cut"]
    parts = {part.name: part for part in planned_parts(twin, plan).meshes}
    assert {"vertebrae_L3:cranial", "vertebrae_L3:caudal", "vertebrae_L2", "sacrum", "L2 left"} <= set(parts)
    assert "vertebrae_L3" not in parts
    turn = planned_from_patient(cut)
    moved = parts["vertebrae_L2"].matrix()
    assert np.abs(moved - turn.matrix()).max() < 1e-12
    assert np.abs(parts["sacrum"].matrix() - np.eye(4)).max() < 1e-12
    assert np.abs(parts["vertebrae_L3:caudal"].matrix() - np.eye(4)).max() < 1e-12
    # L2's screw rides along, L4's stays, as the bones do.
    expected = (turn @ plan.screws["L2 left"].tip).mm
    tip = parts["L2 left"].matrix() @ (0, 0, 40.0, 1)
    assert np.abs(tip[:3] - expected).max() < 1e-9
    stays = parts["L4 left"].matrix() @ (0, 0, 40.0, 1)
    assert np.abs(stays[:3] - plan.screws["L4 left"].tip.mm).max() < 1e-9


def test_outlines_and_voxels_agree_with_the_twin(twin: Twin, plan: Plan) -> None:
    assert [outline.mesh for outline in bone_outlines(twin)] == [bone.surface for bone in twin.bones.values()]
    outlines, strokes = screw_outlines(plan.screws.values())
    assert len(outlines) == len(strokes) == 4
    assert outlines[0].mesh.is_closed
    assert outlines[0].mesh.volume_ml == pytest.approx(np.pi * 3.25**2 * 40 / 1000, rel=0.01)
    axes = Rigid.exp((0.1, 0.2, -0.3)).rotation
    grid = Grid((5, 6, 7), np.array([0.8, 0.9, 1.5]), np.array([10.0, -20.0, 30.0]), axes)
    hu = np.random.default_rng(0).integers(-1000, 2000, grid.shape).astype(np.int16)
    ijk = np.array([[1, 2, 3], [4, 5, 6], [0, 0, 0]])
    values = voxels_of(Volume(grid, hu)).at(grid.patient_from_index(ijk))
    assert np.abs(values - hu[ijk[:, 2], ijk[:, 1], ijk[:, 0]]).max() < 1e-6


def test_a_picture_says_what_is_not_confirmed_and_not_fit(twin: Twin) -> None:
    fit, unfit = Judgement(True), Judgement(False, ("3.0 mm slices",))
    confirmed = replace(twin, levels=replace(twin.levels, confirmed_by="Dr Ada"))
    assert standing_of(confirmed).words == "Levels confirmed by Dr Ada"
    assert not standing_of(confirmed).is_warning
    assert standing_of(replace(twin, levels=replace(twin.levels, confirmed_by=None))).is_warning
    coarse = standing_of(replace(confirmed, fitness=Fitness(fit, unfit, unfit)))
    assert coarse.is_warning
    assert coarse.words.endswith("scan NOT fit to plan or guide")
