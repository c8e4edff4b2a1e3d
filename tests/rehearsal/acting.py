"""Hands for the tests: samples from a few words, and a player that keeps what it played."""

from __future__ import annotations

from typing import Any

import numpy as np

from rehearsal.drill import REACH_MM
from rehearsal.events import ControllerSample, Event, HandInput
from rehearsal.model import Model
from rehearsal.session import start, step
from rehearsal.stance import HEAD_MM, looking, pointing
from rehearsal.state import State
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Array, Points, Rigid
from spatial.shapes import Line

TICK_NS = 20_000_000
FAR_MM = np.array([600.0, 1200.0, 300.0])


def hand(pose: Rigid[Stage, Instrument] | None, **buttons: Any) -> HandInput:
    """Grip and aim at one place."""
    return HandInput(pose, pose, **buttons)


def at(place_mm: Any, forward: Any = (0.0, 0.0, -1.0)) -> Rigid[Stage, Instrument]:
    return pointing(np.asarray(place_mm, float), np.asarray(forward, float))


class Player:
    """Plays samples one tick apart; a hand that isn't named stays as it was."""

    def __init__(self, model: Model, session_id: str = "test") -> None:
        self.first = self.state = start(model, session_id)
        self.events: list[Event] = []
        self.inputs = {"left": hand(at(FAR_MM * [-1, 1, 1])), "right": hand(at(FAR_MM))}
        self.t_ns = 0

    def now(self, **hands: HandInput) -> State:
        self.inputs.update(hands)
        self.t_ns += TICK_NS
        head = looking(HEAD_MM, np.array([0.0, 1000.0, -400.0]))
        return self.play(ControllerSample(self.t_ns, head, self.inputs["left"], self.inputs["right"]))

    def play(self, event: Event) -> State:
        self.events.append(event)
        self.state = step(self.state, event)
        return self.state

    def tip_at(self, axis: Line[Patient], along_mm: float) -> Rigid[Stage, Instrument]:
        """The aim whose drill tip is so far along an axis of the patient."""
        to_stage = self.state.stage_from_patient
        forward = to_stage.rotation @ axis.direction
        tip = (to_stage @ axis.at(along_mm)).mm
        return pointing(tip - REACH_MM * forward, forward)

    def drill(self, axis: Line[Patient], depth_mm: float, steps: int = 12) -> State:
        """Set the drill on, advance, release."""
        self.now(right=hand(self.tip_at(axis, -10.0)))
        self.now(right=hand(self.tip_at(axis, -10.0), trigger=1.0))
        for along_mm in np.linspace(-10.0, depth_mm, steps):
            self.now(right=hand(self.tip_at(axis, float(along_mm)), trigger=1.0))
        return self.now(right=hand(self.tip_at(axis, depth_mm)))

    def place(self, patient_mm: Array) -> Array:
        return (self.state.stage_from_patient @ Points[Patient](patient_mm)).mm
