"""Where the slices of a series stand: sorted along the normal, one distance apart, or the reason why not.

The normal is row direction x column direction, so (i, j, k) is right-handed for every patient position. A gantry tilt
(slices displaced sideways by a constant step) and a change of slice spacing on the way are kept in the `Layout` for the
voxels to be brought upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array
from twin.scan.duplicates import deduplicated
from twin.scan.fitness import TOUCHING
from twin.scan.gaps import POSITION_TOLERANCE_MM, changed_pitch_mm, coarse, distinct_mm, irregular
from twin.scan.headers import Header
from twin.scan.identity import check_greys, check_identity
from twin.scan.layout import Layout, Verdict
from twin.scan.planes import check_planes, known
from twin.scan.refusals import IrregularSlices, NoCT, SingleSlice
from twin.scan.volume import Grid

DRIFT_TOLERANCE_MM = 0.1  # sideways over the whole stack; beyond it is a gantry tilt


def judge(headers: Sequence[Header], *, ct_only: bool = True) -> Verdict:
    """Check identity, then geometry, then grey values; every fault that can be found from the headers is named.

    Without `ct_only` another modality will do, and its grey values mean nothing that could be checked.
    """
    faults: list[Fault] = list(dict.fromkeys(fault for header in headers for fault in header.faults))
    notes: list[str] = []
    slices = _without_localizers(headers, notes)
    if not slices:
        return Verdict(
            None, (NoCT("only localizer (scout) views; give the series of slices", path=headers[0].path),), tuple(notes)
        )
    check_identity(slices, faults, notes, ct_only=ct_only)
    if ct_only:
        check_greys(slices, faults, notes)
    if not check_planes(slices, faults):
        return Verdict(None, tuple(faults), tuple(notes))
    layout = _stack(slices, faults, notes)
    if layout is not None:
        layout = replace(layout, given=len(headers))
        _check_coverage(layout, notes)
    return Verdict(None if faults else layout, tuple(faults), tuple(notes))


def _without_localizers(headers: Sequence[Header], notes: list[str]) -> list[Header]:
    slices = [h for h in headers if not h.is_localizer]
    dropped = len(headers) - len(slices)
    if dropped and slices:
        notes.append(f"{dropped} localizer (scout) image{'s' * (dropped > 1)} inside the series left out")
    return slices


def _stack(headers: Sequence[Header], faults: list[Fault], notes: list[str]) -> Layout | None:
    rows = np.mean([known(h.orientation) for h in headers], axis=0)
    u, _, vt = np.linalg.svd(rows.T, full_matrices=False)
    across = u @ vt  # nearest pair of perpendicular unit vectors, as columns: along i, along j
    normal = np.cross(across[:, 0], across[:, 1])
    height_mm = {id(h): float(known(h.position_mm) @ normal) for h in headers}
    slices = sorted(headers, key=lambda h: (height_mm[id(h)], h.instance_number or 0, h.path, h.frame))
    slices = deduplicated(slices, faults, notes)
    if len(slices) < 2:
        faults.append(
            SingleSlice(
                "one slice; a volume needs several (was one file given instead of the folder?)", path=slices[0].path
            )
        )
        return None
    if faults:
        return None
    positions = np.array([h.position_mm for h in slices])
    along = (positions - positions[0]) @ normal
    offsets = (positions - positions[0]) @ across
    shear, first_mm, lean_deg, uneven_mm = _lean(along, offsets)
    pitch, start = np.round(np.polyfit(np.arange(len(slices)), along, 1), 9)
    places = np.arange(len(slices), dtype=np.float64)
    gaps = np.diff(along)
    if np.abs(along - (start + pitch * places)).max() > POSITION_TOLERANCE_MM:
        changed = changed_pitch_mm(slices, gaps)
        if changed is None:
            faults.append(irregular(slices, gaps, lean_deg))
            return None
        pitch, start, places = round(changed, 3), 0.0, along / round(changed, 3)
        found = " and ".join(f"{g:.2f}" for g in distinct_mm(gaps))
        notes.append(f"slices are {found} mm apart (the protocol changed); resampled to {pitch:.2f} mm")
    if uneven_mm > DRIFT_TOLERANCE_MM:
        uneven = f"slices are displaced sideways unevenly, by up to {uneven_mm:.2f} mm"
        faults.append(IrregularSlices(f"{uneven}; no gantry tilt explains that", path=slices[0].path))
        return None
    first = slices[0]
    assert first.spacing_mm is not None
    assert first.pixels is not None
    spacing = np.array([first.spacing_mm[1], first.spacing_mm[0], pitch])
    depth = int(np.floor(places[-1] + 1e-6)) + 1
    size = np.array([first.pixels.columns, first.pixels.rows, depth])
    origin = positions[0] + start * normal + across @ first_mm
    shift_px = np.zeros((len(slices), 2))
    if lean_deg:
        size, origin, shift_px = _widened(size, spacing, shear, start + pitch * places, origin, across)
        notes.append(
            f"gantry tilt of {lean_deg:.1f} degrees corrected: slices resampled in their planes onto upright axes"
        )
        if first.tilt_deg is not None and abs(abs(first.tilt_deg) - lean_deg) > 1.0:
            notes.append(f"header names a gantry tilt of {first.tilt_deg:g} degrees; the positions were believed")
    elif first.tilt_deg is not None and abs(first.tilt_deg) > 0.5 and abs(normal[2]) > 0.9999:
        notes.append(
            f"header names a gantry tilt of {first.tilt_deg:g} degrees, the slices stand straight; corrected before?"
        )
    extent = (int(size[0]), int(size[1]), int(size[2]))
    grid = Grid(extent, spacing, origin, np.column_stack([across, normal]))
    return Layout(tuple(slices), grid, shift_px, places, tuple(distinct_mm(gaps)), lean_deg)


def _lean(along: Array, offsets: Array) -> tuple[Array, Array, float, float]:
    """Sideways mm per mm of height (along i, along j), offset at the first slice, the angle, the worst deviation."""
    if np.linalg.norm(offsets, axis=1).max() <= DRIFT_TOLERANCE_MM:
        return np.zeros(2), np.zeros(2), 0.0, 0.0
    shear, first_mm = np.polyfit(along, offsets, 1)
    uneven_mm = float(np.abs(offsets - first_mm - along[:, None] * shear).max())
    return shear, first_mm, float(np.degrees(np.arctan(np.linalg.norm(shear)))), uneven_mm


def _widened(
    size: Array, spacing: Array, shear: Array, heights_mm: Array, origin: Array, across: Array
) -> tuple[Array, Array, Array]:
    """The in-plane size and origin that hold every displaced slice whole, and each slice's displacement in pixels."""
    moved = (heights_mm - heights_mm[0])[:, None] * shear
    reach = moved[-1]
    size = size.copy()
    for axis in (0, 1):
        size[axis] += int(np.ceil(abs(reach[axis]) / spacing[axis] - 1e-9))
        if reach[axis] < 0:
            origin = origin + across[:, axis] * reach[axis]
    return size, origin, (moved - np.minimum(0.0, reach)) / spacing[:2]


def _check_coverage(layout: Layout, notes: list[str]) -> None:
    """Hints that slices are absent although the rest is regular; nothing here proves it."""
    headers, pitch = layout.headers, float(layout.grid.spacing_mm[2])
    thickness = headers[0].thickness_mm
    if thickness and pitch > TOUCHING * thickness:
        unseen = "tissue between them was not seen; were slices left out?"
        notes.append(f"slices are {pitch:.3f} mm apart but {thickness:.3f} mm thick: {unseen}")
    announced = headers[0].related_instances
    if announced and announced > layout.given:
        notes.append(f"{layout.given} images, the series announces {announced}; was it copied whole?")
    notes.extend(coarse(max(layout.gaps_mm)))
