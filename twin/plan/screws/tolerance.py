"""How far a screw may be off before its thread touches the cortex of the isthmus.

Geometry of Rampersaud, Simon and Foley, Spine 2001;26:352.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TUNNEL_MM = 12.0  # length of the pedicle's narrow part


@dataclass(frozen=True)
class Permissible:
    """Largest shift without any turn, and largest turn without any shift; together |t| + L/2 tan|turn| <= shift."""

    shift_mm: float
    turn_rad: float


def permissible_error(width_mm: float, diameter_mm: float, tunnel_mm: float = TUNNEL_MM) -> Permissible:
    """For a screw in the middle of an isthmus; both zero when the screw is as wide as the isthmus or wider."""
    room = max(width_mm - diameter_mm, 0.0)
    return Permissible(room / 2, math.atan(room / tunnel_mm))
