"""Recorded poses of marker bodies, from a camera's pictures or from a tracker's file: what calibrations are fed with.

Files: JSON lines as `osteotwin track --json` writes them, and PLUS's sequence metafiles (`.igs.mha`, `.seq.mha`) with
`StylusToTrackerTransform` and the like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from spatial.faults import Fault, Misuse
from spatial.pinhole import Pinhole
from spatial.progress import Progress, silent
from spatial.rigid import NotFinite, NotRigid, Rigid, UncertainRigid
from tracking.bodies.body import Body
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.json_lines import json_lines
from tracking.frame import Frame
from tracking.tracker import Tracker

# what an optical tracker that tells no covariance is taken for; calibrations rescale it by their residuals
ASSUMED_SD_MM, ASSUMED_SD_RAD = 0.15, math.radians(0.15)
METRES_MM, METRES_TURN_DEG = (0.02, 5.0), 10.0  # no body turns so near to a sensor; a hand on its origin is at 0
FIELD = re.compile(r"Seq_Frame(\d+)_(\w+)\s*=\s*(.*)")
POSES = ("camera_from_body", "tracker_from_body", "world_from_body", "reference_from_body")


class BadRecording(Fault):
    """A file that holds no recorded poses, or not those that are needed."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One body at one instant; `pose` (sensor from body) is None where it was not seen, and `reason` says why."""

    t_ns: int
    pose: UncertainRigid[Any, Any] | None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """Samples of each body in the order of their stamps; `assumed`: the file told no covariance, a usual one stands."""

    name: str
    tracks: Mapping[str, tuple[Sample, ...]]
    assumed: bool = False

    def track(self, body: str) -> tuple[Sample, ...]:
        """All samples of a body. Raises BadRecording when it is not recorded."""
        if body not in self.tracks:
            there = ", ".join(sorted(self.tracks)) or "nothing"
            raise BadRecording(f"{body} is not in the recording; there is {there}", path=self.name)
        return self.tracks[body]

    def relative(self, body: str, reference: str | None = None) -> tuple[Sample, ...]:
        """`body` as seen from `reference` where both were seen at the same instant; from the sensor without one."""
        if reference is None:
            return tuple(sample for sample in self.track(body) if sample.pose is not None)
        still = {sample.t_ns: sample.pose for sample in self.track(reference) if sample.pose is not None}
        out = []
        for sample in self.track(body):
            base = still.get(sample.t_ns)
            if sample.pose is not None and base is not None:
                out.append(Sample(sample.t_ns, base.inverse() @ sample.pose))
        return tuple(out)


def record(
    name: str, frames: Iterable[Frame], camera: Pinhole | Calibrated, bodies: Sequence[Body[Any]],
    progress: Progress = silent,
) -> Recording:  # fmt: skip
    """Track the bodies through all pictures. Raises what the source and the tracker raise.

    The lens' own uncertainty is left out: it is the same in every picture, and no fit may average it away.
    """
    known = camera if isinstance(camera, Calibrated) else Calibrated(camera)
    sensor = Calibrated(known.pinhole, readout_ns=known.readout_ns)
    tracks: dict[str, list[Sample]] = {body.name: [] for body in bodies}
    with Tracker(sensor, bodies) as tracker:
        for count, frame in enumerate(frames):
            for sighting in tracker.see(frame):
                tracks[sighting.body].append(Sample(sighting.t_ns, sighting.camera_from_body, sighting.reason))
            if count % 50 == 49:
                progress(f"{count + 1} pictures", 0.0)
    return Recording(name, MappingProxyType({body: tuple(found) for body, found in tracks.items()}))


def is_recording(source: str) -> bool:
    """Whether a source is a file of recorded poses rather than of pictures."""
    return source.lower().endswith((".jsonl", ".mha"))


def load_recording(path: str | Path) -> Recording:
    """Read JSON lines or a sequence metafile. Raises BadRecording."""
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BadRecording(f"cannot be read: {error.strerror}", path=file) from None
    try:
        found = _lines(raw) if file.suffix.lower() == ".jsonl" else _metafile(raw)
    except UnicodeDecodeError:
        raise BadRecording("not text; a recording is JSON lines or a sequence metafile", path=file) from None
    except Fault as fault:
        raise BadRecording(fault.message, path=file) from None
    tracks, assumed = found
    if not tracks:
        raise BadRecording("no pose of any body in this file", path=file)
    ordered = {name: tuple(sorted(found, key=lambda s: s.t_ns)) for name, found in tracks.items()}
    for name, samples in ordered.items():
        metres = _metres(name, samples)
        if metres is not None:
            raise BadRecording(metres, path=file)
    return Recording(str(file), MappingProxyType(ordered), assumed)


def _metres(name: str, samples: Sequence[Sample]) -> str | None:
    """Words where poses must be in metres: turned widely, and yet within millimetres of the frame's origin."""
    poses = [sample.pose.pose for sample in samples if sample.pose is not None]
    reach = max((float(np.linalg.norm(pose.translation_mm)) for pose in poses), default=0.0)
    if not METRES_MM[0] < reach < METRES_MM[1]:
        return None
    turn_deg = math.degrees(max((poses[0].inverse() @ pose).angle_rad for pose in poses))
    if turn_deg < METRES_TURN_DEG:
        return None
    return (
        f"{name} turns by {turn_deg:.0f} degrees and is never more than {reach:.3g} mm from the origin of what sees "
        "it; are its places in metres? They have to be in mm"
    )


