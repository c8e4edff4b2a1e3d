"""Where the cameras of a rig stand, from pictures of one board that they took at the same instants.

The rig's frame is the first camera's. A bundle over the cameras' places and the board's pose at each instant, the
lenses held: corners whitened by their covariance, Geman-McClure weights, an excess variance where the residuals ask
for it. The lenses' own uncertainty is carried into the places' covariance afterwards. Then the result is tried: on
instants that were left out, by the distance of corresponding corners from each other's epipolar lines; and in time: a
camera that is late sees a moving board where it was, which the board's own speed tells apart from a wrong place. The
places take up what a wrong lens does, so each lens is held against its own camera's views of the board first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial.faults import Fault
from spatial.frames import Camera
from spatial.pinhole import BadLens
from spatial.rigid import Array, Points, Rigid, UncertainRigid, mean_rigid, rotation_exp, rotation_log, skew
from tracking.calibration.board import Board
from tracking.calibration.board_view import BoardView
from tracking.calibration.camera_file import Calibrated
from tracking.calibration.camera_fit import NoFit, board_pose
from tracking.calibration.drift import FocalDrift, LensChange, focal_drift, lens_change
from tracking.calibration.lens_model import MODELS, model_of
from tracking.calibration.model_choice import BOARD_SD_MM
from tracking.calibration.recheck import as_fit
from tracking.calibration.rig_solver import Lens, Rig, Shot, Solved, fit_rig, gather, slopes

FEWEST = 6
NEIGHBOUR_NS = 500_000_000  # the board's speed is taken from instants and places so near to each other
NEIGHBOUR_RAD, NEIGHBOUR_MM = 0.25, 40.0
SAME_PX = 0.1  # two cameras never see all corners of a board so nearly in the same places
OTHER_LENS = 30.0  # squared distance of (focal length, centre) from the file's, 3 degrees: one in a million by chance


class TooFewShots(Fault):
    """Too few instants at which two cameras saw the board."""


class PoorRig(Fault):
    """Cameras whose places can't be had from these pictures: not synchronous, not rigid, too uncertain."""


@dataclass(frozen=True, eq=False)
class RigCalibration:
    """`rig_from_camera` of every camera (the first is the rig, exact), with what they were tried by.

    `late_ms`, `late_sd_ms`: how late each camera is behind the first; the sd is inf where the board hardly moved or
    jumped. `late_mm`: by how much that moves a point at the working distance between the cameras, the worst one's.
    `predicted_mm`: 95 % of the errors that the places' covariance makes at the working distance, the worst camera's.
    `doubts`: lenses that may be others than their files', and why that can't be settled from these pictures.
    """

    rig_from_camera: tuple[UncertainRigid[Camera, Camera], ...]
    shots: int
    common: tuple[int, ...]
    rms_px: tuple[float, ...]
    excess_px: float
    held_out_px: float
    epipolar_px: float
    late_ms: tuple[float, ...]
    late_sd_ms: tuple[float, ...]
    late_mm: float
    predicted_mm: float
    doubts: tuple[str, ...] = ()


def calibrate_rig(
    shots: Sequence[Shot],
    cameras: Sequence[Calibrated],
    board: Board,
    *,
    limit_mm: float = 0.3,
    sync_ms: float = 2.0,
    working_mm: float = 600.0,
) -> RigCalibration:
    """`shots`: at each instant the views by camera number. Raises TooFewShots, PoorRig, NoFit, BadLens."""
    shots = [shot for shot in shots if len(shot) > 1]
    common = tuple(sum(c in shot for shot in shots) for c in range(len(cameras)))
    if len(shots) < FEWEST or min(common) < FEWEST:
        few = ", ".join(f"camera {c + 1}: {count}" for c, count in enumerate(common))
        raise TooFewShots(
            f"the board was seen at once by two cameras in {len(shots)} instants ({few}), {FEWEST} are needed for "
            "each camera, 15 are good; hold the board where the pictures overlap"
        )
    _check_apart(shots, len(cameras))
    doubts = [
        _check_lens(c + 1, [shot[c] for shot in shots if c in shot], camera, board, limit_mm, working_mm)
        for c, camera in enumerate(cameras)
    ]
    if board.half_turn_alike:
        shots = _turned_alike(shots, cameras, board)
    lenses = [_lens(camera) for camera in cameras]
    start = _start(shots, cameras, board)
    rig, seen, excess_px2, squares = fit_rig(shots, lenses, board, start)
    whole = Solved.of(rig, seen, lenses, excess_px2, _twists(shots, rig))
    covariances = whole.places(cameras, lenses)
    late, late_sd, moved = whole.late()
    late_mm = max(float(np.linalg.norm(m[3:] + np.cross(m[:3], [0.0, 0.0, working_mm]))) for m in moved)
    found = [UncertainRigid[Camera, Camera](Rigid.identity(), np.zeros((6, 6)))]
    for (R, t), covariance in zip(rig.cameras[1:], covariances, strict=True):
        found.append(UncertainRigid[Camera, Camera](Rigid(R, t), covariance).inverse())
    predicted = max(_reach95(place, working_mm) for place in found[1:])
    held, epipolar = _held_out(shots, cameras, lenses, board, rig)
    by_camera = [
        np.concatenate([s for row, views in zip(squares, seen, strict=True) for s, v in zip(row, views, strict=True)
                        if v.camera == c])
        for c in range(len(cameras))
    ]  # fmt: skip
    rms = tuple(float(np.sqrt(np.minimum(s, 9 * np.median(s) / 0.693).mean())) for s in by_camera)
    done = RigCalibration(
        tuple(found), len(shots), common, rms, float(np.sqrt(excess_px2)), held, epipolar,
        (0.0, *(1e3 * v for v in late)), (0.0, *(1e3 * v for v in late_sd)), late_mm,
        predicted, tuple(words for words in doubts if words is not None),
    )  # fmt: skip
    _judge(done, limit_mm, sync_ms)
    return done


