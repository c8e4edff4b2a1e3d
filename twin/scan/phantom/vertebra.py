"""Vertebrae C7 to L5: where each stands in the spine, and its body, pedicles, arch and processes.

Local frame of a vertebra: origin at the body's centre, x left, y posterior,
z cranial. A facet joint is made by carving:
the inferior process of the upper vertebra, grown by the joint gap, is taken out of the lower bone, so both faces are
congruent and the gap holds over the whole joint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy, VertebraSize
from twin.scan.phantom.curve import Curve
from twin.scan.phantom.solids import F64, Placed, Solid, axes_along, unit

SIDES = (("left", 1.0), ("right", -1.0))

# angle of each joint plane from the sagittal plane, named by the upper vertebra
FACET_DEG = {
    "C7": 74.0, **{f"T{n}": 78.0 for n in range(1, 10)}, "T10": 76.0, "T11": 68.0, "T12": 32.0, "L1": 28.0, "L2": 33.0,
    "L3": 40.0, "L4": 48.0, "L5": 52.0,
}  # fmt: skip

TRANSVERSE_BACK_MM = {"T11": 8.0, "T12": 8.0, "C7": 2.0}  # how far the thoracic process leans back; 12 elsewhere
LAMINA_STRETCH = 2.9  # height over thickness


@dataclass(frozen=True)
class Stand:
    """A vertebra in its place: the body's frame and the frames on its two endplates (z along the cranial normal)."""

    size: VertebraSize
    body: Placed
    superior: Placed
    inferior: Placed
    turn: F64 | None = None  # from the straight posture to this one, in patient axes; None in a straight spine


@dataclass(frozen=True)
class Process:
    """An inferior articular process: a flattened round cone from its root to its tip."""

    root: F64
    tip: F64
    root_mm: float
    tip_mm: float
    stretch: float
    wide: F64
    arch: F64  # where the isthmus of the arch begins, behind the pedicle
    arch_mm: float
    lamina: tuple[F64, F64]  # outer and midline end
    lamina_mm: float
    lamina_wide: F64

    def add(self, solid: Solid, *, grow_mm: float = 0.0, k: float = 2.0, operation: int = shapes.UNION) -> None:
        """Join the process and the isthmus above it (grown by an even margin) to a bone, or carve them out."""
        if grow_mm:
            # the smooth joins of the upper bone add up to half a millimetre near the root
            solid.cone(
                self.arch,
                self.root,
                self.arch_mm + grow_mm + 1.5,
                self.root_mm + grow_mm + 1.9,
                k=k,
                operation=operation,
            )
            r = self.lamina_mm + grow_mm + 1.2
            stretch = (LAMINA_STRETCH * self.lamina_mm + grow_mm + 1.2) / r
            solid.cone(*self.lamina, r, r + 0.3, k=k, operation=operation, stretch=stretch, wide=self.lamina_wide)
        solid.cone(
            self.root, self.tip, self.root_mm + grow_mm + (0.3 if grow_mm else 0.0), self.tip_mm + grow_mm, k=k,
            wide=self.wide, operation=operation,
            stretch=(self.tip_mm * self.stretch + grow_mm) / (self.tip_mm + grow_mm),
            cortex_mm=1.3,
        )  # fmt: skip


def stack(anatomy: Anatomy, s1: Placed) -> list[Stand]:
    """Stand the vertebrae on the S1 endplate (z along its normal), from L5 upward."""
    stands = []
    below = s1
    for size in anatomy.vertebrae:
        tilted = below.turned(-size.disc_wedge_deg / 2)
        inferior = Placed(below.turned(-size.disc_wedge_deg).rotation, tilted.at(0, 0, size.disc_mm))
        middle = inferior.turned(-size.wedge_deg / 2)
        body = middle.moved(0, 0, size.height_mm / 2)
        superior = Placed(middle.turned(-size.wedge_deg / 2).rotation, body.at(0, 0, size.height_mm / 2))
        stands.append(Stand(size, body, superior, inferior))
        below = superior
    return stands if anatomy.scoliosis_deg == 0.0 else _bent(anatomy, s1, stands)


