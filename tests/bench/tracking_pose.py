"""Poses on rendered pictures whose truth is known: how far off, whether the covariance is true, flips, jitter, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
from scipy import stats

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid, UncertainRigid, rotation_exp
from tests.bench.measure import Job, Judgement, Side
from tests.tracking.corners import cube, difference, distance, inside, seen, view
from tracking.bodies.body import Body, board
from tracking.detection.markers import Detections, detect, find_dictionary
from tracking.pose.pose import track_body
from tracking.pose.sighting import Sighting
from tracking.synthetic.camera import Optics, SyntheticCamera

LENS = Pinhole(1920, 1080, 1650.0, 1645.0, 962.3, 537.8, (-0.11, 0.06, 4e-4, -3e-4, 0.0))
NARROW = Pinhole(960, 540, 1650.0, 1645.0, 481.3, 268.8, LENS.distortion)
DICTIONARY = "DICT_APRILTAG_36h11"
OPTICS = Optics(0.7, 3.0, 0.3)
PLATE: Body[Any] = board("board of 4", DICTIONARY, range(4), 40.0, 20.0, 2)
TWELVE: Body[Any] = board("board of 12", DICTIONARY, range(12), 25.0, 8.0, 4)
TAG: Body[Any] = Body.single(0, DICTIONARY, 40.0)
SMALL: Body[Any] = Body.single(0, DICTIONARY, 20.0)
FRAMES = 400  # each of five kinds: 2,000 in all
FLAT = 2000
STILL = 120
FLIP_RAD = np.radians(1.0)
Corners = dict[int, Array]
Finder = Callable[[Any], Corners]


@dataclass(frozen=True, eq=False)
class Shot:
    """What was found in one picture, by us and by the peers, and the truth."""

    truth: Rigid[Camera, Any]
    ours: Detections
    peers: dict[str, Corners]


def subpix() -> Finder:
    """OpenCV's detector as its users set it up."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(find_dictionary(DICTIONARY), parameters)

    def find(picture: Any) -> Corners:
        quads, ids, _ = detector.detectMarkers(picture)
        found = [] if ids is None else ids.ravel().tolist()
        return {int(i): q.reshape(4, 2).astype(float) for i, q in zip(found, quads, strict=True)}

    return find


@cache
def tag_process() -> ProcessPoolExecutor | None:
    """Where pupil-apriltags runs: a process of its own, for it has brought others down; None if not installed."""
    if find_spec("pupil_apriltags") is None:
        return None
    return ProcessPoolExecutor(1, get_context("spawn"))


@cache
def _tag_detector() -> Any:
    from pupil_apriltags import Detector

    return Detector(families="tag36h11", nthreads=1, quad_decimate=2.0)


def tags_in(picture: Any) -> Corners:
    """The reference detector of these tags, without its constant half pixel; corners in OpenCV's order."""
    return {tag.tag_id: np.array(tag.corners)[[1, 0, 3, 2]] - 0.5 for tag in _tag_detector().detect(picture)}


def apriltags() -> Finder | None:
    """pupil-apriltags; None where it is not installed, nothing found where it crashed."""
    process = tag_process()
    if process is None:
        return None

    def find(picture: Any) -> Corners:
        try:
            return process.submit(tags_in, picture).result(60)
        except BrokenProcessPool:
            return {}

    return find


@cache
def shots(body: Body[Any], lens: Pinhole, frames: int, kind: str = "anywhere") -> tuple[Shot, ...]:
    """Pictures of a body, 5 to 55 degrees off (anywhere), up to 15 (frontal), or always the same at 600 mm (still)."""
    camera = SyntheticCamera(lens, [body], optics=OPTICS, mono=True)
    rng = np.random.default_rng(21)
    peers = {"cv2 SUBPIX": subpix()}
    tags = apriltags()
    if tags is not None:
        peers["pupil-apriltags"] = tags
    still = Rigid[Camera, Any](rotation_exp([0.4, 0.25, 0]) @ np.diag([1.0, -1, -1]), np.array([30.0, -20.0, 600.0]))
    out = []
    for number in range(frames):
        pose = view(lens, rng, (400.0, 800.0), (0.0, 15.0) if kind == "frontal" else (5.0, 55.0))
        if kind == "still":
            pose = still
        elif not body.is_flat:
            pose = Rigid(rotation_exp(rng.normal(0, 1.5, 3)), pose.translation_mm)
        picture = camera.shoot(number, Rigid.identity(), {body.name: pose}).frame.picture
        found = detect(picture, body.dictionary, lens)
        out.append(Shot(pose, found, {name: find(picture) for name, find in peers.items()}))
    return tuple(out)


