"""All bodies of a session in the pictures of one camera: markers sought where poses predict them, poses, histories."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Misuse
from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, UncertainRigid
from tracking.bodies.body import Body
from tracking.calibration.camera_file import Calibrated, require_resolution
from tracking.detection.codes import code_book
from tracking.detection.finder import Expected, Finder, Miss
from tracking.detection.markers import Detections
from tracking.frame import Frame, Stopped
from tracking.history.history import Limits, PoseHistory
from tracking.pose.lens import lens_covariance
from tracking.pose.lens_watch import LensDoubt, LensWatch
from tracking.pose.pose import track_body
from tracking.pose.sighting import Cause, Sighting

WATCH_EACH, DOUBT_EACH = 5, 30  # pictures between two questions about the lens, and between two answers
WATCH_FIRST = 20  # the first pictures are all asked: another camera's file shows in them
SEARCH_EACH = 10  # pictures of a recording between two whole searches while nothing is missing
EDGE_ON = 0.17  # cosine of the steepest view in which a marker is expected: ten degrees over its plane
OUTSIDE_SHARE = 0.5  # how far, of the picture's size, beyond its rim the lens model is still asked
DARK, WASHED_OUT = 25, 245  # grey levels: nearly all of a picture below the one, above the other
WORDS: Mapping[Miss, str] = MappingProxyType(
    {"glare": "washed out by glare", "blur": "blurred", "dark": "too dark", "hidden": "hidden where expected"}
)


class DoubleBody(Misuse):
    """Two bodies with the same name, or with a marker in common."""


class Tracker:
    """Keeps a `PoseHistory` for each body; `see` returns a sighting for each body, in the order given.

    `live`: for a camera, where a thread searches beside the tracking; a recording gives the same result in every run.
    Close it (or use `with`) to end that thread.
    """

    def __init__(
        self,
        camera: Pinhole | Calibrated,
        bodies: Sequence[Body[Any]],
        limits: Limits | None = None,
        *,
        live: bool = False,
    ) -> None:
        """Check that no two bodies can be taken for one another. Raises DoubleBody, UnknownDictionary."""
        known = camera if isinstance(camera, Calibrated) else Calibrated(camera)
        self.pinhole = pinhole = known.pinhole
        self._readout_ns = known.readout_ns
        told = lens_covariance(pinhole, known.names, known.covariance)
        self._watch = LensWatch(pinhole.fx_px, pinhole.fy_px, told)
        self._lens_covariance = told
        self._pictures = self._next_doubt = 0
        self.lens_doubt: LensDoubt | None = None
        self._limits = limits
        self._bodies: dict[str, Body[Any]] = {}
        self._histories: dict[str, PoseHistory[Any]] = {}
        for body in bodies:
            self._take(body)
        wanted: dict[str, set[int]] = {}
        for body in self.bodies:
            wanted.setdefault(body.dictionary, set()).update(body.corners_mm)
        self._single: tuple[str, float] | None = None
        self.finder = Finder(wanted, pinhole, None if live else SEARCH_EACH)

    @classmethod
    def of_singles(
        cls,
        camera: Pinhole | Calibrated,
        dictionary: str,
        size_mm: float,
        limits: Limits | None = None,
        *,
        live: bool = False,
    ) -> Tracker:
        """Each marker of a dictionary is a body of its own, `marker:ID`, from the first picture on that shows it."""
        tracker = cls(camera, (), limits)
        tracker._single = dictionary, size_mm
        tracker.finder = Finder({dictionary: None}, tracker.pinhole, None if live else 1)
        return tracker

    @property
    def bodies(self) -> tuple[Body[Any], ...]:
        """All bodies so far."""
        return tuple(self._bodies.values())

    @property
    def histories(self) -> Mapping[str, PoseHistory[Any]]:
        """The pose history of each body, by name."""
        return MappingProxyType(self._histories)

    @property
    def wanted(self) -> Mapping[str, Collection[int] | None]:
        """The markers that are looked for, by dictionary; None is all of them."""
        return self.finder.wanted

    def see(self, frame: Frame) -> tuple[Sighting[Any], ...]:
        """Track every body in a raw picture and keep what was found. Raises WrongResolution."""
        require_resolution(frame.picture, self.pinhole)
        sightings = tuple(_repeated(body, frame) for body in self.bodies) if frame.repeated else self._see(frame)
        sure = self.lens_doubt is None
        self._watch_lens(sightings)
        if sure and self.lens_doubt is not None:
            sightings = self._see(frame)  # with the covariance that knows of it, from this picture on
        if self.lens_doubt is not None:
            sightings = tuple(_doubted(sighting, self.lens_doubt) for sighting in sightings)
        for sighting in sightings:
            self._histories[sighting.body].add(sighting)
        return sightings

    def stopped(self, event: Stopped) -> tuple[Sighting[Any], ...]:
        """The camera gives no pictures: from now on every body is LOST, until the next picture."""
        for history in self._histories.values():
            history.camera_stopped(event.t_ns, event.reason)
        return tuple(
            Sighting[Any](name, event.t_ns, "LOST", event.reason, None, None, cause="camera stopped")
            for name in self._bodies
        )

    def close(self) -> None:
        """End the search's thread; may be called twice."""
        self.finder.close()

    def __enter__(self) -> Self:
        """Use with `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _watch_lens(self, sightings: Sequence[Sighting[Any]]) -> None:
        """Put together what this picture's bodies say of the lens; the covariance of what is tracked next knows it."""
        self._pictures += 1
        watch = self._watch
        for sighting in sightings:
            if sighting.lens_view is not None:
                watch = watch.plus(sighting.body, sighting.lens_view)
        if watch is self._watch:
            return
        is_new = len(watch.views) > len(self._watch.views)
        self._watch = watch
        if not is_new and self._pictures < self._next_doubt:
            return
        self._next_doubt = self._pictures + DOUBT_EACH
        self.lens_doubt = doubt = watch.doubt(self.lens_doubt)
        self._lens_covariance = watch.file if doubt is None else watch.covariance(doubt)

    def _take(self, body: Body[Any]) -> None:
        if body.name in self._bodies:
            raise DoubleBody(f"two bodies are named {body.name}; rename one in its file")
        known = len(code_book(body.dictionary))
        beyond = [marker for marker in body.corners_mm if marker >= known]
        if beyond:
            raise Misuse(f"{body.dictionary} ends at id {known - 1}; {body.name} bears {beyond}")
        for other in self.bodies:
            shared = sorted(set(body.corners_mm) & set(other.corners_mm))
            if shared and body.dictionary == other.dictionary:
                raise DoubleBody(f"{other.name} and {body.name} both bear marker {shared[0]} of {body.dictionary}")
        self._bodies[body.name] = body
        self._histories[body.name] = PoseHistory[Any](self._limits)

    def _see(self, frame: Frame) -> tuple[Sighting[Any], ...]:
        priors = {name: history.at(frame.t_ns).uncertain for name, history in self._histories.items()}
        expected = {
            name: [] if prior is None else places(self._bodies[name], prior, self.pinhole)
            for name, prior in priors.items()
        }
        followed = [prior is not None for prior in priors.values()]
        complete = bool(followed) and (all(followed) if self._single is None else any(followed))
        seen = self.finder.look(frame.picture, [e for several in expected.values() for e in several], complete=complete)
        if self._single is not None:
            self._meet(seen[self._single[0]])
        return tuple(
            self._track(body, seen, priors.get(body.name), expected.get(body.name, []), frame) for body in self.bodies
        )

    def _meet(self, seen: Detections) -> None:
        """Take markers that were never seen before as bodies."""
        assert self._single is not None
        dictionary, size_mm = self._single
        for marker in sorted(set(seen.ids.tolist())):
            if f"marker:{marker}" not in self._bodies:
                self._take(Body[Any].single(marker, dictionary, size_mm))
        ordered = sorted(self._bodies.items(), key=lambda item: min(item[1].corners_mm))
        self._bodies = dict(ordered)

    def _track(
        self,
        body: Body[Any],
        seen: Mapping[str, Detections],
        prior: UncertainRigid[Camera, Any] | None,
        expected: Sequence[Expected],
        frame: Frame,
    ) -> Sighting[Any]:
        readout_ns = frame.readout_ns or self._readout_ns
        history = self._histories[body.name]
        moves = history.motion_at(frame.t_ns, readout_ns) if readout_ns else None

        def pose(detections: Detections) -> Sighting[Any]:
            sighting = track_body(
                detections,
                body,
                self.pinhole,
                t_ns=frame.t_ns,
                prior=prior,
                prior_odds=history.odds,
                readout_ns=readout_ns,
                motion=moves,
                lens_covariance=self._lens_covariance,
                watch_lens=self._pictures % WATCH_EACH == 0 or self._pictures < WATCH_FIRST,
            )
            return _shaken(sighting, history, frame, readout_ns)

        sighting = pose(seen[body.dictionary])
        found = sighting.camera_from_body
        if found is not None and len(sighting.corners_px) < len(body.corners_mm):
            # where the pose of this very picture says they are, markers count that are partly hidden or cut off
            closer = [e for e in places(body, found, self.pinhole) if e.marker not in sighting.corners_px]
            more = self.finder.look_closer(closer, seen) if closer else seen
            if len(more[body.dictionary]) > len(seen[body.dictionary]):
                better = pose(more[body.dictionary])
                sighting = better if better.status == "TRACKED" else sighting
        if sighting.status == "LOST" and sighting.cause == "too few markers" and expected:
            return _unlit(_explained(sighting, [self.finder.why_missing(e) for e in expected]), frame.picture)
        if sighting.cause == "too few markers" and not sighting.corners_px and prior is None:
            return _unlit(_still_away(sighting, history), frame.picture)
        return sighting


