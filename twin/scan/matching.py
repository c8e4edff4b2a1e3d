"""Another scan of the same patient brought onto the twin: rigid, by mutual information, from many starts.

Mattes' mutual information (IEEE Trans Med Imaging 2003;22:120), because an MR's grey values are no Hounsfield units.
Its great danger in a spine is the slip by a level: vertebrae look alike. So starts lie all along the body, each is
followed to its end, and the best end must beat every rival that lies elsewhere; else the answer is refused. How well
the best end is known is measured: it is left and found again several times, with other samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.frames import Patient, Series
from spatial.progress import Progress, part, silent
from spatial.rigid import Array, Points, Rigid
from twin.scan.placings import about, placings
from twin.scan.volume import Grid, Volume

COARSE_MM, MIDDLE_MM, FINE_MM = 4.0, 2.5, 1.5  # to try placings, to follow them, to end
BINS = 32
SAMPLES = 15_000
FOLLOWED = 6  # of the placings that were tried, the best
SAME_MM = 4.0  # ends nearer than this (mean over the bone) are the same answer
LEAST_LEAD = 0.06  # of the best end over the best rival, as a share of the best
LEAST_INFORMATION = 0.12  # nat
LEAST_OVERLAP = 0.6  # of the bone within the other scan
AGAIN = 3  # the best end is left and found again
LEFT_MM, LEFT_RAD = 1.5, np.deg2rad(1.5)
MOST_SPREAD_MM = 1.5
VOXEL_SHARE = 0.08  # of the coarsest voxel edge of either scan: what all restarts have in common
SEED = 20


class NotMatched(Fault):
    """Two scans that could not be brought together with enough evidence."""


@dataclass(frozen=True, eq=False)
class Matched:
    """How another scan lies on the twin, with the evidence.

    `sd_mm`: one sigma of a bone point's place, from repeated registrations and the voxels. `information_nat` is the
    mutual information at the end, `rival_nat` the best that was found elsewhere (None: nothing else was found),
    `overlap` the share of the bone that the other scan shows.
    """

    patient_from_series: Rigid[Patient, Series]
    sd_mm: float
    information_nat: float
    rival_nat: float | None
    overlap: float

    def to_json(self) -> dict[str, Any]:
        """As the commands print it."""
        return {
            "patient_from_series": self.patient_from_series.to_json(),
            "sd_mm": round(self.sd_mm, 3),
            "information_nat": round(self.information_nat, 4),
            "rival_nat": None if self.rival_nat is None else round(self.rival_nat, 4),
            "overlap": round(self.overlap, 3),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Matched:
        """Inverse of `to_json`; raises KeyError on a value of another shape."""
        return cls(
            Rigid[Patient, Series].from_json(value["patient_from_series"]),
            float(value["sd_mm"]),
            float(value["information_nat"]),
            None if value["rival_nat"] is None else float(value["rival_nat"]),
            float(value["overlap"]),
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans ready to be compared around some bone points (N, 3), Patient mm."""

    fixed: SimpleITK.Image
    mask: SimpleITK.Image
    moving: SimpleITK.Image
    points_mm: Array
    voxel_mm: float
    counted: int  # voxels of the mask

    @classmethod
    def of(
        cls,
        volume: Volume,
        near: NDArray[np.bool_],
        moving: Volume,
        points: Points[Patient],
        step_mm: float,
        prepared: SimpleITK.Image | None = None,
    ) -> Pair:
        """The twin's CT and its mask (k, j, i) of what counts, cropped and at `step_mm`; the other scan likewise.

        `prepared` is the other scan at that step, where there is one already.
        """
        k, j, i = (np.flatnonzero(near.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        if not len(k):
            raise NotMatched("no bone to register to")
        box = tuple(slice(int(v[0]), int(v[-1]) + 1) for v in (k, j, i))
        size = tuple(s.stop - s.start for s in reversed(box))
        grid = volume.grid.cropped((box[2].start, box[1].start, box[0].start), (size[0], size[1], size[2]))
        fixed = _resampled(_image(volume.hu[box].astype(np.float32), grid), step_mm)
        mask = _resampled(_image(near[box].astype(np.float32), grid), step_mm) > 0.4
        other = at_step(moving, step_mm) if prepared is None else prepared
        voxel_mm = float(max(volume.grid.spacing_mm.max(), moving.grid.spacing_mm.max()))
        counted = int(SimpleITK.GetArrayFromImage(mask).sum())
        if counted < 100:
            raise NotMatched("too little bone to register to")
        return cls(fixed, mask, other, points.mm, voxel_mm, counted)

    def overlap(self, series_from_patient: Rigid[Series, Patient]) -> float:
        """The share of the bone points that lie within the other scan."""
        at = (series_from_patient @ Points[Patient](self.points_mm)).mm
        size, spacing = np.array(self.moving.GetSize()), np.array(self.moving.GetSpacing())
        axes = np.array(self.moving.GetDirection()).reshape(3, 3)
        index = ((at - np.array(self.moving.GetOrigin())) @ axes) / spacing
        return float(((index > -0.5) & (index < size - 0.5)).all(axis=1).mean())


def match(
    volume: Volume,
    near: NDArray[np.bool_],
    points: Points[Patient],
    normals: Array,
    moving: Volume,
    *,
    known: Sequence[Rigid[Series, Patient]] = (),
    progress: Progress = silent,
) -> Matched:
    """Register a whole scan to the bone in `near` (k, j, i of the twin's CT). Raises NotMatched with the evidence.

    `points` and unit `normals` (N, 3) lie all over the bone's surface, some thousand of them.
    `known` are likely answers to try first, such as the identity for two series of one study.
    """
    progress("reading both scans", 0.0)
    coarse = at_step(moving, COARSE_MM)
    progress("trying placings", 0.1)
    tried = placings(points.mm, normals, _array(coarse), _grid(coarse), FOLLOWED)
    middle = Pair.of(volume, near, moving, points, MIDDLE_MM)
    chosen = [*known, *tried]
    if not chosen:
        raise NotMatched("no placing of the other scan covers the bone; is it of another part of the body?")
    ends: list[tuple[float, Rigid[Series, Patient]]] = []
    for n, start in enumerate(chosen):
        progress("following placings", 0.3 + 0.3 * n / len(chosen))
        end = _followed(middle, start, n)
        ends.append((_information(middle, end), end))
    whole = [(value, end) for value, end in ends if middle.overlap(end) >= LEAST_OVERLAP]
    ends = sorted(whole or ends, key=lambda e: -e[0])  # a corner of a scan may look informative
    best = ends[0][1]
    rivals = [value for value, end in ends[1:] if _apart_mm(middle, end, best) > SAME_MM]
    _ensure_evidence(middle, ends[0][0], max(rivals, default=None), middle.overlap(best))
    fine = Pair.of(volume, near, moving, points, FINE_MM)
    return refined(fine, best, max(rivals, default=None), part(progress, 0.6, 1.0))


def at_step(volume: Volume, step_mm: float) -> SimpleITK.Image:
    """A scan on isotropic voxels, ready to be compared."""
    return _resampled(_image(volume.hu.astype(np.float32), volume.grid), step_mm)


def refined(pair: Pair, start: Rigid[Series, Patient], rival_nat: float | None, progress: Progress = silent) -> Matched:
    """The end near `start`, found several times: their mean, and how far they scatter. Raises NotMatched."""
    found = [_followed(pair, start, SEED)]
    rng = np.random.default_rng(SEED)
    centre = pair.points_mm.mean(axis=0)
    for n in range(AGAIN):
        progress("finding it again", n / AGAIN)
        nudge = about(centre, rng.uniform(-LEFT_RAD, LEFT_RAD, 3), rng.uniform(-LEFT_MM, LEFT_MM, 3))
        left = found[0] @ Rigid[Patient, Patient](nudge.rotation, nudge.translation_mm)
        found.append(_followed(pair, left, SEED + 1 + n))
    values = [_information(pair, end) for end in found]
    at = np.array([(end @ Points[Patient](pair.points_mm)).mm for end in found])
    middle = np.median(at, axis=0)
    spread_mm = float(np.sqrt(((at - middle) ** 2).sum(axis=2).mean(axis=1)).mean())
    if spread_mm > MOST_SPREAD_MM:
        raise NotMatched(
            f"found again, the placing scatters by {spread_mm:.1f} mm, at most {MOST_SPREAD_MM:g} mm is accepted; the "
            "scans show too little in common"
        )
    best = found[int(np.argmin(np.sqrt(((at - middle) ** 2).sum(axis=2).mean(axis=1))))]
    value = float(np.median(values))
    _ensure_evidence(pair, value, None, pair.overlap(best))
    sd_mm = float(np.hypot(spread_mm, VOXEL_SHARE * pair.voxel_mm))
    return Matched(best.inverse(), sd_mm, value, rival_nat, pair.overlap(best))


def _ensure_evidence(pair: Pair, value_nat: float, rival_nat: float | None, overlap: float) -> None:
    if overlap < LEAST_OVERLAP:
        raise NotMatched(
            f"the other scan shows {overlap:.0%} of the bone, {LEAST_OVERLAP:.0%} is needed; is it of this region?"
        )
    if value_nat < LEAST_INFORMATION:
        raise NotMatched(
            f"mutual information {value_nat:.3f} nat, at least {LEAST_INFORMATION} is needed; is it the same patient?"
        )
    if rival_nat is not None and value_nat - rival_nat < LEAST_LEAD * value_nat:
        raise NotMatched(
            f"two placings fit nearly as well ({value_nat:.3f} and {rival_nat:.3f} nat); a slip by one vertebra "
            "can't be excluded. Give a scan that shows more, or a start"
        )


def _information(pair: Pair, series_from_patient: Rigid[Series, Patient]) -> float:
    """Mutual information in nat over the mask; 0 where the scans hardly overlap."""
    method = _method(pair, SEED)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetInitialTransform(_transform(pair, series_from_patient), inPlace=False)
    try:
        return float(-method.MetricEvaluate(pair.fixed, pair.moving))
    except RuntimeError:  # ITK: too few samples of the mask map into the moving image
        return 0.0


def _followed(pair: Pair, start: Rigid[Series, Patient], seed: int) -> Rigid[Series, Patient]:
    """The end of the climb from a start that is a few millimetres off."""
    method = _method(pair, seed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=2e-3, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-7
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = _transform(pair, start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(pair.fixed, pair.moving)
    except RuntimeError:  # the climb left the other scan
        return start
    return _rigid(transform)


def _method(pair: Pair, seed: int) -> Any:
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(pair.mask)
    method.SetInterpolator(SimpleITK.sitkLinear)
    share = min(1.0, SAMPLES / pair.counted)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, seed)
    method.SetNumberOfThreads(1)  # sums in one order: the same scans give the same answer
    return method


def _transform(pair: Pair, series_from_patient: Rigid[Series, Patient]) -> Any:
    transform = SimpleITK.Euler3DTransform()
    centre = pair.points_mm.mean(axis=0)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(series_from_patient.rotation.ravel().tolist(), 1e-6)
    moved = (series_from_patient @ Points[Patient](centre)).mm
    transform.SetTranslation((moved - centre).tolist())
    return transform


def _rigid(transform: Any) -> Rigid[Series, Patient]:
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    u, _, v = np.linalg.svd(rotation)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    return Rigid[Series, Patient](u @ v, origin)


def _apart_mm(pair: Pair, one: Rigid[Series, Patient], other: Rigid[Series, Patient]) -> float:
    """Mean distance between where two answers put the bone."""
    points = Points[Patient](pair.points_mm)
    return float(np.linalg.norm((one @ points).mm - (other @ points).mm, axis=1).mean())


def _image(values: NDArray[np.float32], grid: Grid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.axes.ravel().tolist())
    return image


def _array(image: SimpleITK.Image) -> NDArray[np.float32]:
    """A copy: a view of a temporary image would outlive it."""
    return np.asarray(SimpleITK.GetArrayFromImage(image), dtype=np.float32)


def _grid(image: SimpleITK.Image) -> Grid:
    size = image.GetSize()
    axes = np.array(image.GetDirection()).reshape(3, 3)
    return Grid((size[0], size[1], size[2]), np.array(image.GetSpacing()), np.array(image.GetOrigin()), axes)


def _resampled(image: SimpleITK.Image, step_mm: float) -> SimpleITK.Image:
    """On isotropic voxels; smaller ones are averaged first."""
    shrink = [max(1, round(step_mm / spacing)) for spacing in image.GetSpacing()]
    if max(shrink) > 1:
        image = SimpleITK.BinShrink(image, shrink)
    spacing = np.array(image.GetSpacing())
    size = np.maximum(1, np.ceil(np.array(image.GetSize()) * spacing / step_mm - 0.01)).astype(int)
    step = np.full(3, step_mm)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(image.GetOrigin()) + axes @ (0.5 * (step - spacing))
    edge = float(SimpleITK.GetArrayViewFromImage(image).min())
    return SimpleITK.Resample(
        image, size.tolist(), SimpleITK.Transform(), SimpleITK.sitkLinear, origin.tolist(), step.tolist(),
        image.GetDirection(), edge,
    )  # fmt: skip
