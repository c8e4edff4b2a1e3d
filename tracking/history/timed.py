"""What is known of a body at an instant: its pose, how it was got, how old it is, why it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal

from spatial.frames import B, Camera
from spatial.rigid import Array, Rigid, UncertainRigid
from tracking.pose.sighting import Cause

How = Literal["EXACT", "INTERPOLATED", "PREDICTED", "STALE", "LOST"]


@dataclass(frozen=True, eq=False)
class TimedPose(Generic[B]):
    """A pose at the instant asked for; STALE and LOST have none.

    EXACT: a sighting of this instant was taken. INTERPOLATED: between two sightings. PREDICTED: beyond the last one,
    not far. STALE: too far, the body may come back at any moment. LOST: never seen, not for long, or the camera
    stopped. `age_ns`: how far off the nearest sighting is, 0 or more. `cause` and `reason`: why it is not EXACT, where
    that is known; of a pose, what its sighting says against it, or why the filter started anew with it.
    """

    pose: Rigid[Camera, B] | None
    covariance: Array | None
    how: How
    age_ns: int
    reason: str | None = None
    cause: Cause | None = None

    @property
    def uncertain(self) -> UncertainRigid[Camera, B] | None:
        """Pose and covariance together; None when STALE or LOST."""
        if self.pose is None or self.covariance is None:
            return None
        return UncertainRigid(self.pose, self.covariance)
