"""What tests of plans share: a surface that is read again from the same bytes is the same one, measured once."""

from functools import lru_cache
from pathlib import Path

import pytest

from tests.twin.plan.bodies import block_spine
from twin import case_files
from twin.case import Case
from twin.surfaces.ply import mesh_from_ply


@pytest.fixture(autouse=True)
def surfaces_read_once(monkeypatch):
    """Each command of a test opens its case anew; distance grids hang on the surface's identity."""
    monkeypatch.setattr(case_files, "mesh_from_ply", lambda data, _path: _once(data))


@pytest.fixture
def case(tmp_path):
    """The spine made of blocks as a case without a CT."""
    Case.create(tmp_path / "case", block_spine(), None, None, ())
    return tmp_path / "case"


@lru_cache(maxsize=32)
def _once(data):
    return mesh_from_ply(data, Path("bone.ply"))
