"""Raw header elements as numbers and words; what cannot be one becomes a fault of the file, never of the folder."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.charset import convert_encodings, decode_bytes

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.elements import VRS
from twin.scan.refusals import BadGeometry, BrokenFile

TEXTS = frozenset(
    {"", "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT"}
)


class Values:
    """The elements of one data set (a header, or one item of a functional group), with the faults found so far."""

    def __init__(
        self, raw: Mapping[str, tuple[str, bytes]], order: str, path: Path, faults: list[Fault], charset: str = ""
    ) -> None:
        """`order` is the byte order of binary values; new faults are added to `faults`."""
        self.raw, self.order, self.path, self.faults, self.charset = raw, order, path, faults, charset
        self.odd: set[str] = set()

    def __contains__(self, keyword: str) -> bool:
        """Whether the element is there, empty or not."""
        return keyword in self.raw

    def text(self, keyword: str) -> str:
        """Several values stay joined by backslashes; empty when absent. An unknown kind of value is a fault."""
        vr, value = self.raw.get(keyword, ("", b""))
        if vr not in TEXTS and keyword not in self.odd:
            self.odd.add(keyword)
            self.faults.append(BrokenFile(f"{keyword} is stored as {vr!r}; is the header damaged?", path=self.path))
        value = value.rstrip(b"\0 ")
        if value.isascii() or not self.charset:
            return value.decode("latin-1").strip()
        try:
            return str(decode_bytes(value, convert_encodings(self.charset.split("\\")), set("\\"))).strip()
        except (LookupError, UnicodeError):
            return value.decode("latin-1").strip()

    def words(self, keyword: str) -> tuple[str, ...]:
        """Code strings in capitals."""
        text = self.text(keyword)
        return tuple(word.strip() for word in text.upper().split("\\")) if text else ()

    def several(self, keyword: str, count: int) -> Array | None:
        """`count` decimal numbers, None when absent or empty; anything else is a fault."""
        vr, value = self.raw.get(keyword, ("", b""))
        text = value.strip(b"\0 ")
        if not text:
            return None
        if vr not in ("", "UN", VRS.get(keyword, "DS")):
            self._refuse(f"{keyword} is stored as {vr}, decimal text is due; is the header damaged?")
            return None
        try:
            if b"_" in text:
                raise ValueError("no number has an underscore")
            numbers = [float(part) for part in text.split(b"\\")]
        except ValueError:
            self._refuse(f"{keyword} is not a number; is the header damaged?")
            return None
        found = np.array(numbers)
        if len(numbers) != count or not np.isfinite(found).all():
            seen = "not finite" if len(numbers) == count else f"{len(numbers)} values"
            self._refuse(f"{keyword} is {seen}, {count} finite numbers are needed")
            return None
        return found

    def one(self, keyword: str) -> float | None:
        """One decimal number, None when absent."""
        value = self.several(keyword, 1)
        return None if value is None else float(value[0])

    def whole(self, keyword: str) -> int | None:
        """One whole number that nothing depends on: None when absent or unreadable."""
        try:
            return int(self.raw[keyword][1].strip(b"\0 "))
        except (KeyError, ValueError):
            return None

    def short(self, keyword: str, *, signed: bool = False) -> int | None:
        """A binary 16-bit number, None when absent; raises ValueError when it is none."""
        vr, value = self.raw.get(keyword, ("", b""))
        if not value:
            return None
        if vr not in ("", "UN", "US", "SS") or len(value) != 2:
            raise ValueError(f"{keyword} is {len(value)} bytes of {vr or 'unknown kind'}, a 16-bit number is due")
        return int(struct.unpack(self.order + ("h" if signed else "H"), value)[0])

    def _refuse(self, message: str) -> None:
        self.faults.append(BadGeometry(message, path=self.path))
