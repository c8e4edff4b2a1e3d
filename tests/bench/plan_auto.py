"""Automatic plans of T1 to S1 held against the truth: phantoms by the published morphometry, graded by other code.

`python -m tests.bench.plan_auto --surfaces 1-200 --ct 1-20` runs as many patients as it is told, a line of JSON each,
and sums up. The truth asks of each pedicle whether a safe screw exists: the widest cylinder through it over the
analytic surface, by exhaustive search over directions and places. Pedicles whose best margin is within BAND_MM of the
required one stand apart: there either answer is right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from spatial.compiled import njit
from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from tests.bench.measure import Job, Judgement, Side
from tests.bench.phantom_surfaces import bone_surface
from tests.twin.plan.phantom_twin import Only
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.bone import Side as SideName
from twin.anatomy.spread import with_spread
from twin.anatomy.twin import Levels, Twin
from twin.plan.auto.autoplan import DIAMETERS_MM, Proposal, keep_mm
from twin.plan.auto.construct import propose_construct
from twin.plan.levels import bone_of, levels_between
from twin.plan.screws.screw import Screw
from twin.scan.phantom.measures import PedicleTruth, pedicle, pedicles
from twin.scan.phantom.patient import Phantom

LEVELS = "T1-S1"
CT_PARTS = (("thoracic", "T1-T9"), ("lumbar", "T10-S1"))  # two scans of one patient, each of the usual length
VOXEL_MM = 1.0
SD_MM = 0.10  # of surfaces built from a CT of 1 mm slices, see `twin.anatomy.bones.surface_sd_mm`
BAND_MM = 0.25
WIDE_MM = 2.9  # radius around the true axis that settles it: a safe screw fits
WINDOW_MM = 6.0
NO_PEER = "the best published plan takes 2 s a screw, and no open code plans several levels together"
GRADES = ((2.0, "B"), (4.0, "C"), (6.0, "D"))
Source = Literal["surfaces", "ct"]
SIDES: tuple[SideName, ...] = ("left", "right")
Necks = dict[tuple[str, str], PedicleTruth]


@dataclass(frozen=True)
class Trial:
    """One pedicle: what was planned, and the truth of it. Margins in mm; `best_mm`: of the smallest screw."""

    seed: int
    screw: str
    planned: bool
    diameter_mm: float
    grade: str
    margin_mm: float
    best_mm: float
    required_mm: float

    @property
    def truth(self) -> str:
        """`fits`, `none`, or `apart` where the best margin is too near to the required one to tell."""
        spare = self.best_mm - self.required_mm
        return "apart" if abs(spare) < BAND_MM else "fits" if spare > 0 else "none"


def trials(seed: int, source: Source) -> tuple[list[Trial], dict[str, float]]:
    """All pedicles of one patient, and how long the plan took (CPU seconds, after the twin was there)."""
    found: list[Trial] = []
    took = {"grids_cpu_s": 0.0, "plan_cpu_s": 0.0, "missing": 36.0}
    for region, levels in (("spine", LEVELS),) if source == "surfaces" else CT_PARTS:
        phantom = Phantom.make(seed, anatomy=region)
        necks = true_pedicles(phantom)
        twin = from_surfaces(phantom, seed, necks) if source == "surfaces" else from_ct(phantom)
        asked = asked_of(twin, levels)
        begun = time.process_time()
        for bone, _ in asked:
            DistanceGrid[Patient].of(twin.bone(bone).surface)
        built = time.process_time()
        proposals = propose_construct(twin, asked, alternatives=0)
        took["plan_cpu_s"] += time.process_time() - built
        took["grids_cpu_s"] += built - begun
        took["missing"] -= len(asked)
        found += [judged(phantom, necks, seed, one, keep_mm(twin)) for one in proposals]
    return found, took


def asked_of(twin: Twin, levels: str = LEVELS) -> list[tuple[str, SideName]]:
    """Both pedicles of every one of these levels that the twin has."""
    bones = [bone_of(level) for level in levels_between(levels)]
    return [(bone, side) for bone in bones if bone in twin.bones for side in SIDES]


def from_surfaces(phantom: Phantom, seed: int, necks: Necks) -> Twin:
    """A twin of surfaces that are off by what a scan's are; its landmarks are the true ones, off by their stated sd."""
    rng = np.random.default_rng([20265, seed])
    spacing = np.full(3, VOXEL_MM)
    names = [bone_of(level) for level in levels_between(LEVELS) if bone_of(level) in phantom.bone_names]
    bones = {name: Bone(name, bone_surface(phantom, name, SD_MM, seed)) for name in names}
    marks = []

    def add(name: str, bone: str, side: SideName | None, position: Any, direction: Any) -> None:
        bare = Landmark(name, bone, side, Points[Patient](position), Directions[Patient](direction), None)
        told = with_spread(bare, spacing, drawn=False)
        lean = rng.normal(size=3) * np.radians(told.sd_deg or 0.0) / np.sqrt(2.0)
        off = Directions[Patient](direction + np.cross(lean, direction))
        at = Points[Patient](position + rng.normal(size=3) * (told.sd_mm or 0.0))
        marks.append(replace(told, position=at, direction=off))

    for (bone, side), neck in necks.items():
        if bone in bones:
            add(f"pedicle_{side}", bone, side, neck.isthmus_mm, neck.direction)
    for stand in phantom.stands:
        bone = f"vertebrae_{stand.size.level}"
        for name, frame in (("superior", stand.superior), ("inferior", stand.inferior)):
            if bone in bones:
                add(f"endplate_{name}", bone, None, frame.origin, frame.rotation[:, 2])
    add("endplate_superior", "sacrum", None, phantom.s1.origin, phantom.s1.rotation[:, 2])
    return Twin(f"surfaces-{seed}", bones, tuple(marks), Levels(1.0), surface_sd_mm=SD_MM)


