"""How long a 1080p picture takes: searched whole, followed from the last one, with a room full of other squares in it.

CPU time is measured beside the clock: on a shared machine the clock says little. One thread's time is what is counted,
though OpenCV may use two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from tests.bench.measure import Job, Judgement, Side
from tracking.detection.codes import code_book, find_dictionary
from tracking.detection.markers import grey, identify, squares
from tracking.frame import Frame
from tracking.sources.synthetic_source import SyntheticSource
from tracking.tracker import Tracker

NAME = "DICT_APRILTAG_36h11"
FRAMES = 12
LARGE = (1920, 1080)


def jobs() -> Iterator[Job]:
    """Each against OpenCV's detector as it comes, on the same pictures in the same run."""
    source = SyntheticSource("frames=60,size=1920x1080,fps=60")
    frames = list(islice(source, FRAMES))
    lumas = [grey(frame.picture) for frame in frames[:4]]
    yield _search("search 4 pictures of 1920 x 1080 whole, 4 tags each", lumas, [{0, 1, 2, 3}] * 4)
    rooms = [room(np.random.default_rng(k)) for k in range(3)]
    yield _search(
        "search 3 crowded rooms of 1920 x 1080 whole, 8 tags each", [g for g, _ in rooms], [t for _, t in rooms]
    )
    yield _follow(source, frames)


def _search(what: str, lumas: list[NDArray[np.uint8]], truth: list[set[int]]) -> Job:
    book = code_book(NAME)
    detector = cv2.aruco.ArucoDetector(find_dictionary(NAME), cv2.aruco.DetectorParameters())

    def ours() -> list[list[int]]:
        return [identify(luma, squares(luma), [book])[0].ids.tolist() for luma in lumas]

    def peer() -> list[list[int]]:
        found = [detector.detectMarkers(luma)[1] for luma in lumas]
        return [[] if ids is None else sorted(ids.ravel().tolist()) for ids in found]

    def judge(mine: list[list[int]], theirs: list[list[int]]) -> Judgement:
        total = sum(map(len, truth))
        figures = {"markers": float(total)}
        for who, found in (("ours", mine), ("peer", theirs)):
            right = sum(len(t & set(ids)) for t, ids in zip(truth, found, strict=True))
            figures |= {f"{who}_found": float(right), f"{who}_false": float(sum(map(len, found)) - right)}
        words = (
            f"{figures['ours_found']:.0f} of {total} found, {figures['ours_false']:.0f} wrong; "
            f"the peer {figures['peer_found']:.0f} and {figures['peer_false']:.0f}"
        )
        good = figures["ours_found"] >= figures["peer_found"] and figures["ours_false"] <= figures["peer_false"]
        return Judgement(good, words, figures)

    return Job("tracking", what, Side("quads + codes", ours), Side("cv2 ArucoDetector", peer), judge)


