"""One model of boxes a run."""

import pytest

from rehearsal.model import Model
from tests.rehearsal.acting import Player
from tests.rehearsal.boxes import model_of_boxes


@pytest.fixture(scope="session")
def model() -> Model:
    return model_of_boxes()


@pytest.fixture
def player(model: Model) -> Player:
    return Player(model)
