"""A cut that is only drawn, against the picture of the mesh that was really cut, and against rays on a ball."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from render.cut_away import CUT_BONE, MOST_PLANES, CutAway
from render.offscreen import Offscreen
from render.scene import BadScene, Light, Material, MeshPart, Scene
from render.view import View
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Points, Rigid, Similarity, rotation_exp
from spatial.shapes import Plane
from tests.render.shapes import box, icosphere, quad
from twin.plan.cuts.cut import cut_wedge

BONE = Material((0.89, 0.85, 0.76))
VIEWS: dict[str, View[Patient]] = {
    "near": View.looking((0, 0, 0), (95.0, 120.0, 70.0), (0, 0, 1), 320, 240),
    "behind": View.looking((0, 0, 0), (-60.0, 150.0, -40.0), (0, 0, 1), 320, 240),
    "along": View.looking((0, 0, 0), (170.0, 3.0, 2.0), (0, 0, 1), 320, 240),
    "parallel": View.parallel((0, 0, 0), (100.0, 120.0, 80.0), (0, 0, 1), 320, 240, span_mm=120.0),
}
HINGE = np.array([0.0, -14.0, 2.0])
UPPER, LOWER = (Plane[Patient](HINGE, rotation_exp([s * 0.3, 0.0, 0.0]) @ [0.1, 0.1, 1.0]) for s in (1.0, -1.0))
MIDDLE = Plane[Patient](HINGE, UPPER.normal + LOWER.normal)
WEDGE = (UPPER.flipped(), LOWER)


def ring() -> TriangleMesh[Any]:
    """A closed ring of boxes' worth of corners: behind a cut of it there is air, and then bone again."""
    a = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    b = np.linspace(0, 2 * np.pi, 24, endpoint=False)[None, :]
    r = 30.0 + 12.0 * np.cos(b)
    points = np.stack([12.0 * np.sin(b) + 0 * a, r * np.cos(a), r * np.sin(a)], axis=-1).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(60), np.arange(24), indexing="ij"))
    right, up, here = (i + 1) % 60 * 24, (j + 1) % 24, i * 24
    faces = [np.stack([here + j, right + j, right + up], 1), np.stack([here + j, right + up, here + up], 1)]
    mesh = TriangleMesh[Any](points, np.concatenate(faces).astype(np.int32))
    return mesh if mesh.volume_ml > 0 else TriangleMesh(points, mesh.triangles[:, ::-1])


SHAPES = {"ring": ring(), "ball": icosphere(36.0, 4), "box": box(np.array([30.0, 34.0, 28.0]))}


FLAT = Light(key=0.0, sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), occlusion=0.0)
INSIDE = replace(BONE, rgb=CUT_BONE)


def scene(*parts: MeshPart[Patient], light: Light = FLAT) -> Scene[Patient]:
    return Scene(parts, light=light, background_rgb=(0, 0, 0), background_top_rgb=None)


def really_cut(mesh: TriangleMesh[Any], shows: str) -> tuple[MeshPart[Patient], ...]:
    """The pieces, their cut faces as parts of their own."""
    pieces = cut_wedge(mesh, UPPER, LOWER, MIDDLE)
    parts = []
    for piece in (pieces.moving, pieces.staying, pieces.loose) if shows == "rest" else (pieces.wedge,):
        corners = Points[Patient](piece.vertices_mm[piece.triangles])
        on = [(np.abs(p.signed_distance_mm(corners)) < 1e-6).all(axis=1) for p in (UPPER, LOWER, MIDDLE)]
        is_face = np.logical_or.reduce(on)
        for rows, material in ((~is_face, BONE), (is_face, INSIDE)):
            if rows.any() and (shows == "rest" or material is BONE):
                parts.append(
                    MeshPart[Patient]("piece", TriangleMesh(piece.vertices_mm, piece.triangles[rows]), None, material)
                )
    return tuple(parts)


def differing(one: NDArray[np.uint8], other: NDArray[np.uint8], more_than: int, whole: NDArray[np.bool_]) -> float:
    """Pixels that differ by more than so many levels, as a share of those that the whole mesh covers."""
    return float((np.abs(one.astype(int) - other).max(axis=2) > more_than).sum() / whole.sum())


@pytest.fixture(scope="module")
def live(graphics: None) -> Any:
    with Offscreen(occlusion=False) as target:
        yield target


