"""What alignment shall become: published targets, each with its source and whether that was read, as a choice.

Every one of them was made from standing radiographs. A CT is supine, so nothing is compared unless somebody asks for
it, and then the answer says so. A target whose source was not read itself is `unverified`: it is shown, it may be
looked at, and it decides nothing. A value within twice its own sigma of a limit is on neither side of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from spatial.faults import Misuse
from twin.plan.measures.alignment import POSTURE_FREE, WORDS, Alignment
from twin.plan.measures.cora import Status
from twin.plan.measures.measured import SIGNS

Verdict = Literal["met", "not met", "within its error", "not compared", "not measured"]


class NoTarget(Misuse):
    """A set of targets that there is not, or that lacks what it is computed from."""


@dataclass(frozen=True)
class Target:
    """One parameter's wanted range (None: open), where it comes from and whether that was read."""

    name: str
    low: float | None
    high: float | None
    source: str
    status: Status

    def words(self) -> str:
        """`below 10`, `43 to 61`."""
        if self.low is None:
            return f"below {self.high:.4g}"
        return f"above {self.low:.4g}" if self.high is None else f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Facts:
    """What targets are computed from."""

    alignment: Alignment
    age_years: float | None

    def need(self, name: str) -> float:
        """A measured value. Raises NoTarget with the reason where there is none."""
        found = self.alignment.measures[name]
        if found.value is None:
            raise NoTarget(f"this target needs {WORDS[name]}: {found.reason}")
        return found.value

    def age(self) -> float:
        """Raises NoTarget without one."""
        if self.age_years is None:
            raise NoTarget("this target depends on the patient's age; give it in years (--age)")
        if not 0.0 < self.age_years < 120.0:
            raise NoTarget(f"an age of {self.age_years:g} years")
        return self.age_years


def _about(name: str, middle: float, spread: float, source: str, status: Status) -> Target:
    return Target(name, middle - spread, middle + spread, source, status)


def _schwab(facts: Facts) -> list[Target]:
    source = "Schwab 2012, modifiers as in Terran 2013"
    found = [
        Target("pi_minus_ll_deg", None, 10.0, source, "verified"),
        Target("pelvic_tilt_deg", None, 20.0, source, "verified"),
        Target("sagittal_vertical_axis_mm", None, 50.0, source, "verified"),
    ]
    if facts.alignment.value("pelvic_incidence_deg") is not None:
        found.append(_about("lumbar_lordosis_deg", facts.need("pelvic_incidence_deg"), 9.0, source, "verified"))
    return found


def _le_huec(_: Facts) -> list[Target]:
    source = "Le Huec 2019 (PMC6334400): mean ± 2 SD of asymptomatic adults"
    means = {
        "sacral_slope_deg": (41.0, 8.0), "pelvic_tilt_deg": (13.0, 6.0), "pelvic_incidence_deg": (51.9, 10.0),
        "lumbar_lordosis_deg": (60.9, 12.0), "pi_minus_ll_deg": (-8.0, 9.0),
        "thoracic_kyphosis_t4_t12_deg": (40.6, 10.0), "sagittal_vertical_axis_mm": (-0.5, 25.0),
        "t1_spinopelvic_inclination_deg": (-1.35, 2.7),
    }  # fmt: skip
    return [_about(name, mean, 2.0 * sd, source, "verified") for name, (mean, sd) in means.items()]


def _pelvic_angle(_: Facts) -> list[Target]:
    return [
        Target("t1_pelvic_angle_deg", None, 20.0, "Ryan 2014: severe above 20", "verified"),
        Target("t1_pelvic_angle_deg", None, 15.9, "Ryan 2014: well aligned at 3 months", "verified"),
    ]


