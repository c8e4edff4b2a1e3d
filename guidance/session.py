"""The state of guidance as a value: what was seen, what is known at an instant, and how far it may be trusted.

`step(state, event) -> state` holds no clock, camera, file or window. Events are sightings of marker bodies, and ticks: the
instants for which something is drawn. STALE draws no bone, it draws the word.

    camera_from_patient = camera_from_reference (tracking, timed) @ reference_from_patient (registration)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from twin.plan.deviation import ScrewDeviation, screw_deviation
from twin.plan.screw import Screw

from guidance.accuracy import radius95_mm
from guidance.registration import Registration
from spatial.faults import Misuse
from spatial.frames import B, Camera, Instrument, Patient, Reference
from spatial.rigid import Points, Rigid, UncertainRigid
from spatial.shapes import Line
from tracking.body import Body
from tracking.history import How, PoseHistory, TimedPose
from tracking.pose import Sighting


class Trust(StrEnum):
    """What the surgeon may do with the picture."""

    GUIDING = "GUIDING"  # measured at or between sightings, predicted error within the limit
    CAUTION = "CAUTION"  # predicted ahead of the last sighting, or the predicted error exceeds the limit
    STOP = "STOP"  # no pose for this instant: nothing of the patient is drawn


class NotGuidable(Misuse):
    """A session whose parts do not belong together."""


@dataclass(frozen=True)
class Limits:
    """When to warn: `tre95_mm` is the largest predicted 95 % error at the target that still reads GUIDING."""

    tre95_mm: float = 2.0


@dataclass(frozen=True)
class Tick:
    """The instant `t_ns` for which a picture is drawn."""

    t_ns: int


Event = Sighting[Any] | Tick
REMEMBERED = 32  # sightings a body: over a second at 30 a second, more than any gap that is bridged


@dataclass(frozen=True, eq=False)
class Readout:
    """What is known at one instant. A pose that is not known is None, never the last one."""

    t_ns: int
    trust: Trust
    how: How
    reason: str | None
    camera_from_patient: UncertainRigid[Camera, Patient] | None
    tre95_mm: float | None
    target: str | None
    patient_from_instrument: UncertainRigid[Patient, Instrument] | None = None
    instrument_how: How | None = None
    deviation: Mapping[str, ScrewDeviation] = field(default_factory=dict)
    tip: Points[Patient] | None = None
    axis: Line[Patient] | None = None


@dataclass(frozen=True, eq=False)
class State:
    """Everything that guidance knows; `step` makes the next one."""

    registration: Registration
    reference: Body[Reference]
    screws: Mapping[str, Screw]
    focus: Points[Patient]
    limits: Limits = Limits()
    instrument: Body[Instrument] | None = None
    screw: str | None = None
    seen: tuple[Sighting[Reference], ...] = ()
    instrument_seen: tuple[Sighting[Instrument], ...] = ()
    readout: Readout | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.registration.body != self.reference.name:
            raise NotGuidable(
                f"the registration is to body {self.registration.body!r}, the reference is {self.reference.name!r}; "
                "register to this body first"
            )
        if self.screw is not None and self.screw not in self.screws:
            raise NotGuidable(f"no screw {self.screw!r} in the plan; it has {', '.join(sorted(self.screws)) or 'none'}")
        if self.instrument is not None and self.instrument.tip_mm is None:
            raise NotGuidable(f"instrument {self.instrument.name!r} has no tip_mm; calibrate its tip first")


def step(state: State, event: Event) -> State:
    """The state after an event: a sighting is remembered, a tick is answered in `readout`."""
    if isinstance(event, Tick):
        return replace(state, readout=look(state, event.t_ns))
    if event.body == state.reference.name:
        return replace(state, seen=(*state.seen[1 - REMEMBERED :], event))
    if state.instrument is not None and event.body == state.instrument.name:
        return replace(state, instrument_seen=(*state.instrument_seen[1 - REMEMBERED :], event))
    return state


def look(state: State, t_ns: int) -> Readout:
    """What is known at `t_ns`: the patient's pose, its error at the target, and how the instrument stands to the plan."""
    timed = pose_at(state.seen, t_ns)
    camera_from_reference = timed.uncertain
    if camera_from_reference is None:
        reason = timed.reason or "the reference body was not seen"
        return Readout(t_ns, Trust.STOP, timed.how, reason, None, None, None)
    camera_from_patient = camera_from_reference @ state.registration.reference_from_patient
    target_name, target = (
        ("focus", state.focus) if state.screw is None else (state.screw, state.screws[state.screw].tip)
    )
    tre95 = error95_mm(state.registration, camera_from_reference, target)
    measured = timed.how in ("EXACT", "INTERPOLATED")
    near_enough = tre95 <= state.limits.tre95_mm
    reason = None
    if not near_enough:
        reason = f"predicted error {tre95:.1f} mm (95 %) at {target_name}, limit {state.limits.tre95_mm:.1f} mm"
    elif not measured:
        reason = f"predicted from a sighting {timed.age_ns / 1e6:.0f} ms ago"
    readout = Readout(
        t_ns=t_ns,
        trust=Trust.GUIDING if measured and near_enough else Trust.CAUTION,
        how=timed.how,
        reason=reason,
        camera_from_patient=camera_from_patient,
        tre95_mm=tre95,
        target=target_name,
    )
    return _with_instrument(state, readout, t_ns)


