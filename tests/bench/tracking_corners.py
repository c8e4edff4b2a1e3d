"""Corners on rendered pictures whose truth is known, in all kinds of light, beside peers and the Cramér-Rao bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from spatial.frames import Camera
from spatial.pinhole import Pinhole
from spatial.rigid import Array, Points, Rigid
from tests.bench.measure import Job, Judgement, Side
from tests.bench.tracking_pose import DICTIONARY, LENS, OPTICS, Corners, apriltags, errors, subpix
from tests.tracking.corners import view
from tracking.bodies.body import Body, board
from tracking.detection.bound import Exposure, corner_information, pose_bound
from tracking.detection.codes import code_book, find_dictionary
from tracking.detection.edges import fit_corners
from tracking.detection.markers import Detections, detect
from tracking.pose.pose import track_body
from tracking.synthetic.camera import Optics, SyntheticCamera
from tracking.synthetic.plates import BLACK, WHITE

LENS_720 = Pinhole(1280, 720, 1100.0, 1097.0, 641.3, 358.1, LENS.distortion)
PLATE: Body[Any] = board("four tags of 40 mm", DICTIONARY, range(4), 40.0, 20.0, 2)
SMALL: Body[Any] = board("four tags of 20 mm", DICTIONARY, range(4), 20.0, 10.0, 2)
CODES = code_book(DICTIONARY).patterns(np.arange(4))
VIEWS, CONDITION_VIEWS, BOUND_VIEWS = 100, 25, 12
FORESHORTENED_PX = 3.0  # corners that a peer has further off are counted as missed, not averaged


@dataclass(frozen=True, eq=False)
class Picture:
    """One grey picture, the body's true pose and its corners' true places."""

    luma: NDArray[np.uint8]
    pose: Rigid[Camera, Any]
    truth_px: dict[int, Array]


@cache
def pictures(body: Body[Any], lens: Pinhole, optics: Optics, views: int) -> tuple[Picture, ...]:
    """A body at 0.4 to 0.8 m, tilted 5 to 55 degrees, anywhere in the picture."""
    camera, rng = SyntheticCamera(lens, [body], optics=optics, mono=True), np.random.default_rng(33)
    out = []
    for number in range(views):
        pose: Rigid[Any, Any] = view(lens, rng, (400.0, 800.0), (5.0, 55.0))
        luma = camera.shoot(number, Rigid.identity(), {body.name: pose}).frame.picture
        truth = {i: lens.project(pose @ Points(mm)) for i, mm in body.corners_mm.items()}
        out.append(Picture(luma, pose, truth))
    return tuple(out)


def refined_by_apriltag() -> Callable[[Any], Corners]:
    """OpenCV's own APRILTAG refinement, without its half pixel."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    detector = cv2.aruco.ArucoDetector(find_dictionary(DICTIONARY), parameters)

    def find(picture: Any) -> Corners:
        quads, ids, _ = detector.detectMarkers(picture)
        found = [] if ids is None else ids.ravel().tolist()
        return {int(i): q.reshape(4, 2).astype(float) - 0.5 for i, q in zip(found, quads, strict=True)}

    return find


def _off(found: Corners, picture: Picture) -> list[Array]:
    return [found[i] - truth for i, truth in picture.truth_px.items() if i in found]


def _rms(off: list[Array]) -> float:
    return float(np.sqrt(np.mean([(e**2).sum(axis=1) for e in off]))) if off else float("nan")


