"""S2 alar-iliac screws: from the back of the sacrum through the joint into the ilium, above the sciatic notch.

Where surgeons enter (between the first and second dorsal foramina) and aim (36 to 42 degrees lateral, 20 to 35 caudal,
toward the anterior inferior iliac spine; Zhu 2013, BMC Surg 2023 [V], clinical fact sheet 1.4) is searched for the axis
with most bone around it over 80 mm; from there it is turned and moved until nothing gets better. Angles are those of
the scan's axes, as the papers have them. The screw keeps 10 mm from the notch [M].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Bone, Patient
from spatial.rigid import Array, Directions, Points, Rigid
from twin.anatomy.bone import Side
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.twin import Twin
from twin.plan.screws.grade import OffBone
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.notch import notch_points
from twin.plan.screws.placements import NoRoom
from twin.plan.screws.screw import Screw
from twin.plan.screws.through import Bones
from twin.plan.screws.walls import Across

BESIDE_MM = np.arange(12.0, 33.0, 4.0)  # of the sacrum's middle
BELOW_MM = np.arange(16.0, 53.0, 4.0)  # the S1 endplate, along the sacrum
LATERAL_RAD = np.radians(np.arange(28.0, 53.0, 4.0))
CAUDAL_RAD = np.radians(np.arange(12.0, 49.0, 6.0))
BEHIND_MM = 90.0
START_MM = 8.0  # the way in
USUAL_MM = 80.0
LONGEST_MM = 90.0  # 60 to 90 mm are usual; longer ones where they are asked for
NOTCH_MM = 10.0
KEEP_MM = 0.3  # of bone around the thread
TIP_MM = 5.0  # of bone before the tip
BEST = 6  # of the coarse search are followed
LAST_SCALE = 0.1
STEPS = np.array([2.0, 2.0, np.radians(2.0), np.radians(3.0)])
INTO_MM = 2.0


@dataclass(frozen=True, eq=False)
class _Search:
    """Axes as rows x: how far the entry lies beside and below the S1 endplate's middle (mm), lateral and caudal."""

    bones: Bones
    frame: Rigid[Patient, Bone]
    side: Side
    notch_mm: Array | None

    def axes(self, x: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Entries (N, 3) on the sacrum's back, directions (N, 3), and which of them meet it."""
        outward = np.array([1.0 if self.side == "left" else -1.0, 0.0, 0.0])  # LPS: +x is the left
        flat = np.cos(x[:, 2:3]) * np.array([0.0, -1.0, 0.0]) + np.sin(x[:, 2:3]) * outward
        ways = np.cos(x[:, 3:]) * flat - np.sin(x[:, 3:]) * np.array([0.0, 0.0, 1.0])
        right, anterior, cranial = self.frame.rotation.T
        aside = -right if self.side == "left" else right
        middle = self.frame.translation_mm + x[:, :1] * aside - x[:, 1:2] * cranial
        forward = Directions[Patient](np.broadcast_to(anterior, ways.shape))
        dorsal = self.bones.near.trace(Points[Patient](middle - BEHIND_MM * anterior), forward, 1.3 * BEHIND_MM)
        met = np.isfinite(dorsal)
        place = middle + (np.where(met, dorsal, 0.0) - BEHIND_MM + INTO_MM)[:, None] * anterior
        met &= self.bones.near.distance_mm(Points[Patient](place)) < 0.0
        out = self.bones.near.trace(Points[Patient](place), Directions[Patient](-ways), 4.0 * INTO_MM)
        met &= np.isfinite(out)
        return np.ascontiguousarray(place - np.where(met, out, 0.0)[:, None] * ways), ways, met

    def worth(self, x: Array, step_mm: float, skip: int, enough: float) -> Array:
        """Nearest wall (N,) over the usual length, mm; 1 mm less for each that a 9.5 mm screw is too near the notch."""
        entries, ways, met = self.axes(x)
        span = (START_MM, USUAL_MM)
        walls = self.bones.nearest_mm(
            entries, ways, self.frame, span, step_mm=step_mm, skip=skip, enough_mm=enough
        )  # fmt: skip
        return np.where(met, walls - self._notch_lack(entries, ways), -np.inf)

    def _notch_lack(self, entries: Array, ways: Array) -> Array:
        if self.notch_mm is None:
            return np.zeros(len(entries))
        points = self.notch_mm[:: max(1, len(self.notch_mm) // 150)]
        gap = points[None] - entries[:, None]
        along = np.clip((gap * ways[:, None]).sum(axis=2), 0.0, USUAL_MM)
        near = np.linalg.norm(gap - along[:, :, None] * ways[:, None], axis=2).min(axis=1)
        return np.asarray(np.maximum(NOTCH_MM + 4.75 - near, 0.0))

    def best(self) -> Array | None:
        """Coarse grid, then a compass search from the best few; deterministic. None: no axis runs through."""
        grid = np.stack(np.meshgrid(BESIDE_MM, BELOW_MM, LATERAL_RAD, CAUDAL_RAD, indexing="ij"), -1).reshape(-1, 4)
        scores = self.worth(grid, 4.0, 10, -2.0)
        order = np.argsort(-scores, kind="stable")[:BEST]
        climbed = [self._climbed(grid[n]) for n in order if np.isfinite(scores[n])]
        return max(climbed, key=lambda found: found[1])[0] if climbed else None

    def _climbed(self, x: Array) -> tuple[Array, float]:
        worth, scale = float(self.worth(x[None], 2.0, 6, -1e9)[0]), 1.0
        while scale >= LAST_SCALE:
            tried = x + scale * np.vstack([np.diag(STEPS), -np.diag(STEPS)])
            found = self.worth(tried, 2.0, 6, worth)
            n = int(np.argmax(found))
            if found[n] > worth + 1e-6:
                x, worth = tried[n], float(found[n])
            else:
                scale /= 2.0
        return x, worth


@dataclass(frozen=True)
class PelvicAim:
    """Degrees in the scan's axes, as the literature gives them: away from the middle, and down."""

    lateral_deg: float
    caudal_deg: float

    @classmethod
    def of(cls, direction: Array, side: Side) -> PelvicAim:
        """Of a direction in Patient."""
        outward = direction[0] if side == "left" else -direction[0]
        lateral = np.degrees(np.arctan2(outward, -direction[1]))
        return cls(float(lateral), float(-np.degrees(np.arcsin(np.clip(direction[2], -1.0, 1.0)))))

    def to_json(self) -> dict[str, float]:
        """As `pelvic_aim_deg`."""
        return {"lateral": round(self.lateral_deg, 2), "caudal": round(self.caudal_deg, 2)}


def s2ai(
    twin: Twin, side: Side, *, diameter_mm: float | None = None, length_mm: float | None = None, family: str = "",
    library: Library | None = None,
) -> Screw:  # fmt: skip
    """The S2 alar-iliac screw of a side. Raises NoBone, NoLandmark (no S1 endplate), NoRoom."""
    library = load_library() if library is None else library
    sizes = library.screws(family or None, "s2ai")
    bones = Bones.sacroiliac(twin, side)
    search = _Search(bones, bone_frame(twin, "sacrum"), side, notch_points(twin, f"hip_{side}"))
    x = search.best()
    if x is None:
        raise NoRoom(f"no axis from the back of the sacrum runs through bone into the {side} ilium")
    entry, way = (v[0] for v in search.axes(x[None])[:2])
    across = Across.of(way, search.frame, side)
    why = ""
    usual = [v for v in sizes.lengths_mm if v <= LONGEST_MM] or [min(sizes.lengths_mm)]
    lengths = [length_mm] if length_mm is not None else sorted(usual, reverse=True)
    diameters = [diameter_mm] if diameter_mm is not None else sorted(sizes.diameters_mm, reverse=True)
    try:
        chord = bones.far_cortex_mm(entry, way)
    except OffBone as fault:
        raise NoRoom(fault.message) from None
    for length in lengths:
        if length_mm is None and length > chord - TIP_MM:
            continue
        walls, _, _ = bones.walls(entry, way, across, (START_MM, length))
        nearest = float(walls.min())
        for diameter in diameters:
            if diameter_mm is not None or diameter / 2.0 + KEEP_MM <= nearest:
                return Screw(
                    f"S2AI-{side}", "sacrum", side, Points[Patient](entry), Points[Patient](entry + length * way),
                    diameter, length, kind="s2ai", family=family,
                )  # fmt: skip
        why = f"on the best axis the nearest wall is {nearest:.1f} mm away over {length:g} mm"
    raise NoRoom(f"no S2 alar-iliac screw of this family fits: {why or f'{chord:.1f} mm of bone on the best axis'}")
