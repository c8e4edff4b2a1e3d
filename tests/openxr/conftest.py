"""The runtime that the OpenXR tests run under, and the processes that run there."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.openxr import monado

ROOT = Path(__file__).resolve().parents[2]

Trial = Callable[[str, Path], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The built runtime's folder; without it the tests skip, or fail where REQUIRE names openxr."""
    folder = monado.ready()
    if folder is None:
        reason = "the OpenXR runtime is not built; run: python3 tests/openxr/monado.py"
        if "openxr" in os.environ.get("REQUIRE", ""):
            pytest.fail(f"REQUIRE=openxr, but {reason}")
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def run_trial(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Run `trial.py NAME OUT` in a process of its own, on a port of its own."""

    def run(name: str, out: Path) -> subprocess.CompletedProcess[str]:
        config = tmp_path_factory.mktemp("config")
        environment = {**os.environ, **monado.environment(runtime, monado.free_port(), config)}
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.openxr.trial", name, str(out)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run
