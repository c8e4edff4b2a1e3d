"""Vertebrae made of boxes and cylinders: every margin is known in closed form."""

from functools import cache

import manifold3d as m3
import numpy as np

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from spatial.rigid import Directions, Points
from twin.anatomy.bone import Bone, Landmark
from twin.anatomy.twin import Levels, Twin

PEDICLE_X = 12.0  # of the pedicle's axis from the mid-plane
FRONT, BACK = -17.0, 17.0  # walls of the body, patient y
WALL = 31.0  # front of the posterior block; the pedicle runs free from BACK to WALL
REAR = 41.0
ISTHMUS_Y = 24.0
HEIGHT = 28.0


def to_mesh(solid):
    found = solid.to_mesh64()
    return TriangleMesh[Patient](found.vert_properties[:, :3], found.tri_verts.astype(np.int32))


def block(low, high):
    return m3.Manifold.cube(tuple(np.subtract(high, low))).translate(tuple(low))


def vertebra_solid(radius_mm, pedicle_z=4.0):
    """Body and posterior block joined by two round pedicles of `radius_mm`, in patient axes about the origin."""
    solid = block((-22, FRONT, -HEIGHT / 2), (22, BACK, HEIGHT / 2)) + block((-22, WALL, -8), (22, REAR, 14))
    for x in (-PEDICLE_X, PEDICLE_X):
        rod = m3.Manifold.cylinder(WALL - BACK + 4, radius_mm, circular_segments=256).rotate((-90, 0, 0))
        solid += rod.translate((x, BACK - 2, pedicle_z))
    return solid


def landmarks_of(bone, centre=(0.0, 0.0, 0.0), pedicle_z=4.0):
    """Where the construction put them."""
    c = np.asarray(centre, float)
    forward = Directions[Patient](np.array([0.0, -1.0, 0.0]))
    up = Directions[Patient](np.array([0.0, 0.0, 1.0]))

    def mark(name, position, direction, side=None):
        return Landmark(name, bone, side, Points[Patient](c + position), direction, 0.0)

    return (
        mark("pedicle_left", [PEDICLE_X, ISTHMUS_Y, pedicle_z], forward, "left"),  # LPS: +x is the left
        mark("pedicle_right", [-PEDICLE_X, ISTHMUS_Y, pedicle_z], forward, "right"),
        mark("endplate_superior", [0, 0, HEIGHT / 2], up),
        mark("endplate_inferior", [0, 0, -HEIGHT / 2], up),
    )


@cache
def block_twin(radius_mm=5.0, bone="vertebrae_L4"):
    """One vertebra, alone."""
    return Twin("blocks", {bone: Bone(bone, to_mesh(vertebra_solid(radius_mm)))}, landmarks_of(bone), Levels(1.0))


@cache
def block_spine():
    """L2, L3 and L4, one above the other, with a rib-like block on no level."""
    solid = vertebra_solid(5.0)
    bones, marks = {}, []
    for name, z in (("vertebrae_L2", 38.0), ("vertebrae_L3", 0.0), ("vertebrae_L4", -38.0)):
        bones[name] = Bone(name, to_mesh(solid.translate((0.3, 0.2, z))))
        marks += landmarks_of(name, (0.3, 0.2, z))
    bones["implant"] = Bone("implant", to_mesh(block((-5, -40, 30), (5, -30, 40))))
    return Twin("spine", bones, tuple(marks), Levels(1.0))
