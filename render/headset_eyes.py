"""The eyes' pictures: each eye's projection, its images in the runtime, and the copy that the desktop shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import moderngl
import numpy as np
import xr
from numpy.typing import NDArray

from render.headset_actions import Side
from render.shaders import program
from spatial.frames import Eye, Stage
from spatial.rigid import Array, Rigid

Paint = Callable[["EyeView", moderngl.Framebuffer], None]


@dataclass(frozen=True, slots=True)
class EyeView:
    """One eye of one frame: where it stands in the stage (mm) and how it projects.

    `projection` is OpenGL's, (4, 4), clip_from_eye with clip z in [-w, w]; `size_px` is (width, height).
    """

    side: Side
    stage_from_eye: Rigid[Stage, Eye]
    projection: Array
    size_px: tuple[int, int]


def projection_from_fov(fov_rad: tuple[float, float, float, float], near_mm: float, far_mm: float) -> Array:
    """OpenGL's projection (4, 4) of half angles (left, right, up, down); left and down are negative."""
    left, right, up, down = np.tan(fov_rad)
    P = np.zeros((4, 4))
    P[0, 0], P[0, 2] = 2.0 / (right - left), (right + left) / (right - left)
    P[1, 1], P[1, 2] = 2.0 / (up - down), (up + down) / (up - down)
    P[2, 2], P[2, 3] = -(far_mm + near_mm) / (far_mm - near_mm), -2.0 * far_mm * near_mm / (far_mm - near_mm)
    P[3, 2] = -1.0
    return P


class Mirror:
    """The last picture of one eye, kept for the desktop's window: the runtime's own images can't be read later."""

    def __init__(self, context: moderngl.Context, size_px: tuple[int, int]) -> None:
        """Allocate; black until the first `keep`."""
        self._context = context
        self._picture = context.texture(size_px, 4)
        self._picture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._framebuffer = context.framebuffer([self._picture])
        self._framebuffer.clear()
        self._program = program(context, "fullscreen", "present")
        self._triangle = context.vertex_array(self._program, [])

    def keep(self, canvas: moderngl.Framebuffer) -> None:
        """Copy what was painted, resolving its samples."""
        self._context.copy_framebuffer(self._framebuffer, canvas)

    def show(self, target: moderngl.Framebuffer) -> None:
        """Draw the picture into the middle of `target`, as large as fits, black around it."""
        width, height = self._picture.size
        scale = min(target.width / width, target.height / height)
        shown = (max(1, round(width * scale)), max(1, round(height * scale)))
        corner = ((target.width - shown[0]) // 2, (target.height - shown[1]) // 2)
        target.use()
        target.viewport = (0, 0, target.width, target.height)
        target.clear()
        target.viewport = (*corner, *shown)
        self._context.enable_only(moderngl.NOTHING)
        self._picture.use(0)
        self._triangle.render(moderngl.TRIANGLES, vertices=3)
        target.viewport = (0, 0, target.width, target.height)

    def release(self) -> None:
        """Free the GL objects."""
        for thing in (self._triangle, self._program, self._framebuffer, self._picture):
            thing.release()


class EyeImages:
    """One eye's swapchain, and the multisampled canvas that is resolved into it. Owns both."""

    def __init__(
        self, session: Any, context: moderngl.Context, form: int, size_px: tuple[int, int], samples: int
    ) -> None:
        """Make the swapchain (one sample, GL format `form`) and a canvas of `samples`; 1 paints straight into it."""
        self.size_px = size_px
        self._context = context
        usage = xr.SwapchainUsageFlags.COLOR_ATTACHMENT_BIT | xr.SwapchainUsageFlags.SAMPLED_BIT
        self.swapchain = xr.create_swapchain(
            session,
            xr.SwapchainCreateInfo(
                usage_flags=usage,
                format=form,
                sample_count=1,
                width=size_px[0],
                height=size_px[1],
                face_count=1,
                array_size=1,
                mip_count=1,
            ),
        )
        samples = min(samples, context.max_samples)
        samples = samples if samples > 1 else 0
        self._depth = context.depth_renderbuffer(size_px, samples=samples)
        self._targets = [
            context.framebuffer(
                [context.external_texture(image.image, size_px, 4, 0, "f1")], None if samples else self._depth
            )
            for image in xr.enumerate_swapchain_images(self.swapchain, xr.SwapchainImageOpenGLKHR)
        ]
        self._colour = context.renderbuffer(size_px, 4, samples=samples) if samples else None
        self._canvas = context.framebuffer([self._colour], self._depth) if self._colour else None

    def draw(self, view: EyeView, paint: Paint, capture: bool, mirror: Mirror | None) -> NDArray[np.uint8] | None:
        """Acquire, paint, resolve, release; `capture` reads back what the runtime gets: (h, w, 3), top row first."""
        number = int(xr.acquire_swapchain_image(self.swapchain, xr.SwapchainImageAcquireInfo()))
        xr.wait_swapchain_image(self.swapchain, xr.SwapchainImageWaitInfo(timeout=xr.INFINITE_DURATION))
        try:
            target = self._targets[number]
            canvas = self._canvas or target
            canvas.use()
            canvas.viewport = (0, 0, *self.size_px)
            canvas.clear()
            paint(view, canvas)
            if canvas is not target:
                self._context.copy_framebuffer(target, canvas)
            if mirror is not None:
                mirror.keep(canvas)
            if not capture:
                return None
            width, height = self.size_px
            rows = np.frombuffer(target.read(components=3, alignment=1), np.uint8)
            return rows.reshape(height, width, 3)[::-1].copy()  # GL's first row is the lowest
        finally:
            xr.release_swapchain_image(self.swapchain, xr.SwapchainImageReleaseInfo())

    def release(self) -> None:
        """Free the GL objects, then the swapchain that owns the textures."""
        for target in self._targets:
            target.release()
        if self._canvas is not None and self._colour is not None:
            self._canvas.release()
            self._colour.release()
        self._depth.release()
        xr.destroy_swapchain(self.swapchain)
