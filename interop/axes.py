"""Where RAS and LPS meet, for all wires: DICOM and we say LPS (left, posterior, up), 3D Slicer says RAS.

The two differ by half a turn about the long axis: the same numbers with two signs changed. It concerns coordinates of
the patient only: a camera's, a tracker's or a tool's axes are its own and cross a wire as they are. A pose is changed
at the ends that are patient coordinates: ras_from_x = TURN @ lps_from_x, x_from_ras = x_from_lps @ TURN.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from spatial.frames import Patient
from spatial.rigid import Array, Points, Rigid, UncertainRigid

Axes = Literal["RAS", "LPS"]
SIGNS = np.array([-1.0, -1.0, 1.0])
SIGNS.flags.writeable = False


def out(points_mm: ArrayLike, axes: Axes) -> Array:
    """Patient coordinates (LPS) (..., 3) as a receiver with these axes expects them."""
    values = np.asarray(points_mm, np.float64)
    return values * SIGNS if axes == "RAS" else values


def into(points_mm: ArrayLike, axes: Axes) -> Points[Patient]:
    """Patient points from coordinates (..., 3) in these axes."""
    values = np.asarray(points_mm, np.float64)
    return Points[Patient](values * SIGNS if axes == "RAS" else values)


def matrix_out(matrix: ArrayLike, axes: Axes, *, to_patient: bool = False, from_patient: bool = False) -> Array:
    """A matrix (3, 4) or (4, 4) as it crosses the wire; which of its ends are patient coordinates is said.

    Its own inverse: what comes in is turned by the same call.
    """
    values = np.array(matrix, np.float64)
    if axes == "RAS" and to_patient:
        values[:3] *= SIGNS[:, None]
    if axes == "RAS" and from_patient:
        values[:, :3] *= SIGNS
    return values


def uncertain_out(
    pose: UncertainRigid[Any, Any], axes: Axes, *, to_patient: bool = False, from_patient: bool = False
) -> UncertainRigid[Any, Any]:
    """A measured pose as `matrix_out` has it; its covariance turns with the end that it is told in."""
    matrix = matrix_out(pose.pose.matrix(), axes, to_patient=to_patient, from_patient=from_patient)
    signs = np.tile(SIGNS, 2) if axes == "RAS" and to_patient else np.ones(6)
    return UncertainRigid(Rigid[Any, Any].from_matrix(matrix), pose.covariance * np.outer(signs, signs))
