"""A twin straight from the phantom's analytic surfaces and landmarks: no CT, no segmentation in between."""

from functools import cache

import numpy as np
import open3d as o3d

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin
from twin.scan.phantom.measures import endplate, pedicle, pedicles
from twin.scan.phantom.patient import Phantom
from twin.scan.phantom.shapes import LIPSCHITZ
from twin.scan.phantom.solids import Placed


@cache
def phantom():
    return Phantom.make(1)


@cache
def surface(name, spacing_mm=0.8, block=3):
    """The zero set of the bone's field on a grid; blocks that can't hold any of it get their middle's value."""
    bones, n = phantom().bones, phantom().index(name)
    low = bones.low_mm[n] - 2 * spacing_mm
    blocks = np.ceil((bones.high_mm[n] + 2 * spacing_mm - low) / spacing_mm / block).astype(int)
    size = blocks * block

    def values(step, first, mask=None):
        axes = [low[a] + step * (np.arange(round(size[a] * spacing_mm / step)) + first) for a in range(3)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        return phantom().value(name, points if mask is None else points[mask])

    coarse = values(block * spacing_mm, 0.5 - 0.5 / block)
    field = np.kron(coarse, np.ones((block, block, block)))
    near = np.abs(field) < LIPSCHITZ * spacing_mm * np.sqrt(3) * (block + 1) / 2
    field[near] = values(spacing_mm, 0.0, near)
    field = np.ascontiguousarray(-field.transpose(2, 1, 0).astype(np.float32))
    mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor(field), [1e-4])
    vertices = mesh.vertex.positions.numpy().astype(float) * spacing_mm + low
    triangles = mesh.triangle.indices.numpy()
    found = TriangleMesh[Patient](vertices, triangles)
    return found if found.volume_ml > 0 else TriangleMesh[Patient](vertices, triangles[:, ::-1])


LEVELS = ("L1", "L2", "L3", "L4", "L5")


@cache
def marks():
    """Pedicles, endplates and femoral heads of L1 to the hips, as the phantom's truth has them."""
    found = []

    def add(name, bone, side, position, direction=None):
        where = None if direction is None else Directions[Patient](direction)
        found.append(Landmark(name, bone, side, Points[Patient](position), where, 0.0))

    ph = phantom()
    for level in LEVELS:
        bone, stand = f"vertebrae_{level}", ph.stand(level)
        for side in ("left", "right"):
            neck = pedicle(ph, bone, side, *ph.pedicle_frame(level, side))
            add(f"pedicle_{side}", bone, side, neck.isthmus_mm, neck.direction)
        for name, frame, up in (("superior", stand.superior, 1.0), ("inferior", stand.inferior, -1.0)):
            inside = Placed(frame.rotation, stand.body.origin)
            add(
                f"endplate_{name}",
                bone,
                None,
                *endplate(ph, bone, inside, stand.size.width_mm, stand.size.depth_mm, up),
            )
    for neck in pedicles(Only(ph)):
        add(f"pedicle_{neck.side}", "sacrum", neck.side, neck.isthmus_mm, neck.direction)
    scale = ph.pelvis.scale
    plateau = endplate(ph, "sacrum", ph.s1.moved(0, 0, -9.0), 50.0 * scale, 33.0 * scale, 1.0)
    add("endplate_superior", "sacrum", None, *plateau)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        add("femoral_head", f"femur_{side}", side, ph.pelvis.head(sign))
    return tuple(found)


class Only:
    """The phantom without its vertebrae: measuring all of its pedicles then means those of the sacrum."""

    stands = ()

    def __init__(self, whole):
        self._whole = whole

    def __getattr__(self, name):
        return getattr(self._whole, name)


@cache
def phantom_twin(names=(*(f"vertebrae_{level}" for level in LEVELS), "sacrum")):
    return Twin("phantom-1", {name: Bone(name, surface(name)) for name in names}, marks(), Levels(1.0))
