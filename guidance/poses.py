"""The stream of poses beside the journal: what each picture said of each body, and what the history made of it."""

from __future__ import annotations

import math
from typing import Any

from guidance.loop import Guided
from spatial.rigid import UncertainRigid


def pose_lines(guided: Guided) -> list[dict[str, Any]]:
    """A line a body for a new picture, in the keys of `osteotwin track`; none for a picture that is judged again.

    `camera_from_body` is raw, as the picture says; `filtered` is what is drawn; `how`, `cause`, `reason` and `age_ms`
    are the history's.
    """
    if not guided.is_new:
        return []
    state, out = guided.state, []
    for sighting in guided.sightings:
        history = state.seen if sighting.body == state.reference.name else state.instrument_seen
        timed = history.at(sighting.t_ns)
        raw = _pose(sighting.camera_from_body)
        out.append(
            {
                "frame": guided.frame.index,
                "t_ns": sighting.t_ns,
                "body": sighting.body,
                "status": sighting.status,
                "how": timed.how,
                "cause": timed.cause or sighting.cause,
                "reason": timed.reason or sighting.reason,
                **(raw or {"camera_from_body": None, "covariance": None}),
                "ambiguity": sighting.ambiguity if math.isfinite(sighting.ambiguity) else None,
                "filtered": _pose(timed.uncertain),
                "age_ms": timed.age_ns / 1e6,
            }
        )
    return out


def _pose(known: UncertainRigid[Any, Any] | None) -> dict[str, Any] | None:
    return (
        None if known is None else {"camera_from_body": known.pose.to_json(), "covariance": known.covariance.tolist()}
    )
