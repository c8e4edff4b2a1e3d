"""Marker body files: round trip, and every geometry that no print has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial.rigid import Array, Rigid, rotation_exp
from tests.data import ROOT
from tracking.bodies.body import BadBody, Body, board, from_bard, load, outward_normal, save

SQUARE = 15.0 * np.array([[-1.0, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]])


def cube(mirrored: bool = False) -> dict[int, Array]:
    turns = [(0.0, 0.0), (np.pi / 2, 0.0), (-np.pi / 2, 0.0), (0.0, np.pi / 2), (0.0, -np.pi / 2)]
    faces = {k: (SQUARE + np.array([0.0, 0, 20])) @ rotation_exp([x, y, 0]).T for k, (x, y) in enumerate(turns)}
    return {k: face[[1, 0, 3, 2]] for k, face in faces.items()} if mirrored else faces


number = st.floats(-200, 200, allow_nan=False)
pose = st.builds(
    lambda w, t: Rigid[Any, Any].exp(np.array(w) / 100, t),
    st.tuples(number, number, number),
    st.tuples(number, number, number),
)


@given(
    ids=st.lists(st.integers(0, 586), min_size=1, max_size=6, unique=True),
    size=st.floats(5, 100),
    place=pose,
    tip=st.none() | st.tuples(number, number, number),
)
@settings(max_examples=40, deadline=None)
def test_json_round_trip_keeps_every_bit(ids: list[int], size: float, place: Rigid[Any, Any], tip: Any) -> None:
    flat = board("b", "DICT_APRILTAG_36h11", ids, size, size / 2, 3)
    corners = {i: c @ place.rotation.T + place.translation_mm for i, c in flat.corners_mm.items()}
    body: Body[Any] = Body("b", "DICT_APRILTAG_36h11", corners, tip)
    back = Body[Any].from_json(json.loads(json.dumps(body.to_json())))
    assert list(back.corners_mm) == sorted(ids)
    assert all(np.array_equal(back.corners_mm[i], body.corners_mm[i]) for i in ids)
    assert (back.tip_mm is None) == (tip is None)
    assert back.is_flat


def test_files_round_trip(tmp_path: Path) -> None:
    body: Body[Any] = Body("drill", "DICT_4X4_50", {3: SQUARE}, np.array([0, -100.0, 0]), np.array([0, -2.0, 0]))
    save(body, tmp_path / "b.json")
    back = load(tmp_path / "b.json")
    assert back.to_json() == body.to_json()
    assert back.axis is not None
    assert back.axis.tolist() == [0, -1, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.parametrize("name", ["reference", "drill"])
def test_the_bodies_that_come_along_are_sound(name: str) -> None:
    body = load(ROOT / "assets" / "markers" / f"{name}.json")
    normals = np.array([outward_normal(c) for c in body.corners_mm.values()])
    assert body.name == name
    assert not body.is_flat  # faces lean apart, so a weak view has one pose only
    assert np.allclose(normals[:, 2], np.cos(np.radians(12)), atol=1e-4)


def test_a_single_marker_has_opencvs_axes() -> None:
    body: Body[Any] = Body.single(7, "DICT_4X4_50", 20.0)
    assert body.name == "marker:7"
    assert body.corners_mm[7].tolist() == [[-10, 10, 0], [10, 10, 0], [10, -10, 0], [-10, -10, 0]]
    assert outward_normal(body.corners_mm[7]).tolist() == [0, 0, 1]


def test_bards_text_keeps_its_frame() -> None:
    body = from_bard("860 7.25 7.25 0 0 0 0 14.5 0 0 14.5 14.5 0 0 14.5 0\n", "r", "DICT_ARUCO_ORIGINAL", (1, 2, 3))
    assert body.corners_mm[860][2].tolist() == [14.5, 14.5, 0]
    assert outward_normal(body.corners_mm[860]).tolist() == [0, 0, -1]  # y runs down the print, so z into it


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 2 3", "3 numbers"), ("1 x", "not numbers"), ("1 9 9 9 0 0 0 1 0 0 1 1 0 0 1 0", "not the middle")],
)
def test_bards_text_is_checked(text: str, words: str) -> None:
    with pytest.raises(BadBody, match=words):
        from_bard(text, "r", "DICT_ARUCO_ORIGINAL")


def test_left_handed_corners_in_a_plane_are_found() -> None:
    corners = dict(board("b", "D", range(4), 30.0, 10.0, 2).corners_mm)
    corners[2] = corners[2][[1, 0, 3, 2]]
    with pytest.raises(BadBody, match=r"marker 2 of b .* left-handed"):
        Body("b", "D", corners)


def test_left_handed_corners_all_around_a_cube_are_found() -> None:
    assert len(Body[Any]("c", "D", cube()).corners_mm) == 5
    with pytest.raises(BadBody, match="left-handed"):
        Body("c", "D", cube(mirrored=True))


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        (SQUARE[[0, 2, 1, 3]], "not a square"),
        (SQUARE * [1, 1.2, 1], "not a square"),
        (SQUARE + np.array([[0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]]), "not flat"),
        (SQUARE / 1000, "metres"),
        (SQUARE[:3], "four finite points"),
        (SQUARE * np.nan, "four finite points"),
    ],
)
def test_impossible_markers_are_refused(corners: Array, words: str) -> None:
    with pytest.raises(BadBody, match=words):
        Body("b", "D", {0: corners})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "JSON object"),
        ("{", "not JSON"),
        ('{"name": "x"}', "dictionary, markers missing"),
        ('{"name": "x", "dictionary": "D", "markers": {}}', "no markers"),
        ('{"name": "x", "dictionary": "D", "markers": {"a": []}}', "whole number"),
        ('{"name": "x", "dictionary": "D", "markers": {"1": "q"}}', "not numbers"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(BadBody, match=words) as caught:
        load(file)
    assert caught.value.path == file
    with pytest.raises(BadBody):
        load(tmp_path / "absent.json")
