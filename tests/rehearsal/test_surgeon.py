"""The scripted surgeon performs the plan, and the score says how well."""

import json
import math

import pytest

from rehearsal.model import Model
from rehearsal.score import report
from rehearsal.script import line_of
from rehearsal.session import play, start
from rehearsal.state import State
from rehearsal.surgeon import Steadiness, Surgeon, rehearse_plan


@pytest.fixture(scope="module")
def performed(model: Model) -> State:
    return play(start(model, "s"), rehearse_plan(model, seed=2))


def test_the_same_seed_gives_the_same_script(model: Model) -> None:
    one, two, other = (rehearse_plan(model, seed, rate_hz=10) for seed in (5, 5, 6))
    assert [line_of(e) for e in one] == [line_of(e) for e in two]
    assert [line_of(e) for e in one] != [line_of(e) for e in other]


def test_all_that_was_planned_is_done_and_scored(performed: State, model: Model) -> None:
    found = report(performed)
    json.dumps(found, allow_nan=False)
    assert found["missing"] == []
    assert [line["id"] for line in found["screws"]] == sorted(model.planned.screws)
    for line in found["screws"]:
        assert line["grade"] == "A"
        assert line["deviation"]["entry_mm"] < 2.0
        assert line["deviation"]["angle_deg"] < 4.0
        assert 0.0 < line["economy"] <= 1.0
        assert 1.0 < line["seconds"] < 3.0
    (cut,) = found["osteotomies"]
    assert cut["closed_deg"] == pytest.approx(20.0)
    assert found["attempts"] == 6  # four screws, the cut, its closing
    assert found["undone"] == 0
    assert "none" in found["uncertainty"]
    assert found["seconds"] == pytest.approx(performed.elapsed_s)
    assert found["hands"]["right"]["path_mm"] > 500.0


def test_the_error_of_the_hand_is_the_error_of_the_screw(model: Model) -> None:
    """A hand without error leaves none; a hand that is 2 mm off leaves that."""
    still = Surgeon(model, seed=1, steadiness=Steadiness(0.0, 0.0, 0.0, 0.0, 0.0))
    still.place(model.planned.screws["L2_left"])
    deviation = still.state.history.edits()[0].payload["deviation"]
    assert max(deviation["entry_mm"], deviation["tip_mm"], abs(deviation["depth_mm"])) < 1e-6
    assert deviation["angle_deg"] < 1e-6
    shaky = Surgeon(model, seed=1, steadiness=Steadiness(2.0, math.radians(2.0), 0.0, 0.0, 0.0))
    shaky.place(model.planned.screws["L2_left"])
    assert 0.3 < shaky.state.history.edits()[0].payload["deviation"]["entry_mm"] < 6.0


def test_what_was_not_done_is_missing(model: Model) -> None:
    surgeon = Surgeon(model, seed=1)
    surgeon.place(model.planned.screws["L2_left"])
    assert report(surgeon.state)["missing"] == ["L2_right", "L3-PSO", "L4_left", "L4_right"]
    surgeon.tap("right", undo=True)
    found = report(surgeon.state)
    assert (found["attempts"], found["undone"], found["screws"]) == (1, 1, [])
