"""Our poses as messages: TRANSFORM, TDATA or QTDATA for what is known; for what is LOST a STATUS with the reason.

A pose that is not known is never sent: the receiver gets no transform and is told why, at once and twice a second.
In protocol 3 a pose carries its covariance, its age and how it was got as metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.openigtlink.fields import DEVICE_BYTES, packed_text
from interop.openigtlink.incoming import COVARIANCE
from interop.openigtlink.message import Message
from interop.openigtlink.poses import QuaternionTool, QuaternionTrackingData, Tool, TrackingData, Transform
from interop.openigtlink.words import NOT_PRESENT, OK, Status
from spatial.faults import Misuse
from spatial.rigid import UncertainRigid, quaternion_from_rotation

AGAIN_NS = 500_000_000


class LongName(Misuse):
    """A body whose name does not fit on the wire."""


@dataclass(frozen=True, eq=False)
class WirePose:
    """One body at one instant, ready to be sent: a pose in the axes of the wire, or None and why."""

    device: str
    t_ns: int
    pose: UncertainRigid[Any, Any] | None
    how: str
    reason: str | None = None
    cause: str | None = None
    age_ns: int = 0


def device_name(body: str, to: str) -> str:
    """The name on the wire, `BODYToFRAME` as PLUS has it. Raises LongName over twenty bytes."""
    name = f"{body}To{to}"
    size = len(name.encode())
    if size > DEVICE_BYTES:
        raise LongName(f"{name} takes {size} bytes, OpenIGTLink has {DEVICE_BYTES}; give body {body!r} a shorter name")
    packed_text(name, DEVICE_BYTES, "the body's name")
    return name


def transform(pose: WirePose, epoch_ns: int) -> Message | None:
    """TRANSFORM of a known pose, else None. `epoch_ns`: what makes our time the receiver's (1970)."""
    if pose.pose is None:
        return None
    metadata = {
        "TransformStatus": "OK",
        "osteotwin.how": pose.how,
        "osteotwin.age_ms": f"{pose.age_ns / 1e6:.3f}",
        COVARIANCE: json.dumps(pose.pose.covariance.tolist()),
    }
    return Message(pose.device, Transform(pose.pose.pose.matrix()[:3]), pose.t_ns + epoch_ns, metadata)


def tools(poses: Sequence[WirePose], epoch_ns: int, device: str, *, quaternions: bool) -> Message:
    """TDATA or QTDATA of those that are known; the others are left out, as the protocol wants it."""
    known = [(pose.device, pose.pose.pose) for pose in poses if pose.pose is not None]
    t_ns = max((pose.t_ns for pose in poses), default=0) + epoch_ns
    if quaternions:
        turned = tuple(
            QuaternionTool(name, pose.translation_mm, np.roll(quaternion_from_rotation(pose.rotation), -1))
            for name, pose in known
        )
        return Message(device, QuaternionTrackingData(turned), t_ns)
    return Message(device, TrackingData(tuple(Tool(name, pose.matrix()[:3]) for name, pose in known)), t_ns)


class StatusWriter:
    """STATUS when a body is lost, found again, or lost for another reason; and twice a second while it is lost."""

    def __init__(self) -> None:
        """Nothing said yet."""
        self._said: dict[str, tuple[str | None, int]] = {}

    def write(self, pose: WirePose, epoch_ns: int) -> Message | None:
        """What there is to say of a body now, or None."""
        before, said_ns = self._said.get(pose.device, (None, 0))
        if pose.pose is not None:
            self._said[pose.device] = (None, pose.t_ns)
            return None if before is None else Message(pose.device, Status(OK, "seen again"), pose.t_ns + epoch_ns)
        cause = pose.cause or "LOST"
        if before == cause and 0 <= pose.t_ns - said_ns < AGAIN_NS:
            return None
        self._said[pose.device] = (cause, pose.t_ns)
        return Message(pose.device, Status(NOT_PRESENT, pose.reason or "lost", cause), pose.t_ns + epoch_ns)
