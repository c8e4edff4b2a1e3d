"""Printed sheets: true scale in each file type, and a sheet's own picture read back by the detector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data import ROOT
from tracking.bodies.body import BadBody, Body, board, load
from tracking.bodies.sheet import NotPrintable, lay_out, write_sheet
from tracking.detection.markers import detect


def test_a_printed_board_is_found_where_its_body_file_says(tmp_path: Path) -> None:
    body = board("b", "DICT_APRILTAG_36h11", [5, 6, 7, 8, 9, 10], 40.0, 12.0, 3)
    write_sheet(lay_out(body), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.info["dpi"] == pytest.approx((600, 600), abs=0.1)
        half = np.asarray(picture.convert("L").reduce(4))
    found = detect(half, "DICT_APRILTAG_36h11")
    assert found.ids.tolist() == [5, 6, 7, 8, 9, 10]
    mm = found.corners_px * 4 * 25.4 / 600
    expected = np.stack([c[:, :2] * [1, -1] for c in body.corners_mm.values()])  # down the page is -y
    shift = (mm - expected).mean(axis=(0, 1))
    assert np.abs(mm - expected - shift).max() < 0.06  # mm; one dot is 0.042


def test_svg_and_pdf_are_to_scale(tmp_path: Path) -> None:
    sheet = lay_out(board("b", "DICT_4X4_50", [0], 60.0, 0.0, 1))
    write_sheet(sheet, tmp_path / "b.svg")
    svg = (tmp_path / "b.svg").read_text()
    assert 'width="210mm" height="297mm" viewBox="0 0 210 297"' in svg
    write_sheet(sheet, tmp_path / "b.pdf")
    pdf = (tmp_path / "b.pdf").read_bytes().decode("latin-1")
    assert "/MediaBox [0 0 595.276 841.890]" in pdf
    top = [float(x) for x in re.findall(r"[ML]([\d.]+) ", svg)]
    ink = np.concatenate(sheet.polygons_mm[:-102])
    assert np.ptp(ink[:, 0]) == pytest.approx(60.0)
    assert np.ptp(ink[:, 1]) == pytest.approx(60.0)
    assert len(top) == 4 * len(sheet.polygons_mm)
    ruler = sheet.polygons_mm[-102]
    assert np.ptp(ruler[:, 0]) == pytest.approx(100.0)


def test_a_solid_body_is_printed_as_separate_squares() -> None:
    body = load(ROOT / "assets" / "markers" / "reference.json")
    sheet = lay_out(body)
    assert (sheet.width_mm, sheet.height_mm) == (210.0, 297.0)
    assert "reference" in sheet.words[0][2]


def test_what_cannot_be_printed(tmp_path: Path) -> None:
    large: Body[Any] = board("b", "DICT_4X4_50", range(4), 300.0, 10.0, 2)
    with pytest.raises(NotPrintable, match="A3"):
        lay_out(large)
    with pytest.raises(NotPrintable, match="can be written"):
        write_sheet(lay_out(board("b", "DICT_4X4_50", [1], 30.0, 0.0, 1)), tmp_path / "b.docx")


def test_an_id_that_the_dictionary_lacks_and_a_size_that_is_none_are_refused() -> None:
    with pytest.raises(BadBody, match="marker 50 is not in DICT_4X4_50; its ids are 0 to 49"):
        lay_out(board("b", "DICT_4X4_50", [48, 50], 10.0, 2.0, 2))
    with pytest.raises(BadBody, match="above zero"):
        board("b", "DICT_4X4_50", [0], float("nan"), 2.0, 1)
