"""`igtl://HOST:PORT?…`: where a tracker is and what is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, urlsplit

from interop.openigtlink.link import PORT
from spatial.faults import Misuse

SCHEME = "igtl://"
Stream = Literal["as it comes", "tdata", "qtdata"]
KEYS = {
    "tool": "NAME or NAME:BODY, repeated: the tools to follow, and how their bodies are called here",
    "to": "the coordinates to take poses in, where the sender offers several (Tracker of StylusToTracker)",
    "version": "2 or 3: with 3 we open in protocol 3, and a sender that knows it tells of each tool's state and spread",
    "stream": "tdata or qtdata: ask the sender to begin (STT_TDATA, STT_QTDATA)",
    "interval_ms": "with stream: the least time between two messages",
    "coordinates": "with stream: the name of the coordinate system to ask for",
    "sd_mm": "standard deviation of a position along each axis, as the tracker's maker states it",
    "sd_deg": "standard deviation of a turn about each axis",
    "latency_ms": "how long after the measurement the sender stamps it",
    "quiet_ms": "after how long without a pose a body counts as lost",
    "repeat_ms": "after how long of the very same numbers a pose counts as repeated, not measured; 0: never",
}


class BadAddress(Misuse):
    """An address that can't be read, or an option that there is not."""


@dataclass(frozen=True)
class Address:
    """`tools`: name on the wire to body; empty: all, named by the wire. `sd_mm`, `sd_deg` None: not stated."""

    host: str
    port: int = PORT
    tools: dict[str, str] = field(default_factory=dict)
    to: str | None = None
    stream: Stream = "as it comes"
    interval_ms: int = 0
    coordinates: str = ""
    sd_mm: float | None = None
    sd_deg: float | None = None
    latency_ms: float = 0.0
    quiet_ms: float = 150.0
    repeat_ms: float = 1000.0
    version: Literal[2, 3] = 2

    def __str__(self) -> str:
        """Host and port, for messages."""
        return f"{SCHEME}{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """From `igtl://HOST[:PORT][?KEY=VALUE&…]`. Raises BadAddress, which names the keys that there are."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"{text!r}: {error}; igtl://HOST:PORT is needed") from None
    if parts.scheme != "igtl" or not host or parts.path not in ("", "/") or port == 0:
        raise BadAddress(f"{text!r} is not igtl://HOST:PORT (the usual port is {PORT})")
    tools: dict[str, str] = {}
    told: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in KEYS:
            raise BadAddress(f"no option {key!r}; there are {', '.join(KEYS)}")
        if key == "tool":
            name, _, body = value.partition(":")
            if not name or name in tools or (body or name) in tools.values():
                raise BadAddress(f"tool={value}: no name, or one that was given before")
            tools[name] = body or name
        elif key in told:
            raise BadAddress(f"{key} is given twice")
        else:
            told[key] = value
    stream = told.get("stream", "as it comes").lower()
    if stream not in get_args(Stream):
        raise BadAddress(f"stream={stream}; tdata or qtdata")
    version = told.get("version", "2")
    if version not in ("2", "3"):
        raise BadAddress(f"version={version}; 2 or 3")
    return Address(
        host,
        port or PORT,
        tools,
        told.get("to"),
        cast("Stream", stream),
        int(_number(told, "interval_ms", 0.0) or 0),
        told.get("coordinates", ""),
        _number(told, "sd_mm", None, above=0.0),
        _number(told, "sd_deg", None, above=0.0),
        _number(told, "latency_ms", 0.0) or 0.0,
        _number(told, "quiet_ms", 150.0, above=0.0) or 150.0,
        _number(told, "repeat_ms", 1000.0) or 0.0,
        3 if version == "3" else 2,
    )


def _number(told: dict[str, str], key: str, default: float | None, above: float | None = None) -> float | None:
    if key not in told:
        return default
    try:
        value = float(told[key])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0 and (above is None or value > above)):
        raise BadAddress(f"{key}={told[key]}; a number {'above' if above is not None else 'of at least'} 0 is needed")
    return value
