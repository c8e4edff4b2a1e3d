"""Slices at one place: copies are dropped, different pictures are a fault."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from spatial.faults import Fault
from twin.scan.headers import Header
from twin.scan.refusals import DuplicateSlices

SAME_PLACE_MM = 0.01


def deduplicated(slices: Sequence[Header], faults: list[Fault], notes: list[str]) -> list[Header]:
    """Keep one of several identical slices at a place; different ones are a fault."""
    kept: list[Header] = []
    dropped = 0
    most, where = 1, slices[0].path
    run = 1
    for header in slices:
        assert header.position_mm is not None
        last = kept[-1].position_mm if kept else None
        if last is None or np.linalg.norm(header.position_mm - last) > SAME_PLACE_MM:
            kept.append(header)
            run = 1
            continue
        if stored_digest(header) == stored_digest(kept[-1]):
            dropped += 1
            continue
        run += 1
        if run > most:
            most, where = run, header.path
    if most > 1:
        cause = "is it a repeated (contrast, perfusion) acquisition?"
        faults.append(DuplicateSlices(f"{most} different slices at one position; {cause}", path=where))
    if dropped:
        notes.append(f"{dropped} duplicate slice{'s' * (dropped > 1)} (same place, same pixels) left out")
    return kept


def stored_digest(header: Header) -> tuple[object, ...]:
    """What makes two stored slices the same picture: its bytes as they are stored, and how they are read."""
    pixels = header.pixels
    if pixels is None:
        return (header.path,)
    with header.path.open("rb") as file:
        if pixels.offset is not None:
            file.seek(pixels.offset + header.frame * pixels.frame_bytes)
            data = file.read(pixels.frame_bytes)
        else:
            file.seek(pixels.start)
            data = file.read()
    frame = header.frame if pixels.offset is None else 0
    how = (pixels.transfer_syntax, pixels.is_signed, pixels.bits_stored, header.slope, header.intercept)
    return (hashlib.sha256(data).digest(), frame, *how)
