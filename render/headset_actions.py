"""What the surgeon's hands can say: poses, grab, trigger, undo, tool, stick; and the pulse that answers.

The actions are named by meaning; which button means what stands in `PROFILES`, a table a controller. A pose
that the runtime does not vouch for, valid and tracked in both position and orientation, is None: a tool whose
place is guessed must not cut.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import xr

from spatial.frames import Eye, Instrument, Stage
from spatial.rigid import Rigid, rotation_from_quaternion

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")

MM_PER_M = 1000.0

# Profile -> action -> input path below /user/hand/SIDE, one for both hands or (left, right).
PROFILES: dict[str, dict[str, str | tuple[str, str]]] = {
    "khr/simple_controller": {"trigger": "select/click", "undo": "menu/click"},
    "oculus/touch_controller": {
        "grab": "squeeze/value",
        "trigger": "trigger/value",
        "undo": ("y/click", "b/click"),
        "tool": ("x/click", "a/click"),
        "stick": "thumbstick",
    },
    "valve/index_controller": {
        "grab": "squeeze/value",
        "trigger": "trigger/value",
        "undo": "b/click",
        "tool": "a/click",
        "stick": "thumbstick",
    },
    "htc/vive_controller": {
        "grab": "squeeze/click",
        "trigger": "trigger/value",
        "undo": "menu/click",
        "tool": "trackpad/click",
        "stick": "trackpad",
    },
    "microsoft/motion_controller": {
        "grab": "squeeze/click",
        "trigger": "trigger/value",
        "undo": "menu/click",
        "tool": "thumbstick/click",
        "stick": "thumbstick",
    },
}

_KINDS = {
    "grip": xr.ActionType.POSE_INPUT,
    "aim": xr.ActionType.POSE_INPUT,
    "grab": xr.ActionType.FLOAT_INPUT,
    "trigger": xr.ActionType.FLOAT_INPUT,
    "undo": xr.ActionType.BOOLEAN_INPUT,
    "tool": xr.ActionType.BOOLEAN_INPUT,
    "stick": xr.ActionType.VECTOR2F_INPUT,
    "pulse": xr.ActionType.VIBRATION_OUTPUT,
}

_VOUCHED = (
    xr.SPACE_LOCATION_ORIENTATION_VALID_BIT
    | xr.SPACE_LOCATION_POSITION_VALID_BIT
    | xr.SPACE_LOCATION_ORIENTATION_TRACKED_BIT
    | xr.SPACE_LOCATION_POSITION_TRACKED_BIT
)


@dataclass(frozen=True, slots=True)
class HandSample:
    """One hand at the display time. A pose is None while the runtime does not track it; never a guess.

    Grip: the palm's grip on a rod, -z along the rod's upper end (OpenXR's definition). Aim: -z points.
    `grab` and `trigger` run from 0 to 1; `stick` is (right, up), each -1 to 1. A controller without the
    input, or without focus, reads 0 or False.
    """

    stage_from_grip: Rigid[Stage, Instrument] | None = None
    stage_from_aim: Rigid[Stage, Instrument] | None = None
    grab: float = 0.0
    trigger: float = 0.0
    undo: bool = False
    tool: bool = False
    stick: tuple[float, float] = (0.0, 0.0)


def has_all(flags: Any, needed: Any) -> bool:
    """Whether every needed bit is set."""
    return int(flags) & int(needed) == int(needed)


def stage_from_eye(pose: Any) -> Rigid[Stage, Eye]:
    """An XrPosef of a view or the head: metres in, millimetres out."""
    return Rigid[Stage, Eye](*_millimetres(pose))


def stage_from_hand(location: Any) -> Rigid[Stage, Instrument] | None:
    """An XrSpaceLocation of a hand: mm, or None unless both parts are valid and tracked."""
    if not has_all(location.location_flags, _VOUCHED):
        return None
    return Rigid[Stage, Instrument](*_millimetres(location.pose))


def _millimetres(pose: Any) -> tuple[Any, Any]:
    q, p = pose.orientation, pose.position
    return rotation_from_quaternion((q.w, q.x, q.y, q.z)), [p.x * MM_PER_M, p.y * MM_PER_M, p.z * MM_PER_M]


class Hands:
    """The action set of one session: owns the actions and their spaces."""

    def __init__(self, instance: Any, session: Any) -> None:
        """Declare the actions, suggest a binding for every known controller, attach to the session."""
        self._instance, self._session = instance, session
        self._users = {side: xr.string_to_path(instance, f"/user/hand/{side}") for side in SIDES}
        self._set = xr.create_action_set(
            instance,
            xr.ActionSetCreateInfo(action_set_name="surgeon", localized_action_set_name="Surgeon's hands", priority=0),
        )
        users = (xr.Path * 2)(*self._users.values())
        self._actions = {
            name: xr.create_action(
                self._set,
                xr.ActionCreateInfo(
                    action_name=name,
                    action_type=kind,
                    subaction_paths=users,
                    localized_action_name=name.capitalize(),
                ),
            )
            for name, kind in _KINDS.items()
        }
        self.refused_profiles = tuple(name for name in PROFILES if not self._suggest(name))
        self._spaces = {
            (side, name): xr.create_action_space(
                session,
                xr.ActionSpaceCreateInfo(
                    action=self._actions[name],
                    subaction_path=self._users[side],
                    pose_in_action_space=xr.Posef(),
                ),
            )
            for side in SIDES
            for name in ("grip", "aim")
        }
        xr.attach_session_action_sets(session, xr.SessionActionSetsAttachInfo(action_sets=[self._set]))

    def _suggest(self, profile: str) -> bool:
        """Suggest one controller's buttons; False where the runtime does not know that controller."""
        table = {"grip": "grip/pose", "aim": "aim/pose", **PROFILES[profile]}
        paths: list[tuple[str, str]] = []
        for number, side in enumerate(SIDES):
            for action, where in table.items():
                path = where if isinstance(where, str) else where[number]
                paths.append((action, f"/user/hand/{side}/input/{path}"))
            paths.append(("pulse", f"/user/hand/{side}/output/haptic"))
        bindings = [
            xr.ActionSuggestedBinding(self._actions[action], xr.string_to_path(self._instance, path))
            for action, path in paths
        ]
        try:
            xr.suggest_interaction_profile_bindings(
                self._instance,
                xr.InteractionProfileSuggestedBinding(
                    interaction_profile=xr.string_to_path(self._instance, f"/interaction_profiles/{profile}"),
                    suggested_bindings=(xr.ActionSuggestedBinding * len(bindings))(*bindings),
                ),
            )
        except xr.PathUnsupportedError:
            return False
        return True

    def sample(self, stage: Any, display_time: int) -> dict[Side, HandSample]:
        """Read both hands for the display time; without focus both are at rest and untracked."""
        active = (xr.ActiveActionSet * 1)(xr.ActiveActionSet(self._set, xr.NULL_PATH))
        try:
            xr.sync_actions(self._session, xr.ActionsSyncInfo(active_action_sets=active))
        except xr.SessionNotFocused:
            return {side: HandSample() for side in SIDES}
        return {side: self._sample(side, stage, display_time) for side in SIDES}

    def _sample(self, side: Side, stage: Any, display_time: int) -> HandSample:
        stick = self._state(side, "stick", xr.get_action_state_vector2f)
        return HandSample(
            stage_from_grip=self._pose(side, "grip", stage, display_time),
            stage_from_aim=self._pose(side, "aim", stage, display_time),
            grab=float(self._state(side, "grab", xr.get_action_state_float) or 0.0),
            trigger=float(self._state(side, "trigger", xr.get_action_state_float) or 0.0),
            undo=bool(self._state(side, "undo", xr.get_action_state_boolean)),
            tool=bool(self._state(side, "tool", xr.get_action_state_boolean)),
            stick=(0.0, 0.0) if stick is None else (float(stick.x), float(stick.y)),
        )

    def _state(self, side: Side, name: str, ask: Callable[[Any, Any], Any]) -> Any:
        """The action's current value, or None where no active input is bound to it."""
        info = xr.ActionStateGetInfo(action=self._actions[name], subaction_path=self._users[side])
        state = ask(self._session, info)
        return state.current_state if state.is_active else None

    def _pose(self, side: Side, name: str, stage: Any, time: int) -> Rigid[Stage, Instrument] | None:
        info = xr.ActionStateGetInfo(action=self._actions[name], subaction_path=self._users[side])
        if not xr.get_action_state_pose(self._session, info).is_active:
            return None
        return stage_from_hand(xr.locate_space(self._spaces[side, name], stage, time))

    def pulse(self, side: Side, amplitude: float, seconds: float) -> None:
        """Let the hand feel something, strength 0 to 1; the runtime picks the frequency."""
        xr.apply_haptic_feedback(
            self._session,
            xr.HapticActionInfo(action=self._actions["pulse"], subaction_path=self._users[side]),
            xr.HapticVibration(
                duration=max(1, round(seconds * 1e9)),
                frequency=xr.FREQUENCY_UNSPECIFIED,
                amplitude=min(max(amplitude, 0.0), 1.0),
            ),
        )

    def profile(self, side: Side) -> str | None:
        """The controller that the runtime bound for the hand (`valve/index_controller`), or None."""
        state = xr.get_current_interaction_profile(self._session, self._users[side])
        if state.interaction_profile == xr.NULL_PATH:
            return None
        path = xr.path_to_string(self._instance, state.interaction_profile)
        text = path if isinstance(path, str) else ctypes.string_at(path).decode()
        return text.removeprefix("/interaction_profiles/")

    def release(self) -> None:
        """Destroy spaces and action set; the session must still be there."""
        for space in self._spaces.values():
            xr.destroy_space(space)
        xr.destroy_action_set(self._set)
