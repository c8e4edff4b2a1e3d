"""Position, orientation, size and spacing of every slice: can they be stacked at all?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.headers import Header
from twin.scan.identity import odd_one_out
from twin.scan.refusals import BadGeometry, MixedSeries

ORIENTATION_TOLERANCE = 2e-4  # direction cosines are written with four digits or more: 0.1 mm over 500 mm


def check_planes(slices: Sequence[Header], faults: list[Fault]) -> bool:
    """Position, orientation, size and spacing of every slice; True when they can be stacked."""
    before = len(faults)
    for header in slices:
        if header.faults:
            return False
        for what, value in (
            ("ImagePositionPatient", header.position_mm),
            ("ImageOrientationPatient", header.orientation),
            ("PixelSpacing", header.spacing_mm),
        ):
            if value is None:
                faults.append(BadGeometry(f"{what} is absent; is it a secondary capture?", path=header.path))
                return False
        assert header.orientation is not None
        assert header.spacing_mm is not None
        if (header.spacing_mm <= 0).any():
            faults.append(
                BadGeometry(f"PixelSpacing is {header.spacing_mm.tolist()} mm, it must be above zero", path=header.path)
            )
            return False
        gram = header.orientation @ header.orientation.T
        if np.abs(gram - np.eye(2)).max() > 1e-3:
            faults.append(
                BadGeometry(
                    "ImageOrientationPatient is not two perpendicular unit vectors; is the header damaged?",
                    path=header.path,
                )
            )
            return False
    _same(slices, faults, "image sizes (rows x columns)", [_size(h) for h in slices])
    _same(slices, faults, "pixel spacings", [_rounded(h.spacing_mm, 1e-4) for h in slices])
    normals = np.array([h.orientation for h in slices])
    usual = normals[_usual_index([_rounded(h.orientation, ORIENTATION_TOLERANCE) for h in slices])]
    odd = np.flatnonzero(np.abs(normals - usual).max(axis=(1, 2)) > ORIENTATION_TOLERANCE)
    if len(odd):
        turned = f"{len(odd)} of {len(slices)} slices have another orientation"
        faults.append(MixedSeries(f"{turned}; is a localizer among them?", path=slices[odd[0]].path))
    return len(faults) == before


def _same(slices: Sequence[Header], faults: list[Fault], what: str, values: list[tuple[float, ...]]) -> None:
    found = set(values)
    if len(found) > 1:
        odd = odd_one_out(values)
        shown = ", ".join(" x ".join(f"{n:g}" for n in v) for v in sorted(found)[:3])
        faults.append(MixedSeries(f"{len(found)} different {what} in one series ({shown})", path=slices[odd].path))


def known(values: Array | None) -> Array:
    """A value that `check_planes` has found to be there."""
    assert values is not None  # every plane was checked before
    return values


def _size(header: Header) -> tuple[float, ...]:
    assert header.pixels is not None
    return (header.pixels.rows, header.pixels.columns)


def _rounded(values: Array | None, step: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.round(known(values).ravel() / step) * step)


def _usual_index(values: Sequence[Hashable]) -> int:
    counts = Counter(values)
    return max(range(len(values)), key=lambda i: counts[values[i]])
