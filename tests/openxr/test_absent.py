"""A machine without an OpenXR runtime: said in one line, exit 2, never a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from render.headset_probe import probe
from tests.openxr import monado

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_runtime_is_said_with_what_to_do() -> None:
    program = (
        "from spatial.faults import Misuse\n"
        "from render.headset import Headset, NoOpenXRRuntime\n"
        "try:\n"
        "    Headset('nobody')\n"
        "except NoOpenXRRuntime as fault:\n"
        "    assert isinstance(fault, Misuse)\n"
        "    print(fault.exit_code, fault)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env={**os.environ, "XR_RUNTIME_JSON": "/nowhere/runtime.json"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("2 NoOpenXRRuntime: ")
    assert "XR_RUNTIME_JSON is /nowhere/runtime.json" in done.stdout
    assert "SteamVR" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_probe_answers_without_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XR_RUNTIME_JSON", "/nowhere/runtime.json")
    answer = probe()
    assert answer["runtime"] is None
    assert answer["extensions"] == []
    assert "XR_RUNTIME_JSON" in answer["reason"]


def test_the_probe_survives_a_runtime_that_crashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "xr.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = probe()
    assert answer["runtime"] is None
    assert "crashed" in answer["reason"]


@pytest.mark.openxr
def test_the_probe_names_the_runtime(runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in monado.environment(runtime, monado.free_port(), tmp_path).items():
        monkeypatch.setenv(name, value)
    answer = probe()
    assert "Monado" in answer["runtime"]
    assert answer["version"] == "25.0.0"
    assert {"XR_MNDX_egl_enable", "XR_KHR_opengl_enable"} <= set(answer["extensions"])
    assert answer["reason"] is None
