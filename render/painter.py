"""Draws a Scene through a View with OpenGL 3.3: backdrop, solids, see-through surfaces, lines, words; then resolves.

The context is passed in and must be current; the painter owns what it makes and gives it back in `release`.
"""

from __future__ import annotations

from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from render import strokes, words
from render.glyphs import GlyphAtlas
from render.mesh_store import MeshStore, StoredMesh
from render.scene import BadScene, Light, MeshPart, Rgb, Scene, View
from render.shaders import program
from render.streams import InstanceStream
from render.targets import Target
from spatial.rigid import Array, Similarity

_KEPT_SIZES = 6
_LIFT_MM = 0.15
_CLIP_DISTANCE = 0x3000  # OpenGL's CLIP_DISTANCE0, which moderngl has no name for
_Drawn = tuple[float, MeshPart[Any], StoredMesh]  # depth of the centre, part, its buffers


class Painter:
    """One a context. `samples` a pixel: 4 smooths edges, 0 is fastest.

    `occlusion` darkens crevices and contacts: for still pictures; never over a camera's picture.
    """

    def __init__(self, context: moderngl.Context, samples: int = 4, *, occlusion: bool = False) -> None:
        """Compile the shaders."""
        self.context = context
        self.occlusion = occlusion
        self.samples = min(samples, int(context.max_samples)) if samples > 1 else 0
        self._programs = {
            name: program(context, vertex, "translucent" if name == "translucent_cut" else name)
            for name, vertex in {
                "lit": "surface",
                "lit_cut": "surface_cut",
                "translucent": "surface",
                "translucent_cut": "surface_cut",
                "part": "part",
                "part_cut": "surface_cut",
                "line": "line",
                "text": "text",
                "gradient": "fullscreen",
                "picture": "fullscreen",
                "composite": "fullscreen",
                "present": "fullscreen",
                "occlusion": "fullscreen",
                "shade": "fullscreen",
            }.items()
        }
        self._fullscreen = {
            name: context.vertex_array(self._programs[name], [])
            for name in ("gradient", "picture", "composite", "present", "occlusion", "shade")
        }
        self._lines = InstanceStream(context, self._programs["line"], strokes.LAYOUT, *strokes.INPUTS)
        self._texts = InstanceStream(context, self._programs["text"], words.LAYOUT, *words.INPUTS)
        self._meshes = MeshStore(context)
        self._targets: dict[tuple[int, int], Target] = {}
        self._parts: dict[tuple[int, int], tuple[moderngl.Framebuffer, moderngl.Texture, moderngl.Renderbuffer]] = {}
        self._atlas = GlyphAtlas()
        self._glyphs = context.texture((self._atlas.side_px, self._atlas.side_px), 1, self._atlas.field.tobytes())
        self._glyphs_seen = 0
        self._picture: moderngl.Texture | None = None

    @property
    def mesh_count(self) -> int:
        """How many meshes are on the GPU."""
        return len(self._meshes)

    def draw(self, scene: Scene[Any], view: View[Any], framebuffer: moderngl.Framebuffer) -> None:
        """Draw into `framebuffer`'s viewport (a window, an eye's picture); scaled when its size is not the view's."""
        target = self.paint(scene, view)
        framebuffer.use()
        self.context.enable_only(moderngl.NOTHING)
        target.resolved_colour.use(0)
        self._programs["present"]["picture"] = 0
        self._fullscreen["present"].render(moderngl.TRIANGLES, vertices=3)

    def paint(self, scene: Scene[Any], view: View[Any]) -> Target:
        """Draw into a picture of the view's own size; `resolved` of the answer holds it until the next drawing."""
        self._meshes.sweep()
        target = self._target(view)
        solid: list[_Drawn] = []
        clear: list[_Drawn] = []
        frustum = _frustum(view.clip_from_world())
        E = view.eye_from_world.matrix()
        for part in scene.meshes:
            if not len(part.mesh.triangles) or part.material.opacity == 0.0:
                continue
            stored = self._meshes.get(part.mesh)
            M = part.matrix()
            centre = M[:3, :3] @ stored.centre_mm + M[:3, 3]
            scale = part.world_from_mesh.scale if isinstance(part.world_from_mesh, Similarity) else 1.0
            if (frustum[:, :3] @ centre + frustum[:, 3] < -stored.radius_mm * scale).any():
                continue
            depth_mm = -float(E[2, :3] @ centre + E[2, 3])
            is_solid = part.material.mode == "lit" and part.material.opacity == 1.0
            (solid if is_solid else clear).append((depth_mm, part, stored))
        solid.sort(key=lambda item: item[0])  # nearest first: hidden pixels are then not shaded

        target.drawn.use()
        target.drawn.viewport = (0, 0, view.width_px, view.height_px)
        target.drawn.depth_mask = True
        target.drawn.clear(depth=1.0)
        self._backdrop(scene, view)
        self.context.enable_only(moderngl.DEPTH_TEST)
        self._surfaces("lit", solid, scene.light, view)
        if solid and target.resolved_depth is not None and scene.picture is None:
            self._shade(target, target.resolved_depth, scene.light, view)
        if clear:
            self._see_through(clear, scene.light, view, target)
        target.drawn.use()
        target.drawn.depth_mask = False
        self._strokes_and_words(scene, view)
        target.drawn.depth_mask = True
        self.context.copy_framebuffer(target.resolved, target.drawn)
        return target

    def parts(self, scene: Scene[Any], view: View[Any]) -> tuple[NDArray[np.int32], Array]:
        """The mesh's index (h, w) at each pixel's centre, -1 for none; its depth (h, w) mm before the eye, or NaN.

        One sample a pixel, no light, no words: the geometry alone, opaque.
        """
        self._meshes.sweep()
        size = (view.width_px, view.height_px)
        if size not in self._parts:
            if len(self._parts) >= _KEPT_SIZES:
                self._release_parts(next(iter(self._parts)))
            texture = self.context.texture(size, 2, dtype="f4")
            depth = self.context.depth_renderbuffer(size)
            self._parts[size] = (self.context.framebuffer([texture], depth), texture, depth)
        framebuffer = self._parts[size][0]
        framebuffer.use()
        framebuffer.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        self.context.enable_only(moderngl.DEPTH_TEST)
        for number, part in enumerate(scene.meshes, start=1):
            if not len(part.mesh.triangles):
                continue
            stored = self._meshes.get(part.mesh)
            eye_from_mesh = self._eye_from_mesh(part, stored, view)
            shader = self._programs["part" if part.cut_away is None else "part_cut"]
            shader["clip_from_mesh"] = _gl(view.projection @ eye_from_mesh)
            shader["part"] = float(number)
            if part.cut_away is None:
                shader["depth_from_mesh"] = tuple(-eye_from_mesh[2])
            else:
                shader["eye_from_mesh"] = _gl(eye_from_mesh)
                shader["is_parallel"] = float(view.is_parallel)
                shader["is_solid"] = float(_is_full(part, stored))
            self._hide_back_faces(part, stored)
            self._render(shader, part, stored, view)
        raw = np.frombuffer(framebuffer.read(components=2, dtype="f4"), dtype=np.float32)
        raw = raw.reshape(view.height_px, view.width_px, 2)[::-1]
        indices = raw[..., 0].astype(np.int32) - 1
        return indices, np.where(indices >= 0, raw[..., 1].astype(np.float64), np.nan)

    def release(self) -> None:
        """Give everything back; the context stays."""
        for target in self._targets.values():
            target.release()
        self._targets.clear()
        for size in list(self._parts):
            self._release_parts(size)
        self._meshes.release()
        self._lines.release()
        self._texts.release()
        for array in self._fullscreen.values():
            array.release()
        for shader in self._programs.values():
            shader.release()
        self._glyphs.release()
        if self._picture is not None:
            self._picture.release()
            self._picture = None

    def _release_parts(self, size: tuple[int, int]) -> None:
        for kept in self._parts.pop(size):
            kept.release()

    def _target(self, view: View[Any]) -> Target:
        size = (view.width_px, view.height_px)
        if size not in self._targets:
            if len(self._targets) >= _KEPT_SIZES:  # a window that is being dragged larger passes many sizes
                self._targets.pop(next(iter(self._targets))).release()
            self._targets[size] = Target(self.context, *size, self.samples, with_depth=self.occlusion)
        return self._targets[size]

    def _backdrop(self, scene: Scene[Any], view: View[Any]) -> None:
        self.context.enable_only(moderngl.NOTHING)
        if scene.picture is None:
            shader = self._programs["gradient"]
            shader["bottom"] = scene.background_rgb
            shader["top"] = scene.background_top_rgb or scene.background_rgb
            self._fullscreen["gradient"].render(moderngl.TRIANGLES, vertices=3)
            return
        height, width = scene.picture.shape[:2]
        if (width, height) != (view.width_px, view.height_px):
            raise BadScene(
                f"backdrop of {width} x {height} px in a view of {view.width_px} x {view.height_px} px; "
                "is it the picture of another camera?"
            )
        if self._picture is None or self._picture.size != (width, height):
            if self._picture is not None:
                self._picture.release()
            self._picture = self.context.texture((width, height), 3, alignment=1)
        self._picture.write(np.ascontiguousarray(scene.picture), alignment=1)
        self._picture.use(0)
        shader = self._programs["picture"]
        shader["picture"] = 0
        shader["height"] = height
        self._fullscreen["picture"].render(moderngl.TRIANGLES, vertices=3)

    def _surfaces(self, name: str, parts: list[_Drawn], light: Light, view: View[Any]) -> None:
        for is_cut in (False, True):
            own = [item for item in parts if (item[1].cut_away is not None) == is_cut]
            if own:
                self._surfaces_with(self._programs[f"{name}_cut" if is_cut else name], name, own, light, view)

    def _surfaces_with(
        self, shader: moderngl.Program, name: str, parts: list[_Drawn], light: Light, view: View[Any]
    ) -> None:
        shader["toward_key"] = tuple(light.toward_key)
        shader["key_strength"] = light.key
        shader["sky"] = light.sky
        shader["ground"] = light.ground
        shader["is_parallel"] = float(view.is_parallel)
        for depth_mm, part, stored in parts:
            material = part.material
            eye_from_mesh = self._eye_from_mesh(part, stored, view)
            clip_from_eye = view.projection if name == "lit" else view.projection @ _nearer(view, depth_mm)
            shader["clip_from_mesh"] = _gl(clip_from_eye @ eye_from_mesh)
            shader["eye_from_mesh"] = _gl(eye_from_mesh)
            shader["base_colour"] = linear_from_display(material.rgb)
            shader["shine"] = material.shine
            shader["metal"] = material.metal
            if name == "translucent":
                shader["opacity"] = material.opacity
                shader["xray"] = float(material.mode == "xray")
            else:
                self._hide_back_faces(part, stored)
                if part.cut_away is not None:
                    shader["is_solid"] = float(_is_full(part, stored))
                    shader["face_colour"] = linear_from_display(part.cut_away.face_rgb)
            self._render(shader, part, stored, view)

    def _render(self, shader: moderngl.Program, part: MeshPart[Any], stored: StoredMesh, view: View[Any]) -> None:
        """The part's triangles; of one that is cut, those of each cell that is left."""
        array, cut = self._meshes.vertex_array(stored, shader), part.cut_away
        if cut is None:
            array.render()
            return
        rows = cut.rows_in_eye(np.asarray(view.eye_from_world.matrix() @ part.matrix()))
        shader["cut_planes"] = [tuple(row) for row in rows]
        for number in range(len(cut.planes)):
            self.context.enable_direct(_CLIP_DISTANCE + number)
        for sides in cut.cells():
            shader["cut_sides"] = tuple(sides)
            array.render()
        if "is_solid" in shader and _is_full(part, stored):  # far walls last: hidden ones are then not shaded
            self.context.cull_face = "front"
            for sides in cut.far_cells(rows, view.is_parallel):
                shader["cut_sides"] = tuple(sides)
                array.render()
            self.context.cull_face = "back"
        for number in range(len(cut.planes)):
            self.context.disable_direct(_CLIP_DISTANCE + number)

    def _shade(self, target: Target, depth: moderngl.Texture, light: Light, view: View[Any]) -> None:
        framebuffer, openness = target.openness()
        self.context.copy_framebuffer(target.resolved, target.drawn)
        framebuffer.use()
        self.context.enable_only(moderngl.NOTHING)
        depth.use(0)
        openness.use(1)
        shader = self._programs["occlusion"]
        shader["depth"] = 0
        shader["eye_from_ndc"] = _gl(np.asarray(np.linalg.inv(view.projection)))
        shader["viewport_px"] = (view.width_px, view.height_px)
        scale = view.eye_from_world.scale if isinstance(view.eye_from_world, Similarity) else 1.0
        shader["radius_mm"] = light.occlusion_mm * scale
        px_per_mm = float(view.projection[1, 1]) * view.height_px / 2
        shader["px_per_mm"] = (0.0, px_per_mm) if view.is_parallel else (px_per_mm, 0.0)
        self._fullscreen["occlusion"].render(moderngl.TRIANGLES, vertices=3)
        target.drawn.use()
        target.drawn.depth_mask = False
        self.context.enable_only(moderngl.BLEND)
        self.context.blend_func = (moderngl.ZERO, moderngl.SRC_COLOR)
        shader = self._programs["shade"]
        shader["openness"] = 1
        shader["depth"] = 0
        shader["strength"] = light.occlusion
        self._fullscreen["shade"].render(moderngl.TRIANGLES, vertices=3)

    def _see_through(self, parts: list[_Drawn], light: Light, view: View[Any], target: Target) -> None:
        drawn, resolved, accumulated, weighted = target.sums()
        drawn.use()
        drawn.viewport = (0, 0, view.width_px, view.height_px)
        drawn.depth_mask = False
        drawn.clear(0.0, 0.0, 0.0, 1.0)  # the depth is not writable now, so it stays
        self.context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND)
        # The second picture has one channel, so the first one's product of alphas can share the blend function.
        context: Any = self.context  # the stubs know blend functions of two names only
        context.blend_func = (moderngl.ONE, moderngl.ONE, moderngl.ZERO, moderngl.ONE_MINUS_SRC_ALPHA)
        near_mm = min(depth - stored.radius_mm for depth, _, stored in parts)
        far_mm = max(depth + stored.radius_mm for depth, _, stored in parts)
        for name in ("translucent", "translucent_cut"):
            self._programs[name]["depth_range"] = (max(near_mm, 0.0), far_mm)
        self._surfaces("translucent", parts, light, view)
        self.context.copy_framebuffer(resolved, drawn)
        target.drawn.use()
        self.context.enable_only(moderngl.BLEND)
        self.context.blend_func = (moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA)
        accumulated.use(0)
        weighted.use(1)
        shader = self._programs["composite"]
        shader["accumulated"] = 0
        shader["weighted"] = 1
        self._fullscreen["composite"].render(moderngl.TRIANGLES, vertices=3)

    def _strokes_and_words(self, scene: Scene[Any], view: View[Any]) -> None:
        self.context.blend_func = (moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA)
        viewport_px = (view.width_px, view.height_px)
        self._programs["line"]["viewport_px"] = viewport_px
        self._programs["text"]["viewport_px"] = viewport_px
        for on_top in (False, True):
            self.context.enable_only(moderngl.BLEND if on_top else moderngl.BLEND | moderngl.DEPTH_TEST)
            self._lines.draw(strokes.line_rows((line for line in scene.lines if line.on_top == on_top), view))
            rows = words.label_rows(self._atlas, [label for label in scene.labels if label.on_top == on_top], view)
            self._write_glyphs()
            self._texts.draw(rows)
        rows = words.screen_rows(self._atlas, scene.screen_texts)
        self._write_glyphs()
        self._texts.draw(rows)

    def _write_glyphs(self) -> None:
        if self._glyphs_seen != self._atlas.changes:
            self._glyphs.write(self._atlas.field.tobytes())
            self._glyphs_seen = self._atlas.changes
        self._glyphs.use(0)
        self._programs["text"]["glyphs"] = 0

    def _hide_back_faces(self, part: MeshPart[Any], stored: StoredMesh) -> None:
        if _is_full(part, stored):
            self.context.enable(moderngl.CULL_FACE)
        else:
            self.context.disable(moderngl.CULL_FACE)

    @staticmethod
    def _eye_from_mesh(part: MeshPart[Any], stored: StoredMesh, view: View[Any]) -> Array:
        """Eye from the mesh's stored coordinates (about its centre), composed in float64."""
        M = part.matrix()
        M[:3, 3] += M[:3, :3] @ stored.centre_mm
        return np.asarray(view.eye_from_world.matrix() @ M)


