"""A lens that has moved since its calibration is found by the bodies that are tracked through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tests.tracking.corners import cube, distance, seen, view
from tracking.bodies.body import Body, board
from tracking.calibration.camera_file import Calibrated
from tracking.pose.lens import LENS
from tracking.pose.lens_watch import LensWatch
from tracking.pose.pose import track_body
from tracking.sources.synthetic_source import SyntheticSource
from tracking.tracker import Tracker

TOLD = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
PLATE: Body[Any] = board("board", "DICT_APRILTAG_36h11", range(4), 40.0, 20.0, 2)
BODIES = {"board": PLATE, "cube": cube(), "tag": Body[Any].single(0, "DICT_APRILTAG_36h11", 40.0)}


def longer(lens: Pinhole, focal: float) -> Pinhole:
    return replace(lens, fx_px=lens.fx_px * (1 + focal), fy_px=lens.fy_px * (1 + focal))


def watched(
    body: Body[Any],
    focal: float,
    seed: int,
    *,
    tilt_deg: tuple[float, float] = (5.0, 55.0),
    file: Array | None = None,
    glued_mm: float = 0.0,
    told: Pinhole = TOLD,
    pictures: int = 60,
) -> LensWatch:
    """A body from random sides, through a lens that is longer than the file tells by a share `focal`."""
    rng = np.random.default_rng(seed)
    truth_mm = {k: mm + rng.normal(0, glued_mm, 3) for k, mm in body.corners_mm.items()}
    watch = LensWatch(told.fx_px, told.fy_px, file)
    for k in range(pictures):
        pose = view(told, rng, (400.0, 800.0), tilt_deg)
        found = seen(body, pose, longer(told, focal), rng, sd_px=0.02, truth_mm=truth_mm)
        sighting = track_body(found, body, told, t_ns=k * 33_000_000, watch_lens=True)
        if sighting.lens_view is not None:
            watch = watch.plus(body.name, sighting.lens_view)
    return watch


@pytest.mark.parametrize("name", BODIES)
def test_a_lens_that_stayed_is_not_doubted(name: str) -> None:
    assert [seed for seed in range(25) if watched(BODIES[name], 0.0, seed).doubt()] == []


def test_a_body_glued_by_hand_is_seldom_taken_for_another_lens() -> None:
    assert sum(watched(PLATE, 0.0, seed, glued_mm=0.1).doubt() is not None for seed in range(25)) <= 1


@pytest.mark.parametrize(
    ("name", "focal"),
    [
        ("board", -0.05),
        ("board", -0.02),
        ("board", 0.02),
        ("board", 0.3),
        ("cube", -0.02),
        ("cube", 0.1),
        ("tag", 0.1),
    ],
)
def test_a_lens_that_moved_is_measured_with_its_spread(name: str, focal: float) -> None:
    off = []
    for seed in range(8):
        doubt = watched(BODIES[name], focal, seed).doubt()
        assert doubt is not None
        assert np.sign(doubt.focal) == np.sign(focal)
        off.append((doubt.focal - focal) / doubt.focal_sd)
    assert np.abs(off).max() < 4


def test_a_frontal_view_says_nothing_of_the_focal_length() -> None:
    straight = TOLD.undistorted()  # a bend would tell: it belongs to angles
    assert watched(PLATE, 0.05, 1, tilt_deg=(0.0, 0.5), told=straight).doubt() is None


def test_what_the_camera_file_does_not_know_itself_is_no_change() -> None:
    file = np.zeros((LENS, LENS))
    file[:2, :2] = np.outer([TOLD.fx_px, TOLD.fy_px], [TOLD.fx_px, TOLD.fy_px]) * 0.02**2
    assert watched(PLATE, 0.03, 1, file=file).doubt() is None
    assert watched(PLATE, 0.03, 1).doubt() is not None


def test_a_doubt_stands_until_views_take_it_back() -> None:
    doubt = watched(PLATE, 0.03, 1).doubt()
    assert doubt is not None
    straight = TOLD.undistorted()
    nothing_said = watched(PLATE, 0.03, 2, tilt_deg=(0.0, 0.5), told=straight, pictures=20)
    assert nothing_said.doubt() is None
    assert nothing_said.doubt(doubt) is doubt
    assert watched(PLATE, 0.0, 3).doubt(doubt) is None  # the ring was turned back


def test_views_of_a_minute_ago_no_longer_count() -> None:
    watch = watched(PLATE, 0.05, 1)
    (name, *_), one = next(iter(watch.views.items()))
    assert len(watch.plus(str(name), replace(one, t_ns=one.t_ns + 90_000_000_000)).views) == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_tracker_says_it_and_its_covariance_holds_the_truth(told: bool) -> None:
    source = SyntheticSource("frames=70,size=960x540,grey=1")
    right = source.pinhole
    wrong = replace(right, fx_px=1.05 * right.fx_px, fy_px=1.05 * right.fy_px)
    known = Calibrated(wrong, ("fx", "fy"), np.diag([1.0, 1.0])) if told else wrong
    with Tracker(known, source.bodies) as tracker:
        for shot in source.shots():
            (sighting,) = tracker.see(shot.frame)
            found, truth = sighting.camera_from_body, shot.camera_from_body[sighting.body]
            assert found is not None
            if tracker.lens_doubt is not None:  # from the very picture on that raised it
                assert distance(found, truth) < 17
        assert tracker.lens_doubt is not None
        assert tracker.lens_doubt.focal == pytest.approx(1 / 1.05 - 1, abs=4 * tracker.lens_doubt.focal_sd)
        assert "osteotwin calibrate check" in (sighting.reason or "")
        assert abs(found.pose.translation_mm - truth.translation_mm).max() > 20
        assert distance(found, truth) < 17
