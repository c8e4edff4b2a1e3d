"""`osteotwin scan` and `osteotwin twin` as scripts call them: JSON or words on stdout, errors on stderr, exit codes."""

from __future__ import annotations

import json
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.data import shared_data
from tests.twin.schema_1 import write_schema_1
from tests.twin.test_case import CORNERS, FACES, twin
from tests.twin.written_series import write_series
from twin.anatomy.bone import Bone
from twin.case import Case
from twin.scan.meshes import load_surfaces
from twin.scan.volume import LabelMap
from twin.surfaces.ply import ply_bytes, read_ply
from twin.surfaces.stl import read_stl


def run(*words, code=0, lines=None):
    """Run the front door; returns what `--json` printed (else None) and its words; of a stream, its `lines` objects."""
    from osteotwin import app

    result = CliRunner().invoke(app, [str(w) for w in words], prog_name="osteotwin")
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    told = result.stdout.splitlines()
    if "--json" not in words:
        return None, result.output
    if lines is not None:
        assert len(told) == lines
        return [json.loads(line) for line in told]
    assert len(told) <= 1
    return (json.loads(told[0]) if told else None), result.stderr


@pytest.fixture
def fast_build(monkeypatch):
    """A builder without anatomy: one bone a label. The real one is tested with real data below."""

    def build_twin(volume, labels, *, segmenter="default", site=None, progress=None):
        if labels is None:
            values = np.zeros(volume.grid.shape, np.uint8)
            values[2:5, 3:9, 4:8] = 29
            labels = LabelMap(volume.grid, values, {29: "vertebrae_L3"})
        surface = TriangleMesh[Patient](CORNERS, FACES)
        bones = {name: Bone(name, surface) for name in labels.names.values()}
        return replace(twin(), bones=bones, landmarks=()), labels

    def twin_from_meshes(source):
        found = load_surfaces(source)
        bones = {name: Bone(name, mesh) for name, mesh in found.meshes.items()}
        return replace(twin(), bones=bones, landmarks=(), density=None, warnings=found.warnings)

    module = types.ModuleType("twin.anatomy.build")
    module.build_twin, module.twin_from_meshes = build_twin, twin_from_meshes
    monkeypatch.setitem(sys.modules, "twin.anatomy.build", module)


