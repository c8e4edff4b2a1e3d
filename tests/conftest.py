"""Shared settings and fixtures: reproducible hypothesis runs, a display of our own."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "osteotwin", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("osteotwin")


@pytest.fixture
def display() -> Iterator[str]:
    """A virtual display of our own (`:N`), on a number that the server itself finds free.

    Without Xvfb the tests of windows skip; where REQUIRE is set, as in CI, they fail.
    """
    server = shutil.which("Xvfb")
    if server is None:
        _absent("Xvfb is absent (Debian package xvfb)")
    read, write = os.pipe()
    process = subprocess.Popen(
        [str(server), "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as said:
        number = said.readline().strip()
    try:
        if not number:
            _absent("Xvfb did not start")
        yield f":{number}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def graphics() -> None:
    """Off-screen OpenGL; without it a test skips and says why, and where CI requires its machine it fails."""
    from render.offscreen import NoGraphics, gl_info

    try:
        gl_info()
    except NoGraphics as fault:
        _absent(str(fault))


def _absent(reason: str) -> None:
    if os.environ.get("REQUIRE"):
        pytest.fail(f"REQUIRE={os.environ['REQUIRE']}, but {reason}")
    pytest.skip(reason)
