"""A folder of pictures as a source, with their time stamps where an index has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracking.frame import Frame
from tracking.sources.closing import Closing, NoVideo
from tracking.sources.repeats import same_picture
from tracking.sources.whole import is_cut_short

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
FOLDER_FPS = 30.0
NAMED = 5  # files in a sentence
INDEXES = ("index.json", "index.csv", "timestamps.csv", "data.csv")
FILE_COLUMNS = ("file", "filename", "image")
TIME_COLUMNS = {"t_ns": 1, "timestamp_ns": 1, "timestamp [ns]": 1, "t_us": 1e3, "t_ms": 1e6, "t_s": 1e9}


@dataclass(frozen=True)
class Entry:
    """One picture of an index."""

    file: Path
    t_ns: int
    exposure_ns: int = 0
    readout_ns: int = 0


class FolderSource(Closing):
    """The pictures of a folder: as its index lists them, or sorted by name as if taken at 30 a second.

    An index is `index.json` (a list of `{"file", "t_ns"}`, perhaps with `exposure_ns`, `readout_ns`; or that list as
    `frames` of an object), or a CSV (index, timestamps or data .csv) with a column file and a column t_ns, t_ms or t_s
    (EuRoC's `#timestamp [ns],filename` too). A picture that can't be read whole is left out: its index stays a gap, and
    `damaged` tells why, by index.
    """

    def __init__(self, path: Path) -> None:
        """List them. Raises NoVideo when there are none, or the index can't be understood."""
        self.path = path
        self.entries = _indexed(path) or _sorted(path)
        self.damaged: dict[int, str] = {}
        if not self.entries:
            raise NoVideo(f"no pictures in this folder ({', '.join(sorted(PICTURES))})", path=path)

    @property
    def files(self) -> list[Path]:
        """The pictures' files, in order."""
        return [entry.file for entry in self.entries]

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.path)

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the first picture that can be read. Raises NoVideo when none can."""
        height, width = next(iter(self)).picture.shape[:2]
        return width, height

    @property
    def trouble(self) -> str | None:
        """Which pictures were damaged, and how, in a sentence; None: none of those that were read."""
        if not self.damaged:
            return None
        of_kind: dict[str, list[str]] = {}
        for index, words in sorted(self.damaged.items()):
            of_kind.setdefault(words, []).append(self.entries[index].file.name)
        kinds = "; ".join(f"{_listed(names)}: {words}" for words, names in of_kind.items())
        return f"{len(self.damaged)} of {len(self.entries)} pictures are damaged and were not used ({kinds})"

    def __iter__(self) -> Iterator[Frame]:
        """All that can be read; raises NoVideo when none can, or one has another size than the first."""
        earlier: NDArray[np.uint8] | None = None
        for index, entry in enumerate(self.entries):
            try:
                picture = read_picture(entry.file)
            except NoVideo as fault:
                self.damaged[index] = fault.message
                continue
            if earlier is not None and picture.shape != earlier.shape:
                raise NoVideo(
                    f"{picture.shape[1]} x {picture.shape[0]} px, the first picture is "
                    f"{earlier.shape[1]} x {earlier.shape[0]}",
                    path=entry.file,
                )
            repeated = same_picture(picture, earlier)
            yield Frame(entry.t_ns, picture, index, entry.exposure_ns, entry.readout_ns, repeated)
            earlier = picture
        if earlier is None:
            raise NoVideo(f"no picture can be read: {self.trouble}", path=self.path)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as RGB (h, w, 3), 16-bit ones by their upper bits. Raises NoVideo; for a part of one too."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NoVideo(f"can't be opened ({error.strerror})", path=path) from None
    if not data:
        raise NoVideo("empty; was the disk full?", path=path)
    if is_cut_short(data):
        raise NoVideo("cut short, its end is missing; was it still being written or copied?", path=path)
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # a size that no picture has
        picture = None
    if picture is None:
        raise NoVideo("can't be decoded; is it damaged?", path=path)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _sorted(folder: Path) -> list[Entry]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    return [Entry(file, round(k * 1e9 / FOLDER_FPS)) for k, file in enumerate(files)]


def _indexed(folder: Path) -> list[Entry]:
    """What the folder's index lists; nothing when there is none, or none of the known columns is in it."""
    for name in INDEXES:
        path = folder / name
        if path.is_file():
            rows = _json_rows(path) if path.suffix == ".json" else _csv_rows(path)
            if rows:
                return [_entry(path, k, row) for k, row in enumerate(rows)]
    return []


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoVideo(f"the pictures' index can't be read: {error}", path=path) from None
    rows = value.get("frames") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NoVideo('the pictures\' index has to be a list of {"file", "t_ns"}', path=path)
    return rows


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig").lstrip("# ")
    except (OSError, ValueError) as error:
        raise NoVideo(f"the pictures' index can't be read: {error}", path=path) from None
    rows = [
        {(key or "").strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(value, str)}
        for row in csv.DictReader(text.splitlines())
    ]
    known = bool(rows) and any(c in rows[0] for c in FILE_COLUMNS) and any(c in rows[0] for c in TIME_COLUMNS)
    if not known and path.name != "data.csv":
        raise NoVideo(
            f"the pictures' index needs a column {' or '.join(FILE_COLUMNS)} and one of {', '.join(TIME_COLUMNS)}",
            path=path,
        )
    return rows if known else []  # data.csv is a name that anything may have


def _entry(index: Path, number: int, row: dict[str, Any]) -> Entry:
    name = next((row[c] for c in FILE_COLUMNS if c in row), None)
    unit = next((c for c in TIME_COLUMNS if c in row), None)
    if not isinstance(name, str) or unit is None:
        raise NoVideo(f"entry {number} of the pictures' index lacks a file or a time (t_ns)", path=index)
    file = index.parent / name
    if not file.is_file():
        file = index.parent / "data" / name  # EuRoC keeps them there
    if not file.is_file() or not file.resolve().is_relative_to(index.parent.resolve()):
        raise NoVideo(f"entry {number} of the pictures' index names {name}, which is not in this folder", path=index)
    try:
        value = row[unit]
        t_ns = int(value) if TIME_COLUMNS[unit] == 1 else round(float(value) * TIME_COLUMNS[unit])
        exposure_ns, readout_ns = (int(row.get(key) or 0) for key in ("exposure_ns", "readout_ns"))
    except (TypeError, ValueError, OverflowError):
        raise NoVideo(f"entry {number} of the pictures' index: {row[unit]!r} is no time", path=index) from None
    if exposure_ns < 0:
        raise NoVideo(f"entry {number} of the pictures' index: exposure of {exposure_ns} ns", path=index)
    return Entry(file, t_ns, exposure_ns, readout_ns)
