"""What the twin's tests share: the default phantom, made once."""

import pytest

from twin.scan.phantom.patient import Phantom


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """The patient of seed 1."""
    return Phantom.make(1)
