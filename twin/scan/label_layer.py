"""What a label file holds before anybody asked what it means: layers of numbers, each with its place and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.scan.refusals import BadLabels

LARGEST_NUMBER = 65535


@dataclass(frozen=True, eq=False)
class Layer:
    """Codes (k, j, i) in uint8, 0 for nothing; the (4, 4) map from (i, j, k) to LPS mm, which may shear.

    `numbers` has the file's own number of each code. `words` has what the file calls a code (its label, or its coded
    term translated); codes without words are numbers of a table that somebody has to name.
    """

    codes: NDArray[np.uint8]
    matrix: Array
    numbers: Mapping[int, int]
    words: Mapping[int, str]


def coded(values: NDArray[Any], path: Path) -> tuple[NDArray[np.uint8], dict[int, int]]:
    """Label numbers as codes in a byte, with the number of each; raises BadLabels on what can't be label numbers."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or np.abs(values - np.rint(values)).max() > 1e-3:
            raise BadLabels(
                "values with fractions; a label map has whole numbers (is it a probability or a CT?)", path=path
            )
        values = np.rint(values)
    if values.dtype == np.uint8:
        found = np.flatnonzero(np.bincount(np.ascontiguousarray(values).reshape(-1), minlength=256))
        return values, {int(n): int(n) for n in found if n}
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > LARGEST_NUMBER:
        raise BadLabels(
            f"numbers from {low:.0f} to {high:.0f}, 0 to {LARGEST_NUMBER} can be; is it the CT itself?", path=path
        )
    if high <= 255:
        return coded(values.astype(np.uint8), path)
    wide = values.astype(np.uint16)
    found = np.flatnonzero(np.bincount(wide.reshape(-1), minlength=LARGEST_NUMBER + 1))
    found = found[found > 0]
    if len(found) > 255:
        raise BadLabels(f"{len(found)} different numbers, 255 can be; is it the CT itself?", path=path)
    table = np.zeros(LARGEST_NUMBER + 1, np.uint8)
    table[found] = np.arange(1, len(found) + 1)
    return table[wide], {code: int(number) for code, number in enumerate(found, 1)}


def binary(values: NDArray[Any], path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """A mask as 0 and 1; fractions are cut at one half. Raises BadLabels on values that no mask has."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadLabels("the mask holds values that are not finite", path=path)
    low, high = float(values.min()), float(values.max())
    if low < -1e-3:
        raise BadLabels(f"values from {low:g} to {high:g}; a mask has 0 and 1", path=path)
    between = (values != low) & (values != high) if low != high else np.zeros(1, np.bool_)
    if low in (0.0, high) and not between.any():  # one value beside the 0: 1, 255, or a label's number
        return (values > 0).astype(np.uint8)
    if high > 1.001:
        raise BadLabels(f"values from {low:g} to {high:g}; a mask has 0 and 1", path=path)
    notes.append("mask with fractions cut at one half")
    return (values >= 0.5).astype(np.uint8)