def _lines(raw: bytes) -> tuple[dict[str, list[Sample]], bool]:
    tracks: dict[str, list[Sample]] = {}
    assumed = False
    for number, value in json_lines(raw.decode("utf-8")):
        try:
            key = next((key for key in POSES if key in value), None)
            body, t_ns = str(value["body"]), int(value["t_ns"])
        except (KeyError, TypeError, ValueError):
            raise BadRecording(
                f"line {number} is no pose; keys body, t_ns and {' or '.join(POSES)} are needed"
            ) from None
        if key is None:
            raise BadRecording(f"line {number} has none of {', '.join(POSES)}")
        if value[key] is None:
            tracks.setdefault(body, []).append(Sample(t_ns, None, value.get("reason")))
            continue
        try:
            pose: Rigid[Any, Any] = Rigid.from_json(value[key])
            told = value.get("covariance")
            uncertain = _assume(pose) if told is None else UncertainRigid[Any, Any](pose, np.asarray(told, float))
        except (Fault, ValueError, TypeError) as error:
            raise BadRecording(f"line {number}: {error}") from None
        assumed = assumed or told is None
        tracks.setdefault(body, []).append(Sample(t_ns, uncertain))
    return tracks, assumed


def _metafile(raw: bytes) -> tuple[dict[str, list[Sample]], bool]:
    head = raw.split(b"ElementDataFile", 1)[0].decode("utf-8")
    frames: dict[int, dict[str, str]] = {}
    for line in head.splitlines():
        found = FIELD.match(line.strip())
        if found:
            frames.setdefault(int(found[1]), {})[found[2]] = found[3].strip()
    tracks: dict[str, list[Sample]] = {}
    for number, fields in sorted(frames.items()):
        if "Timestamp" not in fields:
            raise BadRecording(f"frame {number} has no Timestamp")
        t_ns = round(float(fields["Timestamp"]) * 1e9)
        for key, text in fields.items():
            named = re.fullmatch(r"(\w+)To(Tracker|Reference|World)Transform", key)
            if named is None:
                continue
            status = fields.get(f"{key}Status", "OK")
            samples = tracks.setdefault(named[1], [])
            if status != "OK":
                samples.append(Sample(t_ns, None, f"the tracker says {status}"))
                continue
            try:
                matrix = np.array(text.split(), dtype=np.float64).reshape(4, 4)
                samples.append(Sample(t_ns, _assume(_nearly_rigid(matrix))))
            except (ValueError, NotRigid, NotFinite) as error:
                raise BadRecording(f"frame {number}, {key}: {error}") from None
    return tracks, True


def _nearly_rigid(matrix: np.ndarray[Any, np.dtype[np.float64]]) -> Rigid[Any, Any]:
    """Trackers send single precision: what is a rotation to 1e-3 is made one, what isn't is refused."""
    u, spread, vt = np.linalg.svd(matrix[:3, :3])
    if np.abs(spread - 1).max() > 1e-3 or np.linalg.det(u @ vt) < 0:
        raise NotRigid(f"the matrix stretches by {spread.max():.4f}, limit 1.001")
    return Rigid[Any, Any](u @ vt, matrix[:3, 3])


def _assume(pose: Rigid[Any, Any]) -> UncertainRigid[Any, Any]:
    return UncertainRigid(pose, np.diag([ASSUMED_SD_RAD**2] * 3 + [ASSUMED_SD_MM**2] * 3))


@dataclass(frozen=True, eq=False)
class Dwell:
    """A rest of a point: when it began and ended, its mean place (3,) mm, its scatter (sd a coordinate), how often."""

    start_ns: int
    stop_ns: int
    mm: np.ndarray[Any, np.dtype[np.float64]]
    sd_mm: float
    samples: int


def dwells(
    samples: Sequence[Sample], point_mm: np.ndarray[Any, np.dtype[np.float64]], *,
    radius_mm: float = 1.0, shortest_ns: int = 1_000_000_000,
) -> tuple[Dwell, ...]:  # fmt: skip
    """Where a point of the body rested: within `radius_mm` of its running median for `shortest_ns` or longer."""
    if radius_mm <= 0 or shortest_ns <= 0:
        raise Misuse(f"a rest within {radius_mm} mm for {shortest_ns} ns: both must be above zero")
    seen = [s for s in samples if s.pose is not None]
    places = np.array([s.pose.pose.rotation @ point_mm + s.pose.pose.translation_mm for s in seen if s.pose])
    out: list[Dwell] = []
    start = 0
    while start < len(seen):
        stop = start + 1
        while stop < len(seen):
            middle = np.median(places[start : stop + 1], axis=0)
            if np.linalg.norm(places[stop] - middle) > radius_mm:
                break
            stop += 1
        if seen[stop - 1].t_ns - seen[start].t_ns >= shortest_ns:
            rest = places[start:stop]
            middle = np.median(rest, axis=0)
            rest = rest[np.linalg.norm(rest - middle, axis=1) <= radius_mm]
            scatter = float(np.sqrt(rest.var(axis=0, ddof=1).mean())) if len(rest) > 1 else 0.0
            out.append(Dwell(seen[start].t_ns, seen[stop - 1].t_ns, rest.mean(axis=0), scatter, len(rest)))
            start = stop
        else:
            start += 1
    return tuple(out)
