"""Which vertebra is which: counted from the sacrum upward, with how sure that is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spatial.rigid import Array
from twin.anatomy.canal import Canal
from twin.anatomy.discs import Disc
from twin.anatomy.working import Working

UPWARD = tuple(
    [f"vertebrae_L{n}" for n in range(5, 0, -1)]
    + [f"vertebrae_T{n}" for n in range(12, 0, -1)]
    + [f"vertebrae_C{n}" for n in range(7, 0, -1)]
)
# Bone this far beside and in front of the canal, under a disc: the sacrum's ala and the ilium around it. 5 mL and more
# under L5/S1, at most 1 elsewhere; further back L5's transverse processes look the same.
ALA_LATERAL_MM = (40.0, 64.0)
ALA_ANTERIOR_MM = (10.0, 34.0)
ALA_ML = 2.0
BONE_HU = 160.0
ABOVE_THRESHOLD_HU = 20.0
SEEN = 0.85  # sacrum seen and the count of rib-less vertebrae is five, or can't be checked
CONFIRMED = 0.95  # ribs start at the sixth vertebra above the sacrum
CONTRADICTED = 0.4  # they start elsewhere: a transitional vertebra, or a rib that was missed
RIBS_ONLY = 0.5  # no sacrum, but the last pair of ribs is in the scan
LEAST_RIBLESS = 2  # vertebrae without ribs below the lowest pair; one alone may be a rib that was missed
GUESSED = 0.1


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


def segments(working: Working, canal: Canal, discs: tuple[Disc, ...], bone_hu: float) -> tuple[Segment, ...]:
    """Segments from below upward; the first is the sacrum when its alae show. Discs inside the sacrum are dropped."""
    chain = list(discs)
    alae = [_ala_ml(working, canal, disc, min(BONE_HU, bone_hu + ABOVE_THRESHOLD_HU)) for disc in chain]
    sacral = [n for n, ml in enumerate(alae) if ml > ALA_ML]
    first = max(sacral) if sacral else -1
    found: list[Segment] = []
    if first >= 0:
        found.append(Segment(None, chain[first], is_sacrum=True))
        chain = chain[first:]
    elif chain:
        found.append(Segment(None, chain[0]))
    found += [Segment(low, high) for low, high in itertools.pairwise(chain)]
    found.append(Segment(chain[-1] if chain else None, None))
    return tuple(found)


def named(spine: tuple[Segment, ...], rib_bearing: tuple[bool, ...]) -> tuple[tuple[str, ...], float, tuple[str, ...]]:
    """Names a segment, the confidence (0 to 1) of the absolute names, and what to tell the user.

    `rib_bearing` says of each segment whether ribs were seen on it.
    """
    has_sacrum = bool(spine) and spine[0].is_sacrum
    vertebrae = list(range(1 if has_sacrum else 0, len(spine)))
    with_ribs = [n for n in vertebrae if rib_bearing[n]]
    lowest_rib = min(with_ribs) if with_ribs else None
    warnings: list[str] = []
    if has_sacrum:
        count = None if lowest_rib is None else lowest_rib - 1
        confidence = SEEN if count is None else CONFIRMED if count == 5 else CONTRADICTED
        if confidence == CONTRADICTED:
            warnings.append(
                f"{count} vertebrae without ribs above the sacrum, 5 are usual: a transitional vertebra or a missed "
                "rib; the levels need to be confirmed"
            )
        start = 0
    elif lowest_rib is not None and sum(not rib_bearing[n] for n in vertebrae if n < lowest_rib) >= LEAST_RIBLESS:
        confidence = RIBS_ONLY
        start = UPWARD.index("vertebrae_T12") - lowest_rib
        warnings.append("no sacrum in the scan: levels counted from the lowest pair of ribs; they need to be confirmed")
    else:
        confidence = GUESSED
        lowest = "vertebrae_T12" if lowest_rib is not None else "vertebrae_L5"
        start = UPWARD.index(lowest)
        warnings.append(
            f"no sacrum in the scan and no end of the ribs: the lowest vertebra is called {lowest[10:]} by guess; "
            "the levels need to be confirmed"
        )
    names: list[str] = []
    for n, segment in enumerate(spine):
        at = start + (n - 1 if has_sacrum else n)
        names.append("sacrum" if segment.is_sacrum else UPWARD[at] if 0 <= at < len(UPWARD) else "")
    return tuple(names), confidence, tuple(warnings)


def _ala_ml(working: Working, canal: Canal, disc: Disc, bone_hu: float) -> float:
    """Bone beside the middle in the 24 mm under a disc, both sides' smaller half doubled."""
    depth = np.arange(-26.0, -2.0, 2.0)
    lateral = np.arange(ALA_LATERAL_MM[0], ALA_LATERAL_MM[1], 2.0)
    anterior = np.arange(ALA_ANTERIOR_MM[0], ALA_ANTERIOR_MM[1], 2.0)
    sides = []
    for sign in (-1.0, 1.0):
        d, x, a = np.meshgrid(depth, sign * lateral, anterior, indexing="ij")
        at = np.stack([disc.lower_at(np.zeros(1), a) + d, x, a], axis=-1)
        sides.append(float((working.sample(canal.points(at)) > bone_hu).sum()) * 8.0 / 1000.0)
    return 2.0 * min(sides)
