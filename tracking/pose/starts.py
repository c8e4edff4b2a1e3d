"""First guesses of a pose, and the mirror image that a flat body always has."""

from __future__ import annotations

import math

import cv2
import numpy as np

from spatial.compiled import njit
from spatial.rigid import Array, rotation_exp
from tracking.pose.solver import rodrigues

FLAT_MM = 0.3
Guess = tuple[Array, Array]


def guesses(mm: Array, rays: Array) -> list[Guess]:
    """Poses (R, t) that nearly explain points mm (k, 3) on rays (k, 2): IPPE's two for flat ones, SQPnP's else.

    Collins & Bartoli 2014 (IPPE); Terzakis & Lourakis 2020 (SQPnP).
    """
    middle = mm.mean(axis=0)
    centred = mm - middle
    normal = np.linalg.svd(centred, full_matrices=False)[2][2]
    height = centred @ normal
    flat = float(np.abs(height).max()) < FLAT_MM
    if flat:
        centred = centred - np.outer(height, normal)  # IPPE refuses points that are a micrometre off their plane
    try:
        _, turns, shifts, _ = cv2.solvePnPGeneric(
            centred, rays, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE if flat else cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return []
    out = []
    for turn, shift in zip(turns, shifts, strict=True):
        R, t = rotation_exp(np.ravel(turn)), np.ravel(shift)
        if np.isfinite(R).all() and np.isfinite(t).all():
            out.append((R, t - R @ middle))
    return out


@njit
def mirrored(R: Array, t: Array, mm: Array, eye_mm: Array) -> Guess:
    """The other pose that explains nearly flat points (k, 3) about as well, seen from `eye_mm`.

    Under weak perspective a plane and its reflection in the line of sight look the same (Schweighofer & Pinz 2006).
    """
    middle = np.zeros(3)
    for i in range(len(mm)):
        middle += mm[i] / len(mm)
    spread = np.zeros((3, 3))
    for i in range(len(mm)):
        for a in range(3):
            for b in range(3):
                spread[a, b] += (mm[i, a] - middle[a]) * (mm[i, b] - middle[b])
    normal = R @ np.ascontiguousarray(np.linalg.eigh(spread)[1][:, 0])
    place = R @ middle + t
    sight = (place - eye_mm) / math.sqrt(((place - eye_mm) ** 2).sum())
    if (normal * sight).sum() < 0:
        normal = -normal
    x = normal[1] * sight[2] - normal[2] * sight[1]
    y = normal[2] * sight[0] - normal[0] * sight[2]
    z = normal[0] * sight[1] - normal[1] * sight[0]
    sine = math.sqrt(x * x + y * y + z * z)
    if sine < 1e-6:
        return R.copy(), t.copy()
    angle = 2 * math.atan2(sine, (normal * sight).sum())
    turned = rodrigues(x / sine * angle, y / sine * angle, z / sine * angle) @ R
    return turned, place - turned @ middle