def test_scan_list(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", mutate=lambda data, k: setattr(data, "skip_this", k == 4), series_uid="1.2.3")
    found, _ = run("scan", "list", tmp_path, "--json")
    by_uid = {series["uid"]: series for series in found["series"]}
    assert len(by_uid) == 2
    bad = by_uid.pop("1.2.3")
    good = next(iter(by_uid.values()))
    assert {"uid", "description", "modality", "slices", "size", "spacing_mm", "problems"} <= set(good)
    assert (good["description"], good["modality"], good["slices"]) == ("three balls", "CT", 21)
    assert good["size"] == [56, 44, 21]
    assert good["spacing_mm"] == pytest.approx([1.6, 2.0, 4.0])
    assert not [p for p in good["problems"] if "apart" not in p]
    assert any(problem.startswith("IrregularSlices: gap of 8.00 mm after slice 4") for problem in bad["problems"])
    _, words = run("scan", "list", tmp_path)
    assert "gap of 8.00 mm" in words


def test_scan_list_of_nothing(tmp_path):
    error, words = run("scan", "list", tmp_path, "--json", code=1)
    assert error["error"]["kind"] == "NoScan"
    assert "the folder is empty" in words
    run("scan", "list", tmp_path / "absent", "--json", code=1)


def test_scan_list_of_an_image_file():
    found, _ = run("scan", "list", shared_data("ct_lumbar_pelvis_nifti/example_ct.nii.gz"), "--json")
    assert found["series"][0]["size"] == [122, 101, 112]


def test_build_inspect_check_confirm_export(tmp_path, fast_build):
    write_series(tmp_path / "ct")
    case = tmp_path / "case"
    built, _ = run("twin", "build", tmp_path / "ct", "--case", case, "--json")
    assert {"case", "bones", "levels", "warnings", "seconds", "peak_memory_mb"} <= set(built)
    assert set(built["bones"][0]) == {"name", "volume_ml", "area_cm2", "closed", "triangles"}
    assert built["bones"][0]["area_cm2"] > 0
    assert built["levels"] == {
        "confidence": 0.75, "confirmed_by": None, "transitional": "vertebrae_L6",
        "evidence": ["the sacrum is seen", "ribs start at the sixth vertebra"],
    }  # fmt: skip
    assert built["fitness"]["guide"] == {"fit": False, "reasons": ["2.0 mm slices"]}
    assert built["sides"][1] == {"check": "order", "agrees": True, "words": "2 pairs"}
    assert [(one["name"], one["role"]) for one in built["structures"]] == [
        ("canal", "critical"), ("disc_L3_L4", "context"),
    ]  # fmt: skip
    assert built["surface_sd_mm"] == 0.21
    assert built["peak_memory_mb"] > 10
    seen, _ = run("twin", "inspect", case, "--json")
    assert {"landmarks", "density", "provenance"} <= set(seen)
    step = next(step for step in seen["provenance"] if step["step"] == "source")
    assert set(step["inputs_sha256"]) == {"source"}
    assert step["settings"]["segmenter"] == "default"
    assert seen["program"]["version"]
    _, words = run("twin", "inspect", case)
    for line in ("NOT FIT to guide: 2.0 mm slices", "errs by 0.21 mm", "order agrees: 2 pairs", "transitional"):
        assert line in words
    sound, _ = run("twin", "check", case, "--json")
    assert sound["sound"] is True
    run("twin", "confirm", case, "--by", "Ada", code=2)
    run("twin", "confirm", case, "--levels", code=2)
    run("twin", "confirm", case, "--levels", "--by", "Ada", "--json")
    assert run("twin", "inspect", case, "--json")[0]["levels"]["confirmed_by"] == "Ada"
    run("twin", "confirm", case, "--levels", "--by", "Ada", "--shift", "1", "--set", "L3=L4", code=2)
    run("twin", "confirm", case, "--levels", "--by", "Ada", "--set", "L3", code=2)
    moved, _ = run("twin", "confirm", case, "--levels", "--by", "Grace", "--shift", "+1", "--json")
    assert moved["renamed"] == {"vertebrae_L3": "vertebrae_L4"}
    assert [bone["name"] for bone in run("twin", "inspect", case, "--json")[0]["bones"]] == ["vertebrae_L4"]
    moved, _ = run("twin", "confirm", case, "--levels", "--by", "Ada", "--set", "l4=L3", "--json")
    assert moved["twin_id"] == seen["twin_id"]
    exported = tmp_path / "out" / "bones.nii.gz"
    run("twin", "export", case, "--format", "nifti", "--out", exported)
    image = SimpleITK.ReadImage(str(exported))
    assert image.GetSize() == (56, 44, 21)
    assert sorted(np.unique(SimpleITK.GetArrayFromImage(image))) == [0, 29]
    for form in ("stl", "ply", "obj"):
        run("twin", "export", case, "--format", form, "--out", tmp_path / form)
        assert [p.name for p in (tmp_path / form).glob("*") if p.suffix == f".{form}"] == [f"vertebrae_L3.{form}"]
        assert (tmp_path / form / f"structures/canal.{form}").is_file()
    assert read_stl(tmp_path / "stl/vertebrae_L3.stl").is_closed
    assert np.array_equal(read_ply(tmp_path / "ply/vertebrae_L3.ply").vertices_mm, CORNERS)
    run("twin", "export", case, "--format", "glb", "--out", tmp_path / "bones.glb")
    assert (tmp_path / "bones.glb").read_bytes()[:4] == b"glTF"
    run("twin", "export", case, "--format", "dwg", "--out", tmp_path / "x", code=2)
    run("twin", "export", case, "--format", "nifti", "--out", tmp_path / "x", code=2)


def test_build_says_what_is_in_the_way(tmp_path, fast_build):
    write_series(tmp_path / "ct")
    write_series(tmp_path / "two/a", series_uid="1.2.3")
    write_series(tmp_path / "two/b", series_uid="1.2.4")
    case = tmp_path / "case"
    error, _ = run("twin", "build", tmp_path / "two", "--case", case, "--json", code=2)
    assert error["error"]["kind"] == "SeriesChoice"
    assert "1.2.3" in error["error"]["message"]
    assert not case.exists()
    run("twin", "build", tmp_path / "two", "--case", case, "--series", "1.2.4")
    error, _ = run("twin", "build", tmp_path / "ct", "--case", case, "--json", code=2)
    assert error["error"]["kind"] == "CaseExists"
    run("twin", "build", tmp_path / "ct", "--case", case, "--force")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "ct", "two"]


def test_check_migrates_an_older_case_when_asked(tmp_path):
    write_schema_1(tmp_path / "old", twin(), None, None)
    found, _ = run("twin", "check", tmp_path / "old", "--json")
    assert (found["sound"], found["schema"], found["migrated_from"]) == (True, 1, None)
    assert "--migrate brings it to 2" in run("twin", "check", tmp_path / "old")[1]
    found, _ = run("twin", "check", tmp_path / "old", "--migrate", "--by", "Ada", "--json")
    assert (found["sound"], found["schema"], found["migrated_from"]) == (True, 2, 1)
    assert Case.open(tmp_path / "old").journal.entries()[-1].author == "Ada"


