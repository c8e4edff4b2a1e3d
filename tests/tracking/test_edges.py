"""The edge fit: truth by rendering, closed forms for its parts; light that is not linear, fingers, highlights, blur."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, rotation_exp
from tests.tracking.corners import distance
from tests.tracking.scene import BENT, bench
from tracking.bodies.body import Body
from tracking.detection.codes import code_book
from tracking.detection.edges import FAILED_SD_PX, FittedCorners, fit_corners
from tracking.detection.lattice import corner_masses, lens_bend, place, place_slopes
from tracking.detection.markers import detect
from tracking.detection.pieces import BINS
from tracking.detection.profile import GAUSSIAN, fitted_profile
from tracking.pose.pose import track_body
from tracking.sources.synthetic_source import SyntheticSource
from tracking.sources.video_file import VideoSource
from tracking.synthetic.camera import Optics, SyntheticCamera
from tracking.video import write_mp4

CODES = code_book("DICT_APRILTAG_36h11").patterns(np.arange(4))
SHARP = Pinhole(1280, 960, 1180.0, 1183.0, 633.1, 484.6)
Picture = NDArray[np.uint8]


@lru_cache(maxsize=64)
def _shot(number: int, optics: Optics, pinhole: Pinhole = BENT, far_mm: float = 700.0) -> tuple[Picture, Array]:
    """A grey picture and the true corners (4, 4, 2) of its four markers."""
    setup = bench(pinhole, optics)
    shot, pose = setup.view(number, 350.0, far_mm)
    grey = cv2.cvtColor(shot.frame.picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.uint8), np.array([setup.truth_px(pose, i) for i in range(4)])


def _fit(
    picture: Picture, truth: Array, code: int | NDArray[np.uint8] = CODES, pinhole: Pinhole = BENT, seed: int = 0
) -> FittedCorners:
    return fit_corners(picture, truth + np.random.default_rng(seed).normal(0, 0.7, truth.shape), code, pinhole)


def _study(optics: Optics, views: int, code: int | NDArray[np.uint8] = CODES) -> tuple[Array, Array]:
    """Errors (N, 4, 2) and squared Mahalanobis distances (N,) of markers wholly in the picture."""
    errors, squares = [], []
    for number in range(views):
        picture, truth = _shot(number, optics)
        fit = _fit(picture, truth, code, seed=number)
        for k in range(4):
            if truth[k].min() > 5 and (truth[k] < (BENT.width_px - 6, BENT.height_px - 6)).all():
                errors.append(fit.corners_px[k] - truth[k])
                squares.append(float(((fit.whitening[k] @ errors[-1].ravel()) ** 2).sum()))
    return np.array(errors), np.array(squares)


def _rms(errors: Array) -> float:
    return float(np.sqrt((errors**2).sum(axis=-1).mean()))


CLEAN = Optics(0.7, 3.0, 0.3)


def test_corners_to_hundredths_of_a_pixel_with_a_true_covariance() -> None:
    errors, squares = _study(CLEAN, 12)
    assert _rms(errors) <= 0.010
    assert np.abs(errors).max() <= 0.05  # no silent outlier
    assert np.abs(errors.mean(axis=(0, 1))).max() <= 0.003  # pixel centres are at integers
    assert 0.7 <= squares.mean() / 8 <= 1.3
    assert 0.88 <= np.mean(squares < stats.chi2.ppf(0.95, 8)) <= 1.0  # 48 markers; the bench has more


def test_the_code_inside_tells_more_than_the_outline() -> None:
    whole, _ = _study(CLEAN, 6)
    outline, _ = _study(CLEAN, 6, code=8)
    assert _rms(whole) < 0.9 * _rms(outline)


@pytest.mark.parametrize(
    "optics",
    [
        Optics(0.7, 3.0, 0.3, gamma=2.2),
        Optics(0.7, 3.0, 0.3, gamma=2.2, tone=0.6),
        Optics(0.7, 3.0, 0.3, sharpen=1.0),
        Optics(0.7, 3.0, 0.3, mjpeg=85),
        Optics(0.7, 3.0, 0.3, defocus_px=2.0),
        Optics(0.7, 3.0, 0.3, defocus_px=1.5, gamma=2.2, sharpen=0.7, mjpeg=85),
        Optics(0.7, 3.0, 0.3, gain=400.0),  # the paper is white as can be
    ],
    ids=["gamma", "phone", "sharpened", "mjpeg", "defocus", "all of it", "saturated"],
)
def test_light_that_is_not_linear_moves_no_corner(optics: Optics) -> None:
    errors, _ = _study(optics, 3)
    assert _rms(errors) <= 0.025
    assert np.abs(errors).max() <= 0.08


def test_the_spread_of_light_is_measured_and_zero_where_there_is_none() -> None:
    for optics, low, high in ((CLEAN, -0.004, 0.004), (Optics(0.7, 3.0, 0.3, gamma=2.2), 0.15, 0.4)):
        picture, truth = _shot(1, optics)
        fit = _fit(picture, truth)
        assert low - 3 * fit.spread_sd_px.max() <= fit.spread_px.mean() <= high
        assert np.ptp(fit.spread_px) < 8 * fit.spread_sd_px.max()  # it is the same camera's
        errors, _ = _fit(picture, truth, 8), None
        assert (np.abs(errors.corners_px - truth).mean() > 0.1) == (
            low > 0
        )  # the outline alone can't tell it from size


VGA_BENT = Pinhole(640, 480, 520.0, 520.0, 322.0, 236.0, (-0.3, 0.1, 0.001, 0.0, 0.0))
FISHEYE = Pinhole(1280, 800, 520.0, 520.0, 640.0, 400.0, (-0.02, 0.005, 0.0, 0.0), "fisheye")
LONE: Body[Any] = Body.single(2, "DICT_APRILTAG_36h11", 40.0)


def _lone(
    pinhole: Pinhole, side_px: float, rng: np.random.Generator, optics: Optics
) -> tuple[Picture, Rigid[Camera, Any], Array]:
    """A picture of one tag of about that size, its pose and its true corners."""
    z = 40.0 * pinhole.fx_px / side_px
    tilt = rng.uniform(-0.45, 0.45, 2) * (0.3 if side_px > 100 else 1.0)
    R = rotation_exp([*tilt, rng.uniform(-np.pi, np.pi)]) @ np.diag([1.0, -1, -1])
    pose = Rigid[Camera, Any](R, np.array([*rng.uniform(-0.04, 0.04, 2) * z, z]))
    camera = SyntheticCamera(pinhole, [LONE], optics=optics, mono=True, seed=int(rng.integers(1 << 20)))
    picture = camera.shoot(0, Rigid.identity(), {LONE.name: cast(Any, pose)}).frame.picture
    return picture, pose, pinhole.project(pose @ Points(LONE.corners_mm[2]))


@pytest.mark.parametrize(("pinhole", "side_px"), [(VGA_BENT, 250), (VGA_BENT, 340), (FISHEYE, 400), (FISHEYE, 250)])
def test_a_marker_that_fills_a_bent_picture(pinhole: Pinhole, side_px: float) -> None:
    """Straight lines through its bowed sides put the square's corners ten pixels off; the fit still comes home."""
    rng = np.random.default_rng(4)
    for _ in range(3):
        picture, pose, truth = _lone(pinhole, side_px, rng, Optics(0.7, 2.0, 0.2, gamma=2.2))
        found = detect(picture, LONE.dictionary, pinhole)
        assert found.method == ("EDGES",)
        assert np.abs(found.corners_px[0] - truth).max() < 0.05
        sighting = track_body(found, LONE, pinhole)
        assert sighting.camera_from_body is not None
        assert distance(sighting.camera_from_body, pose) < 40.0


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_small_markers_know_that_their_cells_blend(gamma: float) -> None:
    """Two to four pixels a cell: neighbours blend before the camera's curve, which no edge shows."""
    rng = np.random.default_rng(8)
    squares = []
    for side_px in np.linspace(18, 32, 40):
        picture, _, truth = _lone(VGA_BENT, side_px, rng, Optics(0.7, 2.0, 0.2, gamma=gamma))
        found = detect(picture, LONE.dictionary, VGA_BENT)
        if found.method == ("EDGES",):
            squares.append(float(((found.whitening[0] @ (found.corners_px[0] - truth).ravel()) ** 2).sum()))
    assert len(squares) >= 34
    assert np.mean(np.array(squares) < stats.chi2.ppf(0.95, 8)) >= 0.9
    assert np.median(squares) > 0.8  # and not by claiming nothing


