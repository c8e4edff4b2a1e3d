"""What of a plan does not go together, by itself: screws in bone that is taken out, rods bent for other screws."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from twin.plan.auto.rod import Rod
from twin.plan.auto.rods import head_centre_mm
from twin.plan.plan import Plan
from twin.plan.screws.implants import Library, load_library
from twin.plan.screws.screw import Screw

TAKES_PEDICLES = ("PSO", "VCR")
OFF_ROD_MM = 5.0  # a polyaxial head reaches its rod over less


def conflicts(plan: Plan, library: Library | None = None) -> list[str]:
    """A line each; a line begins with the id of what it is about."""
    taken = {cut.bone: cut.id for cut in plan.osteotomies.values() if cut.kind in TAKES_PEDICLES}
    found = [
        f"{screw.id} sits in a pedicle that {taken[screw.bone]} takes out"
        for screw in plan.screws.values()
        if screw.bone in taken
    ]
    for rod in plan.rods.values():
        found += _of_rod(rod, plan, load_library() if library is None else library)
    return found


def _of_rod(rod: Rod, plan: Plan, library: Library) -> Iterable[str]:
    for name in rod.screws:
        screw = plan.screws.get(name)
        if screw is None:
            yield f"{rod.id} joins {name}, which is not in the plan: bend it anew"
            continue
        off = _off_mm(rod, screw, library)
        if off > OFF_ROD_MM:
            yield f"{rod.id} passes the head of {name} by {off:.1f} mm: bend it anew"


def _off_mm(rod: Rod, screw: Screw, library: Library) -> float:
    """From the head's centre to the rod's centre line."""
    centre = head_centre_mm(screw, library.screws(screw.family_name).head)
    start, end = rod.centreline.mm[:-1], rod.centreline.mm[1:]
    along = end - start
    share = np.clip(np.einsum("ij,ij->i", centre - start, along) / np.einsum("ij,ij->i", along, along), 0.0, 1.0)
    return float(np.linalg.norm(start + share[:, None] * along - centre, axis=1).min())
