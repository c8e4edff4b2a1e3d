"""Pivot and spin: tip and shaft of simulated tools are found with a true covariance; poor recordings are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from commands import calibrate
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp
from tests.data import ROOT, shared_data
from tracking.bodies.body import load
from tracking.calibration.instrument import PoorPivot, check_tip, pivot
from tracking.calibration.recording import BadRecording, Sample, dwells, load_recording, record
from tracking.calibration.spin import PoorSpin, spin
from tracking.frame import Frame
from tracking.synthetic.camera import Optics, SyntheticCamera

TIP = np.array([3.0, -170.0, 5.0])
DIVOT = np.array([100.0, 50.0, 600.0])
SD = (0.0005, 0.05)  # rad, mm


def noisy(R: Array, t: Array, rng: np.random.Generator) -> UncertainRigid[Any, Any]:
    error = rng.standard_normal(6) * np.repeat(SD, 3)
    return UncertainRigid(Rigid(rotation_exp(error[:3]) @ R, t + error[3:]), np.diag(np.repeat(np.square(SD), 3)))


def sway(
    seed: int,
    *,
    cone_deg: float = 60.0,
    narrow: float = 1.0,
    slip: Callable[[float], Array] = lambda _: np.zeros(3),
    bend: Callable[[Array], Array] = lambda _: np.zeros(3),
    poses: int = 200,
) -> list[Sample]:
    """A spiral swing of the shaft; `slip` moves the divot with time (0 to 1), `bend` the tip with the swing (rad)."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(poses):
        reach, phase = np.radians(cone_deg / 2) * np.sqrt(k / poses), 2 * np.pi * k / 37
        swing = np.array([reach * np.cos(phase), 0.0, narrow * reach * np.sin(phase)])
        R = rotation_exp(swing) @ rotation_exp([0, 0.5 * np.sin(k / 50), 0])
        t = DIVOT + slip(k / poses) - R @ (TIP + bend(swing))
        out.append(Sample(k * 33_000_000, noisy(R, t, rng)))
    return out


def test_the_tips_covariance_is_true() -> None:
    errors = []
    for seed in range(24):
        found = pivot(sway(seed))
        off = found.tip_mm - TIP
        errors.append(off @ np.linalg.solve(found.covariance_mm2, off))
    assert np.mean(errors) == pytest.approx(3.0, abs=1.4)  # chi-square with 3 degrees of freedom
    assert np.mean(np.array(errors) < 7.815) > 0.83


def test_a_wide_swing_finds_the_tip_and_says_how_well() -> None:
    found = pivot(sway(1))
    assert np.linalg.norm(found.tip_mm - TIP) < 0.06
    assert np.linalg.norm(found.pivot_mm - DIVOT) < 0.06
    assert 0.02 < found.radius95_mm < 0.08
    assert found.held_out_mm == pytest.approx(found.rms_mm, rel=0.1)
    assert min(found.cone_deg) > 45
    assert check_tip(sway(99), found.tip_mm) < 1.3 * found.rms_mm
    assert check_tip(sway(99), found.tip_mm + np.array([0, 0, 5.0])) > 1.0


def test_poses_away_from_the_divot_do_not_count() -> None:
    found = pivot(sway(1, slip=lambda f: np.array([30.0, 0, 0]) if f < 0.2 else np.zeros(3)))
    assert found.kept == 160
    assert np.linalg.norm(found.tip_mm - TIP) < 0.06


def test_play_in_the_divot_widens_the_covariance() -> None:
    rng = np.random.default_rng(5)
    loose = pivot(sway(1, slip=lambda _: rng.normal(0, 0.3, 3)))
    assert loose.play_mm == pytest.approx(0.3, rel=0.15)
    assert loose.radius95_mm > 2 * pivot(sway(1)).radius95_mm


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (sway(1, cone_deg=25), "swung over 22 x 22 degrees"),
        (sway(1, cone_deg=70, narrow=0.1), "swung over .* both ways"),
        (sway(1, slip=lambda f: np.array([2.0 * f, 0, 0])), "the pivot moved by .* did the tip slide"),
        (sway(1, bend=lambda w: np.array([0.0, 0, 5.0 * abs(w[0])])), "two halves of the swing are .* bent"),
        (sway(1, slip=lambda f: 3.0 * np.array([np.sin(40 * f), np.cos(31 * f), 0])), "strays from the pivot"),
        (sway(1, slip=lambda f: np.array([50.0 * f, 0, 0])), "not at the pivot|strays"),
        (sway(1, poses=20), "20 poses"),
        ([Sample(k, Sample(k, s.pose).pose) for k, s in enumerate([sway(1)[50]] * 60)], "hardly turned"),
    ],
    ids=["narrow cone", "one way only", "slides", "bends", "loose", "wanders", "few", "still"],
)
def test_poor_pivots_are_refused_however_small_their_residual(samples: list[Sample], words: str) -> None:
    with pytest.raises(PoorPivot, match=words):
        pivot(samples)


