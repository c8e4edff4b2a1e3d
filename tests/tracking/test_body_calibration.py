"""Self-calibration of bodies: bent cubes and dodecahedra are measured with a true covariance; poor pictures refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from commands import calibrate
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, rotation_exp, rotation_from_quaternion, skew
from tracking.bodies.body import Body, board, load, outward_normal, save
from tracking.bodies.shapes import cube, dodecahedron
from tracking.calibration.body import PoorBody, measure_body, unplaced
from tracking.calibration.camera_file import save_camera
from tracking.detection.markers import Detections
from tracking.synthetic.camera import Optics, SyntheticCamera

TAGS = "DICT_APRILTAG_36h11"
LENS = Pinhole(1280, 960, 1180.0, 1183.0, 633.1, 484.6, (-0.25, 0.10, 0.001, -0.0008, 0.0))
CUBE = cube("cube", TAGS, range(6), 50.0).body
ROUND = dodecahedron("round", TAGS, range(12), 40.0).body
NOISE_PX = 0.05


def glued(body: Body[Any], seed: int, mm: float = 0.3, deg: float = 0.5) -> Body[Any]:
    """The body as paper and glue make it: every face a little off and a little turned."""
    rng = np.random.default_rng(seed)
    out = {}
    for marker, corners in body.corners_mm.items():
        middle = corners.mean(axis=0)
        R = rotation_exp(np.radians(deg) * rng.standard_normal(3))
        out[marker] = (corners - middle) @ R.T + middle + mm * rng.standard_normal(3)
    return Body(body.name, body.dictionary, out)


def all_round(rng: np.random.Generator) -> Rigid[Any, Any]:
    place = np.array([*rng.uniform(-60, 60, 2), rng.uniform(300, 500)])
    return Rigid(rotation_from_quaternion(rng.standard_normal(4)), place)


def from_one_side(rng: np.random.Generator) -> Rigid[Any, Any]:
    corner_on = np.stack([[1, 1, 0], [1, -1, -2], [-1, 1, -1]]) / np.sqrt([[2], [6], [3]])  # z: away from (1, -1, 1)
    place = np.array([*rng.uniform(-60, 60, 2), rng.uniform(300, 500)])
    return Rigid(rotation_exp(0.03 * rng.standard_normal(3)) @ corner_on, place)


def tilted(rng: np.random.Generator) -> Rigid[Any, Any]:
    place = np.array([*rng.uniform(-60, 60, 2), rng.uniform(300, 500)])
    return Rigid(rotation_exp(rng.uniform(-0.7, 0.7, 3)) @ np.diag([1.0, -1, -1]), place)


def seen(
    body: Body[Any], pictures: int, seed: int, *, path: Callable[..., Rigid[Any, Any]] = all_round,
    shown: Callable[[int, list[int]], Sequence[int]] = lambda _, ids: ids,
) -> list[Detections]:  # fmt: skip
    """Corners of the faces that look at the camera, with Gaussian noise."""
    rng = np.random.default_rng(seed)
    out: list[Detections] = []
    while len(out) < pictures:
        pose = path(rng)
        found = {}
        for marker, corners in body.corners_mm.items():
            p = (pose @ Points[Any](corners)).mm
            if (pose.rotation @ outward_normal(corners)) @ p.mean(axis=0) < -0.25 * np.linalg.norm(p.mean(axis=0)):
                found[marker] = LENS.project(Points(p)) + NOISE_PX * rng.standard_normal((4, 2))
        ids = [marker for marker in shown(len(out), list(found)) if marker in found]
        if ids:
            root = np.repeat(np.eye(8)[None] / NOISE_PX, len(ids), axis=0)
            corners_px = np.stack([found[m] for m in ids])
            out.append(Detections(body.dictionary, np.array(ids), corners_px, root, ("EDGES",) * len(ids)))
    return out


def off_mm(found: Body[Any], truth: Body[Any]) -> Array:
    """Corner errors (m, 4, 3) in the found body's frame, after the best rigid fit of all corners."""
    a = np.concatenate([truth.corners_mm[m] for m in found.corners_mm])
    b = np.concatenate(list(found.corners_mm.values()))
    u, _, vt = np.linalg.svd((b - b.mean(axis=0)).T @ (a - a.mean(axis=0)))
    R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return np.asarray((a - a.mean(axis=0)) @ R.T - (b - b.mean(axis=0))).reshape(-1, 4, 3)


