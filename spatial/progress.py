"""How long work tells how far it is: a callable of (what is being done, fraction from 0 to 1).

Work is cancelled with KeyboardInterrupt; whoever writes files writes them aside and renames last.
"""

from collections.abc import Callable

Progress = Callable[[str, float], None]


def silent(_what: str, _fraction: float) -> None:
    """Report to nobody."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """The progress of a sub-task that fills [start, stop] of the whole."""
    return lambda what, fraction: progress(what, start + (stop - start) * min(max(fraction, 0.0), 1.0))