def from_ct(phantom: Phantom) -> Twin:
    """The twin that the product builds from the phantom's CT."""
    from twin.anatomy.build import build_twin
    from twin.scan.phantom.voxels import scan_grid, synthesise
    from twin.scan.volume import Grid, Volume

    scan = synthesise(phantom, scan_grid(phantom, pixel_mm=0.8, slice_mm=1.0))
    spacing = np.array([scan.grid.pixel_mm, scan.grid.pixel_mm, scan.grid.slice_mm])
    grid = Grid(scan.grid.size, spacing, scan.grid.origin_mm, np.eye(3))
    return build_twin(Volume(grid, scan.hu), None)[0]


def true_pedicles(phantom: Phantom) -> Necks:
    """The necks on the analytic surfaces."""
    found = {}
    for stand in phantom.stands:
        bone = f"vertebrae_{stand.size.level}"
        for side in SIDES:
            found[bone, side] = pedicle(phantom, bone, side, *phantom.pedicle_frame(stand.size.level, side))
    found |= {("sacrum", neck.side): neck for neck in pedicles(Only(phantom))}
    return found


def judged(phantom: Phantom, necks: Necks, seed: int, proposal: Proposal, required_mm: float) -> Trial:
    """One proposal against the truth."""
    neck = necks[proposal.bone, proposal.side]
    best = widest_mm(phantom, neck, WIDE_MM) - min(DIAMETERS_MM) / 2
    screw = proposal.screw
    name = f"{proposal.bone.removeprefix('vertebrae_')}-{proposal.side}"
    if screw is None:
        return Trial(seed, name, False, 0.0, "", 0.0, best, required_mm)
    margin = true_margin_mm(phantom, neck, screw)
    grade = "A" if margin >= 0 else next((letter for limit, letter in GRADES if -margin < limit), "E")
    return Trial(seed, name, True, screw.diameter_mm, grade, margin, best, required_mm)


def true_margin_mm(phantom: Phantom, neck: PedicleTruth, screw: Screw) -> float:
    """The smallest wall margin of a screw in the analytic bone: rays from its axis around the true isthmus."""
    entry, way = screw.entry.mm, screw.axis.direction
    along = float((neck.isthmus_mm - entry) @ way) + np.linspace(-WINDOW_MM, WINDOW_MM, 25)
    stations = entry + along[:, None] * way
    inside = phantom.value(neck.bone, stations) < 0
    if not inside.all():
        return -float(np.maximum(phantom.distance_mm(neck.bone, stations), 0.0).max()) - screw.diameter_mm / 2
    walls = _around(phantom, neck.bone, stations, way, 90)
    return float(walls.min()) - screw.diameter_mm / 2


