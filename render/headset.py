"""The headset: an OpenXR session that draws both eyes and reads both hands. The only metre-millimetre border.

Life of a session (OpenXR 1.1, chapter 9): the runtime says READY and we begin, STOPPING and we end, EXITING or
LOSS_PENDING and we are done. Each frame: wait (the runtime's pace), begin, locate what is there at the predicted
display time, draw, end. Pixels are drawn with samples of our own and resolved into the runtime's images, which
offer one sample; they hold display-referred colour (an sRGB format, written without conversion), as a window does.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import moderngl
import numpy as np
import xr
from numpy.typing import NDArray

from render.headset_actions import SIDES, Hands, HandSample, Side, stage_from_eye
from render.headset_graphics import (
    EGL_EXTENSION,
    OPENGL_EXTENSION,
    create_context,
    graphics_binding,
    require_version,
)
from render.headset_probe import HOW_TO_GET_ONE, probe
from spatial.faults import Fault, MissingPackage
from spatial.frames import Eye, Stage
from spatial.rigid import Array, Rigid

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

Paint = Callable[["EyeView", moderngl.Framebuffer], None]

_SRGB8_ALPHA8, _RGBA8 = 0x8C43, 0x8058
_TIMESPEC_EXTENSION = "XR_KHR_convert_timespec_time"
_STEREO = xr.ViewConfigurationType.PRIMARY_STEREO
_IDLE_S = 0.01  # between two looks at the event queue while no session runs


class NoOpenXRRuntime(MissingPackage):
    """No OpenXR runtime answers; the message says what to install or set."""


class HeadsetMissing(Fault):
    """The runtime is there, the headset is not."""


class HeadsetLost(Fault):
    """The runtime took the session away: unplugged, crashed, or restarted."""


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


class _EyeImages:
    """One eye's swapchain, and the multisampled picture that is resolved into it. Owns both."""

    def __init__(self, session: Any, context: moderngl.Context, form: int, size_px: tuple[int, int]) -> None:
        self.size_px = size_px
        self._context = context
        self.swapchain = xr.create_swapchain(
            session,
            xr.SwapchainCreateInfo(
                usage_flags=xr.SwapchainUsageFlags.COLOR_ATTACHMENT_BIT | xr.SwapchainUsageFlags.SAMPLED_BIT,
                format=form,
                sample_count=1,
                width=size_px[0],
                height=size_px[1],
                face_count=1,
                array_size=1,
                mip_count=1,
            ),
        )
        images = xr.enumerate_swapchain_images(self.swapchain, xr.SwapchainImageOpenGLKHR)
        self._targets = [
            context.framebuffer([context.external_texture(image.image, size_px, 4, 0, "f1")]) for image in images
        ]
        samples = min(4, context.max_samples)
        self._colour = context.renderbuffer(size_px, 4, samples=samples)
        self._depth = context.depth_renderbuffer(size_px, samples=samples)
        self._canvas = context.framebuffer([self._colour], self._depth)

    def draw(self, view: EyeView, paint: Paint, capture: bool) -> NDArray[np.uint8] | None:
        """Acquire, paint, resolve, release; with `capture` also read back what the runtime gets."""
        number = xr.acquire_swapchain_image(self.swapchain, xr.SwapchainImageAcquireInfo())
        picture: NDArray[np.uint8] | None = None
        try:
            xr.wait_swapchain_image(self.swapchain, xr.SwapchainImageWaitInfo(timeout=xr.INFINITE_DURATION))
            self._canvas.use()
            self._canvas.viewport = (0, 0, *self.size_px)
            self._canvas.clear()
            paint(view, self._canvas)
            target = self._targets[int(number)]
            self._context.copy_framebuffer(target, self._canvas)
            if capture:
                data = target.read(components=3, alignment=1)
                width, height = self.size_px
                # GL's first row is the lowest
                picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)[::-1].copy()
        finally:
            xr.release_swapchain_image(self.swapchain, xr.SwapchainImageReleaseInfo())
        return picture

    def release(self) -> None:
        """Free the GL objects, then the swapchain that owns the textures."""
        for target in self._targets:
            target.release()
        self._canvas.release()
        self._colour.release()
        self._depth.release()
        xr.destroy_swapchain(self.swapchain)


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
        near_mm: float = 20.0,
        far_mm: float = 20_000.0,
    ) -> None:
        """Find runtime and headset and make the session; `eye_size_px` defaults to what the runtime recommends.

        `context` must be current on this thread; without one the headset makes its own (`.context`).
        Raises NoOpenXRRuntime, HeadsetMissing, NoGraphicsBinding.
        """
        self._near_mm, self._far_mm = near_mm, far_mm
        self._undo: list[Callable[[], object]] = []  # how to take down what stands, newest last
        self._eyes: list[_EyeImages] = []
        self._state = xr.SessionState.UNKNOWN
        self._running = self._stopping = self._over = False
        self._layers: list[Any] = []
        self._located: Any = None
        self._offset_ns: int | None = None
        self.notes: list[str] = []
        try:
            self._open(application_name, context, eye_size_px)
        except BaseException:
            self.close()
            raise

    # --- the way up ---

    def _open(self, name: str, context: moderngl.Context | None, eye_size_px: tuple[int, int] | None) -> None:
        # The loader's own complaints go to stderr in many lines; ours says the same in one.
        os.environ.setdefault("XR_LOADER_DEBUG", "none")
        self.extensions = _extensions()
        wanted = [
            extension
            for extension in (OPENGL_EXTENSION, EGL_EXTENSION, _TIMESPEC_EXTENSION)
            if extension in self.extensions
        ]
        self._instance = _instance(name, wanted)
        self._undo.append(lambda: xr.destroy_instance(self._instance))
        properties = xr.get_instance_properties(self._instance)
        self.runtime_name = properties.runtime_name.decode()
        self.runtime_version = str(xr.Version(properties.runtime_version))
        self._converts_time = _TIMESPEC_EXTENSION in wanted
        try:
            system = xr.get_system(self._instance, xr.SystemGetInfo(form_factor=xr.FormFactor.HEAD_MOUNTED_DISPLAY))
        except (xr.FormFactorUnavailableError, xr.FormFactorUnsupportedError) as error:
            raise HeadsetMissing(
                f"{self.runtime_name} finds no headset ({type(error).__name__}); is it on and connected?"
            ) from error
        self.headset_name = xr.get_system_properties(self._instance, system).system_name.decode()
        if context is None:
            context = create_context(wanted)
            self._undo.append(context.release)
        self.context = context
        self._make_current()
        require_version(self._instance, system, context)
        binding = graphics_binding(wanted)
        self._session = xr.create_session(
            self._instance,
            xr.SessionCreateInfo(system_id=system, next=ctypes.cast(ctypes.pointer(binding), ctypes.c_void_p)),
        )
        self._undo.append(lambda: xr.destroy_session(self._session))
        self._make_current()  # a runtime may leave another context current
        self._stage = self._reference_space()
        self._undo.append(lambda: xr.destroy_space(self._stage))
        self._view_space = self._space(xr.ReferenceSpaceType.VIEW)
        self._undo.append(lambda: xr.destroy_space(self._view_space))
        self._hands = Hands(self._instance, self._session)
        self._undo.append(self._hands.release)
        recommended = xr.enumerate_view_configuration_views(self._instance, system, _STEREO)
        offered = [int(form) for form in xr.enumerate_swapchain_formats(self._session)]
        form = next((form for form in (_SRGB8_ALPHA8, _RGBA8) if form in offered), offered[0])
        if form != _SRGB8_ALPHA8:
            self.notes.append("no sRGB image format: colours will look washed out")
        for view in recommended:
            size = eye_size_px or (view.recommended_image_rect_width, view.recommended_image_rect_height)
            size = (min(size[0], view.max_image_rect_width), min(size[1], view.max_image_rect_height))
            images = _EyeImages(self._session, context, form, size)
            self._eyes.append(images)
            self._undo.append(images.release)
        self.eye_size_px = self._eyes[0].size_px
        self._clear_error()

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
        try:
            while self._look():
                if not self._running:
                    time.sleep(_IDLE_S)
                    continue
                frame = self._begin()
                try:
                    yield frame
                finally:
                    self._end()
        except (xr.SessionLostError, xr.InstanceLostError, xr.RuntimeFailureError) as error:
            self._over = True
            raise HeadsetLost(f"{self.runtime_name} took the session away: {type(error).__name__}") from error

    def stop(self) -> None:
        """Ask the runtime to end the session; `frames` ends when it agrees."""
        if self._running and not self._stopping:
            xr.request_exit_session(self._session)
        elif not self._running:
            self._over = True
        self._stopping = True

    def pulse(self, side: Side, amplitude: float, seconds: float) -> None:
        """Let a hand feel something: amplitude 0 to 1."""
        self._hands.pulse(side, amplitude, seconds)

    def controller(self, side: Side) -> str | None:
        """The controller in the hand as the runtime bound it (`valve/index_controller`), or None."""
        return self._hands.profile(side)

    def _look(self) -> bool:
        """Work off the runtime's events; False when all is over."""
        while not self._over:
            try:
                event = xr.poll_event(self._instance)
            except xr.EventUnavailable:
                break
            kind = xr.StructureType(event.type)
            if kind == xr.StructureType.EVENT_DATA_INSTANCE_LOSS_PENDING:
                self._over = True
            elif kind == xr.StructureType.EVENT_DATA_SESSION_STATE_CHANGED:
                pointer = ctypes.cast(ctypes.byref(event), ctypes.POINTER(xr.EventDataSessionStateChanged))
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

    def _begin(self) -> HeadsetFrame:
        state = xr.wait_frame(self._session, xr.FrameWaitInfo())
        xr.begin_frame(self._session, xr.FrameBeginInfo())
        self._display_time = int(state.predicted_display_time)
        self._layers = []
        try:
            views, located = self._views()
            self._located = located
            return HeadsetFrame(
                headset=self,
                t_display_ns=self._monotonic_ns(self._display_time, int(state.predicted_display_period)),
                should_render=bool(state.should_render),
                head=self._head(),
                views=views,
                hands=self._hands.sample(self._stage, self._display_time),
            )
        except BaseException:
            self._end()
            raise

    def _views(self) -> tuple[tuple[EyeView, EyeView] | None, Any]:
        state, located = xr.locate_views(
            self._session,
            xr.ViewLocateInfo(view_configuration_type=_STEREO, display_time=self._display_time, space=self._stage),
        )
        needed = int(xr.VIEW_STATE_ORIENTATION_VALID_BIT | xr.VIEW_STATE_POSITION_VALID_BIT)
        if int(state.view_state_flags) & needed != needed or len(located) != 2:
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
        needed = int(xr.SPACE_LOCATION_ORIENTATION_VALID_BIT | xr.SPACE_LOCATION_POSITION_VALID_BIT)
        if int(location.location_flags) & needed != needed:
            return None
        return stage_from_eye(location.pose)

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
        pictures = [images.draw(view, paint, capture) for images, view in zip(self._eyes, frame.views, strict=True)]
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
        if not self._undo:  # closed while a frame was open (an exception on its way out): nothing is left to end
            return
        xr.end_frame(
            self._session,
            xr.FrameEndInfo(
                display_time=self._display_time,
                environment_blend_mode=xr.EnvironmentBlendMode.OPAQUE,
                layers=[ctypes.byref(layer) for layer in layers],
            ),
        )
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
        self._over, self._running = True, False
        self._eyes = []
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Headset:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _extensions() -> frozenset[str]:
    try:
        return frozenset(p.extension_name.decode() for p in xr.enumerate_instance_extension_properties())
    except xr.XrException as error:
        raise _no_runtime(error) from error


def _instance(name: str, extensions: list[str]) -> Any:
    try:
        return xr.create_instance(
            xr.InstanceCreateInfo(
                application_info=xr.ApplicationInfo(
                    application_name=name[:120], engine_name="osteotwin", api_version=xr.Version(1, 0, 34)
                ),
                enabled_extension_names=extensions,
            )
        )
    except xr.XrException as error:
        raise _no_runtime(error) from error


def _no_runtime(error: Exception) -> NoOpenXRRuntime:
    manifest = os.environ.get("XR_RUNTIME_JSON")
    where = f"XR_RUNTIME_JSON is {manifest}" if manifest else "XR_RUNTIME_JSON is not set"
    return NoOpenXRRuntime(f"no OpenXR runtime answers ({type(error).__name__}; {where}); {HOW_TO_GET_ONE}")