def test_a_videos_coding_is_in_the_covariance(tmp_path: Path) -> None:
    """H.264 moves cells and whole markers after the picture before; the scatter of the cells tells."""
    source = SyntheticSource("size=1280x720,grey=1,frames=24,path=swing,speed=120,spin=20")
    shots = list(source.shots())
    write_mp4(tmp_path / "v.mp4", [shot.frame.picture for shot in shots], 30.0, crf=28)
    body = source.bodies[0]
    squares, off = [], []
    for frame, shot in zip(VideoSource(tmp_path / "v.mp4"), shots, strict=True):
        found = detect(frame.picture, body.dictionary, source.pinhole)
        pose = shot.camera_from_body[body.name]
        for marker, row in found.by_id().items():
            error = found.corners_px[row] - source.pinhole.project(pose @ Points(body.corners_mm[marker]))
            squares.append(float(((found.whitening[row] @ error.ravel()) ** 2).sum()))
            off.append(error)
    assert len(squares) == 4 * len(shots)
    assert _rms(np.array(off)) > 0.03  # 0.01 without the coding
    assert np.mean(np.array(squares) < stats.chi2.ppf(0.95, 8)) > 0.85


def test_a_marker_printed_white_on_black() -> None:
    picture, truth = _shot(2, CLEAN)
    fit = _fit(np.asarray(255 - picture), truth, np.asarray(1 - CODES))
    assert _rms(fit.corners_px - truth) <= 0.012


