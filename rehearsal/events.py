"""What can happen in a rehearsal, as JSON-able frozen values: what the hands do, commands, and a teammate's edits.

One line of a script or of a recorded stream is one event, `{"kind": "sample" | "command" | "remote_edit", "t_ns", …}`.
Floats survive the file bit for bit (shortest round-trip repr), so a recorded session recomputes exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from spatial.faults import Fault
from spatial.frames import A, Eye, Instrument, Stage
from spatial.rigid import NotFinite, NotRigid, Rigid

Side = Literal["left", "right"]
Tool = Literal["hand", "drill", "saw"]
CommandKind = Literal["undo", "redo", "select_tool", "reset_view"]

SIDES: tuple[Side, Side] = ("left", "right")
TOOLS: tuple[Tool, ...] = get_args(Tool)


class BadEvent(Fault):
    """An event that can't be read: a missing field, a value off its scale, a pose that is no rigid motion."""


@dataclass(frozen=True, slots=True, eq=False)
class HandInput:
    """One hand at one instant, as the controller gives it.

    Poses: grip at the palm; aim points along its -z. None: not tracked; then the hand holds still, whatever its buttons
    say. `grab` and `trigger` run 0 to 1; `stick` is (right, up), each -1 to 1.
    """

    stage_from_grip: Rigid[Stage, Instrument] | None = None
    stage_from_aim: Rigid[Stage, Instrument] | None = None
    grab: float = 0.0
    trigger: float = 0.0
    undo: bool = False
    tool: bool = False
    stick: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check the scales."""
        for name, low, values in (
            ("grab", 0.0, (self.grab,)),
            ("trigger", 0.0, (self.trigger,)),
            ("stick", -1.0, self.stick),
        ):
            if not all(np.isfinite(v) and low <= v <= 1.0 for v in values):
                raise BadEvent(f"{name} is {values}, it runs from {low:g} to 1")

    @property
    def is_tracked(self) -> bool:
        """Whether both poses are known."""
        return self.stage_from_grip is not None and self.stage_from_aim is not None

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields."""
        return {
            "stage_from_grip": pose_json(self.stage_from_grip),
            "stage_from_aim": pose_json(self.stage_from_aim),
            "grab": self.grab,
            "trigger": self.trigger,
            "undo": self.undo,
            "tool": self.tool,
            "stick": list(self.stick),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HandInput:
        """Inverse of `to_json`; fields that are absent are at rest. Raises BadEvent."""
        unknown = set(value) - set(cls.__slots__)
        if unknown:
            raise BadEvent(f"unknown field {sorted(unknown)[0]!r} of a hand; known are {', '.join(cls.__slots__)}")
        stick = value.get("stick", (0.0, 0.0))
        if not isinstance(stick, list | tuple) or len(stick) != 2:
            raise BadEvent(f"stick is {stick!r}, [right, up] is needed")
        return cls(
            stage_from_grip=read_pose(value.get("stage_from_grip"), "stage_from_grip"),
            stage_from_aim=read_pose(value.get("stage_from_aim"), "stage_from_aim"),
            grab=_number(value.get("grab", 0.0), "grab"),
            trigger=_number(value.get("trigger", 0.0), "trigger"),
            undo=_flag(value.get("undo", False), "undo"),
            tool=_flag(value.get("tool", False), "tool"),
            stick=(_number(stick[0], "stick"), _number(stick[1], "stick")),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ControllerSample:
    """Head and hands at one instant of a monotonic clock; a head of None is not tracked."""

    t_ns: int
    head: Rigid[Stage, Eye] | None = None
    left: HandInput = field(default_factory=HandInput)
    right: HandInput = field(default_factory=HandInput)

    def hand(self, side: Side) -> HandInput:
        """One of the two."""
        return self.left if side == "left" else self.right

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "sample", "t_ns", "head", "hands": {"left", "right"}}`."""
        return {
            "kind": "sample",
            "t_ns": self.t_ns,
            "head": pose_json(self.head),
            "hands": {"left": self.left.to_json(), "right": self.right.to_json()},
        }


@dataclass(frozen=True, slots=True)
class Command:
    """Something said by key or menu. `select_tool` names a hand and a tool; the others need neither."""

    t_ns: int
    author: str
    kind: CommandKind
    hand: Side | None = None
    tool: Tool | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        if self.kind not in get_args(CommandKind):
            raise BadEvent(f"command {self.kind!r}; known are {', '.join(get_args(CommandKind))}")
        if self.kind == "select_tool" and (self.hand not in SIDES or self.tool not in TOOLS):
            raise BadEvent(f"select_tool needs a hand (left, right) and a tool ({', '.join(TOOLS)})")

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "command", "t_ns", "author", "command", "hand", "tool"}`."""
        return {
            "kind": "command",
            "t_ns": self.t_ns,
            "author": self.author,
            "command": self.kind,
            "hand": self.hand,
            "tool": self.tool,
        }


@dataclass(frozen=True, slots=True, eq=False)
class RemoteEdit:
    """A teammate's entry of the shared journal: an edit's kind and outcome, or `undo` with `{"undoes": id}`."""

    t_ns: int
    author: str
    id: str
    edit: str
    payload: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "remote_edit", "t_ns", "author", "id", "edit", "payload"}`."""
        return {
            "kind": "remote_edit",
            "t_ns": self.t_ns,
            "author": self.author,
            "id": self.id,
            "edit": self.edit,
            "payload": dict(self.payload),
        }


Event = ControllerSample | Command | RemoteEdit


def event_from_json(value: Any) -> Event:
    """One event from its JSON object; raises BadEvent that names the field."""
    if not isinstance(value, dict):
        raise BadEvent(f"an event is a JSON object, not {type(value).__name__}")
    t_ns = value.get("t_ns")
    if isinstance(t_ns, bool) or not isinstance(t_ns, int) or t_ns < 0:
        raise BadEvent(f"t_ns is {t_ns!r}, a whole number of nanoseconds is needed")
    kind = value.get("kind", "sample")
    if kind == "sample":
        hands = value.get("hands", {})
        if not isinstance(hands, dict) or set(hands) - set(SIDES):
            raise BadEvent("hands must be an object with left and right")
        left, right = (HandInput.from_json(_object(hands.get(side, {}), f"hands.{side}")) for side in SIDES)
        return ControllerSample(t_ns, read_pose(value.get("head"), "head"), left, right)
    if kind == "command":
        return Command(t_ns, _text(value, "author"), value.get("command", ""), value.get("hand"), value.get("tool"))
    if kind == "remote_edit":
        payload = _object(value.get("payload"), "payload")
        return RemoteEdit(t_ns, _text(value, "author"), _text(value, "id"), _text(value, "edit"), payload)
    raise BadEvent(f"event kind {kind!r}; known are sample, command, remote_edit")


def pose_json(pose: Rigid[Any, Any] | None) -> dict[str, Any] | None:
    """A pose or null."""
    return None if pose is None else pose.to_json()


def read_pose(value: Any, what: str) -> Rigid[Stage, A] | None:
    """A pose of something in the stage, or None; raises BadEvent naming the field."""
    if value is None:
        return None
    try:
        return Rigid[Stage, A].from_json(_object(value, what))
    except (NotRigid, NotFinite) as error:
        raise BadEvent(f"{what}: {error.message}") from None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadEvent(f"{what} must be a JSON object")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadEvent(f"{what} is {value!r}, a number is needed")
    return float(value)


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise BadEvent(f"{what} is {value!r}, true or false is needed")
    return value


def _text(value: Mapping[str, Any], what: str) -> str:
    text = value.get(what)
    if not isinstance(text, str) or not text:
        raise BadEvent(f"{what} is missing")
    return text
