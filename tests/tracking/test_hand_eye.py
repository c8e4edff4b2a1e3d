"""Hand-eye: simulated hands with a known camera; true covariance, the linear way's answer, motions that don't do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commands import calibrate
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp, rotation_log
from tracking.bodies.body import board, save
from tracking.calibration.hand_eye import Pair, PoorHandEye, hand_eye, pair_up, turned_round
from tracking.calibration.recording import Sample

X: Rigid[Any, Any] = Rigid(rotation_exp([0.2, -1.1, 0.4]), np.array([30.0, -20.0, 80.0]))
Z: Rigid[Any, Any] = Rigid(rotation_exp([1.0, 0.2, -0.5]), np.array([400.0, 100.0, -300.0]))


def noisy(pose: Rigid[Any, Any], rng: np.random.Generator, rad: float, mm: float) -> UncertainRigid[Any, Any]:
    sd = np.repeat([rad, mm], 3)
    error = rng.standard_normal(6) * sd
    moved = Rigid[Any, Any](rotation_exp(error[:3]) @ pose.rotation, pose.translation_mm + error[3:])
    return UncertainRigid(moved, np.diag(np.maximum(sd, 1e-9) ** 2))


def moves(
    seed: int, poses: int = 25, *, spread: float = 0.5, axes: Array | None = None, noise: float = 1.0,
    x: Rigid[Any, Any] = X,
) -> list[Pair]:  # fmt: skip
    """Views of the target from some 500 mm; the hand's poses follow from X and Z."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(poses):
        turn = spread * (np.ones(3) if axes is None else axes) * rng.uniform(-1, 1, 3)
        place = np.array([*rng.uniform(-80, 80, 2), rng.uniform(350, 650)])
        eye = Rigid[Any, Any](rotation_exp(turn) @ np.diag([1.0, -1, -1]), place)
        hand = Z @ eye.inverse() @ x.inverse()
        out.append(Pair(noisy(hand, rng, 0.0005 * noise, 0.1 * noise), noisy(eye, rng, 0.0005 * noise, 0.05 * noise)))
    return out


def error(found: Rigid[Any, Any], truth: Rigid[Any, Any]) -> Array:
    turn = rotation_log(truth.rotation @ found.rotation.T)
    return np.concatenate([turn, truth.translation_mm - found.translation_mm])


def test_the_covariance_is_true() -> None:
    squares = []
    for seed in range(20):
        found = hand_eye(moves(seed))
        for estimate, truth in ((found.x, X), (found.z, Z)):
            off = error(estimate.pose, truth)
            squares.append(off @ np.linalg.solve(estimate.covariance, off))
    assert np.mean(squares) == pytest.approx(6.0, abs=1.6)  # chi-square with 6 degrees of freedom
    assert np.mean(np.array(squares) < 12.592) > 0.89


@settings(max_examples=6, deadline=None)
@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3), st.tuples(*[st.floats(-200, 200)] * 3), st.integers(0, 1000))
def test_without_noise_it_is_exact(turn: tuple[float, ...], shift: tuple[float, ...], seed: int) -> None:
    x = Rigid[Any, Any](rotation_exp(turn), np.array(shift))
    found = hand_eye(moves(seed, 12, noise=0.0, x=x))
    assert np.abs(error(found.x.pose, x)).max() < 1e-5
    assert np.abs(error(found.z.pose, Z)).max() < 1e-5


def kronecker(pairs: list[Pair]) -> Rigid[Any, Any]:
    """The linear way (Andreff et al. 1999): (Ra kron Rb - 1) vec Rx = 0 over all motions, then the translation."""
    rows, A_t, b_t = [], [], []
    for i, first in enumerate(pairs):
        for second in pairs[i + 1 :]:
            a = (second.world_from_hand.pose.inverse() @ first.world_from_hand.pose).matrix()
            b = (second.camera_from_target.pose @ first.camera_from_target.pose.inverse()).matrix()
            rows.append(np.eye(9) - np.kron(a[:3, :3], b[:3, :3]))
            A_t.append(a)
            b_t.append(b)
    R = np.linalg.svd(np.concatenate(rows))[2][-1].reshape(3, 3)
    u, _, vt = np.linalg.svd(R * np.sign(np.linalg.det(R)))
    left = np.concatenate([a[:3, :3] - np.eye(3) for a in A_t])
    right = np.concatenate([u @ vt @ b[:3, 3] - a[:3, 3] for a, b in zip(A_t, b_t, strict=True)])
    return Rigid[Any, Any](u @ vt, np.linalg.lstsq(left, right, rcond=None)[0])


def test_the_linear_way_agrees_without_noise_and_is_worse_with() -> None:
    clean = moves(3, noise=0.0)
    assert np.abs(error(kronecker(clean), hand_eye(clean).x.pose)).max() < 1e-5
    pairs_of = [moves(seed, 14) for seed in range(8)]
    ours_mm = [np.linalg.norm(error(hand_eye(pairs).x.pose, X)[3:]) for pairs in pairs_of]
    theirs_mm = [np.linalg.norm(error(kronecker(pairs), X)[3:]) for pairs in pairs_of]
    assert np.mean(ours_mm) < 0.9 * np.mean(theirs_mm)


