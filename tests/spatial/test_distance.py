"""The distance grid against closed forms, brute force and Open3D."""

import gc
import weakref

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial.transform import Rotation

from spatial.distance import DistanceGrid, GridTooLarge, NotClosed
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points


def sphere(radius=20.0, resolution=80):
    mesh = o3d.geometry.TriangleMesh.create_sphere(radius, resolution)
    return TriangleMesh[Patient](np.asarray(mesh.vertices), np.asarray(mesh.triangles))


def bumpy(resolution=60):
    """A closed, not convex body of 90 x 90 x 45 mm."""
    mesh = sphere(30.0, resolution)
    x, y, z = mesh.vertices_mm.T
    swell = 1 + 0.15 * np.sin(4 * np.arctan2(y, x)) * (1 - (z / 30) ** 2) + 0.1 * np.cos(z / 6)
    return TriangleMesh[Patient](mesh.vertices_mm * swell[:, None] * [1.4, 1.4, 0.8], mesh.triangles)


def turned_box(half=(15.0, 10.0, 8.0)):
    """A box with sharp edges that no axis of the grid runs along, and its turn (world from box)."""
    mesh = o3d.geometry.TriangleMesh.create_box(*(2 * np.array(half))).translate(-np.array(half))
    turn = Rotation.from_euler("xyz", (20, 35, 50), degrees=True)
    return TriangleMesh[Patient](turn.apply(np.asarray(mesh.vertices)), np.asarray(mesh.triangles)), turn


def open3d_scene(mesh):
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(mesh.vertices_mm.astype(np.float32)), o3d.core.Tensor(mesh.triangles.astype(np.uint32))
    )
    return scene


def box_distance(points, half):
    q = np.abs(points) - half
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(axis=-1), 0)


@pytest.fixture(scope="module")
def bumpy_grid():
    mesh = bumpy()
    return mesh, DistanceGrid[Patient].from_mesh(mesh)


def test_near_the_surface_it_agrees_with_open3d_to_five_micrometres(bumpy_grid):
    mesh, grid = bumpy_grid
    rng = np.random.default_rng(1)
    points = mesh.vertices_mm[rng.integers(0, len(mesh.vertices_mm), 8000)] + rng.normal(0, 0.7, (8000, 3))
    truth = open3d_scene(mesh).compute_signed_distance(o3d.core.Tensor(points.astype(np.float32))).numpy()
    error = np.abs(grid.distance_mm(Points(points)) - truth)
    assert error.mean() <= 0.005
    assert error.max() <= 0.1


def test_far_from_the_surface_it_stays_a_distance(bumpy_grid):
    mesh, grid = bumpy_grid
    rng = np.random.default_rng(2)
    points = rng.uniform(*grid.bounds_mm, (8000, 3))
    truth = open3d_scene(mesh).compute_signed_distance(o3d.core.Tensor(points.astype(np.float32))).numpy()
    error = np.abs(grid.distance_mm(Points(points)) - truth)
    assert error.mean() <= 0.02
    assert np.quantile(error, 0.99) <= 0.12  # the rest lies on the medial axis, where a distance has a ridge


def test_the_inside_is_right_at_every_node(bumpy_grid):
    mesh, grid = bumpy_grid
    rng = np.random.default_rng(3)
    index = np.stack([rng.integers(0, n, 20000) for n in grid.values_mm.shape], axis=1)
    nodes = grid.origin_mm + index * grid.spacing_mm
    clear = np.abs(grid.values_mm[tuple(index.T)]) > 1e-3
    occupancy = open3d_scene(mesh).compute_occupancy(o3d.core.Tensor(nodes[clear].astype(np.float32))).numpy()
    assert np.array_equal(grid.values_mm[tuple(index.T)][clear] < 0, occupancy > 0.5)


def test_a_box_with_sharp_edges_in_closed_form():
    half = np.array([15.0, 10.0, 8.0])
    mesh, turn = turned_box(half)
    grid = DistanceGrid[Patient].from_mesh(mesh)
    rng = np.random.default_rng(4)
    points = rng.uniform(-18, 18, (20000, 3))
    truth = box_distance(turn.inv().apply(points), half)
    near = np.abs(truth) < 1
    error = np.abs(grid.distance_mm(Points(points)) - truth)
    assert error[near].mean() <= 0.01
    assert error[near].max() <= 0.2
    nodes = np.stack(np.meshgrid(*(np.arange(0, n, 7) for n in grid.values_mm.shape), indexing="ij"), -1).reshape(-1, 3)
    exact = box_distance(turn.inv().apply(grid.origin_mm + nodes * grid.spacing_mm), half)
    at_nodes = np.abs(grid.values_mm[tuple(nodes.T)] - exact)
    assert at_nodes[np.abs(exact) < 2.5].max() <= 1e-5
    assert at_nodes.max() <= 0.1


