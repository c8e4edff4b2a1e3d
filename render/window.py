"""A window on the desktop (GLFW; GLX under X11): shows any scene, and lets mouse and keys look round a twin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import glfw
import moderngl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from render.painter import Painter
from render.scene import Scene, View
from render.viewer import ViewerState
from spatial.faults import Fault
from spatial.frames import Patient
from spatial.rigid import Rigid, Similarity

_BACKEND: dict[str, Any] = {"libgl": "libGL.so.1", "libx11": "libX11.so.6"} if sys.platform == "linux" else {}
_BUTTONS: dict[int, Literal["left", "middle", "right"]] = {
    glfw.MOUSE_BUTTON_LEFT: "left",
    glfw.MOUSE_BUTTON_MIDDLE: "middle",
    glfw.MOUSE_BUTTON_RIGHT: "right",
}


class NoWindow(Fault):
    """No window can be opened: there is no display, or its OpenGL is too old."""


class Window:
    """One window with its own context and painter; use it in a `with`, or `release` it. For the main thread only."""

    def __init__(
        self, width_px: int = 1280, height_px: int = 960, title: str = "Osteotwin", *, samples: int = 4
    ) -> None:
        """Open it; raises NoWindow."""
        said: list[str] = []

        def hear(code: int, words: Any) -> None:  # bytes, whatever the library's types say
            said.append(words.decode(errors="replace") if isinstance(words, bytes) else str(words))

        glfw.set_error_callback(hear)
        if sys.platform == "linux":
            glfw.init_hint(glfw.PLATFORM, glfw.PLATFORM_X11)
        if not glfw.init():
            raise NoWindow(f"no window: {_why(said)}; is a display there (DISPLAY)? Offscreen pictures need none")
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        handle: Any = glfw.create_window(width_px, height_px, title, None, None)  # a null pointer when it failed
        self._handle = handle
        if not handle:
            glfw.terminate()
            raise NoWindow(
                f"no window with OpenGL 3.3: {_why(said)}; is a graphics driver installed (libgl1-mesa-dri)?"
            )
        glfw.make_context_current(self._handle)
        glfw.swap_interval(1)
        self._waits = True
        try:
            self.context: moderngl.Context = moderngl.create_context(require=330, **_BACKEND)
            self.painter = Painter(self.context, samples)
        except Exception as error:  # moderngl raises plain Exception for every cause
            glfw.destroy_window(handle)
            glfw.terminate()
            if isinstance(error, Fault):
                raise
            raise NoWindow(f"no window with OpenGL 3.3: {error}; is a graphics driver installed?") from error
        self.keys: list[str] = []
        self.scrolled = 0.0
        self._mouse = glfw.get_cursor_pos(self._handle)
        glfw.set_key_callback(self._handle, self._on_key)
        glfw.set_scroll_callback(self._handle, self._on_scroll)

    def __enter__(self) -> Window:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.release()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture inside the frame, at least 1."""
        width, height = glfw.get_framebuffer_size(self._handle)
        return max(1, width), max(1, height)

    @property
    def is_closed(self) -> bool:
        """Whether somebody closed it."""
        return bool(glfw.window_should_close(self._handle))

    def close(self) -> None:
        """Ask it to close."""
        glfw.set_window_should_close(self._handle, True)

    def draw(self, scene: Scene[Any], view: View[Any]) -> None:
        """Show the scene, as large as fits and in the view's proportions, and take in what mouse and keys did."""
        width, height = self.size_px
        scale = min(width / view.width_px, height / view.height_px)
        shown = (round(view.width_px * scale), round(view.height_px * scale))
        screen = self.context.screen
        screen.viewport = (0, 0, width, height)
        screen.clear(0.0, 0.0, 0.0)
        screen.viewport = ((width - shown[0]) // 2, (height - shown[1]) // 2, *shown)
        self.painter.draw(scene, view, screen)
        glfw.swap_buffers(self._handle)
        glfw.poll_events()

    def mirror(self, show: Callable[[moderngl.Framebuffer], None]) -> None:
        """Let a headset's frame `show` itself in the window, never waiting for the screen; take in the keys."""
        if self._waits:
            glfw.make_context_current(self._handle)
            glfw.swap_interval(0)
            self._waits = False
        show(self.context.screen)
        glfw.swap_buffers(self._handle)
        glfw.poll_events()

    def picture(self, scene: Scene[Any], view: View[Any]) -> NDArray[np.uint8]:
        """The scene as this window's painter draws it (h, w, 3), row 0 at the top."""
        data = self.painter.paint(scene, view).resolved.read(components=3, alignment=1)
        return np.frombuffer(data, dtype=np.uint8).reshape(view.height_px, view.width_px, 3)[::-1].copy()

    def on_screen(self) -> NDArray[np.uint8]:
        """What was last drawn in the window, scaled and framed as it is there (h, w, 3), row 0 at the top."""
        width, height = self.size_px
        self.context.screen.viewport = (0, 0, width, height)
        data = self.context.screen.read(viewport=(0, 0, width, height), components=3, alignment=1)
        _ = self.context.error  # moderngl asks a window for a colour attachment first; reading the error clears it
        return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)[::-1].copy()

    def pointer(self) -> tuple[float, float, frozenset[str], float]:
        """Where the mouse is (px from the top-left), the buttons it holds, the notches scrolled since the last call."""
        x, y = glfw.get_cursor_pos(self._handle)
        wide, high = glfw.get_window_size(self._handle)
        width, height = self.size_px
        held = {name for button, name in _BUTTONS.items() if glfw.get_mouse_button(self._handle, button) == glfw.PRESS}
        scrolled, self.scrolled = self.scrolled, 0.0
        return x * width / max(wide, 1), y * height / max(high, 1), frozenset(held), scrolled

    def moved(self, state: ViewerState) -> ViewerState:
        """The state after what mouse and keys did since it was last asked."""
        x, y = glfw.get_cursor_pos(self._handle)
        right_px, down_px = x - self._mouse[0], y - self._mouse[1]
        self._mouse = (x, y)
        for button, name in _BUTTONS.items():
            if glfw.get_mouse_button(self._handle, button) == glfw.PRESS and (right_px or down_px):
                state = state.dragged(name, right_px, down_px, glfw.get_window_size(self._handle)[1])
        if self.scrolled:
            state = state.scrolled(self.scrolled)
            self.scrolled = 0.0
        for key in self.keys:
            state = state.keyed(key)
        return state

    def show(
        self,
        scene: Scene[Any] | Callable[[], Scene[Any]],
        world_from_patient: Rigid[Any, Patient] | Similarity[Any, Patient] | None = None,
        *,
        pictures: Path = Path(),
        frames: int | None = None,
    ) -> ViewerState:
        """Show a scene (or what a function gives each frame) until it is closed, or for `frames`; S saves a PNG."""
        current = scene if isinstance(scene, Scene) else scene()
        state = ViewerState.of(current)
        shown = 0
        saved = 0
        while not self.is_closed and (frames is None or shown < frames):
            current = scene if isinstance(scene, Scene) else scene()
            view: View[Any] = state.orbit.view(*self.size_px)
            dressed = state.dressed(current, view, world_from_patient)
            self.draw(dressed, view)
            shown += 1
            if "S" in self.keys:
                saved += 1
                save_png(pictures / f"osteotwin-{saved:03d}.png", self.picture(dressed, view))
            state = self.moved(state)
            self.keys.clear()
        return state

    def release(self) -> None:
        """Close it and give everything back."""
        self.painter.release()
        self.context.release()
        glfw.destroy_window(self._handle)
        glfw.terminate()

    def _on_key(self, window: Any, key: int, code: int, action: int, modifiers: int) -> None:
        if action != glfw.PRESS:
            return
        if key == glfw.KEY_ESCAPE:
            self.close()
        elif 32 <= key < 127:
            self.keys.append(chr(key))

    def _on_scroll(self, window: Any, right: float, up: float) -> None:
        self.scrolled += up


def save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture (h, w, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def _why(said: list[str]) -> str:
    return said[-1] if said else "the window system gave no reason"
