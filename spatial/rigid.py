"""Points, directions and rigid motions between named frames, with the covariance of a measured motion.

Conventions (docs/FRAMES.md): active matrices on column vectors, `a_from_b` maps b's coordinates to a's; rotations are
proper (det +1). A covariance is 6x6, rotation (rad) before translation (mm), decoupled and in a's axes:
R_true = Exp(w) R, t_true = t + v. It is not a twist: v does not turn with w (Barfoot & Furgale 2014 discuss both).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial.faults import Fault
from spatial.frames import A, B, C

Array = NDArray[np.float64]

ORTHONORMAL_TOLERANCE = 1e-6


class NotRigid(Fault):
    """A matrix that is no proper rotation: sheared, scaled or mirrored."""


class NotFinite(Fault):
    """A coordinate that is NaN or infinite."""


def readonly(values: ArrayLike, shape: tuple[int, ...] | None, what: str) -> Array:
    """Copy to float64, check shape (None: any (..., 3)) and finiteness, forbid writing."""
    array = np.array(values, dtype=np.float64)
    if shape is None:
        if array.ndim < 1 or array.shape[-1] != 3:
            raise NotFinite(f"{what} has shape {array.shape}, (..., 3) is needed")
    elif array.shape != shape:
        raise NotFinite(f"{what} has shape {array.shape}, {shape} is needed")
    if not np.isfinite(array).all():
        raise NotFinite(f"{what} holds a value that is not finite")
    array.flags.writeable = False
    return array


def skew(v: Array) -> Array:
    """The matrix of the cross product: skew(v) @ x = v x x."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_exp(rotvec_rad: ArrayLike) -> Array:
    """Rodrigues' formula: rotation vector (3,) rad to matrix, exact to machine precision near zero."""
    w = np.asarray(rotvec_rad, dtype=np.float64)
    angle = float(np.linalg.norm(w))
    K = skew(w)
    if angle < 1e-4:  # Taylor to the fourth order: the next term is below 1e-20
        a, b = 1.0 - angle**2 / 6.0 + angle**4 / 120.0, 0.5 - angle**2 / 24.0 + angle**4 / 720.0
    else:
        a, b = np.sin(angle) / angle, (1.0 - np.cos(angle)) / angle**2
    return np.asarray(np.eye(3) + a * K + b * (K @ K))


def rotation_log(rotation: Array) -> Array:
    """Matrix to rotation vector (3,) rad with angle in [0, pi]; by the quaternion, so stable at 0 and at pi."""
    q = quaternion_from_rotation(rotation)
    if q[0] < 0:
        q = -q
    s = float(np.linalg.norm(q[1:]))
    if s < 1e-12:
        return np.asarray(2.0 * q[1:])
    return np.asarray(q[1:] * (2.0 * np.arctan2(s, q[0]) / s))


def quaternion_from_rotation(rotation: Array) -> Array:
    """Unit quaternion (w, x, y, z) of a rotation matrix (Shepperd 1978: divide by the largest component)."""
    R = rotation
    trace = float(np.trace(R))
    squares = np.array([trace, R[0, 0], R[1, 1], R[2, 2]])
    i = int(np.argmax(squares))
    q = np.empty(4)
    if i == 0:
        q[:] = 1.0 + trace, R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    else:
        a = i - 1
        b, c = (a + 1) % 3, (a + 2) % 3
        q[0] = R[c, b] - R[b, c]
        q[1 + a] = 1.0 + R[a, a] - R[b, b] - R[c, c]
        q[1 + b] = R[b, a] + R[a, b]
        q[1 + c] = R[c, a] + R[a, c]
    return np.asarray(q / np.linalg.norm(q))


def rotation_from_quaternion(wxyz: ArrayLike) -> Array:
    """Rotation matrix of a quaternion (w, x, y, z), normalised first."""
    w, x, y, z = np.asarray(wxyz, dtype=np.float64) / np.linalg.norm(np.asarray(wxyz, dtype=np.float64))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True, eq=False)
