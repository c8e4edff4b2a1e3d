"""What tests of plans share: a surface that is read again from the same bytes is the same one, measured once."""

from functools import lru_cache
from pathlib import Path

import pytest

from twin import case_files
from twin.surfaces.ply import mesh_from_ply


@pytest.fixture(autouse=True)
def surfaces_read_once(monkeypatch):
    """Each command of a test opens its case anew; distance grids hang on the surface's identity."""
    monkeypatch.setattr(case_files, "mesh_from_ply", lambda data, _path: _once(data))


@lru_cache(maxsize=32)
def _once(data):
    return mesh_from_ply(data, Path("bone.ply"))
