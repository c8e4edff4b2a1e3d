"""From devices to events: a headset's frame, or mouse and keys, as a `ControllerSample`.

On the desktop the right hand points from the eye through the mouse: the left button is its trigger, the wheel brings
the tool nearer or farther. The left hand holds the model by its middle: drag with the right button to turn it, with the
middle button to carry it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from rehearsal.drill import REACH_MM
from rehearsal.events import Command, ControllerSample, Event, HandInput, Tool
from rehearsal.model import TABLE_MM
from rehearsal.stance import HEAD_MM, UP, looking, pointing
from spatial.frames import Eye, Instrument, Stage
from spatial.rigid import Array, Rigid, rotation_exp

if TYPE_CHECKING:
    from render.headset import HandSample, HeadsetFrame

FOV_Y_RAD = 0.8
_RAD_PER_PX = 0.006
_MM_PER_PX = 0.8
_MM_PER_NOTCH = 2.0
KEY_TOOLS: dict[str, Tool] = {"1": "hand", "2": "drill", "3": "saw"}


def sample_of(frame: HeadsetFrame) -> ControllerSample:
    """What head and hands are at the frame's display time."""
    return ControllerSample(frame.t_display_ns, frame.head, _input(frame.hands["left"]), _input(frame.hands["right"]))


def _input(hand: HandSample) -> HandInput:
    right, up = (min(max(float(v), -1.0), 1.0) for v in hand.stick)
    return HandInput(
        stage_from_grip=hand.stage_from_grip,
        stage_from_aim=hand.stage_from_aim,
        grab=min(max(float(hand.grab), 0.0), 1.0),
        trigger=min(max(float(hand.trigger), 0.0), 1.0),
        undo=bool(hand.undo),
        tool=bool(hand.tool),
        stick=(right, up),
    )


@dataclass(frozen=True, slots=True)
class Mouse:
    """The mouse at one instant: place in the picture (0, 0 top left), buttons held, notches scrolled since the last."""

    x_px: float
    y_px: float
    left: bool = False
    middle: bool = False
    right: bool = False
    scrolled: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Desktop:
    """The virtual hands of mouse and keys: where the left holds the model, how far the right reaches."""

    head: Rigid[Stage, Eye] = field(default_factory=lambda: looking(HEAD_MM, TABLE_MM))
    left: Rigid[Stage, Instrument] = field(default_factory=lambda: Rigid[Stage, Instrument](np.eye(3), TABLE_MM))
    tip_mm: float = 480.0  # from the eye to the tool's tip
    before: Mouse | None = None

    def moved(self, mouse: Mouse) -> Desktop:
        """After the mouse has moved."""
        before = self.before or mouse
        right_px, down_px = mouse.x_px - before.x_px, mouse.y_px - before.y_px
        left = self.left
        if mouse.right and before.right:
            axes = self.head.rotation
            turn = rotation_exp(_RAD_PER_PX * (right_px * UP + down_px * axes[:, 0]))
            left = Rigid[Stage, Instrument](turn @ left.rotation, left.translation_mm)
        elif mouse.middle and before.middle:
            axes = self.head.rotation
            shift = _MM_PER_PX * (right_px * axes[:, 0] - down_px * axes[:, 1])
            left = Rigid[Stage, Instrument](left.rotation, left.translation_mm + shift)
        tip_mm = max(self.tip_mm + _MM_PER_NOTCH * mouse.scrolled, REACH_MM + 50.0)
        return replace(self, left=left, tip_mm=tip_mm, before=mouse)

    def sample(self, t_ns: int, size_px: tuple[int, int]) -> ControllerSample:
        """Head and both hands as events need them."""
        mouse = self.before or Mouse(size_px[0] / 2.0, size_px[1] / 2.0)
        aim = pointing(np.zeros(3), self._ray(mouse, size_px), UP)
        place = self.head.translation_mm - (self.tip_mm - REACH_MM) * aim.rotation[:, 2]
        right = Rigid[Stage, Instrument](aim.rotation, place)
        return ControllerSample(
            t_ns,
            self.head,
            HandInput(self.left, self.left, grab=1.0 if mouse.right or mouse.middle else 0.0),
            HandInput(right, right, trigger=1.0 if mouse.left else 0.0),
        )

    def _ray(self, mouse: Mouse, size_px: tuple[int, int]) -> Array:
        width, height = size_px
        half = np.tan(FOV_Y_RAD / 2.0) / (height / 2.0)
        x, y = (mouse.x_px + 0.5 - width / 2.0) * half, (height / 2.0 - mouse.y_px - 0.5) * half
        return np.asarray(self.head.rotation @ np.array([x, y, -1.0]))


def key_event(key: str, t_ns: int, author: str) -> Event | None:
    """The command of a key: U undo, Y redo, R the model back on the table, 1 to 3 the right hand's tool; else None."""
    key = key.upper()
    if key in KEY_TOOLS:
        return Command(t_ns, author, "select_tool", "right", KEY_TOOLS[key])
    if key == "U":
        return Command(t_ns, author, "undo")
    if key == "Y":
        return Command(t_ns, author, "redo")
    if key == "R":
        return Command(t_ns, author, "reset_view")
    return None
