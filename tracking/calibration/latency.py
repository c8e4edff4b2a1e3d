"""How long light takes to become an overlay: a camera looks at a screen whose pictures say their own numbers.

The program notes when it handed each numbered picture to the screen; the camera's pictures say which number was lit
when they were exposed. The difference of the stamps is the delay of the screen (and whatever the camera's stamp is late
by); with the time at which a camera's picture had been evaluated, the sum is that from light to overlay: the same
stations, passed in the order screen, camera, program. A picture that saw the screen change measures the delay directly
(stamp - shown = delay + exposure x (share of the new number - 1/2)); one that didn't only bounds it. Both go into one
likelihood over delay, exposure and jitter, whose mean and 95 % interval are told. How often changes are seen says
nothing here: a camera in step with the screen sees all of them or none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import theilslopes

from spatial.faults import Fault
from spatial.rigid import Array
from tracking.calibration.json_lines import NotJsonLines, json_lines
from tracking.calibration.latency_code import NUMBERS, Reading

READ_MIN = 40
READ_SHARE_MIN = 0.5
DELAY_MS = (-100.0, 2_000.0)
JITTER_MAX_MS = 12.0
CHANGES_MIN, LEVER_MIN = 8, 0.12
STRAY = 0.02  # share of pictures whose stamp may be anything
DRIFT_MAX_MS = 2.0
JITTERS_MS = (0.05, 30.0)
UNITS = {"microseconds": 1e3, "milliseconds": 1e6, "seconds": 1e9}
BLOCKS, T95 = 10, 2.262  # Student's t with nine degrees of freedom


class PoorLatency(Fault):
    """Pictures of the screen and a log of it that do not give a delay."""


class BadScreenLog(Fault):
    """A file that does not say when each picture was shown."""


@dataclass(frozen=True)
class Look:
    """One picture of the camera: its stamp (of the row that shows the code), what it read, when it was evaluated."""

    t_ns: int
    reading: Reading | None
    ready_ns: int | None = None
    exposure_ns: int = 0


@dataclass(frozen=True)
class Latency:
    """The delay from handing a picture to the screen until the camera's stamp of it, ms, with its 95 % interval.

    `jitter_ms`: sd of a single picture. `exposure_ms`: as measured, or as the camera told it (sd 0). `to_overlay_ms`:
    median and 95th percentile from light to overlay; None where it is not known when pictures had been evaluated.
    `changes`: pictures that saw the screen change.
    """

    delay_ms: float
    interval_ms: tuple[float, float]
    jitter_ms: float
    exposure_ms: float
    exposure_sd_ms: float
    to_overlay_ms: tuple[float, float] | None
    pictures: int
    read: int
    changes: int
    screen_hz: float

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "delay_ms": self.delay_ms,
            "delay_interval95_ms": list(self.interval_ms),
            "jitter_sd_ms": self.jitter_ms,
            "exposure_ms": self.exposure_ms,
            "exposure_sd_ms": self.exposure_sd_ms,
            "photon_to_overlay_ms": None
            if self.to_overlay_ms is None
            else {"median": self.to_overlay_ms[0], "p95": self.to_overlay_ms[1]},
            "pictures": self.pictures,
            "pictures_read": self.read,
            "pictures_with_a_change": self.changes,
            "screen_hz": self.screen_hz,
        }


def load_log(path: str | Path) -> dict[int, int]:
    """When each number was handed to the screen: JSON lines `{"number", "shown_ns"}`. Raises BadScreenLog."""
    file = Path(path)
    shown: dict[int, int] = {}
    try:
        lines = list(json_lines(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise BadScreenLog(f"cannot be read: {error}", path=file) from None
    except NotJsonLines as fault:
        raise BadScreenLog(fault.message, path=file) from None
    for count, value in lines:
        try:
            number, t_ns = int(value["number"]), int(value["shown_ns"])
        except (KeyError, TypeError, ValueError):
            raise BadScreenLog(f"line {count} lacks number or shown_ns", path=file) from None
        if number in shown or not 0 <= number < NUMBERS:
            raise BadScreenLog(f"line {count}: number {number} is there twice or not below {NUMBERS}", path=file)
        shown[number] = t_ns
    if len(shown) < 2:
        raise BadScreenLog("fewer than two numbers were shown", path=file)
    if list(shown.values()) != sorted(shown.values()) or list(shown) != sorted(shown):
        raise BadScreenLog("numbers or stamps do not rise; was the clock set meanwhile?", path=file)
    return shown


def measure_latency(looks: Sequence[Look], shown: Mapping[int, int], *, limit_ms: float = 3.0) -> Latency:
    """The delay, from the camera's pictures and the screen's log on the same clock.

    `limit_ms`: what half of its 95 % interval may be. Raises PoorLatency.
    """
    read = [look for look in looks if look.reading is not None]
    if len(read) < READ_MIN or len(read) < READ_SHARE_MIN * len(looks):
        raise PoorLatency(
            f"the code could be read in {len(read)} of {len(looks)} pictures, at least {READ_MIN} and half of them are "
            "needed; is the whole screen in view, sharp, without glare, and the exposure under two screen pictures?"
        )
    evidence = _Evidence.of(read, shown)
    if len(evidence.low_ms) < READ_MIN:
        raise PoorLatency(
            f"{len(read) - len(evidence.low_ms)} of {len(read)} pictures show a number that the log does not have; is "
            "it the log of this recording?"
        )
    _check_unit(read, shown)
    middle = float(np.median((evidence.low_ms + evidence.high_ms) / 2))
    if not DELAY_MS[0] < middle < DELAY_MS[1]:
        raise PoorLatency(
            f"pictures seem to be taken {middle / 1000:.1f} s after they were shown; do camera and log use the same "
            "clock (a video file starts at zero; --start-ns says when)?"
        )
    if len(set(evidence.number.tolist())) < READ_MIN // 2:
        raise PoorLatency("the pictures show the same few numbers again and again; did the screen or the camera stop?")
    told_ms = float(np.median([look.exposure_ns for look in read])) * 1e-6
    whole = _estimate(evidence, middle, told_ms)
    delay, jitter = whole.delay_ms, whole.jitter_ms
    interval = _widened(evidence, whole)
    halves = np.array_split(np.arange(len(evidence.low_ms)), 2)
    ends = [_estimate(evidence.part(rows), delay, whole.exposure_ms) for rows in halves]
    apart = ends[1].delay_ms - ends[0].delay_ms
    spread = math.hypot(*((end.interval_ms[1] - end.interval_ms[0]) / 3.92 for end in ends))
    if abs(apart) > DRIFT_MAX_MS and abs(apart) > 4 * spread:
        raise PoorLatency(
            f"the delay moved by {apart:.1f} ms from the first half to the second; do the clocks run at the same rate?"
        )
    if jitter > JITTER_MAX_MS:
        raise PoorLatency(
            f"single pictures scatter by {jitter:.1f} ms (sd), limit {JITTER_MAX_MS:g}; are the stamps the shutter's, "
            "or those of a busy program or a re-timed video?"
        )
    half = (interval[1] - interval[0]) / 2
    if half > limit_ms:
        raise PoorLatency(
            f"the delay is known to {half:.1f} ms (95 %), limit {limit_ms:g}; record longer, or let camera and screen "
            "run at rates that are no multiple of one another"
        )
    aged = np.array([(look.ready_ns - look.t_ns) * 1e-6 for look in read if look.ready_ns is not None])
    overlay = None
    if len(aged) >= READ_MIN:
        overlay = (delay + float(np.median(aged)), delay + float(np.percentile(aged, 95)))
    return Latency(
        delay, interval, jitter, whole.exposure_ms, whole.exposure_sd_ms, overlay, len(looks), len(read),
        int(evidence.changes), 1e9 / float(np.median(np.diff(list(shown.values())))),
    )  # fmt: skip


def _check_unit(read: Sequence[Look], shown: Mapping[int, int]) -> None:
    """Raise PoorLatency where the log's stamps advance a thousand times too slowly for nanoseconds, or more."""
    pairs = [(look.t_ns, look.reading.first) for look in read if look.reading and look.reading.first in shown]
    taken_ns = np.array([t_ns for t_ns, _ in pairs], dtype=np.float64)
    numbers = [number for _, number in pairs]
    if len(set(numbers)) < READ_MIN // 2:
        return  # a screen or a camera that stopped, which is told later
    logged = np.array([shown[number] for number in numbers], dtype=np.float64)
    third = len(pairs) // 3
    passed, advanced = (float(np.median(t[-third:]) - np.median(t[:third])) for t in (taken_ns, logged))
    ratio = passed / max(advanced, 1e-3)
    if ratio < 100:
        return
    unit = min(UNITS, key=lambda name: abs(math.log(ratio / UNITS[name])))
    raise PoorLatency(
        f"shown_ns advances by {advanced:g} while the camera's pictures of it take {passed * 1e-9:.3g} s; is the log "
        f"in {unit}? Nanoseconds are needed"
    )


