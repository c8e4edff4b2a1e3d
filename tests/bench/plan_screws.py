"""Screws graded: one live, a hundred thousand at once, held against rays on the mesh and on the analytic bone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.rigid import Points
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import BONE, as_open3d, plan, twin
from tests.twin.plan.phantom_twin import phantom
from twin.anatomy.local_frame import bone_frame
from twin.anatomy.structure import MEASURED, Structure
from twin.anatomy.twin import Twin
from twin.plan.screws.batch import Candidates, Graded, Pedicle
from twin.plan.screws.grade import ScrewGrade, grade_screw

MANY, CHECKED, SHARED, ANALYTIC = 100_000, 10_000, 2_000, 60
STATIONS, ANGLES = 25, 120
SAMPLES = (10, 10)  # of the peer: places along the neck, and around it
SIDE = "left"
NEAR_MM = 0.1  # of a border between grades
REACH_MM = 25.0


def jobs() -> Iterator[Job]:
    """Live, shared with the peer, and by the hundred thousand."""
    yield live()
    pedicle = Pedicle.of(twin(), BONE, SIDE)
    yield shared(pedicle)
    yield many_safe(pedicle)
    yield many_graded(pedicle)


@cache
def candidates(count: int = MANY) -> Candidates:
    """Random screws about a pedicle: 3 mm and 9 degrees (one sigma) off, usual sizes."""
    rng = np.random.default_rng(11)
    neck = twin().landmark(f"pedicle_{SIDE}", BONE)
    assert neck.direction is not None
    ways = neck.direction.unit + rng.normal(0.0, 0.15, (MANY, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    entries = neck.position.mm + rng.normal(0.0, 3.0, (MANY, 3)) - rng.uniform(12, 18, (MANY, 1)) * ways
    sizes = rng.choice([4.5, 5.5, 6.5, 7.5], MANY), rng.choice([30.0, 35.0, 40.0, 45.0, 50.0], MANY)
    return Candidates(entries[:count], ways[:count], sizes[0][:count], sizes[1][:count])


def scene() -> Any:
    """Open3D's ray casting on the vertebra."""
    found = o3d.t.geometry.RaycastingScene()
    found.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(as_open3d(twin().bone(BONE).surface)))
    return found


def live() -> Job:
    """One screw with margins, whole-screw breaches, and a structure beside it: what every frame of a drag asks."""
    beside = Structure("neighbour", "critical", twin().bone("vertebrae_L1").surface, MEASURED)
    near: Twin = replace(twin(), structures={"neighbour": beside})
    screw = plan().screws["L2-left"]

    def judge(ours: ScrewGrade, _: None) -> Judgement:
        return Judgement(ours.grade == "A" and bool(ours.clearances), f"grade {ours.grade} along the true pedicle")

    return Job(
        "plan", "grade one screw live, with a structure", Side("grade_screw", lambda: grade_screw(near, screw)),
        None, judge, no_peer="no open library grades screws",
    )  # fmt: skip


