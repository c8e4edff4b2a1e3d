"""Vertebrae T10 to L5: where each stands in the lordosis, and its body, pedicles, arch and processes.

Local frame of a vertebra: origin at the body's centre, x left, y posterior, z cranial. A facet joint is made by carving:
the inferior process of the upper vertebra, grown by the joint gap, is taken out of the lower bone, so both faces are
congruent and the gap holds over the whole joint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin.scan.phantom import shapes
from twin.scan.phantom.anatomy import Anatomy, VertebraSize
from twin.scan.phantom.solids import F64, Placed, Solid, axes_along, unit

SIDES = (("left", 1.0), ("right", -1.0))

# angle of each joint plane from the sagittal plane, named by the upper vertebra
FACET_DEG = {"T10": 76.0, "T11": 68.0, "T12": 32.0, "L1": 28.0, "L2": 33.0, "L3": 40.0, "L4": 48.0, "L5": 52.0}


@dataclass(frozen=True)
class Stand:
    """A vertebra in its place: the body's frame and the frames on its two endplates (z along the cranial normal)."""

    size: VertebraSize
    body: Placed
    superior: Placed
    inferior: Placed


@dataclass(frozen=True)
class Process:
    """An inferior articular process: a flattened round cone from its root to its tip."""

    root: F64
    tip: F64
    root_mm: float
    tip_mm: float
    stretch: float
    wide: F64

    def add(self, solid: Solid, *, grow_mm: float = 0.0, k: float = 2.0, operation: int = shapes.UNION) -> None:
        """Join the process (grown by an even margin) to a bone, or carve it out."""
        solid.cone(
            self.root, self.tip, self.root_mm + grow_mm, self.tip_mm + grow_mm, k=k, wide=self.wide, operation=operation,
            stretch=(self.root_mm * self.stretch + grow_mm) / (self.root_mm + grow_mm), cortex_mm=1.3,
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
    return stands


def inferior_process(stand: Stand, lower: Placed, lower_depth_mm: float, lower_canal_mm: float, side: float) -> Process:
    """The inferior articular process of a vertebra, reaching down behind the endplate of the bone below."""
    size, v = stand.size, stand.body
    back = size.depth_mm / 2
    phi = np.radians(FACET_DEG[size.level])
    if phi < np.radians(60):
        x = size.facet_half_distance_mm - 4.0
        root = v.at(side * (x + 0.2), back + size.canal_depth_mm + 1.2, -0.28 * size.height_mm)
        tip = lower.at(side * (x + 0.4), lower_depth_mm / 2 + lower_canal_mm + 2.3, -3.0)
        thick, stretch = 4.4, 1.32
    else:
        x = size.facet_half_distance_mm - 2.6
        root = v.at(side * x, back + size.canal_depth_mm + 1.0, -0.30 * size.height_mm)
        tip = lower.at(side * (x + 0.4), lower_depth_mm / 2 + lower_canal_mm - 0.5, 0.0)
        thick, stretch = 3.1, 1.75
    plane = v.along(side * np.sin(phi), np.cos(phi), 0.0)  # in the joint, horizontal: lateral for a coronal facet
    return Process(root, tip, thick + 0.4, thick, stretch, plane)


def disc_solid(stand: Stand, below: Placed, below_width_mm: float, below_depth_mm: float) -> Solid:
    """The disc under a vertebra (a soft solid, for the CT only)."""
    size = stand.size
    solid = Solid(f"disc_{size.level}", 0.0, 95.0)
    centre = (below.origin + stand.inferior.origin) / 2
    at = Placed(below.turned(-size.disc_wedge_deg / 2).rotation, centre)
    slope = float(np.tan(np.radians(size.disc_wedge_deg / 2)))
    half = (size.disc_mm + 2.5) / 2
    a, b = (size.width_mm + below_width_mm) / 4 - 0.5, (size.depth_mm + below_depth_mm) / 4 - 0.5
    solid.body(at, (a, b, half, -slope, slope, -1.5, -1.5, -0.03, 1.0, 1.5, 0.0))
    return solid


def vertebra_solid(
    anatomy: Anatomy, stand: Stand, own: list[Process], above: list[Process], above_gap_mm: float, above_deg: float,
    pedicle_scale: F64, name: str,
) -> Solid:  # fmt: skip
    """The whole bone. `own`/`above`: inferior processes of this vertebra and of the one above (left, right); scale (side, axis)."""
    size, v = stand.size, stand.body
    solid = Solid(name, 1.0 * anatomy.cortex_scale, anatomy.trabecular_hu)
    shell = anatomy.cortex_scale
    dense = anatomy.trabecular_hu * 1.35
    half_d, half_h = size.depth_mm / 2, size.height_mm / 2
    slope = float(np.tan(np.radians(size.wedge_deg / 2)))
    bowl = 2.0 if size.lumbar else 1.4
    parameters = (size.width_mm / 2, half_d, half_h, -slope, slope, bowl, bowl * 1.15, 0.10, 1.3, 2.6, -0.02)
    solid.body(v, parameters, cortex_mm=0.6 * shell)
    back = half_d
    arch = back + size.canal_depth_mm  # the canal's posterior wall
    zp = half_h - size.pedicle_height_mm / 2 - 1.6
    ends = []
    for i, (_, side) in enumerate(SIDES):
        centre, frame = pedicle_frame(stand, i)
        length = 12.0 if size.lumbar else 9.5
        solid.pedicle(
            centre, frame, size.pedicle_width_mm[i] / 2 * pedicle_scale[i, 0], size.pedicle_height_mm / 2 * pedicle_scale[i, 1],
            0.45, length, k=3.0, cortex_mm=1.1 * shell, hu=dense,
        )  # fmt: skip
        end = v.rotation.T @ (centre - frame[:, 2] * (9.0 if size.lumbar else 6.5) - v.origin)
        ends.append(end)
        x, y = abs(end[0]), end[1]
        wall = {"cortex_mm": 1.3 * shell, "hu": dense}

        def p(px: float, py: float, pz: float, side: float = side) -> F64:
            return v.at(side * px, py, pz)

        # superior articular process: embraces the inferior process of the vertebra above
        above_tip = v.rotation.T @ (above[i].tip - v.origin) if above else None
        if above_tip is not None:
            phi = np.radians(above_deg)
            reach = 7.2 if above_deg < 60 else 6.2
            sx, sy = abs(above_tip[0]) + reach * np.cos(phi), above_tip[1] - reach * np.sin(phi)
            top = half_h + (7.5 if above_deg < 60 else 8.5)
        else:  # T10 carries no neighbour above: a free process of the same make
            sx, sy, top = size.facet_half_distance_mm, arch - 7.0, half_h + 7.0
        r = 5.4 if above_deg < 60 else 4.0
        solid.cone(p(x - 0.5, y, zp), p(sx, sy, half_h - 1), r, r, k=4.0, **wall)
        solid.cone(
            p(sx, sy, half_h - 2), p(sx - 0.8, sy + 0.6, top - 4.0), r, 3.7 if size.lumbar else 3.2, k=3.0, **wall
        )
        # isthmus of the arch, down to the inferior process
        root = v.rotation.T @ (own[i].root - v.origin)
        solid.cone(
            p(x - 1.5, y + 2.0, zp - 2.0),
            own[i].root,
            4.8 if size.lumbar else 4.0,
            4.9 if size.lumbar else 3.6,
            k=4.0,
            **wall,
        )
        # lamina
        r = 3.1 if size.lumbar else 2.9
        solid.cone(
            p(max(x - 4.0, abs(root[0])), min(y + 3.0, arch - 1.0), -1.5), p(0.0, arch + 4.0, -0.20 * size.height_mm), r, r + 0.3,
            k=4.0, stretch=2.7, wide=v.along(0.0, 0.22, 1.0), **wall,
        )  # fmt: skip
        _transverse(solid, size, p, v, x, y, zp, wall)
    # spinal canal
    solid.tunnel(
        v.at(0.0, back + size.canal_depth_mm / 2, 0.0),
        v.rotation,
        size.canal_width_mm / 2,
        size.canal_depth_mm / 2,
        k=2.0,
    )
    for process in own:
        process.add(solid, k=3.5)
    _spinous(solid, size, v, arch, shell, dense)
    if above:
        for process in above:
            process.add(solid, grow_mm=above_gap_mm, k=0.6, operation=shapes.SUBTRACT)
    return solid


def pedicle_frame(stand: Stand, i: int) -> tuple[F64, F64]:
    """Where a pedicle's neck is meant to be: centre, frame (x lateral width, y height, z anterior axis)."""
    size, v = stand.size, stand.body
    side = SIDES[i][1]
    a, s = np.radians(size.pedicle_transverse_deg[i]), np.radians(size.pedicle_sagittal_deg)
    x = size.canal_width_mm / 2 + size.pedicle_width_mm[i] / 2 + 0.4
    z = size.height_mm / 2 - size.pedicle_height_mm / 2 - 1.6
    centre = v.at(side * x, size.depth_mm / 2 + 4.0, z)
    axis = v.along(-side * np.sin(a) * np.cos(s), -np.cos(a) * np.cos(s), -np.sin(s))
    return centre, axes_along(axis, v.along(1.0, 0.0, 0.0))


def _transverse(solid: Solid, size: VertebraSize, p, v: Placed, x: float, y: float, zp: float, wall) -> None:  # type: ignore[no-untyped-def]
    if size.lumbar:
        stout = 1.5 if size.level == "L5" else 1.0
        tip = (size.transverse_span_mm, y + (2.0 if size.level == "L5" else 5.0), zp + size.transverse_lift_mm)
        mid = (0.55 * x + 0.45 * tip[0], y + 1.0, zp - 0.5 + 0.35 * size.transverse_lift_mm)
        up = v.along(0.0, 0.0, 1.0)
        solid.cone(p(x, y - 3.5, zp - 1.0), p(*mid), 4.0 * stout, 2.9 * stout, k=4.0, stretch=1.4, wide=up, **wall)
        solid.cone(p(*mid), p(*tip), 2.8 * stout, 2.5 * stout, k=3.0, stretch=1.6, wide=up, **wall)
        solid.ellipsoid(
            p(x + 1.8, y + 6.5, size.height_mm / 2 - 3.0), np.eye(3), (3.2, 3.4, 4.0), k=4.0, **wall
        )  # mamillary
        return
    tip = (size.transverse_span_mm, y + (12.0 if size.level == "T10" else 8.0), zp + size.transverse_lift_mm)
    solid.cone(p(x, y, zp - 0.5), p(*tip), 5.2, 4.6, k=4.0, **wall)


def _spinous(solid: Solid, size: VertebraSize, v: Placed, arch: float, shell: float, dense: float) -> None:
    drop = np.radians(size.spinous_drop_deg)
    z0 = -0.22 * size.height_mm if size.lumbar else -0.12 * size.height_mm
    run = v.along(0.0, np.cos(drop), -np.sin(drop))
    up = v.along(0.0, np.sin(drop), np.cos(drop))
    root = v.at(0.0, arch + 3.5, z0)
    half = size.spinous_half_height_mm
    if size.lumbar:  # the hatchet: a plate with a thickened, blunt posterior border
        frame = axes_along(up, v.along(1.0, 0.0, 0.0))
        length = size.spinous_length_mm
        solid.box(
            root + run * length * 0.46, frame, (2.7, length * 0.5, half * 0.86), 2.4, k=4.5, cortex_mm=1.1 * shell
        )
        end = root + run * (length - 2.5)
        solid.cone(end + up * half * 0.55, end - up * half * 0.72 + run * 1.0, 3.0, 4.0, k=4.5, cortex_mm=1.0 * shell)
        return
    length = size.spinous_length_mm
    solid.cone(
        root,
        root + run * length,
        half * 0.42,
        half * 0.42,
        k=4.5,
        stretch=1.9,
        wide=unit(up),
        cortex_mm=1.1 * shell,
        hu=dense,
    )
    solid.sphere(root + run * (length + 1.0), half * 0.55, k=3.0)
