"""One patient's measurements, drawn from published morphometry: the same seed gives the same patient.

Pedicle widths and angles: CT means and SDs (764 pedicles, PMID 8087710; Cook and Baker 2021 for L5; Kaur 2016 for T12);
the rest of the thoracolumbar pedicles, all heights and sagittal angles: Zindrick 1987 as commonly tabulated. Draws are
cut at 1.2 SD, and one common factor makes a broad patient broad at every level. Bodies, discs, canals and processes:
ordinary adult proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10")


@dataclass(frozen=True)
class PedicleSize:
    """One level's pedicles: width and height, transverse (convergent +) and sagittal angle, with two SDs."""

    width_mm: float
    width_sd_mm: float
    height_mm: float
    transverse_deg: float
    transverse_sd_deg: float
    sagittal_deg: float


PEDICLES = {
    "T10": PedicleSize(6.3, 1.2, 14.9, 4.0, 1.5, 12.0),
    "T11": PedicleSize(7.8, 1.3, 16.4, 1.0, 1.5, 10.0),
    "T12": PedicleSize(8.3, 1.4, 15.8, 0.0, 2.0, 8.0),
    "L1": PedicleSize(8.7, 1.3, 15.4, 11.0, 2.5, 2.4),
    "L2": PedicleSize(8.5, 1.5, 15.0, 13.9, 3.0, 1.8),
    "L3": PedicleSize(9.2, 2.0, 14.9, 14.5, 3.0, 0.2),
    "L4": PedicleSize(11.9, 2.2, 14.8, 17.0, 3.5, 0.2),
    "L5": PedicleSize(16.1, 2.3, 14.0, 26.0, 4.5, -1.8),
}

# body width, depth, height; its wedge (deg, anterior taller +); disc below: height, wedge (deg); canal width, depth;
# transverse process span (half), lift; spinous process length, drop (deg), half height; facet half distance; all mm
_TABLE = {
    "L5": (50.0, 35.5, 27.0, 9.0, 10.5, 14.0, 27.5, 16.0, 45.0, 5.0, 19.0, 8.0, 7.0, 22.0),
    "L4": (47.5, 35.0, 27.5, 3.0, 11.5, 12.0, 24.5, 15.5, 43.0, 5.0, 24.0, 6.0, 9.0, 18.5),
    "L3": (45.0, 34.5, 28.0, 1.0, 10.8, 9.0, 23.5, 15.5, 48.0, 1.5, 27.0, 4.0, 10.0, 16.0),
    "L2": (43.0, 34.0, 27.5, -1.0, 9.8, 7.0, 23.0, 16.0, 43.0, 1.0, 27.0, 5.0, 9.5, 14.0),
    "L1": (41.5, 33.0, 26.5, -2.0, 8.6, 5.0, 22.5, 16.5, 37.0, 0.5, 26.0, 8.0, 9.0, 13.0),
    "T12": (39.5, 32.0, 25.0, -3.0, 7.6, 2.0, 21.0, 16.5, 23.0, 2.0, 23.0, 14.0, 8.0, 12.5),
    "T11": (36.5, 31.0, 23.0, -4.0, 6.6, 0.0, 18.5, 16.0, 22.0, 4.0, 23.0, 26.0, 6.5, 12.0),
    "T10": (33.5, 30.0, 22.0, -4.0, 6.0, 0.0, 17.5, 15.5, 25.0, 5.0, 25.0, 38.0, 5.5, 11.0),
}


@dataclass(frozen=True)
class VertebraSize:
    """One vertebra and the disc below it, mm and degrees."""

    level: str
    width_mm: float
    depth_mm: float
    height_mm: float
    wedge_deg: float
    disc_mm: float
    disc_wedge_deg: float
    canal_width_mm: float
    canal_depth_mm: float
    transverse_span_mm: float
    transverse_lift_mm: float
    spinous_length_mm: float
    spinous_drop_deg: float
    spinous_half_height_mm: float
    facet_half_distance_mm: float
    pedicle_width_mm: tuple[float, float]
    pedicle_height_mm: float
    pedicle_transverse_deg: tuple[float, float]
    pedicle_sagittal_deg: float
    facet_gap_mm: float

    @property
    def lumbar(self) -> bool:
        """Whether this is a lumbar vertebra."""
        return self.level.startswith("L")


