"""One offscreen painter for the room's tests; a machine without OpenGL skips them and says so."""

from collections.abc import Iterator

import pytest

from render.offscreen import Offscreen


@pytest.fixture(scope="session")
def offscreen(graphics: None) -> Iterator[Offscreen]:
    """A painter without a window."""
    with Offscreen() as target:
        yield target
