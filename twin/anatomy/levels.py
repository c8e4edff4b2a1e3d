"""The vertebrae between the discs, from below upward, and whether the lowest of them is the sacrum."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.discs import Disc
from twin.anatomy.working import Working

UPWARD = tuple(
    [f"vertebrae_L{n}" for n in range(6, 0, -1)]
    + [f"vertebrae_T{n}" for n in range(13, 0, -1)]
    + [f"vertebrae_C{n}" for n in range(7, 0, -1)]
)
"""Every vertebra's name from below upward, with those that few people have (L6, T13)."""

# Bone this far beside and in front of the canal, under a disc: the sacrum's ala and the ilium around it. 5 mL and more
# under L5/S1, at most 1 elsewhere; further back L5's transverse processes look the same.
ALA_LATERAL_MM = (40.0, 64.0)
ALA_ANTERIOR_MM = (10.0, 34.0)
ALA_ML = 2.0
EVEN_HU = 40.0  # spread of a kidney full of contrast medium; bone, with its cortex, spreads by 64 and more
BONE_HU = 160.0
ABOVE_THRESHOLD_HU = 20.0
CUT_HEIGHT_MM = 26.0  # taken for a body that the scan cuts


@dataclass(frozen=True)
class Segment:
    """A vertebra (or the sacrum) between two discs, from `below` to `above`; None: the scan or the spine ends there."""

    below: Disc | None
    above: Disc | None
    is_sacrum: bool = False

    def heights_mm(self, coordinates: Array) -> tuple[Array, Array]:
        """Heights (...) above the lower endplate and below the upper one, of canal coordinates (..., 3)."""
        s, left, anterior = coordinates[..., 0], coordinates[..., 1], coordinates[..., 2]
        far = np.full(s.shape, 1e3)
        up = far if self.below is None else s - self.below.upper_at(left, anterior)
        down = far if self.above is None else self.above.lower_at(left, anterior) - s
        return up, down

    def share(self, coordinates: Array) -> Array:
        """Share (...) of the body's height from below, of canal coordinates (..., 3); a cut body counts as usual."""
        up, down = self.heights_mm(coordinates)
        if self.below is not None and self.above is not None:
            return np.asarray(up / np.maximum(up + down, 1.0))
        if self.above is not None:
            return np.asarray(1.0 - down / CUT_HEIGHT_MM)
        return np.asarray((up if self.below is not None else coordinates[..., 0]) / CUT_HEIGHT_MM)


def segments(working: Working, canal: Canal, discs: tuple[Disc, ...], bone_hu: float) -> tuple[Segment, ...]:
    """Segments from below upward; the first is the sacrum when its alae show. Discs inside the sacrum are dropped."""
    chain = list(discs)
    alae = [_ala_ml(working, canal, disc, min(BONE_HU, bone_hu + ABOVE_THRESHOLD_HU)) for disc in chain]
    sacral = [n for n, ml in enumerate(alae) if ml > ALA_ML]
    # from the lowest upward without a gap: a disc or two may show in the sacrum itself
    first = -1
    for n in sacral:
        if n == first + 1 or (first < 0 and n <= 1):
            first = n
    found: list[Segment] = []
    if first >= 0:
        found.append(Segment(None, chain[first], is_sacrum=True))
        chain = chain[first:]
    elif chain:
        found.append(Segment(None, chain[0]))
    found += [Segment(low, high) for low, high in itertools.pairwise(chain)]
    found.append(Segment(chain[-1] if chain else None, None))
    return tuple(found)


def _ala_ml(working: Working, canal: Canal, disc: Disc, bone_hu: float) -> float:
    """Bone beside the middle in the 24 mm under a disc, both sides' smaller half doubled."""
    depth = np.arange(-26.0, -2.0, 2.0)
    lateral = np.arange(ALA_LATERAL_MM[0], ALA_LATERAL_MM[1], 2.0)
    anterior = np.arange(ALA_ANTERIOR_MM[0], ALA_ANTERIOR_MM[1], 2.0)
    sides = []
    for sign in (-1.0, 1.0):
        d, x, a = np.meshgrid(depth, sign * lateral, anterior, indexing="ij")
        at = np.stack([disc.lower_at(np.zeros(1), a) + d, x, a], axis=-1)
        hu = working.sample(canal.points(at))
        bone = hu[hu > bone_hu]
        even = len(bone) == 0 or float(bone.std()) < EVEN_HU
        sides.append(0.0 if even else len(bone) * 8.0 / 1000.0)
    return 2.0 * min(sides)