def solved(body: Body[Any], corners: Corners, lens: Pinhole) -> Rigid[Camera, Any] | None:
    """OpenCV's pose of corners."""
    ids = [i for i in corners if i in body.corners_mm]
    if not ids:
        return None
    mm, px = np.concatenate([body.corners_mm[i] for i in ids]), np.concatenate([corners[i] for i in ids])
    flag = cv2.SOLVEPNP_IPPE_SQUARE if len(body.corners_mm) == 1 else cv2.SOLVEPNP_ITERATIVE
    good, turn, shift = cv2.solvePnP(mm, px, lens.matrix, np.array(lens.distortion), flags=flag)
    return Rigid(cv2.Rodrigues(turn)[0], shift.ravel()) if good else None


def errors(poses: list[Rigid[Camera, Any] | None], truths: list[Rigid[Camera, Any]]) -> Array:
    """(n, 2): mm and degrees of those that were found."""
    off = [difference(p, t) for p, t in zip(poses, truths, strict=True) if p is not None]
    return np.array([[np.linalg.norm(e[3:]), np.degrees(np.linalg.norm(e[:3]))] for e in off])


def bound(body: Body[Any], some: tuple[Shot, ...], lens: Pinhole) -> Array:
    """(n, 2): the RMS error that the corners' own covariance allows: (J^T C^-1 J)^-1 at the truth, by differences."""
    out = []
    for shot in some:
        information = np.zeros((6, 6))
        for marker, row in shot.ours.by_id().items():
            J = np.empty((8, 6))
            for k in range(6):
                step = np.zeros(6)
                step[k] = 1e-6 if k < 3 else 1e-3
                sides = []
                for sign in (1.0, -1.0):
                    R = rotation_exp(sign * step[:3]) @ shot.truth.rotation
                    pose = Rigid[Camera, Any](R, shot.truth.translation_mm + sign * step[3:])
                    sides.append(lens.project(pose @ Points(body.corners_mm[marker])).ravel())
                J[:, k] = (sides[0] - sides[1]) / (2 * step[k])
            whitened = shot.ours.whitening[row] @ J
            information += whitened.T @ whitened
        cov = np.linalg.inv(information)
        out.append([np.sqrt(np.trace(cov[3:, 3:])), np.degrees(np.sqrt(np.trace(cov[:3, :3])))])
    return np.array(out)


