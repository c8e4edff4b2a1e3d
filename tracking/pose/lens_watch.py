"""Whether the lens still is as its file says, asked of the bodies themselves while they are tracked.

A flat body seen from the front fits any focal length, at another distance. Seen aslant it does not: near edges look
larger than far ones by an amount that only one focal length gives. Views from different sides are put together in one
adjustment of their poses, the focal length (a common factor of fx and fy) and the centre. A touched focus or zoom ring
shows within seconds of ordinary movement, long before any residual is large; so does a file of another camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spatial.rigid import Array
from tracking.pose.estimate import Estimate
from tracking.pose.lens import LENS
from tracking.pose.minima import loosened
from tracking.pose.solver import Fit, Problem, by_lens, linearised, refine

WORRY = 0.002  # a relative change of the focal length, or of a pose by its distance, below it does not matter
SURE = 30.0  # squared distance of (focal length, centre) from the file's, 3 degrees: one in a million by chance
TELLING_SD = 4.0  # a focal length is named alone where it is so sure
SUSPECT = 10.0  # … to first order, before the adjustment is made at all
FLOOR_PX = 0.03  # of a corner: what prints and lens models leave, the same in all pictures of one view
ALIKE = 3.0  # coordinates that count as one, for body files and prints err by whole markers
TILT_RAD, TURN_RAD, RANGE = np.radians(8.0), np.radians(45.0), 1.3  # views closer together count once
KEPT_NS = 60_000_000_000  # older views may be from before the lens moved
MOST, MOST_MARKERS = 12, 48  # views that are adjusted, the newest
CENTRE_PX = 20.0  # how far a lens' centre may have moved, sd
UNASKED = 0.3  # of the change: what else may have changed, sd
ROUNDS, MOST_STEP = 8, 0.2


@dataclass(frozen=True, eq=False)
class LensView:
    """One body from one side: the problem as the detections claim it, and its pose with the file's lens.

    `information` (3, 3) and `pull` (3,) of (relative focal length, cx, cy), the pose eliminated; `squares` of the
    residuals with so many degrees of `freedom`.
    """

    t_ns: int
    side: tuple[int, ...]
    problem: Problem
    fit: Fit
    information: Array
    pull: Array
    squares: float
    freedom: float


@dataclass(frozen=True, eq=False)
class LensDoubt:
    """Another lens explains the views: `focal` relative, `centre_px` (2,), their `covariance` (3, 3).

    `moved`: how far the poses would move, as a share of their distance, at most; `views` say so.
    """

    focal: float
    centre_px: Array
    covariance: Array
    moved: float
    views: int

    @property
    def focal_sd(self) -> float:
        """Of `focal`."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def words(self) -> str:
        """For people."""
        longer = "longer" if self.focal > 0 else "shorter"
        what = f"a focal length {100 * abs(self.focal):.1f} % {longer} (sd {100 * self.focal_sd:.1f} %)"
        if abs(self.focal) < TELLING_SD * self.focal_sd:  # the two can stand in for one another
            x, y = self.centre_px
            what += f" and a centre {x:+.0f}, {y:+.0f} px off, which only together are sure,"
        return (
            f"the picture's perspective does not fit the camera file: {what} would explain it, poses are off by up to "
            f"{100 * self.moved:.1f} % of their distance. Have focus or zoom moved, is it another camera's file, or is "
            "the body unlike its own? (osteotwin calibrate check)"
        )


