"""Names that travel with label numbers inside image files: the Caret label table of NIfTI, our own NRRD notes."""

from __future__ import annotations

import gzip
import html
import json
import re
import zlib
from pathlib import Path

LIMIT_BYTES = 4 << 20  # of header and extension
_LABEL = re.compile(rb'<Label\s[^>]*?Key="(\d{1,5})"[^>]*>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))\s*</Label>', re.S)


def names_in(path: Path) -> dict[int, str]:
    """The names that a NIfTI or NRRD file gives its numbers; empty when it gives none."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return _caret_table(path)
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        return _own_notes(path)
    return {}


def nrrd_fields(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key/value pairs and length of an NRRD header; the keys of the fields in lower case."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    length = 0
    with path.open("rb") as file:
        for raw in file:
            length += len(raw)
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line or length > LIMIT_BYTES:
                break
            key, mark, value = line.partition(":=")
            if mark and " " not in key:
                pairs[key] = value
            elif not line.startswith("#"):
                key, _, value = line.partition(":")
                fields[key.strip().lower()] = value.strip()
    return fields, pairs, length


def _caret_table(path: Path) -> dict[int, str]:
    try:
        opener = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
        with opener(path, "rb") as file:
            head = file.read(LIMIT_BYTES)
    except (OSError, EOFError, zlib.error):
        return {}  # the voxels' reader says what is wrong with the file
    if len(head) < 352 or head[348] == 0 or b"<LabelTable" not in head:
        return {}
    end = head.find(b"</LabelTable>")
    return {
        int(key): html.unescape((text or plain).decode("utf-8", "replace"))
        for key, text, plain in _LABEL.findall(head[352:end])
        if int(key)
    }


def _own_notes(path: Path) -> dict[int, str]:
    _, pairs, _ = nrrd_fields(path)
    try:
        names = json.loads(pairs.get("osteotwin_names", "{}"))
        return {int(number): str(name) for number, name in names.items()}
    except (ValueError, AttributeError):
        return {}
