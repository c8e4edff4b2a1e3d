"""The arithmetic of the motion filter, compiled: one belief is one vector, so each kernel has one signature.

A belief is the pose (R, t), its rates (turn rate, speed) and accelerations, all in camera axes, and the covariance
(18, 18) of their errors, in blocks of six, rotation before translation: pose (R_true = Exp(w) R, t_true = t + v),
rates, accelerations. Accelerations are remembered for MEMORY_S and driven by white noise (Singer 1970, "Estimating
optimal tracking filter performance for manned maneuvering targets", eq. 6 to 10): over a gap much longer than that the
speed is constant but for white acceleration, over a few pictures the bend of the path is followed.

How restless the body is, is not known beforehand: a posterior over levels of acceleration, of turning and of shifting,
is updated by how likely each innovation is under each level, and the filter runs on its mean. How well predictions
over 33 and 100 ms turn out is measured as they come true. It scales what the next ones claim; and where the body did
not go on as foretold (a tremor turns back before 33 ms are over), the next ones go only as far as was right.
"""

from __future__ import annotations

import numpy as np

from spatial.compiled import njit
from spatial.rigid import Array
from tracking.history.matrices import columns, inverse, part, rotation, rotation_vector, times, transposed

MEMORY_S = 0.2
STEPS = np.array([1.0, 10.0, 50.0, 200.0, 800.0, 4000.0])  # of the levels, from clamped to struck
LEAST_MM_S2, LEAST_RAD_S2 = 3.0, 0.03  # the lowest level: sd of a component of the acceleration
FIRST = np.array([0.10, 0.20, 0.30, 0.25, 0.10, 0.05])
FIRST_SQUARE = float(FIRST @ STEPS**2)
RESTLESS_S = 1.0  # how long a level lasts; then half of the time it goes to a neighbour
ANYWHERE = 0.005  # how often it goes to any other
SPEED_MM_S, TURN_RAD_S = 250.0, 1.5  # sd of a body's rates when it is first seen
CLAIM_S = 1.0  # over how long predictions that came true are averaged
CLAIM_TARGET = 0.87  # of a squared error over its claim: below 1, as hands have longer tails than a Gaussian
CLAIM_LEAST, CLAIM_MOST = 0.02, 30.0
REACH_S = 0.3  # over how long it is averaged how far predictions should have gone
REACH_MOST = 1.05
SUDDEN_MM_S2, SUDDEN_RAD_S2 = 10_000.0, 100.0  # sd of accelerations that begin between two pictures: the gate's

# where each part of a belief ends: rotation and translation; rates and accelerations; covariance; the levels' posterior
# and mean square (turning, shifting); the scale of claims of each axis, near and far; the two horizons (s) of these;
# how far predictions should have gone and how far they went, near (turning, shifting) and far
POSE, RATES, ERRORS, LEVELS, SPREAD, CLAIMS, HORIZONS, SIZE = 12, 24, 348, 360, 362, 374, 376, 384
Q_SMALL = 0.02


@njit
def _corrected(belief: Array, R: Array, t: Array, x: Array, P: Array, d: Array) -> Array:
    """`belief` with another pose, rates and covariance, and a correction d (18,) of these carried out."""
    out = belief.copy()
    R = times(rotation(d), R)
    square = times(R, times(transposed(R), R))
    for i in range(3):
        for j in range(3):  # one step of Newton's iteration takes rounding off the rotation
            out[3 * i + j] = 1.5 * R[i, j] - 0.5 * square[i, j]
        out[9 + i] = t[i] + d[3 + i]
    for i in range(12):
        out[POSE + i] = x[i] + d[6 + i]
    for i in range(18):
        for j in range(18):
            out[RATES + 18 * i + j] = (P[i, j] + P[j, i]) / 2
    return out


@njit
def _weights(dt: float) -> Array:
    """Of acceleration: on the pose, on the rates, on itself; then Singer's six noise integrals for a level of 1."""
    x, tau = dt / MEMORY_S, MEMORY_S
    out = np.empty(9)
    if x < Q_SMALL:
        out[0], out[1], out[2] = dt * dt / 2 * (1 - x / 3), dt * (1 - x / 2), 1 - x + x * x / 2
        k = 2.0 / tau
        out[3], out[4], out[5] = k * dt**5 / 20, k * dt**4 / 8, k * dt**3 / 6
        out[6], out[7], out[8] = k * dt**3 / 3, k * dt**2 / 2, k * dt
        return out
    e, e2 = np.exp(-x), np.exp(-2 * x)
    out[0], out[1], out[2] = (e - 1 + x) * tau * tau, (1 - e) * tau, e
    out[3] = (1 - e2 + 2 * x + 2 * x**3 / 3 - 2 * x * x - 4 * x * e) * tau**4
    out[4] = (e2 + 1 - 2 * e + 2 * x * e - 2 * x + x * x) * tau**3
    out[5] = (1 - e2 - 2 * x * e) * tau**2
    out[6] = (4 * e - 3 - e2 + 2 * x) * tau**2
    out[7] = (e2 + 1 - 2 * e) * tau
    out[8] = 1 - e2
    return out


