"""How dense the vertebral bodies are: trabecular HU, and what a published CT reading says to it (never a diagnosis).

Pickhardt et al. 2013 (Ann Intern Med 158:588; 1867 adults, L1, 120 kVp): at most 160 HU is 90 % sensitive for
osteoporosis, at most 110 HU more than 90 % specific, above 200 HU excludes it (negative predictive value 99 %).
Ethnic groups and scanners differ: the thresholds are a site's setting. Young reference: L1 236 +- 42, L3 227 +- 42
HU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from twin.anatomy.bone import Landmark
from twin.anatomy.vertebral_frame import axes_from
from twin.scan.volume import Volume

THRESHOLDS_HU: Mapping[str, float] = {
    "osteoporosis_specific": 110.0,
    "osteoporosis_sensitive": 160.0,
    "excluded": 200.0,
}
YOUNG_HU: Mapping[str, tuple[float, float]] = {"vertebrae_L1": (236.0, 42.0), "vertebrae_L3": (227.0, 42.0)}
READ_AT = ("vertebrae_L1", "vertebrae_L2", "vertebrae_L3", "vertebrae_T12", "vertebrae_L4")
RADIUS_MM = (11.0, 8.0)  # of the volume of interest: lateral, anterior; away from every cortex
FORWARD_MM = 2.0  # in front of the body's centre: away from the basivertebral vein
ENDPLATE_SHARE = 0.27  # of the body's height kept from either endplate
LEAST_SAMPLES = 200
MOST_SD_HU = 70.0  # more is a lesion, a fracture or cement: that body is not read


def measure(volume: Volume, landmarks: tuple[Landmark, ...]) -> dict[str, Any]:
    """Mean and SD of the marrow's HU in each body whose endplates were found, and the reading at one level."""
    at = {(m.bone, m.name): m for m in landmarks}
    bodies: dict[str, dict[str, float]] = {}
    for bone, name in at:
        keys = [(bone, k) for k in ("endplate_superior", "endplate_inferior", "body_centre")]
        if name != "body_centre" or any(k not in at for k in keys):
            continue
        upper, lower = at[keys[0]], at[keys[1]]
        assert upper.direction is not None
        assert lower.direction is not None
        axes = axes_from(upper.direction.unit + lower.direction.unit, np.array([0.0, -1.0, 0.0]))
        half = 0.5 * float((upper.position.mm - lower.position.mm) @ axes[:, 2]) * (1.0 - 2.0 * ENDPLATE_SHARE)
        if half < 2.0:
            continue
        middle = 0.5 * (upper.position.mm + lower.position.mm)
        x, y, z = np.meshgrid(
            np.arange(-12.0, 13.0), np.arange(-9.0, 10.0), np.arange(-np.floor(half), half + 0.1), indexing="ij"
        )
        inside = (x / RADIUS_MM[0]) ** 2 + (y / RADIUS_MM[1]) ** 2 <= 1.0
        local = np.column_stack([x[inside], y[inside] + FORWARD_MM, z[inside]])
        points = local @ axes.T + middle
        index = np.rint(((points - volume.grid.origin_mm) @ volume.grid.axes) / volume.grid.spacing_mm).astype(int)
        index = np.unique(index[((index >= 0) & (index < volume.grid.size)).all(axis=1)], axis=0)
        if len(index) < min(LEAST_SAMPLES, 0.3 * inside.sum() / max(1.0, float(np.prod(volume.grid.spacing_mm)))):
            continue
        hu = volume.hu[index[:, 2], index[:, 1], index[:, 0]].astype(float)
        bodies[bone] = {"mean_hu": round(float(hu.mean()), 1), "sd_hu": round(float(hu.std()), 1), "voxels": len(hu)}
    level = next((name for name in READ_AT if name in bodies and bodies[name]["sd_hu"] <= MOST_SD_HU), None)
    found: dict[str, Any] = {
        "unit": "HU",
        "calibrated": False,
        "bodies": bodies,
        "read_at": level,
        "reading": None if level is None else reading(bodies[level]["mean_hu"]),
        "thresholds_hu": dict(THRESHOLDS_HU),
        "source": "Pickhardt 2013, L1 trabecular, 120 kVp; a research reading, not a diagnosis",
    }
    if level is not None and level in YOUNG_HU:
        mean, sd = YOUNG_HU[level]
        found["t_hu"] = round((bodies[level]["mean_hu"] - mean) / sd, 2)
    return found


def reading(mean_hu: float) -> str:
    """What a body's mean HU says, in words that stay the same for scripts."""
    if mean_hu <= THRESHOLDS_HU["osteoporosis_specific"]:
        return "osteoporosis likely"
    if mean_hu <= THRESHOLDS_HU["osteoporosis_sensitive"]:
        return "osteoporosis possible"
    return "osteoporosis unlikely"
