"""The lens models that a calibration chooses from, and how their pixels change with their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial.pinhole import Lens, Pinhole
from spatial.rigid import Array

BROWN = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE = ("k1", "k2", "k3", "k4")
FRAME = ("fx", "fy", "cx", "cy")


@dataclass(frozen=True)
class LensModel:
    """A lens and which of its coefficients are estimated; the others are zero."""

    name: str
    lens: Lens
    coefficients: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters that are estimated, in their order."""
        return (*FRAME, *self.coefficients)

    @property
    def slots(self) -> list[int]:
        """Where the coefficients stand in the lens' full list."""
        order = BROWN if self.lens == "brown" else FISHEYE
        return [order.index(name) for name in self.coefficients]

    def pinhole(self, parameters: Array, width_px: int, height_px: int) -> Pinhole:
        """The camera of a parameter vector (m,). Raises BadLens."""
        full = np.zeros(len(BROWN if self.lens == "brown" else FISHEYE))
        full[self.slots] = parameters[4:]
        length = 4 if self.lens == "fisheye" else 8 if full[5:].any() else 5 if full[4] else 4
        fx, fy, cx, cy = (float(p) for p in parameters[:4])
        bend = tuple(float(k) for k in full[:length]) if len(self.coefficients) else ()
        return Pinhole(width_px, height_px, fx, fy, cx, cy, bend, self.lens)

    def parameters(self, pinhole: Pinhole) -> Array:
        """The parameter vector (m,) of a camera; coefficients that the model does not have are left out."""
        full = np.pad(np.array(pinhole.distortion, dtype=np.float64), (0, 8))
        kept = full[self.slots] if pinhole.lens == self.lens else np.zeros(len(self.coefficients))
        return np.array([pinhole.fx_px, pinhole.fy_px, pinhole.cx_px, pinhole.cy_px, *kept])


MODELS = {
    model.name: model
    for model in (
        LensModel("k2", "brown", ("k1", "k2")),
        LensModel("k3", "brown", ("k1", "k2", "k3")),
        LensModel("k2+tangential", "brown", ("k1", "k2", "p1", "p2")),
        LensModel("k3+tangential", "brown", ("k1", "k2", "p1", "p2", "k3")),
        LensModel("rational", "brown", BROWN),
        LensModel("fisheye", "fisheye", FISHEYE),
    )
}


def model_of(pinhole: Pinhole) -> LensModel:
    """The smallest model that holds a camera's coefficients."""
    used = np.flatnonzero(np.pad(np.array(pinhole.distortion, dtype=np.float64), (0, 8)))
    for model in MODELS.values():
        if model.lens == pinhole.lens and set(used.tolist()) <= set(model.slots):
            return model
    return MODELS["rational"]


def project(model: LensModel, parameters: Array, xyz: Array) -> tuple[Array, Array, Array]:
    """Pixels (n, 2) of points in the camera (n, 3), d pixel / d point (n, 2, 3), d pixel / d parameters (n, 2, m)."""
    camera = model.pinhole(parameters, 1, 1)
    z = xyz[:, 2]
    xy = xyz[:, :2] / z[:, None]
    slopes = camera.slopes(xy)
    by_point = np.empty((len(xyz), 2, 3))
    by_point[:, :, :2] = slopes / z[:, None, None]
    by_point[:, :, 2] = -np.einsum("nij,nj->ni", slopes, xy) / z[:, None]
    bent, by_bend = (_brown if model.lens == "brown" else _fisheye)(camera, xy)
    focal = np.array([camera.fx_px, camera.fy_px])
    by_parameter = np.zeros((len(xyz), 2, len(parameters)))
    by_parameter[:, 0, 0], by_parameter[:, 1, 1] = bent[:, 0], bent[:, 1]
    by_parameter[:, 0, 2] = by_parameter[:, 1, 3] = 1.0
    by_parameter[:, :, 4:] = focal[:, None] * by_bend[:, :, model.slots]
    return bent * focal + (camera.cx_px, camera.cy_px), by_point, by_parameter


def _brown(camera: Pinhole, xy: Array) -> tuple[Array, Array]:
    """Bent image-plane points (n, 2) and d bent / d (k1 k2 p1 p2 k3 k4 k5 k6) (n, 2, 8)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(np.array(camera.distortion), (0, 8))[:8]
    x, y = xy[:, 0], xy[:, 1]
    r2 = x * x + y * y
    top, bottom = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    bent = xy * (top / bottom)[:, None]
    bent[:, 0] += 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent[:, 1] += p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    J = np.empty((len(xy), 2, 8))
    for column, power in ((0, 1), (1, 2), (4, 3)):
        J[:, :, column] = xy * (r2**power / bottom)[:, None]
    for column, power in ((5, 1), (6, 2), (7, 3)):
        J[:, :, column] = -xy * (r2**power * top / bottom**2)[:, None]
    J[:, 0, 2] = J[:, 1, 3] = 2 * x * y
    J[:, 1, 2], J[:, 0, 3] = r2 + 2 * y * y, r2 + 2 * x * x
    return bent, J


def _fisheye(camera: Pinhole, xy: Array) -> tuple[Array, Array]:
    """Bent image-plane points (n, 2) and d bent / d (k1 k2 k3 k4) (n, 2, 4)."""
    k = np.pad(np.array(camera.distortion), (0, 4))[:4]
    r = np.linalg.norm(xy, axis=1)
    theta = np.arctan(r)
    unit = xy / np.maximum(r, 1e-12)[:, None]
    powers = theta[:, None] ** np.array([3, 5, 7, 9])
    bent = np.where(r[:, None] > 1e-12, unit * (theta + powers @ k)[:, None], xy)
    return bent, unit[:, :, None] * powers[:, None, :]