def _bent(anatomy: Anatomy, s1: Placed, straight: list[Stand]) -> list[Stand]:
    # The same vertebrae along a scoliotic curve: each frame tilted in the coronal plane, so that the projected tilt of
    # its endplates is just the curve's, and turned about its own axis.
    curve = Curve.of(anatomy)

    def placed(frame: Placed, tilt_deg: float, axial_deg: float) -> F64:
        tilt = Rotation.from_euler("y", tilt_deg, degrees=True).as_matrix()
        return np.asarray(tilt @ frame.rotation @ Rotation.from_euler("z", axial_deg, degrees=True).as_matrix())

    stands = []
    at, before = s1.origin, s1
    for n, stand in enumerate(straight):
        size = stand.size
        low_deg, high_deg, axial_deg = curve.lower_deg[n], curve.upper_deg[n], curve.axial_deg[n]
        inferior = placed(stand.inferior, low_deg, axial_deg)
        middle = Placed(between(before.rotation, inferior), at)
        at = middle.at(0, 0, size.disc_mm)
        body = Placed(placed(stand.body, (low_deg + high_deg) / 2, axial_deg), at).moved(0, 0, size.height_mm / 2)
        foot = Placed(inferior, at)
        at = body.at(0, 0, size.height_mm / 2)
        superior = Placed(placed(stand.superior, high_deg, axial_deg), at)
        stands.append(Stand(size, body, superior, foot, body.rotation @ stand.body.rotation.T))
        before = superior
    return stands


def inferior_process(stand: Stand, lower: Placed, lower_depth_mm: float, lower_canal_mm: float, side: float) -> Process:
    """The inferior articular process of a vertebra, reaching down behind the endplate of the bone below."""
    size, v = stand.size, stand.body
    back = size.depth_mm / 2
    phi = np.radians(FACET_DEG[size.role])
    if phi < np.radians(60):
        x = size.facet_half_distance_mm - 4.0
        root = v.at(side * (x + 0.2), back + size.canal_depth_mm + 1.2, -0.24 * size.height_mm)
        tip = lower.at(side * (x + 0.4), lower_depth_mm / 2 + lower_canal_mm + 2.3, -3.0)
        thick, stretch = 4.4, 1.32
    else:
        x = size.facet_half_distance_mm - 2.6
        root = v.at(side * x, back + size.canal_depth_mm + 1.0, -0.30 * size.height_mm)
        tip = lower.at(side * (x + 0.4), lower_depth_mm / 2 + lower_canal_mm - 0.5, 0.0)
        thick, stretch = 3.1, 1.75
    plane = v.along(side * np.sin(phi), np.cos(phi), 0.0)  # in the joint, horizontal: lateral for a coronal facet
    centre, frame = pedicle_frame(stand, 0 if side > 0 else 1)
    behind = v.rotation.T @ (centre - frame[:, 2] * (9.0 if size.lumbar else 6.5) - v.origin)
    arch = centre - frame[:, 2] * (8.0 if size.lumbar else 6.0) + v.along(-side * 1.5, 1.0, -2.0)
    wall = back + size.canal_depth_mm
    outer = v.at(side * max(abs(behind[0]) - 4.0, x), min(behind[1] + 3.0, wall - 1.0), -1.5)
    inner = v.at(0.0, wall + 4.0, -0.25 * size.height_mm)
    return Process(
        root, tip, thick + 0.8, thick, stretch, plane, arch, 4.7 if size.lumbar else 4.0, (outer, inner),
        3.1 if size.lumbar else 2.8, v.along(0.0, 0.22, 1.0),
    )  # fmt: skip


def disc_solid(stand: Stand, below: Placed, below_width_mm: float, below_depth_mm: float) -> Solid:
    """The disc under a vertebra (a soft solid, for the CT only)."""
    size = stand.size
    solid = Solid(f"disc_{size.level}", 0.0, 95.0)
    centre = (below.origin + stand.inferior.origin) / 2
    half = (size.disc_mm + 2.5) / 2
    if stand.turn is None:
        at = Placed(below.turned(-size.disc_wedge_deg / 2).rotation, centre)
        slope = float(np.tan(np.radians(size.disc_wedge_deg / 2)))
        top, bottom = (0.0, -slope), (0.0, slope)
    else:
        at = Placed(between(below.rotation, stand.inferior.rotation), centre)
        top, bottom = slopes(at, stand.inferior), slopes(at, below)
    a, b = (size.width_mm + below_width_mm) / 4 - 0.5, (size.depth_mm + below_depth_mm) / 4 - 0.5
    solid.body(at, (a, b, half, top[1], bottom[1], -1.5, -1.5, -0.03, 1.0, 1.5, 0.0, top[0], bottom[0]))
    return solid


