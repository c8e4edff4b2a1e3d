"""Screws by the thousand against screws one by one, and against the phantom's analytic walls."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from tests.twin.plan.phantom_twin import phantom, phantom_twin
from tests.twin.plan.test_grade import rays_around
from twin.plan.screws.batch import BadCandidates, Candidates, Pedicle
from twin.plan.screws.grade import OffBone, grade_screw
from twin.plan.screws.screw import Screw
from twin.plan.screws.walls import WALLS

ALIKE_MM = 0.1


def candidates(bone, side, count, seed, spread_mm=3.0):
    rng = np.random.default_rng(seed)
    neck = phantom_twin((bone,)).landmark(f"pedicle_{side}", bone)
    ways = neck.direction.unit + rng.normal(0, 0.15, (count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    entries = neck.position.mm + rng.normal(0, spread_mm, (count, 3)) - rng.uniform(12, 18, (count, 1)) * ways
    return Candidates(entries, ways, rng.choice([4.5, 5.5, 6.5, 7.5], count), rng.choice([30.0, 40.0, 50.0], count))


def one_by_one(bone, side, screws, n):
    entry, way = screws.entries_mm[n], screws.ways[n]
    screw = Screw(
        "s", bone, side, Points[Patient](entry), Points[Patient](entry + 30 * way),
        float(screws.diameters_mm[n]), float(screws.lengths_mm[n]),
    )  # fmt: skip
    return grade_screw(phantom_twin((bone,)), screw)


@pytest.mark.parametrize(("bone", "side"), [("vertebrae_L2", "left"), ("vertebrae_L5", "right")])
def test_it_grades_as_one_by_one(bone, side):
    screws = candidates(bone, side, 150, 3)
    pedicle = Pedicle.of(phantom_twin((bone,)), bone, side)
    graded, safe = pedicle.grade(screws), pedicle.safe(screws)
    met = set()
    for n in range(len(screws)):
        try:
            alone = one_by_one(bone, side, screws, n)
        except OffBone:
            assert np.isnan(graded.anterior_mm[n])
            continue
        walls = {name: alone.margin_mm[name] for name in WALLS}
        margin = min(walls.values())
        assert graded.margin_mm[n] == pytest.approx(margin, abs=ALIKE_MM)
        assert graded.anterior_mm[n] == pytest.approx(alone.margin_mm["anterior"], abs=1e-3)
        assert walls[graded.directions[n]] == pytest.approx(margin, abs=2 * ALIKE_MM)
        if min(abs(margin + border) for border in (0.0, 2.0, 4.0, 6.0)) > ALIKE_MM:
            assert graded.grades[n] == alone.grade
            met.add(alone.grade)
        if abs(margin) > ALIKE_MM and abs(alone.margin_mm["anterior"] - 2.0) > ALIKE_MM:
            assert safe[n] == (margin >= 0 and alone.margin_mm["anterior"] >= 2.0)
    assert met >= set("ABCD")


def test_depths_are_those_of_the_analytic_pedicle():
    bone, side = "vertebrae_L3", "left"
    screws = candidates(bone, side, 40, 5, spread_mm=1.2)
    graded = Pedicle.of(phantom_twin((bone,)), bone, side).grade(screws)
    neck = phantom_twin((bone,)).landmark(f"pedicle_{side}", bone)
    stations, angles = np.linspace(-6, 6, 25), np.radians(np.arange(0, 360, 5.0))
    errors = []
    for n in range(len(screws)):
        entry, way = screws.entries_mm[n], screws.ways[n]
        place = (neck.position.mm - entry) @ way
        axis = entry + (place + stations)[:, None] * way
        if phantom().distance_mm(bone, axis).max() > -0.3:
            continue  # the rays' truth starts within the bone
        truth = rays_around(
            phantom_twin((bone,)), bone, side, entry, way, neck.position.mm, stations, angles,
            lambda o, d: phantom().crossings(bone, o, d, 60.0),
        )  # fmt: skip
        errors.append(graded.margin_mm[n] - (min(truth.values()) - screws.diameters_mm[n] / 2))
    assert len(errors) > 12
    assert np.abs(errors).max() < 0.12  # the surface of the twin is a polyhedron: test_grade allows as much
    assert np.median(np.abs(errors)) < 0.03


def test_no_screw_is_safe_with_less_room_than_is_kept():
    bone, side = "vertebrae_L4", "right"
    screws = candidates(bone, side, 3000, 8, spread_mm=1.5)
    pedicle = Pedicle.of(phantom_twin((bone,)), bone, side)
    graded = pedicle.grade(screws)
    for keep in (0.0, 1.0, 2.5):
        safe = pedicle.safe(screws, keep_mm=keep, keep_ahead_mm=4.0)
        assert 0 < safe.sum() < len(screws)
        assert graded.margin_mm[safe].min() > keep - 0.02
        assert graded.anterior_mm[safe].min() > 4.0 - 0.01
        free = (graded.margin_mm > keep + 0.05) & (graded.anterior_mm > 4.01)
        assert safe[free].all()


def test_odd_candidates_are_refused():
    one = np.zeros((1, 3))
    with pytest.raises(BadCandidates, match="direction"):
        Candidates(one, one, np.ones(1), np.ones(1))
    with pytest.raises(BadCandidates, match="shapes"):
        Candidates(one, one + 1.0, np.ones(2), np.ones(1))
    assert len(Candidates(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))) == 0