def accuracy(body: Body[Any], what: str, median: tuple[float, float], p99_mm: float | None, name: str) -> Job | None:
    """How far off the pose is, ours and a peer's, on the same pictures."""
    some = shots(body, LENS, FRAMES)
    if not any(shot.peers.get(name) for shot in some):
        return None
    truths = [shot.truth for shot in some]

    def ours() -> list[Sighting[Any]]:
        return [track_body(shot.ours, body, LENS) for shot in some]

    def theirs() -> list[Rigid[Camera, Any] | None]:
        return [solved(body, shot.peers[name], LENS) for shot in some]

    def judge(found: list[Sighting[Any]], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
        poses = [s.camera_from_body.pose if s.camera_from_body else None for s in found]
        mine, other = errors(poses, truths), errors(peer, truths)
        least = bound(body, some, LENS)
        flips = sum(s.camera_from_body is not None and _flipped(s, t) for s, t in zip(found, truths, strict=True))
        figures = {
            "found": float(len(mine)), "peer_found": float(len(other)),
            "median_mm": float(np.median(mine[:, 0])), "median_deg": float(np.median(mine[:, 1])),
            "p99_mm": float(np.percentile(mine[:, 0], 99)), "flips": float(flips),
            "peer_median_mm": float(np.median(other[:, 0])), "peer_median_deg": float(np.median(other[:, 1])),
            "peer_p99_mm": float(np.percentile(other[:, 0], 99)),
            "rms_over_bound": float(np.sqrt(np.mean((mine[:, 0] / least[: len(mine), 0]) ** 2)))
            if len(mine) == len(least) else float("nan"),
        }  # fmt: skip
        words = (
            f"{figures['median_mm']:.4f} mm / {figures['median_deg']:.4f} deg median, p99 {figures['p99_mm']:.3f} mm, "
            f"{flips} flips, {figures['rms_over_bound']:.2f} of the corners' bound; the peer "
            f"{figures['peer_median_mm']:.3f} / {figures['peer_median_deg']:.4f}, p99 {figures['peer_p99_mm']:.2f} mm"
        )
        good = figures["median_mm"] <= median[0] and figures["median_deg"] <= median[1] and not flips
        good = good and len(mine) == len(some) and (p99_mm is None or figures["p99_mm"] <= p99_mm)
        return Judgement(good, words, figures)

    return Job(
        "tracking", f"pose of {what} from found corners, {FRAMES} pictures of 1080p",
        Side("track_body (with covariance)", ours), Side(f"{name} + solvePnP", theirs), judge, rounds=3,
    )  # fmt: skip


def _flipped(sighting: Sighting[Any], truth: Rigid[Camera, Any]) -> bool:
    """Off by more than a degree and beyond what its covariance covers by far, without having said so."""
    found = sighting.camera_from_body
    assert found is not None
    off = difference(found.pose, truth)
    return sighting.cause is None and bool(np.linalg.norm(off[:3]) > FLIP_RAD and distance(found, truth) > 60.0)


def honesty() -> Job:
    """Squared Mahalanobis distances of 2,000 rendered frames against chi-square."""
    kinds: list[tuple[str, Body[Any], Pinhole]] = [
        ("board", PLATE, LENS),
        ("board, ideal lens", PLATE, LENS.undistorted()),
        ("cube", cube(), LENS),
        ("tag", TAG, LENS),
        ("board of 12", TWELVE, LENS),
    ]
    taken = {name: (body, lens, shots(body, lens, FRAMES)) for name, body, lens in kinds}

    def run() -> dict[str, tuple[list[float], int]]:
        out = {}
        for name, (body, lens, some) in taken.items():
            distances, doubtful = [], 0
            for shot in some:
                sighting = track_body(shot.ours, body, lens)
                if sighting.camera_from_body is None or sighting.cause is not None:
                    doubtful += 1
                else:
                    distances.append(distance(sighting.camera_from_body, shot.truth))
            out[name] = distances, doubtful
        return out

    def judge(found: dict[str, tuple[list[float], int]], _: None) -> Judgement:
        figures, words = {}, []
        everything = [d for distances, _ in found.values() for d in distances]
        for name, (distances, doubtful) in found.items():
            figures[f"{name}: inside 95 %"] = inside(distances)
            figures[f"{name}: mean"] = float(np.mean(distances))
            words.append(f"{name} {100 * inside(distances):.1f} % ({np.mean(distances):.1f}, {doubtful} undecided)")
        share = inside(everything)
        figures["inside 95 %"] = share
        figures["kolmogorov"] = float(stats.kstest(everything, stats.chi2(6).cdf).statistic)
        total = (
            f"the 95 % ellipsoid holds {100 * share:.1f} % of {len(everything)}; mean squared distance (6 is exact): "
        )
        return Judgement(0.93 <= share <= 0.97, total + ", ".join(words), figures)

    side = Side("track_body", run)
    return Job("tracking", "covariance of the pose against chi-square", side, None, judge, 1, "no peer gives one")


def robustness() -> Job:
    """The same with a marker hidden, and with one a millimetre or two off its place."""
    some = shots(PLATE, LENS, FRAMES)

    def run() -> dict[str, list[float]]:
        rng = np.random.default_rng(5)
        out: dict[str, list[float]] = {"hidden": [], "off": []}
        for shot in some:
            row = int(rng.integers(len(shot.ours)))
            rows = np.arange(len(shot.ours)) != row
            corners = shot.ours.corners_px.copy()
            corners[row] += rng.normal(0, 4.0, 2)
            for name, found in (("hidden", shot.ours.where(rows)), ("off", replace(shot.ours, corners_px=corners))):
                pose = track_body(found, PLATE, LENS).camera_from_body
                out[name].append(np.inf if pose is None else distance(pose, shot.truth))
        return out

    def judge(found: dict[str, list[float]], _: None) -> Judgement:
        figures = {name: inside(distances) for name, distances in found.items()}
        words = "the 95 % ellipsoid holds " + ", ".join(f"{100 * v:.1f} % with one {k}" for k, v in figures.items())
        return Judgement(all(0.92 <= v <= 0.98 for v in figures.values()), words, figures)

    side = Side("track_body", run)
    return Job("tracking", f"board of 4, one marker hidden or off, {FRAMES} pictures", side, None, judge, 1,
               "no peer gives a covariance")  # fmt: skip


def flips() -> Job:
    """A lone 20 mm tag within 15 degrees of frontal: how often is a flip taken for the truth?"""
    some = shots(SMALL, NARROW, FLAT, "frontal")
    truths = [shot.truth for shot in some]

    def ours() -> list[Sighting[Any]]:
        return [track_body(shot.ours, SMALL, NARROW) for shot in some]

    def theirs() -> list[Rigid[Camera, Any] | None]:
        return [solved(SMALL, shot.peers["cv2 SUBPIX"], NARROW) for shot in some]

    def judge(found: list[Sighting[Any]], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
        wrong = sum(_flipped(s, t) for s, t in zip(found, truths, strict=True) if s.camera_from_body)
        unsure = [(s, t) for s, t in zip(found, truths, strict=True) if s.cause == "ambiguous"]
        held = [s.camera_from_body is not None and distance(s.camera_from_body, t) < 12.6 for s, t in unsure]
        lost = sum(s.camera_from_body is None for s in found)
        off = errors(peer, truths)
        theirs_wrong = int((off[:, 1] > 5.0).sum())
        figures = {"flips": float(wrong), "ambiguous": float(len(unsure)), "lost": float(lost),
                   "peer_beyond_5_deg": float(theirs_wrong)}  # fmt: skip
        words = (
            f"{wrong} flips taken for the truth, {len(unsure)} called ambiguous "
            f"({100 * float(np.mean(held)) if held else 100:.0f} % within their covariance), {lost} lost; "
            f"the peer is off by more than 5 deg in {theirs_wrong}"
        )
        return Judgement(wrong == 0, words, figures)

    return Job(
        "tracking", f"flips of a lone 20 mm tag near frontal, {FLAT} pictures",
        Side("track_body", ours), Side("cv2 SUBPIX + IPPE_SQUARE", theirs), judge, rounds=1,
    )  # fmt: skip


def jitter() -> Job:
    """A board that stands still at 600 mm."""
    some = shots(PLATE, LENS, STILL, "still")

    def ours() -> list[UncertainRigid[Camera, Any] | None]:
        return [track_body(shot.ours, PLATE, LENS).camera_from_body for shot in some]

    def theirs() -> list[Rigid[Camera, Any] | None]:
        return [solved(PLATE, shot.peers["cv2 SUBPIX"], LENS) for shot in some]

    def judge(found: list[UncertainRigid[Camera, Any] | None], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
        sides = {"": [f.pose for f in found if f is not None], "peer_": [p for p in peer if p is not None]}
        figures = {}
        for who, poses in sides.items():
            off = np.array([difference(p, some[0].truth) for p in poses])
            figures[f"{who}mm"] = float(off[:, 3:].std(axis=0).max())
            figures[f"{who}deg"] = float(np.degrees(off[:, :3].std(axis=0).max()))
        words = (
            f"sd of the worst axis {figures['mm']:.4f} mm / {figures['deg']:.4f} deg, "
            f"the peer {figures['peer_mm']:.4f} / {figures['peer_deg']:.4f}"
        )
        good = len(sides[""]) == len(some) and figures["mm"] <= 0.015 and figures["deg"] <= 0.015
        return Judgement(good, words, figures)

    return Job(
        "tracking", f"jitter of a still board of 4 at 600 mm, {STILL} pictures of 1080p",
        Side("track_body", ours), Side("cv2 SUBPIX + solvePnP", theirs), judge, rounds=1,
    )  # fmt: skip


def speed(body: Body[Any], tracking: bool) -> Job:
    """Time for a pose alone, from the same corners; while tracking the earlier pose is known to both."""
    rng = np.random.default_rng(3)
    lens = LENS
    poses = [view(lens, rng, (400.0, 800.0), (5.0, 55.0)) for _ in range(20)]
    found = [seen(body, pose, lens, rng) for pose in poses]
    spread = np.diag([0.01**2] * 3 + [1.0] * 3)
    priors = [UncertainRigid(pose, spread) for pose in poses]
    mm = np.concatenate(list(body.corners_mm.values()))
    bend = np.array(lens.distortion)

    def ours() -> list[Rigid[Camera, Any] | None]:
        out = []
        for seen_now, prior in zip(found, priors, strict=True):
            pose = track_body(seen_now, body, lens, prior=prior if tracking else None).camera_from_body
            out.append(None if pose is None else pose.pose)
        return out

    def theirs() -> list[Rigid[Camera, Any] | None]:
        out: list[Rigid[Camera, Any] | None] = []
        for seen_now, prior in zip(found, priors, strict=True):
            px = seen_now.corners_px.reshape(-1, 2)
            turn, shift = cv2.Rodrigues(prior.pose.rotation)[0], prior.pose.translation_mm.copy()
            if tracking:
                _, turn, shift = cv2.solvePnP(mm, px, lens.matrix, bend, turn, shift, useExtrinsicGuess=True)
            else:
                _, turn, shift = cv2.solvePnP(mm, px, lens.matrix, bend)
            out.append(Rigid[Camera, Any](cv2.Rodrigues(turn)[0], shift.ravel()))
        return out

    def judge(mine: list[Rigid[Camera, Any] | None], peer: list[Rigid[Camera, Any] | None]) -> Judgement:
        a, b = errors(mine, poses), errors(peer, poses)
        words = f"both within {max(a[:, 0].max(), b[:, 0].max()):.2f} mm; ours with covariance, outliers, both minima"
        figures = {"median_mm": float(np.median(a[:, 0])), "peer_median_mm": float(np.median(b[:, 0]))}
        return Judgement(len(a) == len(poses) and a[:, 0].max() < 1.0, words, figures)

    how = "tracking" if tracking else "from nothing"
    return Job(
        "tracking", f"pose alone, {body.name}, {how}, 20 times", Side("track_body", ours),
        Side("cv2 solvePnP (pose only)", theirs), judge,
    )  # fmt: skip


def jobs() -> Iterator[Job]:
    """Accuracy beside the peers, honesty of the covariance, flips, jitter, time."""
    for name in ("cv2 SUBPIX", "pupil-apriltags"):
        for job in (
            accuracy(PLATE, "a board of four 40 mm tags", (0.02, 0.01), 0.1, name),
            accuracy(TAG, "one 40 mm tag", (0.08, 0.05), None, name),
        ):
            if job is not None:
                yield job
    yield honesty()
    yield robustness()
    yield flips()
    yield jitter()
    for body in (PLATE, TWELVE):
        yield speed(body, True)
        yield speed(body, False)