@pytest.mark.parametrize("shows", ["rest", "taken"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
def test_it_looks_like_the_mesh_that_was_cut(live: Offscreen, view: str, name: str, shows: Any) -> None:
    """Pieces, gap and cut faces, each in its colour, lie where they lie in the picture of the pieces."""
    mesh = SHAPES[name]
    drawn = MeshPart[Patient]("bone", mesh, None, BONE, cut_away=CutAway(WEDGE, shows))
    ours = live.picture(scene(drawn), VIEWS[view])
    real = live.picture(scene(*really_cut(mesh, shows)), VIEWS[view])
    whole = live.mask(scene(MeshPart[Patient]("bone", mesh)), VIEWS[view])
    assert ours.any(axis=2).sum() > 0.02 * whole.sum()
    assert differing(ours, real, 8, whole) < 0.004, "edges alone"
    assert differing(ours, real, 100, whole) < 0.0015


@pytest.mark.parametrize("view", VIEWS)
def test_the_cut_face_is_where_the_ray_meets_the_plane(live: Offscreen, view: str) -> None:
    """A finely made ball, opened by one plane, in a pose with a scale: each pixel's depth is the ray's closed form."""
    radius_mm, pose = 24.0, Similarity[Patient, Any](rotation_exp([0.4, -0.2, 0.3]), np.array([3.0, -2.0, 1.0]), 1.4)
    plane = Plane[Any](np.array([2.0, 1.0, 3.0]), rotation_exp([0.3, 0.1, 0.0]) @ [0.5, 1.0, 0.3])
    seen = VIEWS[view]
    part = MeshPart("ball", icosphere(radius_mm, 5), pose, BONE, cut_away=CutAway((plane,)))
    depth_mm = live.depth_mm(scene(part), seen)
    expected_mm = ray_depths_mm(seen, pose, radius_mm, plane)
    inner = np.isfinite(depth_mm) & np.isfinite(expected_mm)
    assert (np.isfinite(depth_mm) != np.isfinite(expected_mm)).sum() < 0.01 * inner.sum()
    off_mm = np.abs(depth_mm - expected_mm)[inner]
    assert np.quantile(off_mm, 0.98) < 0.05, "the sagging of the ball's flat triangles"
    assert np.median(off_mm) < 0.02


def ray_depths_mm(view: View[Patient], pose: Similarity[Patient, Any], radius_mm: float, plane: Plane[Any]) -> Any:
    """Depth of the opened ball at each pixel by its ray: the ball's near side, or the plane where that is taken."""
    rows, columns = np.mgrid[0 : view.height_px, 0 : view.width_px] + 0.5
    x, y = columns / view.width_px * 2 - 1, 1 - rows / view.height_px * 2
    eye_from_ndc = np.linalg.inv(view.projection)
    near, far = (np.stack([x, y, z + 0 * x, 1 + 0 * x], -1) @ eye_from_ndc.T for z in (-1, 1))
    near, far = near[..., :3] / near[..., 3:], far[..., :3] / far[..., 3:]
    own_from_eye = np.linalg.inv(view.eye_from_world.matrix() @ pose.matrix())
    start, stop = (p @ own_from_eye[:3, :3].T + own_from_eye[:3, 3] for p in (near, far))
    way = stop - start
    a, b, c = (way**2).sum(-1), (start * way).sum(-1), (start**2).sum(-1) - radius_mm**2
    root = np.sqrt(np.where(b**2 - a * c > 0, b**2 - a * c, np.nan))
    enters, leaves = (-b - root) / a, (-b + root) / a
    change = way @ plane.normal
    crosses = -((start - plane.point_mm) @ plane.normal) / change
    # taken: the positive side. A ray against the normal comes out of it at the plane, one along it goes in there.
    first = np.where(change < 0, np.maximum(enters, crosses), enters)
    is_there = np.where(change < 0, first < leaves, enters < crosses)
    return np.where(is_there, -(near + first[..., None] * (far - near))[..., 2], np.nan)


def test_the_face_is_lit_as_a_face(live: Offscreen) -> None:
    """A ball's flat face under a key light has one colour all over, that of a wall with the same normal."""
    plane = Plane[Patient](np.zeros(3), np.array([0.3, 1.0, 0.4]))
    light = Light(toward_key=np.array([0.3, 0.5, 0.8]), occlusion=0.0)
    view = VIEWS["parallel"]
    ball = replace(BONE, shine=0.0)
    drawn = live.picture(
        scene(MeshPart("ball", SHAPES["ball"], None, ball, cut_away=CutAway((plane,))), light=light), view
    )
    across = np.linalg.svd(plane.normal[None])[2][1:]
    wall = quad(20.0 * (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) @ across))
    real = live.picture(
        scene(MeshPart("wall", wall, None, replace(INSIDE, shine=0.0, two_sided=True)), light=light), view
    )
    on_wall = real.any(axis=2)
    assert on_wall.sum() > 2000
    assert np.median(np.abs(drawn.astype(int) - real).max(axis=2)[on_wall]) <= 1


@pytest.mark.parametrize("mode", ["translucent", "xray"])
def test_see_through_parts_are_opened_too(live: Offscreen, mode: Any) -> None:
    material = Material((0.9, 0.3, 0.3), 0.5, mode)
    view = VIEWS["near"]
    whole, rest, taken = (
        live.picture(scene(MeshPart("bone", SHAPES["ring"], None, material, cut_away=cut)), view).astype(int)
        for cut in (None, CutAway(WEDGE), CutAway(WEDGE, "taken"))
    )
    apart = (rest.max(axis=2) == 0) & (taken.max(axis=2) > 0)
    assert apart.sum() > 300
    assert np.abs(taken - whole)[apart].max(axis=1).mean() < 12
    assert ((taken.max(axis=2) == 0) & (rest.max(axis=2) > 0)).sum() > 3000


def test_a_cut_that_moves_uploads_nothing(live: Offscreen) -> None:
    """Frame after frame with other planes: the mesh stays the one that is on the GPU, and no buffer is made."""
    import moderngl

    mesh, made = SHAPES["ring"], []
    before = live.picture(scene(MeshPart("bone", mesh, None, BONE)), VIEWS["near"])
    count = live.painter.mesh_count
    with pytest.MonkeyPatch.context() as patch:
        live.picture(scene(MeshPart("bone", mesh, None, BONE, cut_away=CutAway(WEDGE))), VIEWS["near"])
        for name in ("buffer", "texture", "framebuffer", "vertex_array"):
            patch.setattr(moderngl.Context, name, lambda self, *args, name=name, **more: made.append(name))
        pictures = [
            live.picture(scene(MeshPart("bone", mesh, None, BONE, cut_away=CutAway((plane,)))), VIEWS["near"])
            for plane in (Plane[Patient](np.array([0.0, 0.0, z]), np.array([0.0, 0.0, 1.0])) for z in (-9.0, 0.0, 9.0))
        ]
    assert not made
    assert live.painter.mesh_count == count
    covered = [int(picture.any(axis=2).sum()) for picture in pictures]
    assert covered == sorted(covered)
    assert covered[0] < covered[-1] < before.any(axis=2).sum()
    with live.context:
        assert live.context.error == "GL_NO_ERROR"


@pytest.mark.parametrize("samples", [0, 4])
def test_part_indices_follow_the_cut(samples: int, live: Offscreen) -> None:
    """One sample a pixel: the pixels of the opened part are those of its pieces; what stands behind shows."""
    back = MeshPart[Patient]("back", box(np.array([60.0, 2.0, 60.0])), Rigid.exp((0, 0, 0), (0.0, -60.0, 0.0)))
    opened = MeshPart[Patient]("bone", SHAPES["ring"], None, BONE, cut_away=CutAway(WEDGE))
    with Offscreen(samples=samples, occlusion=False) as target:
        ours = target.part_indices(scene(back, opened), VIEWS["near"])
        real = target.part_indices(scene(back, *really_cut(SHAPES["ring"], "rest")), VIEWS["near"])
    real = np.minimum(real, 1)
    assert (real == 0).sum() > 1000
    assert (ours != real).sum() < 0.002 * (real == 1).sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda: CutAway(()),
        lambda: CutAway((UPPER,) * (MOST_PLANES + 1)),
        lambda: CutAway((UPPER,), "wedge"),  # type: ignore[arg-type]  # a wrong name is what is tested
        lambda: CutAway((UPPER,), face_rgb=(255, 0, 0)),
    ],
)
def test_what_can_not_be_cut_away_is_refused(make: Any) -> None:
    with pytest.raises(BadScene):
        make()