def test_check_exits_1_on_a_changed_file(tmp_path, fast_build):
    write_series(tmp_path / "ct")
    run("twin", "build", tmp_path / "ct", "--case", tmp_path / "case")
    path = tmp_path / "case/ct.nrrd"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    found, words = run("twin", "check", tmp_path / "case", "--json", code=1)
    assert found["problems"] == ["ct.nrrd has changed since the case was built (checksum)"]
    assert "checksum" in words
    run("twin", "inspect", tmp_path / "case", "--json")
    (tmp_path / "case/landmarks.json").write_text("{}")
    error, _ = run("twin", "inspect", tmp_path / "case", "--json", code=1)
    assert error["error"]["kind"] == "CaseCorrupt"
    run("twin", "inspect", tmp_path, "--json", code=2)


def test_meshes_make_a_twin_without_ct(tmp_path, fast_build):
    (tmp_path / "bones").mkdir()
    (tmp_path / "bones/sacrum.ply").write_bytes(ply_bytes(TriangleMesh[Patient](CORNERS, FACES)))
    (tmp_path / "bones/thing.ply").write_bytes(ply_bytes(TriangleMesh[Patient](CORNERS, FACES[:3])))
    built, _ = run("twin", "build", tmp_path / "bones", "--case", tmp_path / "case", "--json")
    assert [bone["closed"] for bone in built["bones"]] == [True, False]
    assert any("thing is no TotalSegmentator bone name" in note for note in built["warnings"])
    assert run("twin", "inspect", tmp_path / "case", "--json")[0]["density"] is None
    run("twin", "export", tmp_path / "case", "--format", "nifti", "--out", tmp_path / "x.nii.gz", code=1)


def test_real_masks_become_twelve_closed_bones(tmp_path):
    """Issue: twelve closed bones, L1-L5 within 3 % of the masks' volumes."""
    source = shared_data("ct_lumbar_pelvis_nifti")
    built, _ = run(
        "twin",
        "build",
        source / "example_ct.nii.gz",
        "--labels",
        source / "bone_masks",
        "--case",
        tmp_path / "x",
        "--json",
    )
    bones = {bone["name"]: bone for bone in built["bones"]}
    assert len(bones) == 12
    assert all(bone["closed"] for bone in bones.values())
    for name, volume_ml in zip(("L1", "L2", "L3", "L4", "L5"), (59.9, 61.6, 66.4, 66.5, 66.0), strict=True):
        assert bones[f"vertebrae_{name}"]["volume_ml"] == pytest.approx(volume_ml, rel=0.03)
    run("twin", "check", tmp_path / "x")
    run("twin", "export", tmp_path / "x", "--format", "nifti", "--out", tmp_path / "x.nii.gz")
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "x.nii.gz")))
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(source / "bone_masks/vertebrae_L3.nii.gz")))
    assert np.array_equal(labels == 29, mask > 0)


@pytest.mark.slow
def test_real_compressed_torso_becomes_a_case(tmp_path):
    built, _ = run("twin", "build", shared_data("ct_torso_dicom_j2k/series"), "--case", tmp_path / "y", "--json")
    assert built["bones"]
    assert any("blank" in note for note in built["warnings"])
    assert Case.open(tmp_path / "y").check() == []


def test_real_pelvis_mesh_becomes_a_twin_without_ct(tmp_path):
    zipfile.ZipFile(shared_data("ar_bard_guidance/DeciPelvis.vtk.zip")).extractall(tmp_path / "bones")
    for source in (tmp_path / "bones", tmp_path / "bones/DeciPelvis.vtk"):
        built, _ = run("twin", "build", source, "--case", tmp_path / "case", "--force", "--json")
        assert [(bone["name"], bone["closed"]) for bone in built["bones"]] == [("DeciPelvis", False)]
        assert any("no TotalSegmentator bone name" in note for note in built["warnings"])
    assert run("twin", "inspect", tmp_path / "case", "--json")[0]["density"] is None


@pytest.mark.parametrize("name", ["sliceincrement/001", "sliceincrement/002", "notavolume"])
def test_real_bad_geometry_is_one_line(tmp_path, fast_build, name):
    zipfile.ZipFile(shared_data("ct_bad_geometry_dicom/dicom2nifti_failing_ct.zip")).extractall(tmp_path / "in")
    error, words = run("twin", "build", tmp_path / "in" / name, "--case", tmp_path / "case", "--json", code=1)
    assert error["error"]["kind"] in ("IrregularSlices", "DuplicateSlices")
    assert len([line for line in words.splitlines() if error["error"]["kind"] in line]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.usefixtures("graphics")
def test_pictures(tmp_path, fast_build):
    write_series(tmp_path / "ct")
    run("twin", "build", tmp_path / "ct", "--case", tmp_path / "case")
    found, _ = run("twin", "inspect", tmp_path / "case", "--pictures", tmp_path / "png", "--json")
    assert {Path(file).stem for file in found["pictures"]} == {"axial", "coronal", "sagittal", "canal", "spine"}
    from PIL import Image

    for file in found["pictures"]:
        with Image.open(file) as picture:
            assert np.asarray(picture).std() > 2