def _check_apart(shots: Sequence[Shot], cameras: int) -> None:
    """Raise PoorRig where two sources are one: most of their pictures have all corners in the same places."""
    for a in range(cameras):
        for b in range(a + 1, cameras):
            pairs = [(shot[a], shot[b]) for shot in shots if a in shot and b in shot]
            same = sum(_same(one, other) for one, other in pairs)
            if same > len(pairs) / 2:
                raise PoorRig(
                    f"cameras {a + 1} and {b + 1} see the board in the same pixels in {same} of {len(pairs)} instants: "
                    "the two sources show the very same pictures; was one of them named twice, or copied?"
                )


def _same(one: BoardView, other: BoardView) -> bool:
    return (
        one.size_px == other.size_px
        and np.array_equal(one.ids, other.ids)
        and bool(np.abs(one.corners_px - other.corners_px).max() < SAME_PX)
    )


def _check_lens(
    number: int, views: Sequence[BoardView], camera: Calibrated, board: Board, limit_mm: float, working_mm: float
) -> str | None:
    """Raise PoorRig where a camera's own views of the board show another lens, by more than the limit.

    What the file does not know counts as chance, and so does what its views contradict each other by. A board that is
    bent looks like another focal length: where that can't be told apart, words are returned instead.
    """
    fit = as_fit(camera, views, board)
    flat = lens_change(views, board.points_mm, fit)
    drift = focal_drift(views, board.points_mm, fit)
    suspected = _suspicion(flat, drift, camera, len(views), limit_mm, working_mm)
    if suspected is None:
        return None
    bent = lens_change(views, board.points_mm, fit, board_sd_mm=BOARD_SD_MM)
    sure = _suspicion(bent, drift, camera, len(views), limit_mm, working_mm)
    if sure is None:
        return (
            f"camera {number}: either the board is bent by some tenths of a millimetre, or {suspected}; "
            "`calibrate check` this camera with another board"
        )
    raise PoorRig(
        f"camera {number}: by its own pictures of the board {sure}; is it another camera's file, or was the focus "
        "moved?"
    )


def _suspicion(
    found: LensChange, drift: FocalDrift, camera: Calibrated, views: int, limit_mm: float, working_mm: float
) -> str | None:
    """How far the lens is from its file, in words; None where that is chance or does not matter."""
    # a file that tells no covariance is taken to stand on as many pictures as these
    chance = (1.0 if camera.names else 2.0) + (drift.scatter / found.focal_sd) ** 2 / views
    lens = camera.pinhole
    # the camera's place takes up a wrong centre, all but its change from the picture's middle to half way to the rim
    bend = (lens.width_px / lens.fx_px / 4) ** 2 * np.hypot(*found.centre_px) / lens.fx_px
    error_mm = working_mm * (abs(found.focal) + float(bend))
    if found.chi2 <= OTHER_LENS * chance or error_mm <= limit_mm:
        return None
    sd = np.sqrt(chance) * np.array([found.focal_sd, *found.centre_sd_px])
    return (
        f"its focal length is {found.focal:+.2%} (sd {sd[0]:.2%}) from its file's, its centre "
        f"{found.centre_px[0]:+.1f}, {found.centre_px[1]:+.1f} px (sd {sd[1]:.1f}, {sd[2]:.1f}), which is "
        f"{error_mm:.1f} mm at {working_mm:g} mm, limit {limit_mm:g}"
    )


