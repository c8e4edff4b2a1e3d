"""The pose at any instant: how it was got, how its covariance grows, and what a disordered clock does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.frames import Camera
from spatial.rigid import Rigid, UncertainRigid
from tracking.history.history import Limits, PoseHistory
from tracking.pose.sighting import Sighting

MS = 1_000_000
COVARIANCE = np.diag([1e-8] * 3 + [1e-4] * 3)


def sighting(t_ms: float, x_mm: float = 0.0, turn_rad: float = 0.0, lost: str | None = None) -> Sighting[Any]:
    pose = UncertainRigid(Rigid[Camera, Any].exp([0, 0, turn_rad], [x_mm, 0, 500.0]), COVARIANCE)
    return Sighting("b", round(t_ms * MS), "LOST" if lost else "TRACKED", lost, None if lost else pose, 0.1)


def moving(limits: Limits | None = None) -> PoseHistory[Any]:
    """200 mm/s along x and 1 rad/s, a sighting every 20 ms to 100 ms."""
    history: PoseHistory[Any] = PoseHistory(limits)
    for t_ms in range(0, 101, 20):
        history.add(sighting(t_ms, 0.2 * t_ms, 0.001 * t_ms))
    return history


def test_exact_interpolated_predicted_stale_in_turn() -> None:
    history = moving()
    for t_ms, how in (
        (40, "EXACT"),
        (50, "INTERPOLATED"),
        (130, "PREDICTED"),
        (200, "PREDICTED"),
        (201, "STALE"),
        (1101, "LOST"),
    ):
        found = history.at(t_ms * MS)
        assert found.how == how
        if found.pose is None:
            assert found.uncertain is None
            assert found.reason
            continue
        assert found.pose.translation_mm[0] == pytest.approx(0.2 * t_ms, abs=2e-2)
        assert found.pose.log()[0][2] == pytest.approx(0.001 * t_ms, abs=2e-4)


def test_raw_poses_are_the_sightings_and_the_straight_way_between_them() -> None:
    history = moving()
    for t_ms, how in ((40, "EXACT"), (50, "INTERPOLATED")):
        found = history.raw_at(t_ms * MS)
        assert found.how == how
        assert found.pose is not None
        assert found.pose.translation_mm[0] == pytest.approx(0.2 * t_ms, abs=1e-9)
        assert found.pose.log()[0][2] == pytest.approx(0.001 * t_ms, abs=1e-9)
    assert history.raw_at(110 * MS).pose is None  # a prediction is not raw


def test_covariance_grows_with_age() -> None:
    history = moving()
    found = [history.at(t_ms * MS) for t_ms in (100, 110, 130, 160, 200)]
    spreads = [float(np.trace(f.covariance)) for f in found if f.covariance is not None]
    assert len(spreads) == 5
    assert all(a < b for a, b in pairwise(spreads))
    assert [f.age_ns for f in found] == [0, 10 * MS, 30 * MS, 60 * MS, 100 * MS]


def test_prediction_33_ms_ahead_of_a_hand_stays_within_its_claim() -> None:
    def hand(t_s: float) -> float:
        return float(30 * np.sin(2 * np.pi * t_s))  # 190 mm/s at most, 1.2 m/s2

    rng = np.random.default_rng(0)
    history: PoseHistory[Any] = PoseHistory()
    inside, errors = [], []
    for k in range(240):
        t_s = k / 60
        history.add(sighting(1000 * t_s, hand(t_s) + rng.normal(0, 0.01)))
        if k > 4:
            found = history.at(round((t_s + 0.033) * 1e9))
            assert found.pose is not None
            assert found.covariance is not None
            error = found.pose.translation_mm[0] - hand(t_s + 0.033)
            errors.append(abs(error))
            inside.append(abs(error) < 2 * np.sqrt(found.covariance[3, 3]))
    assert np.mean(inside) > 0.9
    assert np.median(errors) < 2.0


def test_lost_sightings_keep_no_pose_but_tell_why() -> None:
    history = moving()
    history.add(sighting(120, lost="0 of 4 markers seen"))
    assert history.at(120 * MS).how == "PREDICTED"
    found = history.at(260 * MS)
    assert (found.how, found.pose) == ("STALE", None)
    assert found.reason == "not seen for 160 ms: 0 of 4 markers seen"
    assert history.newest_ns == 120 * MS


def test_a_long_gap_is_not_bridged() -> None:
    history = moving()
    history.add(sighting(600, 50.0))
    assert history.at(150 * MS).how == "PREDICTED"
    assert history.at(400 * MS).how == "STALE"


def test_before_the_first_and_when_never_seen() -> None:
    assert moving().at(-5 * MS).how == "STALE"
    assert PoseHistory[Any]().at(0).reason == "never seen"


def test_one_sighting_is_held_with_a_covariance_that_owns_up() -> None:
    history: PoseHistory[Any] = PoseHistory()
    history.add(sighting(0, 3.0))
    found = history.at(30 * MS)
    assert found.how == "PREDICTED"
    assert found.pose is not None
    assert found.pose.translation_mm[0] == 3.0
    assert found.covariance is not None
    assert found.covariance[3, 3] > 1.0  # mm2: the speed is unknown


def test_a_clock_that_steps_back_starts_anew() -> None:
    history = moving()
    history.add(sighting(-5000, 7.0))
    assert (len(history), history.restarts) == (1, 1)
    assert history.at(-5000 * MS).how == "EXACT"


@given(order=st.permutations(list(range(0, 200, 20))))
@settings(max_examples=30, deadline=None)
def test_order_of_arrival_does_not_matter(order: list[int]) -> None:
    in_turn: PoseHistory[Any] = PoseHistory()
    shuffled: PoseHistory[Any] = PoseHistory()
    for k, t_ms in enumerate(order):
        in_turn.add(sighting(20 * k, 4.0 * k, 0.02 * k))
        for _ in range(2):  # a doubled frame counts once
            shuffled.add(sighting(t_ms, 0.2 * t_ms, 0.001 * t_ms))
    assert len(shuffled) == 10
    assert shuffled.tally.repeated == 10
    for t_ms in (20, 55, 190):
        one, other = in_turn.at(t_ms * MS), shuffled.at(t_ms * MS)
        assert one.pose is not None
        assert other.pose is not None
        assert np.allclose(one.pose.matrix(), other.pose.matrix(), atol=1e-9)
        assert np.allclose(one.covariance, other.covariance, rtol=1e-6)
        assert one.how == other.how


def test_memory_is_bounded() -> None:
    history: PoseHistory[Any] = PoseHistory(Limits(capacity=16))
    for t_ms in range(1000):
        history.add(sighting(t_ms))
    assert len(history) == 16
