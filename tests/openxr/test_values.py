"""What is believed of the runtime's answers: flags asked, metres to millimetres, angles to a projection."""

import itertools
import math

import numpy as np
import pytest
import xr

from render.headset_actions import PROFILES, stage_from_hand
from render.headset_eyes import projection_from_fov

FLAGS = (
    xr.SPACE_LOCATION_ORIENTATION_VALID_BIT,
    xr.SPACE_LOCATION_POSITION_VALID_BIT,
    xr.SPACE_LOCATION_ORIENTATION_TRACKED_BIT,
    xr.SPACE_LOCATION_POSITION_TRACKED_BIT,
)


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=4)))
def test_a_hand_is_believed_only_with_every_flag(given: tuple[bool, ...]) -> None:
    flags = sum(int(flag) for flag, there in zip(FLAGS, given, strict=True) if there)
    turn = xr.Quaternionf(0.0, math.sin(0.5), 0.0, math.cos(0.5))
    pose = xr.Posef(orientation=turn, position=xr.Vector3f(0.1, 1.2, -0.3))
    found = stage_from_hand(xr.SpaceLocation(location_flags=flags, pose=pose))
    if not all(given):
        assert found is None
        return
    assert found is not None
    np.testing.assert_allclose(found.translation_mm, (100.0, 1200.0, -300.0), atol=1e-4)
    c, s = math.cos(1.0), math.sin(1.0)
    np.testing.assert_allclose(found.rotation, ((c, 0, s), (0, 1, 0), (-s, 0, c)), atol=1e-6)


def test_the_projection_puts_the_four_edges_and_both_depths_on_the_clip_cube() -> None:
    angles = (-0.9, 0.7, 0.6, -0.8)
    P = projection_from_fov(angles, 20.0, 5000.0)
    for axis, (low, high) in enumerate(((angles[0], angles[1]), (angles[3], angles[2]))):
        for angle, clip in ((low, -1.0), (high, 1.0)):
            point = np.array([0.0, 0.0, -300.0, 1.0])
            point[axis] = 300.0 * math.tan(angle)
            x = P @ point
            assert x[axis] / x[3] == pytest.approx(clip)
    for depth, clip in ((20.0, -1.0), (5000.0, 1.0)):
        x = P @ (0.0, 0.0, -depth, 1.0)
        assert x[2] / x[3] == pytest.approx(clip)


def test_no_button_of_a_controller_means_two_things() -> None:
    for profile, table in PROFILES.items():
        for side in range(2):
            paths = [where if isinstance(where, str) else where[side] for where in table.values()]
            assert len(set(paths)) == len(paths), profile