@dataclass(frozen=True)
class _Estimate:
    delay_ms: float
    interval_ms: tuple[float, float]
    jitter_ms: float
    exposure_ms: float
    exposure_sd_ms: float


@dataclass(frozen=True, eq=False)
class _Evidence:
    """For every picture: the delay lies between `low_ms` and `high_ms`, or is `at_ms` + exposure x `lever` (NaN: none).

    A picture with a change has both; its bounds are those of the numbers that it shows.
    """

    low_ms: Array
    high_ms: Array
    at_ms: Array
    lever: Array
    number: Array

    @classmethod
    def of(cls, looks: Sequence[Look], shown: Mapping[int, int]) -> _Evidence:
        following = dict(zip(list(shown)[:-1], list(shown)[1:], strict=True))
        rows = []
        for look in looks:
            reading = look.reading
            if reading is None:
                continue
            run = [(reading.first + k) % NUMBERS for k in range(len(reading.shares))]
            if any(number not in shown for number in run) or run[-1] not in following:
                continue
            low = (look.t_ns - shown[following[run[-1]]]) * 1e-6
            high = (look.t_ns - shown[run[0]]) * 1e-6
            at, lever = math.nan, math.nan
            if len(run) > 1:  # of several changes the middle one: nearest to the exposure's middle
                after = np.array([sum(reading.shares[k:]) for k in range(1, len(run))])
                k = int(np.argmin(np.abs(after - 0.5))) + 1
                at, lever = (look.t_ns - shown[run[k]]) * 1e-6, 0.5 - float(after[k - 1])
            rows.append((low, high, at, lever, run[0]))
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, 5).T)

    def part(self, rows: Any) -> _Evidence:
        return _Evidence(self.low_ms[rows], self.high_ms[rows], self.at_ms[rows], self.lever[rows], self.number[rows])

    @property
    def changes(self) -> int:
        return int(np.isfinite(self.at_ms).sum())


