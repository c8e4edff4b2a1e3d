"""Exports hold against independent readers, carry names and colours, and leave nothing half."""

from __future__ import annotations

import json
import struct

import numpy as np
import open3d
import pytest
import SimpleITK

from spatial.faults import Misuse
from tests.twin.test_case import CORNERS, FACES, GRID, labels, twin, volume
from tests.twin.test_twin_commands import run
from twin.anatomy.twin import NoBone
from twin.case import Case
from twin.export import CannotExport, export_case
from twin.surfaces.colours import bone_rgba


@pytest.fixture
def case(tmp_path):
    return Case.create(tmp_path / "case", twin(), volume(), labels())


def glb_parts(path):
    data = path.read_bytes()
    magic, version, total = struct.unpack_from("<4sII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data))
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    return document, data[20 + size + 8 :]


def test_folders_hold_bones_and_structures_that_another_reader_reads(tmp_path, case):
    for form in ("stl", "ply", "obj"):
        files = export_case(case, form, tmp_path / form)
        assert sorted(path for path in (tmp_path / form).rglob("*") if path.is_file()) == sorted(files)
        surfaces = {path.relative_to(tmp_path / form).as_posix() for path in files if path.suffix == f".{form}"}
        assert surfaces == {
            f"vertebrae_L3.{form}", f"sacrum.{form}", f"structures/canal.{form}", f"structures/disc_L3_L4.{form}",
        }  # fmt: skip
        mesh = open3d.io.read_triangle_mesh(str(tmp_path / form / f"sacrum.{form}"))
        mesh.merge_close_vertices(1e-6)
        assert np.asarray(mesh.vertices).shape == (4, 3)
        assert mesh.get_volume() == pytest.approx(10.0**3 / 6 / 27, rel=1e-4)
    text = (tmp_path / "obj/sacrum.obj").read_text()
    assert "mtllib sacrum.mtl" in text
    assert "usemtl sacrum" in text
    red, green, blue, _ = bone_rgba("sacrum")
    assert f"Kd {red:.4f} {green:.4f} {blue:.4f}" in (tmp_path / "obj/sacrum.mtl").read_text()


def test_glb_has_names_colours_roles_and_metres(tmp_path, case):
    export_case(case, "glb", tmp_path / "bones.glb")
    document, payload = glb_parts(tmp_path / "bones.glb")
    nodes = {node["name"]: node for node in document["nodes"]}
    assert set(nodes) == {"vertebrae_L3", "sacrum", "canal", "disc_L3_L4", "patient"}
    assert nodes["canal"]["extras"] == {"kind": "structure", "role": "critical"}
    matrix = np.array(nodes["patient"]["matrix"]).reshape(4, 4).T
    assert matrix @ [0, 0, 1000, 1] == pytest.approx([0, 1, 0, 1])  # a metre to the head is a metre up
    materials = {one["name"]: one for one in document["materials"]}
    shown = {name: tuple(one["pbrMetallicRoughness"]["baseColorFactor"]) for name, one in materials.items()}
    assert len(set(shown.values())) == 4
    assert materials["canal"]["alphaMode"] == "BLEND"
    assert "alphaMode" not in materials["sacrum"]
    linear = shown["sacrum"][0]
    assert 1.055 * linear ** (1 / 2.4) - 0.055 == pytest.approx(bone_rgba("sacrum")[0], abs=1e-4)
    shape = document["meshes"][nodes["sacrum"]["mesh"]]["primitives"][0]
    view = document["bufferViews"][document["accessors"][shape["attributes"]["POSITION"]]["bufferView"]]
    read = np.frombuffer(payload, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(-1, 3)
    assert read == pytest.approx(CORNERS, abs=1e-6)
    assert document["materials"][shape["material"]]["name"] == "sacrum"


def test_another_reader_opens_the_glb(tmp_path, case):
    export_case(case, "glb", tmp_path / "bones.glb", names=["sacrum"])
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "bones.glb"))
    assert len(mesh.triangles) == len(FACES)


def test_bones_can_be_chosen(tmp_path, case):
    export_case(case, "stl", tmp_path / "stl", names=["sacrum", "canal"])
    assert sorted(p.name for p in (tmp_path / "stl").rglob("*.stl")) == ["canal.stl", "sacrum.stl"]
    with pytest.raises(NoBone, match="vertebrae_L9"):
        export_case(case, "stl", tmp_path / "x", names=["vertebrae_L9"])
    run("twin", "export", case.folder, "--format", "ply", "--out", tmp_path / "ply", "--bones", "L3,S1")
    assert sorted(p.name for p in (tmp_path / "ply").iterdir()) == ["sacrum.ply", "vertebrae_L3.ply"]
    run("twin", "export", case.folder, "--format", "ply", "--out", tmp_path / "y", "--bones", "L9", code=2)
    run("twin", "export", case.folder, "--format", "ply", "--out", tmp_path / "y", "--bones", ",", code=2)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "y").exists()


def test_labels_follow_corrected_names(tmp_path, case):
    export_case(case, "nifti", tmp_path / "a.nii.gz")
    with Case.open(case.folder) as opened:
        opened.rename_levels({"vertebrae_L3": "vertebrae_L2"}, "Ada")
    export_case(Case.open(case.folder), "nifti", tmp_path / "b.nii.gz")
    a, b = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nii.gz", "b.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(a) == 29, SimpleITK.GetArrayFromImage(b) == 30)
    assert a.GetSize() == GRID.size
    assert a.TransformIndexToPhysicalPoint((1, 2, 3)) == pytest.approx(
        tuple(GRID.patient_from_index(np.array([1.0, 2.0, 3.0])).mm), abs=1e-4
    )
    assert b"vertebrae_L2" in __import__("gzip").open(tmp_path / "b.nii.gz").read(4000)


@pytest.mark.parametrize("form", ["stl", "ply", "obj"])
def test_a_stopped_export_leaves_what_was_there(tmp_path, case, form):
    def stop(what, fraction):
        if fraction > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_case(case, form, tmp_path / "out", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]
    (tmp_path / "out").mkdir()
    (tmp_path / f"out/sacrum.{form}").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        export_case(case, form, tmp_path / "out", progress=stop)
    assert [p.read_text() for p in (tmp_path / "out").iterdir()] == ["old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "out"]


def test_what_is_in_the_way_is_said(tmp_path, case):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Misuse, match="a file of this name"):
        export_case(case, "stl", tmp_path / "file")
    with pytest.raises(CannotExport):
        export_case(case, "stl", tmp_path / "file/under")
    with pytest.raises(Misuse, match="one file"):
        export_case(case, "glb", tmp_path)
