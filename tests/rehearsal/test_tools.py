"""What hands can do: carry, turn, size, drill, saw, close; against closed forms on the boxes."""

import math

import numpy as np
import pytest

from rehearsal.closing import SNAP_RAD
from rehearsal.events import Command
from rehearsal.execution import closed
from rehearsal.grab import SCALE_LIMITS
from rehearsal.saw import REACH_MM
from rehearsal.session import poses
from rehearsal.stance import pointing
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Points, Rigid, rotation_exp
from spatial.shapes import Line
from tests.rehearsal.acting import Player, at, hand
from tests.rehearsal.boxes import CENTRES_MM, HALF_MM


def test_one_hand_carries_the_model_rigidly(player: Player) -> None:
    before = player.state.stage_from_patient
    begin = at([100.0, 1100.0, -300.0])
    turn = rotation_exp([0.1, 0.7, -0.2])
    end = Rigid[Stage, Instrument](turn @ begin.rotation, begin.translation_mm + np.array([30.0, 40.0, -50.0]))
    player.now(left=hand(begin, grab=1.0))
    after = player.now(left=hand(end, grab=1.0)).stage_from_patient
    motion = end.matrix() @ np.linalg.inv(begin.matrix())
    assert np.allclose(after.matrix(), motion @ before.matrix(), atol=1e-9)
    assert after.scale == before.scale
    resting = player.now(left=hand(at([0.0, 0.0, 0.0]))).stage_from_patient
    assert np.array_equal(resting.matrix(), after.matrix())


def test_two_hands_size_it_about_their_middle(player: Player) -> None:
    middle = np.array([0.0, 1050.0, -400.0])
    apart = np.array([100.0, 0.0, 0.0])
    player.now(left=hand(at(middle - apart), grab=1.0), right=hand(at(middle + apart), grab=1.0))
    before = player.state.stage_from_patient
    fixed = before.inverse() @ Points[Stage](middle)
    after = player.now(left=hand(at(middle - 2 * apart), grab=1.0), right=hand(at(middle + 2 * apart), grab=1.0))
    assert after.stage_from_patient.scale == pytest.approx(2.0 * before.scale)
    assert np.allclose((after.stage_from_patient @ fixed).mm, middle, atol=1e-9)


@pytest.mark.parametrize("factor", [0.01, 1000.0])
def test_the_scale_stays_within_its_limits(player: Player, factor: float) -> None:
    middle, apart = np.array([0.0, 1050.0, -400.0]), np.array([3000.0 if factor < 1 else 15.0, 0.0, 0.0])
    player.now(left=hand(at(middle - apart), grab=1.0), right=hand(at(middle + apart), grab=1.0))
    wide = apart * factor
    state = player.now(left=hand(at(middle - wide), grab=1.0), right=hand(at(middle + wide), grab=1.0))
    assert state.stage_from_patient.scale == SCALE_LIMITS[0 if factor < 1 else 1]


def test_a_screw_lands_where_it_was_drilled(player: Player) -> None:
    planned = player.first.model.planned.screws["L2_left"]
    axis = Line[Patient](
        planned.entry.mm + np.array([1.0, 0.0, 0.5]), rotation_exp([0.0, 0.0, math.radians(2.0)]) @ [0, -1, 0]
    )
    state = player.drill(axis, 38.7)
    screw = state.execution.plan.screws["L2_left"]
    # where the axis meets the box's back face, by hand
    run = (CENTRES_MM["vertebrae_L2"][1] + HALF_MM[1] - axis.point_mm[1]) / axis.direction[1]
    assert np.allclose(screw.entry.mm, axis.at(run).mm, atol=1e-9)
    assert np.allclose(screw.axis.direction, axis.direction, atol=1e-9)
    assert (screw.length_mm, screw.diameter_mm) == (40.0, planned.diameter_mm)
    (deed,) = state.history.edits()
    assert deed.kind == "place_screw"
    assert deed.payload["grade"]["grade"] == "A"
    off = deed.payload["deviation"]
    assert off["angle_deg"] == pytest.approx(2.0, abs=1e-6)
    assert off["entry_mm"] == pytest.approx(math.hypot(1.0, 0.5), abs=1e-6)
    # outer wall of the box less the thread's radius; the axis drifts by its tilt within 6 mm of the isthmus
    assert deed.payload["grade"]["margin_mm"]["superior"] == pytest.approx(13.0 - 0.5 - 3.0, abs=0.05)


