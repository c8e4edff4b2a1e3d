"""One patient's measurements, drawn from published morphometry: the same seed gives the same patient.

Draws are cut at 1.2 SD, and one common factor makes a broad patient broad at every level (`morphometry.py` has the
measures). What an option adds is drawn from a stream of its own, so the patient of a seed stays who he is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spatial.faults import Misuse
from twin.scan.phantom.morphometry import LEVELS, PEDICLES, TABLE, UPPER, PedicleSize

REGIONS = ("lumbar", "thoracic", "spine", "pelvis", "femur", "tibia", "leg")
TRANSITIONAL = ("L6", "T13", "L4")
METAL = {
    "screws": ("lumbar", "thoracic", "spine"),
    "hip": ("lumbar", "spine", "pelvis"),
    "both": ("lumbar", "spine"),
}
MOST_SCOLIOSIS_DEG = 40.0


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
    role: str = ""  # the ordinary level that it is shaped as: a T13 as a T12, the lowest lumbar vertebra as an L5

    def __post_init__(self) -> None:
        """An ordinary vertebra plays its own role."""
        object.__setattr__(self, "role", self.role or self.level)

    @property
    def lumbar(self) -> bool:
        """Whether this is shaped as a lumbar vertebra."""
        return self.role.startswith("L")


@dataclass(frozen=True)
class Anatomy:
    """One patient: vertebrae from the sacrum upward, pelvis, densities, and what is unusual about him."""

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
    region: str = "lumbar"
    scoliosis_deg: float = 0.0  # Cobb angle, coronal projection
    convex_left: bool = True
    transitional: str | None = None
    metal: str | None = None
    contrast: bool = False
    sides: tuple[str, ...] = ("left", "right")

    def __post_init__(self) -> None:
        """Refuse what this phantom can't be."""
        for word, value, known in (
            ("anatomy", self.region, REGIONS),
            ("transitional vertebra", self.transitional, (None, *TRANSITIONAL)),
            ("metal", self.metal, (None, *METAL)),
        ):
            if value not in known:
                raise Misuse(f"no {word} '{value}'; this version has: {', '.join(str(k) for k in known if k)}")
        if not 0.0 <= self.scoliosis_deg <= MOST_SCOLIOSIS_DEG:
            raise Misuse(f"scoliosis of {self.scoliosis_deg:g} degrees; the limits are 0 to {MOST_SCOLIOSIS_DEG:g}")
        if self.metal is not None and self.region not in METAL[self.metal]:
            fit = ", ".join(METAL[self.metal])
            raise Misuse(f"no metal '{self.metal}' in a {self.region} phantom; it goes with {fit}")
        if len(self.sides) == 1 and self.region not in ("femur", "tibia", "leg"):
            raise Misuse(f"one side of a {self.region} phantom; femur, tibia and leg have sides to choose from")
        if not self.sides or not set(self.sides) <= {"left", "right"}:
            raise Misuse(f"sides {', '.join(self.sides) or 'none'}; left, right or both are needed")

    @classmethod
    def sample(
        cls, seed: int, *, osteoporosis: bool = False, region: str = "lumbar", scoliosis_deg: float = 0.0,
        transitional: str | None = None, metal: str | None = None, contrast: bool = False,
        sides: tuple[str, ...] = ("left", "right"),
    ) -> Anatomy:  # fmt: skip
        """Draw a patient; osteoporosis changes density and cortex, never the shape."""
        rng = np.random.default_rng([20261, seed])

        def draw(mean: float, sd: float, limit: float = 1.2) -> float:
            return mean + sd * float(np.clip(rng.standard_normal(), -limit, limit))

        size = draw(1.0, 0.025)
        broad = float(np.clip(rng.standard_normal(), -1.2, 1.2))
        incidence = draw(52.0, 3.5)
        slope = float(np.clip(0.6 * incidence + draw(8.5, 1.5), 34.0, 46.0))
        lordosis = float(np.clip(0.62 * incidence + draw(23.0, 3.0), 48.0, 61.0))
        nominal = sum(TABLE[n][3] + TABLE[n][5] for n in ("L5", "L4", "L3", "L2", "L1"))
        bend = (lordosis - TABLE["L5"][3] - TABLE["L1"][3]) / (nominal - TABLE["L5"][3] - TABLE["L1"][3])
        vertebrae = {level: _vertebra(rng, level, size, broad, bend, TABLE[level], PEDICLES[level]) for level in LEVELS}
        column = _column(seed, vertebrae, transitional, size, broad, bend)
        return cls(
            seed, osteoporosis, column, slope, incidence - slope, draw(108.0, 3.0) * size,
            draw(87.0, 2.0) * size, draw(23.5, 0.8) * size, 50.0 * size, 33.0 * size, draw(1.55, 0.1),
            draw(75.0, 8.0) if osteoporosis else draw(175.0, 12.0), 1150.0 if osteoporosis else 1250.0,
            0.7 if osteoporosis else 1.0, draw(16.0, 2.0), region, scoliosis_deg,
            bool(np.random.default_rng([20264, seed]).random() < 0.5), transitional, metal, contrast, sides,
        )  # fmt: skip


