"""A calibration board as a camera sees it: area-sampled through the pixels' own rays, bowed if asked, moving if asked.

Independent of the corner fit: each ray is followed to the print's surface and asked for its ink. A bowed board is
z = bow (1 - (2x/width)^2), x from its middle: a sheet that was glued badly.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.compiled import njit
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Rigid, rotation_exp
from tracking.calibration.board import Board
from tracking.synthetic.optics import Optics
from tracking.synthetic.plates import BLACK, WHITE, pattern

ROOM = 0.32  # reflectance behind the board
ACROSS = 9  # rays a pixel across and down where inks meet, shared by its samples
INSTANTS = 7  # of an exposure


def photograph(
    board: Board,
    pinhole: Pinhole,
    camera_from_board: Rigid[Camera, Any],
    optics: Optics | None = None,
    *,
    seed: int = 0,
    bow_mm: float = 0.0,
    twist: Array | None = None,
) -> NDArray[np.uint8]:
    """A grey picture (h, w). `twist` (6,): turn rad/s (in the camera's axes, about the board's origin), speed mm/s.

    With a twist the optics' exposure blurs and their readout shears; the pose is that of the middle row's middle.
    """
    optics = optics or Optics()
    fine = optics.fineness
    light = np.zeros((pinhole.height_px * fine, pinhole.width_px * fine), dtype=np.float32)
    instants = INSTANTS if twist is not None and optics.exposure_ns else 1
    for k in range(instants):
        offset_ns = optics.exposure_ns * ((k + 0.5) / instants - 0.5)
        ink = _reflectance(board, pinhole, camera_from_board, offset_ns, optics.readout_ns, bow_mm, twist, fine)
        light += ink / instants
    lit = optics.illuminate(optics.spread(light[..., None], fine), 0, 0, pinhole.width_px, pinhole.height_px)
    noise = np.random.default_rng(seed).standard_normal(lit.shape, dtype=np.float32)
    return optics.compress(optics.develop(lit, noise).reshape(lit.shape[:2]))


@lru_cache(maxsize=2)
def _rays(pinhole: Pinhole) -> Array:
    v, u = np.mgrid[0.0 : pinhole.height_px, 0.0 : pinhole.width_px]
    return np.ascontiguousarray(pinhole.normalised(np.stack([u, v], axis=-1)))


def _reflectance(
    board: Board,
    pinhole: Pinhole,
    pose: Rigid[Camera, Any],
    offset_ns: float,
    readout_ns: float,
    bow_mm: float,
    twist: Array | None,
    fine: int,
) -> NDArray[np.float32]:
    height = pinhole.height_px
    rays = _rays(pinhole)
    turns, eyes = np.empty((height, 3, 3)), np.empty((height, 3))
    for row in range(height):
        R, t = pose.rotation, pose.translation_mm
        if twist is not None:
            seconds = (offset_ns + readout_ns * (row / (height - 1) - 0.5)) * 1e-9
            R, t = rotation_exp(np.asarray(twist[:3]) * seconds) @ R, t + np.asarray(twist[3:]) * seconds
        turns[row], eyes[row] = R.T, -R.T @ t
    less = 0 if board.kind == "charuco" else 1
    squares = (board.columns + less, board.rows + less)
    codes = [pattern(board.dictionary, k) for k in range(squares[0] * squares[1] // 2)] if not less else []
    bits = np.stack(codes) if codes else np.zeros((0, 1, 1), dtype=np.uint8)
    share = board.marker_mm / board.square_mm
    swapped = board.legacy and squares[1] % 2 == 0
    row, column = np.mgrid[0 : squares[1], 0 : squares[0]]
    white = (row + column) % 2 == (0 if swapped else 1)
    which = np.where(white, np.cumsum(white).reshape(white.shape) - 1, -1)  # markers are counted along the rows
    picture = np.full((height * fine, pinhole.width_px * fine), ROOM, dtype=np.float32)
    _print(
        picture, rays, turns, eyes, bits, which, squares[0], squares[1], board.square_mm,
        -float(less) * board.square_mm, share, swapped, bow_mm, fine,
    )  # fmt: skip
    return picture


@njit
def _print(
    picture: NDArray[np.float32], rays: Array, turns: Array, eyes: Array, bits: NDArray[np.uint8],
    which: NDArray[np.int64], columns: int, rows: int, square: float, origin: float, share: float, swapped: bool,
    bow: float, fine: int,
) -> None:  # fmt: skip
    height, width = rays.shape[:2]
    each = max(ACROSS // fine, 1)
    for v in range(height):
        R, eye = turns[v], eyes[v]
        for u in range(width):
            x, y = rays[v, u, 0], rays[v, u, 1]
            u0, u1, v0, v1 = max(u - 1, 0), min(u + 1, width - 1), max(v - 1, 0), min(v + 1, height - 1)
            xu, yu = (rays[v, u1, 0] - rays[v, u0, 0]) / (u1 - u0), (rays[v, u1, 1] - rays[v, u0, 1]) / (u1 - u0)
            xv, yv = (rays[v1, u, 0] - rays[v0, u, 0]) / (v1 - v0), (rays[v1, u, 1] - rays[v0, u, 1]) / (v1 - v0)
            first, same = -1.0, True
            for k in range(9):
                du, dv = 0.5 * (k % 3 - 1), 0.5 * (k // 3 - 1)
                tone = _ink(
                    R, eye, x + du * xu + dv * xv, y + du * yu + dv * yv, bits, which, columns, rows, square, origin,
                    share, swapped, bow,
                )  # fmt: skip
                if k == 0:
                    first = tone
                elif tone != first:
                    same = False
                    break
            if same:
                picture[v * fine : (v + 1) * fine, u * fine : (u + 1) * fine] = first
                continue
            for part in range(fine * fine):
                total = 0.0
                for k in range(each * each):
                    du = (part % fine + (k % each + 0.5) / each) / fine - 0.5
                    dv = (part // fine + (k // each + 0.5) / each) / fine - 0.5
                    total += _ink(
                        R, eye, x + du * xu + dv * xv, y + du * yu + dv * yv, bits, which, columns, rows, square,
                        origin, share, swapped, bow,
                    )  # fmt: skip
                picture[v * fine + part // fine, u * fine + part % fine] = total / each**2


@njit
def _ink(
    R: Array, eye: Array, x: float, y: float, bits: NDArray[np.uint8],
    which: NDArray[np.int64], columns: int, rows: int, square: float, origin: float, share: float, swapped: bool,
    bow: float,
) -> float:  # fmt: skip
    dx = R[0, 0] * x + R[0, 1] * y + R[0, 2]
    dy = R[1, 0] * x + R[1, 1] * y + R[1, 2]
    dz = R[2, 0] * x + R[2, 1] * y + R[2, 2]
    if abs(dz) < 1e-9:
        return ROOM
    half = 0.5 * columns * square
    z = a = b = 0.0
    for _ in range(1 if bow == 0.0 else 6):
        far = (z - eye[2]) / dz
        if far <= 0:
            return ROOM
        a, b = eye[0] + far * dx - origin, eye[1] + far * dy - origin
        z = bow * (1.0 - ((a - half) / half) ** 2)
    i, j = math.floor(a / square), math.floor(b / square)
    if a < -square or b < -square or a > (columns + 1) * square or b > (rows + 1) * square:
        return ROOM
    if i < 0 or j < 0 or i >= columns or j >= rows:
        return WHITE
    black = (i + j) % 2 == (1 if swapped else 0)
    if black:
        return BLACK
    if len(bits) == 0:
        return WHITE
    n = bits.shape[1]
    p = ((a / square - i) - 0.5 * (1 - share)) / share * n
    q = ((b / square - j) - 0.5 * (1 - share)) / share * n
    if p < 0 or q < 0 or p >= n or q >= n:
        return WHITE
    return WHITE if bits[which[j, i], int(q), int(p)] else BLACK
