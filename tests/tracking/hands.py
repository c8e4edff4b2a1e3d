"""How hands move, in closed form: a tool held still, somebody walking, quick reaches. Truth at any instant.

Frequencies and sizes: physiological tremor 7 to 11 Hz, some hundredths of a millimetre (Elble & Koller 1990); reaches
as minimum-jerk polynomials (Flash & Hogan 1985). Nothing here knows the filter's model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spatial.frames import Camera
from spatial.rigid import Array, Rigid, UncertainRigid, rotation_exp
from tracking.pose.sighting import Sighting

Kind = Literal["hold", "walk", "jerk"]
Path = Callable[[float], Array]


def _sines(rng: np.random.Generator, low_hz: float, high_hz: float, rms: float, slope: float = 0.0) -> Path:
    """A sum of sines an axis: rms overall, amplitudes falling with frequency as its power `slope`."""
    hz, phase = rng.uniform(low_hz, high_hz, (3, 6)), rng.uniform(0, 2 * np.pi, (3, 6))
    size = hz**-slope
    size *= rms / np.sqrt((size**2).sum(axis=1, keepdims=True) / 2)
    return lambda t_s: np.asarray((size * np.sin(2 * np.pi * hz * t_s + phase)).sum(axis=1))


def _reaches(rng: np.random.Generator, until_s: float, rms: float) -> Path:
    """Moves of 0.25 to 0.8 s with rests between, each a minimum-jerk step."""
    starts, lengths, now = [], [], float(rng.uniform(0.2, 1.0))
    while now < until_s:
        starts.append(now)
        lengths.append(float(rng.uniform(0.25, 0.8)))
        now += lengths[-1] + float(rng.uniform(0.1, 1.0))
    steps = rng.normal(0, rms, (len(starts), 3))

    def path(t_s: float) -> Array:
        s = np.clip((t_s - np.array(starts)) / np.array(lengths), 0, 1)
        return np.asarray((10 * s**3 - 15 * s**4 + 6 * s**5) @ steps)

    return path


@dataclass(frozen=True, eq=False)
class Hand:
    """Calling it gives the true pose at a time in seconds."""

    start: Rigid[Camera, Any]
    turns: tuple[Path, ...]
    shifts: tuple[Path, ...]

    @classmethod
    def of(cls, kind: Kind, seed: int, until_s: float = 20.0, brisk: float = 1.0) -> Hand:
        """`brisk` scales how far a walking or reaching hand goes."""
        rng = np.random.default_rng(seed)
        turns = [_sines(rng, 7, 11, np.radians(0.02))]
        shifts = [_sines(rng, 7, 11, 0.03)]
        if kind == "walk":
            turns += [_sines(rng, 0.2, 0.8, brisk * np.radians(8), 1), _sines(rng, 1.4, 2.2, brisk * np.radians(1))]
            shifts += [_sines(rng, 0.2, 0.8, brisk * 60, 1), _sines(rng, 1.4, 2.2, brisk * 8)]
        else:
            turns.append(_sines(rng, 0.2, 1.5, np.radians(0.3), 1))
            shifts.append(_sines(rng, 0.2, 1.5, 0.5, 1))
        if kind == "jerk":
            seeds = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 1))  # turns go with shifts
            turns.append(_reaches(seeds[0], until_s, brisk * np.radians(12)))
            shifts.append(_reaches(seeds[1], until_s, brisk * 60))
        start = Rigid[Camera, Any](rotation_exp(rng.normal(0, 1, 3)), np.array([20.0, -30.0, 600.0]))
        return cls(start, tuple(turns), tuple(shifts))

    def __call__(self, t_s: float) -> Rigid[Camera, Any]:
        """The true pose."""
        turn, shift = sum(path(t_s) for path in self.turns), sum(path(t_s) for path in self.shifts)
        return Rigid[Camera, Any](
            rotation_exp(turn) @ self.start.rotation, self.start.translation_mm + np.asarray(shift)
        )


def camera_noise(sd_mm: float = 0.03, sd_deg: float = 0.01) -> Array:
    """A covariance as one camera gives it: depth worst, tilt coupled with the shift across."""
    turn, shift = np.radians(sd_deg) * np.array([1, 1, 0.3]), sd_mm * np.array([0.3, 0.3, 1])
    C = np.diag(np.concatenate([turn, shift]) ** 2)
    C[0, 4] = C[4, 0] = 0.5 * turn[0] * shift[1]
    C[1, 3] = C[3, 1] = -0.5 * turn[1] * shift[0]
    return C


def seen(truth: Rigid[Camera, Any], t_ns: int, covariance: Array, rng: np.random.Generator) -> Sighting[Any]:
    """A sighting whose error is drawn from its covariance."""
    e = np.linalg.cholesky(covariance) @ rng.standard_normal(6)
    pose = Rigid[Camera, Any](rotation_exp(e[:3]) @ truth.rotation, truth.translation_mm + e[3:])
    return Sighting("b", t_ns, "TRACKED", None, UncertainRigid(pose, covariance), 0.1)


def missed(t_ns: int, reason: str = "0 of 4 markers seen") -> Sighting[Any]:
    """A picture without the body."""
    return Sighting("b", t_ns, "LOST", reason, None, None, cause="too few markers")
