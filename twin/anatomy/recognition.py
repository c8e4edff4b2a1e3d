"""Bones of a scan without a spine, recognised by shape and by what lies beside them: skull, hip,
sacrum, femur, patella, tibia, fibula.

A skull encloses brain. A tibia has a long thin bone beside it, the fibula, on its lateral side: that also tells which
leg it is. A femur stands on a tibia or ends in a sphere, which lies medial. A patella is a small bone in front of a
femur's lower end. What is none of these has no name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial.rigid import Array
from twin.anatomy import heads, parting
from twin.anatomy.heads import Head, neck_axis
from twin.anatomy.working import Working

CORE_MM = 1.6  # what is thicker than twice this is a bone's body, thinner bridges between bones are not
FAT_HU = 0.0
SHAFT_MM2 = 1500.0  # of a shaft's marrow in a slice, at most
GAP_HU = 90  # a valley this deep between two bones is their joint
JOINED_HU = 115.0  # a contact whose valley is shallower is no joint
LEAST_FACES = 12
LEAST_CORE_ML = 0.4
MOST_PIECES = 120
MOST_UNKNOWN = 40  # beyond them it is debris
LEAST_ML = 2.0
SLIM_MM2 = 420.0  # mean section of a fibula with its marrow, at most
SLIM_RATIO = 4.0  # its length to its width, at least
LEAST_LONG_MM = 45.0
BESIDE_MM = (12.0, 60.0)  # from the tibia's middle to the fibula's
COMMON = 0.5  # of the fibula's height that lies beside the tibia
KNEE_MM = (-22.0, 28.0)  # from the tibia's top to the femur's bottom (condyles reach below the eminence)
LEAST_SOCKET = 400  # voxels of a hip bone near the head
LEAST_SACRUM_ML = 40.0
UPPER_MM = 75.0  # of a femur's top in which its head lies
SHAFT_MM = 62.0  # width of what is below, at most
BESIDE_SHAFT_MM = 15.0  # from the shaft to the head's centre, at least
PATELLA_ML = (3.0, 45.0)
PATELLA_MM = (14.0, 70.0)  # every extent of it
FRONT_MM = (8.0, 75.0)  # in front of the femur's lower end
BRAIN_HU = (0.0, 90.0)
BRAIN_SHARE = 0.3  # of the head's section; a pelvic ring holds less
LEAST_BRAIN_ML = 120.0


@dataclass(frozen=True, eq=False)
class Piece:
    """One bone, not yet known: its number, voxels (N, 3) z, y, x and their Patient points (N, 3)."""

    number: int
    zyx: NDArray[np.int64]
    points_mm: Array
    volume_ml: float

    @property
    def low(self) -> Array:
        """Corner of its box."""
        return np.asarray(self.points_mm.min(axis=0))

    @property
    def high(self) -> Array:
        """Opposite corner."""
        return np.asarray(self.points_mm.max(axis=0))

    @property
    def extent_mm(self) -> Array:
        """Its box's edges."""
        return np.asarray(self.high - self.low)

    def middle_at(self, z_mm: float, half_mm: float = 4.0) -> Array | None:
        """Centre of its section at a height; None where it has none."""
        near = np.abs(self.points_mm[:, 2] - z_mm) < half_mm
        return np.asarray(self.points_mm[near].mean(axis=0)) if near.any() else None

    @property
    def is_slim(self) -> bool:
        """Whether it is as long and thin as a fibula."""
        height = float(self.extent_mm[2])
        section = 1000.0 * self.volume_ml / max(height, 1.0)
        return height > LEAST_LONG_MM and section < SLIM_MM2 and height > SLIM_RATIO * np.sqrt(section)