def _kyphosis_and_age(facts: Facts) -> list[Target]:
    wanted = (
        facts.need("pelvic_incidence_deg") - 0.3 * facts.need("thoracic_kyphosis_t4_t12_deg") - 0.5 * facts.age() + 10.0
    )
    source = "LL = PI - 0.3 TK - 0.5 age + 10 (escholarship 8ws6j23q, n 347, mean error 5 degrees)"
    return [_about("lumbar_lordosis_deg", wanted, 5.0, source, "verified")]


def _hyun(facts: Facts) -> list[Target]:
    wanted = 0.62 * facts.need("pelvic_incidence_deg") + 27.6
    source = "LL = 0.62 PI + 27.6 (Hyun 2019, elderly Korean men, R2 0.35)"
    return [_about("lumbar_lordosis_deg", wanted, 9.0, source, "verified")]


def _age_adjusted(facts: Facts) -> list[Target]:
    past = facts.age() - 55.0
    source = "Lafage 2016"
    return [
        Target("pelvic_tilt_deg", None, past / 3.0 + 20.0, source, "unverified"),
        Target("pi_minus_ll_deg", None, past / 2.0 + 3.0, source, "unverified"),
        Target("sagittal_vertical_axis_mm", None, 2.0 * past + 25.0, source, "unverified"),
    ]


def _gap(facts: Facts) -> list[Target]:
    incidence, source = facts.need("pelvic_incidence_deg"), "GAP, Yilgor 2017"
    slope, lordosis, tilt = 0.59 * incidence + 9.0, 0.62 * incidence + 29.0, 0.48 * incidence - 15.0
    return [
        Target("sacral_slope_deg", slope - 7.0, slope + 5.0, source, "unverified"),
        Target("lumbar_lordosis_deg", lordosis - 14.0, lordosis + 11.0, source, "unverified"),
        Target("lordosis_distribution_percent", 50.0, 80.0, source, "unverified"),
        Target("global_tilt_deg", tilt - 7.0, tilt + 10.0, source, "unverified"),
    ]


