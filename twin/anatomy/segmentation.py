"""From a CT to labelled bones, by name of the method. `default` needs nothing but the CT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from spatial.faults import Misuse
from spatial.progress import Progress, silent
from twin.scan.volume import LabelMap, Volume


@dataclass(frozen=True, eq=False)
class Segmented:
    """Labels with what is known about them: confidence of the level names (0 to 1) with its evidence, a transitional
    vertebra's name, warnings, settings for the provenance.
    """

    labels: LabelMap
    confidence: float
    warnings: tuple[str, ...]
    settings: dict[str, Any]
    evidence: tuple[str, ...] = ()
    transitional: str | None = None


class Segmenter(Protocol):
    """What turns a CT into labels; raises a Fault that says why when it can't."""

    def __call__(self, volume: Volume, progress: Progress) -> Segmented:
        """The labels of one CT."""
        ...


def _default() -> Segmenter:
    from twin.anatomy import unaided

    return unaided.segment


def _totalsegmentator() -> Segmenter:
    from twin.anatomy import totalsegmentator

    return totalsegmentator.segment


METHODS: Mapping[str, Callable[[], Segmenter]] = MappingProxyType(
    {"default": _default, "totalsegmentator": _totalsegmentator}
)
"""Each method's name and what imports it: a method that needs a package may say so only when it is asked for."""


def segment(volume: Volume, method: str = "default", progress: Progress = silent) -> Segmented:
    """Label the bones of a CT by the named method; raises Misuse that lists the methods, and the method's faults."""
    if method not in METHODS:
        raise Misuse(f"no segmenter {method!r}; there is {', '.join(sorted(METHODS))}")
    return METHODS[method]()(volume, progress)
