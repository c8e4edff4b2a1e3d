"""The newest picture of a live source, and a word when no new one comes in time.

A source that waits for its camera would leave the last overlay on the screen; here its waiting happens in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator

from tracking.frame import Frame, FrameSource, Stopped
from tracking.latest import Latest
from tracking.sources.watch import watch

PATIENCE_S = 0.1


def newest(source: FrameSource, patience_s: float = PATIENCE_S) -> Generator[Frame | Stopped | None]:
    """The newest frame; after `patience_s` without one why it stays away, if the source says so, else None.

    Ends with the source and raises what the source raised. Close the source to end it from outside.
    """
    slot: Latest[Frame | Stopped] = Latest()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for event in watch(source, patience_s):
                if slot.closed:
                    return
                if isinstance(event, Frame) or not slot.waiting:  # no word takes the place of a picture
                    slot.put(event)
        except BaseException as error:  # handed over to the reader below
            failed.append(error)
        finally:
            slot.close()

    thread = threading.Thread(target=run, name=f"guidance:{source.name}", daemon=True)
    thread.start()
    try:
        while True:
            event = slot.take(patience_s)
            if event is None and slot.closed:
                break
            yield event
        if failed:
            raise failed[0]
    finally:
        slot.close()
