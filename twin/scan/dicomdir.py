"""The directory of a DICOM disc (PS3.3 F, PS3.10 8): which files there should be, and of which series."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from twin.scan.refusals import BadContainer

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
MOST_BYTES = 256 << 20
PART = re.compile(r"^[A-Za-z0-9 _.\-]{1,64}$")


@dataclass(frozen=True)
class Referenced:
    """A file that a DICOMDIR names: where it must be, whether it is there, and its series."""

    path: Path
    is_there: bool
    series_uid: str


def is_dicomdir(path: Path) -> bool:
    """Whether the file is called DICOMDIR, as the standard demands."""
    return path.name.upper() == "DICOMDIR"


def referenced(path: Path) -> tuple[Referenced, ...]:
    """The image files that a DICOMDIR names. Raises BadContainer: it can't be read, or names files outside its folder.

    A record counts for the last series record before it, as discs are written; a file is found in any letter case.
    """
    if path.stat().st_size > MOST_BYTES:
        raise BadContainer(f"a DICOMDIR of {path.stat().st_size >> 20} MB; is it one?", path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(path)
            records = list(data.get("DirectoryRecordSequence") or [])
            found, series = [], ""
            for record in records:
                kind = str(record.get("DirectoryRecordType") or "")
                if kind in ("PATIENT", "STUDY"):
                    series = ""
                elif kind == "SERIES":
                    series = str(record.get("SeriesInstanceUID") or "")
                elif kind == "IMAGE":
                    found.append((record.get("ReferencedFileID"), series))
        except Exception as error:  # a hostile directory may fail anywhere inside the parser
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise BadContainer(f"the DICOMDIR cannot be read ({reason}); is the copy damaged?", path=path) from None
    if not found:
        raise BadContainer(f"the DICOMDIR names no image among {len(records)} records", path=path)
    return tuple(_placed(path, file_id, uid) for file_id, uid in found)


def _placed(directory: Path, file_id: Any, series_uid: str) -> Referenced:
    if file_id is None or file_id == "":
        raise BadContainer("an image record without a file; is the DICOMDIR damaged?", path=directory)
    parts = [file_id] if isinstance(file_id, str) else [str(part) for part in file_id]
    if any(not PART.match(part) or set(part) <= {".", " "} for part in parts) or len(parts) > 16:
        raise BadContainer(f"names {'/'.join(parts)[:80]!r}, which is no file of this disc", path=directory)
    root = directory.parent.resolve()
    place = root
    for part in parts:
        place = _child(place, part)
    if not place.resolve().is_relative_to(root):
        raise BadContainer(f"names {'/'.join(parts)[:80]!r}, which lies outside of its folder", path=directory)
    return Referenced(directory.parent / place.relative_to(root), place.is_file(), series_uid)


def _child(folder: Path, name: str) -> Path:
    """The file or folder of that name, in the letter case that is on the disc."""
    exact = folder / name
    if exact.exists() or not folder.is_dir():
        return exact
    return next((child for child in folder.iterdir() if child.name.upper().rstrip(".") == name.upper()), exact)
