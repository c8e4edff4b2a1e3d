"""The whole line on the phantom, held to what the product promises; and its refusals."""

import json
import re

import pytest

from demo.line import OutNotEmpty, clear, run_line
from twin.case import Case, check_case

BONES = {
    *(f"vertebrae_{level}" for level in ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")),
    "sacrum", "hip_left", "hip_right", "femur_left", "femur_right",
    "rib_left_11", "rib_left_12", "rib_right_11", "rib_right_12",
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo-out"
    run_line(folder)
    return folder


@pytest.fixture(scope="module")
def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.mark.slow
def test_every_bone_is_found_closed_and_close_to_the_truth(summary):
    assert set(summary["twin"]["bones"]) == BONES
    assert summary["twin"]["closed"]
    assert summary["bones_missing"] == []
    assert summary["mesh_error_mean_mm"] <= 0.25
    assert summary["mesh_error_worst_mm"] <= 0.3


@pytest.mark.slow
def test_every_screw_is_grade_a_on_the_true_bone_and_none_stands_in_l3(summary):
    assert summary["screw_grades"] == ["A"] * 10
    assert {screw["bone"] for screw in summary["plan"]["screws"]} == {
        "vertebrae_L1", "vertebrae_L2", "vertebrae_L4", "vertebrae_L5", "sacrum",
    }  # fmt: skip
    for screw in summary["plan"]["screws"]:  # what the product says of its margin is what the truth says
        assert min(screw["margin_mm"].values()) > 0
        assert summary["screw_truth"][screw["id"]]["margin_mm"] > 0


@pytest.mark.slow
def test_the_osteotomy_turns_the_spine_by_what_was_planned(summary):
    assert summary["osteotomy_error_deg"] <= 0.5
    assert summary["hinge_error_mm"] <= 0.3
    lordosis = summary["lordosis_deg"]
    assert lordosis["planned_truth"] - lordosis["before"] == pytest.approx(30.0, abs=0.5)


@pytest.mark.slow
def test_the_overlay_sits_on_the_bone_and_the_predicted_error_holds(summary):
    assert summary["overlay_error_px"] <= 1.0
    assert summary["overlay_error_mean_px"] <= 1.0
    assert summary["overlay_error_mm"] <= 0.6
    inside, frames = map(int, re.findall(r"\d+", summary["predicted_error_held"]))
    assert inside >= 0.8 * frames
    assert summary["guidance"]["how"]["STALE"] >= 1
    assert summary["guidance"]["trust"]["STOP"] == summary["guidance"]["how"]["STALE"]


@pytest.mark.slow
def test_the_rehearsal_replays_to_the_same_document(summary):
    assert summary["rehearsal"]["replay_same"]
    assert len(summary["rehearsal"]["score"]["screws"]) == 10


@pytest.mark.slow
def test_everything_is_in_the_folder(out, summary):
    for name in ("report.html", "eye_left.png", "eye_right.png", "rehearsal.mp4", "guidance.mp4", "case/case.json"):
        assert (out / name).stat().st_size > 1000, name
    assert len(list(out.glob("overlay_*.png"))) >= 3
    assert check_case(out / "case") == []
    assert Case.open(out / "case").plan_names == ("demo",)
    text = (out / "report.html").read_text()
    assert "http" not in text.replace("data:image", "")
    assert text.count("data:image") >= 15
    assert "not a medical device" in text
    assert set(summary["seconds"]) >= {"phantom", "twin", "plan", "rehearsal", "guidance", "report"}


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(OutNotEmpty, match="thesis"):
        clear(tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutNotEmpty, match="file"):
        clear(tmp_path / "file")
