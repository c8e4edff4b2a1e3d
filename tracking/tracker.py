"""All bodies of a session in the pictures of one camera: detect once a dictionary, then a pose and a history a body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from spatial.faults import Misuse
from spatial.pinhole import Pinhole
from tracking.bodies.body import Body
from tracking.calibration.camera_file import require_resolution
from tracking.detection.markers import detect, find_dictionary
from tracking.frame import Frame
from tracking.history.history import Limits, PoseHistory
from tracking.pose.pose import track_body
from tracking.pose.sighting import Sighting


class DoubleBody(Misuse):
    """Two bodies with the same name, or with a marker in common."""


class Tracker:
    """Keeps a `PoseHistory` for each body; `see` returns a sighting for each body, in the order given."""

    def __init__(self, pinhole: Pinhole, bodies: Sequence[Body[Any]], limits: Limits | None = None) -> None:
        """Check that no two bodies can be taken for one another. Raises DoubleBody, UnknownDictionary."""
        self.pinhole = pinhole
        self.bodies = tuple(bodies)
        names = [body.name for body in self.bodies]
        for name in names:
            if names.count(name) > 1:
                raise DoubleBody(f"two bodies are named {name}; rename one in its file")
        for k, body in enumerate(self.bodies):
            known = len(find_dictionary(body.dictionary).bytesList)
            beyond = [marker for marker in body.corners_mm if marker >= known]
            if beyond:
                raise Misuse(f"{body.dictionary} ends at id {known - 1}; {body.name} bears {beyond}")
            for other in self.bodies[:k]:
                shared = sorted(set(body.corners_mm) & set(other.corners_mm))
                if shared and body.dictionary == other.dictionary:
                    raise DoubleBody(f"{other.name} and {body.name} both bear marker {shared[0]} of {body.dictionary}")
        self._histories = {body.name: PoseHistory[Any](limits) for body in self.bodies}

    @property
    def histories(self) -> Mapping[str, PoseHistory[Any]]:
        """The pose history of each body, by name."""
        return MappingProxyType(self._histories)

    def see(self, frame: Frame) -> tuple[Sighting[Any], ...]:
        """Track every body in a raw picture and keep what was found. Raises WrongResolution."""
        require_resolution(frame.picture, self.pinhole)
        seen = {name: detect(frame.picture, name, self.pinhole) for name in {b.dictionary for b in self.bodies}}
        out = []
        for body in self.bodies:
            history = self._histories[body.name]
            prior = history.at(frame.t_ns).pose
            sighting = track_body(seen[body.dictionary], body, self.pinhole, t_ns=frame.t_ns, prior=prior)
            history.add(sighting)
            out.append(sighting)
        return tuple(out)