def test_a_preview_is_no_edit_and_poses_are_not_in_the_history(player: Player) -> None:
    axis = player.first.model.planned.screws["L2_left"].axis
    player.now(right=hand(player.tip_at(axis, -10.0)))
    for along_mm in (-10.0, 5.0, 20.0, 30.0):
        player.now(right=hand(player.tip_at(axis, along_mm), trigger=1.0))
    assert player.state.right.drilling is not None
    assert player.state.right.drilling.depth_mm == pytest.approx(30.0)
    assert player.state.right.drilling.grade is not None
    assert not player.state.history.deeds
    player.play(Command(player.t_ns, "surgeon", "select_tool", "right", "hand"))
    player.now(right=hand(player.tip_at(axis, 30.0)))
    assert not player.state.history.deeds


def test_the_bone_guides_the_drill(player: Player) -> None:
    axis = player.first.model.planned.screws["L4_right"].axis
    player.now(right=hand(player.tip_at(axis, -10.0)))
    for along_mm in (-10.0, 3.0):
        player.now(right=hand(player.tip_at(axis, along_mm), trigger=1.0))
    shaky = Line[Patient](axis.point_mm + np.array([4.0, 0.0, 3.0]), rotation_exp([0.2, 0.0, 0.1]) @ axis.direction)
    player.now(right=hand(player.tip_at(shaky, 30.0), trigger=1.0))
    drilling = player.state.right.drilling
    assert drilling is not None
    assert drilling.path is not None
    assert np.allclose(drilling.path.direction, axis.direction, atol=1e-12)


def test_a_pilot_hole_is_no_screw(player: Player) -> None:
    state = player.drill(player.first.model.planned.screws["L2_left"].axis, 9.0)
    assert not state.history.deeds
    assert "shorter" in state.note


def test_the_hand_feels_bone_wall_and_far_cortex(player: Player) -> None:
    centre = CENTRES_MM["vertebrae_L4"]
    # 3.4 mm below the upper face: a 6 mm screw has 0.4 mm left there
    near = Line[Patient](centre + np.array([12.0, HALF_MM[1], HALF_MM[2] - 3.4]), np.array([0.0, -1.0, 0.0]))
    player.now(right=hand(player.tip_at(near, -10.0)))
    felt = []
    for along_mm in np.linspace(-10.0, 65.0, 60):
        state = player.now(right=hand(player.tip_at(near, float(along_mm)), trigger=1.0))
        felt += [pulse.reason for pulse in state.pulses]
    assert felt == ["a wall is near", "through the far side"]
    far = Line[Patient](centre + np.array([12.0, HALF_MM[1], 0.0]), near.direction)
    player.now(right=hand(player.tip_at(far, -10.0)))
    player.now(right=hand(player.tip_at(far, -10.0), trigger=1.0))
    state = player.now(right=hand(player.tip_at(far, 10.0), trigger=1.0))
    assert [(p.side, p.reason) for p in state.pulses] == [("right", "in bone")]


def test_a_second_screw_in_the_same_place_moves_the_first(player: Player) -> None:
    axis = player.first.model.planned.screws["L2_left"].axis
    player.drill(axis, 40.0)
    state = player.drill(Line[Patient](axis.point_mm + np.array([0.0, 0.0, 2.0]), axis.direction), 45.0)
    assert [deed.kind for deed in state.history.edits()] == ["place_screw", "move_screw"]
    assert state.execution.plan.screws["L2_left"].length_mm == 45.0


def blade(player: Player, offset_mm: float = 0.0, tilt_rad: float = 0.0) -> Rigid[Stage, Instrument]:
    cut = player.first.model.planned.osteotomies["L3-PSO"]
    normal = rotation_exp(cut.hinge.direction * tilt_rad) @ cut.bisector.normal
    forward = np.cross(normal, cut.hinge.direction)
    if forward[1] > 0:  # the blade goes forward, from the back
        forward = -forward
    to_stage = player.state.stage_from_patient
    ahead = to_stage.rotation @ forward
    place = (to_stage @ Points[Patient](cut.hinge.point_mm + offset_mm * normal)).mm
    return pointing(place - REACH_MM * ahead, ahead, to_stage.rotation @ normal)


def saw(player: Player, **off: float) -> None:
    player.play(Command(player.t_ns, "surgeon", "select_tool", "right", "saw"))
    pose = blade(player, **off)
    player.now(right=hand(pose))
    player.now(right=hand(pose, trigger=1.0))
    player.now(right=hand(pose))


def test_the_saw_cuts_the_planned_wedge_where_the_blade_is(player: Player) -> None:
    planned = player.first.model.planned.osteotomies["L3-PSO"]
    saw(player, offset_mm=1.5, tilt_rad=math.radians(3.0))
    cut = player.state.execution.plan.osteotomies["L3-PSO"]
    assert cut.angle_rad == planned.angle_rad
    assert cut.bisector.angle_rad(planned.bisector) == pytest.approx(math.radians(3.0), abs=1e-9)
    assert abs(float(cut.bisector.signed_distance_mm(Points[Patient](planned.hinge.point_mm)))) == pytest.approx(1.5)
    assert cut.planes[0].angle_rad(cut.planes[1]) == pytest.approx(planned.angle_rad, abs=1e-9)
    off = player.state.history.edits()[0].payload["deviation"]
    assert abs(off["offset_mm"]) == pytest.approx(1.5, abs=1e-9)
    assert off["angle_deg"] == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("off", [{"offset_mm": 20.0}, {"tilt_rad": 0.6}])
