"""Taking hold of the model: one hand carries and turns it, two hands also size it, within limits.

A hold remembers the pose at which it began; every later pose is computed from that one, so nothing drifts. Whenever the
hands that hold change (one lets go, one loses tracking), a new hold begins where the model is: it never jumps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rehearsal.events import Side
from spatial.frames import Instrument, Patient, Stage
from spatial.rigid import Array, Rigid, Similarity, rotation_exp

SCALE_LIMITS = (0.25, 8.0)
_CLOSEST_HANDS_MM = 20.0  # nearer than this their direction says nothing

Grips = Mapping[Side, Rigid[Stage, Instrument]]
StageFromPatient = Similarity[Stage, Patient]


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """Who holds the model, and where grips and model were when that began."""

    grips: tuple[tuple[Side, Rigid[Stage, Instrument]], ...]
    stage_from_patient: StageFromPatient

    @property
    def sides(self) -> tuple[Side, ...]:
        """The holding hands, in fixed order."""
        return tuple(side for side, _ in self.grips)

    def to_json(self) -> dict[str, Any]:
        """For the state document."""
        return {
            "grips": {side: grip.to_json() for side, grip in self.grips},
            "stage_from_patient": similarity_json(self.stage_from_patient),
        }


def take(grips: Grips, stage_from_patient: StageFromPatient) -> Hold | None:
    """Begin a hold with these hands; None when there is none."""
    return Hold(tuple(sorted(grips.items())), stage_from_patient) if grips else None


def carried(hold: Hold, grips: Grips) -> StageFromPatient:
    """Where the model is now that the holding hands are at `grips` (the hold's own hands, all tracked)."""
    if len(hold.grips) == 1:
        side, before = hold.grips[0]
        moved = grips[side] @ before.inverse()  # Rigid[Stage, Stage]
        return Similarity[Stage, Stage].of(moved) @ hold.stage_from_patient
    (one, first), (two, second) = hold.grips
    return _two_handed(
        hold.stage_from_patient,
        first.translation_mm,
        second.translation_mm,
        grips[one].translation_mm,
        grips[two].translation_mm,
    )


def _two_handed(model: StageFromPatient, a0: Array, b0: Array, a: Array, b: Array) -> StageFromPatient:
    before, now = b0 - a0, b - a
    length_before, length_now = float(np.linalg.norm(before)), float(np.linalg.norm(now))
    if min(length_before, length_now) < _CLOSEST_HANDS_MM:
        return model
    low, high = SCALE_LIMITS
    factor = min(max(model.scale * length_now / length_before, low), high) / model.scale
    R = rotation_between(before / length_before, now / length_now)
    pivot, target = (a0 + b0) / 2.0, (a + b) / 2.0
    scale = min(max(factor * model.scale, low), high)  # the product may pass the limit by a rounding
    translation = target + factor * R @ (model.translation_mm - pivot)
    return StageFromPatient(R @ model.rotation, translation, scale)


def rotation_between(u: Array, v: Array) -> Array:
    """The smallest turn (3, 3) that takes unit u to unit v; half a turn about any normal when they are opposite."""
    axis = np.cross(u, v)
    sine, cosine = float(np.linalg.norm(axis)), float(np.dot(u, v))
    if sine < 1e-12:
        if cosine > 0.0:
            return np.eye(3)
        axis = np.cross(u, np.eye(3)[int(np.argmin(np.abs(u)))])
        return rotation_exp(axis / np.linalg.norm(axis) * np.pi)
    return rotation_exp(axis / sine * np.arctan2(sine, cosine))


def similarity_json(pose: Similarity[Any, Any]) -> dict[str, Any]:
    """A pose with its scale."""
    return {
        "rotation": pose.rotation.tolist(),
        "translation_mm": pose.translation_mm.tolist(),
        "scale": pose.scale,
    }