def with_marrow(hu: NDArray[np.int16], bone: NDArray[np.bool_], pixel_mm2: float) -> NDArray[np.bool_]:
    """Bone with the fat that it encloses in a slice: the marrow of a shaft that is open somewhere else."""
    from scipy import ndimage

    out = bone.copy()
    for k in range(len(bone)):
        holes, count = ndimage.label(ndimage.binary_fill_holes(bone[k]) & ~bone[k])
        if count:
            numbers = np.arange(count + 1)
            size = ndimage.sum_labels(np.ones_like(holes), holes, numbers) * pixel_mm2
            fat = (ndimage.mean(hu[k], holes, numbers) < FAT_HU) & (size < SHAFT_MM2)
            fat[0] = False
            out[k] |= fat[holes]
    return out


def separate(
    hu: NDArray[np.int16], bone: NDArray[np.bool_], bone_hu: float, spacing_kji_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Labels of the separate bones, largest first: each core (bone less its joints and what is thin) and what it
    reaches.
    """
    import cc3d
    import edt

    valley = parting.valleys(hu, parting.marrow(hu, bone, bone_hu), spacing_kji_mm)
    core = edt.edt(bone & (valley <= GAP_HU), anisotropy=spacing_kji_mm, black_border=False) > CORE_MM
    numbered = cc3d.connected_components(core.astype(np.uint8), connectivity=6)
    size = np.bincount(numbered.ravel())
    size[0] = 0
    voxel_ml = float(np.prod(spacing_kji_mm)) / 1000.0
    chosen = [n for n in np.argsort(-size, kind="stable")[:MOST_PIECES] if size[n] * voxel_ml > LEAST_CORE_ML]
    table = np.zeros(len(size), dtype=np.uint8)
    for new, old in enumerate(chosen, 1):
        table[old] = new
    return _joined(parting.part(bone, valley[bone], table[numbered[bone]], spacing_kji_mm), valley)


def _joined(labels: NDArray[np.uint8], valley: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Labels with those made one that touch without a valley between them: one bone that was thin there."""
    faces: dict[tuple[int, int], list[float]] = {}
    for axis in range(3):
        a = np.moveaxis(labels, axis, 0)
        depth = np.moveaxis(valley, axis, 0)
        across = (a[1:] != a[:-1]) & (a[1:] > 0) & (a[:-1] > 0)
        low, high = np.minimum(a[1:], a[:-1])[across], np.maximum(a[1:], a[:-1])[across]
        deep = np.maximum(depth[1:], depth[:-1])[across]
        pair = low.astype(np.int64) * 256 + high
        for key in np.unique(pair):
            mine = pair == key
            kept = faces.setdefault((int(key) // 256, int(key) % 256), [0.0, 0.0])
            kept[0] += float(mine.sum())
            kept[1] += float(np.minimum(deep[mine], 4 * GAP_HU).sum())
    table = np.arange(256, dtype=np.uint8)
    for (low_, high_), (count, total) in sorted(faces.items()):
        if count >= LEAST_FACES and total < JOINED_HU * count:
            table[table == table[high_]] = table[low_]
    return np.asarray(table[labels])


def pieces_of(coarse: Working, labels: NDArray[np.uint8]) -> list[Piece]:
    """Every label as a piece, largest first."""
    voxel_ml = coarse.spacing_mm**3 / 1000.0
    zyx = np.argwhere(labels)
    number = labels[tuple(zyx.T)]
    found = []
    for n in np.unique(number):
        mine = zyx[number == n]
        found.append(Piece(int(n), mine, coarse.patient_from_index(mine), len(mine) * voxel_ml))
    return sorted(found, key=lambda p: -p.volume_ml)


def named(coarse: Working, bone: NDArray[np.bool_], pieces: list[Piece]) -> tuple[dict[int, str], tuple[Head, ...]]:
    """Bone names by piece number, of those that are recognised, and the femoral heads."""
    skull = _skull(coarse, bone, pieces)
    if skull is not None:
        return {skull: "skull"}, ()
    found: list[Head] = []
    names: dict[int, str] = {}
    large = [p for p in pieces if p.volume_ml >= LEAST_ML]
    for tibia, fibula in _shanks(large):
        at = 0.5 * (max(tibia.low[2], fibula.low[2]) + min(tibia.high[2], fibula.high[2]))
        inner, outer = tibia.middle_at(at), fibula.middle_at(at)
        if inner is None or outer is None:
            continue
        side = "left" if outer[0] > inner[0] else "right"  # the fibula is lateral; Patient: +x is left
        if f"tibia_{side}" in names.values():
            continue  # two of a side: one is wrong, and nobody knows which
        names[tibia.number], names[fibula.number] = f"tibia_{side}", f"fibula_{side}"
        femur = _above(tibia, [p for p in large if p.number not in names])
        if femur is not None:
            names[femur.number] = f"femur_{side}"
    for piece in large:
        if not names.get(piece.number, "femur").startswith("femur") or piece.extent_mm[2] < LEAST_LONG_MM:
            continue
        head = _head(coarse, piece)
        if head is None or (piece.number not in names and f"femur_{head.side}" in names.values()):
            continue
        names.setdefault(piece.number, f"femur_{head.side}")
        if names[piece.number] == f"femur_{head.side}":
            found.append(head)
            socket = _around(head, [p for p in large if p.number not in names])
            if socket is not None:
                names[socket.number] = f"hip_{head.side}"
    sacrum = _between(names, large)
    if sacrum is not None:
        names[sacrum.number] = "sacrum"
    for femur in [p for p in large if names.get(p.number, "").startswith("femur")]:
        cap = _patella(femur, [p for p in large if p.number not in names])
        if cap is not None:
            names[cap.number] = names[femur.number].replace("femur", "patella")
    return names, tuple(found)


def _shanks(pieces: list[Piece]) -> list[tuple[Piece, Piece]]:
    """Tibiae with their fibulae."""
    found = []
    for fibula in (p for p in pieces if p.is_slim):
        best: tuple[float, Piece] | None = None
        for tibia in pieces:
            if tibia is fibula or tibia.is_slim or tibia.volume_ml < 1.5 * fibula.volume_ml:
                continue
            low, high = max(tibia.low[2], fibula.low[2]), min(tibia.high[2], fibula.high[2])
            if high - low < COMMON * fibula.extent_mm[2]:
                continue
            gaps = []
            for z in np.linspace(low, high, 7)[1:-1]:
                a, b = tibia.middle_at(float(z)), fibula.middle_at(float(z))
                if a is not None and b is not None:
                    gaps.append(float(np.linalg.norm((b - a)[:2])))
            gap = float(np.median(gaps)) if gaps else np.inf
            if BESIDE_MM[0] < gap < BESIDE_MM[1] and (best is None or gap < best[0]):
                best = gap, tibia
        if best is not None:
            found.append((best[1], fibula))
    return found


def _above(tibia: Piece, pieces: list[Piece]) -> Piece | None:
    """The femur that stands on a tibia."""
    top = tibia.middle_at(float(tibia.high[2]) - 8.0, 8.0)
    for piece in pieces:
        step = float(piece.low[2] - tibia.high[2])
        foot = piece.middle_at(float(piece.low[2]) + 8.0, 8.0)
        if top is None or foot is None or piece.volume_ml < PATELLA_ML[1]:
            continue
        if KNEE_MM[0] < step < KNEE_MM[1] and np.linalg.norm((foot - top)[:2]) < 30.0:
            return piece
    return None


def _head(coarse: Working, piece: Piece) -> Head | None:
    """The femoral head at the upper end of a bone with one shaft below it, on the inner side of that shaft."""
    top = float(piece.high[2])
    below = piece.points_mm[(piece.points_mm[:, 2] < top - UPPER_MM) & (piece.points_mm[:, 2] > top - 1.8 * UPPER_MM)]
    if len(below) < 50:
        return None
    for z in np.arange(top - 1.8 * UPPER_MM, top - UPPER_MM, 10.0):
        section = below[np.abs(below[:, 2] - z - 5.0) < 5.0]
        if len(section) and np.ptp(section[:, :2], axis=0).max() > SHAFT_MM:
            return None
    shaft = below.mean(axis=0)
    best: Head | None = None
    for side, sign in heads.SIDES:
        low, high = piece.low.copy(), piece.high.copy()
        low[2] = top - UPPER_MM
        head = heads.within(coarse, side, low, high)
        if head is None or sign * (shaft[0] - head.centre_mm[0]) < BESIDE_SHAFT_MM:
            continue
        nearest = np.linalg.norm(piece.points_mm - head.centre_mm, axis=1).min()
        if nearest < 3.0 and (best is None or head.score > best.score):
            best = head
    return best


def _around(head: Head, pieces: list[Piece]) -> Piece | None:
    """The hip bone: what lies above and beside a femoral head, as a socket does."""
    best: tuple[float, Piece] | None = None
    for piece in pieces:
        d = piece.points_mm - head.centre_mm
        far = np.linalg.norm(d, axis=1)
        near = (far > head.radius_mm) & (far < head.radius_mm + 14.0)
        near &= d @ neck_axis(head.side) < 0.3 * far
        if near.sum() > LEAST_SOCKET and (best is None or near.sum() > best[0]):
            best = float(near.sum()), piece
    return None if best is None else best[1]


def _between(names: dict[int, str], pieces: list[Piece]) -> Piece | None:
    """The sacrum: the largest bone left between the two hips, behind their middle."""
    hips = [p for p in pieces if names.get(p.number, "").startswith("hip")]
    if len(hips) != 2:
        return None
    middles = [p.points_mm.mean(axis=0) for p in hips]
    middle = 0.5 * (middles[0] + middles[1])
    half = 0.5 * abs(middles[0][0] - middles[1][0])
    for piece in pieces:
        at = piece.points_mm.mean(axis=0) - middle
        free = piece.number not in names and piece.volume_ml > LEAST_SACRUM_ML
        if free and abs(at[0]) < 0.35 * half and at[1] > 0.0 and at[2] > -20.0:
            return piece
    return None


def _patella(femur: Piece, pieces: list[Piece]) -> Piece | None:
    foot = femur.middle_at(float(femur.low[2]) + 15.0, 15.0)
    if foot is None:
        return None
    for piece in pieces:
        middle = piece.points_mm.mean(axis=0)
        small = PATELLA_ML[0] < piece.volume_ml < PATELLA_ML[1]
        small &= bool((piece.extent_mm > PATELLA_MM[0]).all() and (piece.extent_mm < PATELLA_MM[1]).all())
        front, up = foot[1] - middle[1], middle[2] - femur.low[2]
        near = FRONT_MM[0] < front < FRONT_MM[1] and -25.0 < up < 90.0 and abs(middle[0] - foot[0]) < 35.0
        if small and near:
            return piece
    return None


def _skull(coarse: Working, bone: NDArray[np.bool_], pieces: list[Piece]) -> int | None:
    """The piece that encloses brain in most of the slices' sections."""
    from scipy import ndimage

    reach = max(1, round(4.0 / coarse.spacing_mm))
    held = np.zeros(len(bone))
    rim = np.zeros(bone.shape, dtype=np.bool_)
    for z in range(len(bone)):
        if not bone[z].any():
            continue
        closed = ndimage.binary_closing(np.pad(bone[z], reach), iterations=reach)[reach:-reach, reach:-reach]
        inside = ndimage.binary_fill_holes(closed) & ~closed
        soft = inside & (coarse.hu[z] > BRAIN_HU[0]) & (coarse.hu[z] < BRAIN_HU[1])
        body = float((coarse.hu[z] > -300.0).sum())
        if soft.sum() > max(0.75 * inside.sum(), BRAIN_SHARE * body):
            held[z] = soft.sum()
            rim[z] = bone[z] & ndimage.binary_dilation(inside, iterations=3 * reach)
    if held.sum() * coarse.spacing_mm**3 / 1000.0 < LEAST_BRAIN_ML:
        return None
    touched = [int(rim[tuple(p.zyx.T)].sum()) for p in pieces]
    return pieces[int(np.argmax(touched))].number if touched and max(touched) > 0 else None
