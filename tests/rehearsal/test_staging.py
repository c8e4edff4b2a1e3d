"""What is seen: the right parts at the right places, words with units, both eyes apart as eyes are."""

import numpy as np
import pytest

from rehearsal.events import Command
from rehearsal.eyes import IPD_MM, views
from rehearsal.model import Model
from rehearsal.offscreen import Eyes, film, run
from rehearsal.readouts import NO_UNCERTAINTY
from rehearsal.session import poses
from rehearsal.staging import stage
from rehearsal.stance import HEAD_MM, looking
from rehearsal.state import State
from rehearsal.surgeon import Surgeon
from render.offscreen import Offscreen
from render.scene import MeshPart, Scene
from render.view import View
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Points, Rigid
from tests.rehearsal.acting import Player, at, hand
from tests.rehearsal.test_tools import blade


@pytest.fixture(scope="module")
def surgeon(model: Model) -> Surgeon:
    """One screw placed, the wedge cut and closed."""
    surgeon = Surgeon(model, seed=1)
    surgeon.place(model.planned.screws["L2_left"])
    surgeon.cut(model.planned.osteotomies["L3-PSO"])
    surgeon.close_cut()
    return surgeon


def part(scene: Scene[Stage], name: str) -> MeshPart[Stage]:
    (found,) = [mesh for mesh in scene.meshes if mesh.name == name]
    return found


def texts(scene: Scene[Stage]) -> str:
    return "\n".join(label.text for label in scene.labels)


def test_bones_stand_where_the_state_says(player: Player) -> None:
    player.now(left=hand(at([0.0, 1000.0, -300.0]), grab=1.0))
    state = player.now(left=hand(at([30.0, 1100.0, -300.0], (0.4, 0.0, -1.0)), grab=1.0))
    bone = part(stage(state), "vertebrae_L4")
    corner = state.model.twin.bone("vertebrae_L4").surface.vertices_mm[5]
    M = bone.matrix()
    shown = M[:3, :3] @ corner + M[:3, 3]
    assert np.allclose(shown, (state.stage_from_patient @ Points[Patient](corner)).mm, atol=1e-9)


def test_planned_screws_are_clear_and_placed_ones_solid(surgeon: Surgeon) -> None:
    scene = stage(surgeon.state)
    assert part(scene, "planned L4_left").material.mode == "translucent"
    assert part(scene, "L2_left").material.mode == "lit"
    assert not any(mesh.name == "planned L2_left" for mesh in scene.meshes)


def test_a_closed_cut_moves_the_fragment_and_its_screw(surgeon: Surgeon) -> None:
    scene = stage(surgeon.state)
    names = [mesh.name for mesh in scene.meshes]
    assert "vertebrae_L3" not in names
    assert "vertebrae_L3 upper" in names
    assert not any(name.startswith("L3-PSO") for name in names), "a cut that was made is a gap, not a plane"
    state = surgeon.state
    turn = poses(state)["vertebrae_L2"]
    expected = state.stage_from_patient.matrix() @ turn.matrix()
    assert np.allclose(part(scene, "vertebrae_L2").matrix(), expected, atol=1e-9)
    assert np.allclose(part(scene, "vertebrae_L3 upper").matrix(), expected, atol=1e-9)
    assert np.allclose(part(scene, "vertebrae_L3 lower").matrix(), state.stage_from_patient.matrix())
    screw = part(scene, "L2_left")
    entry = (turn @ state.execution.plan.screws["L2_left"].entry).mm
    assert np.allclose(screw.matrix()[:3, 3], (state.stage_from_patient @ Points[Patient](entry)).mm, atol=1e-9)


def test_the_same_meshes_are_shown_frame_after_frame(surgeon: Surgeon) -> None:
    """The painter uploads each mesh object once."""
    once, twice = stage(surgeon.state), stage(surgeon.state)
    assert [id(mesh.mesh) for mesh in once.meshes] == [id(mesh.mesh) for mesh in twice.meshes]


def test_read_outs_have_units_and_say_that_there_is_no_uncertainty(player: Player) -> None:
    planned = player.first.model.planned.screws["L4_left"]
    player.now(right=hand(player.tip_at(planned.axis, -5.0)))
    for along_mm in (-5.0, 10.0, 25.0):
        player.now(right=hand(player.tip_at(planned.axis, along_mm), trigger=1.0))
    said = texts(stage(player.state))
    assert "L4_left   depth 25 mm" in said
    assert "entry 0.0 mm  tip 0.0 mm  angle 0.0 deg" in said
    assert "grade A" in said
    assert NO_UNCERTAINTY in said
    player.now(right=hand(None))
    assert "not tracked" in texts(stage(player.state))


def test_letters_levels_tools_and_progress_are_there(surgeon: Surgeon) -> None:
    labels = [label.text for label in stage(surgeon.state).labels]
    assert {"L", "R", "H", "F", "A", "P", "L2", "L3", "L4", "S1"} <= set(labels)
    assert any("1 of 4 screws, 1 of 1 cuts" in text for text in labels)
    assert any("right: saw" in text for text in labels)


def test_levels_that_nobody_confirmed_are_warned_of(model: Model) -> None:
    from tests.rehearsal.boxes import planned, twin_of_boxes
    from twin.anatomy.twin import Levels, Twin

    twin = twin_of_boxes()
    unsure = Twin(twin.twin_id, twin.bones, twin.landmarks, Levels(0.6), warnings=("one slice was blurred",))
    state = Player(Model(unsure, planned(unsure))).now()
    said = texts(stage(state))
    assert "levels not confirmed" in said
    assert "60%" in said
    assert "one slice was blurred" in said


