"""HU along a screw in a CT of known values."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import BACK, block_twin
from twin.plan.screws.grade import grade_screw
from twin.plan.screws.screw import Screw
from twin.scan.volume import Grid, Volume


def ct(size=(60, 70, 40), spacing=1.0, pedicle_hu=400, body_hu=150):
    """Body in front of y = 18, arch behind; half a voxel off, axes along the patient's."""
    origin = np.array([-30.0, -25.0, -20.0])
    y = origin[1] + spacing * np.arange(size[1])
    line = np.where(y < BACK + 1, body_hu, pedicle_hu).astype(np.int16)
    hu = np.broadcast_to(line[None, :, None], (size[2], size[1], size[0])).copy()
    return Volume(Grid(size, np.full(3, spacing), origin, np.eye(3)), hu)


def screw(length=45.0):
    return Screw(
        "s", "vertebrae_L4", "left", Points[Patient]([12, 41.0, 4]), Points[Patient]([12, 0, 4.0]), 6.0, length
    )


def test_pedicle_body_and_thread_in_closed_form():
    hu = grade_screw(block_twin(), screw(), ct()).hu
    assert hu["pedicle"] == pytest.approx(400, abs=1)  # the window is y 18 to 30
    assert hu["body"] == pytest.approx(150, abs=15)  # from y 18 on, one voxel of the step in it
    assert hu["thread"] == pytest.approx((23.5 * 400 + 21.5 * 150) / 45, abs=6)


def test_a_ct_that_ends_short_of_the_screw_says_nothing():
    short = ct(size=(60, 40, 40))
    assert grade_screw(block_twin(), screw(), short).hu["thread"] is None
    assert grade_screw(block_twin(), screw(), short).hu["pedicle"] is None