def _is_full(part: MeshPart[Any], stored: StoredMesh) -> bool:
    """Whether faces that look away are never seen, but through a cut."""
    is_rest = part.cut_away is None or part.cut_away.shows == "rest"
    return stored.hides_back_faces and not part.material.two_sided and is_rest


def linear_from_display(rgb: Rgb) -> Rgb:
    """sRGB to linear light (IEC 61966-2-1)."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return r, g, b


def _nearer(view: View[Any], depth_mm: float) -> Array:
    """Brings a see-through part a little nearer on the same pixels, so that it wins where it lies on a solid."""
    lift_mm = _LIFT_MM * (view.eye_from_world.scale if isinstance(view.eye_from_world, Similarity) else 1.0)
    if view.is_parallel:
        out = np.eye(4)
        out[2, 3] = lift_mm
        return out
    shrink = 1.0 - lift_mm / max(depth_mm, 10.0 * lift_mm)
    return np.diag([shrink, shrink, shrink, 1.0])


def _gl(matrix: Array) -> tuple[float, ...]:
    """Column by column, as a uniform takes it."""
    return tuple(matrix.T.ravel())


def _frustum(clip_from_world: Array) -> Array:
    """Six planes (6, 4), unit normals inward: a point is outside where n . x + d < 0."""
    rows = clip_from_world
    planes = np.stack([rows[3] + s * rows[i] for i in range(3) for s in (1.0, -1.0)])
    return np.asarray(planes / np.maximum(np.linalg.norm(planes[:, :3], axis=1, keepdims=True), 1e-30))