def test_gradient_is_the_outward_normal_of_a_sphere():
    grid = DistanceGrid[Patient].from_mesh(sphere())
    rng = np.random.default_rng(5)
    outward = Directions[Patient](rng.normal(size=(2000, 3))).unit
    gradient = grid.gradient(Points(outward * rng.uniform(17.5, 22.5, (2000, 1))))
    assert np.abs(np.linalg.norm(gradient, axis=1) - 1).max() <= 0.05
    off_deg = np.degrees(np.arccos(np.clip((gradient * outward).sum(axis=1), -1, 1)))
    assert off_deg.mean() <= 2  # the facets alone are 2.25 degrees wide
    assert off_deg.max() <= 8


def test_tracing_finds_the_first_crossing_from_inside_and_outside(bumpy_grid):
    mesh, grid = bumpy_grid
    rng = np.random.default_rng(6)
    directions = Directions[Patient](rng.normal(size=(4000, 3)))
    for starts in (rng.uniform(-8, 8, (4000, 3)), -120 * directions.unit + rng.uniform(-10, 10, (4000, 3))):
        way = grid.trace(Points(starts), directions)
        rays = o3d.core.Tensor(np.hstack([starts, directions.unit]).astype(np.float32))
        truth = open3d_scene(mesh).cast_rays(rays)["t_hit"].numpy()
        assert np.array_equal(np.isfinite(way), np.isfinite(truth))
        hit = np.isfinite(truth)
        error = np.abs(way - truth)[hit]
        assert np.median(error) <= 0.005
        assert np.quantile(error, 0.99) <= 0.05


def test_a_ray_that_misses_or_is_too_short_finds_nothing():
    grid = DistanceGrid[Patient].from_mesh(sphere(), 1.0)
    away = grid.trace(Points([0, 0, 40.0]), Directions([0, 0, 1.0]))
    past = grid.trace(Points([0, 0, 40.0]), Directions([1.0, 0, 0]))
    short = grid.trace(Points([0, 0, 0.0]), Directions([0, 0, 1.0]), max_mm=19.0)
    assert np.isinf([away, past, short]).all()
    assert grid.trace(Points([0, 0, 0.0]), Directions([0, 0, 1.0])) == pytest.approx(20, abs=0.05)


def test_outside_the_grid_the_value_is_an_upper_bound_and_continuous():
    grid = DistanceGrid[Patient].from_mesh(sphere(), 1.0)
    points = np.array([[0, 0, 60.0], [50, 50, 0], [26.9, 0, 0], [27.1, 0, 0]])
    value, truth = grid.distance_mm(Points(points)), np.linalg.norm(points, axis=1) - 20
    assert (value >= truth - 0.02).all()
    assert value[0] == pytest.approx(40, abs=0.05)
    assert abs(value[3] - value[2]) < 0.3


def test_many_points_on_all_cores_get_the_same_answers_as_few(bumpy_grid):
    _, grid = bumpy_grid
    rng = np.random.default_rng(8)
    points, ways = rng.uniform(-50, 50, (12_000, 3)), Directions[Patient](rng.normal(size=(12_000, 3)))
    assert np.array_equal(grid.distance_mm(Points(points))[:500], grid.distance_mm(Points(points[:500])))
    assert np.array_equal(grid.gradient(Points(points))[:500], grid.gradient(Points(points[:500])))
    few = grid.trace(Points(points[:500]), Directions(ways.unit[:500]))
    assert grid.trace(Points(points), ways)[:500] == pytest.approx(few, abs=1e-3)


def test_a_mesh_with_a_hole_has_no_inside_and_a_huge_one_is_refused():
    mesh = sphere(20.0, 20)
    with pytest.raises(NotClosed, match="holes"):
        DistanceGrid.from_mesh(TriangleMesh[Patient](mesh.vertices_mm, mesh.triangles[5:]))
    with pytest.raises(GridTooLarge, match="larger spacing"):
        DistanceGrid.from_mesh(mesh, 0.01)
    with pytest.raises(NotClosed, match="no triangles"):
        DistanceGrid.from_mesh(TriangleMesh[Patient](np.zeros((0, 3)), np.zeros((0, 3))))


def test_two_overlapping_bodies_are_one_inside():
    left, right = sphere(10.0, 30), sphere(10.0, 30)
    both = TriangleMesh[Patient](
        np.vstack([left.vertices_mm, right.vertices_mm + np.array([8, 0.3, 0.2])]),
        np.vstack([left.triangles, right.triangles + len(left.vertices_mm)]),
    )
    grid = DistanceGrid[Patient].from_mesh(both)
    assert (grid.distance_mm(Points(np.array([[4.0, 0, 0], [-8, 0, 0], [16, 0, 0]]))) < 0).all()


def test_the_shared_grid_lives_as_long_as_its_mesh():
    mesh = sphere(10.0, 20)
    grid = DistanceGrid[Patient].of(mesh)
    assert DistanceGrid[Patient].of(mesh) is grid
    watch = weakref.ref(grid)
    del mesh, grid
    gc.collect()
    assert watch() is None
