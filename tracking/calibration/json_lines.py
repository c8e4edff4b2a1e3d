"""Files of one JSON value a line, as `track --json` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spatial.faults import Fault


class NotJsonLines(Fault):
    """A line that is not one whole JSON value."""


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and value of each line that is not blank. Raises NotJsonLines."""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            last = "; was the file cut off while it was written?" if number == len(lines) and number > 1 else ""
            raise NotJsonLines(f"line {number} of {len(lines)} is not whole JSON{last}") from None
        yield number, value
