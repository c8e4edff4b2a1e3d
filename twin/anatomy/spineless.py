"""The segmenter's other way: scans without a spine (legs, knees, a hip, a head). Bones are told apart by their joints
and named by shape; no level is claimed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial.faults import Fault
from spatial.progress import Progress
from twin.anatomy import bone_mask, hips, parting, recognition, working
from twin.anatomy.canal import Canal, NoSpine
from twin.anatomy.heads import Head
from twin.anatomy.segmentation import Segmented
from twin.anatomy.working import Working
from twin.scan.volume import LabelMap, Volume

FATTEST_HU = -8.0  # median of a canal with cord, fluid and some fat: above
SPONGY_HU = (40.0, 260.0)  # above muscle; cord and fluid are darker, contrast in a canal is brighter
LEAST_SCORE = 0.55  # canals of real and of digital patients score 0.65 and more, legs, heads and sacra 0.32 to 0.5
MOST_FALSE_DISCS = 2  # that a sacrum alone may show
LEAST_UNKNOWN_ML = 6.0  # of a bone that is kept without a name where others have one
SURE_MM = 2.4  # within a piece, at most, its own marker for full resolution begins: the joint is found again there


def refuse_hollow(coarse: Working, canal: Canal, discs: int, muscle_hu: float) -> None:
    """Raise NoSpine for a hollow that only looks like a canal: a shaft's marrow is fat or spongy; a head has no
    discs.
    """
    beside = np.array([-3.0, 0.0, 3.0])
    along = canal.along_mm[:, None, None]
    at = np.stack(np.broadcast_arrays(along, beside[None, :, None], beside[None, None, :]), axis=-1)
    inside_hu = float(np.median(coarse.sample(canal.points(at))))
    score = float(canal.score.mean())
    if inside_hu < FATTEST_HU:
        raise NoSpine(f"no spinal canal: the best path holds fat ({inside_hu:.0f} HU), as marrow does")
    if SPONGY_HU[0] < inside_hu - muscle_hu < SPONGY_HU[1]:
        raise NoSpine(f"no spinal canal: the best path runs in spongy bone ({inside_hu:.0f} HU)")
    if score < LEAST_SCORE and discs <= MOST_FALSE_DISCS:
        raise NoSpine(f"no spinal canal: the best path scores {score:.2f} with {discs} discs, {LEAST_SCORE} is needed")


def segment(volume: Volume, coarse: Working, bone_hu: float, progress: Progress, fault: Fault) -> Segmented:
    """Label the bones of a CT without a spine; raises `fault` when there is no bone at all.

    What can't be recognised is called `bone_1`, `bone_2` … from the largest down.
    """
    progress("telling the bones apart", 0.3)
    spacing = (coarse.spacing_mm,) * 3
    hu = coarse.hu.astype(np.int16)
    bone = recognition.with_marrow(hu, bone_mask.above(coarse.hu, bone_hu, spacing), coarse.spacing_mm**2)
    labels = recognition.separate(hu, bone, bone_hu, spacing)
    pieces = [p for p in recognition.pieces_of(coarse, labels) if p.volume_ml >= recognition.LEAST_ML]
    if not pieces:
        raise fault
    progress("recognising the bones", 0.5)
    names, found_heads = recognition.named(coarse, bone, pieces)
    strange = [p for p in pieces if p.number not in names]
    debris = [p for p in strange if p.volume_ml < LEAST_UNKNOWN_ML] if names else []
    for n, piece in enumerate([p for p in strange if p not in debris][: recognition.MOST_UNKNOWN], 1):
        names[piece.number] = f"bone_{n}"
    kept = {number: n for n, number in enumerate(sorted(names, key=lambda number: names[number]), 1)}
    table = np.zeros(256, dtype=np.uint8)
    table[list(kept)] = list(kept.values())
    progress("telling the bones apart", 0.6)
    numbers = {names[number]: n for number, n in kept.items()}
    fine = _at_full_resolution(volume, coarse, table[labels], bone, bone_hu, found_heads, numbers)
    unknown = sorted((name for name in names.values() if name.startswith("bone_")), key=lambda name: int(name[5:]))
    known = sorted(name for name in names.values() if not name.startswith("bone_"))
    warnings = ["no spine in this scan: no levels were looked for"]
    if "skull" in known:
        warnings.append("skull: the jaw and the uppermost vertebrae are not parted from it")
    if unknown:
        warnings.append(
            f"{len(unknown)} bone{'s' * (len(unknown) > 1)} not recognised, called {unknown[0]}"
            f"{' to ' + unknown[-1] if len(unknown) > 1 else ''}: name {'them' if len(unknown) > 1 else 'it'} by hand"
        )
    if debris:
        warnings.append(f"pieces of bone below {LEAST_UNKNOWN_ML:g} mL beside known bones left out: {len(debris)}")
    settings = {"segmenter": "default", "route": "no spine", "bone_hu": bone_hu, "pieces": len(pieces)}
    found = {n: names[number] for number, n in kept.items()}
    evidence = ("no spine in the scan, so no levels",)
    return Segmented(LabelMap(volume.grid, fine, found), 0.0, tuple(warnings), settings | {"known": known}, evidence)


def _at_full_resolution(
    volume: Volume,
    coarse: Working,
    labels: NDArray[np.uint8],
    bone: NDArray[np.bool_],
    bone_hu: float,
    found_heads: tuple[Head, ...],
    numbers: dict[str, int],
) -> NDArray[np.uint8]:
    """Working labels on the CT's own grid, each grown again from its inside to the joints as they show there."""
    import edt

    depth = edt.edt(labels, black_border=False) * coarse.spacing_mm
    sure = np.where(depth > np.minimum(SURE_MM, 0.6 * _deepest(labels, depth))[labels], labels, 0).astype(np.uint8)
    spacing = (float(volume.grid.spacing_mm[2]), float(volume.grid.spacing_mm[1]), float(volume.grid.spacing_mm[0]))
    fine = bone_mask.above(volume.hu, bone_hu, spacing)
    fine = recognition.with_marrow(volume.hu, fine, spacing[1] * spacing[2])
    if float(np.cbrt(np.prod(spacing))) > bone_mask.THICK_MM:
        fine |= working.on_grid(bone.astype(np.uint8), coarse, volume.grid) > 0
    valley = parting.valleys(volume.hu, parting.marrow(volume.hu, fine, bone_hu), spacing)
    for head in found_heads:
        hips.deepen(valley, volume.grid, head)
    parted = parting.part(fine, valley[fine], working.on_grid(sure, coarse, volume.grid)[fine], spacing)
    for head in found_heads:
        femur, hip = numbers.get(f"femur_{head.side}"), numbers.get(f"hip_{head.side}")
        if femur is not None and hip is not None:
            hips.seat(parted, volume.grid, head, femur, hip)
    return parted


def _deepest(labels: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest depth a label, by number."""
    deepest = np.zeros(256, dtype=np.float32)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    return deepest
