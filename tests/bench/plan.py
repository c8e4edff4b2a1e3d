"""Distances, rays and grades; cuts and measures have files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import open3d as o3d

from spatial.distance import DistanceGrid
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from tests.bench import plan_auto, plan_cuts, plan_measure, plan_screws
from tests.bench.measure import Job, Judgement, Side
from tests.bench.patient import BONE, as_open3d, plan, twin
from twin.plan.screws.grade import ScrewGrade, grade_screw

POINTS, RAYS = 20_000, 100_000
NEAR_MM = 1.0  # beyond it the grid is no longer exact, see the words of the job


def jobs() -> Iterator[Job]:
    """The room's jobs."""
    mesh = twin().bone(BONE).surface
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(as_open3d(mesh)))
    yield building(mesh, scene)
    grid = DistanceGrid[Patient].from_mesh(mesh)
    yield lookup(mesh, scene, grid)
    yield rays(mesh, scene, grid)
    yield grading()
    yield from plan_screws.jobs()
    yield from plan_auto.jobs()
    yield from plan_cuts.jobs()
    yield from plan_measure.jobs()


def building(mesh: TriangleMesh[Patient], scene: Any) -> Job:
    """The grid that screws are graded on; the peer is asked at its nodes near the bone only, where ours is exact."""
    like = DistanceGrid[Patient].from_mesh(mesh)

    def true(index: Any) -> tuple[Any, Any]:
        points = o3d.core.Tensor((like.origin_mm + like.spacing_mm * index).astype(np.float32))
        return points, scene.compute_signed_distance(points).numpy()

    rows = np.argwhere(np.abs(like.values_mm) < NEAR_MM + 1.0)
    rows = rows[np.abs(true(rows)[1]) < NEAR_MM]  # near by the peer's word, not ours
    nodes, _ = true(rows)
    some = np.random.default_rng(4).integers(0, like.values_mm.shape, (60_000, 3))
    there = true(some)[1]
    beyond = np.abs(like.values_mm[tuple(some.T)] - there)
    middle = float(beyond[(np.abs(there) > NEAR_MM) & (np.abs(there) < 5.0)].max())
    far = float(beyond[np.abs(there) >= 5.0].max())

    def judge(ours: DistanceGrid[Patient], peer: Any) -> Judgement:
        off = np.abs(ours.values_mm[tuple(rows.T)] - peer)
        figures = {"mean_mm": float(off.mean()), "max_mm": float(off.max())}
        figures |= {"from_1_to_5_mm_max_mm": middle, "beyond_5_mm_max_mm": far}
        words = (
            f"{len(rows) // 1000}k nodes within {NEAR_MM:.0f} mm of the bone differ by {off.mean():.5f} mm (mean), "
            f"{off.max():.3f} at most; not compared: those up to 5 mm differ by up to {middle:.2f} mm, others {far:.2f}"
        )
        return Judgement(bool(off.mean() < 1e-3 and off.max() < 0.1), words, figures)

    return Job(
        "plan", f"signed distance grid at {like.spacing_mm} mm of {len(mesh.triangles) // 1000}k triangles",
        Side("DistanceGrid.from_mesh (all nodes)", lambda: DistanceGrid[Patient].from_mesh(mesh)),
        Side("open3d RaycastingScene (near nodes)", lambda: scene.compute_signed_distance(nodes).numpy()),
        judge, rounds=3,
    )  # fmt: skip


def lookup(mesh: TriangleMesh[Patient], scene: Any, grid: DistanceGrid[Patient]) -> Job:
    """Signed distances of points near the surface, as drills and screws ask them, from a grid that exists."""
    rng = np.random.default_rng(2)
    rows = rng.integers(0, len(mesh.vertices_mm), POINTS)
    points = Points[Patient](mesh.vertices_mm[rows] + rng.uniform(-3.0, 3.0, (POINTS, 3)))
    single = o3d.core.Tensor(points.mm.astype(np.float32))

    def judge(ours: Any, peer: Any) -> Judgement:
        off = np.abs(ours - peer)
        most = float(np.quantile(off, 0.99))
        figures = {"mean_mm": float(off.mean()), "p99_mm": most, "max_mm": float(off.max())}
        words = f"differ by {off.mean():.4f} mm on average (99 %: {most:.3f}, at most {off.max():.2f})"
        return Judgement(bool(off.mean() < 0.01 and most < 0.1), words, figures)

    return Job(
        "plan", f"signed distance of {POINTS // 1000}k points within 5 mm",
        Side("DistanceGrid.distance_mm, 0.5 mm", lambda: grid.distance_mm(points)),
        Side("open3d RaycastingScene (exact)", lambda: scene.compute_signed_distance(single).numpy()), judge, rounds=3,
    )  # fmt: skip


def rays(mesh: TriangleMesh[Patient], scene: Any, grid: DistanceGrid[Patient]) -> Job:
    """First crossings of rays from around the bone."""
    rng = np.random.default_rng(3)
    low, high = mesh.bounds_mm
    way = rng.normal(size=(RAYS, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    start = rng.uniform(low, high, (RAYS, 3)) - 130.0 * way
    origins, directions = Points[Patient](start), Directions[Patient](way)
    both = o3d.core.Tensor(np.hstack([start, way]).astype(np.float32))

    def judge(ours: Any, peer: Any) -> Judgement:
        hit = np.isfinite(ours) & np.isfinite(peer)
        same = float((np.isfinite(ours) == np.isfinite(peer)).mean())
        off = np.abs(ours[hit] - peer[hit])
        near = float((off < 0.1).mean())
        words = f"hit or miss equal for {same:.2%}, of the hits {near:.2%} within 0.1 mm (median {np.median(off):.3f})"
        figures = {"same_hit": same, "within_0.1_mm": near, "median_mm": float(np.median(off))}
        return Judgement(same > 0.99 and near > 0.97, words, figures)

    return Job(
        "plan", f"first hit of {RAYS // 1000}k rays",
        Side("DistanceGrid.trace", lambda: grid.trace(origins, directions)),
        Side("open3d RaycastingScene (Embree)", lambda: scene.cast_rays(both)["t_hit"].numpy()), judge,
    )  # fmt: skip


def grading() -> Job:
    """A screw's grade with all margins; the grids exist."""
    screws = list(plan().screws.values())

    def judge(ours: list[ScrewGrade], _: None) -> Judgement:
        grades = "".join(grade.grade for grade in ours)
        return Judgement(grades == "AAAA", f"grades {grades} along the true pedicles")

    return Job(
        "plan", f"grade {len(screws)} screws", Side("grade_screw", lambda: [grade_screw(twin(), s) for s in screws]),
        None, judge, no_peer="no open library grades screws",
    )  # fmt: skip
