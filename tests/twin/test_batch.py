"""Many twins at once: the list checked whole, each row in its own process, nothing lost when one dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.mesh import TriangleMesh
from tests.twin.test_case import CORNERS, FACES
from tests.twin.test_twin_commands import run
from twin.batch import NoCluster, run_batch
from twin.batch_list import BadList, read_list
from twin.case import Case, check_case
from twin.surfaces.ply import ply_bytes

SEGMENTERS = ("default",)


def silent(_line, _what, _fraction):
    pass


def write_bones(folder: Path, scale=1.0, name="sacrum"):
    folder.mkdir(parents=True)
    (folder / f"{name}.ply").write_bytes(ply_bytes(TriangleMesh[Patient](CORNERS * 3 * scale, FACES)))


@pytest.fixture
def list_of_three(tmp_path):
    """Two rows of bones that can be built, and one that can't."""
    write_bones(tmp_path / "one")
    write_bones(tmp_path / "two", 1.5)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/sacrum.ply").write_bytes(b"ply\nnonsense\n")
    path = tmp_path / "list.csv"
    path.write_text("source,case\none,cases/one\nbad,cases/bad\ntwo,cases/two\n")
    return path


def test_rows_are_built_failed_and_skipped(tmp_path, list_of_three):
    run("twin", "build", "--batch", list_of_three, "--json", "--workers", "2", code=1, lines=4)
    kept = [json.loads(line) for line in (tmp_path / "list.results.jsonl").read_text().splitlines()]
    by_line = {one["line"]: one for one in kept}
    assert {line: one["status"] for line, one in by_line.items()} == {2: "built", 3: "failed", 4: "built"}
    assert by_line[3]["error"]["kind"] == "BadSurfaceFile"
    assert "sacrum.ply" in by_line[3]["error"]["message"]
    for name in ("one", "two"):
        assert check_case(tmp_path / "cases" / name) == []
        assert by_line[2 if name == "one" else 4]["twin_id"] == Case.open(tmp_path / "cases" / name).twin.twin_id
    assert sorted(p.name for p in (tmp_path / "cases").iterdir()) == ["one", "two"]
    before = (tmp_path / "cases/one/case.json").stat().st_mtime_ns
    (tmp_path / "bad/sacrum.ply").write_bytes((tmp_path / "one/sacrum.ply").read_bytes())
    (tmp_path / "two/sacrum.ply").write_bytes((tmp_path / "one/sacrum.ply").read_bytes())  # another input now
    found = run("twin", "build", "--batch", list_of_three, "--json", code=1, lines=4)
    assert {one["line"]: one["status"] for one in found[:3]} == {2: "skipped", 3: "built", 4: "failed"}
    assert next(one for one in found if one.get("line") == 4)["error"]["kind"] == "CaseExists"
    assert found[3]["rows"] == 3
    assert (found[3]["built"], found[3]["skipped"], found[3]["failed"]) == (1, 1, 1)
    assert (tmp_path / "cases/one/case.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns none"),
        ("source\none\n", "columns source"),
        ("source,case,colour\none,a,red\n", "colour"),
        ("source,case\n", "no row"),
        ("source,case\none\n", "line 2: more or fewer cells"),
        ("source,case\none,a,b\n", "line 2: more or fewer cells"),
        ("source,case\n,a\n", "line 2: no source"),
        ("source,case\none,a\nnowhere,b\n", r"line 3: the source .*nowhere does not exist"),
        ("source,case\none,a\none,./a\n", "line 3: .*the same case as line 2"),
        ("source,case\none,a\none,a/b\n", "line 3: .*inside the case of line 2"),
        ("source,case,labels\none,a,gone.nii\n", "line 2: the labels"),
        ("source,case,segmenter\none,a,magic\n", "line 2: no segmenter 'magic'"),
        ("source,case,surgery_since\none,a,May\n", "line 2: surgery_since 'May'"),
        ("source,case\none,full\n", "line 2: full: the folder is not empty and is no case"),
        ("source,case\nnowhere,a\n,b\n", r"line 2: .*; line 3: no source"),
    ],
)
def test_a_bad_list_is_refused_whole(tmp_path, text, words):
    write_bones(tmp_path / "one")
    write_bones(tmp_path / "full")
    (tmp_path / "list.csv").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadList, match=words):
        read_list(tmp_path / "list.csv", SEGMENTERS)
    assert sorted(tmp_path.rglob("*")) == before