@dataclass(frozen=True, eq=False)
class LensWatch:
    """The views so far; `file` (12, 12) is the covariance of the camera file's own lens, None where it tells none."""

    fx_px: float
    fy_px: float
    file: Array | None = None
    views: dict[tuple[str, *tuple[int, ...]], LensView] = field(default_factory=dict)

    def plus(self, body: str, view: LensView) -> LensWatch:
        """With one view of a body more; it takes the place of the last one from that side."""
        fresh = {key: v for key, v in self.views.items() if 0 <= view.t_ns - v.t_ns < KEPT_NS}
        fresh.pop((body, *view.side), None)
        return replace(self, views=fresh | {(body, *view.side): view})

    def doubt(self, earlier: LensDoubt | None = None) -> LensDoubt | None:
        """The change that the views ask for together, where it is beyond chance and what the file doubts.

        `earlier` stands until views say that it no longer does: those that say nothing take nothing back.
        """
        views = self._newest()
        if len(views) < 2 or not (earlier or self._suspicious(views)):
            return earlier
        settled = _settled(views, FLOOR_PX)
        # a body that is not as its file says leaves residuals, and the lens is then known less well
        settled = settled and _settled(views, max(FLOOR_PX, FLOOR_PX * math.sqrt(settled.scale)))
        if settled is None:
            return earlier
        covariance: Array = np.asarray(np.linalg.inv(settled.information)) * max(1.0, settled.scale)
        change = settled.change
        if float(change @ np.linalg.solve(covariance + self._file(), change)) < SURE or settled.moved < WORRY:
            return earlier if earlier is not None and self._stands(earlier, change, covariance) else None
        return LensDoubt(math.expm1(change[0]), change[1:], covariance, settled.moved, len(views))

    def covariance(self, doubt: LensDoubt) -> Array:
        """The lens' covariance (12, 12) that spans the calibrated lens and the one that seems to be there.

        A lens that has changed has changed in what was not asked too: its axes apart, its bend.
        """
        lift = np.zeros((LENS, 3))
        lift[0, 0], lift[1, 0], lift[2, 1], lift[3, 2] = self.fx_px, self.fy_px, 1.0, 1.0
        gap = lift @ np.array([doubt.focal, *doubt.centre_px])
        out = np.outer(gap, gap) + np.diag((UNASKED * gap) ** 2) + lift @ doubt.covariance @ lift.T
        out[4, 4] += (UNASKED * doubt.focal) ** 2
        return out if self.file is None else out + self.file

    def _stands(self, earlier: LensDoubt, change: Array, covariance: Array) -> bool:
        """Whether the views of now could still be of the lens that was doubted before."""
        gap = change - np.array([math.log1p(earlier.focal), *earlier.centre_px])
        return float(gap @ np.linalg.solve(covariance + earlier.covariance, gap)) < SURE

    def _newest(self) -> list[LensView]:
        """So many views as can be adjusted in a few hundredths of a second."""
        out, markers = list[LensView](), 0
        for view in reversed(self.views.values()):
            markers += len(view.problem)
            if out and (len(out) == MOST or markers > MOST_MARKERS):
                break
            out.append(view)
        return out

    def _file(self) -> Array:
        """The file's own covariance (3, 3) of (relative focal length, cx, cy)."""
        if self.file is None:
            return np.zeros((3, 3))
        take = np.zeros((3, LENS))
        take[0, 0], take[1, 2], take[2, 3] = 1 / self.fx_px, 1.0, 1.0
        return np.asarray(take @ self.file @ take.T)

    def _suspicious(self, views: Sequence[LensView]) -> bool:
        information = sum((v.information for v in views), _PRIOR)
        pull = sum((v.pull for v in views), np.zeros(3))
        covariance = np.linalg.inv(information)
        change = covariance @ pull
        left, freedom = sum(v.squares for v in views) - float(pull @ change), sum(v.freedom for v in views)
        scale = max(1.0, left / max(freedom / ALIKE, 1.0))
        together = float(change @ np.linalg.solve(covariance * scale + self._file(), change))
        alone = max(float(v.pull @ np.linalg.solve(v.information + _PRIOR, v.pull)) for v in views) / scale
        return max(together, alone) > SUSPECT


def lens_view(found: Estimate, t_ns: int) -> LensView | None:
    """What the markers of one camera say of its lens beyond the pose; None where nothing is left over."""
    problem = _floored(found.claimed, FLOOR_PX)
    asked = _asked(problem, found.fit)
    if asked is None:
        return None
    information, pull, squares, freedom = asked
    return LensView(t_ns, _side(found), found.claimed, found.fit, information, pull, squares, freedom)


