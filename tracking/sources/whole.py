"""Whether a picture file is there to its end: decoders fill what is missing with grey, and corners would move."""

from __future__ import annotations

import re

JPEG, JPEG_END = b"\xff\xd8\xff", 0xD9
BARE = (0xD8, 0x01)  # markers without a length
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # but not a stuffed 0xff and no restart: those are within a scan
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or a PNG ends before its end; False for other kinds, whose decoders refuse such files."""
    if data.startswith(JPEG):
        return not _jpeg_ends(data)
    return data.startswith(PNG) and data.rfind(PNG_END) < 0


def _jpeg_ends(data: bytes) -> bool:
    """Walk from marker to marker: a thumbnail in the header has an end of its own, bytes may follow the true one."""
    at = len(JPEG) - 1
    while (marker := MARKER.search(data, at)) is not None:
        code, at = marker[1][0], marker.end()
        if code == JPEG_END:
            return True
        if code not in BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return False
