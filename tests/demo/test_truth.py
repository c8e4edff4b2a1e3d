"""The demo's yardsticks, held to closed forms: a yardstick that is wrong would pass everything."""

import numpy as np
import pytest

from demo.report import Section, Table, page, verdict
from demo.truth import lordosis_deg, outline_distance_px, surface_error, true_grade
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points, rotation_exp
from twin.plan.screws.screw import Screw
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.truth import truth

RIGHT = np.array([-1.0, 0.0, 0.0])


def disc(radius, centre=(200.0, 250.0)):
    v, u = np.mgrid[0:500, 0:400]
    return np.hypot(u - centre[0], v - centre[1]) < radius


def test_outline_distance_sees_a_shift_of_one_pixel_and_of_a_tenth():
    for grow in (0.0, 0.5, 1.0, 3.0):
        _, mean, _ = outline_distance_px(disc(100.0 + grow), disc(100.0))
        assert mean == pytest.approx(grow, abs=0.25)
    median, _, p95 = outline_distance_px(disc(103.0), disc(100.0))
    assert median == pytest.approx(3.0, abs=0.3)
    assert p95 == pytest.approx(3.0, abs=0.6)
    assert np.isnan(outline_distance_px(disc(0.0), disc(100.0))[0])


def test_lordosis_is_positive_when_the_upper_endplate_looks_back():
    sacral = rotation_exp(RIGHT * np.radians(-40.0)) @ np.array([0.0, 0.0, 1.0])
    assert sacral[1] < 0  # the sacral endplate slants forward: its normal leans anteriorly
    upper = rotation_exp(RIGHT * np.radians(12.0)) @ np.array([0.0, 0.0, 1.0])
    assert upper[1] > 0
    assert lordosis_deg(upper, sacral, RIGHT) == pytest.approx(52.0)
    tilted = rotation_exp(np.array([0.0, 0.3, 0.0]))  # a tilt to the side is not lordosis
    assert lordosis_deg(tilted @ upper, sacral, RIGHT) == pytest.approx(52.0, abs=1.5)


@pytest.fixture(scope="module")
def phantom():
    return Phantom.make(1)


@pytest.fixture(scope="module")
def facts(phantom):
    return truth(phantom)


def l2_screw(facts, diameter_mm, beside_mm=0.0):
    pedicle = next(p for p in facts["pedicles"] if p["bone"] == "vertebrae_L2" and p["side"] == "left")
    centre, axis = np.array(pedicle["isthmus_mm"]), np.array(pedicle["direction"])
    side = np.cross(axis, [0.0, 0.0, 1.0])
    centre = centre + beside_mm * side / np.linalg.norm(side)
    entry, target = Points[Patient](centre - 14.0 * axis), Points[Patient](centre + 30.0 * axis)
    return Screw("L2-left", "vertebrae_L2", "left", entry, target, diameter_mm, 45.0), pedicle


@pytest.mark.slow
def test_true_grade_follows_the_walls_of_the_true_pedicle(phantom, facts):
    screw, pedicle = l2_screw(facts, 6.0)
    found = true_grade(phantom, facts, screw)
    assert found["grade"] == "A"
    assert 0.0 < found["margin_mm"] <= (pedicle["width_mm"] - 6.0) / 2 + 0.05
    shifted = [true_grade(phantom, facts, l2_screw(facts, 6.0, beside)[0]) for beside in (-4.0, 4.0)]
    for one in shifted:  # 4 mm beside the axis the wall is beyond by that less the room there was
        assert one["breach_mm"] == pytest.approx(4.0 - found["margin_mm"], abs=0.8)
        assert one["grade"] in "BC"
    assert true_grade(phantom, facts, l2_screw(facts, 6.0, 9.5)[0])["grade"] in "DE"


@pytest.mark.slow
def test_surface_error_measures_a_known_offset(phantom):
    points = phantom.surface("femur_left").samples_mm
    head = points[points[:, 2] > points[:, 2].max() - 12.0]
    centre = head.mean(axis=0)
    u, v = np.mgrid[-8:9, -8:9] * 1.0
    rays = np.c_[u.ravel(), v.ravel(), np.full(u.size, 60.0)]
    # a patch of the true surface, moved outward by 0.4 mm along its own rays from above
    origins = centre + rays
    t, _, normals = phantom.cast(origins, np.tile([0.0, 0.0, -1.0], (len(rays), 1)), 200.0, bones=("femur_left",))
    on_surface = origins + t[:, None] * [0.0, 0.0, -1.0] + 0.4 * normals
    index = np.arange(17 * 17).reshape(17, 17)
    a, b, c, d = (index[i : 16 + i, j : 16 + j].ravel() for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    patch = TriangleMesh[Patient](on_surface, np.r_[np.c_[a, b, c], np.c_[a, c, d]])
    error = surface_error(phantom, "femur_left", patch, count=800)
    assert error.mean_mm == pytest.approx(0.4, abs=0.08)


def test_report_escapes_text_and_says_when_nothing_was_measured():
    words, mark = verdict(None, 0.25, "mm")
    assert "not measured" in words
    assert "no truth" in mark
    section = Section("<b>", "5 < 6", (Table(("a",), (("<script>",),)),))
    text = page("t", "s", [section], ["<warn>"])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "not a medical device" in text