class Points(Generic[A]):
    """Positions in frame A: `mm` is (..., 3); (3,) is one point. Read-only float64, finite."""

    mm: Array

    def __post_init__(self) -> None:
        """Validate and freeze."""
        object.__setattr__(self, "mm", readonly(self.mm, None, "Points.mm"))

    def __len__(self) -> int:
        """How many points; one point counts as 1."""
        return int(np.prod(self.mm.shape[:-1], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Directions(Generic[A]):
    """Unit vectors in frame A: `unit` is (..., 3), normalised by the constructor; zero length is refused."""

    unit: Array

    def __post_init__(self) -> None:
        """Validate, normalise and freeze."""
        vectors = np.array(self.unit, dtype=np.float64)
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if not np.isfinite(vectors).all() or (length < 1e-12).any():
            raise NotFinite("a direction needs a finite length above zero")
        object.__setattr__(self, "unit", readonly(vectors / length, None, "Directions.unit"))


@dataclass(frozen=True, eq=False)
class Rigid(Generic[A, B]):
    """A proper rigid motion a_from_b: x_a = rotation @ x_b + translation_mm.

    Raises NotRigid on shear, scale, mirror.
    """

    rotation: Array
    translation_mm: Array

    def __post_init__(self) -> None:
        """Check orthonormality and handedness, re-orthonormalise rounding, freeze."""
        R = readonly(self.rotation, (3, 3), "Rigid.rotation")
        defect = float(np.abs(R @ R.T - np.eye(3)).max())
        det = float(np.linalg.det(R))
        if defect > ORTHONORMAL_TOLERANCE or det < 0:
            cause = "mirrored (left-handed)" if det < 0 else "scaled or sheared"
            raise NotRigid(f"rotation is off by {defect:.2g} with determinant {det:.4f}, limits 1e-6 and +1; {cause}?")
        if defect > 1e-14:
            u, _, vt = np.linalg.svd(R)
            R = readonly(u @ vt, (3, 3), "Rigid.rotation")
        object.__setattr__(self, "rotation", R)
        object.__setattr__(self, "translation_mm", readonly(self.translation_mm, (3,), "Rigid.translation_mm"))

    @classmethod
    def identity(cls) -> Rigid[A, B]:
        """The two frames coincide."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Rigid[A, B]:
        """From a homogeneous (4, 4) matrix; raises NotRigid when the last row is not (0, 0, 0, 1)."""
        M = readonly(matrix, (4, 4), "matrix")
        if not np.allclose(M[3], (0, 0, 0, 1), atol=1e-9):
            raise NotRigid(f"last row is {M[3].tolist()}, (0, 0, 0, 1) is needed; is the matrix transposed?")
        return cls(M[:3, :3], M[:3, 3])

    @classmethod
    def exp(cls, rotvec_rad: ArrayLike, translation_mm: ArrayLike = (0.0, 0.0, 0.0)) -> Rigid[A, B]:
        """From a rotation vector (3,) rad and a translation (3,) mm (decoupled)."""
        return cls(rotation_exp(rotvec_rad), np.asarray(translation_mm, dtype=np.float64))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rigid[A, B]:
        """From `{"rotation": 3x3 rows, "translation_mm": [x, y, z]}`."""
        try:
            return cls(np.asarray(value["rotation"], float), np.asarray(value["translation_mm"], float))
        except (KeyError, TypeError, ValueError) as error:
            raise NotRigid(f"a pose needs rotation (3x3) and translation_mm (3): {error}") from None

    def log(self) -> tuple[Array, Array]:
        """Rotation vector (3,) rad and translation (3,) mm; the inverse of `exp`."""
        return rotation_log(self.rotation), self.translation_mm

    @property
    def angle_rad(self) -> float:
        """The angle of the rotation, 0 to pi."""
        return float(np.linalg.norm(rotation_log(self.rotation)))

    def inverse(self) -> Rigid[B, A]:
        """b_from_a."""
        return Rigid[B, A](self.rotation.T, -self.rotation.T @ self.translation_mm)

    def matrix(self) -> Array:
        """Homogeneous (4, 4)."""
        M = np.eye(4)
        M[:3, :3], M[:3, 3] = self.rotation, self.translation_mm
        return M

    def to_json(self) -> dict[str, Any]:
        """`{"rotation": 3x3 rows, "translation_mm": [x, y, z]}`."""
        return {"rotation": self.rotation.tolist(), "translation_mm": self.translation_mm.tolist()}

    @overload
    def __matmul__(self, other: Rigid[B, C]) -> Rigid[A, C]: ...
    @overload
    def __matmul__(self, other: Points[B]) -> Points[A]: ...
    @overload
    def __matmul__(self, other: Directions[B]) -> Directions[A]: ...
    def __matmul__(self, other: Rigid[B, C] | Points[B] | Directions[B]) -> Rigid[A, C] | Points[A] | Directions[A]:
        """Compose with a motion, or map points or directions."""
        if isinstance(other, Rigid):
            R = self.rotation @ other.rotation
            return Rigid[A, C](R, self.rotation @ other.translation_mm + self.translation_mm)
        if isinstance(other, Points):
            return Points[A](other.mm @ self.rotation.T + self.translation_mm)
        if isinstance(other, Directions):
            return Directions[A](other.unit @ self.rotation.T)
        return NotImplemented


def mean_rigid(motions: Sequence[Rigid[A, B]]) -> Rigid[A, B]:
    """The mean motion: chordal L2 mean of rotations (Hartley et al. 2013, eq. 5.3), arithmetic mean of translations."""
    if not motions:
        raise NotRigid("the mean of no motion is not defined")
    u, _, vt = np.linalg.svd(np.sum([m.rotation for m in motions], axis=0))
    R = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return Rigid[A, B](R, np.mean([m.translation_mm for m in motions], axis=0))


@dataclass(frozen=True, eq=False)
class UncertainRigid(Generic[A, B]):
    """A measured motion with its covariance (6, 6): rotation rad before mm, decoupled, in A's axes."""

    pose: Rigid[A, B]
    covariance: Array

    def __post_init__(self) -> None:
        """Check symmetry and that no variance is negative; freeze."""
        cov = readonly(self.covariance, (6, 6), "covariance")
        if not np.allclose(cov, cov.T, rtol=1e-6, atol=1e-15) or float(np.linalg.eigvalsh(cov)[0]) < -1e-9:
            raise NotRigid("a covariance must be symmetric and positive semi-definite")
        object.__setattr__(self, "covariance", readonly((cov + cov.T) / 2, (6, 6), "covariance"))

    def inverse(self) -> UncertainRigid[B, A]:
        """b_from_a, with first-order transport."""
        back = self.pose.inverse()
        J = np.zeros((6, 6))
        J[:3, :3] = -back.rotation
        J[3:, :3] = -back.rotation @ skew(self.pose.translation_mm)
        J[3:, 3:] = -back.rotation
        return UncertainRigid[B, A](back, J @ self.covariance @ J.T)

    def __matmul__(self, other: UncertainRigid[B, C]) -> UncertainRigid[A, C]:
        """Compose two independent measured motions, with first-order transport of both covariances."""
        R = self.pose.rotation
        J1 = np.eye(6)
        J1[3:, :3] = -skew(R @ other.pose.translation_mm)
        J2 = np.zeros((6, 6))
        J2[:3, :3] = J2[3:, 3:] = R
        cov = J1 @ self.covariance @ J1.T + J2 @ other.covariance @ J2.T
        return UncertainRigid[A, C](self.pose @ other.pose, cov)

    def point_covariance(self, points: Points[B]) -> Array:
        """Covariance (..., 3, 3) mm2 in A of points that are exact in B."""
        rotated = points.mm @ self.pose.rotation.T
        J = np.zeros((*rotated.shape[:-1], 3, 6))
        x, y, z = rotated[..., 0], rotated[..., 1], rotated[..., 2]
        J[..., 0, 1], J[..., 0, 2] = z, -y
        J[..., 1, 0], J[..., 1, 2] = -z, x
        J[..., 2, 0], J[..., 2, 1] = y, -x
        J[..., 0, 3] = J[..., 1, 4] = J[..., 2, 5] = 1.0
        return np.asarray(J @ self.covariance @ np.swapaxes(J, -1, -2))


@dataclass(frozen=True, eq=False)
class Similarity(Generic[A, B]):
    """A rigid motion with a uniform scale, for a patient enlarged in VR only.

    x_a = scale * rotation @ x_b + translation_mm.
    """

    rotation: Array
    translation_mm: Array
    scale: float

    def __post_init__(self) -> None:
        """Validate through Rigid; the scale must be positive."""
        rigid = Rigid[A, B](self.rotation, self.translation_mm)
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise NotRigid(f"scale is {self.scale}, it must be above zero")
        object.__setattr__(self, "rotation", rigid.rotation)
        object.__setattr__(self, "translation_mm", rigid.translation_mm)

    @classmethod
    def of(cls, rigid: Rigid[A, B], scale: float = 1.0) -> Similarity[A, B]:
        """A rigid motion seen as a similarity."""
        return cls(rigid.rotation, rigid.translation_mm, scale)

    def matrix(self) -> Array:
        """Homogeneous (4, 4)."""
        M = np.eye(4)
        M[:3, :3], M[:3, 3] = self.scale * self.rotation, self.translation_mm
        return M

    def inverse(self) -> Similarity[B, A]:
        """b_from_a."""
        return Similarity[B, A](self.rotation.T, -self.rotation.T @ self.translation_mm / self.scale, 1.0 / self.scale)

    @overload
    def __matmul__(self, other: Similarity[B, C]) -> Similarity[A, C]: ...
    @overload
    def __matmul__(self, other: Rigid[B, C]) -> Similarity[A, C]: ...
    @overload
    def __matmul__(self, other: Points[B]) -> Points[A]: ...
    @overload
    def __matmul__(self, other: Directions[B]) -> Directions[A]: ...
    def __matmul__(
        self, other: Similarity[B, C] | Rigid[B, C] | Points[B] | Directions[B]
    ) -> Similarity[A, C] | Points[A] | Directions[A]:
        """Compose with a motion, or map points or directions."""
        if isinstance(other, Points):
            return Points[A](self.scale * other.mm @ self.rotation.T + self.translation_mm)
        if isinstance(other, Directions):
            return Directions[A](other.unit @ self.rotation.T)
        scale = other.scale if isinstance(other, Similarity) else 1.0
        translation = self.scale * self.rotation @ other.translation_mm + self.translation_mm
        return Similarity[A, C](self.rotation @ other.rotation, translation, self.scale * scale)
