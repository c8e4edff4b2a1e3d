"""Two cuts, the caudal one closed first: the cranial one is sawn and closed where it has gone, and both add up."""

import numpy as np
import pytest

from rehearsal.model import Model
from rehearsal.session import poses
from rehearsal.surgeon import Steadiness, Surgeon
from spatial.frames import Patient
from spatial.rigid import Points
from tests.rehearsal.boxes import twin_of_boxes
from twin.plan.cuts.osteotomy import Osteotomy
from twin.plan.cuts.reduction import planned_landmarks
from twin.plan.plan import Plan


def test_two_cuts_add_up_to_the_plan() -> None:
    twin = twin_of_boxes()
    cuts = {c.id: c for c in (Osteotomy.pso(twin, f"vertebrae_{n}", np.deg2rad(12.0)) for n in ("L3", "L4"))}
    surgeon = Surgeon(Model(twin, Plan("two", twin.twin_id, {}, cuts)), steadiness=Steadiness(0, 0, 0, 0, 0))
    surgeon.cut(cuts["L4-PSO"])
    surgeon.close_cut()
    surgeon.cut(cuts["L3-PSO"])
    surgeon.close_cut()
    state = surgeon.state
    assert state.execution.closed_rad == pytest.approx({name: np.deg2rad(12.0) for name in cuts})
    wanted = {(m.name, m.bone): m.position.mm for m in planned_landmarks(twin, cuts.values())}
    mark = twin.landmark("endplate_superior", "vertebrae_L2")
    found = (poses(state)["vertebrae_L2"] @ Points[Patient](mark.position.mm)).mm
    assert np.allclose(found, wanted["endplate_superior", "vertebrae_L2"], atol=1e-6)
