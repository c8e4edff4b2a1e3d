"""One offscreen painter for the room's tests; a machine without OpenGL skips them and says so."""

from collections.abc import Iterator

import pytest

from render.offscreen import NoGraphics, Offscreen


@pytest.fixture(scope="session")
def offscreen() -> Iterator[Offscreen]:
    """A painter without a window."""
    try:
        target = Offscreen()
    except NoGraphics as fault:
        pytest.skip(str(fault))
    with target:
        yield target
