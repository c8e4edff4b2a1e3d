"""`plan deformity` and `plan assess` from the outside: a bent leg, its wedge, and what that does; targets that ask."""

import json

import manifold3d as m3
import numpy as np
import pytest
from typer.testing import CliRunner

from commands.plan import app
from tests.twin.plan.bodies import block_spine, to_mesh
from tests.twin.plan.standing import leg, pelvis, vertebra
from twin.anatomy.bone import Bone
from twin.anatomy.twin import Levels, Twin
from twin.case import Case
from twin.plan.measures.alignment_lines import alignment_lines
from twin.plan.measures.leg_angles import LEG_FORMULAS
from twin.plan.measures.measured import Marks


def rod(low, high, radius_mm, wide=1.0):
    """A bone as a cylinder between two points, as good as upright; `wide` times as broad from side to side."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    solid = m3.Manifold.cylinder(float(high[2] - low[2]), radius_mm, circular_segments=64).scale((wide, 1.0, 1.0))
    lean = (high - low)[:2] / (high - low)[2]
    return to_mesh(solid.transform([[1.0, 0.0, lean[0], low[0]], [0.0, 1.0, lean[1], low[1]], [0.0, 0.0, 1.0, low[2]]]))


def bent_leg():
    """A left leg with a tibia in varus: cylinders for bones, landmarks laid out."""
    marks = leg("left", mpta=80.0, mldfa=88.0, jlca=1.0)
    at = {(m.name, m.bone): m.position.mm for m in marks}
    knee = 0.5 * (at["plateau_medial", "tibia_left"] + at["plateau_lateral", "tibia_left"])
    foot = at["ankle_centre", "tibia_left"]
    bones = {
        "femur_left": rod(at["intercondylar_notch", "femur_left"], at["femoral_head", "femur_left"], 20.0, 1.6),
        "tibia_left": rod(foot, knee, 20.0, 1.8),
        "fibula_left": rod(foot + np.array([40.0, 5.0, 0.0]), knee + np.array([45.0, 5.0, -15.0]), 6.0),
    }
    return Twin("leg", {n: Bone(n, m) for n, m in bones.items()}, tuple(marks), Levels(0.0), surface_sd_mm=0.3)


def standing_block():
    """The block spine with a pelvis and endplates as landmarks."""
    spine = block_spine()
    marks = [*pelvis(24.0, 35.0), *vertebra("L1", [0.0, 0.0, 200.0], forward_deg=5.0)]
    return Twin(
        "spine", {n: spine.bones[n] for n in spine.bones}, (*marks, *spine.landmarks), Levels(1.0),
        warnings=("vertebrae_T4: not measured: endplate_superior: cut by the edge of the scan",),
    )  # fmt: skip


def run(case, command, *options, code=0):
    result = CliRunner().invoke(app, [command, str(case), *options])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout


@pytest.fixture
def leg_case(tmp_path):
    Case.create(tmp_path / "leg", bent_leg(), None, None, ())
    return tmp_path / "leg"


@pytest.fixture
def spine_case(tmp_path):
    Case.create(tmp_path / "spine", standing_block(), None, None, ())
    return tmp_path / "spine"


def test_a_bent_tibia_is_named_its_wedge_is_planned_and_does_what_it_was_to_do(leg_case):
    found = json.loads(run(leg_case, "deformity", "--side", "left", "--json"))
    assert found["mpta_deg"] == pytest.approx(80.0)
    assert [s["part"] for s in found["shares"] if s["outside_usual"]] == ["proximal tibia"]
    opening = found["corrections"][0]
    assert (opening["bone"], opening["technique"]) == ("tibia_left", "medial opening wedge")
    assert opening["wanted_percent"] == 62.5
    assert "medial opening wedge of" in found["verdict"]
    assert "unverified" in found["verdict"]
    run(leg_case, "osteotomy", "--kind", "open-wedge", "--bone", "tibia_left", "--hinge", "lateral",
        "--angle-deg", f"{opening['angle_deg']['value']}")  # fmt: skip
    report = json.loads(run(leg_case, "assess", "--json"))
    left = report["alignment"]["legs"]["left"]
    assert left["after"]["weight_bearing_line_percent"]["value"] == pytest.approx(62.5, abs=1e-4)
    assert left["change"]["mldfa_deg"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert left["change"]["mpta_deg"]["sd"] < left["before"]["mpta_deg"]["sd"]
    words = run(leg_case, "assess")
    assert "Left leg: Medial proximal tibial angle (MPTA): 80.0° ±" in words
    assert "With the plan:" in words


def test_choices_that_are_none_are_refused(leg_case):
    for options, said in (
        (("--side", "both"), "left or right"),
        (("--side", "left", "--wbl", "140"), "140 %"),
        (("--side", "left", "--jlca", "all"), "none, half, third"),
        (("--side", "left", "--reference", "book"), "population, other-leg"),
    ):
        shown = CliRunner().invoke(app, ["deformity", str(leg_case), *options])
        assert shown.exit_code == 2
        assert said in shown.output


def test_assess_compares_a_supine_scan_only_when_it_is_told_to(spine_case):
    run(spine_case, "osteotomy", "--kind", "PSO", "--bone", "vertebrae_L3", "--angle-deg", "25")
    report = json.loads(run(spine_case, "assess", "--targets", "schwab", "--targets", "age-adjusted", "--age", "70",
                            "--cobb", "L1-L3", "--json"))  # fmt: skip
    assert [t["when"] for t in report["targets"]] == ["as scanned", "with the plan"] * 2
    verdicts = {c["verdict"] for t in report["targets"] for c in t["comparisons"]}
    assert verdicts <= {"not compared", "not measured"}
    assert report["alignment"]["before"]["pelvic_tilt_deg"] == pytest.approx(24.0)
    assert report["alignment"]["before"]["posture"] == "supine"
    change = report["alignment"]["change"]
    assert change["lumbar_lordosis_deg"]["value"] == pytest.approx(25.0, abs=0.5)
    assert change["pelvic_incidence_deg"]["value"] == pytest.approx(0.0, abs=1e-9)
    reason = report["alignment"]["before"]["measures"]["thoracic_kyphosis_t4_t12_deg"]["reason"]
    assert "cut by the edge of the scan" in reason or "T12" in reason
    assert report["alignment"]["cobb"][0]["upper"] == "vertebrae_L1"
    asked = run(spine_case, "assess", "--targets", "schwab", "--compare-supine")
    assert "wanted below 20° (Schwab 2012" in asked
    assert "not met" in asked
    assert "as asked" in asked
    run(spine_case, "assess", "--targets", "nobody", code=2)
    run(spine_case, "assess", "--targets", "age-adjusted", code=2)
    run(spine_case, "assess", "--cobb", "L3-L1", code=2)


def test_the_lines_to_draw_lie_on_what_was_measured():
    twin = bent_leg()
    lines = alignment_lines(twin)
    hip, ankle = lines["load_line_left"].points.mm
    marks = Marks.of_twin(twin)
    inner, outer = lines["plateau_width_left"].points.mm
    across = (outer - inner) / np.linalg.norm(outer - inner)
    share = np.linalg.lstsq(np.column_stack([ankle - hip, -(outer - inner)]), inner - hip, rcond=None)[0][1]
    assert 100.0 * share == pytest.approx(LEG_FORMULAS["weight_bearing_line_percent"](marks, "left"), abs=0.5)
    assert np.linalg.norm(lines["femur_axis_left"].points.mm[0] - hip) < 1e-9
    assert across[0] > 0.9
    spine = alignment_lines(standing_block())
    assert {"hip_axis", "pelvic_tilt", "endplate_superior S1", "endplate_superior L1", "l1_pelvic_angle"} <= set(spine)
    assert "c7_plumb" not in spine  # C7 is not in this scan
    plate = spine["endplate_superior S1"].points.mm
    assert plate[1][1] < plate[0][1]  # from back to front