def test_the_eyes_are_as_far_apart_as_eyes_are() -> None:
    head = looking(HEAD_MM, np.array([100.0, 900.0, -500.0]))
    seen = views(head, 640, 480)
    places = {side: view.eye_from_world.inverse().translation_mm for side, view in seen.items()}
    apart = places["right"] - places["left"]
    assert np.linalg.norm(apart) == pytest.approx(IPD_MM)
    assert np.allclose(apart / IPD_MM, head.rotation[:, 0])
    point = Points[Stage](head.translation_mm - 700.0 * head.rotation[:, 2])
    left, right = (seen[side].pixels(point) for side in ("left", "right"))
    focal_px = seen["left"].projection[1, 1] * 480 / 2
    assert left[0] - right[0] == pytest.approx(focal_px * IPD_MM / 700.0, abs=1e-6)
    assert left[1] == pytest.approx(right[1])


@pytest.mark.usefixtures("graphics")
def test_both_eyes_are_drawn_and_differ(surgeon: Surgeon, model: Model) -> None:
    with Eyes(320, 240) as eyes:
        shown = [
            (state, frame)
            for state, frame in film(run(Player(model).first, surgeon.events[:40]), eyes, 2.0)
            if frame is not None
        ]
        assert len(shown) == 3  # 40 events at 30 a second, two pictures a second
        state, frame = shown[-1]
        assert frame.left.shape == frame.right.shape == (240, 320, 3)
        assert frame.side_by_side.shape == (240, 640, 3)
        assert np.abs(frame.left.astype(int) - frame.right).max() > 60
        assert frame.left.std() > 10
        # a bone stands where the view says: its middle pixel is bone-coloured, not background
        place = (state.stage_from_patient @ Points[Patient](model.twin.bone("vertebrae_L3").surface.centroid_mm)).mm
        assert state.head is not None
        for side, picture in (("left", frame.left), ("right", frame.right)):
            u, v = np.round(views(state.head, 320, 240)[side].pixels(Points[Stage](place))).astype(int)  # type: ignore[index]  # a side
            assert picture[v, u].min() > 80


@pytest.mark.usefixtures("graphics")
def test_without_a_head_there_is_no_picture_and_no_failure(model: Model) -> None:
    state: State = Player(model).first
    with Eyes(64, 48) as eyes:
        assert eyes.draw(state) is None
    assert stage(state).meshes


def sawing(model: Model) -> tuple[Player, Rigid[Stage, Instrument]]:
    """A hand that holds the blade on the planned cut, its trigger not yet pulled."""
    player = Player(model)
    player.play(Command(player.t_ns, "surgeon", "select_tool", "right", "saw"))
    pose = blade(player, offset_mm=1.0)
    player.now(right=hand(pose))
    return player, pose


def test_a_held_saw_shows_the_wedge_taken_out_and_cuts_no_mesh(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    player, _ = sawing(model)
    whole = part(stage(player.state), "vertebrae_L3")
    assert whole.cut_away is None
    with monkeypatch.context() as patch:
        patch.setattr("rehearsal.staging.pieces_of", lambda *_: pytest.fail("a preview cuts nothing"))
        for offset_mm in (1.0, 2.0, 3.0):
            state = player.now(right=hand(blade(player, offset_mm=offset_mm), trigger=1.0))
            assert state.right.sawing is not None
            wedge = state.right.sawing.wedge
            assert wedge is not None
            left, ghost = (part(stage(state), name) for name in ("vertebrae_L3", "vertebrae_L3 taken"))
            assert left.mesh is whole.mesh
            assert ghost.mesh is whole.mesh
            assert left.cut_away is not None
            upper, lower = left.cut_away.planes
            assert np.allclose(upper.normal, -wedge.planes[0].normal)
            assert np.allclose(lower.point_mm, wedge.planes[1].point_mm)
            assert ghost.material.mode == "translucent"
            assert np.allclose(left.matrix(), whole.matrix())
            assert part(stage(state), "vertebrae_L4").cut_away is None
    scene = stage(player.now(right=hand(blade(player, offset_mm=3.0))))
    names = [mesh.name for mesh in scene.meshes]
    assert {"vertebrae_L3 upper", "vertebrae_L3 lower"} <= set(names)
    assert "vertebrae_L3 taken" not in names
    assert all(mesh.cut_away is None for mesh in scene.meshes)


def test_a_blade_too_far_off_takes_nothing_out(model: Model) -> None:
    player, _ = sawing(model)
    state = player.now(right=hand(blade(player, offset_mm=20.0), trigger=1.0))
    assert state.right.sawing is not None
    assert part(stage(state), "vertebrae_L3").cut_away is None


@pytest.mark.usefixtures("graphics")
def test_the_preview_looks_like_the_cut_that_follows(model: Model) -> None:
    """The same bone, held and released, without hands, planes and ghost: only the faces differ in colour."""
    player, pose = sawing(model)
    middle = player.place(model.planned.osteotomies["L3-PSO"].hinge.point_mm)
    view = View[Stage].looking(middle, middle + np.array([-150.0, 220.0, 180.0]), (0.0, 1.0, 0.0), 320, 240)
    seen = []
    with Offscreen(samples=0, occlusion=False) as offscreen:
        for trigger in (0.0, 1.0, 0.0):
            scene = stage(player.now(right=hand(pose, trigger=trigger)))
            bones = tuple(mesh for mesh in scene.meshes if mesh.layer == "bones")
            seen.append(offscreen.depth_mm(Scene(bones), view))
    before, held, cut = seen
    gap = np.isfinite(before) & ~(np.abs(before - cut) < 1.0)
    assert gap.sum() > 500
    near = np.isclose(held, cut, atol=0.01, equal_nan=True)
    assert (~near).sum() < 0.02 * gap.sum()
