"""Damage done to a scan on purpose: bytes, header elements, whole files, archives."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from numpy.random import Generator

NASTY = (
    b"\xff\xff\xff\xff",
    b"\xfe\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff\x7f",
    b"\x00\x80",
    b"\\",
    b"nan ",
    b"-1",
    b"1e99",
)
NUMBERS = ("", "0", "-1", "nan", "1e30", "0.0001", "3", "one", "1\\2", "7.5", "-1024", "65535", " 2 ", "1_0")
NAMES = (b"../../etc/passwd", b"LIST", b"LOCAL", b"/dev/zero", b"ct.raw", b"right-anterior-superior")
CODES = ("", "MONOCHROME1", "LOCALIZER", "MR", "1.2.3", "ISO_IR 192", "01", "19990101", "RGB")
FIELDS = (
    (40, "h"), (42, "h"), (46, "h"), (70, "h"), (72, "h"), (76, "f"), (80, "f"), (108, "f"), (112, "f"), (116, "f"),
    (252, "h"), (254, "h"), (256, "f"), (280, "f"), (296, "f"), (312, "f"),
)  # fmt: skip
FLOATS = (0, -1, np.nan, np.inf, 1e30, 0.5, 3.0, 352.0)
KEYWORDS = (
    "RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "SliceThickness", "GantryDetectorTilt", "InstanceNumber", "NumberOfFrames", "AcquisitionNumber",
)  # fmt: skip
SHORTS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
WORDS = (
    "PhotometricInterpretation", "ImageType", "Modality", "RescaleType", "SeriesInstanceUID", "PatientID", "StudyDate",
    "FrameOfReferenceUID", "SOPClassUID", "SpecificCharacterSet", "LossyImageCompression",
)  # fmt: skip


def mutate(name: str, folder: Path, rng: Generator) -> tuple[Path, str]:
    """Damage the files in place; the source to load, and what was done."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    what = []
    is_series = len(files) > 2
    for _ in range(int(rng.integers(1, 4))):
        file = files[int(rng.integers(len(files)))]
        if not file.exists():
            continue
        ways = [_bytes, _bytes, _bytes, _cut, _insert, _nasty]
        if name in ("nrrd", "nhdr", "mha", "mhd", "nii"):
            ways += [_text, _text] if name != "nii" else [_nifti_field] * 4
        if is_series:
            ways += [_element, _element, _element, _every, _every, _lose, _double, _swap]
        elif file.suffix == ".dcm":
            ways += [_element, _element]
        way = ways[int(rng.integers(len(ways)))]
        what.append(f"{way.__name__} {file.name}: {way(file, rng)}")
    if is_series or not files:
        return folder, "; ".join(what)
    heads = [f for f in files if f.suffix in (".mhd", ".nhdr")]
    return (heads or files)[0], "; ".join(what)


def _bytes(file: Path, rng: Generator) -> str:
    """A few bytes replaced, more often in the header."""
    data = bytearray(file.read_bytes())
    if not data:
        return "empty"
    end = len(data) if rng.random() < 0.3 else min(len(data), 1400)
    places = rng.integers(0, end, int(rng.integers(1, 8)))
    for at in places:
        data[at] = int(rng.integers(256)) if rng.random() < 0.5 else data[at] ^ (1 << int(rng.integers(8)))
    file.write_bytes(data)
    return f"{places.tolist()}"


def _cut(file: Path, rng: Generator) -> str:
    data = file.read_bytes()
    keep = int(rng.integers(0, len(data) + 1)) if rng.random() < 0.5 else max(0, len(data) - int(rng.integers(1, 20)))
    file.write_bytes(data[:keep])
    return f"to {keep} of {len(data)}"


def _insert(file: Path, rng: Generator) -> str:
    data = file.read_bytes()
    at, count = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 40))
    file.write_bytes(data[:at] + rng.bytes(count) + data[at:])
    return f"{count} at {at}"


def _nasty(file: Path, rng: Generator) -> str:
    """Lengths and numbers that break parsers."""
    data = bytearray(file.read_bytes())
    if len(data) < 8:
        return "too short"
    at = int(rng.integers(0, min(len(data), 1400)))
    word = NASTY[int(rng.integers(len(NASTY)))]
    data[at : at + len(word)] = word
    file.write_bytes(data)
    return f"{word!r} at {at}"


