"""A process under the runtime: `python -m tests.openxr.trial long|twice OUT` plays the script, writes what came.

The OpenXR loader reads its environment when it loads, so each trial is a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import moderngl
import numpy as np
import xr

from render.headset import EyeView, HandSample, Headset, HeadsetFrame, HeadsetLost
from spatial.rigid import Rigid
from tests.openxr.remote import Remote
from tests.openxr.script import BLOCKS, EYE_SIZE_PX, FRAMES_PER_BLOCK, LIGHTS_MM, PICTURED, pretences

PORT = int(os.environ["OSTEOTWIN_REMOTE_PORT"])
BACKGROUND = 0.2


class Lights:
    """Square points of 15 px, one channel each, on grey: plain moderngl, nothing of the painter."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._program = context.program(
            vertex_shader="""
                #version 330
                uniform mat4 clip_from_stage;
                in vec3 position_mm; in vec3 colour; out vec3 shade;
                void main() {
                    gl_Position = clip_from_stage * vec4(position_mm, 1.0); gl_PointSize = 15.0; shade = colour;
                }""",
            fragment_shader="""
                #version 330
                in vec3 shade; out vec4 pixel;
                void main() { pixel = vec4(shade, 1.0); }""",
        )
        rows = np.hstack([np.array(LIGHTS_MM), 0.2 + 0.8 * np.eye(3)]).astype("f4")
        self._array = context.vertex_array(self._program, context.buffer(rows.tobytes()), "position_mm", "colour")

    def paint(self, view: EyeView, canvas: moderngl.Framebuffer) -> None:
        """Both eyes call this."""
        assert canvas.samples > 1
        canvas.clear(BACKGROUND, BACKGROUND, BACKGROUND)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.PROGRAM_POINT_SIZE)
        clip_from_stage = view.projection @ view.stage_from_eye.inverse().matrix()
        uniform = self._program["clip_from_stage"]
        assert isinstance(uniform, moderngl.Uniform)
        uniform.write(clip_from_stage.T.astype("f4").tobytes())
        self._array.render(moderngl.POINTS)


def _pose(pose: Rigid[Any, Any] | None) -> dict[str, Any] | None:
    return None if pose is None else pose.to_json()


def _hand(hand: HandSample) -> dict[str, Any]:
    return {
        "grip": _pose(hand.stage_from_grip),
        "aim": _pose(hand.stage_from_aim),
        "grab": hand.grab,
        "trigger": hand.trigger,
        "undo": hand.undo,
        "tool": hand.tool,
        "stick": list(hand.stick),
    }


def _frame(frame: HeadsetFrame) -> dict[str, Any]:
    return {
        "head": _pose(frame.head),
        "eyes": [_pose(view.stage_from_eye) for view in frame.views or ()],
        "sizes_px": [view.size_px for view in frame.views or ()],
        "hands": {side: _hand(hand) for side, hand in frame.hands.items()},
    }