def pose_at(seen: tuple[Sighting[B], ...], t_ns: int) -> TimedPose[B]:
    """A body's pose at an instant from its remembered sightings, and how it was got."""
    history = PoseHistory[B]()
    for sighting in seen:
        history.add(sighting)
    return history.at(t_ns)


def error95_mm(
    registration: Registration, camera_from_reference: UncertainRigid[Camera, Reference], target: Points[Patient]
) -> float:
    """Predicted 95 % radius (mm) at a target as it is shown: the registration's spread and this frame's tracking."""
    by_registration = registration.reference_from_patient.point_covariance(target)
    at_reference = registration.reference_from_patient.pose @ target
    by_tracking = camera_from_reference.point_covariance(at_reference)
    R = camera_from_reference.pose.rotation
    return radius95_mm(R @ by_registration @ R.T, registration.dof, by_tracking)


def _with_instrument(state: State, readout: Readout, t_ns: int) -> Readout:
    if state.instrument is None or state.instrument.tip_mm is None or readout.camera_from_patient is None:
        return readout
    timed = pose_at(state.instrument_seen, t_ns)
    camera_from_instrument = timed.uncertain
    if camera_from_instrument is None:
        return replace(readout, instrument_how=timed.how)
    patient_from_instrument = readout.camera_from_patient.inverse() @ camera_from_instrument
    tip, axis = tool_axis(patient_from_instrument.pose, state.instrument)
    deviation = {
        name: screw_deviation(screw, axis, tip)
        for name, screw in state.screws.items()
        if state.screw is None or name == state.screw
    }
    return replace(
        readout,
        patient_from_instrument=patient_from_instrument,
        instrument_how=timed.how,
        deviation=deviation,
        tip=tip,
        axis=axis,
    )


def tool_axis(
    patient_from_instrument: Rigid[Patient, Instrument], body: Body[Instrument]
) -> tuple[Points[Patient], Line[Patient]]:
    """Tip and working axis in Patient: from the markers' centroid through the tip (a straight pointer or drill)."""
    tip_mm = np.asarray(body.tip_mm)
    centre = np.concatenate([c for c in body.corners_mm.values()]).mean(axis=0)
    tip = patient_from_instrument @ Points[Instrument](tip_mm)
    back = patient_from_instrument @ Points[Instrument](centre)
    return tip, Line[Patient](tip.mm, tip.mm - back.mm)