@pytest.mark.parametrize("body", [CUBE, ROUND], ids=["cube", "dodecahedron"])
def test_a_glued_body_is_measured_to_hundredths_with_a_true_covariance(body: Body[Any]) -> None:
    squares, worst = [], 0.0
    for seed in range(4):
        truth = glued(body, seed)
        found = measure_body(seen(truth, 50, seed), LENS, body)
        off = off_mm(found.body, truth)
        worst = max(worst, float(np.linalg.norm(off, axis=2).max()))
        assert np.linalg.norm(off, axis=2).max() < 1.5 * found.radius95_mm
        assert found.held_out_rms_px < 0.06 < 5 * 0.06 < (found.file_rms_px or 0)
        for k, (marker, corners) in enumerate(found.body.corners_mm.items()):
            arms = corners - corners.mean(axis=0)
            J = np.concatenate([np.concatenate([-skew(arm), np.eye(3)], axis=1) for arm in arms])
            w = np.linalg.lstsq(J, off[k].ravel(), rcond=None)[0]
            squares.append(float(w @ np.linalg.solve(found.body.covariance[marker], w)))
    assert worst < 0.03
    assert np.mean(squares) == pytest.approx(6.0, abs=1.8)  # chi-square with 6 degrees of freedom, few bodies
    assert np.mean(np.array(squares) < 12.592) > 0.85


def test_a_body_without_a_file_is_measured_in_its_first_markers_frame() -> None:
    truth = glued(CUBE, 3)
    found = measure_body(seen(truth, 50, 3), LENS, unplaced("box", TAGS, range(6), 36.5), known=False)
    assert np.linalg.norm(off_mm(found.body, truth), axis=2).max() < 0.03
    first = found.body.corners_mm[0]
    assert np.allclose(first, [[-18.25, 18.25, 0], [18.25, 18.25, 0], [18.25, -18.25, 0], [-18.25, -18.25, 0]])
    assert (found.moved_mm, found.file_rms_px) == (None, None)


def test_exchanged_markers_and_wrong_corners_are_found_out() -> None:
    truth = glued(CUBE, 4)
    views = seen(truth, 50, 4)
    corners = dict(CUBE.corners_mm)
    corners[1], corners[2] = corners[2], corners[1]
    found = measure_body(views, LENS, Body("cube", TAGS, corners))
    assert np.linalg.norm(off_mm(found.body, truth), axis=2).max() < 0.03
    assert found.moved_mm is not None
    assert sorted(found.moved_mm, key=lambda m: -(found.moved_mm or {})[m])[:2] in ([1, 2], [2, 1])
    for view in views[::6]:
        view.corners_px[0] += 25.0
    found = measure_body(views, LENS, CUBE)
    assert np.linalg.norm(off_mm(found.body, truth), axis=2).max() < 0.04


