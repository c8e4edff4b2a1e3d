"""Sub-pixel corners of a square marker: its whole code fitted to the pixels around the code's edges.

Coarse corners and the marker's code are what it starts from. Three modules do the work: lattice.py
(where the code's lines are in the raw picture, for given corners and lens), pieces.py (how far the picture's edges lie
off them), marker_fit.py (corners, blur, levels and spread of light that explain all of it). The code's inner edges hold
as much information as the outline and face both ways, so light that is not linear moves no corner: it is
measured. The covariance comes from the normal matrix, scaled by how well the pieces of all the picture's markers agree:
the noise's correlation (JPEG, sharpening) is in it. Pixel centres are at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.pinhole import Pinhole
from spatial.rigid import Array
from tracking.detection.lattice import lens_bend
from tracking.detection.marker_fit import (
    BLUR0,
    BLUR1,
    FREEDOM,
    NOISE,
    OFF_INSIDE,
    OK,
    SPREAD,
    SPREAD_SD,
    SQUARES,
    STATE,
    fit_markers,
)
from tracking.detection.pieces import BINS
from tracking.detection.profile import GAUSSIAN, fitted_profile, oddness

FAILED_SD_PX = 1.5  # a marker that can't be fitted keeps its coarse corners with this uncertainty
SPREAD_PER_BLUR_SD = 0.35  # of cameras nobody knows: gamma 2.2 spreads light by 0.3 to 0.5 blurs
FLOOR_PX = 0.0015  # what the model leaves out
SPREAD_FLOOR_PX = 0.0035  # the same of the spread, for a blur of 0.76 px; it grows with the blur's square
POOLED_PIECES = 30.0  # a marker's own scatter is trusted as if that many pieces had scattered like the picture's
CLIPPED_PX = 0.03  # what saturated paper adds
DIM_WHITE, DIM_SHARE = 48, 0.1  # a marker without brighter pixels, a tenth of them at the sensor's dark end: its inner
DIM_PX = 0.07  # edges lose a flank, so the outline alone is taken, with so much more doubt
SIDE_USED = 0.5
SMALL_CELL_PX, SMALL_PX = 4.5, 0.008
# measured on rendered tags, sRGB against linear: by how many blurs wide a cell is, per spread of light
BLEND_BLUR_PX = 0.7  # a blur found to be less in such cells is not
BLEND, BLEND_CELLS, BLEND_FADES, BLEND_LINEAR = 0.36, 2.7, 0.95, 0.05
CODED = 1.2  # a corner's error by the scatter of its cells (H.264 of three qualities), and all markers alike
CODED_LEAST_PX = 0.015  # less scatter than that is chance
LEAST_DRAWN_CELL_PX = 4.0
ILL_DRAWN_PX = 0.08  # lines of the code that lie further off its lattice were drawn on whole pixels: left out
BOWED_PX = 1.0  # a lens that bows a side by more makes a coarse square wrong
SHARPEST_PX = 0.45  # a sharper edge is a step between pixels that can't tell where in the gap it lies:
SMOOTHING_PX = 0.6  # such a picture is smoothed by that
WEIGHTED_AWAY = 1.03  # the robust weights make Gaussian scatter look smaller by this
_LINEAR = np.arange(256.0)
_GAUSSIANS = np.stack([GAUSSIAN, GAUSSIAN])


@dataclass(frozen=True, eq=False)
class FittedCorners:
    """Corners (N, 4, 2) px, with what is known of their errors.

    `whitening` (N, 8, 8) times a corner error (x0, y0, ... y3) has unit variance. `fitted` (N, 4): whether side i (from
    corner i to i + 1) was seen for more than half; `reason` (N, 4) says why not: "hidden", "glare", "blur", "small", or
    "". `blur_px` (N, 4): the sd across each side, the pixel's own width in it. `spread_px` (N,): by how much bright
    cells look larger than they are, and `spread_sd_px`. `noise` (N,): of a pixel, in levels of light.
    """

    corners_px: Array
    whitening: Array
    fitted: NDArray[np.bool_]
    blur_px: Array
    reason: tuple[tuple[str, ...], ...]
    spread_px: Array
    spread_sd_px: Array
    noise: Array


def fit_corners(
    picture: NDArray[np.uint8],
    coarse_px: Array,
    code: int | NDArray[np.uint8],
    pinhole: Pinhole | None,
    *,
    coarse_sd_px: float = 3.0,
) -> FittedCorners:
    """Refine coarse corners (N, 4, 2) of markers in a grey picture (h, w).

    `code` (N, cells, cells): 1 white, 0 black, with the border (as `pattern` draws it; an inverted marker's is
    inverted); or only how many cells wide a marker is, and its outline alone is fitted. `pinhole` gives the bow of
    straight lines; without it they are taken as straight in the raw picture. `coarse_sd_px`: what the coarse corners
    are worth where nothing of a side is seen.
    """
    n = len(coarse_px)
    coarse = np.ascontiguousarray(coarse_px, dtype=np.float64).reshape(n, 4, 2)
    codes = _quiet(code, n)
    cells, inside = codes.shape[1] - 4, not isinstance(code, int)
    if not n:
        none = np.zeros(0)
        return FittedCorners(
            coarse, np.zeros((0, 8, 8)), np.zeros((0, 4), np.bool_), np.zeros((0, 4)), (), none, none, none
        )
    luma = np.require(picture, np.uint8, ("C", "W"))
    corners, bins = coarse.copy(), np.zeros((2, BINS, 2))
    state, covariance, sides = np.zeros((n, STATE)), np.zeros((n, 9, 9)), np.zeros((n, 4, 2))
    prior = np.tile([0.0, SPREAD_PER_BLUR_SD if inside else 1e-4, coarse_sd_px], (n, 1))
    bend = lens_bend(coarse, pinhole, cells)
    light = _LINEAR.copy()

    def fit(profiles: Array, start: bool, passes: int) -> None:
        found = (prior, bins, state, covariance, sides)
        fit_markers(luma, light, profiles, coarse, corners, bend, codes, inside, start, passes, *found)

    fit(_GAUSSIANS, True, 2)
    bowed = np.flatnonzero(np.abs(bend).max(axis=(1, 2, 3)) > BOWED_PX)
    if len(bowed):
        # a square was found by straight lines through its bowed sides: its corners then lie beyond the true ones
        within = _unbowed(coarse[bowed], pinhole, cells)
        moving, bent = within.copy(), lens_bend(within, pinhole, cells)
        other, their, theirs = state[bowed], covariance[bowed], sides[bowed]
        fit_markers(
            luma, light, _GAUSSIANS, within, moving, bent, codes[bowed], inside, True, 2, prior[bowed],
            np.zeros_like(bins), other, their, theirs,
        )  # fmt: skip
        moved, moved_before = np.abs(moving - within).max(axis=(1, 2)), np.abs(corners - coarse)[bowed].max(axis=(1, 2))
        better = (other[:, OK] > 0) & ((state[bowed, OK] == 0) | (moved < moved_before))
        rows = bowed[better]
        coarse[rows], corners[rows], bend[rows] = within[better], moving[better], bent[better]
        state[rows], covariance[rows], sides[rows] = other[better], their[better], theirs[better]
    if np.abs(bend).max() * np.abs(corners - coarse).max() > 1e-3 * np.ptp(coarse, axis=1).min():
        bend = lens_bend(corners, pinhole, cells)
    cell_px = _cell_px(coarse, cells)
    wide = cell_px > LEAST_DRAWN_CELL_PX  # narrower cells tell little of their blur
    drawn = bool(wide.any() and np.median(state[wide][:, [BLUR0, BLUR1]]) < SHARPEST_PX)
    if drawn:
        luma, corners = _smoothed(luma), coarse.copy()
        bins[:] = 0.0
        fit(_GAUSSIANS, True, 2)
    profiles = np.stack([fitted_profile(kind, inside) for kind in bins])
    fit(profiles, False, 2)
    sharp = (state[:, [BLUR0, BLUR1]].min(axis=1) < SHARPEST_PX) & wide
    ill_drawn = (state[:, OK] > 0) & (drawn | (sharp & (state[:, OFF_INSIDE] > ILL_DRAWN_PX**2)))
    dim = _dim(luma, coarse) & (state[:, OK] > 0)
    if inside and (ill_drawn | dim).any():
        # the outline alone then, smoothed like the edges it was drawn with; a strong word of the code's is still heard
        rows = np.flatnonzero(ill_drawn | dim)
        told = state[rows]
        blur = (told[:, BLUR0] + told[:, BLUR1]) / 2
        again = [a[rows] for a in (coarse, coarse, bend, prior, state, covariance, sides)]
        strong = (
            (np.abs(told[:, SPREAD]) > 6 * told[:, SPREAD_SD]) & (not drawn) & ~dim[rows]
        )  # steps between pixels can't spread
        again[3][:, 0] = np.where(strong, told[:, SPREAD] / blur, 0.0)
        again[3][:, 1] = np.minimum(told[:, SPREAD_SD] / blur, prior[rows, 1])
        smooth = luma if drawn else _smoothed(luma)
        for first in (True, False):
            start, moving, bent, believed, *found = again
            fit_markers(
                smooth, light, _GAUSSIANS, start, moving, bent, codes[rows], False, first, 3, believed, bins, *found
            )
        corners[rows], state[rows], covariance[rows], sides[rows] = moving, *found
    return _concluded(coarse, corners, state, covariance, sides, cells, oddness(profiles[0]), dim)


def _dim(luma: NDArray[np.uint8], coarse: Array) -> NDArray[np.bool_]:
    """Whether a marker is so faint that its black is cut off at the sensor's end."""
    low = np.maximum(np.floor(coarse.min(axis=1)).astype(int), 0)
    high = np.ceil(coarse.max(axis=1)).astype(int) + 1
    out = np.zeros(len(coarse), dtype=np.bool_)
    for k, ((left, top), (right, bottom)) in enumerate(zip(low, high, strict=True)):
        part = luma[top:bottom:2, left:right:2]
        out[k] = part.size > 0 and part.max() < DIM_WHITE and np.count_nonzero(part <= 1) > DIM_SHARE * part.size
    return out