def between(a: F64, b: F64) -> F64:
    """The rotation midway between two."""
    return np.asarray(Rotation.from_matrix(np.stack([a, b])).mean().as_matrix())


def slopes(of: Placed, plate: Placed) -> tuple[float, float]:
    """How a plate rises along a frame's x and y."""
    n = of.rotation.T @ plate.rotation[:, 2]
    return float(-n[0] / n[2]), float(-n[1] / n[2])


def vertebra_solid(
    anatomy: Anatomy, stand: Stand, own: list[Process], above: list[Process], above_gap_mm: float, above_deg: float
) -> Solid:
    """The whole bone. `own`, `above`: the inferior processes of this vertebra and of the one above, left and right."""
    size, v, shell = stand.size, stand.body, anatomy.cortex_scale
    solid = Solid(f"vertebrae_{size.level}", 1.2 * shell, anatomy.trabecular_hu)
    dense = anatomy.trabecular_hu * 1.35
    slope = float(np.tan(np.radians(size.wedge_deg / 2)))
    top, bottom = (0.0, -slope), (0.0, slope)
    if stand.turn is not None:
        top, bottom = slopes(v, stand.superior), slopes(v, stand.inferior)
    bowl = 2.0 if size.lumbar else 1.4
    body = (
        size.width_mm / 2,
        size.depth_mm / 2,
        size.height_mm / 2,
        top[1],
        bottom[1],
        bowl,
        bowl * 1.15,
        0.10,
        1.3,
        2.6,
        -0.02,
        top[0],
        bottom[0],
    )
    solid.body(v, body, cortex_mm=0.6 * shell)
    for i, (_, side) in enumerate(SIDES):
        centre, frame = pedicle_frame(stand, i)
        solid.pedicle(
            centre, frame, size.pedicle_width_mm[i] / 2, size.pedicle_height_mm / 2, 0.22, 10.0 if size.lumbar else 8.5,
            k=3.0, cortex_mm=1.1 * shell, hu=dense,
        )  # fmt: skip
        solid.trabecular_hu = dense
        end = v.rotation.T @ (centre - frame[:, 2] * (9.0 if size.lumbar else 6.5) - v.origin)
        end[0] = abs(end[0])
        _superior(solid, size, v, side, end, above[i] if above else None, above_deg)
        solid.cone(own[i].arch, own[i].root, own[i].arch_mm, own[i].root_mm, k=4.0)
        r = own[i].lamina_mm
        solid.cone(*own[i].lamina, r, r + 0.3, k=5.0, stretch=LAMINA_STRETCH, wide=own[i].lamina_wide)
        _transverse(solid, size, v, side, end)
    canal = v.at(0.0, size.depth_mm / 2 + size.canal_depth_mm / 2, 0.0)
    solid.tunnel(canal, v.rotation, size.canal_width_mm / 2, size.canal_depth_mm / 2, k=2.0)
    for process in own:
        process.add(solid, k=3.5)
    _spinous(solid, size, v)
    for process in above:
        process.add(solid, grow_mm=above_gap_mm, k=0.6, operation=shapes.SUBTRACT)
    return solid


def pedicle_frame(stand: Stand, i: int) -> tuple[F64, F64]:
    """Where a pedicle's neck is meant to be: centre, frame (x lateral width, y height, z anterior axis)."""
    size, v = stand.size, stand.body
    side = SIDES[i][1]
    a, s = np.radians(size.pedicle_transverse_deg[i]), np.radians(size.pedicle_sagittal_deg)
    x = size.canal_width_mm / 2 + size.pedicle_width_mm[i] / 2 + 0.4
    centre = v.at(side * x, size.depth_mm / 2 + 4.0, _pedicle_z(size))
    axis = v.along(-side * np.sin(a) * np.cos(s), -np.cos(a) * np.cos(s), -np.sin(s))
    return centre, axes_along(axis, v.along(1.0, 0.0, 0.0))


def _pedicle_z(size: VertebraSize) -> float:
    return size.height_mm / 2 - size.pedicle_height_mm / 2 - 2.0


