"""A tracker's poses in a camera's axes, by the hand-eye calibration between the two.

Either the camera stands still in the tracker's space (`world_from_camera`), or it carries a body that the tracker sees
(`hand_from_camera`): then a pose in the camera's axes needs both bodies at one instant, and waits for the camera's own.
The calibration's error is the same in every pose: no filter averages it out, so it is told apart as `systematic`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spatial.faults import Fault
from spatial.rigid import Array, Rigid, UncertainRigid
from tracking.history.history import PoseHistory
from tracking.pose.sighting import Sighting

WAITING = 64


class BadPlacing(Fault):
    """A hand-eye file that does not say where the camera is."""


@dataclass(frozen=True, eq=False)
class Placing:
    """Where the camera is: in the tracker's space (`hand` None), or on the body named `hand`."""

    from_camera: UncertainRigid[Any, Any]
    hand: str | None


def load_placing(path: Path) -> Placing:
    """What `osteotwin calibrate hand-eye` wrote. Raises BadPlacing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        key = "hand_from_camera" if "hand_from_camera" in value else "world_from_camera"
        pose = Rigid[Any, Any].from_json(value[key])
        found = UncertainRigid(pose, np.asarray(value["covariance"], np.float64))
        hand = str(value["hand"]) if key == "hand_from_camera" else None
    except OSError as error:
        raise BadPlacing(f"can't be read: {error.strerror}", path=path) from None
    except (ValueError, KeyError, TypeError, Fault) as error:
        words = error.message if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
        raise BadPlacing(f"is no hand-eye calibration ({words})", path=path) from None
    return Placing(found, hand)


class PlacedTracker:
    """Turns a tracker's sightings into the camera's; keeps what waits for the camera's own body."""

    def __init__(self, placing: Placing) -> None:
        """Nothing seen yet."""
        self.placing = placing
        self._hand = PoseHistory[Any]()
        self._waiting: list[Sighting[Any]] = []

    def turned(self, sightings: Sequence[Sighting[Any]]) -> list[Sighting[Any]]:
        """Those that can be told in the camera's axes now; the camera's own body is no longer among them."""
        hand = self.placing.hand
        if hand is None:
            return [self._placed(one, None) for one in sightings]
        for one in sightings:
            if one.body == hand:
                self._hand.add(one)
            else:
                self._waiting.append(one)
        heard_ns = self._hand.newest_ns
        ready = [one for one in self._waiting if heard_ns is not None and one.t_ns <= heard_ns]
        late = [one for one in self._waiting if heard_ns is None or one.t_ns > heard_ns]
        self._waiting = late[-WAITING:]
        return [self._placed(one, hand) for one in ready]

    def _placed(self, one: Sighting[Any], hand: str | None) -> Sighting[Any]:
        if one.camera_from_body is None:
            return one
        known = self.placing.from_camera
        if hand is None:
            camera_from_tracker, error = known.inverse(), known.inverse()
        else:
            timed = self._hand.at(one.t_ns)
            if timed.uncertain is None:
                reason = f"the camera's own body {hand} is not seen: {timed.reason or timed.how}"
                return Sighting[Any](one.body, one.t_ns, "LOST", reason, None, None, cause=timed.cause or "out of view")
            tracker_from_hand = timed.uncertain
            camera_from_tracker = (tracker_from_hand @ known).inverse()
            error = (_exact(tracker_from_hand.pose) @ known).inverse()
        placed = camera_from_tracker @ one.camera_from_body
        systematic: Array = (error @ _exact(one.camera_from_body.pose)).covariance
        return replace(one, camera_from_body=placed, systematic=systematic)


def _exact(pose: Rigid[Any, Any]) -> UncertainRigid[Any, Any]:
    return UncertainRigid(pose, np.zeros((6, 6)))
