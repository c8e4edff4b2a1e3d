"""A scripted surgeon: performs a plan as a person would, and leaves the events behind as a script.

Look, take the model in one hand and turn it, size it with both, drill each planned screw with a small error of the
hand, take the first back and put it in again, cut the planned wedge, close it. The surgeon plays the session along, so
the hands go to where the model has gone. Seeded: the same plan and seed give the same events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rehearsal import closing as closings
from rehearsal import drill, saw
from rehearsal.events import ControllerSample, Event, HandInput, Side, Tool
from rehearsal.execution import open_cut
from rehearsal.model import TABLE_MM, Model
from rehearsal.session import poses, step
from rehearsal.stance import HEAD_MM, UP, looking, pointing
from rehearsal.state import start
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Array, Points, Rigid, rotation_exp, rotation_log
from spatial.shapes import Line
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.screws.screw import Screw

RATE_HZ = 30
REST_MM = {"left": np.array([-260.0, 1150.0, -250.0]), "right": np.array([260.0, 1150.0, -250.0])}
# the palm lies behind and below the pointing direction, as on usual controllers
AIM_FROM_GRIP: Rigid[Instrument, Instrument] = Rigid.exp((0.6, 0.0, 0.0), (0.0, -15.0, 45.0))


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The error of the hand, one sigma."""

    entry_mm: float = 0.4
    angle_rad: float = float(np.deg2rad(0.8))
    depth_mm: float = 0.6
    blade_mm: float = 0.3
    blade_rad: float = float(np.deg2rad(0.4))


