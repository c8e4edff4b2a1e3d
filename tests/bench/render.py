"""Pictures without a window. The peer draws in a process of its own: without graphics it may take its process down."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.cut_away import CutAway
from render.offscreen import Offscreen
from render.scene import MeshPart, Scene
from render.view import View
from spatial.frames import Camera
from spatial.mesh import TriangleMesh
from spatial.pinhole import Pinhole
from spatial.rigid import Rigid
from spatial.shapes import Plane
from tests.bench.measure import Job, Judgement, Side
from twin.plan.cuts.cut import cut_wedge

AROUND, ACROSS = 500, 300  # 300 thousand triangles
LENS = Pinhole(1920, 1080, 1650.0, 1650.0, 959.5, 539.5, ())
AWAY_MM = 420.0
START_S = 60.0


class NoPeer(Exception):
    """Open3D can't draw on this machine; says why."""


def jobs() -> Iterator[Job]:
    """The room's jobs."""
    mesh = torus()
    scene: Scene[Camera] = Scene((MeshPart("torus", mesh),))
    view = View[Camera].from_pinhole(LENS, Rigid[Camera, Camera].identity())
    what = f"picture of {len(mesh.triangles) // 1000}k triangles, 1920 x 1080, read back"
    with Offscreen(occlusion=False) as smooth, Offscreen(samples=0, occlusion=False) as live, Offscreen() as full:

        def judge(picture: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> Judgement:
            mask = smooth.mask(scene, view)
            if other is None:
                seen = float(mask.mean())
                return Judgement(0.1 < seen < 0.9, f"covers {seen:.0%} of the picture", {"covered": seen})
            theirs = (np.abs(other.astype(int) - other[0, 0]) > 12).any(axis=2)  # the corner shows the background
            both = float((mask & theirs).sum() / (mask | theirs).sum())
            return Judgement(both > 0.99, f"outlines agree to {both:.2%} (intersection over union)", {"iou": both})

        ours = Side("Offscreen, 4 samples", lambda: smooth.picture(scene, view))
        try:
            with open3d_painter(mesh) as draw:
                yield Job("render", what, ours, Side("Open3D OffscreenRenderer", draw), judge, rounds=3)
        except NoPeer as reason:
            yield Job("render", what, ours, None, judge, rounds=3, no_peer=f"Open3D draws nothing here: {reason}")
        for name, target in (
            ("Offscreen, live (1 sample)", live),
            ("Offscreen, still (4 samples, crevices dark)", full),
        ):
            yield Job(
                "render", what, Side(name, lambda target=target: target.picture(scene, view)), None,
                lambda picture, _: judge(picture, None), rounds=3, no_peer="another setting of ours",
            )  # fmt: skip
        yield preview_job(mesh, live, view)


def preview_job(mesh: TriangleMesh[Any], target: Offscreen, view: View[Camera]) -> Job:
    """A wedge held before the cut: drawn by the shader, against cutting the mesh and sending the pieces each frame."""
    middle_mm = mesh.centroid_mm
    turns = [Rigid[Any, Any].exp((0.0, 0.0, s * 0.25)).rotation for s in (1.0, -1.0)]
    upper, lower = (Plane[Any](middle_mm, turn @ [0.2, 1.0, 0.1]) for turn in turns)
    bisector = Plane[Any](middle_mm, upper.normal + lower.normal)
    whole: Scene[Camera] = Scene((MeshPart("torus", mesh),))
    opened: Scene[Camera] = Scene((MeshPart("torus", mesh, cut_away=CutAway((upper.flipped(), lower))),))

    def anew() -> Scene[Camera]:
        pieces = cut_wedge(mesh, upper, lower, bisector)
        shown = (pieces.moving, pieces.staying, pieces.loose)
        return Scene(tuple(MeshPart("piece", piece) for piece in shown if len(piece.triangles)))

    def judge(_: NDArray[np.uint8], __: NDArray[np.uint8] | None) -> Judgement:
        ours, theirs = target.mask(opened, view), target.mask(anew(), view)
        both = float((ours & theirs).sum() / (ours | theirs).sum())
        taken = 1.0 - float(ours.sum()) / float(target.mask(whole, view).sum())
        cost = _cost_ratio(lambda: target.picture(opened, view), lambda: target.picture(whole, view))
        return Judgement(
            both > 0.99 and taken > 0.02,
            f"outlines agree to {both:.2%} (intersection over union), {taken:.0%} of the whole's are taken; a frame "
            f"costs {cost:.2f} times that of the uncut mesh",
            {"iou": both, "taken": taken, "clipped_to_whole": cost},
        )

    return Job(
        "render",
        f"frame while a wedge is held in {len(mesh.triangles) // 1000}k triangles, 1920 x 1080, 1 sample, read back",
        Side("planes in the shader", lambda: target.picture(opened, view)),
        Side("cut anew each frame (cut_wedge) and sent", lambda: target.picture(anew(), view)),
        judge,
        rounds=3,
    )


def _cost_ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int = 5) -> float:
    """How much dearer one is, by processor time, in turn."""
    ratios = []
    for _ in range(rounds):
        marks = [time.process_time()]
        for draw in (one, other):
            draw()
            marks.append(time.process_time())
        ratios.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
    return median(ratios)