def _listeners(port: int) -> list[str]:
    """Local addresses (hex, as the kernel writes them) that listen on the port, both families."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.append(address)
    return found


def long(out: Path) -> None:
    """Three hundred frames of the script, the session ended by `stop`."""
    blocks: list[dict[str, Any]] = []
    pictures: dict[str, np.ndarray] = {}
    due_ms: list[float] = []
    clock: list[int] = []
    with Headset("trial", eye_size_px=EYE_SIZE_PX) as headset, Remote(PORT) as remote:
        lights = Lights(headset.context)
        report: dict[str, Any] = {
            "runtime": headset.runtime_name,
            "has_stage": headset.has_stage,
            "listeners": _listeners(PORT),
        }
        script = pretences()
        visible = pulses = 0
        for frame in headset.frames():
            if not frame.should_render:  # before the session is visible
                continue
            block, step = divmod(visible, FRAMES_PER_BLOCK)
            if block == BLOCKS:
                headset.stop()
                continue
            visible += 1
            if step == 0:
                remote.become(
                    head=script[block].head,
                    left=script[block].left,
                    right=script[block].right,
                    views=script[block].views,
                )
            last = step == FRAMES_PER_BLOCK - 1
            drawn = frame.draw(lights.paint, capture=last and block in PICTURED)
            clock.append(frame.t_display_ns)
            due_ms.append((frame.t_display_ns - time.monotonic_ns()) / 1e6)
            if drawn is not None:
                pictures[f"left_{block}"], pictures[f"right_{block}"] = drawn
            if step == 5:
                frame.pulse("left" if block % 2 else "right", 0.5, 0.05)
                pulses += 1
            if last:
                blocks.append(_frame(frame))
        report |= {
            "frames": visible,
            "pulses": pulses,
            "blocks": blocks,
            "t_display_ns": clock,
            "due_ms": due_ms,
            "controllers": [headset.controller("left"), headset.controller("right")],
            "gl_error": headset.context.error,
            "renderer": headset.context.info["GL_RENDERER"],
        }
    np.savez_compressed(out / "pictures.npz", **pictures)  # type: ignore[arg-type]  # names are ours
    (out / "report.json").write_text(json.dumps(report))


def twice(out: Path) -> None:
    """Sessions made and destroyed in one process: stopped, left in the loop, thrown out of, and once more."""
    ended: list[str] = []
    end_session = xr.end_session

    def refuse(session: object) -> None:
        raise xr.SessionLostError

    def paint(view: EyeView, canvas: moderngl.Framebuffer) -> None:
        canvas.clear(0.1, 0.5 if view.side == "left" else 0.9, 0.1)

    for way in ("stopped", "left", "thrown", "lost", "again"):
        try:
            with Headset("trial") as headset:
                picture = None
                for number, frame in enumerate(headset.frames()):
                    drawn = frame.draw(paint, capture=True)
                    picture = picture if drawn is None else drawn
                    if number == 5 and way == "thrown":
                        raise ArithmeticError("thrown in the loop")
                    if number == 5 and way == "left":
                        break
                    if number == 5 and way == "lost":
                        xr.end_session = refuse
                    if number == 5:
                        headset.stop()
                assert picture is not None
                assert [int(p[0, 0, 1]) for p in picture] == [128, 230]
                ended.append(way)
        except (ArithmeticError, HeadsetLost) as error:
            ended.append(f"{way} {type(error).__name__}")
            xr.end_session = end_session
    (out / "report.json").write_text(json.dumps({"ended": ended}))


def window(out: Path) -> None:
    """A session on a GLX context that was there before (as a desktop window's), mirrored on the desktop."""
    libraries: dict[str, Any] = {"libgl": "libGL.so.1", "libx11": "libX11.so.6"}
    context = moderngl.create_context(standalone=True, **libraries)
    desktop = context.simple_framebuffer((200, 100))
    picture: Any = None
    with Headset("trial", context=context, eye_size_px=(64, 64), samples=1) as headset:

        def paint(view: EyeView, canvas: moderngl.Framebuffer) -> None:
            assert canvas.samples == 0
            canvas.clear(*((1.0, 0.0, 0.0) if view.side == "left" else (0.0, 0.0, 1.0)))

        for number, frame in enumerate(headset.frames()):
            drawn = frame.draw(paint, capture=True)
            picture = picture if drawn is None else drawn
            frame.mirror(desktop)
            if number == 10:
                headset.stop()
        shown = np.frombuffer(desktop.read(), np.uint8).reshape(100, 200, 3)
    report = {
        "eyes": [eye[32, 32].tolist() for eye in picture],
        "middle": shown[50, 52:148].reshape(-1, 3).tolist(),
        "border": shown[50, [0, 48, 151, 199]].tolist(),
        "still_usable": context.error == "GL_NO_ERROR" and context.buffer(b"1234").read() == b"1234",
    }
    (out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    {"long": long, "twice": twice, "window": window}[sys.argv[1]](Path(sys.argv[2]))
