"""From a solver's problem to a pose: minima from several first guesses, one decision, one covariance.

Where the residuals exceed what the detections claim (calibration, geometry file, flatness of the print), the excess is
estimated as one more variance of every corner (a random effect), so the weights and the covariance both know of it.
What is left is scaled by the residuals, as if `PRIOR_FREEDOM` of them had been as large as claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array, Rigid, UncertainRigid, rotation_log
from tracking.pose.minima import PRIOR_FREEDOM, cost, distinct, loosened, minima
from tracking.pose.solver import Fit, Problem, body_noise_px2, by_lens, errors_px, linearised, refine
from tracking.pose.starts import mirrored

MAX_RMS_PX = 3.0
SURE_ODDS = 1000.0  # below it the choice between a flat body's two poses is no choice
NEGLIGIBLE_ODDS = 1e6
CLEAR = 40.0  # log odds of two minima beyond which no earlier pose makes a difference
MISFIT, LEAST_MISFIT_PX = 3.0, 0.3  # times what is claimed, and at least, before people are told
MOST_SYSTEMATIC = 0.995  # of a covariance
EFFICIENCY = 0.919  # E[w2 s/2] E[w] / E[w + s dw/ds]2 of the Geman-McClure weights w(s) where all is well (Huber 1964)
FAR = 100.0  # squared distance of the mirrored pose beyond which it says nothing of the width
FLAT = 0.5  # of the rise that the curvature foretells: then the floor is flat
LEAST_RISE = 1.0  # of the squares there: no more than one sd away
PRIOR_SD_RAD = 0.05  # of an earlier pose that comes without a covariance


@dataclass(frozen=True, eq=False)
class Earlier:
    """An earlier pose carried on to the picture's instant; `odds`: how much likelier it was than its mirror image."""

    pose: Rigid[Any, Any]
    covariance: Array
    odds: float

    @classmethod
    def of(cls, prior: Rigid[Any, Any] | UncertainRigid[Any, Any] | None, odds: float) -> Earlier | None:
        """From what a history gives."""
        if prior is None:
            return None
        if isinstance(prior, UncertainRigid):
            return cls(prior.pose, prior.covariance, odds)
        return cls(prior, np.diag([PRIOR_SD_RAD**2] * 3 + [100.0] * 3), odds)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A pose (rig_from_body) with its covariance; `systematic` is the part of it that no averaging takes away.

    `kept` (n,): which of the markers agree; `problem`, `fit` and `errors_px` are theirs alone. `claimed` is the problem
    before anything was added for what the residuals show. `odds` against `second`,
    the other pose. `misfit_px`: how far corners are off beyond all that their detections claim; 0 where they aren't.
    """

    pose: Rigid[Any, Any]
    covariance: Array
    systematic: Array
    kept: NDArray[np.bool_]
    errors_px: Array
    odds: float
    second: UncertainRigid[Any, Any] | None
    fit: Fit
    problem: Problem
    claimed: Problem
    misfit_px: float

    @property
    def rms_px(self) -> float:
        """Of the corners of the markers that agree."""
        return float(np.sqrt((self.errors_px**2).sum(axis=-1).mean()))


def estimate(
    problem: Problem,
    earlier: Earlier | None = None,
    lens_covariances: Sequence[Array | None] | None = None,
    near: Sequence[Rigid[Any, Any]] = (),
) -> Estimate | None:
    """The pose that explains the markers best, or None where none does; `near`: first guesses without a vote."""
    problem, fits, kept = minima(problem, earlier.pose if earlier else None, near)
    if not fits:
        return None
    claimed = problem
    excess_px2 = _excess(problem, fits[0])
    misfit_px = math.sqrt(excess_px2) if excess_px2 > (MISFIT * _claimed_px(problem)) ** 2 else 0.0
    if excess_px2 > 0:
        problem = loosened(problem, np.tile(excess_px2 * np.eye(8), (len(problem), 1, 1)))
        fits = distinct([refine(problem, f.rotation, f.translation_mm) for f in fits])
    if not fits:
        return None
    fits = fits[:2] if len(fits) > 1 and _gap(problem, fits[0], fits[1]) < CLEAR else fits[:1]
    covariances = [_covariance(problem, fit) for fit in fits]
    first, odds = _decide(problem, fits, covariances, earlier)
    fit, covariance = fits[first], covariances[first][:6, :6]
    systematic = _systematic(problem, fit, covariances[first], lens_covariances)
    if len(fits) == 1:
        covariance = _as_flat_as_seen(problem, fit, covariance)
    covariance = covariance + systematic[1]
    second: UncertainRigid[Any, Any] | None = None
    if len(fits) == 2 and odds < NEGLIGIBLE_ODDS:
        other = fits[1 - first]
        second = UncertainRigid(Rigid(other.rotation, other.translation_mm), covariances[1 - first][:6, :6])
        if odds < SURE_ODDS:  # the covariance about this pose that a mixture of both has
            share = 1.0 / (1.0 + odds)
            gap = np.concatenate(
                [rotation_log(other.rotation @ fit.rotation.T), other.translation_mm - fit.translation_mm]
            )
            covariance = (1 - share) * covariance + share * (second.covariance + np.outer(gap, gap))
    return Estimate(
        Rigid(fit.rotation, fit.translation_mm),
        (covariance + covariance.T) / 2,
        _within(systematic[0] + systematic[1], covariance),
        kept,
        errors_px(problem, fit),
        odds,
        second,
        fit,
        problem,
        claimed,
        misfit_px if misfit_px > LEAST_MISFIT_PX else 0.0,
    )


def _excess(problem: Problem, fit: Fit) -> float:
    """Variance (px2) of a corner coordinate beyond what the detections claim; 0 when they explain the residuals."""
    n = len(problem)
    freedom = 8 * n - 6
    if float((fit.weights * fit.squares).sum()) < 3.0 * freedom:
        return 0.0
    errors = errors_px(problem, fit)
    limit = 3.0 * 1.4826 * float(np.median(np.abs(errors)))  # winsorised: a wrong marker counts as three sd, not more
    spread = float(np.sqrt(np.minimum(errors**2, limit**2).mean()))
    return max(0.0, spread**2 * 8 * n / freedom - _claimed_px(problem) ** 2)


def _claimed_px(problem: Problem) -> float:
    """The usual sd of a corner coordinate, as the detections claim."""
    inverse = np.linalg.inv(problem.root)
    return math.sqrt(float(np.median(np.einsum("nij,nij->ni", inverse, inverse))))


def _covariance(problem: Problem, fit: Fit) -> Array:
    """Of the whole state (m, m), scaled by the residuals."""
    freedom = max(float(2 * fit.weights.sum()) - 6.0, 0.0)
    chi = float((fit.weights * fit.squares).sum())
    scale = max(1.0, (chi + PRIOR_FREEDOM) / (freedom + PRIOR_FREEDOM))
    whole = fit.normal / (scale * EFFICIENCY)
    whole[6:, 6:] += problem.information
    return np.asarray(np.linalg.inv(whole))


def _as_flat_as_seen(problem: Problem, fit: Fit, covariance: Array) -> Array:
    """The covariance, wider towards the mirrored pose where the squares there are less than it foretells.

    Near the frontal view the two minima of a flat body merge into one whose floor is flat: its curvature says little
    of how wide it is, the profile of the squares does (Pawitan 2001, ch. 3).
    """
    R, t = mirrored(fit.rotation, fit.translation_mm, problem.mm.reshape(-1, 3), problem.eye_mm[0])
    gap = np.concatenate([rotation_log(R @ fit.rotation.T), t - fit.translation_mm])
    foretold = float(gap @ np.linalg.solve(covariance, gap))
    if not 1.0 < foretold < FAR:
        return covariance
    weights = np.repeat(fit.weights, 2, axis=1)
    r, _ = linearised(problem, fit)
    there = replace(fit, rotation=R, translation_mm=t)
    for _ in range(3):  # the place is free, the turn is held
        s, J = linearised(problem, there)
        by_place = (np.sqrt(weights)[..., None] * J[..., 3:6]).reshape(-1, 3)
        step = np.linalg.lstsq(by_place, -(np.sqrt(weights) * s).ravel(), rcond=None)[0]
        there = replace(there, translation_mm=there.translation_mm + step)
    s, _ = linearised(problem, there)
    gap = np.concatenate([gap[:3], there.translation_mm - fit.translation_mm])
    foretold = float(gap @ np.linalg.solve(covariance, gap))
    freedom = max(float(2 * fit.weights.sum()) - 6.0, 0.0)
    scale = max(1.0, (float((weights * r * r).sum()) + PRIOR_FREEDOM) / (freedom + PRIOR_FREEDOM)) * EFFICIENCY
    seen = max(float((weights * (s * s - r * r)).sum()) / scale, LEAST_RISE)
    if seen > FLAT * foretold:
        return covariance
    return covariance + (1.0 / seen - 1.0 / foretold) * np.outer(gap, gap)


def _within(part: Array, whole: Array) -> Array:
    """The part, made a little smaller where rounding and weights make it stick out of the whole."""
    if not part.any():
        return part
    root = np.linalg.inv(np.linalg.cholesky(whole))
    share = float(np.linalg.eigvalsh(root @ part @ root.T)[-1])
    return part * min(1.0, MOST_SYSTEMATIC / share)


def _systematic(
    problem: Problem, fit: Fit, covariance: Array, lens_covariances: Sequence[Array | None] | None
) -> tuple[Array, Array]:
    """What does not average out: from body and cameras' places (in the covariance already), and from lenses (not)."""
    places, lenses = np.zeros((6, 6)), np.zeros((6, 6))
    if problem.body_covariance.any():
        J = linearised(problem, fit)[1] * np.repeat(fit.weights, 2, axis=1)[..., None]
        whole = fit.normal.copy()
        whole[6:, 6:] += problem.information
        gain = np.linalg.solve(whole, np.einsum("nrm,nrk->nmk", J, problem.root))[:, :6]
        places += np.einsum("nik,nkl,njl->ij", gain, body_noise_px2(problem, fit), gain)
    if problem.shaky:
        first = 12 if problem.moving else 6
        gain = covariance[:6, first:]
        places += gain @ problem.information[first - 6 :, first - 6 :] @ gain.T
    if lens_covariances is not None and any(c is not None for c in lens_covariances):
        J, by_one = linearised(problem, fit)[1], by_lens(problem, fit)
        weights = np.repeat(fit.weights, 2, axis=1)[..., None]
        whole = fit.normal.copy()
        whole[6:, 6:] += problem.information
        for eye, lens in enumerate(lens_covariances):
            rows = problem.eye == eye
            if lens is None or not rows.any():
                continue
            moved = np.einsum("nrm,nrk->mk", weights[rows] * J[rows], by_one[rows])
            gain = np.linalg.solve(whole, moved)[:6]
            lenses += gain @ lens @ gain.T
    return places, lenses


