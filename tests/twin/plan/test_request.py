"""A planning request: typed, nothing unknown, YAML as plain data; the JSON schema that is published is the types'."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.plan.request import BadRequest, Goal, json_schema, plain_yaml, read_request, request_from

ROOT = Path(__file__).resolve().parents[3]
SPINE = {"procedure": "sagittal_correction", "levels": "L1-S1", "goals": {"pi_minus_ll_deg": {"at_most": 10}}}
LEG = {
    "procedure": "high_tibial_osteotomy",
    "side": "left",
    "goals": {"weight_bearing_line_percent": {"target": 62.5}},
}


def test_the_published_schema_is_the_types_and_agrees_with_them():
    published = json.loads((ROOT / "docs" / "request.schema.json").read_text())
    assert published == json_schema()
    jsonschema.Draft202012Validator.check_schema(published)
    for good in (SPINE, LEG, {"procedure": "fixation", "levels": "L4,S1", "constraints": {"no_go": ["aorta"]}}):
        jsonschema.validate(good, published)
        request_from(good)
    for bad in ({**SPINE, "surgeon": "x"}, {**SPINE, "goals": {"pi": 1}}, {**LEG, "side": "medial"}, {"levels": "L1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, published)
        with pytest.raises(BadRequest):
            request_from(bad)


def test_a_request_survives_its_own_file(tmp_path):
    given = {**SPINE, "constraints": {"cuts": ["PSO"], "max_diameter_mm": 7}, "priorities": ["pi_minus_ll_deg"]}
    asked = request_from(given)
    path = tmp_path / "request.yaml"
    path.write_text(asked.to_yaml())
    again = read_request(path)
    assert again == asked
    assert again.sha256 == asked.sha256
    path.write_text(json.dumps(given))
    assert read_request(path) == asked


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surgeon": "x"}, "unknown field surgeon: allowed are schema, procedure, side, levels"),
        ({"goals": {"pi_ll_deg": {"at_most": 1}}}, "unknown field goals.pi_ll_deg: allowed are pi_minus_ll_deg"),
        ({"goals": {"pi_ll_deg": {"at_most": 1}}}, "did you mean pi_minus_ll_deg?"),
        ({"goals": {"pi_minus_ll_deg": {"most": 1}}}, "allowed are target, tolerance, at_least, at_most"),
        ({"constraints": {"max_diameter_mm": "6"}}, 'constraints.max_diameter_mm is "6"'),
        ({"constraints": {"max_diameter_mm": 0}}, "greater than 0"),
        ({"constraints": {"min_margin_mm": float("nan")}}, "constraints.min_margin_mm is NaN"),
        ({"constraints": {"cuts": ["open-wedge"]}}, "open-wedge is no cut of a sagittal_correction; SPO, PSO, VCR"),
        ({"constraints": {"cut_levels": "L9"}}, "level 'L9' is not known"),
        ({"procedure": "magic"}, 'procedure is "magic"'),
        ({"procedure": None}, "procedure is null"),
        ({"levels": None}, "needs levels, such as L1-S1"),
        ({"levels": "L1-X"}, "level 'X' is not known"),
        ({"schema": 2}, "schema is 2"),
        ({"goals": {"pi_minus_ll_deg": {}}}, "give either target"),
        ({"goals": {"pi_minus_ll_deg": {"target": 3, "at_most": 4}}}, "give either target"),
        ({"goals": {"pi_minus_ll_deg": {"at_least": 3, "at_most": 1}}}, "at_least 3 is above at_most 1"),
        ({"goals": {"hka_deg": {"target": 180}}}, "hka_deg is no goal of a sagittal_correction"),
        ({"goals": {}}, "needs a goal"),
        ({"priorities": ["hold"]}, "priority 'hold' is none of the goals (pi_minus_ll_deg)"),
        ({"procedure": "fixation"}, "a fixation moves nothing"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(changes, words):
    with pytest.raises(BadRequest) as fault:
        request_from({**SPINE, **changes})
    assert words in fault.value.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": "both"}, "needs side: left or right"),
        ({"levels": "L1-S1"}, "no levels of the spine"),
        ({"constraints": {"cuts": ["derotation"]}}, "open-wedge, close-wedge"),
        ({"procedure": "derotation"}, "femoral_version_deg and tibial_torsion_deg"),
    ],
)
def test_legs_and_spines_are_not_mixed(changes, words):
    with pytest.raises(BadRequest) as fault:
        request_from({**LEG, **changes})
    assert words in fault.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "line 2: aliases"),
        ("procedure: fixation\nprocedure: fixation", "line 2: 'procedure' is there twice"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("{a: [", "line 1"),
        ("a: " + "[" * 30 + "]" * 30, "nested more than 12 deep"),
        ("[" * 3000, "deep"),
        ("- 1", "a request is a form with fields (schema, procedure"),
        ("", "not NoneType"),
    ],
)
def test_yaml_is_read_as_plain_data(text, words):
    with pytest.raises(BadRequest) as fault:
        request_from(plain_yaml(text))
    assert words in fault.value.message


def test_a_file_that_is_no_request_is_said_with_its_path(tmp_path):
    path = tmp_path / "r.yaml"
    with pytest.raises(BadRequest, match=r"No such file.*r\.yaml"):
        read_request(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="no text"):
        read_request(path)
    path.write_text("procedure: fixation\nlevels: L1\n" + "#" * 70_000)
    with pytest.raises(BadRequest, match="at most 65536"):
        read_request(path)


numbers = st.floats(-200, 200, allow_nan=False)


@given(st.none() | numbers, st.none() | numbers, numbers)
def test_a_goal_falls_short_by_the_way_to_its_nearest_bound(low, high, value):
    if low is None and high is None:
        goal, low, high = Goal(target=3.0, tolerance=1.0), 2.0, 4.0
    elif low is not None and high is not None and low > high:
        goal, low, high = Goal(at_least=high, at_most=low), high, low
    else:
        goal = Goal(at_least=low, at_most=high)
    short = goal.short_by(value)
    assert short >= 0
    inside = (low is None or value >= low) and (high is None or value <= high)
    assert (short == 0) == inside
    if not inside:
        nearest = min(abs(value - bound) for bound in (low, high) if bound is not None)
        assert short == pytest.approx(nearest)