def test_a_finger_over_half_a_side_moves_nothing_and_a_hidden_side_is_said_to_be_hidden() -> None:
    picture, truth = _shot(3, CLEAN)
    a, b, d = truth[0, 0], truth[0, 1], truth[0, 3]
    inward = (d - a) / np.linalg.norm(d - a)
    for wide, fitted in ((0.35, True), (0.9, False)):
        covered = picture.copy()
        ends = [np.rint(0.5 * (a + b) + s * inward).astype(int).tolist() for s in (-40.0, 8.0)]
        cv2.line(covered, tuple(ends[0]), tuple(ends[1]), 150, int(wide * np.linalg.norm(b - a)))
        fit = _fit(covered, truth)
        whole = _fit(picture, truth)
        assert np.abs(fit.corners_px[0] - truth[0]).max() < 0.06
        assert fit.fitted[0].tolist() == [fitted, True, True, True]
        assert fit.reason[0][0] == ("" if fitted else "hidden")
        assert np.linalg.det(fit.whitening[0]) < np.linalg.det(whole.whitening[0])  # less is known, and said


def test_a_highlight_across_a_side_is_called_glare_and_moves_nothing() -> None:
    picture, truth = _shot(3, CLEAN)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    middle = truth[0, :2].mean(axis=0)
    size = 0.2 * float(np.linalg.norm(truth[0, 1] - truth[0, 0]))
    light = 500 * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / size**2)
    fit = _fit(np.clip(picture + light, 0, 255).astype(np.uint8), truth)
    assert not fit.fitted[0, 0]
    assert fit.reason[0][0] == "glare"
    assert np.abs(fit.corners_px[0] - truth[0]).max() < 0.06


def test_motion_widens_what_it_blurs_and_no_more() -> None:
    picture, truth = _shot(5, Optics(0.7, 0.0, 0.0), SHARP)
    along = truth[0, 1] - truth[0, 0]  # the marker moves along its first side: sides 1 and 3 are smeared
    along /= np.linalg.norm(along)
    steps = [np.array([[1, 0, s * along[0]], [0, 1, s * along[1]]]) for s in np.linspace(-4, 4, 33)]
    size = (picture.shape[1], picture.shape[0])
    smeared = np.mean([cv2.warpAffine(picture, m, size, flags=cv2.INTER_CUBIC) for m in steps], axis=0)
    noise = np.random.default_rng(1).normal(0, 3.0, smeared.shape)
    fit = _fit(np.clip(np.rint(smeared + noise), 0, 255).astype(np.uint8), truth, pinhole=SHARP)
    assert 2.0 < fit.blur_px[0, 1] < 3.8  # a box of 8 px has an sd of 2.3, a Gaussian as steep one of 3.2
    assert fit.blur_px[0, 0] < 1.0
    error = fit.corners_px[0] - truth[0]
    assert np.abs(error).max() < 0.08
    covariance = np.linalg.inv(fit.whitening[0].T @ fit.whitening[0])
    across = np.array([-along[1], along[0]])
    blocks = [covariance[2 * c : 2 * c + 2, 2 * c : 2 * c + 2] for c in range(4)]
    assert sum(along @ b @ along for b in blocks) > 2 * sum(across @ b @ across for b in blocks)


