"""kill -9 at any moment of a build: the case is the old one, the new one or absent, never half.

The builds run in forked children of one process that has imported everything, so the moments fall into the work itself
and not into the start of Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.twin.test_case import twin
from twin.case import Case, check_case
from twin.journal import JournalBusy
from twin.surfaces.ply import ply_bytes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")

HARNESS = """
import json, os, random, signal, sys, time
from pathlib import Path
import commands.twin, twin.anatomy.build, twin.case, twin.case_document, twin.scan.load, twin.scan.meshes
from typer.testing import CliRunner
from twin.anatomy.bone import Bone
from twin.anatomy.twin import Levels, Twin

source, case, kills, what = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if what == "writing":  # anatomy touches no file
    def unmeasured(path):
        bones = {n: Bone(n, m, (m, m)) for n, m in twin.scan.meshes.load_surfaces(path).meshes.items()}
        return Twin("from meshes", bones, (), Levels(0.5))
    twin.anatomy.build.twin_from_meshes = unmeasured

def build(folder, die_at=None, count_to=None):
    child = os.fork()
    if child == 0:
        seen = 0
        def count(event, arguments):
            nonlocal seen
            touches = event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove")
            if touches and str(folder.parent) in str(arguments):
                seen += 1
                if seen == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        CliRunner().invoke(commands.twin.app, ["build", source, "--case", str(folder), "--force"])
        if count_to is not None:
            os.write(count_to, str(seen).encode())
        os._exit(0)
    return child

def state():
    try:
        return {"twin_id": twin.case.Case.open(case).twin.twin_id, "problems": twin.case.check_case(case)}
    except twin.case_document.NoCase:
        return {"twin_id": None, "problems": ["a folder without a case"] if case.exists() else []}

random.seed(7)
out, into = os.pipe()
began = time.perf_counter()
os.waitpid(build(case.parent / "timed", count_to=into), 0)
length_s, steps = time.perf_counter() - began, int(os.read(out, 20))
for kill in range(kills):
    if what == "writing":
        moment = random.randint(1, steps)
        child = build(case, die_at=moment)
    else:
        moment = random.uniform(0.0, length_s)
        child = build(case)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    left = [n for n in os.listdir(case.parent) if n.startswith(".")]
    print(json.dumps({"moment": moment, "killed": os.WIFSIGNALED(status), "left": left, **state()}), flush=True)
"""


def sphere(radius_mm, centre_mm):
    """A closed surface with enough triangles for the writing to take a while."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 97)[:-1], np.linspace(0, np.pi, 49)[1:-1])
    ring = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], axis=-1).reshape(-1, 3)
    points = np.concatenate([ring, [[0, 0, 1.0], [0, 0, -1.0]]]) * radius_mm + centre_mm
    rows, columns = 47, 96
    faces = []
    for r in range(rows - 1):
        for c in range(columns):
            a, b = r * columns + c, r * columns + (c + 1) % columns
            faces += [[a, a + columns, b], [b, a + columns, b + columns]]
    top, bottom = len(ring), len(ring) + 1
    last = (rows - 1) * columns
    faces += [[top, c, (c + 1) % columns] for c in range(columns)]
    faces += [[bottom, last + (c + 1) % columns, last + c] for c in range(columns)]
    return TriangleMesh[Patient](points, np.array(faces, np.int32))


@pytest.fixture
def meshes(tmp_path):
    (tmp_path / "bones").mkdir()
    for n in range(1, 6):
        mesh = sphere(15.0, np.array([0.0, 0.0, -35.0 * n]))
        assert mesh.is_closed
        (tmp_path / f"bones/vertebrae_L{n}.ply").write_bytes(ply_bytes(mesh))
    return tmp_path / "bones"


def killed(meshes: Path, case: Path, kills: int, what: str):
    words = [sys.executable, "-c", HARNESS, str(meshes), str(case), str(kills), what]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}  # fork beside idle threads
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("replaces", "what"),
    [(False, "writing"), (True, "writing"), pytest.param(True, "everything", marks=pytest.mark.slow)],
)
def test_kill_9_leaves_a_whole_case_or_none(tmp_path, meshes, replaces, what):
    """`writing`: killed before one of its file operations, by chance; `everything`: after a time, by chance."""
    place = tmp_path / "cases"
    place.mkdir()
    if replaces:
        with Case.create(place / "case", twin(), None, None) as old:
            old.save_plan("main", {"screws": []})
    found = killed(meshes, place / "case", 10, what)
    assert len(found) == 10
    assert sum(one["killed"] for one in found) >= (8 if what == "writing" else 1)
    assert [one for one in found if one["problems"]] == []
    ids = {one["twin_id"] for one in found}
    if replaces:
        assert None not in ids  # the old case or the new one, at every moment
    assert len(ids - {None, "a1b2c3"}) <= 1
    if what == "writing":
        assert any(one["left"] for one in found)  # so there is something to clean
    Case.create(place / "case", twin(), None, None, replace=True)
    assert sorted(path.name for path in place.iterdir()) == ["case", "timed"]
    assert check_case(place / "case") == []


def test_an_old_case_that_a_killed_build_moved_aside_comes_back(tmp_path):
    Case.create(tmp_path / "case", twin(), None, None)
    (tmp_path / "case").rename(tmp_path / ".case.replaced-1")  # where two names can't be exchanged in one step
    (tmp_path / ".case.building-1").mkdir()
    (tmp_path / ".case.building-1/ct.nrrd").write_bytes(b"half")
    (tmp_path / ".case2.building-1").mkdir()
    with pytest.raises(KeyboardInterrupt):
        Case.create(tmp_path / "case", twin(), None, None, replace=True, progress=_stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".case2.building-1", "case"]
    assert check_case(tmp_path / "case") == []


def _stop(what, fraction):
    raise KeyboardInterrupt


def test_a_case_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr("twin.case.exchange", lambda one, other: False)
    Case.create(tmp_path / "case", twin(), None, None, author="first").close()
    Case.create(tmp_path / "case", twin(), None, None, author="second", replace=True).close()
    assert Case.open(tmp_path / "case").journal.entries()[0].author == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_case_that_somebody_writes_to_is_not_replaced(tmp_path):
    with Case.create(tmp_path / "case", twin(), None, None) as case:
        case.save_plan("main", {"screws": []})
        with pytest.raises(JournalBusy, match="another program is writing"):
            Case.create(tmp_path / "case", twin(), None, None, replace=True)
    assert check_case(tmp_path / "case") == []
    Case.create(tmp_path / "case", twin(), None, None, replace=True)