class Surgeon:
    """Plays a session and keeps what was done with the hands. Each method is a movement; time passes only in them."""

    def __init__(
        self, model: Model, seed: int = 1, rate_hz: int = RATE_HZ, steadiness: Steadiness = Steadiness()
    ) -> None:
        """Stand before the table, hands at rest."""
        self.model = model
        self.events: list[Event] = []
        self.state = start(model, f"script-{seed}")
        self._rng = np.random.default_rng(seed)
        self._steady = steadiness
        self._tick_ns = 1_000_000_000 // rate_hz
        self._t_ns = 1_000_000_000
        self._head = looking(HEAD_MM, TABLE_MM)
        self._inputs: dict[Side, HandInput] = {
            side: _at(pointing(REST_MM[side], TABLE_MM - REST_MM[side], UP)) for side in ("left", "right")
        }

    # --- the smallest movements ---

    def wait(self, seconds: float) -> None:
        """Hold everything as it is."""
        for _ in range(self._ticks(seconds)):
            self._tick()

    def press(self, side: Side, **buttons: Any) -> None:
        """Set buttons (`grab`, `trigger`, `undo`, `tool`, `stick`) and let two samples see it."""
        self._inputs[side] = replace(self._inputs[side], **buttons)
        self.wait(0.07)

    def tap(self, side: Side, **buttons: Any) -> None:
        """Press and let go again; names as in `press`."""
        before = {name: getattr(self._inputs[side], name) for name in buttons}
        self.press(side, **buttons)
        self.press(side, **before)

    def move(self, seconds: float, **targets: Rigid[Stage, Instrument]) -> None:
        """Bring the aim of one or both hands to `left=`, `right=`, smoothly (minimum jerk)."""
        begins = {side: self._aim(side) for side in targets}  # type: ignore[arg-type]  # the keys are sides
        ticks = self._ticks(seconds)
        for tick in range(1, ticks + 1):
            s = tick / ticks
            share = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
            for side, target in targets.items():
                self._place(side, _between(begins[side], target, share))  # type: ignore[arg-type]  # as above
            self._tick()

    def look(self, at_mm: Array, seconds: float = 0.8) -> None:
        """Turn the head."""
        begin, target = self._head, looking(HEAD_MM, at_mm)
        ticks = self._ticks(seconds)
        for tick in range(1, ticks + 1):
            self._head = _between(begin, target, tick / ticks)
            self._tick()

    def take_tool(self, side: Side, tool: Tool) -> None:
        """Press the tool button until the tool is in the hand."""
        for _ in range(3):
            if self.state.hand(side).tool == tool:
                return
            self.tap(side, tool=True)

    # --- the procedure ---

    def turn_model(self) -> None:
        """Take the model in the left hand, lift and turn it a little; then size it up with both hands."""
        grip = TABLE_MM + np.array([-120.0, 40.0, 60.0])
        held = pointing(grip, np.array([0.3, -0.4, -0.8]), UP)
        self.move(0.9, left=held)
        self.press("left", grab=1.0)
        turn = rotation_exp(UP * np.deg2rad(14.0))
        lifted = Rigid[Stage, Instrument](turn @ held.rotation, held.translation_mm + np.array([20.0, 60.0, 20.0]))
        self.move(1.2, left=lifted)
        self.press("left", grab=0.0)
        apart_mm = np.array([110.0, 0.0, 0.0])
        middle = TABLE_MM + np.array([0.0, 60.0, 40.0])
        ahead = np.array([0.0, -0.4, -0.9])
        self.move(0.8, left=pointing(middle - apart_mm, ahead, UP), right=pointing(middle + apart_mm, ahead, UP))
        self._inputs["left"] = replace(self._inputs["left"], grab=1.0)
        self.press("right", grab=1.0)
        wide_mm = 1.6 * apart_mm
        self.move(1.2, left=pointing(middle - wide_mm, ahead, UP), right=pointing(middle + wide_mm, ahead, UP))
        self._inputs["left"] = replace(self._inputs["left"], grab=0.0)
        self.press("right", grab=0.0)

    def place(self, screw: Screw) -> None:
        """Drill one planned screw with the right hand."""
        self.take_tool("right", "drill")
        axis = self._shaky(screw.axis)
        moved = poses(self.state)
        if screw.bone in moved:
            axis = axis.moved(moved[screw.bone])
        depth_mm = screw.length_mm + float(self._rng.normal(0.0, self._steady.depth_mm))
        self.look(self._stage(axis.point_mm))
        self.move(0.9, right=self._tip_at(axis, -45.0))
        self.move(0.5, right=self._tip_at(axis, -6.0))
        self.press("right", trigger=1.0)
        self.move(1.6, right=self._tip_at(axis, depth_mm))
        self.wait(0.1)
        self.press("right", trigger=0.0)
        self.move(0.6, right=self._tip_at(axis, -45.0))

    def undo_and_redo(self) -> None:
        """Take the last deed back, look, and put it in again."""
        self.tap("right", undo=True)
        self.wait(0.4)
        self.press("right", stick=(1.0, 0.0))
        self.tap("right", undo=True)
        self.press("right", stick=(0.0, 0.0))

    def cut(self, cut: Osteotomy) -> None:
        """Saw the planned wedge."""
        self.take_tool("right", "saw")
        normal = cut.bisector.normal
        forward = self._into_hinge(cut, normal)
        normal = rotation_exp(self._rng.normal(0.0, self._steady.blade_rad, 3)) @ normal
        pivot = cut.hinge.point_mm + float(self._rng.normal(0.0, self._steady.blade_mm)) * normal
        shown = self._shown(cut)
        pivot = (shown @ Points[Patient](pivot)).mm
        forward, normal = shown.rotation @ forward, shown.rotation @ normal
        self.look(self._stage(pivot))
        self.move(1.0, right=self._blade_at(pivot - 55.0 * forward, forward, normal))
        self.press("right", trigger=1.0)
        self.move(1.4, right=self._blade_at(pivot, forward, normal))
        self.press("right", trigger=0.0)
        self.move(0.6, right=self._blade_at(pivot - 70.0 * forward, forward, normal))

    def close_cut(self) -> None:
        """Take the cranial fragment in the left hand and turn it about the hinge until it is closed."""
        cut = open_cut(self.state.execution)
        if cut is None:
            return
        shown = self._shown(cut)
        scanned = Points[Patient](self.model.handle_mm(cut))
        handle = (shown @ scanned).mm
        toward = shown.rotation @ (cut.hinge.point_mm - scanned.mm)
        self.look(self._stage(handle))
        self.move(0.9, left=self._grip_at(handle, toward))
        self.press("left", grab=1.0)
        overshoot = cut.angle_rad + 2.0 * closings.SNAP_RAD
        for share in np.linspace(0.1, 1.0, 10):
            turn = cut.hinge.rotation(overshoot * float(share))
            place = (shown @ turn @ scanned).mm
            self.move(0.15, left=self._grip_at(place, toward))
        self.press("left", grab=0.0)
        self.move(0.8, left=pointing(REST_MM["left"], TABLE_MM - REST_MM["left"], UP))

    # --- inside ---

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds * 1e9 / self._tick_ns))

    def _tick(self) -> None:
        sample = ControllerSample(self._t_ns, self._head, self._inputs["left"], self._inputs["right"])
        self.events.append(sample)
        self.state = step(self.state, sample)
        self._t_ns += self._tick_ns

    def _aim(self, side: Side) -> Rigid[Stage, Instrument]:
        aim = self._inputs[side].stage_from_aim
        if aim is None:  # the surgeon's hands are always seen
            raise ValueError("a scripted hand without a pose")
        return aim

    def _place(self, side: Side, aim: Rigid[Stage, Instrument]) -> None:
        self._inputs[side] = replace(self._inputs[side], stage_from_aim=aim, stage_from_grip=aim @ AIM_FROM_GRIP)

    def _stage(self, patient_mm: Array) -> Array:
        return (self.state.stage_from_patient @ Points[Patient](patient_mm)).mm

    def _turned(self, direction: Array) -> Array:
        return np.asarray(self.state.stage_from_patient.rotation @ direction)

    def _shown(self, cut: Osteotomy) -> Rigid[Patient, Patient]:
        """Where a more caudal cut has taken this one."""
        return poses(self.state).get(cut.bone, Rigid[Patient, Patient].identity())

    def _shaky(self, axis: Line[Patient]) -> Line[Patient]:
        e1 = np.cross(axis.direction, np.eye(3)[int(np.argmin(np.abs(axis.direction)))])
        e1 = e1 / np.linalg.norm(e1)
        e2 = np.cross(axis.direction, e1)
        off = self._rng.normal(0.0, self._steady.entry_mm, 2)
        tilt = self._rng.normal(0.0, self._steady.angle_rad, 2)
        direction = rotation_exp(tilt[0] * e1 + tilt[1] * e2) @ axis.direction
        return Line[Patient](axis.point_mm + off[0] * e1 + off[1] * e2, direction)

    def _tip_at(self, axis: Line[Patient], along_mm: float) -> Rigid[Stage, Instrument]:
        forward = self._turned(axis.direction)
        return pointing(self._stage(axis.at(along_mm).mm) - drill.REACH_MM * forward, forward, UP)

    def _blade_at(self, place: Array, forward: Array, normal: Array) -> Rigid[Stage, Instrument]:
        ahead, up = self._turned(forward), self._turned(normal)
        return pointing(self._stage(place) - saw.REACH_MM * ahead, ahead, up)

    def _into_hinge(self, cut: Osteotomy, normal: Array) -> Array:
        """The way of the blade: across the hinge, within the middle plane, from the wedge's open side."""
        forward = np.cross(normal, cut.hinge.direction)
        open_side = self.model.twin.bone(cut.bone).surface.centroid_mm - cut.hinge.point_mm
        return np.asarray(-forward if float(forward @ open_side) > 0.0 else forward)

    def _grip_at(self, place: Array, toward: Array) -> Rigid[Stage, Instrument]:
        """The aim at which the palm is at a place, pointing some way (both in Patient)."""
        ahead = self._turned(toward / np.linalg.norm(toward))
        aim = pointing(np.zeros(3), ahead, UP)
        offset = (aim @ AIM_FROM_GRIP).translation_mm
        return Rigid[Stage, Instrument](aim.rotation, self._stage(place) - offset)