def corners() -> Job:
    """All views together: RMS, the worst, whether the covariance is true, and the bound."""
    some = pictures(PLATE, LENS, OPTICS, VIEWS)
    peers: dict[str, Callable[[Any], Corners]] = {"SUBPIX": subpix(), "APRILTAG": refined_by_apriltag()}
    tags = apriltags()
    if tags is not None:
        peers["pupil-apriltags"] = tags

    def ours() -> list[Detections]:
        return [detect(picture.luma, DICTIONARY, LENS) for picture in some]

    def theirs() -> list[Corners]:
        return [peers["SUBPIX"](picture.luma) for picture in some]

    def judge(found: list[Detections], peer: list[Corners]) -> Judgement:
        off, squares = [], []
        for picture, seen in zip(some, found, strict=True):
            for i, k in seen.by_id().items():
                off.append(seen.corners_px[k] - picture.truth_px[i])
                squares.append(float(((seen.whitening[k] @ off[-1].ravel()) ** 2).sum()))
        figures = {
            "found": float(len(off)), "rms_px": _rms(off), "worst_px": float(np.abs(off).max()),
            "inside_95": float(np.mean(np.array(squares) < stats.chi2.ppf(0.95, 8))),
        }  # fmt: skip
        figures |= bounds(some[:BOUND_VIEWS], found)
        for name, find in peers.items():
            answers = peer if name == "SUBPIX" else [find(picture.luma) for picture in some[:CONDITION_VIEWS]]
            wrong = [e for p, a in zip(some, answers, strict=False) for e in _off(a, p)]
            figures[f"{name}_rms_px"] = _rms([e for e in wrong if np.abs(e).max() < FORESHORTENED_PX])
        others = ", ".join(f"{name} {figures[f'{name}_rms_px']:.3f}" for name in peers)
        words = (
            f"{figures['rms_px']:.4f} px RMS, worst coordinate {figures['worst_px']:.3f}, 95 % ellipsoid holds "
            f"{100 * figures['inside_95']:.1f} %; {figures['corners_over_bound']:.2f} of the Cramer-Rao bound "
            f"({figures['bound_px']:.4f} px), the pose {figures['pose_over_bound']:.2f} of its own "
            f"({figures['pose_bound_mm']:.4f} mm, {figures['pose_bound_deg']:.4f} deg); {others}"
        )
        good = figures["rms_px"] <= 0.03 and figures["worst_px"] <= 0.3 and 0.93 <= figures["inside_95"] <= 0.985
        return Judgement(good and figures["corners_over_bound"] <= 1.5, words, figures)

    return Job(
        "tracking", f"corners of four 40 mm tags, {VIEWS} pictures of 1080p",
        Side("detect", ours), Side("cv2 ArucoDetector, SUBPIX", theirs), judge, rounds=3,
    )  # fmt: skip


def bounds(some: tuple[Picture, ...], found: list[Detections]) -> dict[str, float]:
    """Errors over what the pixels allow: each squared error over its own bound, averaged."""
    corner, least_px, pose, least_mm, least_deg = [], [], [], [], []
    for picture, seen in zip(some, found, strict=False):
        information, models, rows = [], [], seen.by_id()
        for i, k in rows.items():
            middle = picture.truth_px[i].mean(axis=0) / (LENS.width_px, LENS.height_px) - 0.5
            light = OPTICS.gain * (1 + OPTICS.gradient * (0.8 * middle[0] + 0.6 * middle[1]))
            exposure = Exposure(OPTICS.blur_px, OPTICS.noise_grey, BLACK * light, WHITE * light)
            information.append(corner_information(picture.truth_px[i], CODES[i], LENS, exposure))
            models.append(PLATE.corners_mm[i])
            least = float(np.trace(np.linalg.inv(information[-1])))
            least_px.append(least)
            corner.append(float(((seen.corners_px[k] - picture.truth_px[i]) ** 2).sum()) / least)
        if not rows:
            continue
        best = pose_bound(picture.pose, models, information, LENS)
        sighting = track_body(seen, PLATE, LENS)
        assert sighting.camera_from_body is not None, sighting.reason
        off = errors([sighting.camera_from_body.pose], [picture.pose])[0]
        pose.append(off[0] ** 2 / float(np.trace(best[3:, 3:])))
        least_mm.append(float(np.sqrt(np.trace(best[3:, 3:]))))
        least_deg.append(float(np.degrees(np.sqrt(np.trace(best[:3, :3])))))
    return {
        "corners_over_bound": float(np.sqrt(np.mean(corner))),
        "bound_px": float(np.sqrt(np.mean(least_px) / 4)),
        "pose_over_bound": float(np.sqrt(np.mean(pose))),
        "pose_bound_mm": float(np.sqrt(np.mean(np.square(least_mm)))),
        "pose_bound_deg": float(np.sqrt(np.mean(np.square(least_deg)))),
    }


CONDITIONS: dict[str, Optics] = {
    "gamma 2.2": replace(OPTICS, gamma=2.2),
    "a phone's curve": replace(OPTICS, gamma=2.2, tone=0.6),
    "sharpened": replace(OPTICS, sharpen=1.0),
    "MJPEG 85": replace(OPTICS, mjpeg=85),
    "defocus 2 px": replace(OPTICS, defocus_px=2.0),
    "defocus 3 px": replace(OPTICS, defocus_px=3.0),
    "gamma, sharpened, MJPEG 90, defocus 1.5 px": replace(OPTICS, gamma=2.2, sharpen=0.7, mjpeg=90, defocus_px=1.5),
    "paper saturated": replace(OPTICS, gain=400.0),
}


