"""Detection: ids, corners against rendered truth, the pixel convention, the claimed corner covariance."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tests.tracking.scene import BENT, bench
from tracking.detection.markers import Detections, UnknownDictionary, detect, dictionary_names, find_dictionary
from tracking.synthetic.camera import Optics


def _errors(pinhole: Pinhole, optics: Optics, views: int, lens_known: bool = True) -> tuple[Array, Array]:
    setup = bench(pinhole, optics)
    errors, whitened = [], []
    for number in range(views):
        shot, pose = setup.view(number)
        found = detect(shot.frame.picture, "DICT_APRILTAG_36h11", pinhole if lens_known else None)
        assert set(found.ids.tolist()) <= {0, 1, 2, 3}
        for k, marker in enumerate(found.ids.tolist()):
            error = found.corners_px[k] - setup.truth_px(pose, marker)
            errors.append(error)
            whitened.append(found.whitening[k] @ error.ravel())
    return np.array(errors), np.array(whitened)


def test_corners_are_exact_under_distortion_blur_noise_and_uneven_light() -> None:
    errors, whitened = _errors(BENT, Optics(0.7, 3.0, 0.3), 15)
    assert len(errors) >= 56  # nearly all of the 60 that are in view
    assert np.sqrt((errors**2).sum(axis=-1).mean()) <= 0.03  # px; the room's promise is 0.05
    assert np.abs(errors.mean(axis=(0, 1))).max() <= 0.005  # no half-pixel, no bias: pixel centres are at integers
    chi = (whitened**2).sum(axis=1) / 8
    assert 0.5 <= chi.mean() <= 1.6  # the claimed covariance is the real one


def test_corners_hold_with_more_blur() -> None:
    errors, _ = _errors(BENT, Optics(1.5, 3.0, 0.3), 6)
    assert np.sqrt((errors**2).sum(axis=-1).mean()) <= 0.05


def test_the_lens_matters_along_the_sides() -> None:
    known, _ = _errors(BENT, Optics(0.7, 1.0, 0.0), 6)
    blind, _ = _errors(BENT, Optics(0.7, 1.0, 0.0), 6, lens_known=False)
    assert np.sqrt((blind**2).mean()) > 2 * np.sqrt((known**2).mean())


def test_better_than_opencv_subpix_on_the_same_pictures() -> None:
    setup = bench()
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    peer = cv2.aruco.ArucoDetector(find_dictionary("DICT_APRILTAG_36h11"), parameters)
    ours, theirs = [], []
    for number in range(5):
        shot, pose = setup.view(number)
        quads, ids, _ = peer.detectMarkers(cv2.cvtColor(shot.frame.picture, cv2.COLOR_RGB2GRAY))
        found = detect(shot.frame.picture, "DICT_APRILTAG_36h11", setup.pinhole)
        for quad, marker in zip(quads, ids.ravel().tolist(), strict=True):
            theirs.append(quad.reshape(4, 2) - setup.truth_px(pose, marker))
            ours.append(found.corners_px[found.by_id()[marker]] - setup.truth_px(pose, marker))
    assert np.sqrt(np.mean(np.square(ours))) * 4 < np.sqrt(np.mean(np.square(theirs)))


def test_small_markers_stay_good_and_tiny_ones_say_that_they_are_not() -> None:
    setup = bench(Pinhole(640, 480, 600.0, 600.0, 319.5, 239.5), size_mm=22.0)
    errors: dict[str, list[Array]] = {}
    for number in range(25):
        shot, pose = setup.view(number, 500.0, 1000.0)
        found = detect(shot.frame.picture, "DICT_APRILTAG_36h11", setup.pinhole)
        for k, marker in enumerate(found.ids.tolist()):
            errors.setdefault(found.method[k], []).append(found.corners_px[k] - setup.truth_px(pose, marker))
            if found.method[k] == "SUBPIX":
                assert np.allclose(found.covariance_px2()[k], np.eye(8) * 0.7**2)
    assert np.median(np.abs(errors["EDGES"])) < 0.05  # sides of 15 to 26 px
    assert np.sqrt(np.mean(np.square(errors["SUBPIX"]))) < 0.9  # px; 0.7 is claimed


def test_a_covered_side_loses_weight_and_does_not_move_the_others() -> None:
    setup = bench(optics=Optics(0.7, 1.0, 0.0))
    shot, pose = setup.view(3)
    truth = setup.truth_px(pose, 0)
    picture = shot.frame.picture.copy()
    middle = truth[:2].mean(axis=0)  # glare over the middle of the top side: a light blob across the edge
    cv2.circle(picture, tuple(np.rint(middle).astype(int).tolist()), 9, (225, 225, 225), -1)
    found = detect(picture, "DICT_APRILTAG_36h11", setup.pinhole)
    k = found.by_id()[0]
    error = np.linalg.norm(found.corners_px[k] - truth, axis=1)
    assert error[2:].max() < 0.05  # the bottom corners know nothing of it
    assert error[:2].max() < 0.6


@pytest.mark.parametrize(
    "name", ["DICT_4X4_50", "DICT_5X5_1000", "DICT_7X7_250", "DICT_ARUCO_ORIGINAL", "DICT_APRILTAG_25h9"]
)
def test_ids_and_corner_order_of_every_kind_of_dictionary(name: str) -> None:
    tag = cv2.copyMakeBorder(
        find_dictionary(name).generateImageMarker(7, 180), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255
    )
    found = detect(np.asarray(tag, dtype=np.uint8), name)
    assert found.ids.tolist() == [7]
    # the marker covers pixels 60..239, so its outline runs from 59.5 to 239.5 where pixel centres are at integers
    assert np.abs(found.corners_px[0] - [[59.5, 59.5], [239.5, 59.5], [239.5, 239.5], [59.5, 239.5]]).max() < 0.05


def test_a_users_dictionary_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    store = cv2.FileStorage(str(file), cv2.FILE_STORAGE_WRITE)
    cv2.aruco.extendDictionary(6, 4, randomSeed=3).writeDictionary(store)
    store.release()
    assert len(find_dictionary(str(file)).bytesList) == 6


def test_unknown_dictionaries_are_refused_with_near_names() -> None:
    with pytest.raises(UnknownDictionary, match="DICT_4X4_50"):
        find_dictionary("DICT_4X4")
    assert "DICT_APRILTAG_36h11" in dictionary_names()


def test_an_id_seen_twice_is_nobodys() -> None:
    found = Detections("D", np.array([1, 4, 4]), np.zeros((3, 4, 2)), np.tile(np.eye(8), (3, 1, 1)), ("EDGES",) * 3)
    assert dict(found.by_id()) == {1: 0}


def test_an_empty_picture_has_no_markers() -> None:
    assert len(detect(np.full((120, 160), 128, dtype=np.uint8), "DICT_4X4_50")) == 0
