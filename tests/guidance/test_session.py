"""The session's states: what is known at an instant, what is not, and when to stop believing it."""

import numpy as np
import pytest

from guidance.session import Limits, NotGuidable, Tick, Trust, step
from spatial.rigid import Points, Rigid, rotation_exp
from tests.guidance import theatre as room
from tests.guidance.theatre import DRILL, REFERENCE, SCREWS, STEP_NS, camera_at, drill_at, exact, lost, seen_at, state


def test_nothing_seen_is_no_pose_and_stop():
    readout = step(state(), Tick(0)).readout
    assert readout.trust is Trust.STOP
    assert readout.how == "LOST"
    assert readout.camera_from_patient is None
    assert readout.tre95_mm is None
    assert "never seen" in readout.reason


def test_exact_sighting_gives_the_true_pose():
    camera = camera_at(0.2)
    readout = seen_at(state(), 7, camera).readout
    assert readout.trust is Trust.GUIDING
    assert readout.how == "EXACT"
    assert np.allclose(readout.camera_from_patient.pose.matrix(), camera.matrix(), atol=1e-8)
    assert 0 < readout.tre95_mm < 2.0


def test_moving_camera_hidden_reference_goes_predicted_then_stale_then_back():
    now, told = state(), []
    for k in range(12):
        t_ns, camera = k * STEP_NS, camera_at(0.02 * k)
        hidden = 4 <= k <= 9
        sighting = lost(REFERENCE, t_ns) if hidden else exact(REFERENCE, camera @ room.PATIENT_FROM_REFERENCE, t_ns)
        now = step(step(now, sighting), Tick(t_ns))
        told.append((now.readout.trust, now.readout.how))
        if now.readout.camera_from_patient is not None:
            shown = now.readout.camera_from_patient.pose @ Points(room.CENTRE)
            off = np.linalg.norm(shown.mm - (camera @ Points(room.CENTRE)).mm)
            assert off < (0.9 if hidden else 1e-3)
            assert off <= now.readout.tre95_mm
    assert told[:4] == [(Trust.GUIDING, "EXACT")] * 4
    assert told[4:7] == [(Trust.CAUTION, "PREDICTED")] * 3
    assert told[7:10] == [(Trust.STOP, "STALE")] * 3
    assert told[10:] == [(Trust.GUIDING, "EXACT")] * 2


def test_prediction_widens_the_error():
    now = state()
    for k in range(4):
        now = seen_at(now, k * STEP_NS, camera_at(0.01 * k))
    measured = now.readout.tre95_mm
    ahead = [step(now, Tick(3 * STEP_NS + ms * 1_000_000)).readout.tre95_mm for ms in (20, 50, 90)]
    assert measured < ahead[0] < ahead[1] < ahead[2]