def places(body: Body[Any], pose: UncertainRigid[Camera, Any], pinhole: Pinhole) -> list[Expected]:
    """Where each marker of a body is expected in the raw picture; those turned away or out of view are left out."""
    ids, mm = _corners(body)
    turned = mm @ pose.pose.rotation.T
    p = turned + pose.pose.translation_mm
    normals = _cross(p[:, 1] + p[:, 2] - p[:, 0] - p[:, 3], p[:, 0] + p[:, 1] - p[:, 2] - p[:, 3])
    centres = p.mean(axis=1)
    facing = -(normals * centres).sum(axis=1)
    steep = EDGE_ON * np.sqrt((normals * normals).sum(axis=1) * (centres * centres).sum(axis=1))
    rows = np.flatnonzero((p[..., 2].min(axis=1) > 1.0) & (facing > steep))
    if not len(rows):
        return []
    size = np.array([pinhole.width_px, pinhole.height_px])
    ideal = p[rows, :, :2] / p[rows, :, 2:]
    straight = ideal * (pinhole.fx_px, pinhole.fy_px) + (pinhole.cx_px, pinhole.cy_px)
    # a lens model says nothing far outside the picture, and may fold what is there back into it
    rows = rows[np.all((straight > -OUTSIDE_SHARE * size) & (straight < (1 + OUTSIDE_SHARE) * size), axis=(1, 2))]
    if not len(rows):
        return []
    px = pinhole.project(Points[Camera](p[rows]))
    inside = np.any(np.all((px > 0) & (px < size - 1), axis=2), axis=1)
    rows, px = rows[inside], px[inside]
    sd = _spread_px(turned[rows], p[rows], pose.covariance, pinhole)
    return [Expected(body.dictionary, ids[row], px[k], float(sd[k])) for k, row in enumerate(rows.tolist())]