def _follow(source: SyntheticSource, frames: list[Frame]) -> Job:
    """The tracker from picture to picture, poses and histories included, against detecting and solving each anew."""
    body, lens = source.bodies[0], source.pinhole
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(find_dictionary(NAME), parameters)
    tracker = Tracker(lens, source.bodies, live=True)
    for frame in frames:
        tracker.see(frame)
    step_ns = frames[1].t_ns - frames[0].t_ns
    turn = [0]

    def ours() -> tuple[list[Array], list[float]]:
        """There and back again, so the motion goes on from call to call."""
        out, times = [], []
        turn[0] += 1
        start_ns = turn[0] * len(frames) * step_ns
        path = frames if turn[0] % 2 == 0 else frames[::-1]
        for k, frame in enumerate(path):
            began = time.thread_time()
            (sighting,) = tracker.see(Frame(start_ns + k * step_ns, frame.picture, frame.index))
            times.append(1e3 * (time.thread_time() - began))
            assert sighting.camera_from_body is not None
            out.append(sighting.camera_from_body.pose.translation_mm)
        return (out if turn[0] % 2 == 0 else out[::-1]), times

    def peer() -> tuple[list[Array], list[float]]:
        out, times = [], []
        for frame in frames:
            began = time.thread_time()
            quads, ids, _ = detector.detectMarkers(grey(frame.picture))
            model = np.concatenate([body.corners_mm[i] for i in ids.ravel().tolist()])
            px = np.concatenate([quad.reshape(4, 2) for quad in quads])
            _, _, shift = cv2.solvePnP(model, px, lens.matrix, np.array(lens.distortion))
            times.append(1e3 * (time.thread_time() - began))
            out.append(shift.ravel())
        return out, times

    def judge(mine: Any, theirs: Any) -> Judgement:
        apart = max(float(np.linalg.norm(a - b)) for a, b in zip(mine[0], theirs[0], strict=True))
        figures = {
            "ours_cpu_ms": float(np.median(mine[1])),
            "ours_cpu_worst_ms": max(mine[1]),
            "peer_cpu_ms": float(np.median(theirs[1])),
            "apart_mm": apart,
        }
        words = (
            f"{figures['ours_cpu_ms']:.1f} ms of CPU a picture, worst {figures['ours_cpu_worst_ms']:.1f}; the peer "
            f"{figures['peer_cpu_ms']:.1f}; poses {apart:.2f} mm apart"
        )
        return Judgement(apart < 3.0, words, figures)

    return Job(
        "tracking", f"follow a board of 4 tags through {len(frames)} pictures of 1920 x 1080",
        Side("Tracker.see, live", ours), Side("cv2 SUBPIX + solvePnP", peer), judge,
    )  # fmt: skip


def room(rng: np.random.Generator, size: tuple[int, int] = LARGE) -> tuple[NDArray[np.uint8], set[int]]:
    """A grey picture of 8 tags with sides of 30 to 120 px among blobs, splinters, words and a chessboard; their ids."""
    width, height = size
    blobs = cv2.resize(rng.uniform(60, 200, (height // 40, width // 40)), size, interpolation=cv2.INTER_CUBIC)
    picture = np.clip(blobs, 0, 255).astype(np.uint8)
    for _ in range(120):
        corners = rng.uniform((0, 0), size) + rng.uniform(-70, 70, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(picture, [corners.astype(np.int32)], float(rng.uniform(10, 245)))
    for _ in range(40):
        at = rng.uniform((0, 0), size).astype(int).tolist()
        words = f"Tag {rng.integers(1000)}"
        cv2.putText(picture, words, at, 0, float(rng.uniform(0.5, 2)), float(rng.uniform(0, 255)), 2, cv2.LINE_AA)
    chess = np.where(np.indices((height // 80, width // 80)).sum(axis=0) % 2, 225, 25).astype(np.uint8)
    chess = np.repeat(np.repeat(chess, 24, axis=0), 24, axis=1)
    picture[-len(chess) :, -chess.shape[1] :] = chess
    dictionary = find_dictionary(NAME)
    ids = rng.permutation(len(dictionary.bytesList))[:8]
    for k, marker in enumerate(ids.tolist()):
        side = int(rng.uniform(30, 120))
        tag = cv2.copyMakeBorder(
            dictionary.generateImageMarker(marker, 80), 10, 10, 10, 10, cv2.BORDER_CONSTANT, value=235
        )
        centre = np.array([(k % 4 + 0.5) * width / 4, (k // 4 + 0.5) * height / 2.6]) + rng.uniform(-40, 40, 2)
        angle, scale = rng.uniform(0, 360), side / 80
        M = cv2.getRotationMatrix2D((49.5, 49.5), angle, scale)
        M[:, 2] += centre - 49.5
        spot = cv2.warpAffine(tag, M, size, flags=cv2.INTER_AREA, borderValue=0)
        mask = cv2.warpAffine(np.full_like(tag, 255), M, size, flags=cv2.INTER_LINEAR)
        picture = np.where(mask > 127, np.maximum(spot, 15), picture)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, 2, picture.shape)
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8), set(ids.tolist())
