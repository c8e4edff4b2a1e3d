"""The guidance loop: pictures in, poses, a state, pictures and read-outs out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guidance.live import newest
from guidance.overlay import overlay
from guidance.session import Readout, State, Tick, step
from guidance.stages import Stages
from render.offscreen import Offscreen
from spatial.pinhole import Pinhole
from tracking.bodies.body import Body
from tracking.calibration.camera_file import Calibrated
from tracking.frame import Frame, FrameSource
from tracking.pose.sighting import Sighting
from tracking.tracker import Tracker
from tracking.undistort import undistort
from twin.anatomy.twin import Twin

LIVE_SAMPLES = 0  # a live overlay has no time for smooth edges


@dataclass(frozen=True, eq=False)
class Guided:
    """One frame of guidance: what was known, the picture that was drawn (h, w, 3) or None, the time of each stage.

    `is_new` False: a live camera is late, and the same picture was judged again. `sightings`: what a new picture said
    of each body.
    """

    frame: Frame
    state: State
    readout: Readout
    picture: NDArray[np.uint8] | None
    stages_ms: dict[str, float]
    is_new: bool = True
    sightings: tuple[Sighting[Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A line of `osteotwin guide --json`; what is not known is null."""
        known, tool = self.readout.camera_from_patient, self.readout.patient_from_instrument
        axis95, age_ns = self.readout.axis95_rad, self.readout.age_ns
        return {
            "frame": self.frame.index,
            "t_ns": self.frame.t_ns,
            "trust": str(self.readout.trust),
            "how": self.readout.how,
            "cause": self.readout.cause,
            "reason": self.readout.reason,
            "camera_from_patient": None if known is None else known.pose.to_json(),
            "covariance": None if known is None else known.covariance.tolist(),
            "deviation": {name: off.to_json() for name, off in self.readout.deviation.items()},
            "instrument_how": self.readout.instrument_how,
            "instrument_cause": self.readout.instrument_cause,
            "instrument_reason": self.readout.instrument_reason,
            "patient_from_instrument": None if tool is None else tool.pose.to_json(),
            "tre95_mm": self.readout.tre95_mm,
            "target": self.readout.target,
            "tip95_mm": self.readout.tip95_mm,
            "axis95_deg": None if axis95 is None else float(np.degrees(axis95)),
            "age_ms": None if age_ns is None else age_ns / 1e6,
            "pose_age_ms": None if self.readout.pose_age_ns is None else self.readout.pose_age_ns / 1e6,
            "stages_ms": {name: round(ms, 3) for name, ms in self.stages_ms.items()},
        }


def guide(
    source: FrameSource,
    camera: Pinhole | Calibrated,
    state: State,
    twin: Twin,
    *,
    draw: bool = True,
    stages: Stages | None = None,
    clock: Callable[[], int] | None = None,
    also: Callable[[], Sequence[Sighting[Any]]] = tuple,
) -> Generator[Guided]:
    """Follow a source to its end: each frame is tracked, answered for its own instant and, if `draw`, drawn off-screen.

    `clock` is given for a live source: monotonic ns, as its stamps are. Then a picture is judged by its age when it is
    shown, and judged again when the next one does not come or the camera has stopped. The overlay lies on the
    undistorted frame. Raises WrongResolution when the pictures are not the calibrated size. `also` gives what another
    tracker has seen since it was asked last, in this camera's axes and by this clock.
    """
    bodies: list[Body[Any]] = [state.reference, *([state.instrument] if state.instrument else [])]
    tracker = Tracker(camera, bodies, live=clock is not None)
    pinhole = tracker.pinhole
    ideal = pinhole.undistorted()
    times = stages or Stages()
    samples = 4 if clock is None else LIVE_SAMPLES
    ahead_ns = 0  # how long after the tick the last picture was shown
    target = Offscreen(pinhole.width_px, pinhole.height_px, samples, occlusion=False) if draw else None
    try:
        frame: Frame | None = None
        for event in newest(source) if clock else source:
            said: tuple[Sighting[Any], ...] = ()
            if isinstance(event, Frame):
                frame = event
                with times.stage("track"):
                    said = tracker.see(frame)
            elif event is not None:
                tracker.stopped(event)
                state = step(state, event)
            for sighting in (*said, *also()):
                state = step(state, sighting)
            if frame is None:
                continue
            ticked_ns = clock() if clock else 0
            with times.stage("step"):
                state = step(state, Tick(frame.t_ns, ticked_ns + ahead_ns if clock else None))
            picture = None
            if target is not None:
                with times.stage("undistort"):
                    backdrop = undistort(colour(frame.picture), pinhole)
                with times.stage("compose"):
                    scene, view = overlay(state, twin, backdrop, ideal)
                with times.stage("draw"):
                    picture = target.picture(scene, view)
            assert state.readout is not None
            is_new = isinstance(event, Frame)
            yield Guided(frame, state, state.readout, picture, times.frame(), is_new, said)
            ahead_ns = clock() - ticked_ns if clock else 0
    finally:
        tracker.close()
        if target is not None:
            target.release()


def colour(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture (h, w) as RGB (h, w, 3); colour stays as it is."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
