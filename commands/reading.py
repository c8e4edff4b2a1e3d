"""A source of pictures for the length of a command, with what was lost on the way told at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from commands.console import say

if TYPE_CHECKING:
    from tracking.frame import FrameSource


@contextmanager
def reading(source: str) -> Iterator[FrameSource]:
    """The open source; says what a camera refused, and at the end which pictures were damaged, lost or late.

    Raises what `open_source` raises.
    """
    from tracking.sources.source import losses, notes, open_source

    with open_source(source) as pictures:
        say(*notes(pictures))
        try:
            yield pictures
        finally:
            say(*losses(pictures))
