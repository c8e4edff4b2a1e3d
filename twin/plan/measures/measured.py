"""A measured quantity with its spread: read off landmarks, and how far off it may be from what they may be.

A formula reads points and normals from `Marks`. What it read is known afterwards, so its spread follows by the numeric
Jacobian over those landmarks alone: position errors of `sd_mm` a coordinate, direction errors of `sd_deg` (root mean
square over two tilts), all independent of each other. The same `Marks` may carry a plan's motions: then a change from
before to after takes both readings from one set of landmark errors, which cancel where a fragment is rigid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.frames import Patient, Planned
from spatial.rigid import Array, Rigid, rotation_exp
from twin.anatomy.bone import Landmark
from twin.anatomy.twin import Twin
from twin.plan.levels import level_of

Key = tuple[str, str]
STEP_MM = 1e-3
STEP_RAD = 1e-5
FURTHEST = ("condyle_", "epicondyle_", "plateau_edge_", "malleolus_", "fibular_head")
LEAST_ALONG_MM = 0.2
SIGNS = {"deg": "°", "mm": " mm", "percent": " %"}  # by the unit that ends a name
UNITS = tuple(SIGNS)


class Unmeasured(Fault):
    """A quantity that these landmarks do not allow; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Landmarks by (name, bone), what each formula read of them, one of them pushed aside, and a plan's motions.

    `warnings` are the twin's: they hold the reasons for what is missing. `surface_sd_mm` is the twin's, too: a place
    that is the furthest one some way (FURTHEST) is that sure along this way, however flat the bone is there.
    """

    by_key: Mapping[Key, Landmark]
    warnings: tuple[str, ...] = ()
    surface_sd_mm: float | None = None
    motions: Mapping[Key, Rigid[Planned, Patient]] = field(default_factory=dict)
    read: set[Key] = field(default_factory=set)
    pushed: Key | None = None
    by_mm: Array = field(default_factory=lambda: np.zeros(3))
    turn_rad: Array = field(default_factory=lambda: np.zeros(3))

    @classmethod
    def of(
        cls, landmarks: Iterable[Landmark], warnings: Iterable[str] = (), surface_sd_mm: float | None = None
    ) -> Marks:
        """Of landmarks; the first of a name on a bone counts."""
        found: dict[Key, Landmark] = {}
        for mark in landmarks:
            found.setdefault((mark.name, mark.bone), mark)
        return cls(found, tuple(warnings), surface_sd_mm)

    @classmethod
    def of_twin(cls, twin: Twin) -> Marks:
        """Of a twin's landmarks, with its reasons and its surfaces' spread."""
        return cls.of(twin.landmarks, twin.warnings, twin.surface_sd_mm)

    def has(self, name: str, bone: str) -> bool:
        """Whether the landmark was measured."""
        return (name, bone) in self.by_key

    def point(self, name: str, bone: str) -> Array:
        """Position (3,) mm, where the plan puts it. Raises Unmeasured."""
        mark, motion = self._mark(name, bone)
        at = mark.position.mm + self.by_mm if self.pushed == (name, bone) else mark.position.mm
        return at if motion is None else np.asarray(motion.rotation @ at + motion.translation_mm)

    def normal(self, name: str, bone: str) -> Array:
        """Direction (3,), as the plan turns it. Raises Unmeasured."""
        mark, motion = self._mark(name, bone)
        if mark.direction is None:
            raise Unmeasured(f"{name} of {bone} has no direction")
        way = mark.direction.unit
        way = rotation_exp(self.turn_rad) @ way if self.pushed == (name, bone) else way
        return way if motion is None else np.asarray(motion.rotation @ way)

    def moved(self, motions: Mapping[Key, Rigid[Planned, Patient]]) -> Marks:
        """The same landmarks where a plan puts them."""
        return replace(self, motions=motions, read=set())

    def _mark(self, name: str, bone: str) -> tuple[Landmark, Rigid[Planned, Patient] | None]:
        key = (name, bone)
        if key not in self.by_key:
            raise Unmeasured(self._reason(name, bone))
        self.read.add(key)
        return self.by_key[key], self.motions.get(key)

    def _reason(self, name: str, bone: str) -> str:
        told = next((w for w in self.warnings if w.startswith(bone) and name in w), None)
        told = told or next((w for w in self.warnings if w.startswith(f"{bone}:")), None)
        what = f"{_words(name)} of {level_of(bone) or bone.replace('_', ' ')}"
        if told is not None:
            return f"{what}: {told.partition(': ')[2]}"
        if not any(b == bone for _, b in self.by_key):
            return f"{level_of(bone) or bone.replace('_', ' ')} is not in the scan, or shows no landmark"
        return f"{what} was not measured"


Formula = Callable[[Marks], float]


@dataclass(frozen=True)
class Measured:
    """A value with one sigma, both in the unit that ends its name; None and the reason where there is none."""

    name: str
    value: float | None
    sd: float | None = None
    reason: str = ""

    @property
    def unit(self) -> str:
        """`deg`, `mm` or `percent`."""
        return self.name.rpartition("_")[2]

    def to_json(self) -> dict[str, Any]:
        """Value, one sigma, unit, and the reason where one of them is missing."""
        found: dict[str, Any] = {"value": self.value, "sd": self.sd, "unit": self.unit}
        return found | ({"reason": self.reason} if self.reason else {})

    def words(self) -> str:
        """`52.1° ± 0.8`: twice the sigma, 95 % of cases. `why_unknown` has the reason where the ± is not known."""
        sign = SIGNS[self.unit]
        if self.value is None:
            return f"not measured ({self.reason})"
        if self.sd is None:
            return f"{self.value:.1f}{sign} (± not known)"
        return f"{self.value:.1f}{sign} ± {2.0 * self.sd:.1f}"


def why_unknown(found: Iterable[Measured]) -> list[str]:
    """Of values without a ±: the reasons, each once, as lines."""
    reasons = dict.fromkeys(m.reason.rpartition(": ")[2] for m in found if m.value is not None and m.sd is None)
    return [f"± not known: {reason}" for reason in reasons if reason]


def measure(name: str, formula: Formula, marks: Marks) -> Measured:
    """The formula's value and spread, or the reason why there is none."""
    return _measured(name, marks, lambda pushed: formula(pushed))


