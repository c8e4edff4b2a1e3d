"""How long each stage of the loop takes: a histogram of fixed size, so that an hour of guidance costs no memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

EDGES_MS = np.geomspace(0.01, 10_000.0, 241)  # each bin 5.9 % wide, so a quantile errs by at most that


class Stages:
    """Times the named stages of one frame after another."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._now: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        started = time.perf_counter_ns()
        try:
            yield
        finally:
            self._now[name] = (time.perf_counter_ns() - started) / 1e6

    def frame(self) -> dict[str, float]:
        """Close the frame: its times (ms) by stage, which also enter the histograms."""
        times, self._now = self._now, {}
        for name, ms in times.items():
            counts = self._counts.setdefault(name, np.zeros(len(EDGES_MS) + 1, dtype=np.int64))
            counts[int(np.searchsorted(EDGES_MS, ms))] += 1
        return times

    def summary(self) -> dict[str, dict[str, float]]:
        """Frames, median and 99 % time (ms) of each stage, to the width of a bin."""
        out = {}
        for name, counts in self._counts.items():
            total = np.cumsum(counts)
            quantile = {
                key: float(EDGES_MS[min(int(np.searchsorted(total, q * total[-1])), len(EDGES_MS) - 1)])
                for key, q in (("p50_ms", 0.5), ("p99_ms", 0.99))
            }
            out[name] = {"frames": int(total[-1]), **quantile}
        return out
