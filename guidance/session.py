"""The state of guidance as a value: what was seen, what is known at an instant, and how far it may be trusted.

`step(state, event) -> state` holds no clock, camera, file or window. Events are sightings of marker bodies, a camera
that has stopped, and ticks: the instants for which something is drawn. STALE and LOST draw no bone, they draw the word.

    camera_from_patient = camera_from_reference (tracking, timed) @ reference_from_patient (registration)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from guidance.accuracy import radius95_mm
from guidance.registration import Registration
from spatial.faults import Misuse
from spatial.frames import Camera, Instrument, Patient, Reference
from spatial.rigid import Points, Rigid, UncertainRigid
from spatial.shapes import Line
from tracking.bodies.body import Body
from tracking.frame import Stopped
from tracking.history.history import Limits as HistoryLimits
from tracking.history.history import PoseHistory
from tracking.history.timed import How
from tracking.pose.sighting import Cause, Sighting
from twin.anatomy.twin import Twin
from twin.plan.deviation import NoDeviation, ScrewDeviation, screw_deviation
from twin.plan.screws.screw import Screw


class Trust(StrEnum):
    """What the surgeon may do with the picture."""

    GUIDING = "GUIDING"  # measured at or between sightings, predicted errors within the limit, picture fresh
    CAUTION = "CAUTION"  # predicted ahead of the last sighting, a predicted error over the limit, or a late picture
    STOP = "STOP"  # no pose for this instant, or the picture is too old: nothing of the patient is drawn


class NotGuidable(Misuse):
    """A session whose parts do not belong together."""


@dataclass(frozen=True)
class Limits:
    """When to warn and when to stop.

    `tre95_mm`: largest predicted 95 % error (target, tool tip) that reads GUIDING. A live picture older than `late_ns`
    reads CAUTION, older than `dead_ns` STOP.
    """

    tre95_mm: float = 2.0
    late_ns: int = 100_000_000
    dead_ns: int = 250_000_000

    def __post_init__(self) -> None:
        """Refuse limits that are none."""
        if not (np.isfinite(self.tre95_mm) and self.tre95_mm > 0 and 0 < self.late_ns <= self.dead_ns):
            raise NotGuidable(f"limits {self.tre95_mm} mm, {self.late_ns} ns, {self.dead_ns} ns; above zero, in order")


@dataclass(frozen=True)
class Tick:
    """The instant `t_ns` whose picture is drawn; `shown_ns`: when it is shown, for a live source.

    Over a camera's picture the overlay belongs to the picture's own instant, else it would slide off the bone while the
    camera moves. How late that picture is when it is shown is judged apart.
    """

    t_ns: int
    shown_ns: int | None = None


Event = Sighting[Any] | Stopped | Tick
REMEMBERED = 32  # sightings a body: over a second at 30 a second, more than any gap that is bridged


@dataclass(frozen=True, eq=False)
class Readout:
    """What is known at one instant. A pose that is not known is None, never the last one.

    `tre95_mm`: predicted 95 % radius of the shown target; `tip95_mm`, `axis95_rad`: of the tool's tip and axis against
    the patient. `age_ns`: how late a live picture is shown; `pose_age_ns`: how far off the sighting is that the pose
    comes from. `cause`, `instrument_cause`: why a pose is not EXACT, in a word.
    """

    t_ns: int
    trust: Trust
    how: How
    reason: str | None
    camera_from_patient: UncertainRigid[Camera, Patient] | None
    tre95_mm: float | None
    target: str | None
    patient_from_instrument: UncertainRigid[Patient, Instrument] | None = None
    instrument_how: How | None = None
    instrument_reason: str | None = None
    deviation: Mapping[str, ScrewDeviation] = field(default_factory=dict)
    tip: Points[Patient] | None = None
    axis: Line[Patient] | None = None
    tip95_mm: float | None = None
    axis95_rad: float | None = None
    age_ns: int | None = None
    pose_age_ns: int | None = None
    cause: Cause | None = None
    instrument_cause: Cause | None = None


def _history() -> PoseHistory[Any]:
    return PoseHistory[Any](HistoryLimits(capacity=REMEMBERED))


@dataclass(frozen=True, eq=False)
class State:
    """Everything that guidance knows; `step` makes the next one.

    `seen`, `instrument_seen`: what was seen of the two bodies; never changed in place, `step` puts new ones there.
    `stopped`: why the camera gives no pictures, until it gives one.
    """

    registration: Registration
    reference: Body[Reference]
    screws: Mapping[str, Screw]
    focus: Points[Patient]
    limits: Limits = Limits()
    instrument: Body[Instrument] | None = None
    screw: str | None = None
    seen: PoseHistory[Reference] = field(default_factory=_history)
    instrument_seen: PoseHistory[Instrument] = field(default_factory=_history)
    stopped: str | None = None
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


def middle_of(twin: Twin) -> Points[Patient]:
    """The middle (3,) of the bones: where the error is told when no screw is chosen."""
    return Points[Patient](np.mean([bone.surface.centroid_mm for bone in twin.bones.values()], axis=0))


def step(state: State, event: Event) -> State:
    """The state after an event: a sighting and a stop are remembered, a tick is answered in `readout`."""
    if isinstance(event, Tick):
        return replace(state, readout=look(state, event.t_ns, event.shown_ns))
    if isinstance(event, Stopped):
        return replace(state, stopped=event.reason)
    if event.body == state.reference.name:
        return replace(state, stopped=None, seen=state.seen.plus(event))
    if state.instrument is not None and event.body == state.instrument.name:
        return replace(state, stopped=None, instrument_seen=state.instrument_seen.plus(event))
    return state


def look(state: State, t_ns: int, shown_ns: int | None = None) -> Readout:
    """What is known at `t_ns`: the patient's pose, its error at the target, how the instrument stands to the plan."""
    age_ns = None if shown_ns is None else max(0, shown_ns - t_ns)
    timed = state.seen.at(t_ns)
    camera_from_reference = timed.uncertain
    if age_ns is not None and age_ns > state.limits.dead_ns:
        reason = f"the picture is {age_ns / 1e6:.0f} ms old; {state.stopped or 'does the camera still run?'}"
        how: How = "STALE" if age_ns <= state.seen.limits.lost_ns else "LOST"
        return Readout(t_ns, Trust.STOP, how, reason, None, None, None, age_ns=age_ns, cause="camera stopped")
    if camera_from_reference is None:
        reason = f"{state.reference.name}: {timed.reason or 'not seen'}"
        return Readout(t_ns, Trust.STOP, timed.how, reason, None, None, None, age_ns=age_ns, cause=timed.cause)
    camera_from_patient = camera_from_reference @ state.registration.reference_from_patient
    target_name, target = (
        ("the bones' middle", state.focus) if state.screw is None else (state.screw, state.screws[state.screw].tip)
    )
    readout = Readout(
        t_ns=t_ns,
        trust=Trust.GUIDING,
        how=timed.how,
        reason=None,
        camera_from_patient=camera_from_patient,
        tre95_mm=error95_mm(state.registration, camera_from_reference, target),
        target=target_name,
        age_ns=age_ns,
        pose_age_ns=timed.age_ns,
        cause=timed.cause,
    )
    readout = _with_instrument(state, readout, camera_from_reference)
    why = doubt(readout, state.limits)
    return replace(readout, trust=Trust.CAUTION, reason=why) if why else readout


