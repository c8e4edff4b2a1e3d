"""Surface files: round trips, other programs' files, damage, and a folder of meshes as a source."""

from __future__ import annotations

import json
import struct
import zipfile

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.data import shared_data
from twin.scan.meshes import load_surfaces
from twin.scan.refusals import BadSurface
from twin.surfaces.glb import glb_bytes
from twin.surfaces.obj import obj_bytes, read_obj
from twin.surfaces.ply import BadSurfaceFile, ply_bytes, read_ply
from twin.surfaces.stl import read_stl, stl_bytes
from twin.surfaces.vtk import read_vtk

CORNERS = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]) + np.array([0.1, -1 / 3, 2e-7])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def tetrahedron() -> TriangleMesh[Patient]:
    return TriangleMesh[Patient](CORNERS, FACES)


def test_ply_is_bit_exact(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply_bytes(tetrahedron()))
    back = read_ply(tmp_path / "a.ply")
    assert np.array_equal(back.vertices_mm, tetrahedron().vertices_mm)
    assert np.array_equal(back.triangles, tetrahedron().triangles)


def test_obj_is_bit_exact_and_stl_to_single_precision(tmp_path):
    (tmp_path / "a.obj").write_bytes(obj_bytes(tetrahedron(), "sacrum"))
    assert np.array_equal(read_obj(tmp_path / "a.obj").vertices_mm, tetrahedron().vertices_mm)
    (tmp_path / "a.stl").write_bytes(stl_bytes(tetrahedron()))
    back = read_stl(tmp_path / "a.stl")
    assert back.is_closed
    assert back.volume_ml == pytest.approx(1 / 6, rel=1e-6)


@pytest.mark.parametrize("name", ["a.ply", "b.ply", "a.stl", "a.obj", "a.vtk"])
def test_what_another_library_writes(tmp_path, name):
    import open3d

    mesh = open3d.geometry.TriangleMesh.create_icosahedron(12.0)
    mesh.compute_vertex_normals()
    if name == "a.vtk":  # VTK's own text form, with a quadrilateral
        (tmp_path / name).write_text(
            "# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 5 float\n"
            "0 0 0 10 0 0 10 10 0\n0 10 0 5 5 10\n"
            "METADATA\nINFORMATION 0\n\nPOLYGONS 5 21\n4 0 3 2 1\n3 0 1 4\n3 1 2 4\n3 2 3 4\n3 3 0 4\nCELL_DATA 5\n"
        )
        back = read_vtk(tmp_path / name)
        assert back.volume_ml == pytest.approx(1 / 3)
    else:
        open3d.io.write_triangle_mesh(str(tmp_path / name), mesh, write_ascii=name == "b.ply")
        back = {"ply": read_ply, "stl": read_stl, "obj": read_obj}[name[-3:]](tmp_path / name)
        assert back.volume_ml == pytest.approx(mesh.get_volume() / 1000, rel=1e-5)
    assert back.is_closed


@pytest.mark.parametrize("version", [3, 5])
def test_vtk_binary_in_both_forms(tmp_path, version):
    head = f"# vtk DataFile Version {version}.1\nx\nBINARY\nDATASET POLYDATA\nPOINTS 4 double\n".encode()
    body = CORNERS.astype(">f8").tobytes() + b"\n"
    if version == 3:
        cells = b"POLYGONS 4 16\n" + np.hstack([np.full((4, 1), 3), FACES]).astype(">i4").tobytes()
    else:
        cells = b"POLYGONS 5 12\nOFFSETS vtktypeint64\n" + np.arange(0, 15, 3).astype(">i8").tobytes()
        cells += b"\nCONNECTIVITY vtktypeint64\n" + FACES.astype(">i8").tobytes()
    (tmp_path / "a.vtk").write_bytes(head + body + cells + b"\n")
    back = read_vtk(tmp_path / "a.vtk")
    assert np.array_equal(back.vertices_mm, CORNERS)
    assert np.array_equal(back.triangles, FACES)


