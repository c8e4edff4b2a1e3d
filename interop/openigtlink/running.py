"""A thread with an event loop in it, for callers that wait for pictures or read lines and can't be asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_S = 5.0


class LoopThread:
    """Runs until `stop`; everything that touches a link is called in its loop."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        if pending:
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(asyncio.sleep(0))  # closed lines tell so in the next turn
        self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = PATIENCE_S) -> T:
        """Run to its end and return what it gives, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run beside; `stop` cancels it."""
        asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call in the loop, in order; nothing when it has stopped."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        """Cancel what runs, end the thread; may be called twice."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
