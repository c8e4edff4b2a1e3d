"""Real pictures: BARD's board and pointer in a video, OpenCV's tutorial photos against its gold corners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spatial.frames import Camera
from spatial.rigid import Points
from tests.bench.tracking_real import (
    PUBLISHED,
    RECORDING,
    bard_bodies,
    bard_by_opencv,
    bard_camera,
    opencv_boards,
    phantom,
    what_limits_bard,
)
from tests.data import shared_data
from tracking.bodies.body import board
from tracking.calibration.camera_file import load_camera, save_camera
from tracking.detection.markers import detect, find_dictionary
from tracking.sources.source import open_source, read_picture
from tracking.tracker import Tracker


def test_bards_board_and_pointer_in_ten_of_ten_frames(tmp_path: Path) -> None:
    folder = shared_data("ar_bard_guidance")
    save_camera(tmp_path / "camera.yml", bard_camera(folder))
    camera = load_camera(tmp_path / "camera.yml")
    assert camera == bard_camera(folder)
    tracker = Tracker(camera, bard_bodies(folder))
    residuals = []
    with open_source(str(folder / "multipattern.avi")) as video:
        frames = list(video)
    assert len(frames) == 10
    for frame in frames:
        plate, pointer = tracker.see(frame)
        assert plate.status == pointer.status == "TRACKED"
        assert plate.camera_from_body is not None
        assert 245 <= plate.camera_from_body.pose.translation_mm[2] <= 251
        assert len(plate.corners_px) >= 10
        assert plate.rms_px is not None
        residuals.append(plate.rms_px)
        # our lens model against OpenCV's on the same pose
        pose = plate.camera_from_body.pose
        corners = np.concatenate(list(tracker.bodies[0].corners_mm.values()))
        theirs, _ = cv2.projectPoints(
            corners, cv2.Rodrigues(pose.rotation)[0], pose.translation_mm, camera.matrix, np.array(camera.distortion)
        )
        ours = camera.project(Points[Camera]((pose @ Points(corners)).mm))
        assert np.abs(ours - theirs.reshape(-1, 2)).max() < 1e-6
    assert np.mean(residuals) < 1.3  # px; BARD has 1.3 to 1.6, the calibration is another camera's
    assert max(residuals) < min(board_px for board_px, _ in bard_by_opencv(folder, cv2.aruco.CORNER_REFINE_NONE))


def test_what_is_left_on_bards_board_is_the_camera_files_focal_length() -> None:
    """One number freed takes two thirds of the residual away: the file is another camera's."""
    limit = what_limits_bard(shared_data("ar_bard_guidance"), each=4)
    assert limit["as calibrated"] > 1.0
    assert limit["one focal length freed"] < 0.4
    assert limit["f, centre, k1, k2 freed"] < 0.25


def test_printed_boards_fit_their_pose_better_than_opencvs_unrefined_corners() -> None:
    for ours, unrefined in opencv_boards(shared_data("ar_opencv_aruco")).values():
        assert ours < unrefined


def test_a_stylus_recording_registers_the_phantom_where_it_was_published() -> None:
    """PLUS's fCal phantom: eight landmarks touched, two other rests left out by the residual alone."""
    found = phantom(shared_data(RECORDING))
    gap = found.pose.pose.translation_mm - PUBLISHED.translation_mm
    assert found.rests == 10
    assert np.linalg.norm(gap) <= 0.2
    assert (found.pose.pose @ PUBLISHED.inverse()).angle_rad < np.radians(0.15)
    assert np.sqrt((found.residuals_mm**2).mean()) < 0.358


def test_the_photographed_print_has_the_bodys_layout() -> None:
    """The printed sheet itself, seen straight on: corner for corner BARD's millimetres, so the order is right."""
    folder = shared_data("ar_bard_guidance")
    print_out = read_picture(folder / "ref-3x4-print-50mm-wide.png")
    framed = np.pad(print_out, ((40, 40), (40, 40), (0, 0)), constant_values=255)
    found = detect(framed, "DICT_ARUCO_ORIGINAL")
    body = bard_bodies(folder)[0]
    places = {marker: body.corners_mm[100 if marker == 1000 else marker] for marker in found.ids.tolist()}
    assert len(places) == 12  # the print bears 1000 where BARD's file has 100, so no video can show more than eleven
    px = found.corners_px.reshape(-1, 2) - 40
    mm = np.concatenate(list(places.values()))[:, :2]
    scale = np.ptp(px[:, 0]) / np.ptp(mm[:, 0])
    # the file is in 14.5 mm squares and 3 mm gaps, the picture in 100 px and 20 px
    assert np.abs(px - px.mean(axis=0) - scale * (mm - mm.mean(axis=0))).max() < 3.0


