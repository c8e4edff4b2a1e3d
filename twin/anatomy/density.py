"""How dense the vertebral bodies are: trabecular HU, and what a published CT reading says to it (never a diagnosis).

Thresholds, young reference and calibration are a site's settings (`twin.anatomy.site`). They hold at one tube voltage:
at another one there is no reading, and where the scan does not tell its voltage the reading carries a flag. A body
that is wedged, much lower than its neighbours, patchy or near metal is measured but never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial.frames import Patient
from spatial.rigid import Array, Points
from twin.anatomy.bone import Landmark
from twin.anatomy.levels import UPWARD
from twin.anatomy.site import DEFAULT, Site
from twin.anatomy.vertebral_frame import axes_from
from twin.scan.kernels import SHARP, edge_character
from twin.scan.volume import Volume

READ_AT = ("vertebrae_L1", "vertebrae_L2", "vertebrae_L3", "vertebrae_T12", "vertebrae_L4")
RADIUS_MM = (11.0, 8.0)  # of the volume of interest at most: lateral, anterior; away from every cortex
RADIUS_SHARE = (0.40, 0.29)  # of the body's height: a thoracic body is narrower
FORWARD_MM = 2.0  # in front of the body's centre: away from the basivertebral vein
ENDPLATE_SHARE = 0.27  # of the body's height kept from either endplate
LEAST_SAMPLES = 200
CELL_MM = 4.0  # patchiness is the spread of the means of cells of this size: noise averages out, a lesion does not
MOST_PATCHY_HU = 60.0
MOST_SD_HU = 150.0  # voxels noisier than this tell no mean
RESOLUTION_MM = 1.5  # voxels nearer than this do not err on their own
LEAST_FRONT_SHARE = 0.80  # front over back height; Genant's grade 1 begins at a loss of 20 %
LEAST_HEIGHT_SHARE = 0.75  # of the neighbours' mean height
METAL_HU = 2500.0
METAL_REACH_MM = 12.0  # beyond the volume of interest
METAL_VOXELS_MM3 = 20.0
STREAK_HU = (-350.0, 1300.0)  # no marrow is beyond these: streaks of metal
KVP_TOLERANCE = 5.0
LOW_QCT_MG_CC = (80.0, 120.0)  # spine, K2HPO4: osteoporosis, low (PMC7237403, table 1)


def measure(volume: Volume, landmarks: tuple[Landmark, ...], site: Site = DEFAULT) -> dict[str, Any]:
    """The marrow's HU in each body whose endplates were found, and the reading at one level.

    A body has `mean_hu`, `sd_hu` of its voxels, `sem_hu` of the mean (noise and structure; the scanner's own
    calibration is not in it), and `excluded` with the reason where it is not read. `reading` is None with
    `no_reading`, or words with `flags`.
    """
    at = {(m.bone, m.name): m for m in landmarks}
    bodies: dict[str, dict[str, Any]] = {}
    heights: dict[str, float] = {}
    for bone in [name for name in UPWARD if (name, "body_centre") in at]:
        upper, lower = at.get((bone, "endplate_superior")), at.get((bone, "endplate_inferior"))
        if upper is None or lower is None:
            continue
        body = _body(volume, _Axes(at, bone, upper, lower))
        if body is not None:
            bodies[bone] = body
            heights[bone] = _height(upper, lower)
    for bone in bodies:
        lost = _fractured(bone, at, heights)
        if lost and "excluded" not in bodies[bone]:
            bodies[bone]["excluded"] = lost
    kvp = _number(volume.about.get("kvp"))
    level = next((name for name in READ_AT if name in bodies and "excluded" not in bodies[name]), None)
    found: dict[str, Any] = {
        "unit": "HU",
        "kvp": kvp,
        "contrast": _contrast(volume.about),
        "kernel": volume.about.get("kernel"),
        "bodies": bodies,
        "read_at": level,
        "reading": None,
        "thresholds_hu": {
            "osteoporosis_specific": site.reading.osteoporosis_specific_hu,
            "osteoporosis_sensitive": site.reading.osteoporosis_sensitive_hu,
            "excluded": site.reading.excluded_hu,
        },
        "site": {"name": site.name, "sha256": site.sha256},
        "source": f"{site.reading.source}; a research reading, not a diagnosis",
    }
    found |= _calibrated(bodies, kvp, site)
    found |= _read(bodies, level, kvp, volume.about, site)
    return found


def settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the provenance keeps of a measurement."""
    return {"calibrated": found["calibrated"], "site": found["site"]["name"], "radius_mm": list(RADIUS_MM)}