def _gap(problem: Problem, first: Fit, second: Fit) -> float:
    """Log odds of two minima by their squares, the errors' scale being itself uncertain."""
    freedom = PRIOR_FREEDOM + 8 * len(problem) - 6
    costs = PRIOR_FREEDOM + cost(first, 1.0), PRIOR_FREEDOM + cost(second, 1.0)
    return 0.5 * freedom * math.log(costs[1] / costs[0])


def _decide(problem: Problem, fits: list[Fit], covariances: list[Array], earlier: Earlier | None) -> tuple[int, float]:
    """Which of at most two minima it is, and the odds.

    The scale of the errors is itself uncertain, so likelihoods fall off like Student's t. The earlier pose counts by
    its own odds and only once: what it saw and what this picture sees share their systematic errors, so agreement of
    the two is as sure as the surer one.
    """
    if len(fits) == 1:
        return 0, float("inf")
    seen = _gap(problem, fits[0], fits[1])
    if earlier is not None:
        trust = 1.0 - 1.0 / (1.0 + min(earlier.odds, 1e9))
        near: list[float] = []
        for fit, covariance in zip(fits, covariances, strict=True):
            gap = rotation_log(fit.rotation @ earlier.pose.rotation.T)
            spread = covariance[:3, :3] + earlier.covariance[:3, :3]
            fits_in = math.exp(-0.5 * min(float(gap @ np.linalg.solve(spread, gap)), 80.0))
            near.append(trust * fits_in + (1 - trust) * (1 - fits_in))
        told = math.log(near[0] + 1e-12) - math.log(near[1] + 1e-12)
        seen = math.copysign(max(abs(seen), abs(told)), seen) if seen * told > 0 else seen + told
    return (0 if seen >= 0 else 1), math.exp(min(abs(seen), 50.0))
