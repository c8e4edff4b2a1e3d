"""ChArUco diamonds followed from picture to picture, each a body of its own, named by its four markers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

from spatial.pinhole import Pinhole
from tracking.bodies.body import Body
from tracking.calibration.camera_file import Calibrated, require_resolution
from tracking.detection.charuco import as_detections, find_diamonds
from tracking.detection.markers import detect, grey
from tracking.frame import Frame, Stopped
from tracking.history.history import Limits, PoseHistory
from tracking.pose.lens import lens_covariance
from tracking.pose.pose import track_body
from tracking.pose.sighting import Sighting


class DiamondTracker:
    """As `Tracker`, for diamonds of a dictionary whose squares have edges of `square_mm`.

    A body's frame has its origin in the middle square's centre: x right, y up, z out of the print.
    """

    def __init__(
        self, camera: Pinhole | Calibrated, dictionary: str, square_mm: float, limits: Limits | None = None
    ) -> None:
        """Start with no diamond known. Raises UnknownDictionary."""
        known = camera if isinstance(camera, Calibrated) else Calibrated(camera)
        self.pinhole = known.pinhole
        self.dictionary, self.square_mm = dictionary, square_mm
        self._readout_ns = known.readout_ns
        self._lens_covariance = lens_covariance(known.pinhole, known.names, known.covariance)
        self._limits = limits
        self.markers_seen = 0
        self._numbers: dict[tuple[int, int, int, int], int] = {}
        self._bodies: dict[str, Body[Any]] = {}
        self._histories: dict[str, PoseHistory[Any]] = {}

    @property
    def bodies(self) -> tuple[Body[Any], ...]:
        """All diamonds so far."""
        return tuple(self._bodies.values())

    @property
    def histories(self) -> Mapping[str, PoseHistory[Any]]:
        """The pose history of each, by name."""
        return MappingProxyType(self._histories)

    @property
    def wanted(self) -> Mapping[str, Collection[int] | None]:
        """The markers that are looked for: all of the dictionary."""
        return {self.dictionary: None}

    def see(self, frame: Frame) -> tuple[Sighting[Any], ...]:
        """Find every diamond in a raw picture and keep what was found. Raises WrongResolution."""
        require_resolution(frame.picture, self.pinhole)
        luma = grey(frame.picture)
        markers = detect(luma, self.dictionary, self.pinhole)
        self.markers_seen += len(markers)
        found = [] if frame.repeated else find_diamonds(luma, markers)
        for diamond in found:
            if diamond.ids not in self._numbers:
                self._numbers[diamond.ids] = len(self._numbers)
                body = self._body(diamond.name, self._numbers[diamond.ids])
                self._bodies[body.name], self._histories[body.name] = body, PoseHistory[Any](self._limits)
        seen = as_detections(found, self._numbers)
        out = []
        for body in self.bodies:
            history = self._histories[body.name]
            readout_ns = frame.readout_ns or self._readout_ns
            sighting = track_body(
                seen,
                body,
                self.pinhole,
                t_ns=frame.t_ns,
                prior=history.at(frame.t_ns).uncertain,
                prior_odds=history.odds,
                readout_ns=readout_ns,
                motion=history.motion_at(frame.t_ns) if readout_ns else None,
                lens_covariance=self._lens_covariance,
            )
            history.add(sighting)
            out.append(sighting)
        return tuple(out)

    def stopped(self, event: Stopped) -> tuple[Sighting[Any], ...]:
        """The camera gives no pictures: from now on every diamond is LOST, until the next picture."""
        for history in self._histories.values():
            history.camera_stopped(event.t_ns, event.reason)
        return tuple(
            Sighting[Any](name, event.t_ns, "LOST", event.reason, None, None, cause="camera stopped")
            for name in self._bodies
        )

    def __enter__(self) -> Self:
        """Use with `with`, as a `Tracker`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def _body(self, name: str, number: int) -> Body[Any]:
        h = self.square_mm / 2
        return Body(name, "diamonds", {number: np.array([[-h, h, 0], [h, h, 0], [h, -h, 0], [-h, -h, 0]])})
