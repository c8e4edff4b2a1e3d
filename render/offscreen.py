"""Pictures without a window: an EGL context of our own, no display needed."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from render.painter import Painter
from render.scene import Scene, View
from spatial.faults import MissingPackage
from spatial.rigid import Array

GL_PACKAGES = ("libgl1", "libegl1", "libgl1-mesa-dri", "libegl-mesa0")

# The libraries by their run-time names: the plain ones come only with the development packages.
_BACKEND: dict[str, Any] = (
    {"backend": "egl", "libgl": "libGL.so.1", "libegl": "libEGL.so.1"} if sys.platform == "linux" else {}
)


class NoGraphics(MissingPackage):
    """No OpenGL 3.3 context can be made on this machine."""


def standalone_context() -> moderngl.Context:
    """An OpenGL context of our own; raises NoGraphics that names the packages to install."""
    try:
        return moderngl.create_context(require=330, standalone=True, **_BACKEND)
    except Exception as error:  # moderngl raises plain Exception for every cause
        raise NoGraphics(
            f"no OpenGL 3.3 context ({error}); install the packages {', '.join(GL_PACKAGES)} or a graphics driver"
        ) from error


def gl_info() -> dict[str, str]:
    """Vendor, renderer and version of the OpenGL that pictures are drawn with; raises NoGraphics."""
    context = standalone_context()
    try:
        info = context.info
        return {"vendor": info["GL_VENDOR"], "renderer": info["GL_RENDERER"], "version": info["GL_VERSION"]}
    finally:
        context.release()


class Offscreen:
    """A painter with a context of its own. Each picture has its view's size; use it in a `with`, or `release` it."""

    def __init__(self, width_px: int = 0, height_px: int = 0, samples: int = 4, *, occlusion: bool = True) -> None:
        """Make the context (raises NoGraphics). The size is only a hint: views bring their own.

        For a live loop on a slow machine leave `occlusion` off and take fewer `samples`.
        """
        self.width_px, self.height_px = width_px, height_px
        self.context = standalone_context()
        try:
            with self.context:
                self.painter = Painter(self.context, samples, occlusion=occlusion)
        except BaseException:
            self.context.release()
            raise

    def __enter__(self) -> Offscreen:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release."""
        self.release()

    def picture(self, scene: Scene[Any], view: View[Any]) -> NDArray[np.uint8]:
        """The picture (h, w, 3), row 0 at the top."""
        with self.context:
            target = self.painter.paint(scene, view)
            data = target.resolved.read(components=3, alignment=1)
        return np.frombuffer(data, dtype=np.uint8).reshape(view.height_px, view.width_px, 3)[::-1].copy()

    def mask(self, scene: Scene[Any], view: View[Any]) -> NDArray[np.bool_]:
        """Where any mesh covers the pixel's centre (h, w)."""
        return np.asarray(self.part_indices(scene, view) >= 0)

    def part_indices(self, scene: Scene[Any], view: View[Any]) -> NDArray[np.int32]:
        """Which of `scene.meshes` is nearest at each pixel's centre (h, w); -1 for none."""
        with self.context:
            return self.painter.parts(scene, view)[0]

    def depth_mm(self, scene: Scene[Any], view: View[Any]) -> Array:
        """Depth before the eye along its axis (h, w) mm, NaN where there is nothing."""
        with self.context:
            return self.painter.parts(scene, view)[1]

    def release(self) -> None:
        """Give the painter's objects and the context back."""
        with self.context:
            self.painter.release()
        self.context.release()
