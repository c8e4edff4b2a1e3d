"""The canal is always there, inside the bone's walls, all along the vertebrae."""

import numpy as np

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points
from tests.twin.plan.phantom_twin import LEVELS, phantom, phantom_twin
from twin.anatomy.canal_tube import canal_structure, with_canal


def test_the_canal_runs_through_every_foramen_and_not_through_bone():
    twin = phantom_twin()
    canal = canal_structure(twin.surfaces(), twin.landmarks)
    assert canal is not None
    assert (canal.role, canal.is_measured) == ("critical", True)
    tube = canal.surface
    assert tube.is_closed
    assert tube.volume_ml > 0
    for level in LEVELS:
        bone = f"vertebrae_{level}"
        low, high = twin.bone(bone).surface.bounds_mm
        beside = tube.vertices_mm[((tube.vertices_mm > low - 2) & (tube.vertices_mm < high + 2)).all(axis=1)]
        depth = phantom().distance_mm(bone, beside)
        assert np.percentile(depth, 0.5) > -0.35, level  # the analytic bone, not the mesh that the tube was made from
        assert depth.min() > -1.2, level  # an edge between two cells
        assert np.percentile(np.abs(depth), 10) < 0.35, level  # and it reaches the wall


def test_the_canal_holds_the_middle_of_each_foramen():
    twin = phantom_twin()
    canal = canal_structure(twin.surfaces(), twin.landmarks)
    assert canal is not None
    grid = DistanceGrid[Patient].of(canal.surface)
    for level in LEVELS:
        left, right = (phantom().pedicle_frame(level, side)[0] for side in ("left", "right"))
        back = phantom().pedicle_frame(level, "left")[1][:, 2] + phantom().pedicle_frame(level, "right")[1][:, 2]
        behind = 0.5 * (left + right) - 8.0 * back / np.linalg.norm(back)
        assert grid.distance_mm(Points[Patient](behind)) < -3.0, level


def test_where_no_pedicle_was_measured_it_says_so():
    twin = phantom_twin()
    found, told = with_canal(twin.surfaces(), [m for m in twin.landmarks if "pedicle" not in m.name])
    assert not found
    assert "could not be measured" in told[0]


def test_bones_without_a_spine_have_no_canal_and_nothing_to_say():
    box = TriangleMesh[Patient](np.eye(4, 3), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    assert with_canal({"femur_left": box}, ()) == ({}, ())


def test_one_vertebra_alone_has_a_canal():
    twin = phantom_twin()
    canal = canal_structure({"vertebrae_L3": twin.bone("vertebrae_L3").surface}, twin.landmarks)
    assert canal is not None
    low, high = canal.surface.bounds_mm
    assert 15.0 < high[2] - low[2] < 60.0