def test_too_far_from_the_plan_nothing_is_cut(player: Player, off: dict[str, float]) -> None:
    saw(player, **off)
    assert not player.state.history.deeds
    assert "no cut" in player.state.note


def closing_player(player: Player) -> Player:
    saw(player)
    player.now(right=hand(at([600.0, 1200.0, 300.0])))
    return player


def grip_at(player: Player, angle_rad: float) -> Rigid[Stage, Instrument]:
    """A hand that holds the back of L2 and has turned it by an angle about the hinge."""
    cut = player.state.execution.plan.osteotomies["L3-PSO"]
    back = player.first.model.handle_mm(cut)
    return at(player.place((closed(cut, angle_rad) @ Points[Patient](back)).mm))


def test_the_cut_closes_with_the_hand_and_snaps_at_the_planned_angle(player: Player) -> None:
    player = closing_player(player)
    cut = player.state.execution.plan.osteotomies["L3-PSO"]
    model_before = player.state.stage_from_patient.matrix()
    player.now(left=hand(grip_at(player, 0.0), grab=1.0))
    assert player.state.closing is not None
    half = cut.angle_rad / 2
    player.now(left=hand(grip_at(player, half), grab=1.0))
    assert player.state.closing is not None
    assert player.state.closing.angle_rad == pytest.approx(half, abs=1e-9)
    assert "vertebrae_L2" in poses(player.state)
    assert "vertebrae_L4" not in poses(player.state)
    assert not player.state.execution.closed_rad
    state = player.now(left=hand(grip_at(player, cut.angle_rad - 0.9 * SNAP_RAD), grab=1.0))
    assert [pulse.reason for pulse in state.pulses] == ["closed to the planned angle"]
    player.now(left=hand(grip_at(player, cut.angle_rad + 0.5), grab=1.0))
    state = player.now(left=hand(grip_at(player, cut.angle_rad + 0.5)))
    assert state.execution.closed_rad == {"L3-PSO": cut.angle_rad}
    assert np.array_equal(state.stage_from_patient.matrix(), model_before)
    # the upper cut face lies on the lower one
    upper = cut.planes[0].moved(closed(cut, cut.angle_rad))
    assert upper.angle_rad(cut.planes[1]) < 1e-9


def test_it_does_not_open_beyond_the_cut(player: Player) -> None:
    player = closing_player(player)
    player.now(left=hand(grip_at(player, 0.0), grab=1.0))
    player.now(left=hand(grip_at(player, -0.6), grab=1.0))
    state = player.now(left=hand(grip_at(player, -0.6)))
    assert not state.execution.closed_rad


def test_a_screw_in_the_closed_fragment_is_kept_in_the_bone_as_scanned(player: Player) -> None:
    player = closing_player(player)
    cut = player.state.execution.plan.osteotomies["L3-PSO"]
    player.now(left=hand(grip_at(player, 0.0), grab=1.0))
    player.now(left=hand(grip_at(player, cut.angle_rad), grab=1.0))
    player.now(left=hand(grip_at(player, cut.angle_rad)))
    player.play(Command(player.t_ns, "surgeon", "select_tool", "right", "drill"))
    planned = player.first.model.planned.screws["L2_right"]
    state = player.drill(planned.axis.moved(poses(player.state)["vertebrae_L2"]), 40.0)
    screw = state.execution.plan.screws["L2_right"]
    assert np.allclose(screw.entry.mm, planned.entry.mm, atol=1e-6)
    assert np.allclose(screw.tip.mm, planned.tip.mm, atol=1e-6)


def test_undoing_the_cut_skips_its_closing_and_says_so(player: Player) -> None:
    player = closing_player(player)
    cut = player.state.execution.plan.osteotomies["L3-PSO"]
    player.now(left=hand(grip_at(player, 0.0), grab=1.0))
    player.now(left=hand(grip_at(player, cut.angle_rad), grab=1.0))
    state = player.now(left=hand(grip_at(player, cut.angle_rad)))
    cut_deed, closing_deed = state.history.edits()
    from rehearsal.events import RemoteEdit

    state = player.play(RemoteEdit(player.t_ns, "chief", "u1", "undo", {"undoes": cut_deed.id}))
    assert not state.execution.plan.osteotomies
    assert state.skipped == (closing_deed.id,)
    assert not poses(state)
