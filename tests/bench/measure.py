"""One job, done by us and by a peer in turn: is it the same result, and how long does each take?

Milliseconds on a shared machine say little, so the two run in turn, in changing order, and the ratio is the median of
the ratios of neighbouring runs. Where the results disagree there is no ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

LEAST_S = 0.02  # shorter jobs are repeated until a run is this long
MOST_REPEATS = 500
LONG_S = 5.0


@dataclass(frozen=True)
class Judgement:
    """Whether both did the same job, in words with the numbers, and those numbers by name for `--json`."""

    agrees: bool
    words: str
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Plain numbers, whatever NumPy made of them: they go to JSON."""
        object.__setattr__(self, "agrees", bool(self.agrees))
        object.__setattr__(self, "figures", {name: float(value) for name, value in self.figures.items()})


@dataclass(frozen=True)
class Side:
    """Who does it, and how: called without arguments, returns the result."""

    who: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """What is done. Without a peer `judge` gets None as the peer's result, and `no_peer` says why there is none."""

    room: str
    what: str
    ours: Side
    peer: Side | None
    judge: Callable[[Any, Any], Judgement]
    rounds: int = 5
    no_peer: str | None = None


@dataclass(frozen=True)
class Result:
    """Median times (ms) of one call; `ratio` = peer / ours with its lowest and highest round (above 1: ours wins)."""

    job: Job
    ours_ms: float
    peer_ms: float | None
    ratio: float | None
    ratio_range: tuple[float, float] | None
    judgement: Judgement

    def to_json(self) -> dict[str, Any]:
        """One of the `results` of `osteotwin bench --json`."""
        peer = self.job.peer
        return {
            "room": self.job.room,
            "job": self.job.what,
            "ours": {"who": self.job.ours.who, "ms": self.ours_ms},
            "peer": None if peer is None else {"who": peer.who, "ms": self.peer_ms},
            "no_peer": self.job.no_peer,
            "ratio": self.ratio,
            "ratio_range": None if self.ratio_range is None else list(self.ratio_range),
            "agreement": {"agrees": self.judgement.agrees, "words": self.judgement.words},
            "figures": {k: v if math.isfinite(v) else None for k, v in self.judgement.figures.items()},
            "rounds": self.job.rounds,
        }


def judged(job: Job) -> Judgement:
    """Do the job once on either side and compare; nothing is timed."""
    return job.judge(job.ours.run(), job.peer.run() if job.peer else None)


def measured(job: Job) -> Result:
    """Judge the results of a first run, which also warms both up, then time both in turn."""
    sides = [job.ours, *([job.peer] if job.peer else [])]
    results, repeats = [], []
    for side in sides:
        started = time.perf_counter()
        results.append(side.run())
        long = time.perf_counter() - started > LONG_S  # then once was enough to be warm
        seconds = LONG_S if long else _seconds(side, 1)
        repeats.append(min(MOST_REPEATS, max(1, math.ceil(LEAST_S / max(seconds, 1e-9)))))
    judgement = job.judge(results[0], results[1] if job.peer else None)
    del results
    times: list[list[float]] = [[] for _ in sides]
    for number in range(job.rounds):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for k in order:
            times[k].append(_seconds(sides[k], repeats[k]))
    ratios = [theirs / ours for ours, theirs in zip(*times, strict=True)] if job.peer and judgement.agrees else []
    return Result(
        job,
        1e3 * median(times[0]),
        1e3 * median(times[1]) if job.peer else None,
        median(ratios) if ratios else None,
        (min(ratios), max(ratios)) if ratios else None,
        judgement,
    )


def _seconds(side: Side, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        side.run()
    return (time.perf_counter() - started) / repeats
