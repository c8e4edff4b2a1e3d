"""What a scan is fit for: to look at, to plan on, to guide by; each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from twin.scan.kernels import SHARP, SMOOTH, edge_character

TOUCHING = 1.05  # slice distance over thickness up to which no tissue lies unseen between two slices


@dataclass(frozen=True)
class Judgement:
    """Fit or not, and why: the reasons against, or what fitness rests on."""

    fit: bool
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As case.json holds it."""
        return {"fit": self.fit, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Judgement:
        """Inverse of `to_json`; raises KeyError or TypeError on a value of another shape."""
        return cls(bool(value["fit"]), tuple(str(reason) for reason in value["reasons"]))


@dataclass(frozen=True)
class Fitness:
    """Three judgements of one scan. Guidance on a scan unfit for it needs a written override."""

    view: Judgement
    plan: Judgement
    guide: Judgement

    def to_json(self) -> dict[str, Any]:
        """As case.json holds it."""
        return {"view": self.view.to_json(), "plan": self.plan.to_json(), "guide": self.guide.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fitness:
        """Inverse of `to_json`; raises KeyError or TypeError on a value of another shape."""
        return cls(*(Judgement.from_json(value[use]) for use in ("view", "plan", "guide")))


@dataclass(frozen=True)
class FitnessLimits:
    """The site's settings, all of them here; what a hospital does not agree with is changed in this place."""

    guide_slice_mm: float = 1.25  # the usual protocol for navigated pedicle screws
    plan_slice_mm: float = 3.0  # beyond, a pedicle lies in one or two slices
    view_slice_mm: float = 10.0
    guide_age_days: int = 180
    plan_age_days: int = 365
    cover_mm: float = 40.0  # less along the stack holds no whole vertebra
    edge_share: float = 0.1  # slices in which bone is cut off sideways
    tilt_deg: float = 0.5


@dataclass(frozen=True)
class Facts:
    """What fitness is judged by; None or empty where the files do not say."""

    slice_mm: float  # the widest distance between two slices
    pixel_mm: float
    cover_mm: float
    thickness_mm: float | None = None
    kernel: str = ""
    lossy: str = ""
    tilt_deg: float = 0.0
    is_resampled: bool = False
    study_date: date | None = None
    is_phantom: bool = False
    announced: int | None = None  # images that the series should have
    slices: int = 0
    edge_share: float | None = None  # None: voxels were not looked at


class _Case:
    """Reasons as they are found; a reason against guidance alone leaves planning fit."""

    def __init__(self) -> None:
        self.against: dict[str, list[str]] = {"view": [], "plan": [], "guide": []}
        self.remarks: list[str] = []

    def against_all(self, reason: str, *uses: str) -> None:
        for use in uses:
            self.against[use].append(reason)

    def judged(self, use: str, rests_on: list[str]) -> Judgement:
        reasons = self.against[use]
        return Judgement(False, tuple(reasons)) if reasons else Judgement(True, tuple(rests_on + self.remarks))


def judge_fitness(
    facts: Facts, *, today: date, surgery_since: date | None = None, limits: FitnessLimits | None = None
) -> Fitness:
    """Judge a scan by what is known of it; what is not known counts against guidance, and is only said for planning.

    `surgery_since` is the day of the last operation on this anatomy, if there was one.
    """
    limits = limits or FitnessLimits()
    case = _Case()
    _judge_slices(facts, limits, case)
    _judge_picture(facts, limits, case)
    _judge_time(facts, limits, case, today, surgery_since)
    thick = "of unknown thickness" if facts.thickness_mm is None else f"{facts.thickness_mm:g} mm thick"
    rests_on = [f"slices {facts.slice_mm:.2f} mm apart and {thick}, pixels of {facts.pixel_mm:.2f} mm"]
    return Fitness(case.judged("view", rests_on), case.judged("plan", rests_on), case.judged("guide", rests_on))


def _judge_slices(facts: Facts, limits: FitnessLimits, case: _Case) -> None:
    for what, value in (
        ("slices are {} mm apart", facts.slice_mm),
        ("slices are {} mm thick", facts.thickness_mm or 0.0),
        ("pixels are {} mm wide", facts.pixel_mm),
    ):
        for use, limit in (
            ("view", limits.view_slice_mm),
            ("plan", limits.plan_slice_mm),
            ("guide", limits.guide_slice_mm),
        ):
            if value > limit + 5e-3:
                case.against_all(f"{what.format(f'{value:.2f}')}, the limit is {limit:g} mm", use)
    if facts.thickness_mm is None:
        case.against_all("the slice thickness is not known", "guide")
    elif facts.slice_mm > TOUCHING * facts.thickness_mm:
        unseen = f"slices of {facts.thickness_mm:g} mm stand {facts.slice_mm:.2f} mm apart: tissue between was not seen"
        case.against_all(unseen, "plan", "guide")
    if facts.cover_mm < limits.cover_mm:
        case.against_all(
            f"the slices cover {facts.cover_mm:.0f} mm, {limits.cover_mm:g} mm hold a vertebra", "plan", "guide"
        )
    if facts.announced and facts.slices and facts.announced > facts.slices:
        case.against_all(f"{facts.slices} of {facts.announced} announced images are here", "plan", "guide")
    if facts.is_resampled:
        case.against_all("the slice spacing changes; the voxels between were interpolated", "guide")
    if facts.tilt_deg > limits.tilt_deg:
        case.remarks.append(f"a gantry tilt of {facts.tilt_deg:.1f} degrees was corrected by shear")


def _judge_picture(facts: Facts, limits: FitnessLimits, case: _Case) -> None:
    character = edge_character(facts.kernel)
    if character == SMOOTH:
        case.against_all(f"kernel {facts.kernel} is very smooth: thin cortex and pedicle walls are blurred", "guide")
    elif character == SHARP:
        overshoot = f"kernel {facts.kernel} is very sharp (lung, edge): edges overshoot, HU tell no density"
        case.against_all(overshoot, "guide")
    elif not facts.kernel:
        case.remarks.append("the reconstruction kernel is not known")
    if character and not case.against["plan"]:
        case.remarks.append(f"kernel {facts.kernel} is very {character}: mind thin walls and density")
    if facts.lossy:
        case.against_all(f"the pictures were compressed with loss (ratio {facts.lossy})", "guide")
        case.remarks.append(f"compressed with loss (ratio {facts.lossy})")
    if facts.edge_share is not None and facts.edge_share > limits.edge_share:
        case.remarks.append(f"bone is cut off sideways by the field of view in {facts.edge_share:.0%} of the slices")


def _judge_time(facts: Facts, limits: FitnessLimits, case: _Case, today: date, surgery_since: date | None) -> None:
    if facts.is_phantom:
        case.remarks.append("a phantom: its age does not count")
        return
    if facts.study_date is None:
        case.against_all("the date of the scan is not known, so its age is not", "guide")
        if surgery_since is not None:
            case.against_all("there was surgery, and the date of the scan is not known", "plan", "guide")
        return
    age = (today - facts.study_date).days
    if age < 0:
        case.against_all(f"the scan is dated {-age} days after today; is a clock wrong?", "guide")
    for use, limit in (("plan", limits.plan_age_days), ("guide", limits.guide_age_days)):
        if age > limit:
            case.against_all(f"the scan is {age} days old, the limit is {limit}", use)
    if surgery_since is not None and surgery_since >= facts.study_date:
        case.against_all("surgery since the scan: the anatomy may be another", "plan", "guide")