def doubt(readout: Readout, limits: Limits) -> str | None:
    """The first reason not to trust a read-out that has a pose; None: there is none."""
    for error_mm, where in ((readout.tre95_mm, readout.target), (readout.tip95_mm, "the tool's tip")):
        if error_mm is not None and not error_mm <= limits.tre95_mm:
            return f"predicted error {error_mm:.1f} mm (95 %) at {where}, limit {limits.tre95_mm:.1f} mm"
    if readout.how == "PREDICTED":
        since = f"predicted from a sighting {(readout.pose_age_ns or 0) / 1e6:.0f} ms ago"
        return f"{since} ({readout.cause})" if readout.cause else since
    if readout.instrument_how == "PREDICTED":
        return "the tool is predicted, not seen"
    if readout.age_ns is not None and readout.age_ns > limits.late_ns:
        return f"the picture is {readout.age_ns / 1e6:.0f} ms old"
    return None


def error95_mm(
    registration: Registration, camera_from_reference: UncertainRigid[Camera, Reference], target: Points[Patient]
) -> float:
    """Predicted 95 % radius (mm) at a target as it is shown: the registration's spread and this frame's tracking."""
    by_registration = registration.reference_from_patient.point_covariance(target)
    at_reference = registration.reference_from_patient.pose @ target
    by_tracking = camera_from_reference.point_covariance(at_reference)
    R = camera_from_reference.pose.rotation
    return radius95_mm(R @ by_registration @ R.T, registration.dof, by_tracking)


def _with_instrument(
    state: State, readout: Readout, camera_from_reference: UncertainRigid[Camera, Reference]
) -> Readout:
    if state.instrument is None or state.instrument.tip_mm is None:
        return readout
    timed = state.instrument_seen.at(readout.t_ns)
    camera_from_instrument = timed.uncertain
    if camera_from_instrument is None:
        return replace(readout, instrument_how=timed.how, instrument_reason=timed.reason, instrument_cause=timed.cause)
    registered = state.registration.reference_from_patient
    reference_from_instrument = camera_from_reference.inverse() @ camera_from_instrument
    patient_from_instrument = registered.inverse() @ reference_from_instrument
    tip, axis = tool_axis(patient_from_instrument.pose, state.instrument)
    deviation: dict[str, ScrewDeviation] = {}
    reason = None
    for name, screw in state.screws.items():
        if state.screw is None or name == state.screw:
            try:
                deviation[name] = screw_deviation(screw, axis)
            except NoDeviation:
                reason = f"the tool is square to {name}"
    by_tracking = reference_from_instrument.point_covariance(Points[Instrument](state.instrument.tip_mm))
    dof, turned = state.registration.dof, reference_from_instrument.covariance[:3, :3]
    along = registered.pose.rotation @ axis.direction
    across = np.eye(3) - np.outer(along, along)  # a turn about the axis moves no drill
    return replace(
        readout,
        patient_from_instrument=patient_from_instrument,
        instrument_how=timed.how,
        instrument_cause=timed.cause,
        instrument_reason=reason,
        deviation=deviation,
        tip=tip,
        axis=axis,
        tip95_mm=radius95_mm(registered.point_covariance(tip), dof, by_tracking),
        axis95_rad=radius95_mm(across @ registered.covariance[:3, :3] @ across, dof, across @ turned @ across),
    )


def tool_axis(
    patient_from_instrument: Rigid[Patient, Instrument], body: Body[Instrument]
) -> tuple[Points[Patient], Line[Patient]]:
    """Tip and working axis in Patient; the axis is the file's, else runs from the markers' centroid through the tip."""
    tip_mm = np.asarray(body.tip_mm)
    centre_mm = np.concatenate(list(body.corners_mm.values())).mean(axis=0)
    along = tip_mm - centre_mm if body.axis is None else body.axis
    tip = patient_from_instrument @ Points[Instrument](tip_mm)
    return tip, Line[Patient](tip.mm, patient_from_instrument.rotation @ along)