def test_between_two_sightings_is_interpolated():
    now = seen_at(seen_at(state(), 0, camera_at(0.0)), STEP_NS, camera_at(0.02))
    readout = step(now, Tick(STEP_NS // 2)).readout
    assert (readout.how, readout.trust) == ("INTERPOLATED", Trust.GUIDING)
    off = (readout.camera_from_patient.pose @ Points(room.CENTRE)).mm - (camera_at(0.01) @ Points(room.CENTRE)).mm
    assert np.linalg.norm(off) < 0.05


def test_a_late_live_picture_warns_and_an_old_one_stops():
    now = seen_at(state(), 0, camera_at())
    ages = {ms: step(now, Tick(0, ms * 1_000_000)).readout for ms in (40, 150, 400)}
    assert [ages[ms].trust for ms in ages] == [Trust.GUIDING, Trust.CAUTION, Trust.STOP]
    assert ages[150].camera_from_patient is not None
    assert "150 ms old" in ages[150].reason
    assert ages[400].camera_from_patient is None
    assert (ages[400].how, ages[400].cause) == ("STALE", "camera stopped")
    gone = step(now, Tick(0, 1_500_000_000)).readout
    assert (gone.trust, gone.how, gone.cause) == (Trust.STOP, "LOST", "camera stopped")


def test_predicted_error_over_the_limit_is_caution():
    readout = seen_at(state(limits=Limits(tre95_mm=0.05)), 0, camera_at()).readout
    assert readout.trust is Trust.CAUTION
    assert "limit 0.1 mm" in readout.reason or "limit 0.0 mm" in readout.reason


@pytest.mark.parametrize("side", ["left", "right"])
def test_drill_deviation_is_the_closed_form(side):
    screw = SCREWS[f"L3-{side}"]
    axis = screw.axis.direction
    beside = np.cross(axis, [0, 0, 1.0])
    beside /= np.linalg.norm(beside)
    now = state(instrument=DRILL, screw=screw.id)

    parallel = drill_at(screw.entry.mm + 12.0 * axis + 3.0 * beside, axis)
    off = seen_at(now, 0, camera_at(0.1), parallel).readout.deviation[screw.id]
    assert off.entry_mm == pytest.approx(3.0, abs=1e-6)
    assert off.tip_mm == pytest.approx(3.0, abs=1e-6)
    assert off.angle_rad == pytest.approx(0.0, abs=1e-6)
    assert off.depth_mm == pytest.approx(12.0 - screw.length_mm, abs=1e-6)

    tilt = np.radians(5.0)
    tilted_axis = rotation_exp(tilt * beside) @ axis
    tilted = drill_at(screw.entry.mm + 10.0 * tilted_axis, tilted_axis)
    readout = seen_at(now, 0, camera_at(-0.1), tilted).readout
    off = readout.deviation[screw.id]
    assert off.entry_mm == pytest.approx(0.0, abs=1e-6)
    assert off.tip_mm == pytest.approx(screw.length_mm * np.tan(tilt), abs=1e-6)
    assert off.angle_rad == pytest.approx(tilt, abs=1e-8)
    assert off.depth_mm == pytest.approx(10.0 * np.cos(tilt) - screw.length_mm, abs=1e-6)
    assert np.allclose(readout.tip.mm, screw.entry.mm + 10.0 * tilted_axis, atol=1e-6)


def test_left_and_right_are_not_exchanged():
    readout = seen_at(state(instrument=DRILL), 0, camera_at(), drill_at(SCREWS["L3-left"].entry.mm, [0, -1.0, 0.1]))
    deviation = readout.readout.deviation
    assert deviation["L3-left"].entry_mm < 1e-6
    assert deviation["L3-right"].entry_mm > 20.0


def test_tool_square_to_the_screw_has_no_deviation_but_a_reason():
    screw = SCREWS["L3-left"]
    square = np.cross(screw.axis.direction, [0, 0, 1.0])
    readout = seen_at(state(instrument=DRILL, screw=screw.id), 0, camera_at(), drill_at(screw.entry.mm, square)).readout
    assert dict(readout.deviation) == {}
    assert "square" in readout.instrument_reason


def test_unseen_tool_gives_no_readout_and_a_predicted_one_caution():
    now = seen_at(state(instrument=DRILL), 0, camera_at())
    assert now.readout.trust is Trust.GUIDING
    assert now.readout.deviation == {}
    assert now.readout.instrument_how == "LOST"
    now = seen_at(now, STEP_NS, camera_at(), drill_at(room.CENTRE, [0, -1.0, 0.1]))
    now = seen_at(now, 2 * STEP_NS, camera_at())
    assert (now.readout.instrument_how, now.readout.trust) == ("PREDICTED", Trust.CAUTION)


def test_predicted_95_percent_holds_over_registration_and_tracking():
    rng, runs, held = np.random.default_rng(11), 200, np.zeros(3)
    target = SCREWS["L3-left"].tip
    for run in range(runs):
        camera = camera_at(rng.uniform(-0.3, 0.3), rng.uniform(420, 560))
        drill = drill_at(room.CENTRE + rng.normal(0, 15, 3) + [0, 20, 0], [0.1, -1.0, rng.uniform(-0.2, 0.2)])
        fitted = room.register(
            room.pairs(np.random.default_rng(run), 0.2), body=REFERENCE.name, twin_id=room.TWIN.twin_id
        )
        now = state(registration=fitted, instrument=DRILL, screw="L3-left")
        for body, pose in ((REFERENCE, camera @ room.PATIENT_FROM_REFERENCE), (DRILL, camera @ drill)):
            now = step(now, room.noisy(body, pose, 0, rng, 0.1))
        readout = step(now, Tick(0)).readout
        off = (readout.camera_from_patient.pose @ target).mm - (camera @ target).mm
        tip = readout.tip.mm - (drill @ Points(DRILL.tip_mm)).mm
        turn = np.arccos(np.clip(readout.axis.direction @ (drill.rotation @ DRILL.axis), -1, 1))
        held += [
            np.linalg.norm(off) <= readout.tre95_mm,
            np.linalg.norm(tip) <= readout.tip95_mm,
            turn <= readout.axis95_rad,
        ]
    assert (held / runs >= 0.915).all(), held / runs
    assert (held / runs <= 0.995).all(), held / runs  # a radius that always holds says nothing


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(NotGuidable, match="register to this body"):
        state(reference=DRILL)
    with pytest.raises(NotGuidable, match="no screw 'L9'"):
        state(screw="L9")
    with pytest.raises(NotGuidable, match="no tip_mm"):
        state(instrument=REFERENCE)
    with pytest.raises(NotGuidable, match="limits"):
        Limits(tre95_mm=0.0)


def test_other_bodies_change_nothing_and_memory_is_bounded():
    now = state()
    stranger = room.Sighting("stranger", 0, "LOST", "?", None, None)
    assert step(now, stranger) is now
    for k in range(100):
        now = step(now, exact(REFERENCE, Rigid.identity(), k * STEP_NS))
    assert len(now.seen) <= 32