def test_engines_and_options_that_do_not_fit(tmp_path, list_of_three):
    rows = read_list(list_of_three, SEGMENTERS)
    with pytest.raises(Misuse, match="no engine 'slurm'"):
        run_batch(rows, "slurm", silent)
    with pytest.raises(NoCluster, match="no dask scheduler answers"):
        list(run_batch(rows, "dask://127.0.0.1:1", silent))
    run("twin", "build", "--batch", list_of_three, "--case", tmp_path / "x", code=2)
    run("twin", "build", "one", "--case", tmp_path / "x", "--engine", "dask", code=2)
    run("twin", "build", code=2)
    (tmp_path / "site.toml").write_text("colour = 3\n")
    run("twin", "build", "--batch", list_of_three, "--site", tmp_path / "site.toml", code=1)
    run("twin", "build", tmp_path / "one", "--case", tmp_path / "x", "--site", tmp_path / "site.toml", code=1)
    assert not (tmp_path / "cases").exists()


def children():
    """The row processes of this test."""
    return [p for p in psutil.Process().children(recursive=True) if "twin.batch_row" in p.cmdline()]


def waited_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def fast_kill(processes):
    for process in processes:
        process.send_signal(signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_row_that_dies_is_tried_again(list_of_three):
    rows = read_list(list_of_three, SEGMENTERS)[:1]

    def kill_the_first():
        fast_kill(waited_for(children))

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    (result,) = run_batch(rows, "local", silent, workers=1)
    killer.join()
    assert (result["status"], result["attempts"]) == ("built", 2)
    assert check_case(rows[0].case) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_stopped_batch_leaves_no_process_and_nothing_half(tmp_path, list_of_three):
    rows = read_list(list_of_three, SEGMENTERS)
    results = run_batch(rows, "local", silent, workers=1)
    starter = threading.Thread(target=lambda: next(results))
    starter.start()
    starter.join()
    results.close()  # what Ctrl-C does to the loop over the results
    assert children() == []
    left = [path.name for path in (tmp_path / "cases").iterdir()] if (tmp_path / "cases").exists() else []
    assert [name for name in left if name.startswith(".")] == []
    for name in left:
        assert check_case(tmp_path / "cases" / name) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_dask_worker_killed_in_the_middle_loses_nothing(tmp_path, list_of_three):
    """The worker is killed -9 while its row is being built; dask gives the row to a new one, and the row is built."""
    rows = [row for row in read_list(list_of_three, SEGMENTERS) if row.line != 3]
    killed: list[int] = []

    def kill_one_worker():
        child = waited_for(children)[0]
        worker = child.parent()
        killed.append(worker.pid)
        worker.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_one_worker)
    killer.start()
    found = {result["line"]: result for result in run_batch(rows, "dask", silent, workers=2)}
    killer.join()
    assert killed
    assert killed[0] != os.getpid()
    assert {line: one["status"] for line, one in found.items()} == {2: "built", 4: "built"}
    for row in rows:
        assert check_case(row.case) == []
    assert sorted(p.name for p in (tmp_path / "cases").iterdir()) == ["one", "two"]


def test_a_list_with_one_twin_is_what_one_build_gives(tmp_path, list_of_three):
    rows = read_list(list_of_three, SEGMENTERS)[:1]
    (result,) = run_batch(rows, "local", silent, workers=1)
    run("twin", "build", tmp_path / "one", "--case", tmp_path / "single")
    single = Case.open(tmp_path / "single").twin
    assert result["twin_id"] == single.twin_id
    assert np.array_equal(
        Case.open(rows[0].case).twin.bones["sacrum"].surface.vertices_mm, single.bones["sacrum"].surface.vertices_mm
    )
