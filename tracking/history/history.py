"""The pose of a body at any instant, and how it was got: EXACT, INTERPOLATED, PREDICTED or STALE."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Generic, Literal

import numpy as np

from spatial.frames import B, Camera
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp, rotation_log
from tracking.pose.sighting import Sighting

How = Literal["EXACT", "INTERPOLATED", "PREDICTED", "STALE"]


@dataclass(frozen=True, eq=False)
class TimedPose(Generic[B]):
    """A pose at the instant asked for; STALE has none. `age_ns`: how far off the nearest sighting is, 0 or more."""

    pose: Rigid[Camera, B] | None
    covariance: Array | None
    how: How
    age_ns: int
    reason: str | None = None

    @property
    def uncertain(self) -> UncertainRigid[Camera, B] | None:
        """Pose and covariance together; None when STALE."""
        if self.pose is None or self.covariance is None:
            return None
        return UncertainRigid(self.pose, self.covariance)


@dataclass(frozen=True)
class Limits:
    """How far sightings may be stretched, and how restless a hand is (sd of its accelerations)."""

    predict_ns: int = 100_000_000
    gap_ns: int = 150_000_000
    exact_ns: int = 1_000
    jump_ns: int = 1_000_000_000
    acceleration_mm_s2: float = 2_000.0
    acceleration_rad_s2: float = 15.0
    capacity: int = 256


class PoseHistory(Generic[B]):
    """The recent sightings of one body, in the order of their stamps; bounded.

    Interpolates (shortest turn, straight path) across gaps up to `gap_ns`, predicts with constant velocity for
    `predict_ns`, then is STALE. A late sighting is put in its place; a clock that steps back by more than `jump_ns`
    starts the history anew.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        """Start with nothing seen."""
        self.limits = limits or Limits()
        self._stamps: list[int] = []
        self._poses: list[UncertainRigid[Camera, B]] = []
        self._reason: str | None = "never seen"
        self._newest_ns: int | None = None
        self.restarts = 0

    def __len__(self) -> int:
        """How many poses are kept."""
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sighting, lost ones too."""
        return self._newest_ns

    def add(self, sighting: Sighting[B]) -> None:
        """Take in a sighting; a LOST one only tells why."""
        t_ns = sighting.t_ns
        if self._newest_ns is not None and t_ns < self._newest_ns - self.limits.jump_ns:
            self._stamps.clear()
            self._poses.clear()
            self._newest_ns = None
            self.restarts += 1
        if self._newest_ns is None or t_ns >= self._newest_ns:
            self._newest_ns = t_ns
            self._reason = sighting.reason
        if sighting.camera_from_body is None:
            return
        place = bisect_left(self._stamps, t_ns)
        if place < len(self._stamps) and self._stamps[place] == t_ns:
            self._poses[place] = sighting.camera_from_body
            return
        self._stamps.insert(place, t_ns)
        self._poses.insert(place, sighting.camera_from_body)
        if len(self._stamps) > self.limits.capacity:
            del self._stamps[0], self._poses[0]

    def at(self, t_ns: int) -> TimedPose[B]:
        """The pose at an instant, or STALE with the reason."""
        if not self._stamps:
            return TimedPose[B](None, None, "STALE", 0, self._reason)
        place = bisect_left(self._stamps, t_ns - self.limits.exact_ns)
        if place < len(self._stamps) and self._stamps[place] <= t_ns + self.limits.exact_ns:
            exact = self._poses[place]
            return TimedPose[B](exact.pose, exact.covariance, "EXACT", 0)
        if place == 0:
            return TimedPose[B](None, None, "STALE", 0, "before the first sighting that is kept")
        if place < len(self._stamps):
            return self._between(place, t_ns)
        return self._after(t_ns)

    def _between(self, place: int, t_ns: int) -> TimedPose[B]:
        t0, t1 = self._stamps[place - 1], self._stamps[place]
        if t1 - t0 > self.limits.gap_ns:
            if t_ns - t0 <= self.limits.predict_ns:
                return self._predict(place - 1, t_ns)
            return TimedPose[B](None, None, "STALE", t_ns - t0, f"not seen for {(t1 - t0) / 1e6:.0f} ms")
        s = (t_ns - t0) / (t1 - t0)
        first, second = self._poses[place - 1], self._poses[place]
        turn = rotation_log(second.pose.rotation @ first.pose.rotation.T)
        pose = Rigid[Camera, B](
            rotation_exp(s * turn) @ first.pose.rotation,
            (1 - s) * first.pose.translation_mm + s * second.pose.translation_mm,
        )
        # between two stamps a hand strays at most as a constant acceleration bends the path: a dt^2 s (1 - s) / 2
        stray = ((t1 - t0) * 1e-9) ** 2 * s * (1 - s) / 2
        covariance = (1 - s) ** 2 * first.covariance + s**2 * second.covariance + self._restless(stray)
        return TimedPose[B](pose, covariance, "INTERPOLATED", min(t_ns - t0, t1 - t_ns))

    def _after(self, t_ns: int) -> TimedPose[B]:
        age_ns = t_ns - self._stamps[-1]
        if age_ns > self.limits.predict_ns:
            why = f"not seen for {age_ns / 1e6:.0f} ms" + (f": {self._reason}" if self._reason else "")
            return TimedPose[B](None, None, "STALE", age_ns, why)
        return self._predict(len(self._stamps) - 1, t_ns)

    def _predict(self, last: int, t_ns: int) -> TimedPose[B]:
        """Carry the last pose on with the velocity over the sightings before it (as it is when there is none)."""
        t1, newest = self._stamps[last], self._poses[last]
        dt = (t_ns - t1) * 1e-9
        first = last
        while first > 0 and last - first < 3 and t1 - self._stamps[first - 1] <= self.limits.gap_ns:
            first -= 1
        turn_rate, speed = np.zeros(3), np.zeros(3)
        covariance = newest.covariance.copy()
        span = (t1 - self._stamps[first]) * 1e-9
        if span > 0:
            earlier = self._poses[first]
            turn_rate = rotation_log(newest.pose.rotation @ earlier.pose.rotation.T) / span
            speed = (newest.pose.translation_mm - earlier.pose.translation_mm) / span
            ahead = dt / span
            covariance = (1 + ahead) ** 2 * newest.covariance + ahead**2 * earlier.covariance
            stray = dt * (dt + span) / 2  # the mean velocity lags by half the span
        else:
            stray = dt * 0.1  # no velocity known: up to a tenth of a second of acceleration went before
        covariance = covariance + self._restless(stray)
        pose = Rigid[Camera, B](
            rotation_exp(turn_rate * dt) @ newest.pose.rotation, newest.pose.translation_mm + speed * dt
        )
        return TimedPose[B](pose, covariance, "PREDICTED", t_ns - t1, self._reason)

    def _restless(self, stray_s2: float) -> Array:
        turn = (self.limits.acceleration_rad_s2 * stray_s2) ** 2
        shift = (self.limits.acceleration_mm_s2 * stray_s2) ** 2
        return np.diag([turn] * 3 + [shift] * 3)
