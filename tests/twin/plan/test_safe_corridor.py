"""The safe corridor against closed forms on a round pedicle, and against screws that are graded one by one."""

from functools import cache
from itertools import product

import numpy as np
import pytest

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.bodies import BACK, ISTHMUS_Y, PEDICLE_X, block_twin
from twin.anatomy.twin import Levels, NoLandmark, Twin
from twin.plan.auto.safe_corridor import corridor_surface, safe_corridor

PEDICLE_MM, THREAD_MM, MARGIN_MM = 5.0, 3.0, 1.0
ROOM_MM = PEDICLE_MM - THREAD_MM - MARGIN_MM


@cache
def corridor():
    return safe_corridor(block_twin(), "vertebrae_L4", "left", 2 * THREAD_MM, 40.0, MARGIN_MM)


def test_safe_are_the_axes_that_geometry_allows():
    """In a round pedicle an axis stays safe while it is within ROOM of the middle, from 6 mm behind the isthmus to the
    body, 7 mm before it.
    """

    def far_mm(axes):
        slope = np.tan(axes[:, 2:])
        return np.maximum(*(np.linalg.norm(axes[:, :2] + s * slope, axis=1) for s in (-6.0, ISTHMUS_Y - BACK)))

    axes = corridor().axes
    steps = [np.unique(np.round(axes[:, n], 9)) for n in range(4)]
    assert all(len(values) > 8 for values in steps)
    every = np.array(list(product(*steps)))
    sure = {tuple(axis) for axis in np.round(every[far_mm(every) < ROOM_MM - 0.15], 9)}
    assert len(sure) > 1000
    assert sure <= {tuple(axis) for axis in np.round(axes, 9)}
    assert far_mm(axes).max() < ROOM_MM + 0.15  # walls square to a leaning axis are a little farther away
    assert not corridor().is_clipped
    # the best axis keeps a little away from the canal; so the cone leans away
    for way in ("medial", "lateral", "cranial", "caudal"):
        assert 4.0 < corridor().cone_deg[way] <= np.degrees(np.arctan(ROOM_MM / (ISTHMUS_Y - BACK))) + 1.0


def test_the_surface_is_closed_and_holds_the_screws_and_no_more():
    found, rng = corridor(), np.random.default_rng(1)
    assert found.surface.is_closed
    grid = DistanceGrid[Patient].of(found.surface)
    medial, superior, way = np.array([-1.0, 0, 0]), np.array([0, 0, 1.0]), np.array([0, -1.0, 0])
    isthmus = np.array([PEDICLE_X, ISTHMUS_Y, 4.0])
    rows = rng.choice(len(found.axes), 30, replace=False)
    for (m, s, a, b), entry in zip(found.axes[rows], found.entries.mm[rows], strict=True):
        direction = way + np.tan(a) * medial + np.tan(b) * superior
        direction /= np.linalg.norm(direction)
        point = isthmus + m * medial + s * superior
        assert np.linalg.norm(np.cross(entry - point, direction)) < 1e-6  # the entry is on its axis
        around = np.cross(direction, rng.normal(size=(50, 3)))
        around *= THREAD_MM / np.linalg.norm(around, axis=1, keepdims=True)
        thread = entry + rng.uniform(0.5, 39.5, (50, 1)) * direction + around
        assert float(grid.distance_mm(Points[Patient](thread)).max()) < 0.4  # drawn on cells of a quarter millimetre
    lines = isthmus + found.axes[:, :1] * medial + found.axes[:, 1:2] * superior
    ways = way + np.tan(found.axes[:, 2:3]) * medial + np.tan(found.axes[:, 3:]) * superior
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    corners = found.surface.vertices_mm[rng.choice(len(found.surface.vertices_mm), 300)]
    off = corners[:, None] - lines
    off -= (off * ways).sum(axis=2, keepdims=True) * ways
    assert np.linalg.norm(off, axis=2).min(axis=1).max() < THREAD_MM + 0.4


def test_a_larger_margin_leaves_less_and_a_thick_screw_nothing():
    wide = safe_corridor(block_twin(), "vertebrae_L4", "left", 2 * THREAD_MM, 40.0, 0.3)
    assert len(wide.axes) > len(corridor().axes)
    assert wide.entry_area_mm2 > corridor().entry_area_mm2 > 0
    assert wide.to_json()["volume_ml"] > corridor().to_json()["volume_ml"]
    none = safe_corridor(block_twin(), "vertebrae_L4", "left", 10.0, 40.0, 0.3)
    assert len(none.axes) == 0
    assert none.surface is None
    assert none.to_json()["cone_deg"]["medial"] == 0.0
    assert len(corridor_surface(block_twin(), "vertebrae_L4", "left", 10.0).triangles) == 0


def test_sides_mirror_and_a_missing_pedicle_is_a_fault():
    left, right = (safe_corridor(block_twin(), "vertebrae_L4", s, 6.0, 40.0, MARGIN_MM) for s in ("left", "right"))
    assert right.to_json()["volume_ml"] == pytest.approx(left.to_json()["volume_ml"], rel=0.1)
    assert right.surface.volume_ml > 0
    twin = block_twin()
    bare = Twin("bare", twin.bones, twin.landmarks[2:], Levels(1.0))
    with pytest.raises(NoLandmark, match="pedicle_left"):
        safe_corridor(bare, "vertebrae_L4", "left")
