"""A wrong frame chain is refused before the program runs: mypy is asked, as a developer would."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
from spatial.frames import Camera, Patient, Reference
from spatial.rigid import Points, Rigid

def chain(camera_from_reference: Rigid[Camera, Reference], reference_from_patient: Rigid[Reference, Patient],
          tip: Points[Patient]) -> Points[Camera]:
"""
GOOD = "    return camera_from_reference @ reference_from_patient @ tip\n"
WRONG = {
    "order": "    return reference_from_patient @ camera_from_reference @ tip\n",
    "skipped frame": "    return camera_from_reference @ tip\n",
    "not inverted": "    return camera_from_reference @ reference_from_patient.inverse() @ tip\n",
    "wrong result": "    return reference_from_patient @ tip\n",
}


def mypy(tmp_path, body):
    source = tmp_path / "chain.py"
    source.write_text(PRELUDE + body)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir", str(tmp_path / "cache"),
         "--config-file", "", str(source)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={"MYPYPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip


@pytest.mark.slow
def test_mypy_accepts_the_right_chain_and_refuses_each_wrong_one(tmp_path):
    good = mypy(tmp_path, GOOD)
    assert good.returncode == 0, good.stdout
    for name, body in WRONG.items():
        wrong = mypy(tmp_path, body)
        assert wrong.returncode == 1, f"{name} passed: {wrong.stdout}"
        assert "Unsupported operand types for @" in wrong.stdout or "Incompatible return value" in wrong.stdout