@pytest.mark.parametrize(
    ("picture", "dictionary"),
    [
        ("singlemarkersoriginal.jpg", "DICT_6X6_250"),
        ("gboriginal.jpg", "tutorial_dict.yml"),
        ("choriginal.jpg", "DICT_6X6_250"),
        ("chocclusion_original.jpg", "DICT_6X6_250"),
    ],
)
def test_opencvs_photos_ids_and_corners_against_gold(picture: str, dictionary: str) -> None:
    """Gold is OpenCV's whole-pixel corners, up to 1.5 px off the print's edges themselves (see the board below)."""
    folder = shared_data("ar_opencv_aruco")
    name = dictionary if dictionary.startswith("DICT") else str(folder / dictionary)
    gold = json.loads((folder / "gold_corners.json").read_text())["images"][picture]
    corners = np.reshape(gold["corners_xy_x4"], (-1, 4, 2))
    ids = gold["ids"] if isinstance(gold["ids"], list) else list(range(len(corners)))
    found = detect(read_picture(folder / picture), name)
    assert found.ids.tolist() == sorted(ids)
    off = np.abs(found.corners_px[[found.by_id()[marker] for marker in ids]] - corners).max(axis=2)
    assert off.max() <= 1.55  # one column of the board, where gold lies inside the print
    assert np.percentile(off, 99) <= 1.5


def test_a_printed_board_is_flat_to_a_third_of_a_pixel_where_gold_needs_two_thirds() -> None:
    folder = shared_data("ar_opencv_aruco")
    gold = json.loads((folder / "gold_corners.json").read_text())["images"]["gboriginal.jpg"]
    found = detect(read_picture(folder / "gboriginal.jpg"), str(folder / "tutorial_dict.yml"))

    def misfit(corners_px: Any) -> float:
        """RMS px off the best homography of a 5 x 7 board; its gaps are not known, so the best is taken."""
        tries = []
        for gap_mm in np.arange(0.6, 1.2, 0.04):
            grid = board("b", "D", range(35), 4.0, gap_mm, 5)
            flat = np.concatenate([c[:, :2] for c in grid.corners_mm.values()])
            H, _ = cv2.findHomography(flat, corners_px.reshape(-1, 2))
            back = cv2.perspectiveTransform(flat[None], H)[0]
            tries.append(float(np.sqrt(((back - corners_px.reshape(-1, 2)) ** 2).sum(axis=1).mean())))
        return min(tries)

    assert misfit(found.corners_px) <= 0.4
    assert misfit(found.corners_px) <= 0.6 * misfit(np.reshape(gold["corners_xy_x4"], (-1, 4, 2)).astype(float))


def test_refined_corners_fit_a_plane_better_than_opencvs_raw_ones() -> None:
    """A printed board is flat: its corners under the fitted homography, ours against OpenCV's unrefined."""
    folder = shared_data("ar_opencv_aruco")
    camera = load_camera(folder / "tutorial_camera_charuco.yml")
    picture = read_picture(folder / "choriginal.jpg")
    found = detect(picture, "DICT_6X6_250", camera)
    raw = cv2.aruco.ArucoDetector(find_dictionary("DICT_6X6_250"), cv2.aruco.DetectorParameters())
    quads, ids, _ = raw.detectMarkers(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    theirs = dict(zip(ids.ravel().tolist(), (q.reshape(4, 2) for q in quads), strict=True))

    def misfit(corners: dict[int, Any]) -> float:
        """RMS px off the best homography from the board's plane."""
        chess = np.concatenate([_chess_corners(marker) for marker in corners])
        px = camera.normalised(np.concatenate([corners[m] for m in corners])) * camera.fx_px
        H, _ = cv2.findHomography(chess, px)
        back = cv2.perspectiveTransform(chess[None], H)[0]
        return float(np.sqrt(((back - px) ** 2).sum(axis=1).mean()))

    ours = {m: found.corners_px[k] for m, k in found.by_id().items()}
    assert misfit(ours) < 0.75 * misfit(theirs)


def _chess_corners(marker: int) -> Any:
    """OpenCV's tutorial board: 5 x 7 squares of 40 mm, markers of 20 mm on the white ones, in order of rows."""
    row, place = 0, marker
    while place >= (2 if row % 2 == 0 else 3):
        place -= 2 if row % 2 == 0 else 3
        row += 1
    column = 2 * place + (1 if row % 2 == 0 else 0)
    centre = np.array([40.0 * column + 20, 40.0 * row + 20])
    return centre + 10.0 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