def _judge(done: RigCalibration, limit_mm: float, sync_ms: float) -> None:
    for c, (late, sd) in enumerate(zip(done.late_ms, done.late_sd_ms, strict=True)):
        if abs(late) > 4 * sd and (abs(late) > sync_ms or done.late_mm > limit_mm / 3):
            raise PoorRig(
                f"camera {c + 1} is {late:+.1f} ms (sd {sd:.1f}) behind the first, which moves the rig by "
                f"{done.late_mm:.2f} mm: the pictures are not of the same instants; trigger the cameras together, or "
                "hold the board still for each picture"
            )
    fitted = float(np.sqrt(np.mean(np.square(done.rms_px))))
    if fitted > 1.5 or done.excess_px > 1.0:
        raise PoorRig(
            f"residual {fitted:.2f} px, 1.5 px is the limit; were the cameras' files made with these lenses, did the "
            "rig or the board bend, were all pictures of one instant?"
        )
    if done.held_out_px > 1.6 * fitted + 0.05:
        raise PoorRig(
            f"instants that were left out have residuals of {done.held_out_px:.2f} px, fitted ones {fitted:.2f} px; "
            "did the cameras move against each other?"
        )
    if done.predicted_mm > limit_mm:
        raise PoorRig(
            f"predicted error between the cameras {done.predicted_mm:.2f} mm (95 %), limit {limit_mm:g} mm; more "
            "pictures, the board larger and tilted, better camera files"
        )


def _lens(camera: Calibrated) -> Lens:
    named = [m for m in MODELS.values() if m.lens == camera.pinhole.lens and m.names == camera.names]
    model = named[0] if named else model_of(camera.pinhole)
    return model, model.parameters(camera.pinhole)


def _pose(view: BoardView, camera: Calibrated, board: Board) -> Rigid[Camera, Camera]:
    (R, t), _ = board_pose(view, board.points_mm, camera.pinhole)
    return Rigid[Camera, Camera](R, t)


def _turned_alike(shots: Sequence[Shot], cameras: Sequence[Calibrated], board: Board) -> list[Shot]:
    """A board that looks the same upside down: count its corners from the same end in every camera."""
    last = len(board.points_mm) - 1

    def flipped(view: BoardView) -> BoardView:
        order = np.argsort(last - view.ids)
        return BoardView(
            view.name, (last - view.ids)[order], view.corners_px[order], view.covariance_px2[order], view.size_px,
            view.t_ns, view.blur_px,
        )  # fmt: skip

    out = [dict(shot) for shot in shots]
    for c in range(1, len(cameras)):
        here = [k for k, shot in enumerate(out) if c in shot and 0 in shot]
        if not here:
            continue
        options = []
        for k in here:
            first = _pose(out[k][0], cameras[0], board)
            options.append([first @ _pose(v, cameras[c], board).inverse() for v in (out[k][c], flipped(out[k][c]))])
        candidates = options[0]

        def gap(a: Rigid[Camera, Camera], b: Rigid[Camera, Camera]) -> float:
            return float(np.linalg.norm(rotation_log(a.rotation.T @ b.rotation)))

        best = min(candidates, key=lambda one: sum(min(gap(one, o) for o in pair) for pair in options))
        for k, pair in zip(here, options, strict=True):
            if gap(best, pair[1]) < gap(best, pair[0]):
                out[k][c] = flipped(out[k][c])
    return list(out)


