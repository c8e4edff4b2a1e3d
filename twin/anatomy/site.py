"""A hospital's own settings: what its scanner's HU mean, and from which HU on it calls bone porous. A small TOML file.

```toml
name = "Ward 4"

[density]                              # all of it may be left out
kvp = 120                              # the tube voltage that the thresholds hold at
osteoporosis_specific_hu = 110
osteoporosis_sensitive_hu = 160
excluded_hu = 200
source = "Pickhardt 2013"

[density.young_hu]                     # mean and SD of young adults
L1 = [236, 42]

[density.calibration]                  # mg/cc = slope * HU + intercept, from a phantom or rods under the patient
equivalent = "K2HPO4"                  # or "HA"; the two differ by 10 to 20 %
slope_mg_cc_per_hu = 0.78
intercept_mg_cc = -3.0
sd_mg_cc = 4.0
kvp = 120
source = "rods of 2026-03"
```
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spatial.faults import Fault, Misuse

ENVIRONMENT = "OSTEOTWIN_SITE"  # the file's path, where no option names one
EQUIVALENTS = ("K2HPO4", "HA")
HU_RANGE = (-50.0, 600.0)
KVP_RANGE = (60.0, 160.0)
SLOPE_RANGE = (0.3, 2.0)
MOST_INTERCEPT_MG_CC = 100.0


class BadSite(Fault):
    """A site file with a key that nobody knows or a value that can't be."""


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadSite(f"{key} is {value:g}; limits {low:g} to {high:g}")


@dataclass(frozen=True)
class Calibration:
    """From HU to bone mineral: mg/cc of `equivalent`, measured at one tube voltage; `sd_mg_cc` is its own spread."""

    equivalent: str
    slope_mg_cc_per_hu: float
    intercept_mg_cc: float
    sd_mg_cc: float
    kvp: float
    source: str = "site file"

    def __post_init__(self) -> None:
        """Check ranges: beyond them a unit was mistaken."""
        if self.equivalent not in EQUIVALENTS:
            raise BadSite(f"equivalent {self.equivalent!r}; one of {', '.join(EQUIVALENTS)}")
        _within("slope_mg_cc_per_hu", self.slope_mg_cc_per_hu, *SLOPE_RANGE)
        _within("intercept_mg_cc", self.intercept_mg_cc, -MOST_INTERCEPT_MG_CC, MOST_INTERCEPT_MG_CC)
        _within("sd_mg_cc", self.sd_mg_cc, 0.0, MOST_INTERCEPT_MG_CC)
        _within("kvp", self.kvp, *KVP_RANGE)

    def mg_cc(self, hu: float) -> float:
        """Bone mineral, mg/cc of the equivalent."""
        return self.slope_mg_cc_per_hu * hu + self.intercept_mg_cc


@dataclass(frozen=True)
class Reading:
    """Thresholds in HU of L1's trabecular bone at `kvp`, young adults' mean and SD by level, and whose they are.

    Defaults: Pickhardt et al. 2013 (Ann Intern Med 158:588; 1867 adults): at most 160 HU is 90 % sensitive for
    osteoporosis, at most 110 HU more than 90 % specific, above 200 HU excludes it (negative predictive value 99 %).
    Young adults: PMC6047377. Ethnic groups and scanners differ (169/104 HU in one country, 121 in another).
    """

    kvp: float = 120.0
    osteoporosis_specific_hu: float = 110.0
    osteoporosis_sensitive_hu: float = 160.0
    excluded_hu: float = 200.0
    source: str = "Pickhardt 2013, L1 trabecular, 120 kVp"
    young_hu: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {"L1": (236.0, 42.0), "L3": (227.0, 42.0)}
    )

    def __post_init__(self) -> None:
        """Check ranges and order."""
        _within("kvp", self.kvp, *KVP_RANGE)
        limits = (self.osteoporosis_specific_hu, self.osteoporosis_sensitive_hu, self.excluded_hu)
        for name, value in zip(("specific", "sensitive", "excluded"), limits, strict=True):
            _within(f"osteoporosis {name} threshold in HU", value, *HU_RANGE)
        if not limits[0] <= limits[1] <= limits[2]:
            raise BadSite(f"thresholds {limits} HU; they must rise from specific over sensitive to excluded")
        for level, (mean, sd) in self.young_hu.items():
            _within(f"young_hu {level} mean", mean, *HU_RANGE)
            _within(f"young_hu {level} sd", sd, 1.0, 200.0)
        object.__setattr__(self, "young_hu", MappingProxyType(dict(self.young_hu)))

    def words(self, mean_hu: float) -> str:
        """What a body's mean HU says, in words that stay the same for scripts."""
        if mean_hu <= self.osteoporosis_specific_hu:
            return "osteoporosis likely"
        if mean_hu <= self.osteoporosis_sensitive_hu:
            return "osteoporosis possible"
        return "osteoporosis unlikely" if mean_hu <= self.excluded_hu else "osteoporosis excluded"


