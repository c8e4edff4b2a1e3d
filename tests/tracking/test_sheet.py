"""Printed sheets: true scale read back from each file type, nets that fold back into the solid, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from PIL import Image
from typer.testing import CliRunner

from commands import markers
from spatial.rigid import Array
from tests.data import ROOT
from tracking.bodies.body import BadBody, Body, board, load, outward_normal
from tracking.bodies.net import unfold
from tracking.bodies.shapes import Solid, cube, dodecahedron, tool
from tracking.bodies.sheet import NotPrintable, Sheet, lay_out, outline
from tracking.bodies.sheet_files import DPI, fill, write_sheets
from tracking.detection.markers import detect
from tracking.synthetic.plates import pattern

TAGS = "DICT_APRILTAG_36h11"
MM_PER_POINT = 25.4 / 72


def marker_mm(body: Body[Any], picture: Any, dots_per_mm: float) -> dict[int, Array]:
    found = detect(np.asarray(picture.convert("L")), body.dictionary)
    return {int(m): (c + 0.5) / dots_per_mm for m, c in zip(found.ids, found.corners_px, strict=True)}


def test_a_printed_board_is_found_where_its_body_file_says(tmp_path: Path) -> None:
    body = board("b", TAGS, [5, 6, 7, 8, 9, 10], 40.0, 12.0, 3)
    write_sheets(lay_out(body), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.info["dpi"] == pytest.approx((600, 600), abs=0.1)
        half = picture.convert("L").reduce(4)
    found = marker_mm(body, half, DPI / 25.4 / 4)
    assert list(found) == [5, 6, 7, 8, 9, 10]
    mm = np.stack(list(found.values()))
    expected = np.stack([c[:, :2] * [1, -1] for c in body.corners_mm.values()])  # down the page is -y
    shift = (mm - expected).mean(axis=(0, 1))
    assert np.abs(mm - expected - shift).max() < 0.03  # one dot is 0.042


def test_a_pngs_dots_are_black_where_their_middle_is() -> None:
    sheet = lay_out(cube("c", TAGS, range(6), 37.0))[0]
    write = sheet.inks_mm[2]
    dots = np.full((round(297 * DPI / 25.4), round(210 * DPI / 25.4)), 255, dtype=np.uint8)
    fill(dots, [loop * DPI / 25.4 for loop in write])
    outer = max(write, key=lambda loop: float(np.ptp(loop[:, 0])))
    low, high = outer.min(axis=0) * DPI / 25.4, outer.max(axis=0) * DPI / 25.4
    across = np.flatnonzero((dots == 0).any(axis=0))
    assert (across.min(), across.max() + 1) == (round(low[0]), round(high[0]))
    down = np.flatnonzero((dots == 0).any(axis=1))
    assert (down.min(), down.max() + 1) == (round(low[1]), round(high[1]))


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        (board("b", TAGS, range(4), 40.0, 20.0, 2), 1),
        (cube("c", TAGS, range(6), 50.0), 1),
        (dodecahedron("d", TAGS, range(11), 40.0), 2),
        (board("big", "DICT_4X4_50", range(3), 100.0, 300.0, 3), 3),
    ],
    ids=["board", "cube", "dodecahedron", "large board"],
)
def test_a_pdf_read_by_another_program_has_every_marker_in_its_true_size(
    tmp_path: Path, body: Body[Any] | Solid, pages: int
) -> None:
    write_sheets(lay_out(body, "A4"), tmp_path / "b.pdf")
    known = body.body if isinstance(body, Solid) else body
    seen: dict[int, Array] = {}
    with pypdfium2.PdfDocument(tmp_path / "b.pdf") as document:
        assert len(document) == pages
        for number, page in enumerate(document, start=1):
            width, height = page.get_size()
            assert (width * MM_PER_POINT, height * MM_PER_POINT) == pytest.approx((210.0, 297.0), abs=0.01)
            words = page.get_textpage().get_text_bounded()
            assert f"{known.name}: {known.dictionary}, ids" in words
            assert f"page {number} of {pages}" in words
            assert "print at 100 %" in words
            scale = 3.0
            seen |= marker_mm(known, page.render(scale=scale).to_pil(), scale / MM_PER_POINT)
            page.close()
    assert list(sorted(seen)) == list(known.corners_mm)
    for marker, mm in seen.items():
        true = known.corners_mm[marker]
        for i in range(4):
            for j in range(i):
                printed, modelled = np.linalg.norm(mm[i] - mm[j]), np.linalg.norm(true[i] - true[j])
                assert printed == pytest.approx(modelled, rel=3e-4, abs=0.05)


def test_rulers_are_a_hundred_millimetres_both_ways(tmp_path: Path) -> None:
    (sheet,) = lay_out(board("b", "DICT_4X4_50", [0], 60.0, 0.0, 1))
    bars = [np.ptp(ink[0], axis=0) for ink in sheet.inks_mm if np.ptp(ink[0], axis=0).max() == pytest.approx(100.0)]
    assert sorted(bar.tolist() for bar in bars) == [[0.25, 100.0], [100.0, 0.25]]
    write_sheets([sheet], tmp_path / "b.svg")
    svg = (tmp_path / "b.svg").read_text()
    assert 'width="210mm" height="297mm" viewBox="0 0 210 297"' in svg
    first = re.search(r'<path d="(M[^"]+)" fill-rule', svg)
    assert first is not None
    corners = np.array([float(x) for x in re.findall(r"[\d.]+", first[1])]).reshape(-1, 2)
    assert np.ptp(corners, axis=0) == pytest.approx([60.0, 60.0], abs=1e-3)


def test_an_outline_covers_just_the_black_cells() -> None:
    square = np.array([[0.0, 0], [8, 0], [8, 8], [0, 8]])
    for marker in range(20):
        cells = pattern(TAGS, marker)
        loops = outline(square, cells)
        for j in range(8):
            for i in range(8):
                crossings = 0
                for loop in loops:
                    for a, b in zip(loop, np.roll(loop, -1, axis=0), strict=True):
                        if (a[1] > j + 0.5) != (b[1] > j + 0.5) and a[0] < i + 0.5:
                            crossings += 1
                assert (crossings % 2 == 1) == (cells[j, i] == 0)


SOLIDS = [
    cube("c", TAGS, range(5), 60.0),
    dodecahedron("d", TAGS, range(12), 35.0),
    tool("t", TAGS, range(12), 30.0, sides=6, rows=2),
]


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: str(solid.body.name))
def test_solids_are_closed_and_their_markers_look_outward(solid: Solid) -> None:
    for face in solid.faces_mm:
        edges = np.linalg.norm(np.roll(face, -1, axis=0) - face, axis=1)
        assert np.ptp(edges) < 1e-9
        normal = np.cross(face[1] - face[0], face[2] - face[1])
        assert normal @ face.mean(axis=0) > 0 or solid.body.name == "t"
    for corners in solid.body.corners_mm.values():
        assert outward_normal(corners) @ corners.mean(axis=0) > 0
        assert min(abs(np.linalg.norm(corners.mean(axis=0) - f.mean(axis=0))) for f in solid.faces_mm) < 1e-9


def test_a_dodecahedron_is_regular() -> None:
    solid = dodecahedron("d", TAGS, range(12), 35.0)
    centres = np.array([face.mean(axis=0) for face in solid.faces_mm])
    inradius = 35.0 / 2 * np.sqrt((25 + 11 * np.sqrt(5)) / 10)
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.full(12, inradius))
    corners = np.unique(np.round(np.concatenate(solid.faces_mm), 6) + 0.0, axis=0)
    assert len(corners) == 20
    assert {len(face) for face in solid.faces_mm} == {5}


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: str(solid.body.name))
@pytest.mark.parametrize("room", [(184.0, 263.0), (140.0, 120.0)])
def test_nets_hold_every_face_once_and_every_edge_finds_its_mate(solid: Solid, room: tuple[float, float]) -> None:
    pieces = unfold(solid, *room)
    assert sorted(face for piece in pieces for face in piece.faces) == list(range(len(solid.faces_mm)))
    assert sorted(m for piece in pieces for m in piece.markers) == list(solid.body.corners_mm)
    tabs = sorted(letter for piece in pieces for _, letter in piece.tabs)
    mates = sorted(letter for piece in pieces for _, _, letter in piece.mates)
    assert len(set(tabs)) == len(tabs)
    assert tabs == mates  # a tab for every pair of edges that is cut apart
    for piece in pieces:
        low, high = piece.box_mm
        assert sorted(high - low) <= sorted(room)
        for face, flat in piece.faces.items():
            true = solid.faces_mm[face]
            assert np.linalg.norm(flat - np.roll(flat, 2, axis=0), axis=1) == pytest.approx(
                np.linalg.norm(true - np.roll(true, 2, axis=0), axis=1)
            )
            area = 0.5 * sum(
                np.cross([*a, 0], [*b, 0])[2] for a, b in zip(flat, np.roll(flat, -1, axis=0), strict=True)
            )
            assert area > 0  # not mirrored


def test_separate_squares_take_several_pages() -> None:
    body = load(ROOT / "assets" / "markers" / "reference.json")
    sheets = lay_out(body)
    assert (sheets[0].width_mm, sheets[0].height_mm) == (210.0, 297.0)
    assert any("reference 0, this side up" in word.text or "reference" in word.text for word in sheets[0].words)
    many = lay_out(board("b", TAGS, range(20), 60.0, 40.0, 5), "letter")
    assert len(many) == 4
    assert (many[0].width_mm, many[0].height_mm) == (215.9, 279.4)


def test_what_cannot_be_printed(tmp_path: Path) -> None:
    large: Body[Any] = board("b", "DICT_4X4_50", range(4), 300.0, 10.0, 2)
    with pytest.raises(NotPrintable, match="A3"):
        lay_out(large)
    with pytest.raises(NotPrintable, match="a face of c is larger"):
        lay_out(cube("c", TAGS, range(6), 200.0))
    one: Sheet = lay_out(board("b", "DICT_4X4_50", [1], 30.0, 0.0, 1))[0]
    with pytest.raises(NotPrintable, match="can be written"):
        write_sheets([one], tmp_path / "b.docx")
    with pytest.raises(NotPrintable, match="A4, A3, letter are known"):
        lay_out(large, "B5")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: lay_out(board("b", "DICT_4X4_50", [48, 50], 10.0, 2.0, 2)),
            "marker 50 is not in DICT_4X4_50; its ids",
        ),
        (lambda: board("b", "DICT_4X4_50", [0], float("nan"), 2.0, 1), "above zero"),
        (lambda: cube("c", TAGS, range(7), 50.0), "7 ids; c has 6 faces"),
        (lambda: cube("c", TAGS, [0, 0], 50.0), "there twice"),
        (lambda: cube("c", TAGS, range(6), 50.0, 45.0), "a face bears at most 40.0 mm"),
        (lambda: dodecahedron("d", TAGS, [600], 50.0), "marker 600 is not in"),
        (lambda: dodecahedron("d", TAGS, [0], -1.0), "above zero"),
        (lambda: tool("t", TAGS, range(9), 30.0), "9 ids for 6 places"),
        (lambda: tool("t", TAGS, range(2), 30.0, sides=2), "3 to 24"),
    ],
)
def test_bodies_that_cannot_be_built_are_refused(build: Any, words: str) -> None:
    with pytest.raises(BadBody, match=words):
        build()


@pytest.mark.parametrize("shape", ["board", "cube", "dodecahedron", "tool"])
def test_the_command_makes_every_shape(tmp_path: Path, shape: str) -> None:
    words = [
        "make",
        str(tmp_path / "b.pdf"),
        "--dictionary",
        TAGS,
        "--shape",
        shape,
        "--save",
        str(tmp_path / "b.json"),
    ]
    result = CliRunner().invoke(markers.app, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["sheets"] == [str(tmp_path / "b.pdf")]
    assert len(told["markers"]) == {"board": 4, "cube": 6, "dodecahedron": 12, "tool": 6}[shape]
    assert load(tmp_path / "b.json").is_flat == (shape == "board")
    result = CliRunner().invoke(markers.app, [*words[:-2], "--paper", "B5"])
    assert (result.exit_code, "A4, A3, letter" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("d.pdf", (), "OUT names a folder"),
        ("b.jpg", (), ".pdf, .svg or .png can be written"),
        ("b.pdf", ("--save", "."), "--save names a folder"),
        ("b.pdf", ("--ids", "3-1"), "3-1 runs backwards; 1-3 is meant?"),
        ("b.pdf", ("--ids", "²"), "whole numbers"),
        ("b.pdf", ("--ids", ""), "whole numbers"),
        ("b.pdf", ("--size-mm", "-4"), "--size-mm is -4"),
        ("b.pdf", ("--size-mm", "nan"), "--size-mm is nan"),
        ("b.pdf", ("--gap-mm", "-1"), "--gap-mm is -1"),
        ("b.pdf", ("--columns", "0"), "--columns is 0"),
        ("b.pdf", ("--shape", "tool", "--sides", "2"), "2 sides"),
        ("b.pdf", ("--shape", "tool", "--sides", "0"), "0 sides"),
        ("b.pdf", ("--shape", "cube", "--ids", "0-7"), "8 ids; cube has 6 faces"),
    ],
)
def test_wrong_use_of_the_command_leaves_nothing_behind(
    tmp_path: Path, name: str, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "d.pdf").mkdir()
    result = CliRunner().invoke(markers.app, ["make", str(tmp_path / name), "--dictionary", TAGS, *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert ".part" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d.pdf"]