def in_light(name: str, optics: Optics, body: Body[Any] = PLATE, lens: Pinhole = LENS) -> Job:
    """The same in one kind of light, with the code inside (ours) and with the outline alone (what it is without)."""
    some = pictures(body, lens, optics, CONDITION_VIEWS)
    find = subpix()

    def ours() -> list[Detections]:
        return [detect(picture.luma, DICTIONARY, lens) for picture in some]

    def theirs() -> list[Corners]:
        return [find(picture.luma) for picture in some]

    def judge(found: list[Detections], peer: list[Corners]) -> Judgement:
        off, squares, poses, outline, thin = [], [], [], [], []
        for picture, seen in zip(some, found, strict=True):
            rows = seen.by_id()
            for i, k in rows.items():
                off.append(seen.corners_px[k] - picture.truth_px[i])
                squares.append(float(((seen.whitening[k] @ off[-1].ravel()) ** 2).sum()))
            sighting = track_body(seen, body, lens)
            poses.append(sighting.camera_from_body.pose if sighting.camera_from_body else None)
            alone = fit_corners(picture.luma, seen.corners_px, 8, lens)
            plain = Detections(DICTIONARY, seen.ids, alone.corners_px, alone.whitening, seen.method, seen.blur_px)
            outline += [alone.corners_px[k] - picture.truth_px[i] for i, k in rows.items()]
            sighting = track_body(plain, body, lens)
            thin.append(sighting.camera_from_body.pose if sighting.camera_from_body else None)
        truths = [picture.pose for picture in some]
        mine, without = errors(poses, truths), errors(thin, truths)
        wrong = [e for p, a in zip(some, peer, strict=True) for e in _off(a, p) if np.abs(e).max() < FORESHORTENED_PX]
        figures = {
            "found": float(len(off)), "rms_px": _rms(off), "worst_px": float(np.abs(off).max()),
            "inside_95": float(np.mean(np.array(squares) < stats.chi2.ppf(0.95, 8))),
            "median_mm": float(np.median(mine[:, 0])), "median_deg": float(np.median(mine[:, 1])),
            "outline_rms_px": _rms(outline), "outline_median_mm": float(np.median(without[:, 0])),
            "peer_rms_px": _rms(wrong),
        }  # fmt: skip
        words = (
            f"{figures['rms_px']:.4f} px RMS, worst {figures['worst_px']:.3f}, body {figures['median_mm']:.4f} mm / "
            f"{figures['median_deg']:.4f} deg median, 95 % ellipsoid holds {100 * figures['inside_95']:.0f} %; "
            f"by the outline alone {figures['outline_rms_px']:.3f} px, {figures['outline_median_mm']:.3f} mm; "
            f"SUBPIX {figures['peer_rms_px']:.3f} px"
        )
        return Judgement(figures["median_mm"] <= 0.1 and figures["rms_px"] <= 0.1, words, figures)

    return Job(
        "tracking", f"corners of {body.name}: {name}, {CONDITION_VIEWS} pictures of {lens.height_px}p",
        Side("detect", ours), Side("cv2 ArucoDetector, SUBPIX", theirs), judge, rounds=1,
    )  # fmt: skip


def refinement() -> Job:
    """The fit alone, from the same coarse corners."""
    some = pictures(PLATE, LENS, OPTICS, CONDITION_VIEWS)
    rng = np.random.default_rng(5)
    starts = [np.array(list(p.truth_px.values())) + rng.normal(0, 0.5, (4, 4, 2)) for p in some]
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.01)

    def ours() -> list[Array]:
        return [fit_corners(p.luma, start, CODES, LENS).corners_px for p, start in zip(some, starts, strict=True)]

    def theirs() -> list[Array]:
        out = []
        for p, start in zip(some, starts, strict=True):
            rough = start.astype(np.float32).reshape(-1, 1, 2)
            out.append(cv2.cornerSubPix(p.luma, rough, (5, 5), (-1, -1), stop).reshape(4, 4, 2).astype(float))
        return out

    def judge(fitted: list[Array], peer: list[Array]) -> Judgement:
        truth = [np.array(list(p.truth_px.values())) for p in some]
        figures = {
            "rms_px": _rms([e for f, t in zip(fitted, truth, strict=True) for e in f - t]),
            "peer_rms_px": _rms([e for f, t in zip(peer, truth, strict=True) for e in f - t]),
        }
        words = f"{figures['rms_px']:.4f} px RMS with covariance, the peer's {figures['peer_rms_px']:.3f} px"
        return Judgement(figures["rms_px"] <= 0.03, words, figures)

    return Job(
        "tracking", f"refining the corners of four tags, {CONDITION_VIEWS} times",
        Side("fit_corners", ours), Side("cv2.cornerSubPix", theirs), judge,
    )  # fmt: skip


def jobs() -> Iterator[Job]:
    """Four tags at 0.4 to 0.8 m, tilted 5 to 55 degrees; blur 0.7 px, noise 3 grey, uneven light, a bent lens."""
    yield corners()
    yield refinement()
    for name, optics in CONDITIONS.items():
        yield in_light(name, optics)
    yield in_light("small", OPTICS, SMALL, LENS_720)
