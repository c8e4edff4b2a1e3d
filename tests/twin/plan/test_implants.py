"""The implant library: what the files hold is typed and honest about its source; anything else is refused by name."""

import hashlib
import json
import tomllib

import manifold3d as m3
import numpy as np
import pytest

from spatial.frames import Patient
from spatial.rigid import Points
from tests.data import ROOT
from tests.twin.plan.bodies import to_mesh
from twin.plan.screws.implants import (
    BUILT_IN,
    KINDS,
    BadImplant,
    HookFamily,
    NailFamily,
    PlateFamily,
    RodFamily,
    ScrewFamily,
    load_library,
    read_family,
)
from twin.plan.screws.screw import BadScrew, Screw
from twin.surfaces.stl import stl_bytes


def screw():
    return Screw("s", "vertebrae_L4", "left", Points[Patient]([12, 41, 4]), Points[Patient]([12, 11.0, 4]), 6.0, 45.0)


def vendor(**changes):
    document = {
        "schema": 1, "family": "acme", "type": "screw", "kind": "pedicle", "words": "a maker's screw",
        "sizes": [{"diameter_mm": 6.2, "core_diameter_mm": 4.4}], "lengths_mm": [38, 42], "pitch_mm": 2.5,
        "head": {"diameter_mm": 12.0, "height_mm": 13.0, "most_angle_deg": 30.0},
        "source": "catalogue 2026", "source_status": "vendor",
    }  # fmt: skip
    return document | changes


def written(folder, document):
    path = folder / "acme.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_every_family_is_read_names_its_file_and_says_what_its_numbers_rest_on():
    library = load_library()
    for path in BUILT_IN.glob("*.json"):
        family = library.families[path.stem]
        assert family.source_status == "unverified"
        assert "no maker" in family.source
    assert {type(f) for f in library.families.values()} == {
        ScrewFamily, RodFamily, HookFamily, PlateFamily, NailFamily,
    }  # fmt: skip
    for kind in KINDS:
        family = library.screws(kind=kind)
        assert family.kind == kind
        assert all(0.5 < core / d < 0.9 for d, core in family.core_mm.items())


def test_the_manifest_has_every_family_with_its_checksum():
    manifest = tomllib.loads((ROOT / "assets" / "MANIFEST.toml").read_text(encoding="utf-8"))
    known = {a["path"]: a["sha256"] for a in manifest["asset"]}
    for path in BUILT_IN.glob("*.json"):
        assert known[f"implants/{path.name}"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_vendors_set_joins_the_library_and_replaces_a_namesake(tmp_path):
    library = load_library([written(tmp_path, vendor())])
    assert library.screws("acme").diameters_mm == (6.2,)
    assert library.screws("acme").core_diameter_mm(6.2) == 4.4
    assert library.sha256 != load_library().sha256
    assert "acme" not in load_library().families
    replaced = load_library([written(tmp_path, vendor(family="polyaxial"))])
    assert replaced.screws().lengths_mm == (38.0, 42.0)


def test_a_head_comes_from_its_stl(tmp_path):
    (tmp_path / "head.stl").write_bytes(stl_bytes(to_mesh(m3.Manifold.cylinder(13.0, 6.0))))
    mesh = read_family(written(tmp_path, vendor(shape="head.stl"))).head_mesh()
    assert mesh.bounds_mm[1][2] - mesh.bounds_mm[0][2] == pytest.approx(13.0)
    assert load_library().screws().head_mesh() is None
    with pytest.raises(BadImplant, match="no file beside"):
        read_family(written(tmp_path, vendor(shape="../head.stl")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coating": "HA"}, "unknown field 'coating'"),
        ({"sizes": [{"diameter_mm": 6.2, "core_diameter_mm": 4.4, "colour": "red"}]}, "unknown field 'colour'"),
        ({"sizes": [{"diameter_mm": 6.2}]}, "lacks 'core_diameter_mm'"),
        ({"sizes": [{"diameter_mm": 4.0, "core_diameter_mm": 4.4}]}, "as thick as"),
        ({"kind": "expandable"}, "'expandable'; one of pedicle"),
        ({"schema": 2}, "schema 2"),
        ({"pitch_mm": "2.5"}, "pitch_mm"),
        ({"lengths_mm": []}, "lengths_mm"),
        ({"source": ""}, "source"),
        ({"type": "cement"}, "'cement'; screw"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, changes, words):
    with pytest.raises(BadImplant, match=words):
        read_family(written(tmp_path, vendor(**changes)))


def test_files_that_are_none_are_refused_with_their_path(tmp_path):
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(BadImplant, match="JSON"):
        load_library([tmp_path])
    with pytest.raises(BadImplant, match="no \\.json"):
        load_library([empty])
    with pytest.raises(BadImplant, match="it has cortical"):
        load_library().screws("acme")


def test_a_screw_keeps_its_kind_and_an_old_document_its_bytes():
    old = screw().to_json()
    assert set(old) == {"id", "bone", "side", "entry_mm", "target_mm", "diameter_mm", "length_mm"}
    assert (Screw.from_json(old).kind, Screw.from_json(old).family_name) == ("pedicle", "polyaxial")
    lag = {**old, "kind": "lag", "family": "acme", "thread_mm": 16.0, "diameter_mm": 2.0}
    assert Screw.from_json(lag).to_json() == lag
    for wrong, words in (
        ({"kind": "nail"}, "'nail'"), ({"thread_mm": 90.0}, "thread of 90"), ({"diameter_mm": 2.0}, "3 to 12"),
    ):  # fmt: skip
        with pytest.raises(BadScrew, match=words):
            Screw.from_json({**old, **wrong})
    assert np.isclose(Screw.from_json(lag).cylinder.radius_mm, 1.0)
