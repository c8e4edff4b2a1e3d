"""A rod as a value: its document, its length and its tightest bend."""

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from twin.plan.auto.rod import BadRod, Rod


def arc(radius_mm=100.0, turn_rad=0.6, points=61):
    angle = np.linspace(0.0, turn_rad, points)
    line = radius_mm * np.column_stack([np.zeros(points), np.cos(angle), -np.sin(angle)])
    return Rod("rod-left", "left", ("L3-left", "L4-left"), 5.5, "Ti-6Al-4V", Points[Patient](line))


def test_length_and_radius_of_an_arc():
    rod = arc()
    assert rod.radius_mm == pytest.approx(100.0, rel=1e-9)
    assert rod.length_mm == pytest.approx(60.0, abs=0.01)
    straight = Rod("r", "left", ("a", "b"), 5.5, "CoCr", Points[Patient]([[0, 0, 0], [0, 0, 1], [0, 0, 2.0]]))
    assert straight.radius_mm == float("inf")


def test_the_document_comes_back_and_other_keys_are_ignored():
    rod = arc()
    again = Rod.from_json({**rod.to_json(), "length_mm": 3})
    assert again.to_json() == rod.to_json()
    assert rod.renamed({"L3-left": "L2-left"}, "rod").to_json()["screws"] == ["L2-left", "L4-left"]


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ({"screws": ["L3-left"]}, "two or more different screws"),
        ({"screws": ["L3-left", "L3-left"]}, "different"),
        ({"diameter_mm": 12.0}, "12 mm"),
        ({"material": " "}, "material"),
        ({"side": "up"}, "left or right"),
        ({"centreline_mm": [[0, 0, 0]]}, "two or more points"),
        ({"centreline_mm": [[0, 0, 0], [0, 0, 0]]}, "the same"),
        ({"centreline_mm": None}, "spoils"),
    ],
)
def test_a_rod_that_cannot_be_is_refused(spoilt, says):
    with pytest.raises(BadRod, match=says):
        Rod.from_json({**arc().to_json(), **spoilt})