def _start(shots: Sequence[Shot], cameras: Sequence[Calibrated], board: Board) -> Rig:
    """Places by the mean over shared instants, from camera to camera; then the board at each instant."""
    poses = [{c: _pose(view, cameras[c], board) for c, view in shot.items()} for shot in shots]
    rig: dict[int, Rigid[Camera, Camera]] = {0: Rigid.identity()}
    while len(rig) < len(cameras):
        links: dict[int, list[Rigid[Camera, Camera]]] = {}
        for shot in poses:
            for c in shot:
                for known in rig:
                    if c not in rig and known in shot:
                        links.setdefault(c, []).append(shot[c] @ shot[known].inverse() @ rig[known])
        if not links:
            missing = [c + 1 for c in range(len(cameras)) if c not in rig]
            raise TooFewShots(
                f"camera {missing[0]} never saw the board together with a camera that is linked to the first"
            )
        c, found = max(links.items(), key=lambda item: len(item[1]))
        middle = np.median([m.translation_mm for m in found], axis=0)
        near = sorted(found, key=lambda m: float(np.linalg.norm(m.translation_mm - middle)))
        rig[c] = mean_rigid(near[: len(near) // 2 + 1])
    boards = []
    for shot in poses:
        c = min(shot)
        back = rig[c].inverse() @ shot[c]
        boards.append((back.rotation, back.translation_mm))
    return Rig([(rig[c].rotation, rig[c].translation_mm) for c in range(len(cameras))], boards)


def _twists(shots: Sequence[Shot], rig: Rig) -> list[Array | None]:
    """The board's velocity at each instant from its neighbours in time; None where they are too far off."""
    t_ns = [min(v.t_ns for v in shot.values()) for shot in shots]
    order = np.argsort(t_ns)
    out: list[Array | None] = [None] * len(shots)
    for before, here, after in zip(order, order[1:], order[2:], strict=False):
        span = t_ns[after] - t_ns[before]
        if 0 < span < 2 * NEIGHBOUR_NS:
            (Ra, ta), (Rb, tb) = rig.boards[before], rig.boards[after]
            turn, way = rotation_log(Rb @ Ra.T), tb - ta
            if np.linalg.norm(turn) < 2 * NEIGHBOUR_RAD and np.linalg.norm(way) < 2 * NEIGHBOUR_MM:
                out[int(here)] = np.concatenate([turn, way]) / (span * 1e-9)
    return out


def _reach95(place: UncertainRigid[Camera, Camera], working_mm: float) -> float:
    """95 % of the error of a point on the camera's axis at the working distance."""
    covariance = place.point_covariance(Points[Camera](np.array([0.0, 0.0, working_mm])))
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(3), covariance, 2000, method="eigh")
    return float(np.quantile(np.linalg.norm(draws, axis=1), 0.95))


def _held_out(
    shots: Sequence[Shot], cameras: Sequence[Calibrated], lenses: Sequence[Lens], board: Board, rig: Rig
) -> tuple[float, float]:
    """RMS px at instants that the fit had not seen: residuals with the board's pose free, and epipolar distances."""
    residuals, distances = [], []
    for fold in range(2):
        kept = [k for k in range(len(shots)) if k % 2 != fold]
        out = [k for k in range(len(shots)) if k % 2 == fold]
        try:
            part, _, _, _ = fit_rig(
                [shots[k] for k in kept], lenses, board, Rig(rig.cameras, [rig.boards[k] for k in kept])
            )
        except (NoFit, BadLens):
            continue
        for k in out:
            views = gather([shots[k]], board)
            there = Rig(part.cameras, [rig.boards[k]])
            for _ in range(6):
                solved = Solved.of(there, views, lenses, 1e-4, None)
                step = np.linalg.solve(solved.pose[0], solved.pose_right[0])
                R, t = there.boards[0]
                there = Rig(part.cameras, [(rotation_exp(step[:3]) @ R, t + step[3:])])
            for v in views[0]:
                residuals.append((slopes(v, there, 0, lenses[v.camera])[0] ** 2).sum(axis=1))
            distances += _epipolar(shots[k], cameras, part)
    if not residuals:
        return float("inf"), float("inf")
    flat, lines = np.concatenate(residuals), np.concatenate(distances)
    flat = np.minimum(flat, 9 * np.median(flat) / 0.693)
    return float(np.sqrt(flat.mean())), float(np.sqrt((lines**2).mean()))


def _epipolar(shot: Shot, cameras: Sequence[Calibrated], rig: Rig) -> list[Array]:
    """Distances px of each camera's corners from the lines that the first of the shot's cameras gives them."""
    first, *others = sorted(shot)
    out = []
    for c in others:
        _, a, b = np.intersect1d(shot[first].ids, shot[c].ids, return_indices=True)
        if not len(a):
            continue
        Ra, ta = rig.cameras[first]
        Rb, tb = rig.cameras[c]
        R = Rb @ Ra.T
        E = skew(tb - R @ ta) @ R
        x, y = (
            np.concatenate([cameras[i].pinhole.normalised(shot[i].corners_px[rows]), np.ones((len(rows), 1))], axis=1)
            for i, rows in ((first, a), (c, b))
        )
        lines = x @ E.T
        out.append((y * lines).sum(axis=1) / np.linalg.norm(lines[:, :2], axis=1) * cameras[c].pinhole.fx_px)
    return out
