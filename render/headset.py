"""The headset: an OpenXR session that draws both eyes and reads both hands. The only metre-millimetre border.

Life of a session (OpenXR 1.1, chapter 9): the runtime says READY and we begin, STOPPING and we end, EXITING or
LOSS_PENDING and we are done. Each frame: wait (the runtime's pace), begin, locate what is there at the predicted
display time, draw, end. Pixels are drawn with samples of our own and resolved into the runtime's images, which
offer one sample; they hold display-referred colour (an sRGB format, written without conversion), as a window does.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import moderngl
import numpy as np
import xr
from numpy.typing import NDArray

from render.headset_actions import SIDES, Hands, HandSample, Side, has_all, stage_from_eye
from render.headset_eyes import EyeImages, EyeView, Mirror, Paint, projection_from_fov
from render.headset_graphics import (
    EGL_EXTENSION,
    OPENGL_EXTENSION,
    create_context,
    graphics_binding,
    require_version,
)
from render.headset_probe import probe
from render.headset_runtime import HeadsetLost, HeadsetMissing, NoOpenXRRuntime, Runtime
from spatial.frames import Eye, Stage
from spatial.rigid import Rigid

__all__ = [
    "EyeView",
    "HandSample",
    "Headset",
    "HeadsetFrame",
    "HeadsetLost",
    "HeadsetMissing",
    "NoOpenXRRuntime",
    "probe",
]

_SRGB8_ALPHA8, _RGBA8 = 0x8C43, 0x8058
_TIMESPEC_EXTENSION = "XR_KHR_convert_timespec_time"
_VIEWS_VALID = xr.VIEW_STATE_ORIENTATION_VALID_BIT | xr.VIEW_STATE_POSITION_VALID_BIT
_PLACE_VALID = xr.SPACE_LOCATION_ORIENTATION_VALID_BIT | xr.SPACE_LOCATION_POSITION_VALID_BIT
_STEREO = xr.ViewConfigurationType.PRIMARY_STEREO
_IDLE_S = 0.01  # between two looks at the event queue while no session runs


@dataclass(frozen=True, slots=True)
class HeadsetFrame:
    """One frame between begin and end: what is where at the display time, and the way to draw it.

    `t_display_ns` is the predicted display instant on the clock of `time.monotonic_ns`. `head` and `views` are
    None while the runtime does not know where the head is: then nothing can be drawn.
    """

    headset: Headset
    t_display_ns: int
    should_render: bool
    head: Rigid[Stage, Eye] | None
    views: tuple[EyeView, EyeView] | None
    hands: Mapping[Side, HandSample]

    def draw(self, paint: Paint, *, capture: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """Paint both eyes: `paint(view, framebuffer)` once an eye, into a cleared, multisampled framebuffer.

        With `capture`, returns what the runtime was given: (left, right), each (height, width, 3) uint8, first
        row on top. None when not asked for, or when the frame is not to be drawn.
        """
        return self.headset._draw(self, paint, capture)

    def mirror(self, target: moderngl.Framebuffer) -> None:
        """Show the left eye's newest picture in `target` (the desktop's window), whole, its shape kept."""
        self.headset.mirror(target)

    def pulse(self, side: Side, amplitude: float, seconds: float) -> None:
        """Let a hand feel something: amplitude 0 to 1."""
        self.headset.pulse(side, amplitude, seconds)


class Headset:
    """A session with the headset, from `with` to its end. One at a time a process; use from one thread."""

    def __init__(
        self,
        application_name: str,
        *,
        context: moderngl.Context | None = None,
        eye_size_px: tuple[int, int] | None = None,
        samples: int = 4,
        near_mm: float = 20.0,
        far_mm: float = 20_000.0,
    ) -> None:
        """Find runtime and headset and make the session; `eye_size_px` defaults to what the runtime recommends.

        `context` must be current on this thread; without one the headset makes its own (`.context`).
        `samples` a pixel of what is painted into; 1 for a painter that brings its own smoothing.
        Raises NoOpenXRRuntime, HeadsetMissing, NoGraphicsBinding, HeadsetLost.
        """
        self._near_mm, self._far_mm = near_mm, far_mm
        self._samples = samples
        self._mirror: Mirror | None = None
        self._stack = ExitStack()  # takes down what stands, newest first
        self._closed = False
        self._eyes: list[EyeImages] = []
        self._state = xr.SessionState.UNKNOWN
        self._running = self._stopping = self._over = self._lost = False
        self._layers: list[Any] = []
        self._located: Any = None
        self._offset_ns: int | None = None
        self.notes: list[str] = []
        self.runtime_name = "OpenXR runtime"
        try:
            with self._alive():
                self._open(application_name, context, eye_size_px)
        except BaseException:
            self.close()
            raise

    # --- the way up ---

    def _open(self, name: str, context: moderngl.Context | None, eye_size_px: tuple[int, int] | None) -> None:
        runtime = Runtime(name, (OPENGL_EXTENSION, EGL_EXTENSION, _TIMESPEC_EXTENSION))
        self._stack.callback(runtime.release)
        self._instance = runtime.instance
        self.runtime_name, self.runtime_version = runtime.name, runtime.version
        self.extensions = runtime.offered
        self._converts_time = _TIMESPEC_EXTENSION in runtime.enabled
        system, self.headset_name = runtime.headset()
        if context is None:
            context = create_context(runtime.enabled)
            self._stack.callback(context.release)
        self.context = context
        self._make_current()
        require_version(self._instance, system, context)
        binding = graphics_binding(runtime.enabled)
        self._session = xr.create_session(
            self._instance,
            xr.SessionCreateInfo(system_id=system, next=ctypes.cast(ctypes.pointer(binding), ctypes.c_void_p)),
        )
        self._stack.callback(xr.destroy_session, self._session)
        self._make_current()  # a runtime may leave another context current
        self._stage = self._reference_space()
        self._stack.callback(xr.destroy_space, self._stage)
        self._view_space = self._space(xr.ReferenceSpaceType.VIEW)
        self._stack.callback(xr.destroy_space, self._view_space)
        self._hands = Hands(self._instance, self._session)
        self._stack.callback(self._hands.release)
        recommended = xr.enumerate_view_configuration_views(self._instance, system, _STEREO)
        offered = [int(form) for form in xr.enumerate_swapchain_formats(self._session)]
        form = next((form for form in (_SRGB8_ALPHA8, _RGBA8) if form in offered), offered[0])
        if form != _SRGB8_ALPHA8:
            self.notes.append("no sRGB image format: colours will look washed out")
        for view in recommended:
            size = eye_size_px or (view.recommended_image_rect_width, view.recommended_image_rect_height)
            size = (min(size[0], view.max_image_rect_width), min(size[1], view.max_image_rect_height))
            images = EyeImages(self._session, context, form, size, self._samples)
            self._eyes.append(images)
            self._stack.callback(images.release)
        self.eye_size_px = self._eyes[0].size_px
        self._clear_error()
        self._stack.callback(self._make_current)  # first on the way down: GL objects go with their context

    def _reference_space(self) -> Any:
        """STAGE (the floor's centre) where the runtime has one, else LOCAL (where the head started), said."""
        offered = {xr.ReferenceSpaceType(int(kind)) for kind in xr.enumerate_reference_spaces(self._session)}
        self.has_stage = xr.ReferenceSpaceType.STAGE in offered
        if self.has_stage:
            return self._space(xr.ReferenceSpaceType.STAGE)
        self.notes.append("no STAGE space (room not set up?): the origin is where the head was, not the floor")
        return self._space(xr.ReferenceSpaceType.LOCAL)

    def _space(self, kind: Any) -> Any:
        info = xr.ReferenceSpaceCreateInfo(reference_space_type=kind, pose_in_reference_space=xr.Posef())
        return xr.create_reference_space(self._session, info)

    # --- the loop ---

    def frames(self) -> Iterator[HeadsetFrame]:
        """Frames at the runtime's pace, until it asks to exit or `stop` was called.

        A frame ends when the next is asked for (or the loop is left). Raises HeadsetLost.
        """
        while self._look():
            if not self._running:
                time.sleep(_IDLE_S)
                continue
            frame = self._begin()
            try:
                yield frame
            finally:
                self._end()
        if self._lost:
            raise HeadsetLost(
                f"{self.runtime_name} says the headset is going; was it unplugged or the runtime restarted?"
            )

    def stop(self) -> None:
        """Ask the runtime to end the session; `frames` ends when it agrees."""
        if self._running and not self._stopping:
            with self._alive():
                xr.request_exit_session(self._session)
        elif not self._running:
            self._over = True
        self._stopping = True

    def pulse(self, side: Side, amplitude: float, seconds: float) -> None:
        """Let a hand feel something: amplitude 0 to 1."""
        with self._alive():
            self._hands.pulse(side, amplitude, seconds)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Turn the runtime's refusal into HeadsetLost, once."""
        try:
            yield
        except (xr.ErrorResult, xr.SessionLossPending) as error:
            self._over = True
            raise HeadsetLost(f"{self.runtime_name} took the session away ({type(error).__name__})") from error

    def mirror(self, target: moderngl.Framebuffer) -> None:
        """Show the left eye's newest picture in `target`; the first call only asks for one to be kept."""
        self._make_current()
        if self._mirror is None:
            self._mirror = Mirror(self.context, self._eyes[0].size_px)
            self._stack.callback(self._mirror.release)
        self._mirror.show(target)

    def controller(self, side: Side) -> str | None:
        """The controller in the hand as the runtime bound it (`valve/index_controller`), or None."""
        return self._hands.profile(side)

    def _look(self) -> bool:
        """Work off the runtime's events; False when all is over."""
        while not self._over:
            try:
                with self._alive():
                    event = xr.poll_event(self._instance)
            except xr.EventUnavailable:
                break
            kind = ctypes.c_uint32.from_buffer(event).value  # its first field; a vendor's kind is no error
            if kind == xr.StructureType.EVENT_DATA_INSTANCE_LOSS_PENDING:
                self._over = self._lost = True
            elif kind == xr.StructureType.EVENT_DATA_SESSION_STATE_CHANGED:
                pointer = ctypes.cast(ctypes.byref(event), ctypes.POINTER(xr.EventDataSessionStateChanged))
                with self._alive():
                    self._enter(xr.SessionState(pointer.contents.state))
        return not self._over

    def _enter(self, state: Any) -> None:
        self._state = state
        if state == xr.SessionState.READY:
            xr.begin_session(self._session, xr.SessionBeginInfo(primary_view_configuration_type=_STEREO))
            self._running = True
        elif state == xr.SessionState.STOPPING:
            xr.end_session(self._session)
            self._running = False
        elif state in (xr.SessionState.EXITING, xr.SessionState.LOSS_PENDING):
            self._running = False
            self._over = True
            self._lost = state == xr.SessionState.LOSS_PENDING

    def _begin(self) -> HeadsetFrame:
        with self._alive():
            state = xr.wait_frame(self._session, xr.FrameWaitInfo())
            with suppress(xr.FrameDiscarded):  # the frame before was never ended: a success that says so
                xr.begin_frame(self._session, xr.FrameBeginInfo())
            self._display_time = int(state.predicted_display_time)
            self._layers = []
            views, self._located = self._views()
            return HeadsetFrame(
                headset=self,
                t_display_ns=self._monotonic_ns(self._display_time, int(state.predicted_display_period)),
                should_render=bool(state.should_render),
                head=self._head(),
                views=views,
                hands=self._hands.sample(self._stage, self._display_time),
            )

    def _views(self) -> tuple[tuple[EyeView, EyeView] | None, Any]:
        state, located = xr.locate_views(
            self._session,
            xr.ViewLocateInfo(view_configuration_type=_STEREO, display_time=self._display_time, space=self._stage),
        )
        if not has_all(state.view_state_flags, _VIEWS_VALID) or len(located) != 2:
            return None, None
        left, right = (
            EyeView(
                side=side,
                stage_from_eye=stage_from_eye(view.pose),
                projection=projection_from_fov(
                    (view.fov.angle_left, view.fov.angle_right, view.fov.angle_up, view.fov.angle_down),
                    self._near_mm,
                    self._far_mm,
                ),
                size_px=images.size_px,
            )
            for side, view, images in zip(SIDES, located, self._eyes, strict=True)
        )
        return (left, right), located

    def _head(self) -> Rigid[Stage, Eye] | None:
        location = xr.locate_space(self._view_space, self._stage, self._display_time)
        return stage_from_eye(location.pose) if has_all(location.location_flags, _PLACE_VALID) else None

    def _monotonic_ns(self, display_time: int, period_ns: int) -> int:
        """The display instant on `time.monotonic_ns`: converted by the runtime, else taken as one period ahead."""
        if self._converts_time:
            spec = xr.convert_time_to_timespec_time_khr(self._instance, display_time)
            return int(spec.tv_sec) * 1_000_000_000 + int(spec.tv_nsec)
        if self._offset_ns is None:
            self._offset_ns = time.monotonic_ns() + period_ns - display_time
        return display_time + self._offset_ns

    def _draw(
        self, frame: HeadsetFrame, paint: Paint, capture: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        if frame.views is None or not frame.should_render:
            return None
        self._make_current()
        with self._alive():
            pictures = [
                images.draw(view, paint, capture, self._mirror if view.side == "left" else None)
                for images, view in zip(self._eyes, frame.views, strict=True)
            ]
        shown = (xr.CompositionLayerProjectionView * 2)(
            *(
                xr.CompositionLayerProjectionView(
                    pose=located.pose,
                    fov=located.fov,
                    sub_image=xr.SwapchainSubImage(
                        swapchain=images.swapchain,
                        image_rect=xr.Rect2Di(offset=xr.Offset2Di(0, 0), extent=xr.Extent2Di(*images.size_px)),
                    ),
                )
                for located, images in zip(self._located, self._eyes, strict=True)
            )
        )
        self._layers = [xr.CompositionLayerProjection(space=self._stage, views=shown)]
        left, right = pictures
        return None if left is None or right is None else (left, right)

    def _end(self) -> None:
        layers, self._layers = self._layers, []
        if self._closed:  # closed while a frame was open (an exception on its way out): nothing is left to end
            return
        info = xr.FrameEndInfo(
            display_time=self._display_time,
            environment_blend_mode=xr.EnvironmentBlendMode.OPAQUE,
            layers=[ctypes.byref(layer) for layer in layers],
        )
        with self._alive():
            xr.end_frame(self._session, info)
        self._clear_error()

    def _clear_error(self) -> None:
        """Some runtimes leave a GL error set; it must not be taken for ours."""
        self._make_current()
        for _ in range(8):
            if self.context.error == "GL_NO_ERROR":
                break

    def _make_current(self) -> None:
        # Entered and not left: leaving would make no context current, under the feet of who gave it to us.
        self.context.__enter__()  # type: ignore[no-untyped-call]  # moderngl leaves it untyped

    # --- the way down ---

    def close(self) -> None:
        """Take everything down, newest first; twice does no harm."""
        if not self._closed:
            self._over, self._running, self._closed = True, False, True
            self._eyes = []
            self._stack.close()

    def __enter__(self) -> Headset:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