def rehearse_plan(model: Model, seed: int = 1, rate_hz: int = RATE_HZ) -> tuple[Event, ...]:
    """The whole planned procedure as events: about four seconds a screw, and fifteen more."""
    surgeon = Surgeon(model, seed, rate_hz)
    surgeon.wait(0.5)
    surgeon.turn_model()
    for number, name in enumerate(sorted(model.planned.screws)):
        surgeon.place(model.planned.screws[name])
        if number == 0:
            surgeon.undo_and_redo()
    for name in sorted(model.planned.osteotomies):
        surgeon.cut(model.planned.osteotomies[name])
        surgeon.close_cut()
    surgeon.look(TABLE_MM)
    surgeon.wait(0.5)
    return tuple(surgeon.events)


def _at(aim: Rigid[Stage, Instrument]) -> HandInput:
    return HandInput(stage_from_grip=aim @ AIM_FROM_GRIP, stage_from_aim=aim)


def _between(begin: Rigid[Any, Any], end: Rigid[Any, Any], share: float) -> Rigid[Any, Any]:
    R = begin.rotation @ rotation_exp(share * rotation_log(begin.rotation.T @ end.rotation))
    return Rigid[Any, Any](R, begin.translation_mm + share * (end.translation_mm - begin.translation_mm))
