"""Whether the lens still is as it was calibrated, asked of the bodies themselves while they are tracked.

A flat body seen from the front fits any focal length, at another distance. Seen aslant it does not: near edges look
larger than far ones by an amount that only one focal length gives. Each sighting says, its pose eliminated, how focal
length (a common factor of fx and fy) and centre would have to change; views from different sides are put together. A
touched focus or zoom ring shows within seconds of ordinary movement, long before any residual is large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from spatial.rigid import Array
from tracking.pose.estimate import Estimate
from tracking.pose.lens import LENS
from tracking.pose.minima import loosened
from tracking.pose.solver import by_lens, linearised

WORRY = 0.002  # a relative change of the focal length below it does not matter
SURE_SD = 4.5  # below that it may be chance
FLOOR_PX = 0.03  # of a corner: what prints and lens models leave, the same in all pictures of one view
TILT_RAD, TURN_RAD, RANGE = np.radians(8.0), np.radians(45.0), 1.3  # views closer together count once
KEPT_NS = 60_000_000_000  # older views may be from before the lens moved
UNASKED = 0.3  # of the change: what else may have changed, sd
CENTRE_PX = 20.0  # how far a lens' centre may have moved, sd


@dataclass(frozen=True, eq=False)
class LensEvidence:
    """What a view says of (relative focal length, cx, cy): information (3, 3), pull (3,); `view` names the side."""

    t_ns: int
    view: tuple[int, ...]
    information: Array
    pull: Array


@dataclass(frozen=True, eq=False)
class LensDoubt:
    """The lens has changed: `focal` relative, `centre_px` (2,), with `focal_sd`; `views` said so."""

    focal: float
    focal_sd: float
    centre_px: Array
    views: int

    @property
    def words(self) -> str:
        """For people."""
        longer = "longer" if self.focal > 0 else "shorter"
        return (
            f"the picture's perspective fits a focal length {100 * abs(self.focal):.1f} % {longer} than calibrated (sd "
            f"{100 * self.focal_sd:.1f} %): have focus or zoom moved, or is the body not as its file says? "
            "osteotwin calibrate check tells"
        )


@dataclass(frozen=True, eq=False)
class LensWatch:
    """The views so far; `file` (12, 12) is the covariance of the camera file's own lens, None where it tells none."""

    fx_px: float
    fy_px: float
    file: Array | None = None
    views: Mapping[tuple[str, *tuple[int, ...]], LensEvidence] = field(default_factory=dict)

    def plus(self, body: str, evidence: LensEvidence) -> LensWatch:
        """With one view of a body more; it takes the place of the last one from that side."""
        fresh = {view: e for view, e in self.views.items() if 0 <= evidence.t_ns - e.t_ns < KEPT_NS}
        return replace(self, views=fresh | {(body, *evidence.view): evidence})

    def doubt(self) -> LensDoubt | None:
        """The change that all views ask for together, where it is beyond chance and what the file doubts itself."""
        if len(self.views) < 2:
            return None
        information = sum((e.information for e in self.views.values()), np.diag([0.0, CENTRE_PX**-2, CENTRE_PX**-2]))
        pull = sum((e.pull for e in self.views.values()), np.zeros(3))
        if information[0, 0] <= 0 or np.linalg.cond(information) > 1e14:
            return None
        covariance = np.linalg.inv(information)
        change = covariance @ pull
        # views that contradict one another about it know less than they claim
        squares = sum(_misfit(e, change) for e in self.views.values())
        covariance = covariance * max(1.0, squares / (3.0 * len(self.views)))
        sd = float(np.sqrt(covariance[0, 0] + self._file_variance()))
        if abs(change[0]) < max(SURE_SD * sd, WORRY):
            return None
        return LensDoubt(float(change[0]), sd, change[1:], len(self.views))

    def covariance(self, doubt: LensDoubt) -> Array:
        """The lens' covariance (12, 12) that spans the calibrated lens and the one that seems to be there.

        A lens that has moved has changed in what was not asked too: its axes apart, its bend.
        """
        gap = np.zeros(LENS)
        gap[:4] = doubt.focal * self.fx_px, doubt.focal * self.fy_px, *doubt.centre_px
        out = np.outer(gap, gap) + np.diag((UNASKED * gap) ** 2)
        out[4, 4] += (UNASKED * doubt.focal) ** 2
        return out if self.file is None else out + self.file

    def _file_variance(self) -> float:
        return 0.0 if self.file is None else float(self.file[0, 0] / self.fx_px**2)


def lens_evidence(found: Estimate, t_ns: int) -> LensEvidence | None:
    """What the markers of one camera say of its lens beyond the pose; None where nothing is left over."""
    problem = loosened(found.claimed, np.tile(FLOOR_PX**2 * np.eye(8), (len(found.problem), 1, 1)))
    lens = problem.lenses[0]
    r, J = linearised(problem, found.fit)
    by_one = by_lens(problem, found.fit)
    L = np.stack([by_one[..., 0] * lens[0] + by_one[..., 1] * lens[1], by_one[..., 2], by_one[..., 3]], axis=-1)
    r, J, L = r.ravel(), J.reshape(-1, J.shape[-1]), L.reshape(-1, 3)
    whole = J.T @ J
    whole[6:, 6:] += problem.information
    gain = np.linalg.solve(whole, J.T @ np.column_stack([L, r]))
    information = L.T @ L - (L.T @ J) @ gain[:, :3]
    pull = -(L.T @ r - (L.T @ J) @ gain[:, 3])
    values = np.linalg.eigvalsh(information)
    if not np.isfinite(information).all() or values[0] < -1e-6 * abs(values[-1]):
        return None
    return LensEvidence(t_ns, _view(found), information, pull)


def _misfit(evidence: LensEvidence, change: Array) -> float:
    """Squared distance between what one view asks for and what all do."""
    gap = evidence.pull - evidence.information @ change
    return float(gap @ np.linalg.pinv(evidence.information, rcond=1e-9, hermitian=True) @ gap)


def _view(found: Estimate) -> tuple[int, ...]:
    """From which side the body is seen: how far aslant, in which direction, how far away, and how it is turned."""
    R, t = found.pose.rotation, found.pose.translation_mm
    toward = R.T @ (-t / np.linalg.norm(t))
    aslant, around = np.arccos(np.clip(toward[2], -1, 1)), np.arctan2(toward[1], toward[0])
    roll = np.arctan2(R[1, 0], R[0, 0])
    steps = aslant / TILT_RAD, around / TURN_RAD, roll / TURN_RAD, np.log(np.linalg.norm(t)) / np.log(RANGE)
    return tuple(int(np.floor(step)) for step in steps)