def torus(radius_mm: float = 80.0, tube_mm: float = 35.0) -> TriangleMesh[Any]:
    """A closed tilted ring before the camera."""
    a = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)[:, None]
    b = np.linspace(0, 2 * np.pi, ACROSS, endpoint=False)[None, :]
    r = radius_mm + tube_mm * np.cos(b)
    points = np.stack([r * np.cos(a), r * np.sin(a), tube_mm * np.sin(b) + 0 * a], axis=-1).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(AROUND), np.arange(ACROSS), indexing="ij"))
    right, up = (i + 1) % AROUND * ACROSS, (j + 1) % ACROSS
    here = i * ACROSS
    faces = np.concatenate(
        [np.stack([here + j, right + j, right + up], 1), np.stack([here + j, right + up, here + up], 1)]
    )
    tilt = Rigid[Any, Any].exp((0.9, 0.3, 0.0), (10.0, -5.0, AWAY_MM))
    return TriangleMesh[Any](points, faces.astype(np.int32)).moved(tilt)


@contextmanager
def open3d_painter(mesh: TriangleMesh[Any]) -> Iterator[Any]:
    """A callable that lets Open3D draw the mesh and returns the picture. Raises NoPeer."""
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(far, mesh.vertices_mm, mesh.triangles), daemon=True)
    process.start()
    far.close()

    def draw() -> NDArray[np.uint8]:
        near.send("draw")
        return np.asarray(near.recv())

    try:
        try:
            if not near.poll(START_S):
                raise NoPeer(f"no answer in {START_S:.0f} s")
            near.recv()
            draw()
        except (EOFError, OSError) as error:
            raise NoPeer("its process ended") from error
        yield draw
        near.send("end")
        process.join(5)
    finally:
        if process.is_alive():
            process.terminate()


def _serve(pipe: Connection, vertices_mm: Any, triangles: Any) -> None:
    import open3d as o3d

    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices_mm), o3d.utility.Vector3iVector(triangles))
    mesh.compute_vertex_normals()
    renderer = o3d.visualization.rendering.OffscreenRenderer(LENS.width_px, LENS.height_px)
    renderer.scene.set_background([1.0, 1.0, 1.0, 1.0])
    material = o3d.visualization.rendering.MaterialRecord()
    material.shader = "defaultLit"
    material.base_color = [0.6, 0.5, 0.4, 1.0]
    renderer.scene.add_geometry("torus", mesh, material)
    matrix = np.array([[LENS.fx_px, 0, LENS.cx_px + 0.5], [0, LENS.fy_px, LENS.cy_px + 0.5], [0, 0, 1]])
    renderer.setup_camera(matrix, np.eye(4), LENS.width_px, LENS.height_px)
    pipe.send("ready")
    while pipe.recv() == "draw":
        pipe.send(np.asarray(renderer.render_to_image()))
