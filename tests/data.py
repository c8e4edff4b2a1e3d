"""Where the tests find real scans and photos; they skip with a reason where these are absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(relative: str) -> Path:
    """The file or folder below $OSTEOTWIN_DATA (default ../shared/data), or a skip that says what is missing."""
    base = Path(os.environ.get("OSTEOTWIN_DATA", ROOT.parent / "shared" / "data"))
    path = base / relative
    if not path.exists():
        pytest.skip(f"real data {relative} is absent (set OSTEOTWIN_DATA)")
    return path
