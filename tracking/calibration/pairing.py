"""Which pictures of several cameras belong together: by the numbers in their names, or by their time stamps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from spatial.faults import Fault
from tracking.calibration.board_view import BoardView

NEAR_NS = 12_000_000


class NotTogether(Fault):
    """Pictures of several cameras that can't be put together."""


def pair_up(views: Sequence[Sequence[BoardView]], *, by_name: bool) -> list[dict[int, BoardView]]:
    """Instants: the views of each by camera number. `by_name`: of folders, else by time stamps within 12 ms.

    Names belong together when their last numbers are equal (left_07.png, right_07.png). Raises NotTogether.
    """
    shots = _by_number(views) if by_name else _by_time(views)
    together = [shot for shot in shots if len(shot) > 1]
    if not together:
        how = "no numbers in their names agree" if by_name else f"no stamps agree within {NEAR_NS / 1e6:g} ms"
        raise NotTogether(
            f"no two cameras have a picture of the same instant ({how}); name pictures as left_07.png and "
            "right_07.png, or record with one clock"
        )
    return together


def number(name: str) -> int | None:
    """The last number in a file's name; None without one."""
    found = re.findall(r"\d+", Path(name).stem)
    return int(found[-1]) if found else None


def _by_number(views: Sequence[Sequence[BoardView]]) -> list[dict[int, BoardView]]:
    shots: dict[int, dict[int, BoardView]] = {}
    for camera, seen in enumerate(views):
        for view in seen:
            key = number(view.name)
            if key is None:
                raise NotTogether(f"{view.name} has no number in its name; name pictures as left_07.png, right_07.png")
            if camera in shots.setdefault(key, {}):
                raise NotTogether(f"{view.name} and {shots[key][camera].name} of one camera have the same number")
            shots[key][camera] = view
    return [shots[key] for key in sorted(shots)]


def _by_time(views: Sequence[Sequence[BoardView]]) -> list[dict[int, BoardView]]:
    """Each picture of the first camera with the nearest of each other; none is used twice."""
    shots: list[dict[int, BoardView]] = [{0: view} for view in views[0]]
    for camera in range(1, len(views)):
        free = {view.t_ns: view for view in views[camera]}
        for shot in shots:
            if not free:
                break
            nearest = min(free, key=lambda t_ns: abs(t_ns - shot[0].t_ns))
            if abs(nearest - shot[0].t_ns) <= NEAR_NS:
                shot[camera] = free.pop(nearest)
    return shots
