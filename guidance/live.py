"""The newest picture of a live source, and the last one again when no new one comes in time.

A source that waits for its camera would leave the last overlay on the screen; here its waiting happens in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator

from tracking.frame import Frame, FrameSource
from tracking.latest import Latest

PATIENCE_S = 0.1


def newest(source: FrameSource, patience_s: float = PATIENCE_S) -> Generator[tuple[Frame, bool]]:
    """The newest frame with True, or after `patience_s` without one the last frame with False.

    Ends with the source and raises what the source raised. Close the source to end it from outside.
    """
    slot: Latest[Frame] = Latest()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for frame in source:
                if slot.closed:
                    return
                slot.put(frame)
        except BaseException as error:  # handed over to the reader below
            failed.append(error)
        finally:
            slot.close()

    thread = threading.Thread(target=run, name=f"guidance:{source.name}", daemon=True)
    thread.start()
    last: Frame | None = None
    try:
        while True:
            frame = slot.take(patience_s)
            if frame is not None:
                last = frame
                yield frame, True
            elif slot.closed:
                break
            elif last is not None:
                yield last, False
        if failed:
            raise failed[0]
    finally:
        slot.close()
