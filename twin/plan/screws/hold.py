"""How much pull along its axis a screw may stand: an estimate with its interval, from the density along the thread.

Chapman's formula (1996; ASTM F543): F = S pi D L TSF, TSF = 0.5 + 0.57735 d/p, integrated along the thread with the
bone's shear strength S at each place: S = 21.6 rho^1.65 MPa (Stone, Beaupre and Hayes 1983), rho the apparent density
in g/cc. Both are tagged [M] in the clinical fact sheet (section 2): unverified, so the estimate gates nothing. HU
become density by the site's calibration; without one by 0.7 to 0.85 mg HA/cc per HU and 15 mg/cc either way (4.1 [M]).
Ash is taken to be the hydroxyapatite, and ash over apparent density to be 0.598 [V].

The law holds for trabecular bone: what is denser than vertebral marrow gets counts as that (a thread meets a cortex on
part of its way round). As it stands the formula gives one and a half times what screws in cadavers held, so it is
scaled to their normal group; what is left to check is how it falls with density: 0.18, 0.37 and 0.97 kN in extremely
osteoporotic, osteoporotic and normal lumbar vertebrae (PMC6002167 [V]).

The interval (5 to 95 %) carries the spreads of calibration, law and thread through the same integral, drawn once and
always the same. The law's spread is the scatter of those cadavers: nobody has measured the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatial.rigid import Array

SOURCE = "Chapman 1996 / ASTM F543, shear strength by Stone 1983 [M], scaled to normal cadavers of PMC6002167 [V]"
STATUS = "unverified model, checked against ranges of PMC6002167 [V]"
NO_CT = "the twin has no CT"
OUTSIDE_CT = "the CT ends short of the screw"
OFF_BONE = "the thread does not lie in bone"
STRENGTH_MPA, POWER = 21.6, 1.65
ASH_OVER_APPARENT = 0.598
SLOPE, SLOPE_SD = 0.775, 0.046  # mg HA/cc per HU; 0.7 to 0.85 taken as 90 %
INTERCEPT_SD_MG_CC = 9.1  # 15 mg/cc taken as 90 %
EQUIVALENT_SD = 0.08  # of a calibration in K2HPO4, which reads 10 to 20 % off HA
SCALE = 0.64  # 6.5 x 45 mm in marrow of 165 HU within its cortex: 0.97 kN
LAW_SD = 0.40  # of the law's logarithm
THREAD_SD = 0.10  # of the thread's factor: the generic library's sizes
MOST_HU = 250.0  # young adults' L1 has 236 (PMC6047377 [V])
DRAWS = 128
_NORMAL = np.random.default_rng(20241).standard_normal((4, DRAWS))


@dataclass(frozen=True)
class Reading:
    """What a HU means on this scan: mg HA/cc = slope * HU + intercept, with spreads, and in words where it is from."""

    slope: float
    intercept_mg_cc: float
    slope_sd: float
    intercept_sd_mg_cc: float
    basis: str

    @classmethod
    def of(cls, density: Mapping[str, Any] | None) -> Reading:
        """From the twin's density; the site's calibration is the line through its bodies."""
        bodies = [b for b in (density or {}).get("bodies", {}).values() if "qct_mg_cc" in b]
        hu = [float(b["mean_hu"]) for b in bodies]
        if density is None or not density.get("calibrated") or len(hu) < 2 or max(hu) - min(hu) < 5.0:
            return cls(SLOPE, 0.0, SLOPE_SD, INTERCEPT_SD_MG_CC, "uncalibrated HU")
        slope, intercept = np.polyfit(hu, [float(b["qct_mg_cc"]) for b in bodies], 1)
        off = 0.0 if density.get("equivalent") == "HA" else EQUIVALENT_SD
        sd = float(np.median([b["qct_sd_mg_cc"] for b in bodies]))
        return cls(float(slope), float(intercept), off * float(slope), sd, str(density["calibration"]))


@dataclass(frozen=True)
class Hold:
    """Newtons at 5 %, the best guess, 95 %; how much thread is engaged; what the HU rest on."""

    low_n: float
    best_n: float
    high_n: float
    engaged_mm: float
    basis: str

    @property
    def interval_n(self) -> tuple[float, float, float]:
        """As `hold_n`."""
        return self.low_n, self.best_n, self.high_n

    def to_json(self) -> dict[str, Any]:
        """As `hold`."""
        return {
            "engaged_mm": round(self.engaged_mm, 1),
            "density": self.basis,
            "interval": "5 to 95 %",
            "source": SOURCE,
        }


def thread_factor(depth_mm: float, pitch_mm: float) -> float:
    """TSF = 0.5 + 0.57735 d/p."""
    return 0.5 + 0.57735 * depth_mm / pitch_mm


def shear_strength_mpa(mg_cc: Array) -> Array:
    """Of trabecular bone with so much HA; nothing below zero."""
    apparent_g_cc = np.maximum(np.asarray(mg_cc, dtype=float), 0.0) / 1000.0 / ASH_OVER_APPARENT
    return np.asarray(STRENGTH_MPA * apparent_g_cc**POWER)


def hold(
    hu: Array, engaged: Array, step_mm: float, diameter_mm: float, depth_mm: float, pitch_mm: float, reading: Reading
) -> Hold | str:
    """From the HU (S,) beside the thread and the share (S,) of it in bone, each over `step_mm` of the axis; else why
    there is none.
    """
    if not float(engaged.sum()) > 0.0:
        return OFF_BONE
    if not np.isfinite(hu[engaged > 0.0]).all():
        return OUTSIDE_CT
    known = np.clip(np.where(engaged > 0.0, hu, 0.0), -200.0, MOST_HU)
    newton_a_mpa = SCALE * np.pi * diameter_mm * step_mm * thread_factor(depth_mm, pitch_mm)
    best = newton_a_mpa * float((shear_strength_mpa(reading.slope * known + reading.intercept_mg_cc) * engaged).sum())
    slope = reading.slope + reading.slope_sd * _NORMAL[0]
    intercept = reading.intercept_mg_cc + reading.intercept_sd_mg_cc * _NORMAL[1]
    strength = shear_strength_mpa(slope[:, None] * known + intercept[:, None]) @ engaged
    drawn = newton_a_mpa * strength * np.exp(LAW_SD * _NORMAL[2] + THREAD_SD * _NORMAL[3])
    low, high = np.quantile(drawn, [0.05, 0.95])
    return Hold(min(float(low), best), best, max(float(high), best), float(engaged.sum()) * step_mm, reading.basis)