@njit
def _forward(M: Array, turn: Array, dt: float, w: Array) -> Array:
    """The transition of the errors times M (18, n)."""
    out = np.empty_like(M)
    for j in range(M.shape[1]):
        for i in range(6):
            out[i, j] = M[i, j] + dt * M[6 + i, j] + w[0] * M[12 + i, j]
            out[6 + i, j] = M[6 + i, j] + w[1] * M[12 + i, j]
            out[12 + i, j] = w[2] * M[12 + i, j]
        for i in range(3):
            out[i, j] += (turn[i, 0] * M[0, j] + turn[i, 1] * M[1, j] + turn[i, 2] * M[2, j]) - M[i, j]
    return out


@njit
def _backward(M: Array, turn: Array, dt: float, w: Array) -> Array:
    """The transposed transition times M (18, n)."""
    out = np.empty_like(M)
    for j in range(M.shape[1]):
        for i in range(6):
            out[6 + i, j] = dt * M[i, j] + M[6 + i, j]
            out[12 + i, j] = w[0] * M[i, j] + w[1] * M[6 + i, j] + w[2] * M[12 + i, j]
            out[i, j] = M[i, j]
        for i in range(3):
            out[i, j] = turn[0, i] * M[0, j] + turn[1, i] * M[1, j] + turn[2, i] * M[2, j]
    return out


@njit
def _advance(belief: Array, dt: float) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Without noise: R, t, rates and accelerations, covariance, the turn that was made, the weights of `dt`."""
    w = _weights(dt)
    x, t, d = np.empty(12), np.empty(3), np.empty(3)
    for i in range(6):
        rate, change = belief[POSE + i], belief[POSE + 6 + i]
        x[i], x[6 + i] = rate + change * w[1], change * w[2]
        way = rate * dt + change * w[0]
        if i < 3:
            d[i] = way
        else:
            t[i - 3] = belief[6 + i] + way
    turn = rotation(d)
    R = times(turn, part(belief, 0, 3, 3))
    P = _forward(transposed(_forward(part(belief, RATES, 18, 18), turn, dt, w)), turn, dt, w)
    return R, t, x, P, turn, w


@njit
def _spread(P: Array, seen: Array) -> Array:
    """Covariance (6, 6) of an innovation."""
    out = part(seen, POSE, 6, 6)
    for i in range(6):
        for j in range(6):
            out[i, j] += P[i, j]
    return out


@njit
def _add_noise(P: Array, w: Array, belief: Array) -> None:
    """Singer's noise for a belief's mean squared levels of turning and shifting, into P."""
    for i in range(6):
        level = belief[LEVELS + i // 3]
        P[i, i] += level * w[3]
        P[i, 6 + i] += level * w[4]
        P[6 + i, i] += level * w[4]
        P[i, 12 + i] += level * w[5]
        P[12 + i, i] += level * w[5]
        P[6 + i, 6 + i] += level * w[6]
        P[6 + i, 12 + i] += level * w[7]
        P[12 + i, 6 + i] += level * w[7]
        P[12 + i, 12 + i] += level * w[8]


@njit
def _innovation(R: Array, t: Array, seen: Array) -> Array:
    """What a sighting adds to a prediction: rotation vector and shift (6,)."""
    turn = rotation_vector(times(part(seen, 0, 3, 3), transposed(R)))
    e = np.empty(6)
    for i in range(3):
        e[i], e[3 + i] = turn[i], seen[9 + i] - t[i]
    return e


@njit
def _judge_levels(belief: Array, S: Array, q: float, e: Array, dt: float, out: Array) -> None:
    """Into `out`: the levels' posterior after an innovation e with covariance S + level^2 q, and their mean square."""
    n = len(STEPS)
    change = 1.0 - np.exp(-dt / RESTLESS_S)
    likely = np.zeros(n)
    for half in range(2):
        least = LEAST_MM_S2**2 if half else LEAST_RAD_S2**2
        first = ERRORS + n * half
        for j in range(n):
            likely[j] = 0.0
            for i in range(3 * half, 3 * half + 3):
                variance = S[i, i] + q * least * STEPS[j] ** 2
                likely[j] -= 0.5 * (np.log(variance) + e[i] ** 2 / variance)
        most, total, mean = likely.max(), 0.0, 0.0
        for j in range(n):
            prior = (1.0 - change) * belief[first + j] + change * ANYWHERE / n
            if j > 0:
                prior += 0.25 * change * belief[first + j - 1]
            if j < n - 1:
                prior += 0.25 * change * belief[first + j + 1]
            out[first + j] = prior * np.exp(likely[j] - most)
            total += out[first + j]
            mean += out[first + j] * least * STEPS[j] ** 2
        for j in range(n):
            out[first + j] /= total
        out[LEVELS + half] = mean / total