class _Axes:
    """Where a body's volume of interest lies: middle, axes (columns right, anterior, cranial), height."""

    def __init__(self, at: Mapping[tuple[str, str], Landmark], bone: str, upper: Landmark, lower: Landmark) -> None:
        assert upper.direction is not None
        assert lower.direction is not None
        up = upper.direction.unit + lower.direction.unit
        left, right = at.get((bone, "pedicle_left")), at.get((bone, "pedicle_right"))
        anterior = np.array([0.0, -1.0, 0.0])
        if left is not None and right is not None:
            anterior = np.cross(up, right.position.mm - left.position.mm)
        self.axes = axes_from(up, anterior)
        self.middle = 0.5 * (upper.position.mm + lower.position.mm)
        self.height = float((upper.position.mm - lower.position.mm) @ self.axes[:, 2])

    def points(self) -> Array:
        """Patient points (N, 3) a millimetre apart in the volume of interest."""
        half = 0.5 * self.height * (1.0 - 2.0 * ENDPLATE_SHARE)
        across, ahead = (min(r, share * self.height) for r, share in zip(RADIUS_MM, RADIUS_SHARE, strict=True))
        x, y, z = np.meshgrid(
            np.arange(-12.0, 13.0), np.arange(-9.0, 10.0), np.arange(-np.floor(half), half + 0.1), indexing="ij"
        )
        inside = (x / across) ** 2 + (y / ahead) ** 2 <= 1.0
        local = np.column_stack([x[inside], y[inside] + FORWARD_MM * min(1.0, self.height / 25.0), z[inside]])
        return np.asarray(local @ self.axes.T + self.middle)


def _body(volume: Volume, where: _Axes) -> dict[str, Any] | None:
    """Mean, SD, standard error of one body; None when the scan hardly holds it."""
    if where.height * (1.0 - 2.0 * ENDPLATE_SHARE) < 4.0:
        return None
    points = where.points()
    grid = volume.grid
    index = np.rint(grid.index_from_patient(Points[Patient](points))).astype(int)
    index = np.unique(index[((index >= 0) & (index < grid.size)).all(axis=1)], axis=0)
    if len(index) < min(LEAST_SAMPLES, 0.3 * len(points) / max(1.0, float(np.prod(grid.spacing_mm)))):
        return None
    hu = volume.hu[index[:, 2], index[:, 1], index[:, 0]].astype(float)
    sd = float(hu.std())
    alone = max(
        1.0, len(index) * float(np.prod(grid.spacing_mm)) / float(np.prod(np.maximum(grid.spacing_mm, RESOLUTION_MM)))
    )
    body: dict[str, Any] = {
        "mean_hu": round(float(hu.mean()), 1),
        "sd_hu": round(sd, 1),
        "sem_hu": round(sd / float(np.sqrt(alone)), 1),
        "voxels": len(hu),
    }
    patchy = _patchiness(grid.patient_from_index(index.astype(float)).mm, hu)
    if hu.min() < STREAK_HU[0] or hu.max() > STREAK_HU[1] or _metal_near(volume, index):
        body["excluded"] = "metal or its streaks are near"
    elif sd > MOST_SD_HU:
        body["excluded"] = f"its voxels scatter by {sd:.0f} HU, more than {MOST_SD_HU:.0f}: too noisy"
    elif patchy > MOST_PATCHY_HU:
        body["excluded"] = f"patchy by {patchy:.0f} HU: a lesion, a fracture, cement or a vessel"
    return body


def _patchiness(points: Array, hu: NDArray[np.float64]) -> float:
    """Standard deviation of the means of CELL_MM cells, those with a fair share of a cell's voxels."""
    cell = np.floor((points - points.min(axis=0)) / CELL_MM).astype(int)
    _, which, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(which.ravel(), weights=hu) / count
    full = count >= 0.5 * count.max()
    return float(means[full].std()) if full.sum() > 3 else 0.0


