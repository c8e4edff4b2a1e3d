"""Paired points: where the twin stands in the reference body's frame, and how far off it may be at each target.

Closed-form least squares (Arun et al. 1987; Umeyama 1991 for the proper rotation). The spread of a touch comes either
from the caller (`fle_mm`, measured on this pointer) or from the residuals with 3N - 6 degrees of freedom. FRE is not
accuracy (Fitzpatrick 2009): what is shown is the predicted target error, 95 %. A registration that another program made
comes in as a matrix with a stated spread; it says so wherever it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from guidance.accuracy import radius95_mm
from spatial.faults import Fault, Misuse
from spatial.frames import Patient, Reference
from spatial.rigid import Array, Points, Rigid, UncertainRigid, skew

MAX_RESIDUAL_MM = 5.0
MIN_SPREAD_MM = 5.0
ROUNDED = 2e-3  # how far a matrix written with few digits may be from a rotation
Direction = Literal["reference-from-patient", "patient-from-reference"]


class WeakPairs(Fault):
    """Too few pairs, all on a line, or pairs that contradict one another."""


class BadPairs(Misuse):
    """A pairs, matrix or registration file that cannot be read as one."""


@dataclass(frozen=True)
class Pair:
    """One landmark: where the twin has it and where it was touched, both (3,) mm."""

    name: str
    patient_mm: tuple[float, float, float]
    reference_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Registration:
    """The fit with its evidence. `dof` None: the spread was given, not estimated from these residuals.

    Without pairs (`fle_mm` None, no residuals) the whole pose and its covariance were given.
    """

    reference_from_patient: UncertainRigid[Reference, Patient]
    residuals_mm: Mapping[str, float]
    fle_mm: float | None
    dof: int | None
    body: str
    twin_id: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no fit gives."""
        if self.dof is not None and self.dof < 1:
            raise BadPairs(f"{self.dof} degrees of freedom; at least one, or none when the spread was given")
        if self.fle_mm is not None and not (np.isfinite(self.fle_mm) and self.fle_mm >= 0):
            raise BadPairs(f"touch error {self.fle_mm!r} mm; it must be finite and not negative")
        if not self.body or not self.twin_id:
            raise BadPairs("a registration names its body and its twin")

    @property
    def fre_mm(self) -> float | None:
        """Root mean square residual at the fiducials, not an accuracy; None without fiducials."""
        if not self.residuals_mm:
            return None
        return float(np.sqrt(np.mean(np.square(list(self.residuals_mm.values())))))

    @property
    def fle_source(self) -> str:
        """Where the spread comes from, in words."""
        if self.fle_mm is None:
            return "none: a given matrix with a stated spread"
        if self.dof is None:
            return "given"
        return f"estimated from the residuals, {self.dof} degrees of freedom"

    def tre95_mm(self, target: Points[Patient]) -> float:
        """Predicted 95 % error radius (mm) of the registration alone at one target (3,)."""
        return radius95_mm(self.reference_from_patient.point_covariance(target), self.dof)

    def to_json(self, targets: Mapping[str, Points[Patient]] | None = None) -> dict[str, Any]:
        """As `osteotwin register --json` prints it and REG files hold it."""
        return {
            "reference_from_patient": self.reference_from_patient.pose.to_json(),
            "covariance": self.reference_from_patient.covariance.tolist(),
            "residuals_mm": dict(self.residuals_mm),
            "fre_mm": self.fre_mm,
            "fle_mm": self.fle_mm,
            "fle_source": self.fle_source,
            "dof": self.dof,
            "predicted_tre95_mm": {name: self.tre95_mm(point) for name, point in (targets or {}).items()},
            "body": self.body,
            "twin_id": self.twin_id,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Registration:
        """Inverse of `to_json`; raises BadPairs naming what is missing."""
        try:
            pose = Rigid[Reference, Patient].from_json(value["reference_from_patient"])
            return cls(
                reference_from_patient=UncertainRigid(pose, np.asarray(value["covariance"], float)),
                residuals_mm={str(name): float(mm) for name, mm in dict(value["residuals_mm"]).items()},
                fle_mm=None if value["fle_mm"] is None else float(value["fle_mm"]),
                dof=None if value["dof"] is None else int(value["dof"]),
                body=str(value["body"]),
                twin_id=str(value["twin_id"]),
                warnings=tuple(value.get("warnings", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadPairs(
                f"a registration lacks or garbles {error}; was it written by `osteotwin register`?"
            ) from None


def register(pairs: Sequence[Pair], *, body: str, twin_id: str, fle_mm: float | None = None) -> Registration:
    """Fit reference_from_patient to touched pairs; `fle_mm` is the RMS length (3-D) of a touch's error, if known.

    Three pairs leave three degrees of freedom, and the predicted error grows accordingly. Raises WeakPairs for fewer,
    for pairs on a line and for a residual above MAX_RESIDUAL_MM.
    """
    names = [pair.name for pair in pairs]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadPairs(f"{', '.join(twice)} stands twice; each landmark needs its own pair")
    if len(pairs) < 3:
        raise WeakPairs(f"{len(pairs)} pairs; at least three, better five spread widely, are needed")
    x = Points[Patient](np.array([pair.patient_mm for pair in pairs])).mm
    y = Points[Reference](np.array([pair.reference_mm for pair in pairs])).mm
    spread = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) / np.sqrt(len(pairs))
    if spread[1] < MIN_SPREAD_MM:
        raise WeakPairs(
            f"the pairs reach only {spread[1]:.1f} mm to the side of one line, {MIN_SPREAD_MM} mm is the limit; "
            "touch a landmark away from the others"
        )
    pose, mirrored_gain = fit_rigid(x, y)
    residuals = np.linalg.norm((pose @ Points[Patient](x)).mm - y, axis=1)
    worst = int(residuals.argmax())
    if residuals[worst] > MAX_RESIDUAL_MM:
        cause = "are left and right exchanged?" if mirrored_gain else "is a landmark confused with another?"
        raise WeakPairs(
            f"residual {residuals[worst]:.1f} mm at {names[worst]}, the limit is {MAX_RESIDUAL_MM} mm; {cause}"
        )
    dof = 3 * len(pairs) - 6
    estimated = float(np.sqrt(3.0 * (residuals**2).sum() / dof))
    sigma = (estimated if fle_mm is None else fle_mm) / np.sqrt(3.0)
    warnings = []
    if fle_mm is not None and estimated > 2.0 * fle_mm:
        warnings.append(
            f"residuals suggest a touch error of {estimated:.2f} mm, {fle_mm:.2f} mm was given: the estimate is used"
        )
        sigma, fle_mm = estimated / np.sqrt(3.0), None
    covariance = paired_point_covariance(pose, x, sigma)
    return Registration(
        reference_from_patient=UncertainRigid(pose, covariance),
        residuals_mm=dict(zip(names, residuals.tolist(), strict=True)),
        fle_mm=float(sigma * np.sqrt(3.0)),
        dof=dof if fle_mm is None else None,
        body=body,
        twin_id=twin_id,
        warnings=tuple(warnings),
    )


def fit_rigid(x: Array, y: Array) -> tuple[Rigid[Reference, Patient], bool]:
    """Least-squares y = R x + t of (N, 3) points; also whether a mirrored fit would have halved the error."""
    xc, yc = x.mean(axis=0), y.mean(axis=0)
    u, s, vt = np.linalg.svd((y - yc).T @ (x - xc))
    d = np.sign(np.linalg.det(u @ vt))
    R = u @ np.diag([1.0, 1.0, d]) @ vt
    total = ((x - xc) ** 2).sum() + ((y - yc) ** 2).sum()
    proper, free = total - 2 * (s[0] + s[1] + d * s[2]), total - 2 * s.sum()
    return Rigid[Reference, Patient](R, yc - R @ xc), bool(d < 0 and free < 0.5 * proper)


def paired_point_covariance(pose: Rigid[Reference, Patient], x: Array, sigma_mm: float) -> Array:
    """First-order covariance (6, 6) of the fit for isotropic touch noise `sigma_mm` a coordinate: sigma2 (J^T J)^-1."""
    rows = np.concatenate([np.hstack([-skew(p), np.eye(3)]) for p in x @ pose.rotation.T])
    return np.asarray(sigma_mm**2 * np.linalg.inv(rows.T @ rows))


def given(
    reference_from_patient: Rigid[Reference, Patient],
    middle: Points[Patient],
    *,
    sd_mm: float,
    sd_rad: float,
    body: str,
    twin_id: str,
) -> Registration:
    """A pose that another program found, with a stated spread.

    `sd_mm` a coordinate at `middle` (3,), the middle of the bones; `sd_rad` an axis, turning about it.
    """
    if not (np.isfinite([sd_mm, sd_rad]).all() and sd_mm > 0 and sd_rad > 0):
        found = f"spread {sd_mm:g} mm, {np.degrees(sd_rad):g} degrees"
        raise BadPairs(f"{found}; a given registration is never exact, so both are above zero")
    J = np.eye(6)  # the turn is about `middle`: t + v - w x (R middle)
    J[3:, :3] = skew(reference_from_patient.rotation @ middle.mm)
    spread = np.diag([sd_rad**2] * 3 + [sd_mm**2] * 3)
    return Registration(
        reference_from_patient=UncertainRigid(reference_from_patient, J @ spread @ J.T),
        residuals_mm={},
        fle_mm=None,
        dof=None,
        body=body,
        twin_id=twin_id,
        warnings=("the uncertainty was stated by the user, not measured: check a landmark before use",),
    )


def load_matrix(path: Path, direction: Direction) -> Rigid[Reference, Patient]:
    """Read four rows of four numbers, rounded by at most ROUNDED, as reference_from_patient. Raises BadPairs."""
    try:
        matrix = np.array([line.split() for line in path.read_text().splitlines() if line.strip()], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise BadPairs(f"the matrix cannot be read: {error}", path=path) from None
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise BadPairs(f"a matrix of shape {matrix.shape}; four rows of four finite numbers are needed", path=path)
    u, s, vt = np.linalg.svd(matrix[:3, :3])
    if np.linalg.det(matrix[:3, :3]) > 0 and np.abs(s - 1).max() <= ROUNDED:
        matrix[:3, :3] = u @ vt
    try:
        if direction == "reference-from-patient":
            return Rigid[Reference, Patient].from_matrix(matrix)
        return Rigid[Patient, Reference].from_matrix(matrix).inverse()
    except Fault as fault:
        raise BadPairs(fault.message, path=path) from None


def load_registration(path: Path) -> Registration:
    """Read a file that `osteotwin register` wrote. Raises BadPairs."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadPairs(f"the registration cannot be read: {error}", path=path) from None
    if not isinstance(value, dict):
        raise BadPairs("a registration is a JSON object; was it written by `osteotwin register`?", path=path)
    try:
        return Registration.from_json(value)
    except Fault as fault:
        raise BadPairs(fault.message, path=path) from None


def load_pairs(path: Path) -> list[Pair]:
    """Read `[{"name", "patient_mm", "reference_mm"}, …]`; raises BadPairs naming the entry."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadPairs(f"the pairs cannot be read: {error}", path=path) from None
    entries = value.get("pairs") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        raise BadPairs("a list of {name, patient_mm, reference_mm} is needed", path=path)
    pairs = []
    for number, entry in enumerate(entries, start=1):
        try:
            a, b = (tuple(float(v) for v in entry[key]) for key in ("patient_mm", "reference_mm"))
            if len(a) != 3 or len(b) != 3 or not np.isfinite([*a, *b]).all():
                raise ValueError("its points: each needs three finite numbers")
            pairs.append(Pair(str(entry["name"]), (a[0], a[1], a[2]), (b[0], b[1], b[2])))
        except (KeyError, TypeError, ValueError) as error:
            raise BadPairs(f"pair {number} lacks or garbles {error}", path=path) from None
    return pairs