def test_where_nothing_is_the_coarse_corners_come_back_with_a_large_uncertainty() -> None:
    square = np.array([[[50.0, 50], [110, 52], [108, 112], [49, 108]]])
    rng = np.random.default_rng(0)
    for picture in (np.full((160, 160), 90.0), rng.uniform(0, 255, (160, 160))):
        fit = fit_corners(picture.astype(np.uint8), square, CODES[:1], None)
        assert not fit.fitted.any()
        assert np.array_equal(fit.corners_px, square)
        assert np.allclose(fit.whitening[0], np.eye(8) / FAILED_SD_PX)
    off = fit_corners(np.full((160, 160), 90, np.uint8), square - 300.0, CODES[:1], None)  # not even in the picture
    assert not off.fitted.any()
    assert fit_corners(np.zeros((9, 9), np.uint8), np.zeros((0, 4, 2)), 8, None).corners_px.shape == (0, 4, 2)
    bow_tie = square[:, [0, 2, 1, 3]]
    assert not fit_corners(rng.uniform(0, 255, (160, 160)).astype(np.uint8), bow_tie, 8, None).fitted.any()


def _quad(values: list[float]) -> Array:
    square = np.array([[10.0, 10], [90, 10], [90, 90], [10, 90]])
    return np.asarray(square + np.array(values).reshape(4, 2))


QUADS = st.lists(st.floats(-20, 20), min_size=8, max_size=8).map(_quad)
PLACES = st.floats(-0.2, 1.2)


@settings(max_examples=50, deadline=None)
@given(QUADS, PLACES, PLACES, st.floats(0, 6.28))
def test_places_follow_the_homography_and_slopes_its_derivative(c: Array, u: float, v: float, turn: float) -> None:
    mass, d_mass, slopes = np.zeros(4), np.zeros((4, 8)), np.zeros(8)
    corner_masses(c, mass, d_mass)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    matrix = cv2.getPerspectiveTransform(square, c.astype(np.float32))
    x, y, w = matrix @ [u, v, 1.0]
    if abs(w) < 0.2:
        return  # near the horizon single precision is the oracle's trouble
    assert place(c, mass, u, v) == pytest.approx((x / w, y / w), abs=0.01)
    nx, ny = np.cos(turn), np.sin(turn)
    place_slopes(c, mass, d_mass, u, v, nx, ny, slopes)
    for k in range(8):
        ends = []
        for h in (1e-5, -1e-5):
            moved = c.copy()
            moved.ravel()[k] += h
            corner_masses(moved, mass, d_mass)
            ends.append(np.dot(place(moved, mass, u, v), (nx, ny)))
        assert slopes[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


def test_the_lens_share_is_the_projections_own() -> None:
    lens = Pinhole(640, 480, 420.0, 424.0, 320.3, 239.1, (-0.3, 0.12, 0.002, -0.001))
    ideal = np.array([[-0.4, -0.3], [-0.1, -0.32], [-0.12, 0.0], [-0.38, 0.02]])

    def raw(xy: Array) -> Array:
        return lens.project(Points[Camera](np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)))

    corners = raw(ideal)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    u, v = np.meshgrid(np.arange(7) / 6, np.arange(7) / 6)
    uv1 = np.stack([u, v, np.ones_like(u)], axis=-1)

    def through(c: Array) -> Array:
        p: Array = uv1 @ np.asarray(cv2.getPerspectiveTransform(square, c.astype(np.float32)), dtype=np.float64).T
        return np.asarray(p[..., :2] / p[..., 2:], dtype=np.float64)

    expected = raw(through(ideal)) - through(corners)
    assert np.abs(expected).max() > 0.5  # it matters
    assert np.abs(lens_bend(corners[None], lens, 6)[0] - expected).max() < 0.01
    assert not lens_bend(corners[None], SHARP, 6).any()
    folded = Pinhole(640, 480, 420.0, 424.0, 320.3, 239.1, (-0.9, 0.0, 0.0, 0.0))
    assert not lens_bend(np.array([[[2.0, 2], [60, 2], [60, 60], [2, 60]]]), folded, 6).any()


def test_the_profile_of_a_box_is_found_in_its_residuals() -> None:
    z = (np.arange(BINS) + 0.5) / 8 - 5
    wide = np.sqrt(3.0)  # a box of unit variance
    ramp = np.clip((z + wide) / (2 * wide), 0, 1)
    bins = np.stack([(ramp - stats.norm.cdf(z)) * 400, np.full(BINS, 400.0)], axis=1)
    before = np.abs(ramp - stats.norm.cdf(z)).max()
    found = np.interp(z, np.linspace(-5, 5, len(GAUSSIAN)), fitted_profile(bins, False)[:, 0])
    assert np.abs(found - ramp).max() < 0.5 * before
    assert np.array_equal(fitted_profile(np.zeros((BINS, 2)), True), GAUSSIAN)