def shared(pedicle: Pedicle) -> Job:
    """The peer asks 100 signed distances a screw, over the thread in the pedicle; on as many as it does in seconds."""
    screws, asked = candidates(SHARED), scene()
    points = o3d.core.Tensor(_thread(pedicle, screws).astype(np.float32))

    def peer() -> NDArray[np.bool_]:
        outside = asked.compute_signed_distance(points).numpy().reshape(len(screws), -1) > 0.0
        return np.asarray(~outside.any(axis=1))

    def judge(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Judgement:
        same = float((ours == theirs).mean())
        worse = int((ours & ~theirs).sum())
        words = f"the same answer for {same:.2%} (100 samples miss some breaches), {worse} safe by ours alone"
        return Judgement(same > 0.95 and worse <= 0.002 * len(ours), words, {"same": same, "safe_by_ours_alone": worse})

    return Job(
        "plan", f"{SHARED} random screws: safe or not",
        Side("Pedicle.safe", lambda: pedicle.safe(screws, keep_ahead_mm=-1e6)),
        Side("open3d signed distance, 100 samples a screw", peer), judge, rounds=3,
    )  # fmt: skip


def many_safe(pedicle: Pedicle) -> Job:
    """The same question for all of them."""
    screws = candidates()

    def judge(ours: NDArray[np.bool_], _: None) -> Judgement:
        graded = pedicle.grade(screws)
        clear = np.abs(graded.margin_mm) > NEAR_MM
        clear &= np.abs(graded.anterior_mm - 2.0) > 0.01
        same = ours == ((graded.margin_mm >= 0.0) & (graded.anterior_mm >= 2.0))
        words = f"{ours.mean():.1%} safe; as graded wherever the margin is not within {NEAR_MM} mm of nothing"
        return Judgement(bool(same[clear].all()), words, {"safe": float(ours.mean())})

    return Job(
        "plan", f"{MANY // 1000}k random screws: safe or not", Side("Pedicle.safe", lambda: pedicle.safe(screws)),
        None, judge, no_peer=f"it would take {MANY // SHARED} times as long as for {SHARED}, see there",
    )  # fmt: skip


def many_graded(pedicle: Pedicle) -> Job:
    """Grade, depth and direction of all; the first 10,000 held against rays on the mesh, some against the true bone."""
    screws = candidates()

    def judge(ours: Graded, _: None) -> Judgement:
        brute = brute_margins(pedicle, candidates(CHECKED))
        off = np.abs(ours.margin_mm[:CHECKED] - brute)
        near = np.min([np.abs(-brute - border) for border in (0.0, 2.0, 4.0, 6.0)], axis=0) < NEAR_MM
        letters = Graded(brute, ours.wall[:CHECKED], ours.anterior_mm[:CHECKED]).grades
        wrong = int((letters != ours.grades[:CHECKED])[~near].sum())
        true = analytic_errors(pedicle, ours)
        figures = {
            "other_grade": float(wrong), "near_a_border": float(near.sum()), "depth_max_mm": float(off.max()),
            "depth_p99_mm": float(np.quantile(off, 0.99)), "analytic_max_mm": float(true.max()),
        }  # fmt: skip
        words = (
            f"{CHECKED} against rays on the mesh: {wrong} with another grade, {int(near.sum())} within {NEAR_MM} mm of "
            f"a border apart; margins differ by {off.max():.3f} mm at most (99 %: {np.quantile(off, 0.99):.3f}); "
            f"{len(true)} against the analytic bone: {true.max():.3f} mm at most"
        )
        return Judgement(wrong == 0 and float(off.max()) < 0.1, words, figures)

    return Job(
        "plan", f"{MANY // 1000}k random screws: grade, depth, direction",
        Side("Pedicle.grade", lambda: pedicle.grade(screws)), None, judge, rounds=3,
        no_peer="no open library grades screws; Open3D's signed distances of them are in the row before",
    )  # fmt: skip


def _across(pedicle: Pedicle, ways: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medial and superior (N, 3), by the frame's own axes and none of the code under test."""
    right, _, cranial = bone_frame(twin(), BONE).rotation.T
    up = cranial - (ways @ cranial)[:, None] * ways
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    medial = np.cross(ways, up)
    medial *= np.sign(medial @ (right if SIDE == "left" else -right))[:, None]
    return medial, up


def _spans(pedicle: Pedicle, screws: Candidates, count: int) -> NDArray[np.float64]:
    """Places (N, count) from the entry along each screw's part of the pedicle's window."""
    place = ((pedicle.isthmus_mm - screws.entries_mm) * screws.ways).sum(axis=1)
    first, last = np.maximum(-6.0, -place), np.minimum(6.0, screws.lengths_mm - place)
    none = first >= last
    first[none], last[none] = -6.0, 6.0
    return np.asarray(place[:, None] + first[:, None] + (last - first)[:, None] * np.linspace(0.0, 1.0, count))


def _thread(pedicle: Pedicle, screws: Candidates) -> NDArray[np.float64]:
    """Points (N * 100, 3) over each screw's thread in the pedicle."""
    along = _spans(pedicle, screws, SAMPLES[0])
    medial, up = _across(pedicle, screws.ways)
    angle = 2.0 * np.pi * np.arange(SAMPLES[1]) / SAMPLES[1]
    ring = np.cos(angle)[:, None] * medial[:, None] + np.sin(angle)[:, None] * up[:, None]
    middle = screws.entries_mm[:, None] + along[:, :, None] * screws.ways[:, None]
    points = middle[:, :, None] + 0.5 * screws.diameters_mm[:, None, None, None] * ring[:, None]
    return np.asarray(points.reshape(-1, 3))


def brute_margins(pedicle: Pedicle, screws: Candidates, chunk: int = 250) -> NDArray[np.float64]:
    """The smallest wall margin (N,) by all rays on the mesh; outside the bone minus the way back to it."""
    asked = scene()
    angle = 2.0 * np.pi * np.arange(ANGLES) / ANGLES
    out = []
    for start in range(0, len(screws), chunk):
        rows = slice(start, start + chunk)
        part = Candidates(
            screws.entries_mm[rows], screws.ways[rows], screws.diameters_mm[rows], screws.lengths_mm[rows]
        )
        medial, up = _across(pedicle, part.ways)
        fan = np.cos(angle)[:, None] * medial[:, None] + np.sin(angle)[:, None] * up[:, None]
        middle = part.entries_mm[:, None] + _spans(pedicle, part, STATIONS)[:, :, None] * part.ways[:, None]
        rays = np.empty((len(part), STATIONS, ANGLES, 6), np.float32)
        rays[..., :3], rays[..., 3:] = middle[:, :, None], fan[:, None]
        hit = asked.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy().min(axis=2)
        inside = asked.compute_signed_distance(o3d.core.Tensor(middle.astype(np.float32))).numpy() < 0.0
        away = asked.compute_distance(o3d.core.Tensor(middle.astype(np.float32))).numpy()
        back = np.where(hit < REACH_MM, hit, away)
        walls = np.where(inside, np.minimum(hit, REACH_MM), -back).min(axis=1)
        out.append(walls - part.diameters_mm / 2.0)
    return np.concatenate(out)


def analytic_errors(pedicle: Pedicle, ours: Graded) -> NDArray[np.float64]:
    """Errors (M,) of the margin against rays on the phantom's analytic surface, of screws whose axis stays inside."""
    screws = candidates(8 * ANALYTIC)
    axis = screws.entries_mm[:, None] + _spans(pedicle, screws, STATIONS)[:, :, None] * screws.ways[:, None]
    inside = np.flatnonzero(pedicle.grid.distance_mm(Points[Patient](axis)).max(axis=1) < -0.5)[:ANALYTIC]
    medial, up = _across(pedicle, screws.ways)
    angle = np.radians(np.arange(0.0, 360.0, 5.0))
    errors = []
    for n in inside:
        fan = np.cos(angle)[:, None] * medial[n] + np.sin(angle)[:, None] * up[n]
        origins = np.repeat(axis[n], len(angle), axis=0)
        walls = phantom().crossings(BONE, origins, np.tile(fan, (STATIONS, 1)), 60.0)
        errors.append(ours.margin_mm[n] - (float(walls.min()) - screws.diameters_mm[n] / 2.0))
    return np.abs(errors)
