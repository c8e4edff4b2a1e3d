"""The grade of a screw along its whole way through bone: lag screws anywhere, screws from the sacrum into the ilium.

Walls are seen along rays across the axis, a diameter behind the entry up to the tip (or up to the far cortex, where the
tip stands out: that is told apart, as with pedicle screws). For a screw through the sacroiliac joint the gap between
sacrum and ilium is no wall. The letters take the limits of Gertzbein and Robbins; the scale's name says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit, njit_parallel, prange
from spatial.distance import DistanceGrid
from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Twin
from twin.plan.screws import hold as holding
from twin.plan.screws.batch_kernels import COSINE, RAYS, SINE, Triple, along, at, frame_across, triple
from twin.plan.screws.clearance import clearances
from twin.plan.screws.density import PLACES, STEP_MM, AlongScrew, along_screw
from twin.plan.screws.hold import Hold, Reading, hold
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.notch import notch_distance_mm
from twin.plan.screws.screw import Screw
from twin.plan.screws.screw_grade import SHAFT_SCALE, OffBone, ScrewGrade, grade_letter
from twin.plan.screws.walls import Across
from twin.scan.volume import Volume

REACH_MM = 25.0
STATION_MM = 1.0
JOINT_GAP_MM = 5.0  # of the sacroiliac joint, at most: a place is in it when both bones are that near together
NO_JOINT = -1e9
STEEP = 0.9  # cosine to the bone's long axis beyond which across it is front and back
LEVEL_NAMES = ("medial", "superior", "lateral", "inferior")
STEEP_NAMES = ("medial", "front", "lateral", "back")
AROUND = 12
KEEP_MM = 2.0


@njit
def _at(
    one: NDArray[np.float32], o1: Array, i1: float, two: NDArray[np.float32], o2: Array, i2: float, gap: float,
    x: float, y: float, z: float,
) -> float:  # fmt: skip
    """Signed distance (a lower bound of it) to the union of two bones and the joint between them."""
    a = at(one, o1, i1, x, y, z)
    b = at(two, o2, i2, x, y, z)
    return min(a, b, 0.5 * (a + b - gap))


@njit
def way_walls(
    one: NDArray[np.float32], o1: Array, i1: float, two: NDArray[np.float32], o2: Array, i2: float, gap: float,
    entry: Triple, way: Triple, m: Triple, u: Triple, first: float, last: float, step: float, skip: int, enough: float,
) -> tuple[Array, float, float]:  # fmt: skip
    """The nearest wall a direction (4,), the narrowest chord, and its place. Every `skip`-th ray; walls beyond REACH_MM
    are as far. An axis that is outside gives minus its distance. Ends early below `enough`.
    """
    found = np.full(4, REACH_MM)
    width, neck = 2.0 * REACH_MM, first
    count = max(int(np.ceil((last - first) / step)), 1) + 1
    ways = np.empty(RAYS)
    eighth = RAYS // 8
    for s in range(count):
        place = first + (last - first) * s / (count - 1)
        p = along(entry, place, way)
        here = _at(one, o1, i1, two, o2, i2, gap, p[0], p[1], p[2])
        if here >= 0.0:
            for n in range(4):
                found[n] = min(found[n], -here)
            return found, 0.0, place
        for n in range(0, RAYS, skip):
            x = COSINE[n] * m[0] + SINE[n] * u[0]
            y = COSINE[n] * m[1] + SINE[n] * u[1]
            z = COSINE[n] * m[2] + SINE[n] * u[2]
            t, before, d = -here, 0.0, -1.0
            while t < REACH_MM:
                d = _at(one, o1, i1, two, o2, i2, gap, p[0] + t * x, p[1] + t * y, p[2] + t * z)
                if d >= 0.0:
                    break
                before = t
                t += max(-0.98 * d, 0.05)
            t = min(t, REACH_MM)
            while d >= 0.0 and t - before > 0.01:
                middle = 0.5 * (before + t)
                if _at(one, o1, i1, two, o2, i2, gap, p[0] + middle * x, p[1] + middle * y, p[2] + middle * z) < 0.0:
                    before = middle
                else:
                    t = middle
            ways[n] = t
            side = ((n + eighth) // (2 * eighth)) % 4
            found[side] = min(found[side], t)
        for n in range(0, RAYS // 2, skip):
            if ways[n] + ways[n + RAYS // 2] < width:
                width, neck = ways[n] + ways[n + RAYS // 2], place
        if min(min(found[0], found[1]), min(found[2], found[3])) < enough:
            break
    return found, width, neck


@njit_parallel
def nearest_walls(
    one: NDArray[np.float32], o1: Array, i1: float, two: NDArray[np.float32], o2: Array, i2: float, gap: float,
    entries: Array, ways: Array, inward: Array, cranial: Array, first: float, last: float, step: float, skip: int,
    enough: float,
) -> Array:  # fmt: skip
    """The nearest wall (N,) of many axes over a span; below `enough` it is only known to be below."""
    out = np.empty(len(entries))
    for n in prange(len(entries)):
        way = triple(ways, n)
        m, u = frame_across(way, inward, cranial)
        found, _, _ = way_walls(
            one, o1, i1, two, o2, i2, gap, triple(entries, n), way, m, u, first, last, step, skip, enough
        )
        out[n] = min(min(found[0], found[1]), min(found[2], found[3]))
    return out


@dataclass(frozen=True, eq=False)
class Bones:
    """The one bone of a lag screw, or sacrum and ilium of one side."""

    near: DistanceGrid[Patient]
    far: DistanceGrid[Patient]
    gap_mm: float

    @classmethod
    def of(cls, twin: Twin, screw: Screw) -> Bones:
        """Raises NoBone."""
        return cls.sacroiliac(twin, screw.side) if screw.kind == "s2ai" else cls.single(twin, screw.bone)

    @classmethod
    def single(cls, twin: Twin, bone: str) -> Bones:
        """One bone. Raises NoBone."""
        grid = DistanceGrid[Patient].of(twin.bone(bone).surface)
        return cls(grid, grid, NO_JOINT)

    @classmethod
    def sacroiliac(cls, twin: Twin, side: Side) -> Bones:
        """Sacrum and hip bone of a side. Raises NoBone."""
        near = DistanceGrid[Patient].of(twin.bone("sacrum").surface)
        return cls(near, DistanceGrid[Patient].of(twin.bone(f"hip_{side}").surface), JOINT_GAP_MM)

    def distance_mm(self, points: Points[Patient]) -> Array:
        """Signed distance to the nearer bone; the joint is not inside."""
        first = self.near.distance_mm(points)
        return first if self.far is self.near else np.minimum(first, self.far.distance_mm(points))

    def walls(
        self, entry_mm: Array, way: Array, across: Across, span_mm: tuple[float, float], *, step_mm: float = STATION_MM,
        skip: int = 2, enough_mm: float = -1e9,
    ) -> tuple[Array, float, float]:  # fmt: skip
        """Walls (4,) a direction, narrowest chord and its place, over a span of the axis."""
        a, b = self.near, self.far
        return way_walls(
            a.values_mm, a.origin_mm, 1.0 / a.spacing_mm, b.values_mm, b.origin_mm, 1.0 / b.spacing_mm, self.gap_mm,
            _triple(entry_mm), _triple(way), _triple(across.medial), _triple(across.superior), *span_mm, step_mm, skip,
            enough_mm,
        )  # fmt: skip

    def nearest_mm(
        self, entries_mm: Array, ways: Array, frame: Rigid[Patient, Bone], span_mm: tuple[float, float], *,
        step_mm: float, skip: int, enough_mm: float,
    ) -> Array:  # fmt: skip
        """The nearest wall (N,) of axes (N, 3), (N, 3); below `enough_mm` it is only known to be below."""
        a, b = self.near, self.far
        right, _, cranial = (np.ascontiguousarray(v) for v in frame.rotation.T)
        return np.asarray(
            nearest_walls(
                a.values_mm, a.origin_mm, 1.0 / a.spacing_mm, b.values_mm, b.origin_mm, 1.0 / b.spacing_mm,
                self.gap_mm, entries_mm, ways, right, cranial, *span_mm, step_mm, skip, enough_mm,
            )
        )  # fmt: skip

    def far_cortex_mm(self, entry_mm: Array, way: Array) -> float:
        """Way to the last crossing of the far bone on the axis. Raises OffBone."""
        low, high = self.far.bounds_mm
        reach = float(np.linalg.norm(high - low) + np.linalg.norm(0.5 * (low + high) - entry_mm))
        start = Points[Patient](entry_mm + reach * way)
        back = float(self.far.trace(start, Directions[Patient](-way), max_mm=reach))
        if not np.isfinite(back):
            raise OffBone("the axis meets no bone beyond the entry; are entry and target right?")
        return reach - back


def across_way(direction: Array, frame: Rigid[Patient, Bone], side: Side) -> tuple[Across, tuple[str, ...]]:
    """Directions across an axis, and the names of the four walls; along the bone they are front and back."""
    if abs(float(frame.rotation[:, 2] @ direction)) <= STEEP:
        return Across.of(direction, frame, side), LEVEL_NAMES
    right, anterior, _ = frame.rotation.T
    forward = anterior - (anterior @ direction) * direction
    forward = forward / np.linalg.norm(forward)
    medial = np.cross(direction, forward)
    inward = right if side == "left" else -right
    return Across(medial if medial @ inward > 0 else -medial, forward), STEEP_NAMES


def grade_through(
    twin: Twin, screw: Screw, volume: Volume | None = None, *, library: Library | None = None
) -> ScrewGrade:
    """The grade of a lag or sacroiliac screw. Raises NoBone, NoLandmark, OffBone."""
    bones = Bones.of(twin, screw)
    axis = screw.axis
    across, names = across_way(axis.direction, bone_frame(twin, screw.bone), screw.side)
    chord = bones.far_cortex_mm(axis.point_mm, axis.direction)
    last = min(screw.length_mm, chord - screw.diameter_mm)
    first = min(screw.diameter_mm, 0.5 * max(last, 0.0))
    if last <= first:
        raise OffBone(f"only {max(chord, 0.0):.1f} mm of bone on the axis; does it run through the bone?")
    found, width, neck = bones.walls(axis.point_mm, axis.direction, across, (first, last))
    margin = {name: float(wall) - screw.diameter_mm / 2 for name, wall in zip(names, found, strict=True)}
    worst = min(names, key=lambda name: margin[name])
    breach = max(0.0, -margin[worst])
    margin["anterior"] = chord - screw.length_mm
    library = load_library() if library is None else library
    seen = None if volume is None else along_screw(volume, screw, (across.medial, across.superior))
    held = held_in(twin, bones, screw, across, seen, library)
    thread = None if seen is None else seen.places((0.0, 0.0))["thread"]
    room = {**margin, "anterior": margin["anterior"] - KEEP_MM}
    return ScrewGrade(
        grade=grade_letter(breach),
        breach_mm=breach,
        breach_direction=worst if breach > 0 else None,
        margin_mm=margin,
        hu={**dict.fromkeys(PLACES), "thread": thread},
        hold_n=None if isinstance(held, str) else held.interval_n,
        binding=min(room, key=lambda name: room[name]),
        chord_mm=chord,
        width_mm=float(width) or None,
        isthmus_mm=float(neck),
        isthmus_from="section",
        margin_sd_mm=twin.surface_sd_mm,
        clearances=clearances(twin, screw),
        scale=SHAFT_SCALE,
        diameter_mm=screw.diameter_mm,
        length_mm=screw.length_mm,
        facet="not a pedicle screw",
        hold=held,
        notch_mm=notch_distance_mm(twin, screw) if screw.kind == "s2ai" else None,
    )


def held_in(
    twin: Twin, bones: Bones, screw: Screw, across: Across, seen: AlongScrew | None, library: Library
) -> Hold | str:
    """The hold estimate of the thread, counted where it lies in bone."""
    if seen is None:
        return holding.NO_CT
    family = library.screws(screw.family_name, screw.kind)
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    ring = np.cos(angle)[:, None] * across.medial + np.sin(angle)[:, None] * across.superior
    axis = screw.axis
    points = axis.point_mm + seen.place_mm[:, None, None] * axis.direction + screw.diameter_mm / 2 * ring
    engaged = (bones.distance_mm(Points[Patient](points)) < 0.0).mean(axis=1)
    if screw.thread_mm is not None:
        engaged = np.where(seen.place_mm >= screw.length_mm - screw.thread_mm, engaged, 0.0)
    depth = (screw.diameter_mm - family.core_diameter_mm(screw.diameter_mm)) / 2
    reading = Reading.of(twin.density)
    return hold(seen.thread_hu, engaged, STEP_MM, screw.diameter_mm, depth, family.pitch_mm, reading)


def _triple(v: Array) -> Triple:
    return float(v[0]), float(v[1]), float(v[2])
