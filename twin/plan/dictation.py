"""From a sentence to a request: what a language model is asked, and what of its answer is believed.

It is told the form alone, and the sentence. Its answer is data to be checked, never an instruction: one JSON object
that is a request, or nothing. No patient's name, number or date belongs in the sentence, so one that looks like it is
not sent.
"""

from __future__ import annotations

import json
import re
from typing import Any

from spatial.faults import Fault, Misuse
from twin.plan.request import MOST_BYTES, BadRequest, Request, json_schema, request_from

MOST_LETTERS = 1000
SYSTEM = (
    "You fill in a form for planning an orthopaedic or spine operation. The user gives one sentence. Answer with one "
    "JSON object that keeps to this JSON schema, and nothing else: no words around it, no field that the schema does "
    "not name, no value that the sentence does not give. Leave out what the sentence does not say. If the sentence "
    'does not describe such an operation, answer {"refused": "why"}. The schema:\n'
)
_NUMBER_OF_A_PERSON = re.compile(r"\d{5,}|\d{1,4}\s*[-./]\s*\d{1,2}\s*[-./]\s*\d{2,4}|[\w.+-]+@[\w-]+\.\w+")


class NotDictated(Fault):
    """The model's answer is no request: other words, another form, too much of it."""


class BadSentence(Misuse):
    """A sentence that is not sent: empty, too long, or with something that may tell who the patient is."""


def ensure_sendable(sentence: str) -> str:
    """The sentence without blanks around it; raises BadSentence."""
    text = " ".join(sentence.split())
    if not text:
        raise BadSentence("the sentence is empty")
    if len(text) > MOST_LETTERS:
        raise BadSentence(f"the sentence has {len(text)} letters, at most {MOST_LETTERS} are sent")
    found = _NUMBER_OF_A_PERSON.search(text)
    if found:
        raise BadSentence(
            f"{found[0]!r} looks like a date, an address or a patient's number; leave out what tells who the patient is"
        )
    return text


def messages(sentence: str) -> list[dict[str, str]]:
    """What is sent: the form and the sentence, nothing of any case. Raises BadSentence."""
    form = json.dumps(json_schema(), separators=(",", ":"))
    return [{"role": "system", "content": SYSTEM + form}, {"role": "user", "content": ensure_sendable(sentence)}]


def read_answer(text: str) -> Request:
    """The request in a model's answer, checked as any other. Raises NotDictated."""
    if len(text.encode()) > MOST_BYTES:
        raise NotDictated(f"the answer has {len(text.encode())} bytes, at most {MOST_BYTES} are read")
    value = _object(text)
    if set(value) == {"refused"}:
        raise NotDictated(f"the model takes the sentence for no request: {str(value['refused'])[:200]!r}")
    try:
        return request_from(value)
    except BadRequest as fault:
        raise NotDictated(f"the answer is no request: {fault.message}") from None


def _object(text: str) -> dict[str, Any]:
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", text, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotDictated(f"the answer is not one JSON object ({error})") from None
    if not isinstance(value, dict):
        raise NotDictated(f"the answer is a {type(value).__name__}, one JSON object is needed")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there twice")
    return found
