"""What one picture, or one instant of several cameras, says about one body: a pose with its covariance, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, Literal

from spatial.frames import B, Camera
from spatial.rigid import Array, UncertainRigid
from tracking.pose.lens_watch import LensView

Status = Literal["TRACKED", "LOST"]
Cause = Literal[
    "never seen",
    "out of view",
    "too few markers",
    "blur",
    "glare",
    "residual",
    "ambiguous",
    "camera stopped",
    "clock",
]


@dataclass(frozen=True, eq=False)
class Sighting(Generic[B]):
    """LOST has no pose; `cause` says why in one word for programs, `reason` in a sentence for people.

    `rms_px`: of the corners that were used, in the raw picture. `corners_px`: all corners seen, by id. `ambiguity`:
    how many times likelier the pose is than the second-best one (inf: there is none). Where that is little, `cause`
    is "ambiguous" and the covariance spans both poses; `second` is the other one. `systematic` (6, 6): the part of
    the covariance that does not average out over pictures (calibration). `lens_view`: what the picture says of the
    lens itself, where that was asked.
    """

    body: str
    t_ns: int
    status: Status
    reason: str | None
    camera_from_body: UncertainRigid[Camera, B] | None
    rms_px: float | None
    corners_px: Mapping[int, Array] = field(default_factory=lambda: MappingProxyType({}))
    ambiguity: float = float("inf")
    cause: Cause | None = None
    second: UncertainRigid[Camera, B] | None = None
    systematic: Array | None = None
    lens_view: LensView | None = None
