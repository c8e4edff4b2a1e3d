"""What disturbs a history: jumps, flips, clocks, doubles, several sources, stopped cameras. Nothing is silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial.faults import Misuse
from spatial.rigid import Rigid, UncertainRigid, rotation_exp
from tests.tracking.hands import Hand, camera_noise, missed, seen
from tracking.history.history import Limits, PoseHistory
from tracking.pose.sighting import Sighting

MS = 1_000_000
STEP_NS = 16_666_667
MEASURED = camera_noise()
FLIP = rotation_exp([0.6, 0, 0])


def walking(count: int, seed: int = 1, first_ns: int = 0) -> list[Sighting[Any]]:
    hand, rng = Hand.of("walk", seed), np.random.default_rng(seed)
    return [seen(hand(k * STEP_NS * 1e-9), first_ns + k * STEP_NS, MEASURED, rng) for k in range(count)]


def flipped(sighting: Sighting[Any]) -> Sighting[Any]:
    assert sighting.camera_from_body is not None
    pose = sighting.camera_from_body.pose
    turned = Rigid[Any, Any](FLIP @ pose.rotation, pose.translation_mm)
    return replace(sighting, camera_from_body=UncertainRigid(turned, MEASURED))


def filled(sightings: list[Sighting[Any]]) -> PoseHistory[Any]:
    history: PoseHistory[Any] = PoseHistory()
    for one in sightings:
        history.add(one)
    return history


def turned_rad(history: PoseHistory[Any], t_ns: int, like: Sighting[Any]) -> float:
    found = history.at(t_ns).pose
    assert found is not None
    assert like.camera_from_body is not None
    return float(Rigid[Any, Any](found.rotation @ like.camera_from_body.pose.rotation.T, np.zeros(3)).angle_rad)


def test_a_single_flip_is_held_back_told_and_refused() -> None:
    path = walking(32)
    history = filled([*path[:30], flipped(path[30])])
    found = history.at(path[30].t_ns)
    assert (found.how, found.cause) == ("PREDICTED", "ambiguous")
    assert "jumps by" in str(found.reason)
    assert "34." in str(found.reason)  # degrees
    assert turned_rad(history, path[30].t_ns, path[30]) < 0.01
    assert history.tally.held == 1
    history.add(path[31])
    assert history.at(path[31].t_ns).how == "EXACT"
    assert turned_rad(history, path[31].t_ns, path[31]) < 0.01
    assert (history.tally.held, history.tally.refused, history.restarts) == (0, 1, 0)


def test_a_jump_that_a_second_sighting_confirms_restarts_the_filter_and_says_so() -> None:
    path = walking(34)
    history = filled([*path[:30], *map(flipped, path[30:])])
    assert (history.restarts, history.tally.refused, history.tally.taken) == (1, 0, 34)
    start = history.at(path[30].t_ns)
    assert start.how == "EXACT"
    assert "jumped" in str(start.reason)
    assert turned_rad(history, path[33].t_ns, flipped(path[33])) < 0.01
    after = history.at(path[32].t_ns)
    assert after.how == "EXACT"
    assert "the next sighting agreed; another body with the same markers?" in str(after.reason)
    between = history.at(path[29].t_ns + STEP_NS // 2)
    assert between.how == "PREDICTED"  # never a path between two poses that no hand connects
    assert "jumped" in str(between.reason)


def test_a_pose_that_flips_to_and_fro_never_shows_the_other_side_and_locks_nothing_out() -> None:
    path = walking(60)
    history = filled(path[:20])
    for k in range(20, 60):
        history.add(flipped(path[k]) if k % 2 else path[k])
        assert turned_rad(history, path[k].t_ns, path[k]) < 0.02
    assert history.tally.refused + history.tally.held == 20
    assert history.restarts == 0


def test_a_knock_is_followed_not_held_back() -> None:
    def struck(t_s: float) -> Rigid[Any, Any]:  # 30 ms at two g, then coasting
        push = np.clip(t_s - 0.5, 0, 0.03)
        shift = 20_000 * push * (t_s - 0.5 - push / 2) if t_s > 0.5 else 0.0
        return Rigid[Any, Any](np.eye(3), np.array([shift, 0, 500.0]))

    rng = np.random.default_rng(0)
    history = filled([seen(struck(k * STEP_NS * 1e-9), k * STEP_NS, MEASURED, rng) for k in range(60)])
    assert history.tally.taken == 60
    assert history.tally.restarts == 0


def test_stamps_that_step_ahead_restart_with_the_clock_as_the_cause() -> None:
    late = walking(5, first_ns=5_000_000_000)
    history = filled([*walking(20), *late])
    first = history.at(late[0].t_ns)
    assert (first.how, first.cause) == ("EXACT", "clock")
    assert "step ahead by 4.7 s" in str(first.reason)
    assert history.restarts == 1
    between = history.at(2_000_000_000)
    assert (between.how, between.cause) == ("LOST", "clock")
    assert history.at(late[4].t_ns).cause is None


def test_stamps_that_step_back_far_forget_what_was_before() -> None:
    history = filled([*walking(20, first_ns=9_000_000_000), *walking(3)])
    assert len(history) == 3
    first = history.at(0)
    assert (first.how, first.cause) == ("EXACT", "clock")
    assert "step back by 9." in str(first.reason)


def test_stamps_that_step_back_a_little_are_found_out_by_the_motion() -> None:
    hand, rng = Hand.of("walk", 4), np.random.default_rng(4)
    history: PoseHistory[Any] = PoseHistory()
    for k in range(40):
        true_s = k * STEP_NS * 1e-9
        t_ns = k * STEP_NS - (400 * MS if k >= 30 else 0)
        history.add(seen(hand(true_s), t_ns, MEASURED, rng))
        assert history.at(t_ns).pose is not None
    assert history.restarts == 1
    assert len(history) == 10
    assert history.at(39 * STEP_NS - 400 * MS).how == "EXACT"


def test_the_camera_stops_and_comes_back() -> None:
    path = walking(40)
    history = filled(path[:20])
    stop_ns = path[19].t_ns + 30 * MS
    assert history.at(stop_ns).how == "PREDICTED"
    history.camera_stopped(stop_ns, "camera:0 gave no picture for 0.3 s; was it unplugged?")
    for t_ns in (stop_ns, stop_ns + 5_000 * MS):
        found = history.at(t_ns)
        assert (found.how, found.cause, found.pose) == ("LOST", "camera stopped", None)
        assert "unplugged" in str(found.reason)
        assert history.motion_at(t_ns) is None
    assert history.at(path[19].t_ns).how == "EXACT"
    history.add(path[39])
    assert history.at(path[39].t_ns).how == "EXACT"


def test_lost_comes_after_stale_and_keeps_the_cause() -> None:
    path = walking(20)
    history = filled(path)
    last_ns = path[-1].t_ns
    for k in range(1, 120):
        history.add(missed(last_ns + k * STEP_NS))
    hows = [history.at(last_ns + ms * MS).how for ms in (50, 150, 900, 1100)]
    assert hows == ["PREDICTED", "STALE", "STALE", "LOST"]
    for ms in (50, 900, 1100):
        found = history.at(last_ns + ms * MS)
        assert found.cause == "too few markers"
        assert "0 of 4 markers seen" in str(found.reason)
        assert found.age_ns == ms * MS


def test_two_cameras_at_one_instant_are_both_used() -> None:
    path, again = walking(20), walking(20, seed=1)
    one, both = filled(path), PoseHistory[Any]()
    rng = np.random.default_rng(9)
    hand = Hand.of("walk", 1)
    for first in again:
        both.add(first, "left")
        both.add(seen(hand(first.t_ns * 1e-9), first.t_ns, MEASURED, rng), "right")
    assert (both.tally.taken, both.tally.repeated) == (40, 0)
    alone, fused = one.at(path[-1].t_ns).covariance, both.at(path[-1].t_ns).covariance
    assert alone is not None
    assert fused is not None
    assert np.trace(fused[3:, 3:]) < 0.7 * np.trace(alone[3:, 3:])


def test_a_tracker_that_is_always_late_is_no_clock_that_steps() -> None:
    hand, rng = Hand.of("walk", 6), np.random.default_rng(6)
    history: PoseHistory[Any] = PoseHistory()
    for k in range(120):
        t_ns = k * STEP_NS
        history.add(seen(hand(t_ns * 1e-9), t_ns, MEASURED, rng), "camera")
        if k >= 6:
            late_ns = t_ns - 90 * MS
            history.add(seen(hand(late_ns * 1e-9), late_ns, MEASURED, rng), "wire")
    assert (history.tally.late, history.restarts, history.tally.refused) == (114, 0, 0)
    found = history.at(119 * STEP_NS).pose
    assert found is not None
    assert np.linalg.norm(found.translation_mm - hand(119 * STEP_NS * 1e-9).translation_mm) < 0.15


def test_what_does_not_average_out_stays_in_every_answer() -> None:
    rng, truth = np.random.default_rng(0), Hand.of("hold", 0).start
    systematic = np.diag([1e-7] * 3 + [0.01] * 3)
    history: PoseHistory[Any] = PoseHistory()
    for k in range(100):
        one = seen(truth, k * STEP_NS, MEASURED, rng)
        assert one.camera_from_body is not None
        wide = UncertainRigid(one.camera_from_body.pose, MEASURED + systematic)
        history.add(replace(one, camera_from_body=wide, systematic=systematic))
    for t_ns in (99 * STEP_NS, 99 * STEP_NS + 20 * MS, 50 * STEP_NS, 50 * STEP_NS + 5 * MS):
        found = history.at(t_ns).covariance
        assert found is not None
        assert np.linalg.eigvalsh(found - systematic)[0] > 0
    raw = history.raw_at(99 * STEP_NS).covariance
    assert raw is not None
    assert np.allclose(raw, MEASURED + systematic)


def test_an_undecided_pose_stays_undecided_however_often_it_is_seen() -> None:
    rng, truth = np.random.default_rng(0), Hand.of("hold", 0).start
    other = UncertainRigid(Rigid[Any, Any](FLIP @ truth.rotation, truth.translation_mm), MEASURED)
    odds = 4.0
    history: PoseHistory[Any] = PoseHistory()
    for k in range(60):
        one = seen(truth, k * STEP_NS, MEASURED, rng)
        assert one.camera_from_body is not None
        pose = one.camera_from_body.pose
        turn = Rotation.from_matrix(other.pose.rotation @ pose.rotation.T).as_rotvec()
        gap = np.concatenate([turn, other.pose.translation_mm - pose.translation_mm])
        both = UncertainRigid(pose, MEASURED + np.outer(gap, gap) / (1 + odds))
        history.add(replace(one, camera_from_body=both, second=other, cause="ambiguous", ambiguity=odds))
    found = history.at(59 * STEP_NS).covariance
    assert found is not None
    assert 0.2 < np.sqrt(found[0, 0]) < 0.4  # the flip is 0.6 rad off, at odds of four
    assert history.odds == odds


def test_what_a_sighting_says_against_itself_stays_with_its_pose_and_is_no_reason_for_a_loss() -> None:
    path = [replace(one, reason="its spread is assumed") for one in walking(10)]
    history = filled(path)
    last_ns = path[-1].t_ns
    for ahead_ns, how in ((0, "EXACT"), (-8 * MS, "INTERPOLATED"), (40 * MS, "PREDICTED")):
        found = history.at(last_ns + ahead_ns)
        assert (found.how, found.reason) == (how, "its spread is assumed")
    assert history.at(last_ns + 300 * MS).reason == "not seen for 300 ms"
    history.add(missed(last_ns + STEP_NS))
    assert history.at(last_ns + STEP_NS).reason == "0 of 4 markers seen"


def test_one_more_makes_another_history() -> None:
    path = walking(12)
    before = filled(path[:10])
    now, tally = before.at(path[9].t_ns + 20 * MS).pose, before.tally
    after = before.plus(path[10]).plus(path[11])
    assert (len(before), len(after)) == (10, 12)
    assert before.tally == tally
    again = before.at(path[9].t_ns + 20 * MS).pose
    assert now is not None
    assert again is not None
    assert np.array_equal(now.matrix(), again.matrix())


STREAM = st.lists(
    st.tuples(
        st.integers(-5, 60),  # steps of 10 ms from the one before
        st.sampled_from(["seen", "missed", "flipped", "again"]),
        st.sampled_from(["", "wire"]),
    ),
    min_size=1,
    max_size=40,
)


@given(stream=STREAM, asked=st.lists(st.integers(-300, 3000), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_the_counts_add_up_and_every_answer_is_whole(
    stream: list[tuple[int, str, str]], asked: list[int]
) -> None:
    rng, hand = np.random.default_rng(0), Hand.of("walk", 0)
    history, t_ns = PoseHistory[Any](Limits(capacity=12)), 0
    for steps, kind, source in stream:
        t_ns += 0 if kind == "again" else 10 * MS * steps
        one = missed(t_ns) if kind == "missed" else seen(hand(t_ns * 1e-9), t_ns, MEASURED, rng)
        history.add(flipped(one) if kind == "flipped" else one, source)
    assert history.tally.added == len(stream)
    assert history.tally.held in (0, 1)
    assert len(history) <= 12
    for ms in [*asked, t_ns // MS]:
        for found in (history.at(ms * MS), history.raw_at(ms * MS)):
            assert (found.pose is None) == (found.how in ("STALE", "LOST"))
            assert found.age_ns >= 0
            if found.pose is None:
                assert found.reason
            else:
                assert found.covariance is not None
                assert np.linalg.eigvalsh(found.covariance)[0] > 0


@pytest.mark.parametrize("sd", [0.0, 1e-9])
def test_exact_poses_are_no_trouble(sd: float) -> None:
    history: PoseHistory[Any] = PoseHistory()
    for k in range(20):
        pose = Rigid[Any, Any].exp([0, 0, 0.01 * k], [2.0 * k, 0, 500])
        history.add(Sighting("b", k * STEP_NS, "TRACKED", None, UncertainRigid(pose, np.eye(6) * sd**2), 0.0))
    found = history.at(19 * STEP_NS + 10 * MS)
    assert found.pose is not None
    assert found.uncertain is not None
    assert found.pose.translation_mm[0] == pytest.approx(39.2, abs=0.1)


@pytest.mark.parametrize("wrong", [{"predict_ns": -1}, {"lost_ns": 1}, {"capacity": 0}, {"gap_ns": 0}, {"lag": -1}])
def test_limits_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(Misuse, match="in order"):
        Limits(**wrong)
