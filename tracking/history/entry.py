"""What the history keeps of a sighting: the pose as it was seen, and the filter's belief after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import numpy as np

from spatial.frames import B, Camera
from spatial.rigid import Array, UncertainRigid, rotation_log
from tracking.history import kernels
from tracking.pose.sighting import Cause


@dataclass(frozen=True, eq=False)
class Entry(Generic[B]):
    """A sighting that was taken, the belief after it, and how many came before it since the filter started.

    `note`: why the filter started anew with this one, where it did after a jump.
    """

    t_ns: int
    source: str
    seen: UncertainRigid[Camera, B]
    packed: Array
    belief: Array
    run: int
    note: tuple[str, Cause | None] | None = None


@dataclass(frozen=True, eq=False)
class Held(Generic[B]):
    """A sighting that no motion explains."""

    t_ns: int
    source: str
    seen: UncertainRigid[Camera, B]
    packed: Array


def pack(seen: UncertainRigid[Camera, B]) -> Array:
    """A sighting's pose and covariance as the kernels take them: (48,)."""
    pose = seen.pose
    return np.concatenate([pose.rotation.ravel(), pose.translation_mm, seen.covariance.ravel()])


def jump_words(last: Entry[B], t_ns: int, packed: Array) -> str:
    """How far a sighting lies from where the filter sees the body."""
    where = kernels.ahead(last.belief, (t_ns - last.t_ns) * 1e-9)
    shift_mm = float(np.linalg.norm(packed[9:12] - where[9:12]))
    turn_deg = float(np.degrees(np.linalg.norm(rotation_log(packed[:9].reshape(3, 3) @ where[:9].reshape(3, 3).T))))
    since_ms = (t_ns - last.t_ns) / 1e6
    return f"the pose jumps by {shift_mm:.1f} mm and {turn_deg:.1f}° in {since_ms:.0f} ms; waiting for another to agree"