def _unbowed(corners: Array, pinhole: Pinhole | None, cells: int) -> Array:
    """Corners (N, 4, 2) of squares whose sides were fitted by straight lines though the lens bows them."""
    out = corners
    for _ in range(3):
        bend = lens_bend(out, pinhole, cells)
        middle = slice(max(1, cells // 10), -max(1, cells // 10))
        bow = np.stack([bend[:, 0, middle], bend[:, middle, -1], bend[:, -1, middle], bend[:, middle, 0]], axis=1)
        ends = np.roll(corners, -1, axis=1) - corners
        normal = np.stack([ends[..., 1], -ends[..., 0]], axis=-1) / np.linalg.norm(ends, axis=-1, keepdims=True)
        chords = (normal * corners).sum(axis=-1) - (bow.mean(axis=2) * normal).sum(axis=-1)
        pairs = np.stack([np.roll(normal, 1, axis=1), normal], axis=2)
        out = np.linalg.solve(pairs, np.stack([np.roll(chords, 1, axis=1), chords], axis=2)[..., None])[..., 0]
    return np.ascontiguousarray(out)


def _cell_px(corners: Array, cells: int) -> Array:
    along = corners[:, [1, 2, 3, 0]] - corners
    return np.asarray(np.sqrt((along**2).sum(axis=2).min(axis=1)) / cells)


def _smoothed(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), SMOOTHING_PX), dtype=np.uint8)


