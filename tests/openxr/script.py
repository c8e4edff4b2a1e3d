"""What the scripted surgeon does, as data: played by `trial.py`, expected by the tests. No product code."""

from __future__ import annotations

import math
import random

from tests.openxr.remote import Hand, Pose, Pretence, Quaternion, View

BLOCKS = 30  # changes of pose and buttons
FRAMES_PER_BLOCK = 10  # the null compositor's 20 frames a second make 15 s of all
PICTURED = (3, 9, 15, 21, 27)  # blocks whose last frame is read back
EYE_SIZE_PX = (640, 480)

# Points of light in the stage, mm: one colour channel each, at depths from 0.5 to 1.5 m before the head.
LIGHTS_MM = ((-120.0, 1560.0, -500.0), (90.0, 1650.0, -900.0), (40.0, 1480.0, -1500.0))

# Eyes 64 mm apart, turned a little outward, each with its own lopsided lens.
VIEWS = (
    View(Pose((-0.032, 0.002, 0.001), (0.0, math.sin(0.02), 0.0, math.cos(0.02))), (-0.85, 0.70, 0.72, -0.78)),
    View(Pose((0.032, -0.001, 0.0), (0.0, -math.sin(0.02), 0.0, math.cos(0.02))), (-0.72, 0.83, 0.70, -0.80)),
)


def _turned(rng: random.Random, largest_rad: float) -> Quaternion:
    axis = [rng.gauss(0.0, 1.0) for _ in range(3)]
    length = math.sqrt(sum(a * a for a in axis))
    half = rng.uniform(0.1, 1.0) * largest_rad / 2.0
    x, y, z = (a / length * math.sin(half) for a in axis)
    return (x, y, z, math.cos(half))


def _hand(rng: random.Random, active: bool) -> Hand:
    place = (rng.uniform(-0.6, 0.6), rng.uniform(0.7, 1.7), rng.uniform(-0.9, 0.1))
    return Hand(
        Pose(place, _turned(rng, math.pi)),
        active=active,
        trigger=rng.choice((0.0, 0.25, 1.0)),
        squeeze=rng.choice((0.0, 0.5, 1.0)),
        stick=(rng.choice((-1.0, 0.0, 0.75)), rng.choice((-0.25, 0.0, 1.0))),
        a=rng.random() < 0.5,
        b=rng.random() < 0.5,
    )


def pretences() -> list[Pretence]:
    """One a block, always the same; the right hand is lost in every fifth, the left in every seventh."""
    rng = random.Random(20)
    return [
        Pretence(
            head=Pose((rng.uniform(-0.1, 0.1), rng.uniform(1.5, 1.65), rng.uniform(-0.05, 0.05)), _turned(rng, 0.2)),
            left=_hand(rng, active=block % 7 != 6),
            right=_hand(rng, active=block % 5 != 4),
            views=VIEWS,
        )
        for block in range(BLOCKS)
    ]