@dataclass(frozen=True)
class Site:
    """One hospital's settings; `sha256` of the file they came from, None for the built-in ones."""

    name: str = "built-in"
    reading: Reading = Reading()
    calibration: Calibration | None = None
    sha256: str | None = None


DEFAULT = Site()


def load_site(path: Path) -> Site:
    """The settings in a TOML file. Raises Misuse (no such file) and BadSite (unknown keys, wrong values)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Misuse(f"the site file can't be read: {error.strerror}", path=path) from None
    try:
        found = tomllib.loads(data.decode("utf-8"))
        return _site(found, hashlib.sha256(data).hexdigest())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSite(f"no TOML: {error}", path=path) from None
    except BadSite as fault:
        raise BadSite(fault.message, path=path) from None


def site_of(environment: Mapping[str, str], path: Path | None = None) -> Site:
    """The settings of a file that was named, else of the one that the environment names, else the built-in ones."""
    named = path or (Path(environment[ENVIRONMENT]) if environment.get(ENVIRONMENT) else None)
    return DEFAULT if named is None else load_site(named)


def _site(found: Mapping[str, Any], sha256: str) -> Site:
    _known("the file", found, {"name", "density"})
    density = _table(found, "density")
    numbers = {"kvp", "osteoporosis_specific_hu", "osteoporosis_sensitive_hu", "excluded_hu"}
    _known("[density]", density, numbers | {"source", "young_hu", "calibration"})
    values: dict[str, Any] = {key: _number(key, density[key]) for key in numbers & density.keys()}
    if "source" in density:
        values["source"] = _text("source", density["source"])
    elif values:
        values["source"] = "site file"
    if "young_hu" in density:
        values["young_hu"] = {level: _pair(level, pair) for level, pair in _table(density, "young_hu").items()}
    calibration = None
    if "calibration" in density:
        table = _table(density, "calibration")
        wanted = {"slope_mg_cc_per_hu", "intercept_mg_cc", "sd_mg_cc", "kvp"}
        _known("[density.calibration]", table, wanted | {"equivalent", "source"})
        missing = sorted((wanted | {"equivalent"}) - table.keys())
        if missing:
            raise BadSite(f"[density.calibration] lacks {', '.join(missing)}")
        calibration = Calibration(
            equivalent=_text("equivalent", table["equivalent"]),
            source=_text("source", table.get("source", "site file")),
            **{key: _number(key, table[key]) for key in wanted},
        )
    return Site(_text("name", found.get("name", "site")), Reading(**values), calibration, sha256)


def _known(where: str, found: Mapping[str, Any], keys: set[str]) -> None:
    unknown = sorted(found.keys() - keys)
    if unknown:
        raise BadSite(f"{where} has {', '.join(map(repr, unknown))}; known are {', '.join(sorted(keys))}")


def _table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key, {})
    if not isinstance(value, dict):
        raise BadSite(f"{key} is {value!r}; it must be a table")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadSite(f"{key} is {value!r}; it must be a number")
    return float(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadSite(f"{key} is {value!r}; it must be a text")
    return value.strip()


def _pair(key: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise BadSite(f"young_hu {key} is {value!r}; it must be [mean, sd]")
    return _number(key, value[0]), _number(key, value[1])
