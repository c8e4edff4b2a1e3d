"""How a body moves while a picture is read out: its velocity with what is not known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.rigid import Array, Rigid, readonly

UNKNOWN_TURN_RAD_S = 1.5  # sd of a hand's turning and moving, where nothing is known
UNKNOWN_SPEED_MM_S = 250.0


@dataclass(frozen=True, eq=False)
class Motion:
    """Velocity of a_from_b in a's axes: R(t + dt) = Exp(turn dt) R, t(t + dt) = t + speed dt.

    `covariance` (6, 6) of (turn rad/s, speed mm/s).
    """

    turn_rad_s: Array
    speed_mm_s: Array
    covariance: Array

    def __post_init__(self) -> None:
        """Check shapes; freeze."""
        object.__setattr__(self, "turn_rad_s", readonly(self.turn_rad_s, (3,), "turn_rad_s"))
        object.__setattr__(self, "speed_mm_s", readonly(self.speed_mm_s, (3,), "speed_mm_s"))
        object.__setattr__(self, "covariance", readonly(self.covariance, (6, 6), "covariance"))

    def turned(self, other_from_a: Rigid[Any, Any]) -> Motion:
        """The same in axes that stand still to a's: of other_from_b."""
        R = other_from_a.rotation
        both = np.kron(np.eye(2), R)
        return Motion(R @ self.turn_rad_s, R @ self.speed_mm_s, both @ self.covariance @ both.T)

    @classmethod
    def unknown(cls) -> Motion:
        """At rest, give or take a hand's usual speed."""
        sd = np.array([UNKNOWN_TURN_RAD_S] * 3 + [UNKNOWN_SPEED_MM_S] * 3)
        return cls(np.zeros(3), np.zeros(3), np.diag(sd**2))
