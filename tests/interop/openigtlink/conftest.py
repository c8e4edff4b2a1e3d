"""The reference library's end of the wire."""

import os
from pathlib import Path

import pytest

from tests.interop.openigtlink import library


@pytest.fixture(scope="session")
def peer() -> Path:
    """The program built on Debian's library; without it a test skips, or fails where REQUIRE names openigtlink."""
    found = library.ready()
    if found is None and library.HEADER.is_file():
        found = library.ensure()
    if found is None:
        reason = "OpenIGTLink's library is absent; run: python3 tests/interop/openigtlink/library.py"
        if "openigtlink" in os.environ.get("REQUIRE", ""):
            pytest.fail(f"REQUIRE=openigtlink, but {reason}")
        pytest.skip(reason)
    return found