@dataclass(frozen=True)
class Anatomy:
    """One patient: vertebrae from L5 upward, pelvis, densities."""

    seed: int
    osteoporosis: bool
    vertebrae: tuple[VertebraSize, ...]
    sacral_slope_deg: float
    pelvic_tilt_deg: float
    sacrum_hip_mm: float
    hip_half_distance_mm: float
    head_radius_mm: float
    sacral_width_mm: float
    sacral_depth_mm: float
    s1_facet_gap_mm: float
    trabecular_hu: float
    cortical_hu: float
    cortex_scale: float
    skin_mm: float

    @classmethod
    def sample(cls, seed: int, *, osteoporosis: bool = False) -> Anatomy:
        """Draw a patient; osteoporosis changes density and cortex, never the shape."""
        rng = np.random.default_rng([20261, seed])

        def draw(mean: float, sd: float, limit: float = 1.2) -> float:
            return mean + sd * float(np.clip(rng.standard_normal(), -limit, limit))

        size = draw(1.0, 0.025)
        broad = float(np.clip(rng.standard_normal(), -1.2, 1.2))
        incidence = draw(52.0, 3.5)
        slope = float(np.clip(0.6 * incidence + draw(8.5, 1.5), 34.0, 46.0))
        lordosis = float(np.clip(0.62 * incidence + draw(23.0, 3.0), 48.0, 61.0))
        nominal = sum(_TABLE[n][3] + _TABLE[n][5] for n in ("L5", "L4", "L3", "L2", "L1"))
        bend = (lordosis - _TABLE["L5"][3] - _TABLE["L1"][3]) / (nominal - _TABLE["L5"][3] - _TABLE["L1"][3])
        vertebrae = []
        for level in LEVELS:
            t, p = _TABLE[level], PEDICLES[level]
            wedge = t[3] * (bend if level in ("L4", "L3", "L2") else 1.0)
            disc_wedge = t[5] * (bend if level.startswith("L") else 1.0)
            widths, angles = [], []
            common, tilt = rng.standard_normal(), rng.standard_normal()
            for _side in range(2):
                z = 0.8 * broad + 0.55 * common + 0.2 * rng.standard_normal()
                widths.append(p.width_mm + p.width_sd_mm * float(np.clip(z, -1.2, 1.2)))
                a = 0.9 * tilt + 0.3 * rng.standard_normal()
                angles.append(p.transverse_deg + p.transverse_sd_deg * float(np.clip(a, -1.2, 1.2)))
            s = size * draw(1.0, 0.012)
            vertebrae.append(
                VertebraSize(
                    level, t[0] * s, t[1] * s, t[2] * s, wedge, t[4] * draw(1.0, 0.05), disc_wedge,
                    t[6] * draw(1.0, 0.03), t[7] * draw(1.0, 0.03), t[8] * s * draw(1.0, 0.04), t[9], t[10] * s, t[11],
                    t[12] * s, t[13] * s,
                    (widths[0], widths[1]), p.height_mm * draw(1.0, 0.04), (angles[0], angles[1]), p.sagittal_deg,
                    draw(1.55, 0.1),
                )
            )  # fmt: skip
        return cls(
            seed, osteoporosis, tuple(vertebrae), slope, incidence - slope, draw(108.0, 3.0) * size,
            draw(87.0, 2.0) * size, draw(23.5, 0.8) * size, 50.0 * size, 33.0 * size, draw(1.55, 0.1),
            draw(75.0, 8.0) if osteoporosis else draw(175.0, 12.0), 1150.0 if osteoporosis else 1250.0,
            0.7 if osteoporosis else 1.0, draw(16.0, 2.0),
        )  # fmt: skip
