"""A twin straight from the phantom's analytic surfaces and landmarks: no CT, no segmentation in between."""

from functools import cache

import numpy as np
import open3d as o3d

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin
from twin.scan.phantom.measures import landmarks, pedicles
from twin.scan.phantom.patient import Phantom


@cache
def phantom():
    return Phantom.make(1)


def surface(name, spacing_mm=0.8):
    """The zero set of the bone's field, vertices slid onto it by one secant step."""
    bones, n = phantom().bones, phantom().index(name)
    low = bones.low_mm[n] - 2 * spacing_mm
    size = np.ceil((bones.high_mm[n] + 2 * spacing_mm - low) / spacing_mm).astype(int)
    axes = [low[a] + spacing_mm * np.arange(size[a]) for a in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    field = phantom().value(name, points).reshape(size).astype(np.float32)
    field = np.ascontiguousarray(-field.transpose(2, 1, 0))
    mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor(field), [1e-4])
    vertices = mesh.vertex.positions.numpy().astype(float) * spacing_mm + low
    triangles = mesh.triangle.indices.numpy()
    found = TriangleMesh[Patient](vertices, triangles)
    return found if found.volume_ml > 0 else TriangleMesh[Patient](vertices, triangles[:, ::-1])


@cache
def phantom_twin(names=("vertebrae_L1", "vertebrae_L2", "vertebrae_L3", "vertebrae_L4", "vertebrae_L5", "sacrum")):
    marks = tuple(
        Landmark(
            m.name,
            m.bone,
            m.side,
            Points[Patient](m.position_mm),
            None if m.direction is None else Directions[Patient](m.direction),
            0.0,
        )
        for m in landmarks(phantom(), pedicles(phantom()))
    )
    bones = {name: Bone(name, surface(name)) for name in names}
    return Twin("phantom-1", bones, marks, Levels(1.0))
