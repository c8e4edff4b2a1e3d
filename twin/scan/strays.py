"""Lone slices of other series that stand exactly where one goes on: its first or last slice under a wrong UID."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatial.rigid import Array
from twin.scan.headers import CT_CLASSES, Header
from twin.scan.layout import Layout

NEAR_MM = 0.1
FEW = 2  # slices; a series of more is one of its own that happens to go on from here


def strays(layout: Layout, others: Sequence[Sequence[Header]]) -> tuple[Header, ...]:
    """Slices among the `others` (the headers of each other series) that would continue the stack, or say no place."""
    places = np.array([h.position_mm for h in layout.headers])
    ends: tuple[Array, Array] = (2 * places[0] - places[1], 2 * places[-1] - places[-2])
    first = layout.headers[0]
    return tuple(
        header
        for headers in others
        if len(headers) <= FEW
        for header in headers
        if header.sop_class in CT_CLASSES
        and not header.is_localizer
        and (_is_lost(header, first) or any(_is_at(header, end) for end in ends))
    )


def _is_at(header: Header, place_mm: Array) -> bool:
    """Exactly there: to a tenth of a millimetre in three directions that is no chance, whatever else is damaged."""
    return header.position_mm is not None and float(np.linalg.norm(header.position_mm - place_mm)) < NEAR_MM


def _is_lost(header: Header, first: Header) -> bool:
    """A slice of the same size that does not say where it lies: it may be one of these."""
    if header.pixels is None or first.pixels is None:
        return False
    placed = header.position_mm is not None and header.orientation is not None and header.spacing_mm is not None
    return not placed and (header.pixels.rows, header.pixels.columns) == (first.pixels.rows, first.pixels.columns)