def measure_change(name: str, formula: Formula, before: Marks, after: Marks) -> Measured:
    """After less before, with the spread of the difference: errors that both share are in it once."""

    def difference(pushed: Marks) -> float:
        there = replace(pushed, motions=after.motions)
        return formula(there) - formula(pushed)

    return _measured(name, before, difference)


def _measured(name: str, marks: Marks, formula: Formula) -> Measured:
    if name.rpartition("_")[2] not in UNITS:
        raise ValueError(f"{name} does not end with its unit")
    fresh = replace(marks, read=set())
    try:
        value = formula(fresh)
    except Unmeasured as fault:
        return Measured(name, None, None, fault.message)
    variance, silent = 0.0, ""
    for key in sorted(fresh.read):
        try:
            share, why = _share(formula, fresh, key, value)
        except Unmeasured as fault:  # as it stands it can be measured, a hair beside it no longer
            return Measured(name, value, None, fault.message)
        variance += share
        silent = silent or why
    return Measured(name, value, None if silent else math.sqrt(variance), silent)


def _share(formula: Formula, marks: Marks, key: Key, value: float) -> tuple[float, str]:
    """What one landmark's own error adds to the variance; else why that is not known."""
    mark = marks.by_key[key]
    where = f"{_words(mark.name)} of {level_of(mark.bone) or mark.bone.replace('_', ' ')}"
    variance = 0.0
    by_place = _slopes(formula, marks, key, value, np.eye(3) * STEP_MM, None) / STEP_MM
    if (np.abs(by_place) > 1e-7).any():
        if mark.sd_mm is None:
            return 0.0, f"{where}: {mark.note or 'no spread was stated'}"
        variance += float((by_place**2).sum()) * mark.sd_mm**2
        if mark.name.startswith(FURTHEST) and mark.direction is not None and marks.surface_sd_mm is not None:
            along = min(mark.sd_mm, math.hypot(marks.surface_sd_mm, LEAST_ALONG_MM))
            variance += float(by_place @ mark.direction.unit) ** 2 * (along**2 - mark.sd_mm**2)
    if mark.direction is not None:
        across = np.linalg.svd(mark.direction.unit[None])[2][1:]
        by_tilt = _slopes(formula, marks, key, value, None, across * STEP_RAD) / STEP_RAD
        if (np.abs(by_tilt) > 1e-7).any():
            if mark.sd_deg is None:
                return 0.0, f"{where}: {mark.note or 'no spread of its direction was stated'}"
            variance += float((by_tilt**2).sum()) * math.radians(mark.sd_deg) ** 2 / 2.0
    return variance, ""


def _slopes(
    formula: Formula, marks: Marks, key: Key, value: float, pushes_mm: Array | None, turns_rad: Array | None
) -> Array:
    rows = pushes_mm if pushes_mm is not None else turns_rad
    assert rows is not None
    zero = np.zeros(3)
    return np.array(
        [
            formula(
                replace(
                    marks,
                    pushed=key,
                    by_mm=row if pushes_mm is not None else zero,
                    turn_rad=row if turns_rad is not None else zero,
                )
            )
            - value
            for row in rows
        ]
    )


def _words(name: str) -> str:
    plain = {"endplate_superior": "the cranial endplate", "endplate_inferior": "the caudal endplate"}
    return plain.get(name, name.replace("_", " "))
