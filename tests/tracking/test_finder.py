"""The finder and the tracker from picture to picture: what a whole search finds, faster, and never the wrong one."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points
from tests.tracking.scene import bench
from tracking.bodies.body import Body, board
from tracking.detection.finder import Expected, Finder, why_missing
from tracking.detection.markers import detect, grey
from tracking.frame import Frame, Stopped
from tracking.sources.synthetic_source import SyntheticSource
from tracking.synthetic.camera import Optics
from tracking.tracker import Tracker, places

NAME = "DICT_APRILTAG_36h11"
SPEC = "frames=24,size=960x540,fps=60,noise=2"


@cache
def stream() -> tuple[SyntheticSource, tuple[Frame, ...]]:
    source = SyntheticSource(SPEC)
    return source, tuple(source)


def view(number: int = 3) -> tuple[Pinhole, Body[Any], NDArray[np.uint8], dict[int, Array]]:
    """A grey picture of four tags, and where their corners truly are."""
    setup = bench(optics=Optics(0.7, 1.5, 0.0))
    shot, pose = setup.view(number)
    return setup.pinhole, setup.body, grey(shot.frame.picture), {k: setup.truth_px(pose, k) for k in range(4)}


def expect(corners: Array, marker: int = 0, off_px: float = 0.0) -> Expected:
    return Expected(NAME, marker, corners + off_px, max(1.0, off_px))


def test_a_stream_gives_what_whole_searches_give_and_hardly_ever_searches() -> None:
    source, frames = stream()
    tracker = Tracker(source.pinhole, source.bodies)
    for frame in frames:
        (sighting,) = tracker.see(frame)
        alone = detect(frame.picture, NAME, source.pinhole)
        assert sighting.status == "TRACKED"
        assert sorted(sighting.corners_px) == alone.ids.tolist()
        for k, marker in enumerate(alone.ids.tolist()):
            assert np.abs(sighting.corners_px[marker] - alone.corners_px[k]).max() < 0.03
    tally = tracker.finder.tally
    assert tally.whole <= 4  # the first picture, and every tenth
    assert tally.aligned >= 0.9 * tally.expected


def test_a_recording_gives_the_same_numbers_in_every_run() -> None:
    source, frames = stream()
    runs = []
    for _ in range(2):
        tracker = Tracker(source.pinhole, source.bodies)
        runs.append([tracker.see(frame)[0].camera_from_body for frame in frames[:8]])
    for a, b in zip(*runs, strict=True):
        assert a is not None
        assert b is not None
        assert np.array_equal(a.covariance, b.covariance)
        assert np.array_equal(a.pose.translation_mm, b.pose.translation_mm)


@pytest.mark.parametrize("off_px", [0.0, 2.5, 40.0])
def test_a_marker_is_found_from_a_poor_prediction(off_px: float) -> None:
    pinhole, _, luma, truth = view()
    finder = Finder({NAME: {0, 1, 2, 3}}, pinhole)
    seen = finder.look(luma, [expect(truth[k], k, off_px) for k in range(4)], complete=True)[NAME]
    assert seen.ids.tolist() == [0, 1, 2, 3]
    assert np.abs(seen.corners_px - np.array([truth[k] for k in range(4)])).max() < 0.1
    assert finder.tally.whole == 0
    assert (finder.tally.aligned, finder.tally.regional) == ((4, 0) if off_px < 10 else (0, 4))


def test_a_marker_where_another_is_expected_is_not_taken_for_it() -> None:
    pinhole, _, luma, truth = view()
    finder = Finder({NAME: {0, 1}}, pinhole)
    seen = finder.look(luma, [expect(truth[2], 0)], complete=True)[NAME]
    assert np.abs(seen.corners_px[seen.by_id()[0]] - truth[0]).max() < 0.1  # found by the search that follows


def test_of_two_with_the_same_id_only_an_expected_one_counts() -> None:
    pinhole, _, luma, truth = view()
    tag = cv2.copyMakeBorder(
        cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11).generateImageMarker(0, 80),
        12, 12, 12, 12, cv2.BORDER_CONSTANT, value=255,
    )  # fmt: skip
    doubled = luma.copy()
    doubled[-110:-6, 6:110] = tag
    finder = Finder({NAME: {0, 1, 2, 3}}, pinhole, each=1)
    blind = finder.look(doubled, [], complete=False)[NAME]
    assert blind.ids.tolist().count(0) == 2
    assert 0 not in blind.by_id()
    guided = finder.look(doubled, [expect(truth[k], k) for k in range(4)], complete=True)[NAME]
    assert finder.tally.whole == 2
    assert np.abs(guided.corners_px[guided.by_id()[0]] - truth[0]).max() < 0.1


def test_markers_printed_white_on_black_are_found_and_followed() -> None:
    pinhole, _, luma, truth = view()
    finder = Finder({NAME: None}, pinhole, each=100)
    inverted = np.asarray(255 - luma)
    for turn in range(2):
        seen = finder.look(inverted, [expect(truth[k], k) for k in range(4)] if turn else [], complete=bool(turn))[NAME]
        assert seen.ids.tolist() == [0, 1, 2, 3]
        assert np.abs(seen.corners_px - np.array([truth[k] for k in range(4)])).max() < 0.1
    assert finder.tally.whole == 1
    assert finder.tally.aligned == 4


def finger(picture: NDArray[np.uint8], at: Array, radius: float) -> NDArray[np.uint8]:
    out = picture.copy()
    cv2.circle(out, tuple(np.rint(at).astype(int).tolist()), round(radius), (190, 150, 130), -1, cv2.LINE_AA)
    return out


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_covered_corner_costs_its_two_sides_and_nothing_else(share: float) -> None:
    source, frames = stream()
    tracker = Tracker(source.pinhole, source.bodies)
    for frame in frames[:3]:
        (clear,) = tracker.see(frame)
    corners = clear.corners_px[0]
    side = float(np.linalg.norm(corners[1] - corners[0]))
    covered = replace(frames[3], picture=finger(frames[3].picture, corners[0], share * side))
    assert 0 not in detect(covered.picture, NAME, source.pinhole).ids.tolist()
    alone = Tracker(source.pinhole, source.bodies).see(frames[3])[0].camera_from_body
    (sighting,) = tracker.see(covered)
    assert sighting.camera_from_body is not None
    assert alone is not None
    assert sorted(sighting.corners_px) == [0, 1, 2, 3]
    assert tracker.finder.tally.partial == (share > 0.4)  # less is read where it is expected
    off = sighting.camera_from_body.pose.translation_mm - alone.pose.translation_mm
    assert np.abs(off).max() < 0.25


def test_a_marker_cut_off_by_the_pictures_rim_still_counts() -> None:
    pinhole, body, luma, truth = view()
    keep = int(truth[0][:, 0].min() + 0.25 * np.ptp(truth[0][:, 0]))  # a quarter of marker 0 is cut away
    cut = np.ascontiguousarray(luma[:, keep:])
    lens = Pinhole(cut.shape[1], cut.shape[0], pinhole.fx_px, pinhole.fy_px, pinhole.cx_px - keep, pinhole.cy_px,
                   pinhole.distortion)  # fmt: skip
    tracker = Tracker(lens, [body])
    (sighting,) = tracker.see(Frame(0, cut, 0))
    assert sighting.status == "TRACKED"
    assert 0 in sighting.corners_px
    known = np.abs(sighting.corners_px[0] + (keep, 0) - truth[0]).max(axis=1)
    assert np.sort(known)[:2].max() < 0.15  # the corners that are in the picture


def test_something_else_at_a_hidden_markers_place_is_not_taken_for_it() -> None:
    pinhole, body, luma, truth = view()
    blank = luma.copy()
    cv2.fillConvexPoly(blank, np.rint(truth[0]).astype(np.int32), 40)
    (sighting,) = Tracker(pinhole, [body]).see(Frame(0, blank, 0))
    assert sorted(sighting.corners_px) == [1, 2, 3]


def test_a_live_camera_is_searched_beside_the_tracking() -> None:
    source, frames = stream()
    second = Body[Any].single(9, NAME, 40.0)
    with Tracker(source.pinhole, [*source.bodies, second], live=True) as tracker:
        tracker.see(frames[0])
        assert tracker.finder.tally.whole == 1  # nothing was tracked: at once
        shown = frames[1].picture.copy()
        tag = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11).generateImageMarker(9, 64)
        shown[20:104, 20:104] = 255
        shown[30:94, 30:94] = tag[..., None]
        ends = time.monotonic() + 20.0
        found = False
        for k in range(1, 100_000):
            board_seen, tag_seen = tracker.see(replace(frames[1], picture=shown, t_ns=frames[1].t_ns + k, index=k))
            assert board_seen.status == "TRACKED"
            found = tag_seen.status == "TRACKED"
            if found or time.monotonic() > ends:
                break
            time.sleep(0.002)
        assert found
        assert tracker.finder.tally.whole == 1
        assert tracker.finder.tally.background >= 1


def test_a_search_that_fails_in_its_thread_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    pinhole, _, luma, truth = view()
    finder = Finder({NAME: {0, 1, 2, 3, 9}}, pinhole, each=None)
    there = [expect(truth[k], k) for k in range(4)]
    finder.look(luma, there, complete=True)

    def broken(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("tracking.detection.finder.squares", broken)

    def look_on() -> None:
        ends = time.monotonic() + 20.0
        while time.monotonic() < ends:
            finder.look(luma, there, complete=False)
            time.sleep(0.001)

    with pytest.raises(MemoryError):
        look_on()
    finder.close()


def test_a_camera_that_stops_or_repeats_itself_loses_every_body() -> None:
    source, frames = stream()
    tracker = Tracker(source.pinhole, source.bodies)
    tracker.see(frames[0])
    (again,) = tracker.see(replace(frames[0], t_ns=frames[1].t_ns, index=1, repeated=True))
    assert (again.status, again.cause) == ("LOST", "camera stopped")
    (gone,) = tracker.stopped(Stopped(frames[2].t_ns, frames[1].t_ns, "unplugged"))
    assert (gone.status, gone.cause, gone.reason) == ("LOST", "camera stopped", "unplugged")
    assert tracker.histories["board"].at(frames[2].t_ns).how == "LOST"


def test_why_a_marker_is_missing() -> None:
    _, _, luma, truth = view()
    there = expect(truth[1], 1)
    glare = luma.copy()
    cv2.circle(glare, tuple(np.rint(truth[1].mean(axis=0)).astype(int).tolist()), 200, 255, -1)
    assert why_missing(glare, there) == "glare"
    assert why_missing(cv2.blur(luma, (61, 61)), there) == "blur"
    smear = np.zeros((41, 41), dtype=np.float32)
    cv2.line(smear, (2, 12), (38, 28), 1.0)
    assert why_missing(np.asarray(cv2.filter2D(luma, -1, smear / smear.sum())), there) == "blur"
    assert why_missing(np.asarray(luma // 20), there) == "dark"
    assert why_missing(luma, there) == "hidden"  # nothing is wrong with the light: it would have been read
    covered = luma.copy()
    cv2.fillConvexPoly(covered, np.rint(truth[1]).astype(np.int32), 90)
    assert why_missing(covered, there) == "hidden"


def test_places_are_those_of_the_projection_with_an_honest_spread() -> None:
    setup = bench()
    tracked = Tracker(setup.pinhole, [setup.body]).see(Frame(0, setup.view(5)[0].frame.picture, 0))[0].camera_from_body
    assert tracked is not None
    where = places(setup.body, tracked, setup.pinhole)
    assert [e.marker for e in where] == [0, 1, 2, 3]
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky(tracked.covariance)
    spread = np.zeros((200, 4, 4, 2))
    for k in range(200):
        w = factor @ rng.normal(size=6)
        R = cv2.Rodrigues(w[:3])[0] @ tracked.pose.rotation
        for m in range(4):
            mm = setup.body.corners_mm[m] @ R.T + tracked.pose.translation_mm + w[3:]
            spread[k, m] = setup.pinhole.project(Points(mm))
    sd = np.sqrt((spread.std(axis=0) ** 2).sum(axis=2).max(axis=1))
    assert np.allclose([e.sd_px for e in where], sd, rtol=0.3)
    away = replace(tracked.pose, translation_mm=tracked.pose.translation_mm * (1, 1, -1))
    assert places(setup.body, replace(tracked, pose=away), setup.pinhole) == []


def test_several_bodies_of_several_dictionaries_share_one_search() -> None:
    pinhole = Pinhole(640, 480, 700.0, 700.0, 319.5, 239.5)
    bodies: list[Body[Any]] = [board("a", NAME, [4, 5], 30.0, 8.0, 1), board("b", "DICT_4X4_50", [4, 5], 30.0, 8.0, 1)]
    picture = np.full((480, 640), 230, dtype=np.uint8)
    for column, name in enumerate((NAME, "DICT_4X4_50")):
        for row, marker in enumerate((4, 5)):
            tag = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name)).generateImageMarker(marker, 120)
            picture[60 + 152 * row : 180 + 152 * row, 100 + 250 * column : 220 + 250 * column] = tag
    sightings = Tracker(pinhole, bodies).see(Frame(0, cv2.GaussianBlur(picture, (0, 0), 0.7), 0))
    assert [s.status for s in sightings] == ["TRACKED", "TRACKED"]
    assert [sorted(s.corners_px) for s in sightings] == [[4, 5], [4, 5]]