def _around(phantom: Phantom, bone: str, stations: Any, way: Any, rays: int) -> Any:
    """Ways (S, R) from stations to the true surface, across an axis."""
    aside = np.cross(way, np.eye(3)[int(np.argmin(np.abs(way)))])
    aside /= np.linalg.norm(aside)
    angle = np.linspace(0.0, 2 * np.pi, rays, endpoint=False)
    fan = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * np.cross(way, aside)
    origins, directions = np.repeat(stations, rays, axis=0), np.tile(fan, (len(stations), 1))
    return phantom.crossings(bone, origins, directions, 40.0).reshape(len(stations), rays)


def widest_mm(phantom: Phantom, neck: PedicleTruth, enough_mm: float = np.inf) -> float:
    """The radius of the widest cylinder of 12 mm through a true pedicle about its isthmus, over all its axes.

    The wall is seen along rays from the true axis; every direction within 27 degrees and every place within 3 mm is
    tried in steps, then finer around the best, and the winner is measured again by rays of its own. Where the true axis
    itself has `enough_mm` around it, that is the answer: a safe screw is there.
    """
    way = neck.direction
    line = neck.isthmus_mm + np.linspace(-WINDOW_MM, WINDOW_MM, 25)[:, None] * way
    if (phantom.value(neck.bone, line) < 0).all():
        plain = float(_around(phantom, neck.bone, line, way, 90).min())
        if plain >= enough_mm:
            return plain
    along = np.linspace(-10.0, 10.0, 81)
    stations = neck.isthmus_mm + along[:, None] * way
    stations = stations[phantom.value(neck.bone, stations) < 0]
    walls = np.minimum(_around(phantom, neck.bone, stations, way, 120), 14.0)
    aside = np.cross(way, np.eye(3)[int(np.argmin(np.abs(way)))])
    aside /= np.linalg.norm(aside)
    up = np.cross(way, aside)
    angle = np.linspace(0.0, 2 * np.pi, 120, endpoint=False)
    fan = np.cos(angle)[:, None] * aside + np.sin(angle)[:, None] * up
    cloud = ((stations - neck.isthmus_mm)[:, None] + walls[..., None] * fan)[walls < 14.0].reshape(-1, 3)
    at, step, turn = np.zeros(4), 0.5, np.radians(3.0)
    reach = (6, 9)
    for _ in range(3):
        at = _widest(cloud, way, aside, up, at, step, turn, *reach)[1]
        step, turn, reach = step / 4, turn / 4, (4, 4)
    lean = way + np.tan(at[2]) * aside + np.tan(at[3]) * up
    lean /= np.linalg.norm(lean)
    start = neck.isthmus_mm + at[0] * aside + at[1] * up
    start = start + float((neck.isthmus_mm - start) @ lean) * lean
    line = start + np.linspace(-WINDOW_MM, WINDOW_MM, 25)[:, None] * lean
    if not (phantom.value(neck.bone, line) < 0).all():
        return 0.0
    return float(_around(phantom, neck.bone, line, lean, 90).min())


@njit
def _widest(cloud, way, aside, up, at, step, turn, places, ways):
    """The largest distance from an axis to the nearest of the points beside it, over a lattice of axes about `at`."""
    most, found = -1.0, at.copy()
    u, v = np.empty(len(cloud)), np.empty(len(cloud))
    for a in range(-ways, ways + 1):
        for b in range(-ways, ways + 1):
            ta, tb = at[2] + a * turn, at[3] + b * turn
            lean = way + np.tan(ta) * aside + np.tan(tb) * up
            lean = lean / np.sqrt((lean * lean).sum())
            e = aside - (aside * lean).sum() * lean
            e = e / np.sqrt((e * e).sum())
            f = np.cross(lean, e)
            count = 0
            for n in range(len(cloud)):
                if abs((cloud[n] * lean).sum()) <= 6.0:
                    u[count], v[count] = (cloud[n] * e).sum(), (cloud[n] * f).sum()
                    count += 1
            for i in range(-places, places + 1):
                for j in range(-places, places + 1):
                    q = (at[0] + i * step) * aside + (at[1] + j * step) * up
                    x, y = (q * e).sum(), (q * f).sum()
                    near = 1e9
                    for n in range(count):
                        near = min(near, (u[n] - x) ** 2 + (v[n] - y) ** 2)
                        if near <= most:
                            break
                    if near > most:
                        most = near
                        found = np.array([at[0] + i * step, at[1] + j * step, ta, tb])
    return np.sqrt(most), found