@lru_cache(maxsize=256)
def _corners(body: Body[Any]) -> tuple[tuple[int, ...], Array]:
    """A body's ids and their corners (n, 4, 3), stacked once."""
    return tuple(body.corners_mm), np.array(list(body.corners_mm.values()))


def _cross(a: Array, b: Array) -> Array:
    """Cross product of (n, 3) or (n, m, 3): numpy's own takes ten times as long for a few."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=-1)


def _spread_px(turned: Array, p: Array, covariance: Array, pinhole: Pinhole) -> Array:
    """The largest sd (n,) px of each marker's corners, from the pose's covariance; the lens' bend is left out."""
    scale = (pinhole.fx_px + pinhole.fy_px) / 2 / p[..., 2]
    zero = np.zeros_like(scale)
    spread = zero
    for axis in range(2):
        ray = -scale * p[..., axis] / p[..., 2]
        gradient = np.stack([scale, zero, ray] if axis == 0 else [zero, scale, ray], axis=-1)
        J = np.concatenate([_cross(turned, gradient), gradient], axis=-1)
        spread = spread + ((J @ covariance) * J).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(spread, 0.0)).max(axis=1))


def _explained(sighting: Sighting[Any], misses: Sequence[Miss]) -> Sighting[Any]:
    """Say what stands where the markers of a lost body were expected."""
    worst: Miss = max(("glare", "blur", "dark", "hidden"), key=misses.count)
    cause: Cause | None = "glare" if worst == "glare" else "blur" if worst == "blur" else sighting.cause
    return replace(sighting, cause=cause, reason=f"{sighting.reason}; {misses.count(worst)} {WORDS[worst]}")