def _quiet(code: int | NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Codes (N, cells + 4, cells + 4) with two cells of the border's opposite around them."""
    inner = np.zeros((n, code, code), dtype=np.uint8) if isinstance(code, int) else np.asarray(code, dtype=np.uint8)
    out = np.ones((n, inner.shape[1] + 4, inner.shape[1] + 4), dtype=np.uint8)
    if n:
        out -= inner[:, :1, :1]
        out[:, 2:-2, 2:-2] = inner
    return out


def _concluded(
    coarse: Array, corners: Array, state: Array, covariance: Array, sides: Array, cells: int, odd_profile: float,
    dim: NDArray[np.bool_],
) -> FittedCorners:  # fmt: skip
    good = (state[:, OK] > 0) & np.isfinite(covariance).all(axis=(1, 2))
    n = len(coarse)
    whitening = np.tile(np.eye(8) / FAILED_SD_PX, (n, 1, 1))
    blur = np.zeros((n, 4))
    corners = np.where(good[:, None, None], corners, coarse)
    if good.any():
        s = state[good]
        squares, freedom = s[:, SQUARES] * WEIGHTED_AWAY, np.maximum(s[:, FREEDOM] - 9, 0.0)
        pooled = (squares.sum() + 1.0) / (freedom.sum() + 1.0)
        scale = np.maximum((squares + POOLED_PIECES * pooled) / (freedom + POOLED_PIECES), 0.1)
        cov = covariance[good][:, :8, :8] * scale[:, None, None] + FLOOR_PX**2 * np.eye(8)
        # in thin cells the edges blend more than the model knows (measured on rendered tags)
        thin = SMALL_PX * np.maximum(SMALL_CELL_PX - _cell_px(coarse[good], cells), 0.0)
        blurs = np.maximum(s[:, [BLUR0, BLUR1]].mean(axis=1), BLEND_BLUR_PX)
        # … the more so, the less linear the light is: neighbours blend before the curve, not after it
        blend = np.exp((BLEND_CELLS - _cell_px(coarse[good], cells) / blurs) / BLEND_FADES)
        blend *= BLEND * (np.abs(s[:, SPREAD]) + BLEND_LINEAR * blurs)
        # cells that scatter beyond their noise were moved by a video's coding: whole markers lag behind with them
        coded = CODED**2 * np.maximum(s[:, OFF_INSIDE] - CODED_LEAST_PX**2, 0.0)
        cov += (thin**2 + blend**2 + coded)[:, None, None] * np.eye(8)
        # a spread that is not quite what it seems moves the corners in or out together
        outward = covariance[good][:, :8, 8] / covariance[good][:, 8, 8][:, None]
        doubt = SPREAD_FLOOR_PX * s[:, [BLUR0, BLUR1]].min(axis=1) ** 2 / 0.76**2
        doubt = np.hypot(np.hypot(doubt, odd_profile), blend)
        cov += (CLIPPED_PX * sides[good][..., 1].mean(axis=1))[:, None, None] ** 2 * np.eye(8)
        cov += doubt[:, None, None] ** 2 * outward[:, :, None] * outward[:, None, :]
        cov += (DIM_PX * dim[good])[:, None, None] ** 2 * np.eye(8)
        values, vectors = np.linalg.eigh(cov)
        whitening[good] = (vectors / np.sqrt(values)[:, None]) @ np.swapaxes(vectors, 1, 2)
        blur[good] = s[:, [BLUR0, BLUR1, BLUR0, BLUR1]]
    fitted = good[:, None] & (sides[..., 0] >= SIDE_USED)
    cell_px = _cell_px(coarse, cells)
    reason = tuple(
        tuple(
            ""
            if fitted[k, i]
            else "glare"
            if sides[k, i, 1] > 0.2
            else "small"
            if cell_px[k] < 2.0
            else "blur"
            if state[k, BLUR0 + i % 2] > 0.6 * cell_px[k]
            else "hidden"
            for i in range(4)
        )
        for k in range(n)
    )
    return FittedCorners(
        corners, whitening, fitted, blur, reason, state[:, SPREAD], state[:, SPREAD_SD], state[:, NOISE]
    )
