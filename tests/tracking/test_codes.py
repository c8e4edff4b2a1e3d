"""Squares and their codes: every dictionary, crowded rooms, poor light, large pictures, hidden cells, chance."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spatial.rigid import Array
from tests.bench.tracking_time import room
from tracking.detection.codes import UnknownDictionary, code_book, dictionary_names, find_dictionary, match
from tracking.detection.hints import explain
from tracking.detection.luma import Luma
from tracking.detection.markers import detect, detect_all, grey, squares
from tracking.detection.quads import quads
from tracking.detection.reading import READ, partly, read

NAME = "DICT_APRILTAG_36h11"


def sheet(name: str, marker: int, cell_px: int = 8) -> tuple[NDArray[np.uint8], Array]:
    """A marker drawn by OpenCV on white, and its corners px."""
    dictionary = find_dictionary(name)
    side = cell_px * (int(dictionary.markerSize) + 2)
    tag = np.pad(dictionary.generateImageMarker(marker, side), 20, constant_values=255)
    low, high = 19.5, 19.5 + side
    return np.asarray(tag, dtype=np.uint8), np.array([[low, low], [high, low], [high, high], [low, high]])


@pytest.mark.parametrize("name", sorted({n.lower(): n for n in dictionary_names()}.values()))
def test_every_dictionary_reads_as_opencv_draws_it_from_every_corner(name: str) -> None:
    book = code_book(name)
    for marker in {0, 1, len(book) // 2, len(book) - 1}:
        picture, corners = sheet(name, marker)
        for turn in range(4):
            reading = read(picture, np.roll(corners, -turn, axis=0)[None], book.bits)
            ids, turns, off = match(reading.words, book.words)
            assert (reading.verdict[0], ids[0], off[0]) == (READ, marker, 0)
            assert book.oriented[marker] == (name != "DICT_ARUCO_ORIGINAL" or marker != 1023)
            if not book.oriented[marker]:
                assert len(detect(picture, name)) == 0  # it looks the same from two sides: no corner is its first
                continue
            assert np.allclose(np.roll(np.roll(corners, -turn, axis=0), turns[0], axis=0), corners)
        mirrored = np.ascontiguousarray(picture[:, ::-1])
        ids, _, off = match(read(mirrored, corners[None], book.bits).words, book.mirrored)
        assert off[0] == 0
        assert (book.mirrored[ids[0]] == book.mirrored[marker]).any()


def test_distance_is_that_of_brute_force() -> None:
    book = code_book("DICT_4X4_50")
    least = 64
    for i in range(len(book)):
        for j in range(len(book)):
            for turn in range(4):
                if (i, 0) != (j, turn):
                    least = min(least, bin(int(book.words[i, 0]) ^ int(book.words[j, turn])).count("1"))
    assert book.distance == least


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"%YAML:1.0\nnothing: 1\n", "no marker"), (b"\x89PNG junk", "no marker"), (b"", "no marker")],
)
def test_files_that_are_no_dictionary_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "d.yml"
    file.write_bytes(content)
    with pytest.raises(UnknownDictionary, match="no marker"):
        find_dictionary(str(file))


@pytest.mark.parametrize("number", range(3))
def test_crowded_rooms_show_all_their_markers_and_no_other(number: int) -> None:
    picture, ids = room(np.random.default_rng(number))
    seen = detect_all(picture, (NAME, "DICT_4X4_50", "DICT_6X6_1000", "DICT_ARUCO_ORIGINAL"))
    assert set(seen[NAME].ids.tolist()) == ids
    assert [len(found) for name, found in seen.items() if name != NAME] == [0, 0, 0]
    assert explain(picture, {NAME: sorted(ids)}) is not None


def test_a_room_without_markers_suggests_none() -> None:
    picture, _ = room(np.random.default_rng(5))
    for quad in quads(picture, 2).corners_px:
        if 20 < np.ptp(quad, axis=0).max() < 220:  # wipe every square, the markers among them
            cv2.fillConvexPoly(picture, np.rint(quad).astype(np.int32), 128)
    assert len(detect(picture, NAME)) == 0
    assert explain(picture, {NAME: None}) is None


@pytest.mark.parametrize(
    ("gain", "noise", "blur", "slope"),
    [(0.1, 2.0, 0.7, 0.0), (1.0, 12.0, 0.7, 0.0), (1.0, 2.0, 3.0, 0.0), (1.0, 2.0, 0.7, 0.9), (0.25, 2.0, 1.5, 0.6)],
)
def test_poor_light_noise_blur_and_strong_gradients(gain: float, noise: float, blur: float, slope: float) -> None:
    rng = np.random.default_rng(7)
    page = np.full((480, 960), 215.0)
    corners = []
    for k in range(6):
        tag, _ = sheet(NAME, k, 7)
        y, x = 40 + 200 * (k // 3), 60 + 300 * (k % 3)
        page[y : y + len(tag), x : x + len(tag)] = tag
        low = np.array([x + 19.5, y + 19.5])
        corners.append(low + 56 * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    light = gain * (1 - slope * np.linspace(0, 1, 960))
    picture = cv2.GaussianBlur(page, (0, 0), blur) * light + rng.normal(0, noise, page.shape)
    seen = detect(np.clip(np.rint(picture), 0, 255).astype(np.uint8), NAME)
    assert seen.ids.tolist() == list(range(6))
    limit_px = 0.3 if gain == 0.1 else 0.1 if blur < 1 and noise < 10 and gain == 1 else 0.6
    assert np.abs(seen.corners_px - np.array(corners)).max() < limit_px


def test_4k_and_markers_larger_than_most_of_the_picture() -> None:
    picture, ids = room(np.random.default_rng(3), (3840, 2160))
    assert set(detect(picture, NAME).ids.tolist()) == ids
    tag, corners = sheet(NAME, 4, 125)
    seen = detect(cv2.GaussianBlur(tag, (0, 0), 0.7), NAME)
    assert seen.ids.tolist() == [4]
    assert np.abs(seen.corners_px[0] - corners).max() < 0.1


def test_how_small_a_marker_may_be() -> None:
    """24 px in a 1080p picture, that is searched at half its size; 13 px in a small one."""
    tag, _ = sheet(NAME, 9, 40)
    for height, side in ((1080, 24.0), (480, 13.0)):
        found = 0
        for k in range(10):
            M = cv2.getRotationMatrix2D((179.5, 179.5), 9.0 * k, side / 320)
            M[:, 2] += np.array([60.3 + 0.37 * k, 50.7]) - 179.5
            fine = M * 4
            fine[:, 2] += 1.5
            spot = cv2.warpAffine(tag, fine, (480, 400), flags=cv2.INTER_AREA, borderValue=190)
            picture = np.full((height, 640), 190, dtype=np.uint8)
            picture[:100, :120] = cv2.resize(spot, (120, 100), interpolation=cv2.INTER_AREA)
            seen = detect(picture, NAME)
            found += seen.ids.tolist() == [9]
        assert found >= 9


def test_partly_hidden_codes_count_and_others_do_not() -> None:
    book = code_book(NAME)
    picture, corners = sheet(NAME, 12)
    assert partly(picture, corners, book, 12)
    covered = picture.copy()
    cv2.circle(covered, (20, 20), 26, 150, -1)
    assert partly(covered, corners, book, 12)
    assert not partly(picture, corners, book, 13)
    assert not partly(picture, np.roll(corners, 1, axis=0), book, 12)
    assert not partly(np.full_like(picture, 90), corners, book, 12)
    assert partly(np.ascontiguousarray(picture[:, 30:]), corners - (30, 0), book, 12)
    chance = np.random.default_rng(2)
    others = [partly(sheet(NAME, int(k))[0], corners, book, 12) for k in chance.integers(13, 587, 60)]
    assert not any(others)


def test_grey_where_asked_is_grey_of_the_whole() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    whole = grey(picture)
    luma = Luma(picture, np.zeros((40, 60), dtype=np.uint8))
    assert np.array_equal(luma.near(5, 6, 20, 18)[6:18, 5:20], whole[6:18, 5:20])
    assert np.array_equal(luma.near(15, 10, 25, 19)[6:19, 5:25], whole[6:19, 5:25])
    assert luma.near(0, 0, 0, 0) is luma.store
    assert np.array_equal(luma.whole(), whole)
    assert Luma(whole).whole() is whole
    assert np.array_equal(Luma(picture[:, ::-1]).whole(), whole[:, ::-1])


def test_pictures_too_small_or_flat_hold_no_squares() -> None:
    for shape in ((1, 1), (5, 300), (12, 12), (300, 400)):
        assert len(squares(np.full(shape, 77, dtype=np.uint8))) == 0
