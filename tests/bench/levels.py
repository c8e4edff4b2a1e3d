"""Are the levels right? Phantoms of many seeds and kinds, labelled alone: `python -m tests.bench.levels [FIRST LAST]`.

Coarse voxels (1.6 x 1.6 x 2 mm) so that forty take a quarter of an hour: names and confidence are judged here, edges
elsewhere. A line of JSON a seed; a level is right when its voxels overlap with the true one's by a Dice of over 0.5.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from twin.anatomy import segmentation
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.scanner import voxelise

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"scoliosis_deg": 40.0},
    {"osteoporosis": True},
    {"transitional": "L6"},
    {"metal": "screws"},
    {"scoliosis_deg": 25.0, "osteoporosis": True},
    {"transitional": "T13"},
    {"contrast": True},
    {"metal": "hip"},
    {"transitional": "L4"},
)


def judged(seed: int) -> dict[str, Any]:
    """One phantom: is every vertebra and the sacrum found under its own name, and none that is not there?"""
    kind = KINDS[seed % len(KINDS)]
    volume, truth = voxelise(Phantom.make(seed, **kind), slice_mm=2.0, pixel_mm=1.6)
    found = segmentation.segment(volume, "default")
    number = {name: n for n, name in found.labels.names.items()}
    spine = {name: n for n, name in truth.names.items() if name.startswith("vertebrae") or name == "sacrum"}
    dice = {}
    for name, n in spine.items():
        true, mine = truth.labels == n, found.labels.labels == number.get(name, -1)
        dice[name] = float(2 * (true & mine).sum() / (true.sum() + mine.sum()))
    extra = sorted(name for name in number if name.startswith("vertebrae") and name not in spine)
    worst = min(dice, key=lambda name: dice[name])
    return {
        "seed": seed,
        "kind": kind,
        "right": dice[worst] > 0.5 and not extra,
        "worst": worst,
        "dice": round(dice[worst], 3),
        "mean": round(float(np.mean(list(dice.values()))), 3),
        "confidence": found.confidence,
        "transitional": found.transitional,
        "extra": extra,
    }


def main(first: int, last: int) -> None:
    """Judge the seeds from `first` to `last`, and say how many are right."""
    right = 0
    for seed in range(first, last + 1):
        line = judged(seed)
        right += line["right"]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{right} of {last + 1 - first} right\n")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    main(*(given if len(given) == 2 else (1, 40)))
