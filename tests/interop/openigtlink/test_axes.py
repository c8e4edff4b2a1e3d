"""RAS and LPS: the same point said twice, and poses whose ends are patients."""

import numpy as np
import pytest

from interop import axes
from interop.openigtlink.stamps import SenderClock
from spatial.rigid import rotation_exp

POINTS = np.random.default_rng(1).normal(0, 100, (5, 3))
POSE = np.column_stack([rotation_exp([0.3, -0.4, 0.5]), [10.0, 20.0, 30.0]])
MS = 1_000_000


def test_left_posterior_superior_is_minus_right_minus_anterior_superior() -> None:
    assert axes.out([1.0, 2.0, 3.0], "RAS").tolist() == [-1, -2, 3]
    assert axes.out([1.0, 2.0, 3.0], "LPS").tolist() == [1, 2, 3]
    assert np.array_equal(axes.into(axes.out(POINTS, "RAS"), "RAS").mm, POINTS)


@pytest.mark.parametrize("to_patient", [True, False])
@pytest.mark.parametrize("from_patient", [True, False])
def test_a_pose_maps_the_turned_points_to_the_turned_points(to_patient: bool, from_patient: bool) -> None:
    wired = axes.matrix_out(POSE, "RAS", to_patient=to_patient, from_patient=from_patient)
    start = axes.out(POINTS, "RAS") if from_patient else POINTS
    truth = POINTS @ POSE[:, :3].T + POSE[:, 3]
    end = axes.out(truth, "RAS") if to_patient else truth
    assert np.allclose(start @ wired[:, :3].T + wired[:, 3], end)
    assert np.isclose(np.linalg.det(wired[:, :3]), 1.0)
    assert np.array_equal(axes.matrix_out(wired, "RAS", to_patient=to_patient, from_patient=from_patient), POSE)
    assert np.array_equal(axes.matrix_out(POSE, "LPS", to_patient=to_patient, from_patient=from_patient), POSE)


class TestSenderClock:
    """Truth: a sender whose clock is off by a known amount, and messages that take known times."""

    def run(self, offset_ns: int, delays_ms: list[float], period_ms: float = 16.0) -> tuple[SenderClock, list[float]]:
        clock, errors = SenderClock(), []
        for k, delay in enumerate(delays_ms):
            true_ns = round(k * period_ms * MS)
            found = clock.monotonic_ns(true_ns - offset_ns, true_ns + round(delay * MS))
            assert found <= true_ns + round(delay * MS)
            errors.append((found - true_ns) / MS)
        return clock, errors

    def test_the_fastest_message_sets_the_clock(self) -> None:
        delays = (2 + np.random.default_rng(2).exponential(3.0, 500)).tolist()
        _, errors = self.run(-1_700_000_000_000_000_000, delays)
        assert max(errors[100:]) < 2.2  # what the fastest one takes can't be seen from one side
        assert min(errors) >= 2.0 - 1e-6

    def test_a_stalled_wire_makes_old_poses_not_new_ones(self) -> None:
        _, errors = self.run(0, [1.0] * 50 + [1500.0 - 16 * k for k in range(90)] + [1.0] * 20)
        assert max(abs(np.array(errors) - 1.0)) < 0.01

    @pytest.mark.parametrize("step_ms", [-60_000, 60_000])
    def test_a_clock_that_steps_is_followed(self, step_ms: int) -> None:
        clock, late = SenderClock(), []
        for k in range(400):
            true_ns = k * 16 * MS
            sent_ns = true_ns + 10**18 + (step_ms * MS if k >= 200 else 0)
            found = clock.monotonic_ns(sent_ns, true_ns + MS)
            assert found <= true_ns + MS  # never in the future
            late.append((true_ns - found) / MS)
        assert clock.steps == 1
        assert max(np.abs(late[:200])) < 1.01
        assert max(np.abs(late[270:])) < 1.01  # within about a second

    def test_drift_is_followed(self) -> None:
        clock = SenderClock()
        for k in range(60 * 60):
            true_ns = k * 16_666_667
            found = clock.monotonic_ns(round(true_ns * (1 + 50e-6)), true_ns + MS)
        assert abs(found - true_ns - MS) < 0.7 * MS

    def test_without_a_stamp_the_arrival_counts(self) -> None:
        assert SenderClock().monotonic_ns(None, 77) == 77