def _superior(
    solid: Solid, size: VertebraSize, v: Placed, side: float, end: F64, above: Process | None, above_deg: float
) -> None:
    # The superior articular process embraces the inferior process of the vertebra above, which is carved out of it
    # later.
    half_h, z = size.height_mm / 2, _pedicle_z(size)
    sagittal = above_deg < 60
    if above is not None:
        phi, reach = np.radians(above_deg), 7.0 if sagittal else 6.2
        tip = v.rotation.T @ (above.tip - v.origin)
        x, y = abs(tip[0]) + reach * np.cos(phi), tip[1] - reach * np.sin(phi)
        top = half_h + (6.5 if sagittal else 8.0)
    else:  # the uppermost vertebra: a free process of the same make
        x, y, top = size.facet_half_distance_mm, size.depth_mm / 2 + size.canal_depth_mm - 7.0, half_h + 7.0
    r = 5.4 if sagittal else 4.0
    solid.cone(v.at(side * (end[0] - 0.5), end[1], z), v.at(side * x, y, half_h - 1.5), r, r, k=4.0)
    top_r = 3.7 if size.lumbar else 3.2
    solid.cone(v.at(side * x, y, half_h - 2.5), v.at(side * (x - 0.8), y + 0.6, top - top_r), r, top_r, k=2.0)
    if size.lumbar:  # mamillary process
        solid.ellipsoid(v.at(side * (x + 1.8), y + 2.6, half_h - 3.0), v.rotation, (3.0, 3.6, 4.6), k=4.0)


def _transverse(solid: Solid, size: VertebraSize, v: Placed, side: float, end: F64) -> None:
    x, y, _ = end
    z, lift = _pedicle_z(size), size.transverse_lift_mm
    up = v.along(0.0, 0.0, 1.0)
    if size.lumbar:
        stout = 1.5 if size.role == "L5" else 1.0
        back = 2.0 if size.role == "L5" else 5.0
        middle = v.at(side * (0.5 * x + 0.5 * size.transverse_span_mm), y + 0.2 * back, z - 0.5 + 0.4 * lift)
        solid.cone(v.at(side * x, y - 3.5, z - 1.0), middle, 4.2 * stout, 2.8 * stout, k=4.5, stretch=1.5, wide=up)
        tip = v.at(side * (size.transverse_span_mm - 2.5), y + back, z + lift)
        solid.cone(middle, tip, 2.8 * stout, 2.3 * stout, k=0.2, stretch=1.5, wide=up)
        return
    tip = v.at(side * size.transverse_span_mm, y + TRANSVERSE_BACK_MM.get(size.role, 12.0), z + lift)
    solid.cone(v.at(side * x, y, z - 0.5), tip, 5.2, 4.4, k=4.5)


def transverse_tip(size: VertebraSize) -> tuple[F64, F64]:
    """The tip and the root of a thoracic vertebra's left transverse process, in the vertebra's frame."""
    a = np.radians(size.pedicle_transverse_deg[0])
    x = size.canal_width_mm / 2 + size.pedicle_width_mm[0] / 2 + 0.4 + 6.5 * np.sin(a)
    y, z = size.depth_mm / 2 + 4.0 + 6.5 * np.cos(a), _pedicle_z(size)
    back = TRANSVERSE_BACK_MM.get(size.role, 12.0)
    return np.array([size.transverse_span_mm, y + back, z + size.transverse_lift_mm]), np.array([x, y, z - 0.5])


def _spinous(solid: Solid, size: VertebraSize, v: Placed) -> None:
    drop = np.radians(size.spinous_drop_deg)
    z0 = -(0.22 if size.lumbar else 0.12) * size.height_mm
    run = v.along(0.0, np.cos(drop), -np.sin(drop))
    up = v.along(0.0, np.sin(drop), np.cos(drop))
    root = v.at(0.0, size.depth_mm / 2 + size.canal_depth_mm + 3.5, z0)
    half, length = size.spinous_half_height_mm, size.spinous_length_mm
    if size.lumbar:  # the hatchet: a plate with a thickened, blunt posterior border
        frame = axes_along(up, v.along(1.0, 0.0, 0.0))
        solid.box(root + run * length * 0.45, frame, (2.6, length * 0.5, half * 0.84), 2.4, k=5.0)
        end = root + run * (length - 2.5)
        solid.cone(end + up * half * 0.5, end - up * half * 0.66 + run * 0.6, 3.0, 3.7, k=6.0)
        return
    solid.cone(root, root + run * length, half * 0.42, half * 0.42, k=4.5, stretch=1.9, wide=unit(up))
    solid.sphere(root + run * (length + 1.0), half * 0.52, k=4.0)
