"""How far off a shown point may be: the radius that holds 95 % of the error, from a covariance and its own certainty.

A registration from few fiducials knows its own spread badly, so its spread enters with its degrees of freedom
(Student's statistics), not as if it were certain. Nothing is printed as accuracy unless it came from such a model.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import erf, roots_genlaguerre, roots_legendre

from spatial.rigid import Array

_NODES, _WEIGHTS = roots_legendre(20)
_ANGLES, _ANGLE_WEIGHTS = (np.asarray(_NODES) + 1) * np.pi / 4, np.asarray(_WEIGHTS) * np.pi / 4


def probability_inside(variances_mm2: Array, radius_mm: Array | float) -> Array:
    """P(|e| <= radius) for e ~ N(0, diag(variances)), three variances; vectorised over radii.

    Nested quadrature over the two larger axes, the error function along the smallest; z = z_max sin(a) removes the
    square root at the ends. Absolute error below 1e-5 for variance ratios down to zero.
    """
    s1, s2, s3 = np.sqrt(np.sort(np.asarray(variances_mm2, dtype=np.float64))[::-1])
    r = np.atleast_1d(np.asarray(radius_mm, dtype=np.float64))[:, None, None]
    a, wa = _ANGLES[None, :, None], _ANGLE_WEIGHTS[None, :, None]
    b, wb = _ANGLES[None, None, :], _ANGLE_WEIGHTS[None, None, :]
    density = np.sqrt(2 / np.pi)

    def axis(sigma: float, reach: Array, angle: Array, weight: Array) -> tuple[Array, Array]:
        """Offsets along one axis and their probability weights, folded to the positive side."""
        reach = np.minimum(reach, 9.0 * sigma)  # beyond nine sigma nothing is left to integrate
        x = reach * np.sin(angle)
        return x, weight * reach * np.cos(angle) * density / sigma * np.exp(-0.5 * (x / sigma) ** 2)

    x1, p1 = axis(max(s1, 1e-300), r, a, wa)
    if s2 <= 1e-6 * s1:
        return np.asarray(p1.sum(axis=(1, 2)))
    rest = np.sqrt(np.maximum(r * r - x1 * x1, 0.0))
    x2, p2 = axis(s2, rest, b, wb)
    left = np.sqrt(np.maximum(rest * rest - x2 * x2, 0.0))
    p3 = erf(left / (max(s3, 1e-9 * s1) * np.sqrt(2)))
    return np.asarray((p1 * p2 * p3).sum(axis=(1, 2)))


def radius95_mm(covariance_mm2: Array, dof: float | None = None, known_mm2: Array | None = None) -> float:
    """Radius (mm) of the sphere that holds 95 % of a zero-mean 3-D error.

    `covariance_mm2` (3, 3) was estimated with `dof` degrees of freedom (None: it is known); `known_mm2` (3, 3) is a
    known part that adds to it. With both, the estimated part is widened to the same 95 % first: the sum errs to the
    safe side.
    """
    if dof is not None and known_mm2 is not None and float(np.trace(covariance_mm2)) > 0:
        covariance_mm2 = covariance_mm2 * (radius95_mm(covariance_mm2, dof) / radius95_mm(covariance_mm2)) ** 2
        dof = None
    total = covariance_mm2 if known_mm2 is None else covariance_mm2 + known_mm2
    variances = np.clip(np.linalg.eigvalsh(total), 0.0, None)
    largest = float(variances[-1])
    if largest <= 0.0:
        return 0.0
    variances = variances / largest
    if dof is None:
        shrink, weights = np.ones(1), np.ones(1)
    else:  # the estimate is the truth times chi2(dof) / dof: average over it (generalised Gauss-Laguerre)
        x, w = roots_genlaguerre(40, dof / 2 - 1)
        shrink, weights = np.sqrt(2 * x / dof), w / w.sum()

    def short_of_95(r: float) -> float:
        return float(weights @ probability_inside(variances, r * shrink)) - 0.95

    high = 4.0
    while short_of_95(high) < 0:
        high *= 2.0
    return float(brentq(short_of_95, 1e-3, high, xtol=1e-5) * np.sqrt(largest))