def test_vtk_strips(tmp_path):
    (tmp_path / "a.vtk").write_text(
        "# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0 10 0 0 0 10 0 10 10 0\n"
        "TRIANGLE_STRIPS 1 5\n4 0 1 2 3\n"
    )
    mesh = read_vtk(tmp_path / "a.vtk")
    assert mesh.area_cm2 == pytest.approx(1.0)
    assert mesh.face_normals[:, 2] == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["a.ply", "a.stl", "a.obj", "a.vtk"])
def test_damaged_files_are_faults(tmp_path, name):
    path = tmp_path / name
    sound = {"ply": ply_bytes(tetrahedron()), "stl": stl_bytes(tetrahedron()), "obj": obj_bytes(tetrahedron(), "a")}
    sound["vtk"] = b"# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0 10 0 0 0 10 0 1"
    readers = {"ply": read_ply, "stl": read_stl, "obj": read_obj, "vtk": read_vtk}
    data = sound[name[-3:]]
    for cut in (len(data) - 20, 100, 10) if name != "a.obj" else (60,):
        path.write_bytes(data[:cut] if name != "a.obj" else data.replace(b"f 1 3 2", b"f 1 3 9"))
        with pytest.raises(BadSurfaceFile) as caught:
            readers[name[-3:]](path)
        assert caught.value.path == path


def test_glb_is_a_standing_patient_in_metres(tmp_path):
    import open3d

    data = glb_bytes({"sacrum": tetrahedron()})
    (tmp_path / "a.glb").write_bytes(data)
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))
    size = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + size])
    assert document["nodes"][0]["name"] == "sacrum"
    seen = open3d.io.read_triangle_model(str(tmp_path / "a.glb")).meshes[0].mesh
    seen = np.asarray(seen.vertices)
    low, high = seen.min(axis=0), seen.max(axis=0)
    if high.max() < 1:  # the reader applied the root's transform: x left, y up, z anterior
        assert (high - low) == pytest.approx([0.01] * 3, rel=1e-4)
    matrix = np.array(document["nodes"][-1]["matrix"]).reshape(4, 4).T
    assert (matrix @ [0, -1, 0, 0])[:3] == pytest.approx([0, 0, 0.001])
    assert (matrix @ [0, 0, 1, 0])[:3] == pytest.approx([0, 0.001, 0])
    assert np.linalg.det(matrix[:3, :3]) > 0


def test_a_folder_of_meshes(tmp_path):
    (tmp_path / "vertebrae_L3.ply").write_bytes(ply_bytes(tetrahedron()))
    inside_out = TriangleMesh[Patient](CORNERS, FACES[:, ::-1])
    (tmp_path / "sacrum.stl").write_bytes(stl_bytes(inside_out))
    (tmp_path / "odd.obj").write_bytes(obj_bytes(TriangleMesh[Patient](CORNERS, FACES[:3]), "odd"))
    found = load_surfaces(tmp_path)
    assert sorted(found.meshes) == ["odd", "sacrum", "vertebrae_L3"]
    assert found.meshes["sacrum"].volume_ml > 0
    words = " ".join(found.warnings)
    assert "odd is no TotalSegmentator bone name" in words
    assert "odd is not closed" in words
    assert "sacrum was inside out" in words
    (tmp_path / "sacrum.ply").write_bytes(ply_bytes(tetrahedron()))
    with pytest.raises(BadSurface, match="two files for the bone sacrum"):
        load_surfaces(tmp_path)


def test_metres_are_noticed(tmp_path):
    small = TriangleMesh[Patient](CORNERS / 10_000, FACES)
    (tmp_path / "sacrum.ply").write_bytes(ply_bytes(small))
    with pytest.raises(BadSurface, match="metres"):
        load_surfaces(tmp_path)


def test_the_pelvis_of_the_guidance_data(tmp_path):
    zipfile.ZipFile(shared_data("ar_bard_guidance/DeciPelvis.vtk.zip")).extractall(tmp_path)
    found = load_surfaces(tmp_path)
    mesh = found.meshes["DeciPelvis"]
    assert (len(mesh.vertices_mm), len(mesh.triangles)) == (47831, 93003)
    assert any("not closed" in note for note in found.warnings)
