"""What the history keeps of a sighting: the pose as it was seen, and the filter's belief after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np

from spatial.frames import B, Camera
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp, rotation_log
from tracking.history import kernels
from tracking.history.timed import TimedPose
from tracking.pose.sighting import Cause, Sighting

Why: TypeAlias = tuple[str | None, Cause | None]  # in words for people, in a word for programs


@dataclass(frozen=True, eq=False)
class Seen(Generic[B]):
    """A sighting with a pose, as the filter takes it.

    `packed` (48,): rotation, translation and the covariance of what changes from picture to picture. `systematic`
    (6, 6) stays the same over many pictures (calibration, the undecided other pose of a flat body): no filter takes it
    away, it is added to every answer. `odds`: how much likelier the pose is than its mirror image. `doubt`: what the
    sighting says against its own pose, or of its covariance.
    """

    t_ns: int
    source: str
    pose: UncertainRigid[Camera, B]
    packed: Array
    systematic: Array
    odds: float
    doubt: Why = (None, None)

    @classmethod
    def of(cls, sighting: Sighting[B], pose: UncertainRigid[Camera, B], source: str) -> Seen[B]:
        """Take the parts of the covariance apart."""
        systematic = np.zeros((6, 6)) if sighting.systematic is None else np.array(sighting.systematic)
        if sighting.cause == "ambiguous" and sighting.second is not None:
            other = sighting.second.pose
            turn = rotation_log(other.rotation @ pose.pose.rotation.T)
            gap = np.concatenate([turn, other.translation_mm - pose.pose.translation_mm])
            systematic += np.outer(gap, gap) / (1.0 + sighting.ambiguity)
        white = pose.covariance - systematic
        if systematic.any() and not (np.linalg.eigvalsh(white) > 0).all():  # what was told doesn't add up
            white, systematic = pose.covariance, np.zeros((6, 6))
        packed = np.concatenate([pose.pose.rotation.ravel(), pose.pose.translation_mm, white.ravel()])
        doubt = sighting.reason, sighting.cause
        return cls(sighting.t_ns, source, pose, packed, systematic, sighting.ambiguity, doubt)

    def after(self, earlier: Seen[B]) -> Array:
        """`packed` for a filter that saw `earlier` last: two sources differ by their systematic errors too."""
        if self.source == earlier.source or not (self.systematic.any() or earlier.systematic.any()):
            return self.packed
        both = self.packed.copy()
        both[12:] += (self.systematic + earlier.systematic).ravel()
        return both


@dataclass(frozen=True, eq=False)
class Entry(Generic[B]):
    """A sighting that was taken, the belief after it, and how many came before it since the filter started (`run`).

    `packed`: the sighting as the filter took it. `note`: why the filter started anew with this one, after a jump.
    """

    seen: Seen[B]
    packed: Array
    belief: Array
    run: int
    note: Why = (None, None)

    @property
    def t_ns(self) -> int:
        """Stamp of the sighting."""
        return self.seen.t_ns


def jump_words(last: Entry[B], t_ns: int, packed: Array) -> str:
    """How far a sighting lies from where the filter sees the body."""
    where = kernels.ahead(last.belief, (t_ns - last.t_ns) * 1e-9)
    shift_mm = float(np.linalg.norm(packed[9:12] - where[9:12]))
    turn_deg = float(np.degrees(np.linalg.norm(rotation_log(packed[:9].reshape(3, 3) @ where[:9].reshape(3, 3).T))))
    since_ms = (t_ns - last.t_ns) / 1e6
    return f"the pose jumps by {shift_mm:.1f} mm and {turn_deg:.1f}° in {since_ms:.0f} ms"


def straight_between(first: Seen[B], second: Seen[B], t_ns: int) -> TimedPose[B]:
    """The straight way and the shortest turn from one sighting to another."""
    a, b = first.pose, second.pose
    s = (t_ns - first.t_ns) / (second.t_ns - first.t_ns)
    turn = rotation_log(b.pose.rotation @ a.pose.rotation.T)
    pose = Rigid[Camera, B](
        rotation_exp(s * turn) @ a.pose.rotation, (1 - s) * a.pose.translation_mm + s * b.pose.translation_mm
    )
    white = (1 - s) ** 2 * (a.covariance - first.systematic) + s**2 * (b.covariance - second.systematic)
    age_ns = min(t_ns - first.t_ns, second.t_ns - t_ns)
    return TimedPose[B](pose, white + first.systematic, "INTERPOLATED", age_ns)
