"""The blurred edge: a Gaussian's, corrected by what the picture's own edges show.

Defocus is a disc, motion a box, sharpening overshoots, a response curve skews. The residuals of all edges in a
picture, gathered over the distance from the edge in units of its blur, are fitted by Gram-Charlier terms
He_k(z) phi(z), k = 2 to 5; k = 0 and 1 would only move and widen the edge. The even ones skew it: they are left out
where the code can't tell the edge's true place.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import hermite_e
from scipy.special import erfc

from spatial.rigid import Array, readonly
from tracking.detection.pieces import BINS, BINS_PER_SD, PROFILE_PER_SD, PROFILE_REACH_SD

FEWEST_RESIDUALS = 200
_CAUTION = 20.0  # residuals' worth of belief that a term is zero


def _terms(z: Array, orders: tuple[int, ...]) -> Array:
    phi = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.stack([hermite_e.hermeval(z, np.eye(8)[k]) * phi for k in orders], axis=-1)


_Z = np.arange(-PROFILE_REACH_SD * PROFILE_PER_SD, PROFILE_REACH_SD * PROFILE_PER_SD + 1) / PROFILE_PER_SD
_MIDDLES = (np.arange(BINS) + 0.5) / BINS_PER_SD - PROFILE_REACH_SD
ORDERS = (2, 3, 4, 5)
_BRIGHT = 0.5 * erfc(-_MIDDLES / np.sqrt(2))
# what is not the profile's fault comes first: the edge's place and width, the two levels
_AT_BINS = np.column_stack([_terms(_MIDDLES, (0, 1)), _BRIGHT, 1 - _BRIGHT, _terms(_MIDDLES, ORDERS)])
_VALUES, _SLOPES = _terms(_Z, ORDERS), -_terms(_Z, tuple(k + 1 for k in ORDERS))
GAUSSIAN = readonly(
    np.stack([0.5 * erfc(-_Z / np.sqrt(2)), np.exp(-_Z * _Z / 2) / np.sqrt(2 * np.pi)], axis=1),
    (len(_Z), 2),
    "GAUSSIAN",
)

_BELIEF = np.diag([1e-6] * 4 + [_CAUTION] * len(ORDERS))


def fitted_profile(bins: Array, skewed: bool) -> Array:
    """The edge and its slope (641, 2) over -5 to 5 sd, from sums and numbers of residuals (80, 2) of a Gaussian fit."""
    sums, numbers = bins[:, 0], bins[:, 1]
    if numbers.sum() < FEWEST_RESIDUALS:
        return GAUSSIAN
    normal = _AT_BINS.T @ (numbers[:, None] * _AT_BINS) + _BELIEF
    weights = np.linalg.solve(normal, _AT_BINS.T @ sums)[4:]
    if not skewed:
        weights[[k % 2 == 0 for k in ORDERS]] = 0.0
    out = GAUSSIAN.copy()
    out[:, 0] += _VALUES @ weights
    out[:, 1] += _SLOPES @ weights
    return out


def oddness(profile: Array) -> float:
    """How far the spread may be off (px), by how unlike a Gaussian's the edge is: half its skew, a quarter the rest."""
    off = profile[:, 0] - GAUSSIAN[:, 0]
    return float(0.5 * np.abs(off + off[::-1]).max() / 2 + 0.25 * np.abs(off - off[::-1]).max() / 2)
