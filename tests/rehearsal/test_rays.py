"""Paths through bones, against closed forms and by brute sampling of the inside."""

import numpy as np
import pytest

from rehearsal.rays import Crossing, crossings, may_meet
from spatial.frames import Patient
from spatial.shapes import Line
from tests.rehearsal.boxes import HALF_MM, box


def test_a_path_through_a_box_enters_and_leaves_where_its_faces_are() -> None:
    mesh = box(np.array([1.0, 2.0, 3.0]))
    path = Line[Patient](np.array([1.0, 82.0, 3.0]), np.array([0.0, -1.0, 0.0]))  # through a diagonal of the face
    found = crossings(path, mesh, 200.0)
    assert [c.is_entry for c in found] == [True, False]
    assert [c.along_mm for c in found] == pytest.approx([80.0 - HALF_MM[1], 80.0 + HALF_MM[1]], abs=1e-9)


def test_a_path_that_starts_inside_only_leaves() -> None:
    path = Line[Patient](np.zeros(3), np.array([1.0, 0.0, 0.0]))
    assert crossings(path, box(np.zeros(3)), 100.0) == (Crossing(24.0, False),)


def test_reach_and_misses() -> None:
    mesh = box(np.zeros(3))
    toward = Line[Patient](np.array([0.0, 100.0, 0.0]), np.array([0.0, -1.0, 0.0]))
    assert crossings(toward, mesh, 60.0) == ()
    assert not may_meet(Line[Patient](toward.point_mm, np.array([0.0, 1.0, 0.0])), mesh.bounds_mm, 500.0)
    assert not may_meet(Line[Patient](np.array([25.0, 100.0, 0.0]), toward.direction), mesh.bounds_mm, 500.0)


@pytest.mark.parametrize("seed", range(8))
def test_random_paths_agree_with_the_box_equation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = Line[Patient](rng.uniform(-60, 60, 3), rng.normal(size=3))
    along = np.linspace(0.0, 150.0, 30001)
    inside = (np.abs(path.at(along).mm) < HALF_MM).all(axis=1)
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    found = crossings(path, box(np.zeros(3)), 150.0)
    assert len(found) == len(changes)
    for crossing, index in zip(found, changes, strict=True):
        assert along[index] <= crossing.along_mm <= along[index + 1]
        assert crossing.is_entry == bool(inside[index + 1])
