"""One question to a language model behind any OpenAI-compatible endpoint that the user names; off unless named.

A request is one POST to `/v1/chat/completions`. Redirects are not followed, and an answer that is late or large is cut
off. The key comes from the environment and goes over https only (or to this machine).
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import time
from typing import Any
from urllib import error, request
from urllib.parse import urlsplit, urlunsplit

from spatial.faults import Fault, Misuse

KEY = "OSTEOTWIN_ENDPOINT_KEY"
PATIENCE_S = 60.0
MOST_BYTES = 256 * 1024
CHUNK = 16 * 1024
PATH = "/chat/completions"


class NoEndpoint(Misuse):
    """An address that is no endpoint, or one that a key may not be sent to."""


class EndpointFailed(Fault):
    """The endpoint did not answer, answered late, too much, or something else than a completion."""


class _Stay(request.HTTPRedirectHandler):
    """Redirects are refused: the sentence goes where the user said, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def address_of(endpoint: str) -> str:
    """The full address for a base (`http://127.0.0.1:8080`, `…/v1`) or a full one. Raises NoEndpoint."""
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as fault:
        raise NoEndpoint(f"{endpoint!r} is no address: {fault}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise NoEndpoint(f"{endpoint!r}: write http(s)://HOST[:PORT][/v1], without a user's name or a query")
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path = (path if path.endswith("/v1") else f"{path}/v1") + PATH
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def ask(
    endpoint: str, messages: list[dict[str, str]], model: str | None = None, *, patience_s: float = PATIENCE_S
) -> str:
    """The words of the model's answer. Raises NoEndpoint, EndpointFailed."""
    address = address_of(endpoint)
    body: dict[str, Any] = {"messages": messages, "temperature": 0, "response_format": {"type": "json_object"}}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if model is not None:
        body["model"] = model
    key = os.environ.get(KEY)
    if key:
        if not (address.startswith("https:") or _is_here(address)):
            raise NoEndpoint(f"{KEY} is set, and {endpoint} is not https: the key would travel in the clear")
        headers["Authorization"] = f"Bearer {key}"
    question = request.Request(address, json.dumps(body).encode(), headers, method="POST")
    handlers: list[Any] = [_Stay()]
    if _is_here(address):
        handlers.append(request.ProxyHandler({}))
    try:
        with request.build_opener(*handlers).open(question, timeout=patience_s) as reply:
            data = _read(reply, time.monotonic() + patience_s, patience_s)
    except error.HTTPError as fault:
        fault.close()
        raise EndpointFailed(f"the endpoint answered {fault.code} {fault.reason}; {_hint(fault.code)}") from None
    except TimeoutError:
        raise EndpointFailed(f"the endpoint did not answer within {patience_s:g} s") from None
    except (error.URLError, OSError, http.client.HTTPException, ValueError) as fault:
        if isinstance(getattr(fault, "reason", None), TimeoutError):
            raise EndpointFailed(f"the endpoint did not answer within {patience_s:g} s") from None
        raise EndpointFailed(f"the endpoint could not be asked ({type(fault).__name__}: {fault})") from None
    return _words(data)


def _read(reply: Any, until: float, patience_s: float) -> bytes:
    data = b""
    while chunk := reply.read1(CHUNK):
        data += chunk
        if len(data) > MOST_BYTES:
            raise EndpointFailed(f"the answer is larger than {MOST_BYTES} bytes, so it was cut off")
        if time.monotonic() > until:
            raise EndpointFailed(f"the answer was not complete within {patience_s:g} s")
    return data


def _words(data: bytes) -> str:
    try:
        choice = json.loads(data)["choices"][0]
        words = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise EndpointFailed("the endpoint's answer is no chat completion (choices[0].message.content)") from None
    if choice.get("finish_reason") == "length":
        raise EndpointFailed("the model's answer was cut off at its own limit")
    if not isinstance(words, str) or not words.strip():
        raise EndpointFailed("the model answered nothing")
    return words


def _hint(code: int) -> str:
    if code in (401, 403):
        return f"is {KEY} set and right?"
    if 300 <= code < 400:
        return "redirects are not followed: give the final address"
    return "is the address right, and does it need --model?"


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
