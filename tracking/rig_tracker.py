"""All bodies of a session in the pictures of a rig: each camera looks for its markers, one pose a body from all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.rigid import UncertainRigid
from tracking.bodies.body import Body
from tracking.calibration.camera_file import require_resolution
from tracking.calibration.rig_file import RigCamera
from tracking.detection.finder import Finder
from tracking.detection.markers import Detections
from tracking.drawn import drawn
from tracking.frame import Frame, Stopped
from tracking.history.history import Limits, PoseHistory
from tracking.pose.lens import lens_covariance
from tracking.pose.rig import RigSighting, View, track_rig
from tracking.pose.sighting import Sighting
from tracking.tracker import SEARCH_EACH, Tracker, places


class RigTracker:
    """Keeps a `PoseHistory` a body, in the rig's frame; `see` takes the pictures of one instant."""

    def __init__(self, cameras: Sequence[RigCamera], bodies: Sequence[Body[Any]], limits: Limits | None = None) -> None:
        """Check the bodies as `Tracker` does. Raises Misuse, DoubleBody, UnknownDictionary."""
        if len(cameras) < 2:
            raise Misuse(f"{len(cameras)} camera is no rig; two or more are needed")
        with Tracker(cameras[0].calibrated, bodies):  # refuses bodies that can be taken for one another
            pass
        self.cameras, self.bodies = tuple(cameras), tuple(bodies)
        wanted: dict[str, set[int]] = {}
        for body in bodies:
            wanted.setdefault(body.dictionary, set()).update(body.corners_mm)
        self._finders = [Finder(wanted, camera.calibrated.pinhole, SEARCH_EACH) for camera in cameras]
        self._lenses = [
            lens_covariance(c.calibrated.pinhole, c.calibrated.names, c.calibrated.covariance) for c in cameras
        ]
        self._histories = {body.name: PoseHistory[Any](limits) for body in bodies}

    @property
    def histories(self) -> Mapping[str, PoseHistory[Any]]:
        """The pose history of each body, by name."""
        return MappingProxyType(self._histories)

    def see(self, frames: Sequence[Frame | None]) -> tuple[RigSighting[Any], ...]:
        """Track every body at the first picture's instant; None is a camera without a picture. Raises WrongResolution.

        The cameras' stamps must be of one clock; what they differ by is taken as motion.
        """
        if len(frames) != len(self.cameras):
            raise Misuse(f"{len(frames)} pictures for {len(self.cameras)} cameras")
        t_ns = next((frame.t_ns for frame in frames if frame is not None), None)
        if t_ns is None:
            raise Misuse("no camera of the rig has a picture")
        priors = {name: history.at(t_ns).uncertain for name, history in self._histories.items()}
        looks = [{} if frame is None else self._look(k, frame, priors) for k, frame in enumerate(frames)]
        out = []
        for body in self.bodies:
            history = self._histories[body.name]
            views = [
                View(
                    camera.name,
                    look[body.dictionary],
                    camera.calibrated.pinhole,
                    camera.rig_from_camera,
                    frame.readout_ns or camera.calibrated.readout_ns,
                    frame.t_ns - t_ns,
                    lens,
                )
                for camera, frame, look, lens in zip(self.cameras, frames, looks, self._lenses, strict=True)
                if frame is not None
            ]
            readout_ns = max((abs(view.readout_ns) for view in views), default=0)
            found = track_rig(
                views,
                body,
                t_ns=t_ns,
                prior=priors[body.name],
                prior_odds=history.odds,
                motion=history.motion_at(t_ns, readout_ns),
            )
            exposure_ns = max(frame.exposure_ns for frame in frames if frame is not None)
            if found.sighting.camera_from_body is not None and (readout_ns or exposure_ns):
                found = replace(found, sighting=_shaken(found.sighting, history, readout_ns, exposure_ns))
            history.add(found.sighting)
            out.append(found)
        return tuple(out)

    def drawn(self, frames: Sequence[Frame | None], found: Sequence[RigSighting[Any]]) -> dict[str, NDArray[np.uint8]]:
        """Each camera's picture, RGB by its name, with what it saw and where the rig puts the bodies."""
        out = {}
        for camera, frame in zip(self.cameras, frames, strict=True):
            if frame is None:
                continue
            away = camera.rig_from_camera.inverse()
            own = [
                replace(
                    one.sighting,
                    corners_px=one.shares[camera.name].corners_px if camera.name in one.shares else {},
                    camera_from_body=one.sighting.camera_from_body and away @ one.sighting.camera_from_body,
                )
                for one in found
            ]
            out[camera.name] = drawn(frame.picture, own, self.bodies, camera.calibrated.pinhole)
        return out

    def stopped(self, event: Stopped) -> tuple[Sighting[Any], ...]:
        """No camera gives pictures: from now on every body is LOST, until the next instant."""
        for history in self._histories.values():
            history.camera_stopped(event.t_ns, event.reason)
        return tuple(
            Sighting[Any](body.name, event.t_ns, "LOST", event.reason, None, None, cause="camera stopped")
            for body in self.bodies
        )

    def close(self) -> None:
        """Let go of the searches; may be called twice."""
        for finder in self._finders:
            finder.close()

    def __enter__(self) -> Self:
        """Use with `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _look(
        self, number: int, frame: Frame, priors: Mapping[str, UncertainRigid[Any, Any] | None]
    ) -> Mapping[str, Detections]:
        """One camera's markers, sought first where the rig's earlier poses put them."""
        camera = self.cameras[number]
        pinhole = camera.calibrated.pinhole
        require_resolution(frame.picture, pinhole)
        camera_from_rig = camera.rig_from_camera.inverse()
        expected = [
            one
            for body in self.bodies
            if (prior := priors[body.name]) is not None
            for one in places(body, camera_from_rig @ prior, pinhole)
        ]
        complete = all(prior is not None for prior in priors.values())
        return self._finders[number].look(frame.picture, expected, complete=complete)


def _shaken(sighting: Sighting[Any], history: PoseHistory[Any], readout_ns: int, exposure_ns: int) -> Sighting[Any]:
    """With what a body that speeds up adds to the covariance while the slowest camera is exposed and read out."""
    found = sighting.camera_from_body
    assert found is not None
    shake = history.shake_at(sighting.t_ns, ((readout_ns * 1e-9) ** 2 + (exposure_ns * 1e-9) ** 2) / 12)
    return replace(sighting, camera_from_body=UncertainRigid(found.pose, found.covariance + shake))
