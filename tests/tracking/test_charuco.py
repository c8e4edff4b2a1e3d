"""ChArUco diamonds: OpenCV's photo against its gold, rendered ones against the truth, and what is no diamond."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tests.data import shared_data
from tracking.detection.charuco import find_diamonds
from tracking.detection.markers import detect, grey
from tracking.diamonds import DiamondTracker
from tracking.frame import Frame
from tracking.sources.source import read_picture

NAME = "DICT_6X6_250"
LENS = Pinhole(800, 600, 900.0, 900.0, 399.5, 299.5)
SQUARE_PX = 120  # in the drawn sheet; rendered smaller, so its pixels average out


def rendered(tilt_deg: float, noise: float = 1.0, far_mm: float = 400.0) -> tuple[NDArray[np.uint8], Array, Array]:
    """A diamond with squares of 30 mm, ids 5 6 7 8: the picture, the middle square's corners px, its turn and shift.

    Drawn by OpenCV, seen through a homography, four times finer than the picture and averaged.
    """
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_6X6_250)
    board = cv2.aruco.CharucoBoard((3, 3), 30.0, 18.0, dictionary, np.array([5, 6, 7, 8]))
    sheet = cv2.copyMakeBorder(
        board.generateImage((3 * SQUARE_PX,) * 2), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255
    )
    R = cv2.Rodrigues(np.radians([180.0 + tilt_deg, 0, 0]))[0]
    t = np.array([8.0, -5.0, far_mm])
    px_from_mm = LENS.matrix @ np.column_stack([R[:, :2], t])
    mm_from_sheet = np.array([[30 / SQUARE_PX, 0, 0], [0, -30 / SQUARE_PX, 0], [0, 0, 1.0]])
    middle = 60 + 1.5 * SQUARE_PX - 0.5
    mm_from_sheet = mm_from_sheet @ np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1.0]])
    fine = np.array([[4.0, 0, 1.5], [0, 4.0, 1.5], [0, 0, 1.0]])
    large = cv2.warpPerspective(sheet, fine @ px_from_mm @ mm_from_sheet, (3200, 2400), borderValue=180)
    picture = cv2.GaussianBlur(cv2.resize(large, (800, 600), interpolation=cv2.INTER_AREA), (0, 0), 0.6)
    noisy = picture + np.random.default_rng(1).normal(0, noise, picture.shape)
    corners = np.array([[-15.0, 15], [15, 15], [15, -15], [-15, -15]])
    px = cv2.perspectiveTransform(corners[None], px_from_mm)[0]
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), px, t


@pytest.mark.parametrize("tilt_deg", [5.0, 40.0])
def test_a_rendered_diamond_is_named_and_its_square_is_exact(tilt_deg: float) -> None:
    picture, truth, _ = rendered(tilt_deg)
    (diamond,) = find_diamonds(picture, detect(picture, NAME, LENS))
    assert diamond.name == "diamond:5-6-7-8"
    error = diamond.corners_px - truth
    assert np.abs(error).max() < 0.08
    assert diamond.square == pytest.approx(30 / 18, rel=0.02)
    sd = np.sqrt(diamond.covariance_px2[:, [0, 1], [0, 1]])
    assert (np.abs(error) < 5 * sd + 0.03).all()  # the drawn sheet's own pixels are 0.01 px of the picture


def test_its_pose_is_the_true_one() -> None:
    tracker = DiamondTracker(LENS, NAME, 30.0)
    picture, _, shift_mm = rendered(30.0)
    (sighting,) = tracker.see(Frame(0, picture, 0))
    found = sighting.camera_from_body
    assert found is not None
    assert np.abs(found.pose.translation_mm - shift_mm).max() < 0.4
    (gone,) = tracker.see(Frame(33_000_000, np.full_like(picture, 128), 1))
    assert gone.status == "LOST"


def test_a_covered_corner_is_not_invented() -> None:
    picture, truth, _ = rendered(20.0)
    seen = detect(picture, NAME, LENS)
    covered = picture.copy()
    cv2.circle(covered, tuple(np.rint(truth[2]).astype(int).tolist()), 9, 128, -1)
    assert len(seen) == 4
    assert find_diamonds(covered, seen) == []


def test_three_markers_or_a_turned_one_make_no_diamond() -> None:
    picture, _, _ = rendered(20.0)
    seen = detect(picture, NAME, LENS)
    assert find_diamonds(picture, seen.where(np.array([True, True, True, False]))) == []
    turned: Any = seen.corners_px.copy()
    turned[3] = np.roll(turned[3], 1, axis=0)
    assert find_diamonds(picture, type(seen)(NAME, seen.ids, turned, seen.whitening, seen.method, seen.blur_px)) == []


def test_opencvs_photo_against_gold() -> None:
    folder = shared_data("ar_opencv_aruco")
    gold = json.loads((folder / "gold_corners.json").read_text())["images"]["diamondmarkers.jpg"]
    picture = grey(read_picture(folder / "diamondmarkers.jpg"))
    found = {d.ids: d for d in find_diamonds(picture, detect(picture, str(folder / "tutorial_dict.yml")))}
    assert sorted(found) == [(10, 2, 11, 12), (10, 3, 11, 12), (10, 4, 11, 12)]
    for ids, corners in zip(
        [(10, 4, 11, 12), (10, 3, 11, 12), (10, 2, 11, 12)], np.reshape(gold["corners_xy_x4"], (3, 4, 2)), strict=True
    ):
        assert np.abs(found[ids].corners_px - corners).max() <= 1.5
        # what differs is half a pixel, the same for all: gold counts from a pixel's edge, we from its middle
        assert np.abs(found[ids].corners_px + 0.5 - corners).max() <= 0.25
