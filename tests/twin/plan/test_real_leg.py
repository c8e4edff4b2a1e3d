"""An opening high tibial osteotomy of a real tibia: closed parts, nothing lost, numbers that anatomy allows."""

import math

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.data import shared_data
from twin.anatomy.build import twin_from_meshes
from twin.plan.cuts.consequences import consequences
from twin.plan.cuts.contact import collisions
from twin.plan.cuts.guide import guide_block
from twin.plan.cuts.making import Options, make
from twin.plan.cuts.reduction import fragments
from twin.plan.cuts.side_effects import leg_effects


@pytest.fixture(scope="module")
def leg():
    from scipy.io import loadmat

    meshes = {}
    for bone in loadmat(shared_data("bones_vsd_z013/z013.mat"), simplify_cells=True)["B"]:
        kind, _, side = bone["name"].partition("_")
        if side == "L" and kind.lower() in ("femur", "tibia", "fibula", "patella"):
            mesh = bone["mesh"]
            faces = np.asarray(mesh["faces"], np.int32) - 1
            meshes[f"{kind.lower()}_left"] = TriangleMesh[Patient](np.asarray(mesh["vertices"], float), faces)
    return twin_from_meshes(meshes)


@pytest.mark.parametrize("biplanar", [None, True])
def test_an_hto_of_a_real_tibia(leg, biplanar):
    cut = make(leg, "open-wedge", "tibia_left", math.radians(8.0), options=Options(biplanar=biplanar))
    whole = leg.bone("tibia_left").surface
    pieces = fragments(leg, cut).pieces
    parts = [m for m in (pieces.moving, pieces.staying, pieces.loose) if len(m.triangles)]
    assert all(m.is_closed for m in parts)
    assert sum(m.volume_ml for m in parts) == pytest.approx(whole.volume_ml, rel=1e-9)
    found = consequences(leg, cut)
    assert found.words == "distal part 8.0\u00b0 valgus"
    assert 45 < cut.depth_mm < 70  # a tibia's width less the bridge
    assert found.gap_mm["far cortex"] == pytest.approx(2 * cut.depth_mm * math.sin(math.radians(4.0)), abs=0.01)
    # by other code: the far cortex is the last of the cut's own section on the medial side
    section = whole.section(cut.planes[1]).reshape(-1, 3)
    out = np.cross(cut.bisector.normal, cut.hinge.direction)
    reach = np.abs((section - cut.hinge.point_mm) @ out)[(section - cut.hinge.point_mm) @ out > 0]
    assert cut.depth_mm <= reach.max() + 0.01
    assert cut.depth_mm > 0.85 * reach.max()
    assert 5 < found.hinge.bridge_mm < 10
    effects = leg_effects(leg, [cut], "tibia_left")
    assert effects["mpta_deg"]["change"] == pytest.approx(7.6, abs=0.4)
    assert abs(effects["tibial_slope_medial_deg"]["change"]) < 0.3
    assert all(c.at_hinge for c in collisions(leg, [cut]))


def test_a_block_sits_on_a_real_tibia_without_touching(leg):
    cut = make(leg, "open-wedge", "tibia_left", math.radians(8.0))
    guide = guide_block(leg, cut)
    assert guide.mesh.is_closed
    assert 0.15 < guide.least_gap_mm < 0.5
    # by other code: no corner of the bone lies in the block
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(guide.mesh.vertices_mm.astype(np.float32)),
        o3d.core.Tensor(guide.mesh.triangles.astype(np.uint32)),
    )
    low, high = guide.mesh.bounds_mm
    near = leg.bone("tibia_left").surface.vertices_mm
    near = near[((near > low) & (near < high)).all(axis=1)]
    assert len(near) > 300
    distance = scene.compute_signed_distance(o3d.core.Tensor(near.astype(np.float32))).numpy()
    assert distance.min() > 0.1