AXIS = np.array([0.02, -1.0, 0.03]) / np.linalg.norm([0.02, -1.0, 0.03])


def turning(seed: int, span_deg: float = 140.0, wobble_deg: float = 0.0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    start = rotation_exp([0.3, 0.8, -0.4])
    out = []
    for k in range(150):
        R = start @ rotation_exp(AXIS * np.radians(span_deg / 2) * np.sin(k / 24))
        R = R @ rotation_exp(np.radians(wobble_deg) * rng.standard_normal(3))
        out.append(Sample(k, noisy(R, DIVOT - R @ TIP + 0.01 * k * (R @ AXIS), rng)))
    return out


def test_the_shafts_covariance_is_true() -> None:
    errors = []
    for seed in range(24):
        found = spin(turning(seed, wobble_deg=0.2 * (seed % 2)), toward_mm=TIP)
        across = np.linalg.svd(AXIS[:, None])[0][:, 1:]
        off = across.T @ (found.axis - AXIS)
        errors.append(off @ np.linalg.solve(across.T @ found.covariance @ across, off))
    assert np.mean(errors) == pytest.approx(2.0, abs=1.1)
    assert np.mean(np.array(errors) < 5.991) > 0.83


def test_a_tip_beside_the_shaft_is_noticed() -> None:
    found = spin(turning(3), toward_mm=TIP)
    assert found.axis @ AXIS > 0.999999
    assert found.offset(TIP)[0] < 3 * found.offset(TIP)[1] + 0.05
    assert found.offset(TIP + np.array([4.0, 0, 0]))[0] == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize(
    ("samples", "words"),
    [(turning(1, 60.0), "turned by 60"), (turning(1, 150.0, 3.0), "wobbled"), (turning(1)[:20], "20 poses")],
)
def test_poor_spins_are_refused(samples: list[Sample], words: str) -> None:
    with pytest.raises(PoorSpin, match=words):
        spin(samples)


def lines(samples: list[Sample], body: str, covariance: bool = True) -> str:
    out = []
    for s in samples:
        assert s.pose is not None
        line: dict[str, Any] = {"t_ns": s.t_ns, "body": body, "camera_from_body": s.pose.pose.to_json()}
        if covariance:
            line["covariance"] = s.pose.covariance.tolist()
        out.append(json.dumps(line))
    return "\n".join(out) + "\n"


@pytest.mark.slow
def test_rendered_pictures_of_a_drill_beside_a_reference_give_its_tip() -> None:
    """Camera and patient sway, the tip rests in a divot of the reference; forty pictures through the whole tracker."""
    lens = Pinhole(1280, 960, 1180.0, 1183.0, 633.1, 484.6, (-0.25, 0.10, 0.001, -0.0008, 0.0))
    drill, reference = (load(ROOT / "assets" / "markers" / f"{name}.json") for name in ("drill", "reference"))
    camera = SyntheticCamera(lens, [drill, reference], optics=Optics(0.7, 2.5, 0.25))
    facing, tip, divot = np.diag([1.0, -1, -1]), np.array([1.5, -168.0, 2.0]), np.array([70.0, 90.0, 540.0])
    beside = Rigid[Any, Any](rotation_exp([0.2, 0.1, 0.1]) @ facing, np.array([-90.0, 40.0, 560.0]))

    def frames() -> Iterator[Frame]:
        for k in range(40):
            reach, phase = np.radians(27) * np.sqrt((k + 0.5) / 40), 2 * np.pi * k / 13.7
            R = rotation_exp([reach * np.cos(phase), 0, reach * np.sin(phase)])
            R = R @ rotation_exp([0, 0.3 * np.sin(k / 5), 0]) @ rotation_exp([0.25, 0, 0]) @ facing
            sway = Rigid[Any, Any](rotation_exp([0.05 * np.sin(k / 9), 0.04, 0]), 5.0 * np.sin([k / 6, k / 8, k / 5]))
            poses = {"drill": sway @ Rigid[Any, Any](R, divot - R @ tip), "reference": sway @ beside}
            yield camera.shoot(k, Rigid.identity(), poses).frame

    taken = record("rendered", frames(), lens, [drill, reference])
    found = pivot(taken.relative("drill", "reference"))
    assert np.linalg.norm(found.tip_mm - tip) < 0.05
    assert np.linalg.norm(found.tip_mm - tip) < 2 * found.radius95_mm
    assert found.rms_mm < 0.1


def run(*words: object) -> Any:
    return CliRunner().invoke(calibrate.app, ["instrument", *map(str, words)])


def test_the_command_writes_tip_and_shaft_into_the_body_file(tmp_path: Path) -> None:
    drill = ROOT / "assets" / "markers" / "drill.json"
    (tmp_path / "p.jsonl").write_text(lines(sway(1), "drill"))
    (tmp_path / "q.jsonl").write_text(lines(sway(2), "drill", covariance=False))
    (tmp_path / "s.jsonl").write_text(lines(turning(1), "drill"))
    out = tmp_path / "drill.json"
    result = run(
        tmp_path / "p.jsonl", "--body", drill, "--out", out, "--check", tmp_path / "q.jsonl", "--json"
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["check_rms_mm"] < 0.3
    assert told["moved_from_file_mm"] == pytest.approx(np.linalg.norm(TIP - [0, -170, 0]), abs=0.1)
    assert "the tip is 5.9 mm from where --body has it" in result.stderr
    result = run(tmp_path / "q.jsonl", "--body", out, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "mm from the tip that the file had" in result.stdout
    assert "from where --body has it" not in result.stderr
    result = run(tmp_path / "s.jsonl", "--body", out, "--out", out, "--kind", "spin")
    assert result.exit_code == 0, result.stderr
    assert "right within" in result.stdout
    made = load(out)
    assert made.tip_mm is not None
    assert made.axis is not None
    assert made.tip_covariance_mm2 is not None
    assert np.linalg.norm(made.tip_mm - TIP) < 0.1
    assert made.axis @ AXIS > 0.99999
    (tmp_path / "x.json").write_text(json.dumps({**made.to_json(), "axis": [0.2, -0.9798, 0.0]}))
    result = run(tmp_path / "s.jsonl", "--body", tmp_path / "x.json", "--out", out, "--kind", "spin", "--json")
    told = json.loads(result.stdout)
    assert told["turned_from_file_deg"] == pytest.approx(10.6, abs=0.5)
    assert told["moved_from_file_mm"] == pytest.approx(31.5, abs=2)
    assert "the shaft is turned by 10" in result.stderr


def test_a_trackers_instrument_needs_no_marker_body(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(lines(sway(1), "Stylus"))
    result = run(tmp_path / "p.jsonl", "--out", tmp_path / "tip.json", "--name", "Stylus", "--json")
    assert result.exit_code == 0, result.stderr
    kept = json.loads((tmp_path / "tip.json").read_text())
    assert sorted(kept) == ["name", "tip_covariance_mm2", "tip_mm"]
    assert np.linalg.norm(np.array(kept["tip_mm"]) - TIP) < 0.1
    result = run(tmp_path / "p.jsonl", "--out", tmp_path / "tip.json")
    assert (result.exit_code, "--name" in result.stderr) == (2, True)


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    drill = ROOT / "assets" / "markers" / "drill.json"
    (tmp_path / "p.jsonl").write_text(lines(sway(1, cone_deg=20), "drill"))
    out = tmp_path / "o.json"
    result = run(tmp_path / "p.jsonl", "--body", drill, "--out", out, "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["kind"]) == (1, "PoorPivot")
    assert not out.exists()
    (tmp_path / "p.jsonl").write_text(lines(sway(1), "probe"))
    result = run(tmp_path / "p.jsonl", "--body", drill, "--out", out)
    assert result.exit_code == 1
    assert "drill is not in the recording; there is probe" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", "{}\n", "line 1 is no pose"),
        ("a.jsonl", "", "no pose of any body"),
        ("a.jsonl", '{"body": "a", "t_ns": 1, "camera_from_body": null}\n{"body": "a", "t_',
         "line 2 of 2 is not whole JSON; was the file cut off"),
        ("a.jsonl", '{"body": "a", "t_ns": 1}', "none of camera_from_body"),
        ("a.jsonl", '{"body": "a", "t_ns": 1, "camera_from_body": {"rotation": [[2,0,0],[0,1,0],[0,0,1]], '
         '"translation_mm": [0,0,0]}}', "line 1: NotRigid"),
        ("a.mha", "Seq_Frame0000_AToTrackerTransform = 1 2 3\nSeq_Frame0000_Timestamp = 1\n", "frame 0"),
        ("a.mha", "Seq_Frame0000_AToTrackerTransform = 1 2 3\n", "no Timestamp"),
    ],
)  # fmt: skip
def test_broken_recordings_are_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadRecording, match=words) as caught:
        load_recording(tmp_path / name)
    assert caught.value.path == tmp_path / name


def test_a_real_trackers_recording_rests_at_the_phantoms_landmarks() -> None:
    folder = shared_data("tracker_landmark_registration")
    taken = load_recording(folder / "EightLandmarkPointsTrackedForPhantomRegistration.igs.mha")
    assert {name: len(track) for name, track in taken.tracks.items()} == {"Reference": 1000, "Stylus": 1000}
    rests = dwells(taken.relative("Stylus", "Reference"), np.array([108.565, 7.774, 2.539]))
    landmarks = np.array([[104.3, 5, 20], [104.3, 45, 20], [104.3, 45, 0], [104.3, -5, 0], [-34.3, 45, 15],
                          [-34.3, -5, 20], [-34.3, -5, 0], [-34.3, 45, 0]])  # fmt: skip
    published = np.array([[-0.00479115, 0.00329566, -0.999983], [-0.0127965, 0.999912, 0.00335674],
                          [0.999907, 0.0128124, -0.00474856]])  # fmt: skip
    places = landmarks @ published.T + [22.7064, -39.7536, 25.6504]
    rest = np.array([dwell.mm for dwell in rests])
    nearest = np.linalg.norm(places[:, None] - rest[None], axis=2).min(axis=1)
    assert nearest.max() < 1.5
    with pytest.raises(PoorPivot):  # touching landmarks is no pivot
        pivot(taken.relative("Stylus", "Reference"))


@pytest.mark.parametrize("key", ["camera_from_body", "reference_from_body"])
def test_poses_in_metres_are_refused_where_they_are_read(tmp_path: Path, key: str) -> None:
    metres = []
    for s in sway(1):
        assert s.pose is not None
        pose = Rigid[Any, Any](s.pose.pose.rotation, s.pose.pose.translation_mm / 1000)
        metres.append(json.dumps({"t_ns": s.t_ns, "body": "drill", key: pose.to_json()}))
    (tmp_path / "m.jsonl").write_text("\n".join(metres))
    with pytest.raises(BadRecording, match=r"drill turns by \d+ degrees .* 0\.\d+ mm .* in metres"):
        load_recording(tmp_path / "m.jsonl")
    result = run(tmp_path / "m.jsonl", "--name", "drill", "--out", tmp_path / "o.json")
    assert (result.exit_code, "in metres" in result.stderr) == (1, True)


def test_a_hand_that_turns_on_its_origin_is_no_hand_in_metres(tmp_path: Path) -> None:
    turned = [Rigid[Any, Any](rotation_exp([0.1 * k, 0, 0]), np.zeros(3)) for k in range(12)]
    lines = (json.dumps({"t_ns": k, "body": "head", "world_from_body": p.to_json()}) for k, p in enumerate(turned))
    (tmp_path / "h.jsonl").write_text("\n".join(lines))
    assert len(load_recording(tmp_path / "h.jsonl").track("head")) == 12


def test_lost_poses_are_blamed_on_a_reference_only_where_there_is_one(tmp_path: Path) -> None:
    def lost(body: str, few: int) -> str:
        samples = lines(sway(1), body).splitlines()
        nothing = (json.dumps({"t_ns": json.loads(s)["t_ns"], "body": body, "camera_from_body": None}) for s in samples)
        return "\n".join([*samples[:few], *list(nothing)[few:]]) + "\n"

    (tmp_path / "a.jsonl").write_text(lost("drill", 60))
    (tmp_path / "b.jsonl").write_text(lines(sway(1), "drill") + lost("beside", 60))
    result = run(tmp_path / "a.jsonl", "--name", "drill", "--out", tmp_path / "o.json")
    assert "drill has a pose in 60 of 200 pictures" in result.stderr
    assert "the reference" not in result.stderr
    words = [tmp_path / "b.jsonl", "--name", "drill", "--reference-name", "beside", "--out", tmp_path / "o.json"]
    assert "60 of 200 pictures; most often beside, the reference, was lost" in run(*words).stderr
