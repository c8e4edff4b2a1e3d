"""How one stands at the table: the head's place, and poses that look or point somewhere, upright."""

from __future__ import annotations

import numpy as np

from spatial.frames import Eye, Instrument, Stage
from spatial.rigid import Array, Rigid

UP = np.array([0.0, 1.0, 0.0])
HEAD_MM = np.array([0.0, 1620.0, 60.0])


def pointing(place_mm: Array, forward: Array, up: Array = UP) -> Rigid[Stage, Instrument]:
    """A hand at a place whose -z points `forward`, +y as near to `up` as can be."""
    return Rigid[Stage, Instrument](_axes(forward, up), place_mm)


def looking(from_mm: Array, at_mm: Array) -> Rigid[Stage, Eye]:
    """A head at a place that looks at another, upright."""
    return Rigid[Stage, Eye](_axes(at_mm - from_mm, UP), from_mm)


def _axes(forward: Array, up: Array) -> Array:
    z = -forward / np.linalg.norm(forward)
    x = np.cross(up, z)
    if float(np.linalg.norm(x)) < 1e-6:  # straight up or down: the head's side stays right
        x = np.cross(np.array([0.0, 0.0, -1.0]), z)
    x = x / np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])