def _text(file: Path, rng: Generator) -> str:
    """A header line dropped, doubled or given another value."""
    data = file.read_bytes()
    lines = data.split(b"\n")
    count = max(1, min(len(lines), 16))
    n = int(rng.integers(count))
    way = int(rng.integers(3))
    if way == 0:
        del lines[n]
    elif way == 1:
        lines.insert(n, lines[int(rng.integers(count))])
    else:
        key, mark, _ = lines[n].replace(b"=", b":", 1).partition(b":")
        value = NUMBERS[int(rng.integers(len(NUMBERS)))].encode()
        if rng.random() < 0.3:
            value = [b"../../etc/passwd", b"LIST", b"LOCAL", b"/dev/zero", b"ct.raw", b"right-anterior-superior"][
                int(rng.integers(6))
            ]
        lines[n] = key + (b" = " if b"=" in lines[n] else mark + b" ") + value
    file.write_bytes(b"\n".join(lines))
    return f"line {n}, way {way}"


def _nifti_field(file: Path, rng: Generator) -> str:
    data = bytearray(file.read_bytes())
    at, kind = FIELDS[int(rng.integers(len(FIELDS)))]
    value = int(rng.integers(-40, 400)) if kind == "h" else float(rng.choice(FLOATS))
    if len(data) >= 352:
        struct.pack_into("<" + kind, data, at, value)
    file.write_bytes(data)
    return f"{at} = {value}"


def _set(file: Path, keyword: str, value: str, rng: Generator) -> str:
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(file, force=True)
            if value == "DELETE":
                if keyword in data:
                    delattr(data, keyword)
            elif keyword in SHORTS:
                setattr(data, keyword, int(rng.choice([0, 1, 2, 8, 12, 16, 20, 24, 32, 65535])))
            else:
                tag = pydicom.datadict.tag_for_keyword(keyword)
                vr = pydicom.datadict.dictionary_VR(tag)
                raw = value.encode("latin-1")
                raw += b" " * (len(raw) % 2)
                data[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(raw), raw, 0, False, True)
            data.save_as(file)
        except Exception as error:  # it was damaged before
            return f"not set ({type(error).__name__})"
    return f"{keyword} = {value!r}"


def _value(rng: Generator) -> tuple[str, str]:
    pick = rng.random()
    if pick < 0.2:
        return str(rng.choice((*KEYWORDS, *SHORTS, *WORDS))), "DELETE"
    if pick < 0.4:
        return str(rng.choice(SHORTS)), "short"
    if pick < 0.6:
        return str(rng.choice(WORDS)), str(rng.choice(CODES))
    keyword = str(rng.choice(KEYWORDS))
    count = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}.get(keyword, 1)
    return keyword, "\\".join(str(rng.choice(NUMBERS)) for _ in range(count))


def _element(file: Path, rng: Generator) -> str:
    keyword, value = _value(rng)
    return _set(file, keyword, value, rng)


def _every(file: Path, rng: Generator) -> str:
    """The same in every file: what no comparison between slices can find."""
    keyword, value = _value(rng)
    seed = int(rng.integers(1 << 30))
    for one in sorted(file.parent.iterdir()):
        said = _set(one, keyword, value, np.random.default_rng(seed))
    return f"{said} everywhere"


def _lose(file: Path, _rng: Generator) -> str:
    file.unlink()
    return "lost"


def _double(file: Path, rng: Generator) -> str:
    data = bytearray(file.read_bytes())
    if rng.random() < 0.5 and data:
        data[-1 - int(rng.integers(min(300, len(data))))] ^= 0x11
    (file.parent / f"copy_{file.name}").write_bytes(data)
    return "doubled"


def _swap(file: Path, rng: Generator) -> str:
    """Two files exchange their second halves."""
    others = sorted(file.parent.iterdir())
    other = others[int(rng.integers(len(others)))]
    a, b = file.read_bytes(), other.read_bytes()
    file.write_bytes(a[: len(a) // 2] + b[len(b) // 2 :])
    other.write_bytes(b[: len(b) // 2] + a[len(a) // 2 :])
    return f"with {other.name}"
