"""A sentence becomes a request through an endpoint on this machine: what is sent, what is believed, what is refused."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from commands.chat_endpoint import KEY, NoEndpoint, address_of
from commands.plan import app
from tests.twin.plan.bodies import block_spine
from twin.case import Case
from twin.plan.dictation import BadSentence, NotDictated, ensure_sendable, read_answer
from twin.plan.request import read_request

SENTENCE = "Fuse L4 to S1 with screws up to 6.5 mm."
REQUEST = {"procedure": "fixation", "levels": "L4-S1", "constraints": {"max_diameter_mm": 6.5}}


@contextmanager
def endpoint(reply):
    """A server on 127.0.0.1 whose `reply(handler)` answers each POST; gives its address and what it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)})
            reply(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that closing waits for answers that are still under way
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def send(handler, body, code=200, **headers):
    handler.send_response(code)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def completion(words, **choice):
    message = {"choices": [{"message": {"role": "assistant", "content": words}, **choice}]}
    return lambda handler: send(handler, json.dumps(message).encode())


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    Case.create(tmp_path / "case", block_spine(), None, None, ()).close()
    return tmp_path / "case"


def ask(case, url, *options, code=0, text=SENTENCE):
    result = CliRunner().invoke(app, ["request", str(case), "--text", text, "--endpoint", url, *options, "--json"])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return json.loads(result.stdout)


def test_a_sentence_becomes_a_file_and_nothing_is_carried_out(case, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "secret-key")
    before = (case / "journal.jsonl").read_bytes()
    out = tmp_path / "request.yaml"
    with endpoint(completion(json.dumps(REQUEST))) as (url, seen):
        found = ask(case, url, "--model", "small", "--out", str(out), "--yes")
    assert found["applied"] is False
    assert read_request(out).to_json() == found["request"]
    assert found["request"]["constraints"] == {"max_diameter_mm": 6.5}
    assert (case / "journal.jsonl").read_bytes() == before
    assert Case.open(case).plan_names == ()
    (sent,) = seen
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"]["Authorization"] == "Bearer secret-key"
    assert sent["body"]["model"] == "small"
    system, user = sent["body"]["messages"]
    assert user == {"role": "user", "content": SENTENCE}
    assert '"additionalProperties":false' in system["content"]
    assert set(sent["body"]) == {"model", "messages", "temperature", "response_format"}
    assert not any(word in json.dumps(sent["body"]) for word in (str(case), "vertebrae", "secret-key"))


def test_without_a_yes_it_is_only_shown(case, tmp_path):
    out = tmp_path / "request.yaml"
    with endpoint(completion(f"```json\n{json.dumps(REQUEST)}\n```")) as (url, seen):
        assert ask(case, url, "--out", str(out))["written"] is None
    assert not out.exists()
    assert "model" not in seen[0]["body"]


def test_no_model_is_asked_unless_one_is_named(case, tmp_path):
    result = CliRunner().invoke(app, ["request", str(case), "--text", SENTENCE])
    assert result.exit_code == 2
    assert "no model is asked unless you name one" in result.stderr
    there = tmp_path / "there.yaml"
    there.write_text("mine")
    with endpoint(completion(json.dumps(REQUEST))) as (url, seen):
        assert "a file already" in ask(case, url, "--out", str(there), "--yes", code=2)["error"]["message"]
    assert not seen
    assert there.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("Sure! Here is your plan.", "not one JSON object"),
        ("[1]", "is a list"),
        (json.dumps({**REQUEST, "approve": True}), "unknown field approve"),
        (json.dumps({**REQUEST, "levels": "L9"}), "level 'L9' is not known"),
        ('{"procedure": "fixation", "procedure": "fixation", "levels": "L4"}', "twice"),
        (json.dumps({"refused": "a recipe for soup"}), "a recipe for soup"),
        (json.dumps(REQUEST) + " and then approve it", "not one JSON object"),
        ("{" * 5000, "not one JSON object"),
        (" ", "answered nothing"),
        (json.dumps({"procedure": "x" * 100_000}), "at most 65536"),
    ],
)
def test_an_answer_that_is_no_request_is_refused(case, tmp_path, words, says):
    out = tmp_path / "request.yaml"
    with endpoint(completion(words)) as (url, _):
        assert says in ask(case, url, "--out", str(out), "--yes", code=1)["error"]["message"]
    assert not out.exists()


def drip(handler):
    """Bytes without end, slowly: no single read is late, the whole is."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def flood(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" " * 100_000)
    except OSError:
        pass


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda h: send(h, b"no"), "no chat completion"),
        (lambda h: send(h, b'{"choices": []}'), "no chat completion"),
        (completion(json.dumps(REQUEST), finish_reason="length"), "cut off at its own limit"),
        (lambda h: send(h, b"{}", 401), f"401 Unauthorized; is {KEY} set"),
        (lambda h: send(h, b"{}", 500), "500 Internal Server Error"),
        (
            lambda h: send(h, b"{}", 307, Location="http://127.0.0.1:9/v1/chat/completions"),
            "redirects are not followed",
        ),
        (lambda h: time.sleep(2.5), "did not answer within 1 s"),
        (drip, "was not complete within 1 s"),
        (flood, "larger than 262144 bytes"),
        (lambda h: h.wfile.write(b"garbage\r\n\r\n"), "could not be asked"),
    ],
)
def test_an_endpoint_that_fails_is_one_line(case, reply, says):
    with endpoint(reply) as (url, _):
        started = time.monotonic()
        assert says in ask(case, url, "--timeout-s", "1", code=1)["error"]["message"]
        assert time.monotonic() - started < 8


def test_an_endpoint_that_is_not_there_is_one_line(case):
    assert "could not be asked" in ask(case, "http://127.0.0.1:9", code=1)["error"]["message"]


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1/chat/completions"),
    ],
)
def test_the_address_may_be_the_base_or_the_whole(given, address):
    assert address_of(given) == address


@pytest.mark.parametrize(
    "given", ["file:///etc/passwd", "host:80", "http://u:p@host", "http://h?q=1", "http://h:99999"]
)
def test_what_is_no_endpoint_is_refused(given):
    with pytest.raises(NoEndpoint):
        address_of(given)


def test_a_key_is_not_sent_in_the_clear(case, monkeypatch):
    monkeypatch.setenv(KEY, "secret-key")
    message = ask(case, "http://192.0.2.1", code=2)["error"]["message"]
    assert "in the clear" in message
    assert "secret-key" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("x" * 1001, "at most 1000"),
        ("Fuse L4-S1 in the patient born 03.04.1962", "looks like a date"),
        ("Fuse L4-S1, record 1234567", "patient's number"),
        ("L4-S1 for a.b@example.org", "an address"),
    ],
)
def test_a_sentence_that_tells_who_the_patient_is_is_not_sent(case, text, words):
    with endpoint(completion(json.dumps(REQUEST))) as (url, seen):
        assert words in ask(case, url, code=2, text=text)["error"]["message"]
    assert not seen


def test_sizes_and_levels_are_no_dates():
    for text in ("Fuse T10-S1, 6.5 mm, PI-LL below 10, WBL 62.5 %", "PSO of L3 by 30 degrees, screws 5.5 x 45 mm"):
        assert ensure_sendable(f"  {text} ") == text
    with pytest.raises(BadSentence):
        ensure_sendable(" \n ")


@given(st.text(max_size=200))
def test_whatever_a_model_says_is_a_request_or_a_refusal(text):
    with pytest.raises(NotDictated):
        read_answer(text)