def _shaken(sighting: Sighting[Any], history: PoseHistory[Any], frame: Frame, readout_ns: int) -> Sighting[Any]:
    """With what a body that speeds up or turns round while it is exposed and read out adds to the covariance."""
    found = sighting.camera_from_body
    if found is None or not (readout_ns or frame.exposure_ns):
        return sighting
    rows = np.concatenate([corners[:, 1] for corners in sighting.corners_px.values()])
    late_s = (rows / max(len(frame.picture) - 1, 1) - 0.5) * readout_ns * 1e-9
    shake = history.shake_at(frame.t_ns, float((late_s**2).mean()) + (frame.exposure_ns * 1e-9) ** 2 / 12)
    return replace(sighting, camera_from_body=UncertainRigid(found.pose, found.covariance + shake))


def _still_away(sighting: Sighting[Any], history: PoseHistory[Any]) -> Sighting[Any]:
    """A body that went out of the picture is still out of view when no pose foretells it any more."""
    if history.lost_cause != "out of view":
        return sighting
    return replace(sighting, cause="out of view", reason=f"{sighting.reason} since it went out of the picture")


def _unlit(sighting: Sighting[Any], picture: NDArray[np.uint8]) -> Sighting[Any]:
    """A picture in which nothing was found because there is next to nothing in it: dark, or washed out."""
    some = picture[::8, ::8]
    dark, bright = np.percentile(some, (5, 99))
    if bright < DARK:
        words = (
            f"the whole picture is dark (99 % of it below {bright + 1:.0f} of 255); is the light off, the lens covered?"
        )
        return replace(sighting, reason=f"{sighting.reason}; {words}")
    if dark >= WASHED_OUT:
        words = "the whole picture is washed out; is the exposure too long, a lamp in front of the lens?"
        return replace(sighting, cause="glare", reason=f"{sighting.reason}; {words}")
    return sighting


def _doubted(sighting: Sighting[Any], doubt: LensDoubt) -> Sighting[Any]:
    """A pose through a lens that is no longer as calibrated says so."""
    if sighting.status == "LOST":
        return sighting
    return replace(sighting, reason=f"{sighting.reason}; {doubt.words}" if sighting.reason else doubt.words)


def _repeated(body: Body[Any], frame: Frame) -> Sighting[Any]:
    return Sighting[Any](
        body.name, frame.t_ns, "LOST", "the camera gave its last picture again", None, None, cause="camera stopped"
    )