def test_sizes_are_measured_where_asked() -> None:
    corners = dict(CUBE.corners_mm)
    corners[2] = (corners[2] - corners[2].mean(axis=0)) * 1.03 + corners[2].mean(axis=0)
    truth = Body[Any]("cube", TAGS, corners)
    views = seen(truth, 60, 5)
    with pytest.raises(PoorBody, match=r"marker 2 is [23]\.\d % larger"):
        measure_body(views, LENS, CUBE)
    found = measure_body(views, LENS, CUBE, free_sizes=True)
    ratio = found.sizes[2][0] / found.sizes[0][0]
    assert ratio == pytest.approx(1.03, abs=4 * found.sizes[2][1])
    assert found.sizes[2][1] < 0.001


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (lambda: seen(glued(CUBE, 1), 6, 1), "6 of 6 pictures|[0-9] of 6 pictures"),
        (lambda: seen(glued(CUBE, 1), 40, 1, shown=lambda _, ids: ids[:1]), "0 of 40 pictures show two"),
        (lambda: seen(glued(CUBE, 1), 60, 1, shown=lambda _, ids: [i for i in ids if i != 5]), r"5 \(0\)"),
        (
            lambda: seen(glued(ROUND, 1), 120, 1, shown=lambda k, ids: [i for i in ids if (i < 6) == (k % 2 == 0)]),
            "no picture connects the markers {0",
        ),
        (lambda: seen(glued(CUBE, 1), 30, 1) + seen(glued(CUBE, 2, 3.0, 8.0), 30, 9), "agree with one shape|px off"),
    ],
    ids=["few", "one at a time", "one hidden", "two halves", "it moved"],
)  # fmt: skip
def test_pictures_that_leave_it_open_are_refused(views: Callable[[], list[Detections]], words: str) -> None:
    taken = views()
    nominal = ROUND if max(max(view.ids) for view in taken) > 5 else CUBE
    with pytest.raises(PoorBody, match=words):
        measure_body(taken, LENS, nominal)


def test_pictures_from_one_side_are_refused_and_say_so() -> None:
    pair = Body("cube", TAGS, {m: CUBE.corners_mm[m] for m in (0, 1, 2)})
    views = seen(pair, 12, 2, path=from_one_side)
    with pytest.raises(PoorBody, match=r"nearly the same side|all 12 pictures show it from one side"):
        measure_body(views, LENS, pair, limit_mm=0.02)


def held(tilt: float) -> Callable[[np.random.Generator], Rigid[Any, Any]]:
    """Moved about before the camera, and hardly turned but about its axis."""

    def pose(rng: np.random.Generator) -> Rigid[Any, Any]:
        roll = rotation_exp([0, 0, rng.uniform(-0.5, 0.5)])
        place = np.array([*rng.uniform(-5, 5, 2), rng.uniform(380, 400)])
        turn = rotation_exp([0, tilt, 0.0]) @ np.diag([1.0, -1, -1])
        return Rigid(roll @ rotation_exp(0.01 * rng.standard_normal(3)) @ turn, place)

    return pose