def _metal_near(volume: Volume, index: NDArray[np.int_]) -> bool:
    """Whether voxels brighter than any bone lie in the box about the volume of interest."""
    reach = np.ceil(METAL_REACH_MM / volume.grid.spacing_mm).astype(int)
    low = np.maximum(index.min(axis=0) - reach, 0)
    high = np.minimum(index.max(axis=0) + reach + 1, volume.grid.size)
    block = volume.hu[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    return float((block > METAL_HU).sum()) * float(np.prod(volume.grid.spacing_mm)) > METAL_VOXELS_MM3


def _height(upper: Landmark, lower: Landmark) -> float:
    return float(np.linalg.norm(upper.position.mm - lower.position.mm))


def _fractured(bone: str, at: Mapping[tuple[str, str], Landmark], heights: Mapping[str, float]) -> str:
    """Words when the body is wedged or crushed, by its endplates; "" when it is not."""
    upper, lower = at[bone, "endplate_superior"], at[bone, "endplate_inferior"]
    where = _Axes(at, bone, upper, lower)
    assert upper.direction is not None
    assert lower.direction is not None
    ahead, up = where.axes[:, 1], where.axes[:, 2]
    reach = 0.45 * where.height
    ends = []
    for step in (reach, -reach):
        tilt = [float(m.direction.unit @ ahead) / float(m.direction.unit @ up) for m in (upper, lower) if m.direction]
        ends.append(where.height - step * (tilt[0] - tilt[1]))
    if ends[0] < LEAST_FRONT_SHARE * ends[1]:
        return f"its front is {100 * ends[0] / ends[1]:.0f} % as high as its back: wedged, perhaps fractured"
    order = [name for name in UPWARD if name in heights]
    n = order.index(bone)
    beside = [heights[name] for name in order[max(0, n - 1) : n + 2] if name != bone]
    if beside and heights[bone] < LEAST_HEIGHT_SHARE * float(np.mean(beside)):
        return f"it is {100 * heights[bone] / float(np.mean(beside)):.0f} % as high as its neighbours: perhaps crushed"
    return ""


def _calibrated(bodies: Mapping[str, dict[str, Any]], kvp: float | None, site: Site) -> dict[str, Any]:
    """The calibration's state in words; with one, each body gets `qct_mg_cc` of the named equivalent."""
    calibration = site.calibration
    if calibration is None:
        return {"calibrated": False, "calibration": "none: no phantom or rods are known to this site; HU only"}
    if kvp is None or abs(kvp - calibration.kvp) > KVP_TOLERANCE:
        made = "at an unknown voltage" if kvp is None else f"at {kvp:g} kVp"
        return {
            "calibrated": False,
            "calibration": f"not used: {calibration.source} holds at {calibration.kvp:g} kVp, the scan was made {made}",
        }
    for body in bodies.values():
        body["qct_mg_cc"] = round(calibration.mg_cc(body["mean_hu"]), 1)
        body["qct_sd_mg_cc"] = round(
            float(np.hypot(calibration.sd_mg_cc, calibration.slope_mg_cc_per_hu * body["sem_hu"])), 1
        )
    return {
        "calibrated": True,
        "calibration": f"{calibration.source}, mg/cc of {calibration.equivalent}",
        "equivalent": calibration.equivalent,
    }


def _read(
    bodies: Mapping[str, dict[str, Any]], level: str | None, kvp: float | None, about: Mapping[str, Any], site: Site
) -> dict[str, Any]:
    """The reading with its flags, or why there is none."""
    if level is None:
        why = "every body that could be read is excluded" if bodies else "no lumbar body was measured"
        return {"no_reading": why}
    if kvp is not None and abs(kvp - site.reading.kvp) > KVP_TOLERANCE:
        return {"no_reading": f"the thresholds hold at {site.reading.kvp:g} kVp, the scan was made at {kvp:g}"}
    kernel = str(about.get("kernel") or "")
    if edge_character(kernel) == SHARP:
        return {"no_reading": f"kernel {kernel} overshoots: its HU tell no density"}
    body = bodies[level]
    flags = []
    if kvp is None:
        flags.append(f"the tube voltage is not known; the thresholds hold at {site.reading.kvp:g} kVp")
    if _contrast(about):
        flags.append("made with contrast medium, which may raise HU")
    if level != "vertebrae_L1":
        flags.append(f"read at {level.removeprefix('vertebrae_')}, the thresholds are those of L1")
    limits = (site.reading.osteoporosis_specific_hu, site.reading.osteoporosis_sensitive_hu, site.reading.excluded_hu)
    if min(abs(body["mean_hu"] - limit) for limit in limits) < 2.0 * body["sem_hu"]:
        flags.append("the mean lies within its own uncertainty of a threshold")
    found: dict[str, Any] = {"reading": site.reading.words(body["mean_hu"]), "flags": flags}
    young = site.reading.young_hu.get(level.removeprefix("vertebrae_"))
    if young is not None:
        found["t_hu"] = round((body["mean_hu"] - young[0]) / young[1], 2)
        found["t_hu_sd"] = round(body["sem_hu"] / young[1], 2)
    if "qct_mg_cc" in body and site.calibration is not None and site.calibration.equivalent == "K2HPO4":
        low, normal = LOW_QCT_MG_CC
        value = body["qct_mg_cc"]
        found["qct_reading"] = "osteoporosis" if value <= low else "low bone mass" if value < normal else "normal"
    return found


def _contrast(about: Mapping[str, Any]) -> str | None:
    """The contrast agent that the headers name, "" when they say there is none, None when they don't say."""
    value = about.get("contrast")
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 20.0 < number < 300.0 else None