def test_wrong_poses_are_set_aside() -> None:
    pairs = moves(0, 30)
    wrong = [Pair(a.world_from_hand, b.camera_from_target) for a, b in zip(pairs[25:], pairs[20:25], strict=True)]
    found = hand_eye(pairs[:25] + wrong)
    assert (found.poses, found.kept) == (30, 25)
    assert np.linalg.norm(error(found.x.pose, X)[3:]) < 2 * found.radius95_mm


def test_a_camera_that_stands_still_is_the_same_equation() -> None:
    """world_from_camera is X and hand_from_target Z when the hand's poses are inverted."""
    swapped = [Pair(p.world_from_hand.inverse(), p.camera_from_target) for p in moves(2)]
    found = hand_eye(turned_round(swapped))
    assert np.linalg.norm(error(found.x.pose, X)[3:]) < 2 * found.radius95_mm


def test_covariances_that_are_too_small_are_scaled_up() -> None:
    honest = moves(4)
    boastful = [
        Pair(UncertainRigid(p.world_from_hand.pose, p.world_from_hand.covariance / 25),
             UncertainRigid(p.camera_from_target.pose, p.camera_from_target.covariance / 25))
        for p in honest
    ]  # fmt: skip
    found = hand_eye(boastful)
    assert found.excess == pytest.approx(5.0, rel=0.2)
    assert found.radius95_mm == pytest.approx(hand_eye(honest).radius95_mm, rel=0.2)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (moves(1, spread=0.1), "turned by .* at most, at least 30"),
        (moves(1, axes=np.array([1.0, 0, 0])), "about one axis only"),
        (moves(1, 5), "5 instants"),
        ([Pair(a.world_from_hand, b.camera_from_target) for a, b in zip(moves(1), moves(1)[1:], strict=False)],
         "clocks the same"),
        ([Pair(p.world_from_hand.inverse(), p.camera_from_target) for p in moves(1)], "world_from_hand"),
        (moves(1, 9, noise=6.0), "known to"),
    ],
    ids=["hardly turned", "one axis", "few", "other instants", "inverted", "noisy"],
)  # fmt: skip
def test_what_leaves_it_open_is_refused(pairs: list[Pair], words: str) -> None:
    with pytest.raises(PoorHandEye, match=words):
        hand_eye(pairs)


def test_hands_are_interpolated_to_the_cameras_instants() -> None:
    spin = [Rigid[Any, Any](rotation_exp([0, 0, 0.1 * k]), np.array([10.0 * k, 0, 0])) for k in range(4)]
    unit = np.eye(6) * 1e-6
    hand = [Sample(k * 20_000_000, UncertainRigid(pose, unit)) for k, pose in enumerate(spin)]
    hand.append(Sample(900_000_000, UncertainRigid(spin[0], unit)))
    eye = [Sample(t, UncertainRigid(spin[0], unit)) for t in (20_000_000, 50_000_000, 500_000_000, 2_000_000_000)]
    eye.append(Sample(30_000_000, None, "0 of 4 markers seen"))
    pairs = pair_up(hand, eye)
    assert len(pairs) == 2  # not across the gap, nor beyond the end
    assert pairs[0].world_from_hand.pose.translation_mm.tolist() == [10.0, 0, 0]
    assert np.allclose(pairs[1].world_from_hand.pose.translation_mm, [25.0, 0, 0])
    assert rotation_log(pairs[1].world_from_hand.pose.rotation)[2] == pytest.approx(0.25)
    assert pairs[1].world_from_hand.covariance[0, 0] == pytest.approx(0.5e-6)


def test_the_command(tmp_path: Path) -> None:
    save(board("target", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2), tmp_path / "b.json")
    pairs = moves(0, 30)
    for name, key in (("hand", "world_from_body"), ("eye", "camera_from_body")):
        poses = [(p.world_from_hand if name == "hand" else p.camera_from_target) for p in pairs]
        lines = [
            {"t_ns": k * 10**9, "body": "target" if name == "eye" else "robot", key: p.pose.to_json(),
             "covariance": p.covariance.tolist()}
            for k, p in enumerate(poses)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["hand-eye", tmp_path / "eye.jsonl", "--hand", tmp_path / "hand.jsonl", "--body", tmp_path / "b.json"]
    words += ["--out", tmp_path / "x.json"]
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    kept = json.loads((tmp_path / "x.json").read_text())
    assert kept["hand_from_camera"] == told["hand_from_camera"]
    assert np.linalg.norm(error(Rigid.from_json(kept["hand_from_camera"]), X)[3:]) < 0.5
    assert np.shape(kept["covariance"]) == (6, 6)
    result = CliRunner().invoke(calibrate.app, [*map(str, words)])
    assert "on the hand, right within" in result.stdout
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--limit-mm", "0.001"])
    assert result.exit_code == 1
    assert "PoorHandEye" in result.stderr