def summed(found: Iterable[Trial]) -> dict[str, Any]:
    """The counts that the issue asks for."""
    every = list(found)
    fits, none, apart = ([t for t in every if t.truth == name] for name in ("fits", "none", "apart"))
    planned = [t for t in every if t.planned]
    return {
        "pedicles": len(every),
        "fits": len(fits),
        "fits_grade_A": sum(t.planned and t.grade == "A" for t in fits),
        "fits_refused": [f"{t.seed}:{t.screw} {t.best_mm - t.required_mm:+.2f}" for t in fits if not t.planned],
        "none": len(none),
        "none_refused": sum(not t.planned for t in none),
        "none_planned": [f"{t.seed}:{t.screw} {t.best_mm - t.required_mm:+.2f} {t.grade}" for t in none if t.planned],
        "apart": len(apart),
        "apart_planned": sum(t.planned for t in apart),
        "planned": len(planned),
        "grades": {g: sum(t.grade == g for t in planned) for g in "ABCDE"},
        "not_A": [f"{t.seed}:{t.screw} {t.margin_mm:+.2f}" for t in planned if t.grade != "A"],
        "least_margin_mm": min((t.margin_mm for t in planned), default=None),
    }


def words(sums: dict[str, Any]) -> str:
    """The same in a line."""
    return (
        f"{sums['fits_grade_A']} of {sums['fits']} pedicles that a safe screw fits have one of grade A on the truth; "
        f"{sums['none_refused']} of {sums['none']} that take none are refused; {sums['apart']} within {BAND_MM:g} apart"
    )


def jobs() -> Iterator[Job]:
    """T1 to S1 of one patient, timed and graded on the truth."""
    phantom = Phantom.make(3, anatomy="spine")
    necks = true_pedicles(phantom)
    twin = from_surfaces(phantom, 3, necks)
    asked = asked_of(twin)
    propose_construct(twin, asked, alternatives=0)

    def judge(ours: list[Proposal], _: None) -> Judgement:
        sums = summed(judged(phantom, necks, 3, one, keep_mm(twin)) for one in ours)
        right = sums["fits_grade_A"] == sums["fits"] and sums["none_refused"] == sums["none"]
        return Judgement(right, words(sums), {k: v for k, v in sums.items() if isinstance(v, int | float)})

    yield Job(
        "plan", f"plan {len(asked)} screws from T1 to S1 together, the grids exist",
        Side("propose_construct", lambda: propose_construct(twin, asked, alternatives=0)), None, judge, rounds=3,
        no_peer=NO_PEER,
    )  # fmt: skip
    lower = asked_of(twin, "T10-S1")
    yield Job(
        "plan", f"plan {len(lower)} screws from T10 to S1 on a twin just loaded, with alternatives and the ways out",
        Side("propose_construct", lambda: propose_construct(loaded(twin, lower), lower)), None, judge, rounds=3,
        no_peer=NO_PEER,
    )  # fmt: skip


def loaded(twin: Twin, asked: list[tuple[str, SideName]]) -> Twin:
    """The same twin with surfaces that nothing was measured on yet."""
    names = {bone for bone, _ in asked}
    surfaces = {name: twin.bone(name).surface for name in names}
    bones = {n: Bone(n, TriangleMesh[Patient](s.vertices_mm, s.triangles)) for n, s in surfaces.items()}
    return replace(twin, bones=bones)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Run as many patients as asked, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=_range, default=range(0), metavar="A-B", help="seeds planned from surfaces")
    parser.add_argument("--ct", type=_range, default=range(0), metavar="A-B", help="seeds planned from a CT's twin")
    asked = parser.parse_args()
    for source, seeds in (("surfaces", asked.surfaces), ("ct", asked.ct)):
        every: list[Trial] = []
        for seed in seeds:
            found, took = trials(seed, source)
            every += found
            print(json.dumps({"source": source, "seed": seed, **took, **summed(found)}), flush=True)
        if every:
            sums = summed(every)
            print(json.dumps({"source": source, "seeds": len(seeds), **sums}), file=sys.stdout, flush=True)
            sys.stderr.write(words(sums) + "\n")


if __name__ == "__main__":
    main()
