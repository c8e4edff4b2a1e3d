"""The minima of a pose's problem: from guesses, each dearer than the one before, over the markers that agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from spatial.rigid import Array, Rigid
from tracking.pose.lens import straighten
from tracking.pose.solver import GEMAN_SD, Fit, Problem, body_noise_px2, deleted_squares, refine
from tracking.pose.starts import Guess, guesses, mirrored

PRIOR_FREEDOM = 20.0  # residuals that count as having been as large as claimed, before any is seen
DISTINCT_RAD = 0.01
KEPT_WEIGHT = 0.2
OUTLIER_CHANCE = 1e-3  # that a good marker is taken for a wrong one
GROSS = 5.0  # times the others' RMS: then a marker is wrong, however bad the others are


def loosened(problem: Problem, covariance_px2: Array) -> Problem:
    """The same corners with more noise, (n, 8, 8) px2."""
    inverse = np.linalg.inv(problem.root)
    covariance = inverse @ np.swapaxes(inverse, 1, 2) + covariance_px2
    return replace(problem, root=np.ascontiguousarray(np.linalg.inv(np.linalg.cholesky(covariance))))


def minima(
    problem: Problem, earlier: Rigid[Any, Any] | None, near: Sequence[Rigid[Any, Any]]
) -> tuple[Problem, list[Fit], NDArray[np.bool_]]:
    """Distinct minima over the markers that agree (n,), the best first; each guess dearer than the one before it."""
    counts = np.bincount(problem.eye)
    order = [int(eye) for eye in np.argsort(-counts, kind="stable") if counts[eye]]
    best: tuple[Problem, list[Fit], NDArray[np.bool_]] = (problem, [], np.zeros(len(problem), dtype=bool))
    tried: list[Fit | None] = []
    for fits in _attempts(problem, earlier, near, order):
        tried += fits
        found = distinct(tried)
        if not found:
            continue
        best = _agreed(problem, found)
        part, found, kept = best
        if found and _explains(part, found[0]) and 2 * int(kept.sum()) > len(problem):
            break
    part, found, kept = best
    if len(found) == 1:
        eye_mm = problem.eye_mm[order[0]]
        other = mirrored(found[0].rotation, found[0].translation_mm, part.mm.reshape(-1, 3), eye_mm)
        found = distinct([found[0], refine(part, *other)])
    return part, found, kept


def _attempts(
    problem: Problem, earlier: Rigid[Any, Any] | None, near: Sequence[Rigid[Any, Any]], order: list[int]
) -> Iterator[list[Fit | None]]:
    """Minima near the earlier pose; near what all markers of one camera give; near what single markers give."""
    if earlier is not None:
        yield [refine(problem, earlier.rotation, earlier.translation_mm)]
    if near:
        yield [refine(problem, pose.rotation, pose.translation_mm) for pose in near]
    rows_of = {eye: np.flatnonzero(problem.eye == eye) for eye in order}
    rays_of = {}
    for eye, rows in rows_of.items():
        rays = straighten(problem.px[rows].reshape(-1, 2), problem.lenses[eye])
        rays_of[eye] = rays.reshape(-1, 4, 2)
        yield [_near(problem, guess, eye) for guess in guesses(problem.mm[rows].reshape(-1, 3), rays)]
    singles = []  # a wrong corner spoils the guess over all of them, hardly the guess of another marker
    for eye, rows in rows_of.items():
        if len(problem) > 1:
            sizes = np.ptp(rays_of[eye], axis=1).prod(axis=1)
            for k in np.argsort(-sizes)[:6]:
                for guess in guesses(problem.mm[rows[k]], rays_of[eye][k]):
                    singles.append((_astray(problem, rows, rays_of[eye], guess), eye, guess))
    singles.sort(key=lambda item: item[0])
    yield [_near(problem, guess, eye) for _, eye, guess in singles[:6]]


def _agreed(problem: Problem, fits: list[Fit]) -> tuple[Problem, list[Fit], NDArray[np.bool_]]:
    """The minima without the markers that don't agree with the best: they have no vote between two poses.

    Where half of them would have to go, none stands out: then all are as far off as the residuals say.
    """
    kept = np.ones(len(problem), dtype=bool)
    if problem.body_covariance.any():
        problem = loosened(problem, body_noise_px2(problem, fits[0]))
        fits = distinct([refine(problem, f.rotation, f.translation_mm) for f in fits])
    all_of_them = problem, fits, kept.copy()
    while fits and kept.any():
        wrong = _disagreeing(problem, fits[0])
        if not wrong.any() or wrong.all():
            break
        kept[np.flatnonzero(kept)[wrong]] = False
        problem = _part(problem, ~wrong)
        fits = distinct([refine(problem, f.rotation, f.translation_mm) for f in fits])
    return (problem, fits, kept) if 2 * int(kept.sum()) > len(kept) else all_of_them


def _part(problem: Problem, rows: NDArray[np.bool_]) -> Problem:
    return replace(
        problem,
        mm=problem.mm[rows],
        px=problem.px[rows],
        root=problem.root[rows],
        eye=problem.eye[rows],
        lag_s=problem.lag_s[rows],
        body_covariance=problem.body_covariance[rows],
    )


def _disagreeing(problem: Problem, fit: Fit) -> NDArray[np.bool_]:
    """Markers (n,) that the fit has given up, or else the one that the others contradict most, of at least three.

    A marker a little off pulls the pose along; what it would be off without its own pull tells.
    """
    wrong: NDArray[np.bool_] = fit.weights.mean(axis=1) < KEPT_WEIGHT
    if wrong.any():
        spread = float((fit.weights * fit.squares).sum()) / max(2 * float(fit.weights.sum()) - 6.0, 1.0)
        return wrong if spread < 2.0 else wrong & (fit.squares.sum(axis=1) > 8.0 * spread * GROSS**2)
    if len(wrong) < 3:
        return wrong
    total = float(fit.squares.sum())
    if total < 30.0:  # not even one marker with all of it would stand out
        return wrong
    squares = deleted_squares(problem, fit)
    freedom = 8.0 * (len(wrong) - 1) - 6
    rest = (total - squares) / freedom
    claimed = (total - squares + PRIOR_FREEDOM) / (freedom + PRIOR_FREEDOM)
    limit = 8.0 * fdtri(8.0, freedom + PRIOR_FREEDOM, 1.0 - OUTLIER_CHANCE) * np.maximum(1.0, claimed)
    # where nothing is as good as claimed (another camera's calibration), neighbours are off together: chance is no
    # measure then, and a marker that comes and goes makes the pose jump
    limit = np.where(rest < 2.0, limit, 8.0 * rest * GROSS**2)
    suspects = np.flatnonzero(squares > limit)
    if len(suspects):
        without = [_remaining(problem, fit, int(k)) for k in suspects]
        wrong[suspects[int(np.argmin(without))]] = True
    return wrong


def _remaining(problem: Problem, fit: Fit, marker: int) -> float:
    """The sum of squares without one marker."""
    rest = refine(_part(problem, np.arange(len(problem)) != marker), fit.rotation, fit.translation_mm)
    return float(rest.squares.sum()) if rest is not None else np.inf


def _near(problem: Problem, guess: Guess, eye: int) -> Fit | None:
    """The minimum near a guess of camera_from_body."""
    turn, mm = problem.eye_turn[eye], problem.eye_mm[eye]
    return refine(problem, turn @ guess[0], turn @ guess[1] + mm)


def _astray(problem: Problem, rows: NDArray[np.int64], rays: Array, guess: Guess) -> float:
    """How far off a guess puts one camera's markers: the mean of their capped distances on the image plane."""
    p = problem.mm[rows] @ guess[0].T + guess[1]
    if p[..., 2].min() < 1.0:
        return np.inf
    size = float(np.median(np.ptp(rays, axis=1)))
    return float(np.minimum(np.abs(p[..., :2] / p[..., 2:] - rays).max(axis=(1, 2)), size).mean())


def _explains(problem: Problem, fit: Fit) -> bool:
    freedom = max(8.0 * len(problem) - 6.0, 2.0)
    return bool((fit.weights > 0.5).all()) and float(fit.squares.sum()) < 9.0 * (freedom + 8.0)


def distinct(fits: Sequence[Fit | None]) -> list[Fit]:
    """The minima, no two alike, the best first."""
    good = [f for f in fits if f is not None]
    if not good:
        return []
    if len(good) == 1:
        return good
    scale = max(1.0, min(float(np.median(f.squares)) / 1.386 for f in good))
    good.sort(key=lambda f: cost(f, scale))
    out: list[Fit] = []
    for fit in good:
        if all(_turn_rad(fit.rotation, other.rotation) > DISTINCT_RAD for other in out):
            out.append(fit)
    return out


def cost(fit: Fit, scale: float) -> float:
    """Truncated sum of squares: comparable between poses."""
    return float(np.minimum(fit.squares / scale, 2 * GEMAN_SD**2).sum())


def _turn_rad(a: Array, b: Array) -> float:
    return float(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1)))