@dataclass(frozen=True, eq=False)
class _Settled:
    change: Array
    information: Array
    scale: float
    moved: float


_PRIOR = np.diag([1.0, CENTRE_PX**-2, CENTRE_PX**-2])


def _settled(views: Sequence[LensView], floor_px: float) -> _Settled | None:
    """All views adjusted for one lens, corners being worth `floor_px` at best; None where that leads nowhere."""
    change, fits = np.zeros(3), [v.fit for v in views]
    problems = [_floored(v.problem, floor_px) for v in views]
    for _ in range(ROUNDS):
        information, pull = _PRIOR.copy(), -_PRIOR @ change
        squares = freedom = 0.0
        for k, (problem, fit) in enumerate(zip(problems, fits, strict=True)):
            now = replace(problem, lenses=_changed(problem.lenses, change))
            again = refine(now, fit.rotation, fit.translation_mm)
            asked = None if again is None else _asked(now, again)
            if again is None or asked is None:
                return None
            fits[k] = again
            information += asked[0]
            pull += asked[1]
            squares, freedom = squares + asked[2], freedom + asked[3]
        step = np.linalg.solve(information, pull)
        step *= min(1.0, MOST_STEP / max(abs(step[0]), 1e-12))
        change = change + step
        if abs(step[0]) < 1e-4:
            break
    if not np.isfinite(change).all() or abs(change[0]) > 2.0:
        return None
    shifts = [
        np.linalg.norm(fit.translation_mm - v.fit.translation_mm) / np.linalg.norm(v.fit.translation_mm)
        for v, fit in zip(views, fits, strict=True)
    ]
    return _Settled(change, information, squares / max((freedom - 3) / ALIKE, 1.0), float(max(shifts)))


def _changed(lenses: Array, change: Array) -> Array:
    out = lenses.copy()
    out[:, :2] *= math.exp(change[0])
    out[:, 2:4] += change[1:]
    return out


def _floored(problem: Problem, floor_px: float) -> Problem:
    return loosened(problem, np.tile(floor_px**2 * np.eye(8), (len(problem), 1, 1)))


def _asked(problem: Problem, fit: Fit) -> tuple[Array, Array, float, float] | None:
    """Information (3, 3) and pull (3,) of (relative focal length, cx, cy) at a fit, its pose eliminated; squares."""
    lens = problem.lenses[0]
    root = np.sqrt(np.repeat(fit.weights, 2, axis=1)).ravel()
    r, J = linearised(problem, fit)
    by_one = by_lens(problem, fit)
    L = np.stack([by_one[..., 0] * lens[0] + by_one[..., 1] * lens[1], by_one[..., 2], by_one[..., 3]], axis=-1)
    r, J, L = root * r.ravel(), root[:, None] * J.reshape(-1, J.shape[-1]), root[:, None] * L.reshape(-1, 3)
    whole = J.T @ J
    whole[6:, 6:] += problem.information
    try:
        gain = np.linalg.solve(whole, J.T @ np.column_stack([L, r]))
    except np.linalg.LinAlgError:
        return None
    information = L.T @ L - (L.T @ J) @ gain[:, :3]
    pull = -(L.T @ r - (L.T @ J) @ gain[:, 3])
    if not (np.isfinite(information).all() and np.isfinite(pull).all()):
        return None
    return (information + information.T) / 2, pull, float(r @ r), float(2 * fit.weights.sum() - 6)


def _side(found: Estimate) -> tuple[int, ...]:
    """From which side the body is seen: how far aslant, in which direction, how it is turned, how far away."""
    R, t = found.pose.rotation, found.pose.translation_mm
    toward = R.T @ (-t / np.linalg.norm(t))
    aslant, around = np.arccos(np.clip(toward[2], -1, 1)), np.arctan2(toward[1], toward[0])
    roll = np.arctan2(R[1, 0], R[0, 0])
    steps = aslant / TILT_RAD, around / TURN_RAD, roll / TURN_RAD, np.log(np.linalg.norm(t)) / np.log(RANGE)
    return tuple(int(np.floor(step)) for step in steps)