@njit
def begin(seen: Array) -> Array:
    """The belief after a first sighting: `seen` is R (9), t (3) and covariance (36) in one vector."""
    out = np.zeros(SIZE)
    for i in range(POSE):
        out[i] = seen[i]
    for i in range(6):
        for j in range(6):
            out[RATES + 18 * i + j] = seen[POSE + 6 * i + j]
        out[RATES + 19 * (6 + i)] = TURN_RAD_S**2 if i < 3 else SPEED_MM_S**2
        out[RATES + 19 * (12 + i)] = FIRST_SQUARE * (LEAST_RAD_S2**2 if i < 3 else LEAST_MM_S2**2)
        out[LEVELS + i // 3] = out[RATES + 19 * (12 + i)]
    for j in range(LEVELS - ERRORS):
        out[ERRORS + j] = FIRST[j % len(FIRST)]
    for i in range(SPREAD, CLAIMS):
        out[i] = 1.0
    out[CLAIMS], out[CLAIMS + 1] = 0.033, 0.1
    for i in range(HORIZONS, SIZE):
        out[i] = 1e-9
    return out


@njit
def update(belief: Array, seen: Array, dt: float) -> tuple[Array, float]:
    """The belief after a sighting `dt` later, and how far off it was: squared, by the most that the gate allows."""
    R, t, x, P, _, w = _advance(belief, dt)
    e = _innovation(R, t, seen)
    sudden, out = _spread(P, seen), belief.copy()
    if dt > 0:  # two cameras at one instant say nothing about motion
        _judge_levels(belief, sudden, w[3], e, dt, out)
    for i in range(6):
        jolt = SUDDEN_RAD_S2 if i < 3 else SUDDEN_MM_S2
        sudden[i, i] += (jolt * dt * dt / 2) ** 2
    weight, surprise = inverse(sudden), 0.0
    for i in range(6):
        for j in range(6):
            surprise += e[i] * weight[i, j] * e[j]
    _add_noise(P, w, out)
    first = columns(P)
    gain = times(first, inverse(_spread(P, seen)))
    taken = times(gain, transposed(first))
    d = np.zeros(18)
    for i in range(18):
        for j in range(6):
            d[i] += gain[i, j] * e[j]
        for j in range(18):
            P[i, j] -= taken[i, j]
    return _corrected(out, R, t, x, P, d), surprise


@njit
def _between(near: float, far: float, belief: Array, dt: float) -> float:
    """What is 0 at once, `near` and `far` at the belief's two horizons: `dt` ahead."""
    first, second = belief[CLAIMS], max(belief[CLAIMS + 1], belief[CLAIMS] + 1e-3)
    if dt < first:
        return float(near * dt / first)
    return float(near + (far - near) * min(1.0, (dt - first) / (second - first)))


@njit
def _reach(belief: Array, half: int, dt: float) -> float:
    """Which part of its way a prediction `dt` ahead goes: turning (0) or shifting (1)."""
    k = HORIZONS + 2 * half
    near = min(max(belief[k] / belief[k + 1], 0.0), REACH_MOST)
    far = min(max(belief[k + 4] / belief[k + 5], 0.0), REACH_MOST)
    return float(1.0 + _between(near - 1.0, far - 1.0, belief, dt))


@njit
def _way(belief: Array, t: Array, turn: Array) -> Array:
    """The way (6,) from a belief's pose to a prediction."""
    w, out = rotation_vector(turn), np.empty(6)
    for i in range(3):
        out[i], out[3 + i] = w[i], t[i] - belief[9 + i]
    return out


@njit
def learn(belief: Array, earlier: Array, seen: Array, dt: float, step: float, which: int) -> None:
    """Compare what `earlier` predicted `dt` ahead with what was seen, and scale such claims in `belief` accordingly.

    `which`: 0 for the shorter horizon, 1 for the longer; `step`: seconds since the sighting before this one.
    """
    _, t, _, P, turn, w = _advance(earlier, dt)
    _add_noise(P, w, earlier)
    came, went = _innovation(part(earlier, 0, 3, 3), earlier[9:POSE], seen), _way(earlier, t, turn)
    e = np.empty(6)
    forget = np.exp(-step / REACH_S)
    for half in range(2):
        reach, along, square = _reach(earlier, half, dt), 0.0, 0.0
        for i in range(3 * half, 3 * half + 3):
            e[i] = came[i] - reach * went[i]
            P[i, i] += ((1.0 - reach) * went[i]) ** 2  # the way that is not gone to its end is a doubt of its own
            along += went[i] * came[i]
            square += went[i] ** 2
        length, k = np.sqrt(square) + 1e-12, HORIZONS + 4 * which + 2 * half
        belief[k] = forget * belief[k] + (1.0 - forget) * along / length
        belief[k + 1] = forget * belief[k + 1] + (1.0 - forget) * length
    share = 1.0 - np.exp(-step / CLAIM_S)
    for i in range(6):
        k = SPREAD + 6 * which + i
        ratio = e[i] ** 2 / (belief[k] * P[i, i] + seen[POSE + 7 * i])
        grown = belief[k] * (1.0 + share * (min(ratio, 16.0) / CLAIM_TARGET - 1.0))
        belief[k] = min(max(grown, CLAIM_LEAST), CLAIM_MOST)
    belief[CLAIMS + which] = dt


@njit
def ahead(belief: Array, dt: float) -> Array:
    """The belief `dt` later, its covariance scaled by how such claims turned out."""
    _, t, x, P, turn, w = _advance(belief, dt)
    _add_noise(P, w, belief)
    went, scale, d = _way(belief, t, turn), np.ones(18), np.zeros(18)
    for i in range(6):
        reach, first = _reach(belief, i // 3, dt), 3 * (i // 3)
        for j in range(first, first + 3):
            P[i, j] += (1.0 - reach) ** 2 * went[i] * went[j]
        d[i] = reach * went[i]
        grown = _between(np.log(belief[SPREAD + i]), np.log(belief[SPREAD + 6 + i]), belief, dt)
        scale[i] = scale[6 + i] = scale[12 + i] = np.exp(grown / 2)
    for i in range(18):
        for j in range(18):
            P[i, j] *= scale[i] * scale[j]
    return _corrected(belief, part(belief, 0, 3, 3), belief[9:POSE], x, P, d)


@njit
def smoothed(beliefs: Array, seen: Array, steps: Array, dt: float) -> Array:
    """The belief `dt` after the first of `beliefs` (n, SIZE), knowing the sightings `seen` (n, 48) after it too.

    `steps` (n,): seconds since the belief before; the first is not read. By the modified Bryson-Frazier recursion
    (Bierman 1973, "Fixed interval smoothing with discrete measurements"), which inverts no covariance but a sighting's.
    """
    n = len(beliefs)
    adjoint, weight = np.zeros((18, 1)), np.zeros((18, 18))
    for k in range(n - 1, 0, -1):
        R, t, _, P, turn, w = _advance(beliefs[k - 1], steps[k])
        _add_noise(P, w, beliefs[k])
        e = _innovation(R, t, seen[k])
        sure = inverse(_spread(P, seen[k]))
        gain = times(columns(P), sure)
        back = transposed(gain)
        # C = 1 - gain H changes the first six rows and columns alone
        below, beside = times(back, adjoint), times(back, weight)
        for i in range(6):
            adjoint[i, 0] -= below[i, 0]
            for j in range(6):
                adjoint[i, 0] -= sure[i, j] * e[j]
            for j in range(18):
                weight[i, j] -= beside[i, j]
        right = times(weight, gain)
        for i in range(18):
            for j in range(6):
                weight[i, j] -= right[i, j]
                if i < 6:
                    weight[i, j] += sure[i, j]
        if k > 1:
            adjoint = _backward(adjoint, turn, steps[k], w)
            weight = _backward(transposed(_backward(weight, turn, steps[k], w)), turn, steps[k], w)
    R, t, x, P, _, w = _advance(beliefs[0], dt)
    if n > 1:
        _add_noise(P, w, beliefs[1])
        rest, way = steps[1] - dt, np.empty(3)
        w = _weights(rest)
        for i in range(3):
            way[i] = x[i] * rest + x[6 + i] * w[0]
        turn = rotation(way)
        adjoint = _backward(adjoint, turn, rest, w)
        weight = _backward(transposed(_backward(weight, turn, rest, w)), turn, rest, w)
    shift, less, d = times(P, adjoint), times(P, times(weight, P)), np.empty(18)
    for i in range(18):
        d[i] = -shift[i, 0]
        for j in range(18):
            P[i, j] -= less[i, j]
    return _corrected(beliefs[0], R, t, x, P, d)