@pytest.mark.parametrize("tilt", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("known", [True, False])
def test_a_body_that_was_never_turned_is_not_accepted_and_the_print_not_blamed(tilt: float, known: bool) -> None:
    flat: Body[Any] = board("flat", TAGS, range(4), 40.0, 20.0, 2)
    corner = Body("cube", TAGS, {m: CUBE.corners_mm[m] for m in (0, 1, 2)})
    for body, path in ((flat, held(tilt)), (corner, from_one_side)):
        with pytest.raises(PoorBody, match=r"not turned: all \d+ pictures show it from one side \(within \d+ deg"):
            measure_body(seen(body, 30, 4, path=path), LENS, body, known=known, limit_mm=1.0)


def test_a_lens_that_is_known_badly_widens_the_covariance_as_far_as_it_bends_the_shape() -> None:
    truth = glued(CUBE, 6)
    views = seen(truth, 40, 6)
    covariance = np.zeros((12, 12))
    covariance[:4, :4] = np.diag([2.0, 2.0, 3.0, 3.0]) ** 2  # px
    covariance[4, 4] = 0.003**2
    alone = measure_body(views, LENS, CUBE, limit_mm=1.0)
    told = measure_body(views, LENS, CUBE, limit_mm=1.0, lens_covariance=covariance)
    assert alone.lens_mm is None
    assert told.lens_mm is not None
    assert told.radius95_mm**2 == pytest.approx(alone.radius95_mm**2 + told.lens_mm**2, rel=0.2)
    rng, worst = np.random.default_rng(1), []
    for _ in range(8):  # the same pictures through lenses as wrong as that
        step = rng.standard_normal(5) * np.sqrt(np.diag(covariance)[:5])
        k1, *rest = LENS.distortion
        wrong = replace(
            LENS, fx_px=LENS.fx_px + step[0], fy_px=LENS.fy_px + step[1], cx_px=LENS.cx_px + step[2],
            cy_px=LENS.cy_px + step[3], distortion=(k1 + step[4], *rest),
        )  # fmt: skip
        found = measure_body(views, wrong, CUBE, limit_mm=1.0)
        worst.append(np.linalg.norm(off_mm(found.body, truth), axis=2).max())
    assert np.sqrt(np.mean(np.square(worst))) == pytest.approx(told.radius95_mm / 2.8, rel=0.5)  # 2.8 sd are 95 %


def test_a_board_is_flat_within_what_it_says() -> None:
    flat: Body[Any] = board("flat", TAGS, range(4), 40.0, 20.0, 2)
    found = measure_body(seen(flat, 40, 7, path=tilted), LENS, flat)
    assert np.linalg.norm(off_mm(found.body, flat), axis=2).max() < 2 * found.radius95_mm < 0.1


def test_rendered_pictures_through_the_command(tmp_path: Path) -> None:
    truth = glued(CUBE, 11)
    small = LENS.scaled(0.5)
    camera = SyntheticCamera(small, [truth], optics=Optics(0.6, 2.0, 0.2))
    rng = np.random.default_rng(2)
    (tmp_path / "pictures").mkdir()
    for k in range(24):
        shot = camera.shoot(k, Rigid.identity(), {"cube": all_round(rng)})
        cv2.imwrite(str(tmp_path / "pictures" / f"{k:02d}.png"), shot.frame.picture[..., 1])
    save(CUBE, tmp_path / "cube.json")
    save_camera(tmp_path / "camera.yml", small)
    words = ["body", tmp_path / "pictures", "--body", tmp_path / "cube.json", "--camera", tmp_path / "camera.yml"]
    words += ["--out", tmp_path / "measured.json"]
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    measured = load(tmp_path / "measured.json")
    assert sorted(measured.covariance) == list(range(6))
    worst = np.linalg.norm(off_mm(measured, truth), axis=2).max()
    assert worst < 0.03
    assert worst < 2 * told["corner_radius95_mm"]
    assert told["held_out_rms_px"] < 0.3 * told["file_rms_px"]
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--ids", "0-3"])
    assert result.exit_code == 0, result.stderr
    assert "every corner is known within" in result.stdout
    result = CliRunner().invoke(calibrate.app, [*map(str, words), "--ids", "0-7"])
    assert (result.exit_code, "does not bear 6, 7" in result.stderr) == (2, True)
    result = CliRunner().invoke(
        calibrate.app,
        [*map(str, ["body", tmp_path / "pictures", "--camera", tmp_path / "camera.yml", "--dictionary", "DICT_4X4_50",
                    "--size-mm", 30, "--ids", "0-5", "--out", tmp_path / "n.json"]), "--json"],
    )  # fmt: skip
    assert (result.exit_code, json.loads(result.stdout)["error"]["kind"]) == (1, "PoorBody")
    assert not (tmp_path / "n.json").exists()


def test_pictures_of_something_else_are_counted_and_named(tmp_path: Path) -> None:
    small = LENS.scaled(0.5)
    camera = SyntheticCamera(small, [CUBE], optics=Optics(0.6, 2.0, 0.2))
    rng = np.random.default_rng(2)
    (tmp_path / "pictures").mkdir()
    for k in range(9):
        shot = camera.shoot(k, Rigid.identity(), {"cube": all_round(rng)})
        cv2.imwrite(str(tmp_path / "pictures" / f"{k:02d}.png"), shot.frame.picture[..., 1])
    save_camera(tmp_path / "camera.yml", small)
    words = ["body", tmp_path / "pictures", "--camera", tmp_path / "camera.yml", "--size-mm", 30, "--ids", "0-5"]
    words += ["--out", tmp_path / "n.json", "--dictionary", "DICT_5X5_50"]
    result = CliRunner().invoke(calibrate.app, [*map(str, words)])
    assert result.exit_code == 1
    assert "0 of 9 pictures show two of its markers" in result.stderr
    assert "DICT_APRILTAG_36h11 would explain" in result.stderr