def _estimate(evidence: _Evidence, near_ms: float, told_ms: float) -> _Estimate:
    """From a grid of the posterior, zoomed."""
    period = float(np.median(evidence.high_ms - evidence.low_ms))
    delays = np.linspace(near_ms - 2.5 * period, near_ms + 2.5 * period, 61)
    jitters = np.geomspace(*JITTERS_MS, 15)
    measured = (told_ms, 0.0) if told_ms > 0 else _exposure(evidence)
    exposures = np.linspace(0.0, 2.5 * period, 21)
    if measured is not None:
        exposures = np.clip(measured[0] + measured[1] * np.linspace(-3, 3, 13 if measured[1] > 0 else 1), 0, None)
    for zoom in range(4):
        posterior = _posterior(evidence, delays, jitters, exposures, None if measured is None else measured[0])
        weight, ways, widths = (posterior.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
        mean, jitter, exposure = float(delays @ weight), float(jitters @ ways), float(exposures @ widths)
        if zoom == 3:
            break
        sd = math.sqrt(float(((delays - mean) ** 2) @ weight))
        delays = np.linspace(mean - 6 * sd - 0.02, mean + 6 * sd + 0.02, 61)
        middle = float(np.log(jitters) @ ways)
        reach = 4 * math.sqrt(float(((np.log(jitters) - middle) ** 2) @ ways)) + 0.05
        jitters = np.exp(np.linspace(middle - reach, middle + reach, 9))
    cumulated = np.cumsum(weight)
    low, high = (float(np.interp(q, cumulated, delays)) for q in (0.025, 0.975))
    doubt = math.sqrt(max(float(((exposures - exposure) ** 2) @ widths), 0.0)) if measured is None else measured[1]
    return _Estimate(mean, (low, high), jitter, exposure if measured is None else measured[0], doubt)


def _exposure(evidence: _Evidence) -> tuple[float, float] | None:
    """The exposure and its sd from pictures with a change (stamp against share, Theil-Sen); None: they can't tell."""
    change = np.isfinite(evidence.at_ms)
    at, lever = evidence.at_ms[change], evidence.lever[change]
    if len(at) < CHANGES_MIN or float(np.std(lever)) < LEVER_MIN:
        return None
    slope, start = theilslopes(at, lever)[:2]
    left = at - start - slope * lever
    sd = 1.4826 * float(np.median(np.abs(left))) / (math.sqrt(len(at)) * float(np.std(lever)))
    return max(-float(slope), 0.0), max(sd, 1e-3)


def _widened(evidence: _Evidence, whole: _Estimate) -> tuple[float, float]:
    """The interval, at least as wide as blocks of time that are left out in turn make the delay scatter (jackknife)."""
    interval, delay_ms = whole.interval_ms, whole.delay_ms
    jitter, exposure = np.array([whole.jitter_ms]), np.array([whole.exposure_ms])
    every = np.arange(len(evidence.low_ms))
    half = (interval[1] - interval[0]) / 2
    delays = np.linspace(delay_ms - 3 * half - 0.02, delay_ms + 3 * half + 0.02, 201)
    found = []
    for block in np.array_split(every, BLOCKS):
        rest = evidence.part(np.setdiff1d(every, block))
        found.append(float(delays @ _posterior(rest, delays, jitter, exposure, whole.exposure_ms).ravel()))
    sd = math.sqrt((BLOCKS - 1) ** 2 / BLOCKS * float(np.var(found, ddof=1)))
    wider = max(half, T95 * sd)
    return (interval[0] + half - wider, interval[1] - half + wider)


def _posterior(
    evidence: _Evidence, delays_ms: Array, jitters_ms: Array, exposures_ms: Array, known_ms: float | None
) -> Array:
    """Normalised weights (delays, jitters, exposures); flat in the delay and the exposure, scale-free in the jitter.

    `known_ms`: the exposure that bounds are drawn in by, where it is known without them.
    """
    change = np.isfinite(evidence.at_ms)
    low, high = evidence.low_ms[~change], evidence.high_ms[~change]
    at, lever = evidence.at_ms[change], evidence.lever[change]
    log = np.zeros((len(delays_ms), len(jitters_ms), len(exposures_ms)))
    wide = 2.0 * float(np.median(evidence.high_ms - evidence.low_ms))
    for j, jitter in enumerate(jitters_ms):
        for e, exposure in enumerate(exposures_ms):
            if len(low):
                # no change was seen: the whole exposure lies between two
                margin = (exposure if known_ms is None else known_ms) / 2
                above = ndtr((high - margin - delays_ms[:, None]) / jitter)
                below = ndtr((low + margin - delays_ms[:, None]) / jitter)
                inside = np.maximum(above - below, 0.0)
                log[:, j, e] += np.log((1 - STRAY) * inside + STRAY * 0.1).sum(axis=1)
            if len(at):
                z = (at + exposure * lever - delays_ms[:, None]) / jitter
                density = np.exp(-0.5 * z**2) / (jitter * math.sqrt(2 * math.pi))
                log[:, j, e] += np.log((1 - STRAY) * density + STRAY / wide).sum(axis=1)
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())
