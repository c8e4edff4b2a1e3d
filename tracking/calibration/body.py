"""A marker body measured from pictures: printed, cut and glued is true to tenths of a millimetre, this to hundredths.

Pictures from all round show several markers at once; where each marker is in the body follows from all of them
together (`body_bundle`). Refused where the pictures leave it open, where the markers' sizes contradict one another, or
where pictures that were left out are not explained. The scale rests on the stated sizes alone: no camera can see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from spatial.faults import Fault
from spatial.pinhole import Pinhole
from spatial.progress import Progress, silent
from spatial.rigid import Array, rotation_log
from tracking.bodies.body import Body
from tracking.calibration.body_bundle import Bundle, Corners, Shape, adjust, aligned
from tracking.calibration.body_start import arrange, components, sides
from tracking.calibration.body_views import Gathered, nudged, observations, pixels, posed_rms_px, renumbered
from tracking.detection.markers import Detections

PICTURES_MIN = 8
SEEN_MIN = 4  # pictures in which a marker has to be seen together with another
PICTURES_MAX = 160
SIZE_SD = 5.0
SIZE_MIN = 0.005
HELD_OUT_EACH = 4
RMS_MAX_PX = 1.5
KEPT_MIN, KEPT_EACH_MIN = 0.8, 0.6
SPREAD_MIN_DEG = 25.0
TRIED = 5  # pictures of a marker whose view is held against all others
TURNED_MIN_DEG = 8.0  # below it nobody turned the body: a hand that holds it still sways by less
RADIUS95 = math.sqrt(float(chi2.ppf(0.95, 3)))


class PoorBody(Fault):
    """Pictures that do not determine a body's geometry."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A measured body (its `covariance` included), and what speaks for it.

    `kept`: the share of markers in pictures that agree. `radius95_mm`: the least certain corner lies within it, in the
    frame that fits all corners best. `rms_px`: of all corners used. `held_out_rms_px`: of pictures that took no part,
    posed with the measured body; `file_rms_px`: of the same with the body as its file had it. `moved_mm`: how far the
    corners of each marker are from there, at most. `sizes`: each marker's size relative to the mean of all, with sd.
    `excess`: by what the corners' covariances were too small. `spread_deg`: the largest angle between two views of one
    marker. `lens_mm`: what of `radius95_mm` is the lens calibration's; None where that is not known and not in it.
    """

    body: Body[Any]
    pictures: int
    used: int
    kept: float
    rms_px: float
    held_out_rms_px: float
    file_rms_px: float | None
    radius95_mm: float
    moved_mm: Mapping[int, float] | None
    sizes: Mapping[int, tuple[float, float]]
    excess: float
    spread_deg: float
    lens_mm: float | None

    def to_json(self) -> dict[str, Any]:
        """For `--json`, less the body."""
        return {
            "pictures": self.pictures,
            "pictures_used": self.used,
            "kept_share": self.kept,
            "rms_px": self.rms_px,
            "held_out_rms_px": self.held_out_rms_px,
            "file_rms_px": self.file_rms_px,
            "corner_radius95_mm": self.radius95_mm,
            "moved_mm": None if self.moved_mm is None else {str(m): mm for m, mm in self.moved_mm.items()},
            "relative_sizes": {str(m): {"size": size, "sd": sd} for m, (size, sd) in self.sizes.items()},
            "excess": self.excess,
            "view_spread_deg": self.spread_deg,
            "lens_share_radius95_mm": self.lens_mm,
        }


def measure_body(
    views: Sequence[Detections], pinhole: Pinhole, nominal: Body[Any], *,
    known: bool = True, free_sizes: bool = False, limit_mm: float = 0.15, lens_covariance: Array | None = None,
    progress: Progress = silent,
) -> Measured:  # fmt: skip
    """Where the markers of `nominal` truly are; its sizes are believed, and its places too unless not `known`.

    The result keeps the nominal frame (best fit over all corners), name and tip. `limit_mm`: what the 95 % radius of
    the worst corner may be. `lens_covariance` (12, 12), as `track_body` takes it, adds what the lens' own uncertainty
    does to the shape. Raises PoorBody.
    """
    ids = list(nominal.corners_mm)
    sizes = np.array([np.linalg.norm(np.roll(c, -1, axis=0) - c, axis=1).mean() for c in nominal.corners_mm.values()])
    views = views if len(views) <= PICTURES_MAX else [views[k] for k in _evenly(len(views), PICTURES_MAX)]
    corners = observations(views, pinhole, ids)
    _check_seen(corners, ids, len(views))
    _check_turned(corners, sizes)
    progress("arranging the markers", 0.1)
    started = arrange(corners, sizes)
    if started is None:
        raise PoorBody(
            "the pictures agree on no arrangement of the markers; do they move against one another, or are the "
            "stated sizes wrong?"
        )
    shape, used, R, mm = started
    corners = renumbered(corners, used)
    if len(used) < PICTURES_MIN:
        raise PoorBody(f"{len(used)} of {len(views)} pictures fit one arrangement, at least {PICTURES_MIN} are needed")
    progress("adjusting all poses", 0.3)
    spread = _view_spread_deg(shape, R, corners)
    if spread < TURNED_MIN_DEG:  # before sizes are compared: what they seem to be off by is chance then
        raise PoorBody(_unturned(len(used), spread))
    sized = adjust(corners, shape, R, mm, free_sizes=True)
    if sized is not None and not free_sizes:
        _check_sizes(sized, sizes, ids)
    fit = sized if free_sizes else adjust(corners, shape, R, mm)
    if fit is None or sized is None:
        raise PoorBody(_open(math.inf, limit_mm, spread))
    lens_mm = None
    if lens_covariance is not None:
        progress("asking what the lens' uncertainty does", 0.6)
        bent = _lens_share(fit, views, used, pinhole, lens_covariance, ids, free_sizes)
        lens_mm = _worst_radius_mm(replace(fit, covariance=bent))
        fit = replace(fit, covariance=fit.covariance + bent)
    progress("checking on pictures left out", 0.7)
    radius = _worst_radius_mm(fit)
    rms = _rms_px(fit, corners, pinhole)
    if rms > RMS_MAX_PX:
        raise PoorBody(
            f"the corners are {rms:.2f} px off RMS, limit {RMS_MAX_PX:g}; is the camera file another one's, did the "
            "markers move against one another, or are the pictures blurred?"
        )
    kept = float(fit.kept.mean())
    if kept < KEPT_MIN:
        raise PoorBody(
            f"only {100 * kept:.0f} % of the markers seen agree with one shape, at least {100 * KEPT_MIN:.0f} % are "
            "needed; did the markers move against one another, or were they read wrong?"
        )
    for k, marker in enumerate(ids):
        share = float(fit.kept[corners.marker == k].mean())
        if share < KEPT_EACH_MIN:
            raise PoorBody(
                f"marker {marker} disagrees with the others in {100 * (1 - share):.0f} % of its pictures, limit "
                f"{100 * (1 - KEPT_EACH_MIN):.0f} %; did it move, or do too few pictures tie it to the others?"
            )
    if len(components(corners.part(fit.kept), len(ids))) > 1:
        raise PoorBody("the pictures that agree do not tie all markers together; take more with several at once")
    if not radius <= limit_mm:
        raise PoorBody(_open(radius, limit_mm, spread))
    body, moved = _body(fit, nominal, ids, known)
    held = _held_out(corners, shape, R, mm, free_sizes)
    ours = theirs = None
    if held is not None:
        partial, left_out = held
        trial, _ = _body(partial, nominal, ids, known)
        aside = [views[used[k]] for k in left_out]
        dropped = 1.5 * (1 - kept)  # corners that were read wrong are so in pictures left out too
        ours = posed_rms_px(aside, trial, pinhole, dropped)
        theirs = posed_rms_px(aside, nominal, pinhole, dropped) if known else None
    if ours is None:
        raise PoorBody("too few pictures show two markers or more: none can be left out to check; take more")
    if ours > RMS_MAX_PX or ours > 4 * max(rms, 0.02):
        raise PoorBody(
            f"pictures that were left out are explained to {ours:.2f} px only, the others to {rms:.2f}; take more "
            "pictures from more sides, or is the camera file another one's?"
        )
    return Measured(
        body, len(views), len(used), kept, rms, ours, theirs, radius, moved,
        {m: (float(s), float(sd)) for m, s, sd in zip(ids, sized.shape.size_mm / sizes, sized.size_sd, strict=True)},
        math.sqrt(fit.excess), spread, lens_mm,
    )  # fmt: skip


def unplaced(name: str, dictionary: str, ids: Sequence[int], size_mm: float) -> Body[Any]:
    """A body whose markers have a size and no place yet, for `measure_body(known=False)`."""
    square = size_mm / 2 * np.array([[-1.0, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]])
    return Body(name, dictionary, {m: square + np.array([2.0 * size_mm * k, 0, 0]) for k, m in enumerate(ids)})


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(k) for k in np.unique(np.linspace(0, count - 1, wanted).astype(int))]


def check_seen(gathered: Gathered, pinhole: Pinhole, ids: Sequence[int]) -> None:
    """Raise PoorBody where too few of all pictures show markers of the body, with what they show instead."""
    corners = observations(gathered.views, pinhole, ids)
    _check_together(len(np.unique(corners.view)), gathered.pictures, gathered.instead)


def _check_together(together: int, pictures: int, instead: str | None = None) -> None:
    if together < PICTURES_MIN:
        cause = instead or (
            "are two of its faces in view at once, dictionary and ids right, the markers large and sharp enough?"
        )
        raise PoorBody(
            f"{together} of {pictures} pictures show two of its markers or more, at least {PICTURES_MIN} are needed; "
            f"{cause}"
        )


def _check_turned(corners: Corners, sizes: Array) -> None:
    """Raise PoorBody where one direction explains how each marker is seen in nine pictures of ten.

    Asked before the markers are arranged: a board that never turned has two poses, and seems to jump between them.
    """
    seen = sides(corners, sizes)
    turned = 0.0
    for marker in np.unique(corners.marker):
        rows = [seen[row] for row in np.flatnonzero(corners.marker == marker) if len(seen[row])]
        cosines = [[float((ways @ way).max()) for ways in rows] for some in rows[:TRIED] for way in some]
        apart = [math.degrees(math.acos(min(1.0, max(-1.0, float(np.quantile(c, 0.1)))))) for c in cosines]
        turned = max(turned, min(apart, default=0.0))
    if turned < TURNED_MIN_DEG / 2:
        raise PoorBody(_unturned(len(np.unique(corners.view)), 2 * turned))


def _unturned(pictures: int, within_deg: float) -> str:
    return (
        f"the body was not turned: all {pictures} pictures show it from one side (within {within_deg:.0f} degrees, "
        f"{SPREAD_MIN_DEG:.0f} or more are needed); tilt and turn it before the camera, or take it from all round"
    )


def _check_seen(corners: Corners, ids: Sequence[int], pictures: int) -> None:
    _check_together(len(np.unique(corners.view)), pictures)
    counts = np.bincount(corners.marker, minlength=len(ids))
    rare = [f"{marker} ({count})" for marker, count in zip(ids, counts, strict=True) if count < SEEN_MIN]
    if rare:
        raise PoorBody(
            f"seen beside another marker in fewer than {SEEN_MIN} pictures: {', '.join(rare)}; show them, or leave out "
            "what the body does not bear (--ids)"
        )
    groups = components(corners, len(ids))
    if len(groups) > 1:
        words = " and ".join("{" + ", ".join(str(ids[m]) for m in group) + "}" for group in groups)
        raise PoorBody(f"no picture connects the markers {words}; take pictures that show some of each at once")


def _check_sizes(sized: Bundle, sizes: Array, ids: Sequence[int]) -> None:
    off = sized.shape.size_mm / sizes - 1
    wrong = (np.abs(off) > SIZE_SD * sized.size_sd) & (np.abs(off) > SIZE_MIN)
    if wrong.any():
        k = int(np.argmax(np.where(wrong, np.abs(off), 0)))
        raise PoorBody(
            f"marker {ids[k]} is {100 * abs(off[k]):.1f} % {'larger' if off[k] > 0 else 'smaller'} (sd "
            f"{100 * sized.size_sd[k]:.1f}) against the others than its stated {sizes[k]:g} mm; was it printed at "
            "another scale? State the true sizes, or --free-sizes"
        )


def _view_spread_deg(shape: Shape, R: Array, corners: Corners) -> float:
    """The largest angle between two lines of sight to the body's markers, seen from the markers."""
    normals = np.einsum("nij,njk->nik", R[corners.view], shape.R[corners.marker])[:, 2]  # the camera's axis there
    spread = 0.0
    for marker in np.unique(corners.marker):
        axes = normals[corners.marker == marker]
        spread = max(spread, float(np.degrees(np.arccos(np.clip((axes @ axes.T).min(), -1, 1)))))
    return spread