def _draw(rng: np.random.Generator, mean: float, sd: float, limit: float = 1.2) -> float:
    return mean + sd * float(np.clip(rng.standard_normal(), -limit, limit))


def _vertebra(
    rng: np.random.Generator, level: str, size: float, broad: float, bend: float, t: tuple[float, ...], p: PedicleSize
) -> VertebraSize:
    wedge = t[3] * (bend if level in ("L4", "L3", "L2") else 1.0)
    disc_wedge = t[5] * (bend if level.startswith("L") else 1.0)
    widths, angles = [], []
    common, tilt = rng.standard_normal(), rng.standard_normal()
    for _side in range(2):
        z = 0.8 * broad + 0.55 * common + 0.2 * rng.standard_normal()
        widths.append(p.width_mm + p.width_sd_mm * float(np.clip(z, -1.2, 1.2)))
        a = 0.9 * tilt + 0.3 * rng.standard_normal()
        angles.append(p.transverse_deg + p.transverse_sd_deg * float(np.clip(a, -1.2, 1.2)))
    s = size * _draw(rng, 1.0, 0.012)
    return VertebraSize(
        level, t[0] * s, t[1] * s, t[2] * s, wedge, t[4] * _draw(rng, 1.0, 0.05), disc_wedge,
        t[6] * _draw(rng, 1.0, 0.03), t[7] * _draw(rng, 1.0, 0.03), t[8] * s * _draw(rng, 1.0, 0.04), t[9], t[10] * s,
        t[11], t[12] * s, t[13] * s,
        (widths[0], widths[1]), p.height_mm * _draw(rng, 1.0, 0.04), (angles[0], angles[1]), p.sagittal_deg,
        _draw(rng, 1.55, 0.1),
    )  # fmt: skip


def _column(
    seed: int, common: dict[str, VertebraSize], transitional: str | None, size: float, broad: float, bend: float
) -> tuple[VertebraSize, ...]:
    # From the sacrum upward. An odd vertebra is the middle of its neighbours' measures; the lordosis stays as drawn.
    rng = np.random.default_rng([20262, seed])
    upper = [_vertebra(rng, level, size, broad, bend, TABLE[level], PEDICLES[level]) for level in UPPER]
    if transitional is None:
        return (*common.values(), *upper)

    def between(a: str, b: str, role: str) -> VertebraSize:
        table = tuple((x + y) / 2 for x, y in zip(TABLE[a], TABLE[b], strict=True))
        p, q = PEDICLES[a], PEDICLES[b]
        neck = PedicleSize(
            (p.width_mm + q.width_mm) / 2, (p.width_sd_mm + q.width_sd_mm) / 2, (p.height_mm + q.height_mm) / 2,
            (p.transverse_deg + q.transverse_deg) / 2, (p.transverse_sd_deg + q.transverse_sd_deg) / 2,
            (p.sagittal_deg + q.sagittal_deg) / 2,
        )  # fmt: skip
        return _vertebra(rng, role, size, broad, bend, table, neck)

    roles = [common[f"L{n}"] for n in (5, 4, 3, 2, 1)]
    lordosis = sum(v.wedge_deg + v.disc_wedge_deg for v in roles)
    names = ["L5", "L4", "L3", "L2", "L1"]
    if transitional == "L6":
        roles.insert(1, between("L5", "L4", "L4"))
        names.insert(0, "L6")
    elif transitional == "T13":
        roles.append(between("L1", "T12", "T12"))
        names.append("T13")
    else:
        del roles[2], names[0]
    scale = lordosis / sum(v.wedge_deg + v.disc_wedge_deg for v in roles if v.lumbar)
    odd = [
        replace(
            v, level=name, role=v.role, wedge_deg=v.wedge_deg * (scale if v.lumbar else 1.0),
            disc_wedge_deg=v.disc_wedge_deg * (scale if v.lumbar else 1.0),
        )
        for name, v in zip(names, roles, strict=True)
    ]  # fmt: skip
    return (*odd, *(common[level] for level in ("T12", "T11", "T10")), *upper)
