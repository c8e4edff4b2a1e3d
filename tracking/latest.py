"""A one-slot mailbox between a device's thread and its reader: the newest value wins, and the losses are counted."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the newest value that nobody has taken yet."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._condition = threading.Condition()
        self._value: T | None = None
        self._closed = False
        self._overwritten = 0
        self._put = 0

    def put(self, value: T) -> None:
        """Leave a value; one that was not taken in time is overwritten and counted. Ignored after `close`."""
        with self._condition:
            if self._closed:
                return
            self._put += 1
            self._overwritten += self._value is not None
            self._value = value
            self._condition.notify_all()

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for a value and remove it; None after the timeout, or at once when closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._value is not None or self._closed, timeout_s)
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Wake the reader; a value that is already there can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the writer has gone."""
        with self._condition:
            return self._closed

    @property
    def waiting(self) -> bool:
        """Whether a value is there that nobody has taken."""
        with self._condition:
            return self._value is not None

    @property
    def overwritten(self) -> int:
        """How many values were lost because the reader was slower."""
        with self._condition:
            return self._overwritten

    @property
    def received(self) -> int:
        """How many values were put in all."""
        with self._condition:
            return self._put