def _worst_radius_mm(fit: Bundle) -> float:
    """95 % radius of the corner that is known worst, by the longest axis of its covariance."""
    worst = 0.0
    corners = fit.shape.corners_mm()
    for k, four in enumerate(corners):
        block = fit.covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        for corner in four:
            x, y, z = corner - fit.shape.mm[k]
            J = np.concatenate([[[0, z, -y], [-z, 0, x], [y, -x, 0]], np.eye(3)], axis=1)
            worst = max(worst, float(np.linalg.eigvalsh(J @ block @ J.T)[2]))
    return RADIUS95 * math.sqrt(worst)


def _lens_share(
    fit: Bundle, views: Sequence[Detections], used: NDArray[np.int64], pinhole: Pinhole, covariance: Array,
    ids: Sequence[int], free_sizes: bool,
) -> Array:  # fmt: skip
    """Covariance (6m, 6m) that the lens adds: the fit is repeated with each of its ways to be wrong, one sd far."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    values, ways = np.linalg.eigh(covariance / np.outer(scale, scale))
    out = np.zeros((6 * len(ids), 6 * len(ids)))
    for value, way in zip(values, ways.T, strict=True):
        if value < 1e-6 * values[-1]:
            continue
        wrong = nudged(pinhole, math.sqrt(value) * way * scale)
        corners = renumbered(observations(views, wrong, ids), used)
        other = adjust(corners, fit.shape, fit.R, fit.mm, free_sizes=free_sizes)
        if other is None:
            raise PoorBody("the lens is known too badly for a shape: an sd off, nothing fits; calibrate the camera")
        there = other.shape.moved(*aligned(other.shape, fit.shape.corners_mm(), range(len(ids))))
        turns = [rotation_log(a @ b.T) for a, b in zip(there.R, fit.shape.R, strict=True)]
        step = np.concatenate([np.array(turns), there.mm - fit.shape.mm], axis=1).ravel()
        out += np.outer(step, step)
    return out


def _open(radius_mm: float, limit_mm: float, spread_deg: float) -> str:
    known = "not at all" if not math.isfinite(radius_mm) else f"to {radius_mm:.2f} mm (95 %)"
    why = (
        f"all pictures look from nearly the same side ({spread_deg:.0f} degrees apart, {SPREAD_MIN_DEG:.0f} or more "
        "are needed): tilt the body"
        if spread_deg < SPREAD_MIN_DEG
        else "take more pictures, nearer, sharper, from more sides"
    )
    return f"the worst corner is known {known}, limit {limit_mm:g}; {why}"


def _rms_px(fit: Bundle, corners: Corners, pinhole: Pinhole) -> float:
    body = fit.shape.corners_mm()[corners.marker]
    p = np.einsum("nij,ncj->nci", fit.R[corners.view], body) + fit.mm[corners.view][:, None]
    off = pixels(pinhole, p[..., :2] / p[..., 2:]) - pixels(pinhole, corners.rays)
    return float(np.sqrt((off[fit.kept] ** 2).sum(axis=-1).mean() / 2))


def _body(
    fit: Bundle, nominal: Body[Any], ids: Sequence[int], known: bool
) -> tuple[Body[Any], dict[int, float] | None]:
    """The measured body in the nominal frame (that of its first marker when there is none), and how far each moved."""
    if known:
        onto = np.stack([nominal.corners_mm[m] for m in ids])
        R, t = aligned(fit.shape, onto, range(len(ids)))
        for _ in range(10):  # a marker that is elsewhere must not turn the others' frame
            off = np.linalg.norm(fit.shape.moved(R, t).corners_mm() - onto, axis=2).max(axis=1)
            near = np.flatnonzero(off <= 3 * np.median(off) + 1e-9)
            R, t = aligned(fit.shape, onto[near], near.tolist())
    else:
        R, t = fit.shape.R[0].T, -fit.shape.R[0].T @ fit.shape.mm[0]
    there = fit.shape.moved(R, t)
    turn = np.kron(np.eye(2), R)
    covariance = {}
    for k, marker in enumerate(ids):
        block = fit.covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        covariance[marker] = turn @ block @ turn.T
    corners = dict(zip(ids, there.corners_mm(), strict=True))
    body = replace(nominal, corners_mm=corners, covariance=covariance)
    if not known:
        return body, None
    off = np.linalg.norm(there.corners_mm() - onto, axis=2).max(axis=1)
    return body, {m: float(mm) for m, mm in zip(ids, off, strict=True)}


def _held_out(
    corners: Corners, shape: Shape, R: Array, mm: Array, free_sizes: bool
) -> tuple[Bundle, NDArray[np.int64]] | None:
    """A fit without every fourth picture, and which those are; None where the rest doesn't hold together."""
    every = np.arange(len(R))
    left_out = every[HELD_OUT_EACH - 1 :: HELD_OUT_EACH]
    kept = np.setdiff1d(every, left_out)
    rest = corners.part(~np.isin(corners.view, left_out))
    if len(components(rest, len(shape.mm))) != 1 or len(set(rest.marker.tolist())) != len(shape.mm):
        return None
    fit = adjust(replace(rest, view=np.searchsorted(kept, rest.view)), shape, R[kept], mm[kept], free_sizes=free_sizes)
    return None if fit is None else (fit, left_out)
