"""The short walk through a header and pydicom's parser give the same bytes; nothing of the patient is kept."""

from __future__ import annotations

import struct

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.data import shared_data
from tests.twin.written_series import write_series
from twin.scan import elements
from twin.scan.headers import read_headers
from twin.scan.refusals import BrokenFile

SMALL = {"slices": 1, "shape": (20, 24)}


def both(path, monkeypatch):
    """What the walk finds, and what pydicom finds in the same file."""
    with path.open("rb") as file:
        walked = elements.read_elements(file, path)
    monkeypatch.setattr(elements, "_walk_file", lambda *_: None)
    with path.open("rb") as file:
        parsed = elements.read_elements(file, path)
    monkeypatch.undo()
    return walked, parsed


def assert_same(walked, parsed):
    assert set(walked.values) == set(parsed.values)
    for keyword, (vr, value) in parsed.values.items():
        kept_vr, kept = walked.values[keyword]
        assert kept.rstrip(b"\0 ") == value.rstrip(b"\0 "), keyword
        assert kept_vr in ("", vr), keyword
    assert (walked.syntax, walked.meta_class, walked.end) == (parsed.syntax, parsed.meta_class, parsed.end)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_the_walk_agrees_with_pydicom(tmp_path, monkeypatch, syntax, undefined):
    """Past nested sequences of either length, private elements and long texts."""

    def furnish(data, _k):
        inner, outer = Dataset(), Dataset()
        inner.CodeValue, inner.CodeMeaning = "121058", "procedure"
        outer.ReferencedSOPClassUID = "1.2.3"
        outer.ProcedureCodeSequence = Sequence([inner, inner])
        data.ReferencedImageSequence = Sequence([outer])
        data.SourceImageSequence = Sequence([])
        data.add_new(0x00091001, "LO", "vendor")
        data.add_new(0x00091010, "OB", bytes(30_000))
        data.ImageComments = "x" * 20_000
        for sequence in ("ReferencedImageSequence", "SourceImageSequence"):
            data[sequence].is_undefined_length = undefined
            for item in data[sequence].value:
                item.is_undefined_length_sequence_item = undefined

    (file,) = write_series(tmp_path, mutate=furnish, syntax=syntax, **SMALL)
    assert_same(*both(file, monkeypatch))


def test_real_headers_agree_too(monkeypatch):
    files = sorted(shared_data("ct_torso_dicom_j2k/series").iterdir())[:3]
    for file in (*files, shared_data("rtstruct/ct_1.dcm"), shared_data("dicom_seg/liver.dcm")):
        assert_same(*both(file, monkeypatch))


def test_a_deflated_header_is_walked_within_its_inflated_bytes(tmp_path):
    (plain,) = write_series(tmp_path / "a", **SMALL)
    (deflated,) = write_series(tmp_path / "b", syntax=DeflatedExplicitVRLittleEndian, **SMALL)
    a, b = read_headers(plain)[0], read_headers(deflated)[0]
    assert (a.patient, a.position_mm.tolist(), a.slope) == (b.patient, b.position_mm.tolist(), b.slope)
    assert b.pixels is not None
    assert b.pixels.offset is None


def test_an_element_longer_than_the_file_is_named(tmp_path):
    (file,) = write_series(tmp_path, **SMALL)
    data = bytearray(file.read_bytes())
    at = data.index(b"\x08\x00\x3e\x10LO")
    data[at + 6 : at + 8] = struct.pack("<H", 0xFFF0)
    file.write_bytes(data)
    with pytest.raises(BrokenFile, match=r"element \(0008,103e\) announces 65520 bytes"):
        read_headers(file)


def test_a_header_keeps_no_name(tmp_path):
    (file,) = write_series(tmp_path, **SMALL)
    assert b"Secret^Name" in file.read_bytes()
    header = read_headers(file)[0]
    assert "Secret" not in repr(header)
    assert "4711" not in repr(header)
    other = pydicom.dcmread(file)
    other.PatientBirthDate = "19700102"
    other.save_as(file)
    assert read_headers(file)[0].patient != header.patient