TARGETS: Mapping[str, Callable[[Facts], list[Target]]] = MappingProxyType(
    {
        "schwab": _schwab, "le-huec": _le_huec, "tpa": _pelvic_angle, "kyphosis-age": _kyphosis_and_age, "hyun": _hyun,
        "age-adjusted": _age_adjusted, "gap": _gap,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One target beside the value: as scanned and as planned, or why they were not compared."""

    target: Target
    value: float | None
    sd: float | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As `plan assess --json` prints it. `gates` is always false: a target is looked at, it stops nothing."""
        t = self.target
        return {
            "measure": t.name, "low": t.low, "high": t.high, "source": t.source, "status": t.status,
            "value": self.value, "sd": self.sd, "verdict": self.verdict, "gates": False,
        }  # fmt: skip

    def words(self) -> str:
        """In a line."""
        t = self.target
        sign = SIGNS[t.name.rpartition("_")[2]]
        value = "none" if self.value is None else f"{self.value:.1f}{sign}"
        more = "" if self.sd is None else f" ± {2.0 * self.sd:.1f}"
        mark = ", unverified" if t.status == "unverified" else ""
        return f"{WORDS[t.name]}: wanted {t.words()}{sign} ({t.source}{mark}), found {value}{more}: {self.verdict}"


@dataclass(frozen=True)
class Aims:
    """A set of targets held against an alignment."""

    name: str
    posture: str
    compared_supine: bool
    comparisons: tuple[Comparison, ...]
    score: dict[str, Any] | None = None

    def note(self) -> str:
        """What was compared with what."""
        if self.compared_supine:
            return (
                f"compared as asked, although the scan is {self.posture} and the thresholds are of standing people: "
                "what a standing radiograph shows will differ"
            )
        return (
            f"not compared: the scan is {self.posture}, the thresholds are of standing people "
            "(--compare-supine compares nevertheless)"
        )

    def to_json(self) -> dict[str, Any]:
        """As `plan assess --json` prints it."""
        return {
            "targets": self.name, "posture": self.posture, "compared_supine": self.compared_supine,
            "note": self.note(), "comparisons": [c.to_json() for c in self.comparisons], "score": self.score,
        }  # fmt: skip

    def words(self) -> list[str]:
        """In lines."""
        lines = [f"Targets {self.name}: {self.note()}", *(f"  {c.words()}" for c in self.comparisons)]
        if self.score is not None:
            lines.append(f"  {self.score['words']}")
        return lines


def aims(name: str, alignment: Alignment, *, age_years: float | None = None, compare_supine: bool = False) -> Aims:
    """Hold a set of targets against an alignment. Raises NoTarget (the sets are listed)."""
    if name not in TARGETS:
        raise NoTarget(f"no targets {name!r}; there are {', '.join(TARGETS)}")
    facts = Facts(alignment, age_years)
    found = tuple(_compared(t, alignment, compare_supine) for t in TARGETS[name](facts))
    score = gap_score(alignment, age_years) if name == "gap" and compare_supine else None
    return Aims(name, alignment.posture, compare_supine, found, score)


def _compared(target: Target, alignment: Alignment, compare_supine: bool) -> Comparison:
    found = alignment.measures[target.name]
    if found.value is None:
        return Comparison(target, None, None, "not measured")
    if not compare_supine and target.name not in POSTURE_FREE:
        return Comparison(target, found.value, found.sd, "not compared")
    inside = [found.value - target.low] if target.low is not None else []
    inside += [target.high - found.value] if target.high is not None else []
    margin = min(inside)
    if found.sd is not None and abs(margin) < 2.0 * found.sd:
        return Comparison(target, found.value, found.sd, "within its error")
    return Comparison(target, found.value, found.sd, "met" if margin >= 0.0 else "not met")


# upper ends of the bands, below which a value lies, and their points; published to a tenth, so halfway to the next
GAP_STEPS: Mapping[str, tuple[tuple[float, int], ...]] = MappingProxyType(
    {
        "relative_pelvic_version": ((-15.0, 3), (-7.05, 2), (5.05, 0), (math.inf, 1)),
        "relative_lumbar_lordosis": ((-25.0, 3), (-14.05, 2), (11.05, 0), (math.inf, 3)),
        "lordosis_distribution": ((40.0, 2), (50.0, 1), (80.5, 0), (math.inf, 3)),
        "relative_spinopelvic_alignment": ((-7.0, 1), (10.05, 0), (18.05, 1), (math.inf, 3)),
    }
)


def gap_score(alignment: Alignment, age_years: float | None) -> dict[str, Any] | None:
    """The GAP score (unverified; 23 % of healthy volunteers score moderate or severe, MEANS 2024); None: incomplete."""
    names = ("pelvic_incidence_deg", "sacral_slope_deg", "lumbar_lordosis_deg", "lordosis_distribution_percent",
             "global_tilt_deg")  # fmt: skip
    values = [alignment.value(name) for name in names]
    if age_years is None or any(v is None for v in values):
        return None
    incidence, slope, lordosis, share, tilt = (float(v) for v in values if v is not None)
    parts = {
        "relative_pelvic_version": slope - (0.59 * incidence + 9.0),
        "relative_lumbar_lordosis": lordosis - (0.62 * incidence + 29.0),
        "lordosis_distribution": share,
        "relative_spinopelvic_alignment": tilt - (0.48 * incidence - 15.0),
    }
    points = {n: next(p for end, p in GAP_STEPS[n] if v < end) for n, v in parts.items()}
    points["age"] = 1 if age_years >= 60.0 else 0
    total = sum(points.values())
    group = "proportioned" if total <= 2 else "moderately disproportioned" if total <= 6 else "severely disproportioned"
    words = f"GAP score {total} of 13, {group} (unverified; a spectrum: 23 % of healthy people are not proportioned)"
    return {"points": points, "total": total, "group": group, "status": "unverified", "words": words}
