"""The house keeps its own rules: layers, set-up, the front door."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command, **options):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **options)


def test_rooms_import_only_what_stands_below_them():
    done = run(Path(sys.executable).with_name("lint-imports"))
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_run_py_names_its_jobs_and_refuses_others():
    done = run(sys.executable, "run.py", "dance")
    assert done.returncode == 2
    assert "run.py demo" in done.stderr


def test_without_apt_the_missing_packages_are_named_in_one_line():
    program = (
        "import run, sys\n"
        "run.LIBRARIES['libnothere.so.9'] = 'libnothere9'\n"
        "run.shutil.which = lambda name: None\n"
        "run.install_system_packages(False)\n"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == (2 if sys.platform.startswith("linux") else 0)
    if done.returncode:
        assert "libnothere9" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_run_py_needs_nothing_but_the_standard_library():
    done = run(sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import run")
    assert done.returncode == 0, done.stderr


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    for requirement in named:
        name = requirement.split(";")[0].split(">")[0].strip().lower().replace("_", "-")
        assert name in pinned or (name == "open3d" and "open3d-cpu" in pinned), f"{name} is not in constraints.txt"


def test_the_overview_imports_no_room():
    program = "import sys, osteotwin; heavy = {'torch', 'cv2', 'open3d', 'SimpleITK', 'moderngl', 'xr', 'numba'}\n"
    program += "print(sorted(heavy & set(sys.modules)))"
    assert run(sys.executable, "-c", program).stdout.strip() == "[]"
    done = run(sys.executable, "-m", "osteotwin", "--help")
    assert done.returncode == 0
    assert "not a medical device" in done.stdout


@pytest.mark.parametrize("room", ["doctor", "demo", "phantom", "scan", "twin", "plan", "rehearse", "replay", "markers",
                                  "calibrate", "track", "igtl", "register", "guide", "bench"])  # fmt: skip
def test_every_room_answers_help(room):
    done = run(sys.executable, "-m", "osteotwin", room, "--help", env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the disk that is always full is Linux' own")
def test_a_file_that_the_system_refuses_is_one_line_and_exit_1():
    import json

    track = (sys.executable, "-m", "osteotwin", "track", "synthetic:frames=1,size=320x240,grey=1", "--out", "/dev/full")
    done = run(*track, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["error"]["kind"] == "FileTrouble"
    assert done.stderr.strip().splitlines()[-1].startswith("FileTrouble: No space left on device")


def test_doctor_reports_what_the_contract_asks():
    import json

    done = run(sys.executable, "-m", "osteotwin", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"gl", "openxr", "cameras", "torch", "missing"} <= set(report)
    assert set(report["gl"]) >= {"vendor", "renderer", "version"}


def test_wrong_use_with_json_is_told_as_json():
    """A missing argument, an unknown option or command: an object on stdout, one line on stderr, exit 2."""
    for words in (["scan", "list"], ["twin", "inspect", "case", "--nonsense"], ["nonsense"]):
        done = run(sys.executable, "-m", "osteotwin", *words, "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["kind"] == "Misuse"
        assert len(done.stderr.splitlines()) == 1
