"""How an OpenXR session takes hold of an OpenGL context: through EGL, GLX or WGL, by what is current.

One function a window system; each returns the structure that `xrCreateSession` chains. EGL needs no display
(XR_MNDX_egl_enable, Monado); GLX and WGL are what the headset vendors' runtimes offer (XR_KHR_opengl_enable).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Collection
from typing import Any, ClassVar

import moderngl
import xr

from spatial.faults import Fault

EGL_EXTENSION = "XR_MNDX_egl_enable"
OPENGL_EXTENSION = "XR_KHR_opengl_enable"

_SYSTEM = platform.system()

_EGL_CONFIG_ID = 0x3028
_GLX_FBCONFIG_ID = 0x8013
_GLX_SCREEN = 0x800C
_GLX_VISUAL_ID = 0x800B


class NoGraphicsBinding(Fault):
    """The runtime and this machine's OpenGL have no common way to share pictures."""


class _GraphicsBindingEgl(ctypes.Structure):
    """XrGraphicsBindingEGLMNDX (OpenXR 1.1, XR_MNDX_egl_enable); pyopenxr has none that can be filled."""

    _fields_: ClassVar = [
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("get_proc_address", ctypes.c_void_p),
        ("display", ctypes.c_void_p),
        ("config", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    ]


def create_context(offered: Collection[str]) -> moderngl.Context:
    """A context of our own that the runtime can take: EGL where it offers that, else GLX or WGL.

    Raises NoGraphicsBinding where neither is offered or no context can be made.
    """
    if OPENGL_EXTENSION not in offered:
        raise NoGraphicsBinding(f"the OpenXR runtime does not offer {OPENGL_EXTENSION}; OpenGL is what we draw with")
    settings: dict[str, Any] = {}
    if _SYSTEM == "Linux":
        settings["libgl"] = "libGL.so.1"
        if EGL_EXTENSION in offered:
            settings |= {"backend": "egl", "libegl": "libEGL.so.1"}
        else:
            settings["libx11"] = "libX11.so.6"
    try:
        return moderngl.create_context(standalone=True, **settings)
    except Exception as error:  # moderngl raises plain Exception
        raise NoGraphicsBinding(
            f"no OpenGL context for the headset: {error}; is a display there (DISPLAY) and a GL driver?"
        ) from error


def require_version(instance: Any, system: Any, context: moderngl.Context) -> None:
    """Ask which OpenGL the runtime needs, as the specification demands before a session; refuse an older one."""
    ask = ctypes.cast(
        xr.get_instance_proc_addr(instance, "xrGetOpenGLGraphicsRequirementsKHR"),
        xr.PFN_xrGetOpenGLGraphicsRequirementsKHR,
    )
    requirements = xr.GraphicsRequirementsOpenGLKHR()
    answer = xr.check_result(xr.Result(ask(instance, system, ctypes.byref(requirements))))
    if answer.is_exception():
        raise answer
    least = xr.Version(requirements.min_api_version_supported)
    if (context.version_code // 100, context.version_code // 10 % 10) < (least.major, least.minor):
        raise NoGraphicsBinding(
            f"the OpenXR runtime needs OpenGL {least.major}.{least.minor}, this context is {context.version_code}"
        )


def graphics_binding(offered: Collection[str]) -> ctypes.Structure:
    """The binding of the context that is current on this thread; the API is asked, not assumed.

    Raises NoGraphicsBinding where no context is current or the runtime can't take that kind.
    """
    if OPENGL_EXTENSION not in offered:
        raise NoGraphicsBinding(f"the OpenXR runtime does not offer {OPENGL_EXTENSION}; OpenGL is what we draw with")
    if _SYSTEM == "Windows":
        return _wgl_binding()
    egl = _egl_binding()
    if egl is not None:
        if EGL_EXTENSION not in offered:
            raise NoGraphicsBinding(f"the context is EGL's and the OpenXR runtime does not offer {EGL_EXTENSION}")
        return egl
    glx = _glx_binding()
    if glx is not None:
        return glx
    raise NoGraphicsBinding("no OpenGL context (EGL or GLX) is current on this thread")


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


def _egl_binding() -> _GraphicsBindingEgl | None:
    egl = _library("libEGL.so.1")
    if egl is None:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    context = _function(egl, "eglGetCurrentContext", pointer)()
    display = _function(egl, "eglGetCurrentDisplay", pointer)()
    if not context or not display:
        return None
    config_id = integer()
    query = _function(egl, "eglQueryContext", ctypes.c_uint, pointer, pointer, integer, ctypes.POINTER(integer))
    query(display, context, _EGL_CONFIG_ID, ctypes.byref(config_id))
    choose = _function(
        egl, "eglChooseConfig", ctypes.c_uint, pointer, ctypes.POINTER(integer), ctypes.POINTER(pointer), integer,
        ctypes.POINTER(integer),
    )  # fmt: skip
    config, count = pointer(), integer()
    wanted = (integer * 3)(_EGL_CONFIG_ID, config_id.value, 0x3038)  # EGL_NONE ends the list
    if not choose(display, wanted, ctypes.byref(config), 1, ctypes.byref(count)) or count.value != 1:
        raise NoGraphicsBinding(f"EGL does not find its own configuration {config_id.value}")
    return _GraphicsBindingEgl(
        type=xr.StructureType.GRAPHICS_BINDING_EGL_MNDX.value,
        next=None,
        get_proc_address=ctypes.cast(egl.eglGetProcAddress, pointer).value,
        display=display,
        config=config.value,
        context=context,
    )


def _glx_binding() -> ctypes.Structure | None:
    gl = _library("libGL.so.1")
    if gl is None:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    context = _function(gl, "glXGetCurrentContext", pointer)()
    display = _function(gl, "glXGetCurrentDisplay", pointer)()
    drawable = _function(gl, "glXGetCurrentDrawable", ctypes.c_ulong)()
    if not context or not display:
        return None
    query = _function(gl, "glXQueryContext", integer, pointer, pointer, integer, ctypes.POINTER(integer))
    config_id, screen = integer(), integer()
    query(display, context, _GLX_FBCONFIG_ID, ctypes.byref(config_id))
    query(display, context, _GLX_SCREEN, ctypes.byref(screen))
    every = _function(gl, "glXGetFBConfigs", ctypes.POINTER(pointer), pointer, integer, ctypes.POINTER(integer))
    attribute = _function(gl, "glXGetFBConfigAttrib", integer, pointer, pointer, integer, ctypes.POINTER(integer))
    count, value = integer(), integer()
    configs = every(display, screen.value, ctypes.byref(count))
    config = None
    for number in range(count.value):
        attribute(display, configs[number], _GLX_FBCONFIG_ID, ctypes.byref(value))
        if value.value == config_id.value:
            config = configs[number]
    if config is None:
        raise NoGraphicsBinding(f"GLX does not find its own configuration {config_id.value}")
    attribute(display, config, _GLX_VISUAL_ID, ctypes.byref(value))
    binding = xr.GraphicsBindingOpenGLXlibKHR(visualid=value.value)
    fields = {name: kind for name, kind in type(binding)._fields_}
    binding.x_display = ctypes.cast(display, fields["x_display"])
    binding.glx_fbconfig = ctypes.cast(config, fields["glx_fbconfig"])
    binding.glx_drawable = drawable
    binding.glx_context = ctypes.cast(context, fields["glx_context"])
    return binding  # type: ignore[no-any-return]  # xr is untyped


def _wgl_binding() -> ctypes.Structure:
    gl = ctypes.CDLL("opengl32")
    context = _function(gl, "wglGetCurrentContext", ctypes.c_void_p)()
    device = _function(gl, "wglGetCurrentDC", ctypes.c_void_p)()
    if not context or not device:
        raise NoGraphicsBinding("no OpenGL context (WGL) is current on this thread")
    binding = xr.GraphicsBindingOpenGLWin32KHR()
    binding.h_dc = device
    binding.h_glrc = context
    return binding  # type: ignore[no-any-return]  # xr is untyped
