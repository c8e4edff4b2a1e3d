"""A tampered journal is found at the line; who decided what is told in words; approvals keep the rules."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import osteotwin
from tests.twin.plan.bodies import block_spine
from tests.twin.plan.test_approval import ANN, AUTO, BOB, answer, decide_both, screw
from twin.audit import audit
from twin.case import Case
from twin.case_journal import HEAD, JOURNAL
from twin.chain import read_chain
from twin.journal import Entry, Journal, canonical_json
from twin.plan.edits import APPROVED

COUNT = 7


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / JOURNAL
    with Journal(path) as journal:
        for n in range(COUNT):
            journal.append("ann", "place_screw", {"length_mm": 40.0 + n}, t_ns=n, entry_id=f"e{n}")
    return path.read_bytes().splitlines(keepends=True)


def found(tmp_path_factory, lines, head):
    path = tmp_path_factory.mktemp("tampered") / JOURNAL
    path.write_bytes(b"".join(lines))
    return read_chain(path, head)


def rewritten(line, **changes):
    return canonical_json(json.loads(line) | changes) + b"\n"


def head_of(lines):
    return len(lines) - 1, Entry(**json.loads(lines[-1])).sha256


def test_a_whole_journal_is_sound(tmp_path_factory, lines):
    chain = found(tmp_path_factory, lines, head_of(lines))
    assert (len(chain.entries), chain.broken, chain.torn_bytes) == (COUNT, None, 0)
    torn = found(tmp_path_factory, [*lines, b'{"seq": 7'], head_of(lines))
    assert (torn.broken, torn.torn_bytes) == (None, 9)


@given(
    st.integers(0, COUNT - 1),
    st.sampled_from(["payload", "author", "seq", "prev_sha256", "id", "t_ns", "broken", "spaced"]),
)
def test_an_edited_line_is_named(tmp_path_factory, lines, n, what):
    changes = {
        "payload": {"length_mm": 99.0},
        "author": "bob",
        "seq": n + 3,
        "prev_sha256": "f" * 64,
        "id": "other",
        "t_ns": 77,
    }
    if what == "broken":
        other = lines[n].replace(b"}", b"", 1)
    elif what == "spaced":  # the same values in another form
        other = json.dumps(json.loads(lines[n])).encode() + b"\n"
    else:
        other = rewritten(lines[n], **{what: changes[what]})
    chain = found(tmp_path_factory, [*lines[:n], other, *lines[n + 1 :]], head_of(lines))
    assert chain.broken is not None
    assert chain.broken.line == n + 1
    assert chain.broken.how in ("edited", "unreadable")
    assert len(chain.entries) == n


@given(st.integers(0, COUNT - 2), st.integers(1, 3))
def test_lost_lines_are_named_where_the_gap_is(tmp_path_factory, lines, n, many):
    many = min(many, COUNT - 1 - n)
    chain = found(tmp_path_factory, [*lines[:n], *lines[n + many :]], head_of(lines))
    assert (chain.broken.how, chain.broken.line) == ("lost", n + 1)
    assert f"line {n + many + 1}" in chain.broken.words


@given(st.integers(0, COUNT - 1))
def test_a_journal_that_was_cut_off_is_named_by_the_first_line_that_is_gone(tmp_path_factory, lines, n):
    chain = found(tmp_path_factory, lines[:n], head_of(lines))
    assert (chain.broken.how, chain.broken.line) == ("truncated", n + 1)
    assert found(tmp_path_factory, lines[:n], None).broken is None  # without the note nobody can tell


@given(st.integers(0, COUNT - 1), st.sampled_from(["fits", "foreign", "rubbish", "after"]))
def test_an_inserted_line_is_named(tmp_path_factory, lines, n, what):
    sham = {
        "fits": rewritten(lines[n], payload={"length_mm": 1.0}),  # number and reference of the line it pushes down
        "foreign": rewritten(lines[n], seq=99, prev_sha256="0" * 63 + "1"),
        "rubbish": b"not an entry\n",
        "after": rewritten(lines[n], prev_sha256="a" * 64, payload={}),
    }[what]
    chain = found(tmp_path_factory, [*lines[:n], sham, *lines[n:]], head_of(lines))
    assert (chain.broken.how, chain.broken.line) == ("inserted", n + 1)


@given(st.integers(0, COUNT - 1), st.integers(0, COUNT))
def test_a_copied_line_is_named(tmp_path_factory, lines, source, place):
    chain = found(tmp_path_factory, [*lines[:place], lines[source], *lines[place:]], head_of(lines))
    # a line copied beside itself is twice there: the second one is the copy
    assert (chain.broken.how, chain.broken.line) == (
        "copied",
        source + 2 if place in (source, source + 1) else place + 1,
    )


@given(st.integers(0, COUNT - 2), st.integers(1, COUNT - 1))
def test_lines_that_changed_places_are_named_at_the_first_of_them(tmp_path_factory, lines, n, by):
    other = min(n + by, COUNT - 1)
    moved = list(lines)
    moved[n], moved[other] = moved[other], moved[n]
    chain = found(tmp_path_factory, moved, head_of(lines))
    assert (chain.broken.how, chain.broken.line) == ("moved", n + 1)


def test_a_chain_that_was_written_anew_shows_only_against_a_hash_kept_elsewhere(tmp_path_factory, tmp_path):
    with Case.create(tmp_path / "case", block_spine(), None, None, ()) as made:
        made.confirm_levels("Ann Lee")
        kept = made.journal.head_sha256
    path = tmp_path / "case" / JOURNAL
    assert audit(tmp_path / "case", [kept]).is_sound
    first, second = path.read_bytes().splitlines(keepends=True)
    second = rewritten(second, author="Eve")
    path.write_bytes(first + second)
    entry = Entry(**json.loads(second))
    (tmp_path / "case" / HEAD).write_bytes(canonical_json({"seq": 1, "sha256": entry.sha256}))
    assert audit(tmp_path / "case").is_sound
    against = audit(tmp_path / "case", [kept])
    assert not against.is_sound
    assert "kept elsewhere" in against.problems[0]


@pytest.fixture
def case(tmp_path):
    from commands.plan_desk import append

    with Case.create(tmp_path / "case", block_spine(), None, None, ()) as made:
        made.confirm_levels("Ann Lee")
        append(made, "plan", "Eve", [screw("L3-left"), screw("L3-right")], {"L3-left": AUTO, "L3-right": AUTO})
    return tmp_path / "case"


def verify(case, *options, code=0):
    result = CliRunner().invoke(osteotwin.app, ["audit", "verify", str(case), *options])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_who_decided_what_is_told_plan_by_plan_in_order(case):
    decide_both(case)
    answer(case, "review", *BOB, "--comment", "walls look right")
    answer(case, "approve", *ANN, "--confirm", "L3 both")
    report = json.loads(verify(case, "--json").stdout)
    assert report["sound"]
    (plan,) = report["plans"]
    assert (plan["plan"], plan["status"]["state"]) == ("plan", "approved")
    assert [(e["by"], e["words"]) for e in plan["events"]] == [
        ("Eve", "placed screw L3-left, proposed by plan auto"),
        ("Eve", "placed screw L3-right, proposed by plan auto"),
        ("Ann Lee", "accepted the proposal of screw L3-left"),
        ("Ann Lee", "accepted the proposal of screw L3-right"),
        ("Bob Ray", "reviewed the plan"),
        ("Ann Lee", "approved the plan for L3 left, L3 right"),
    ]
    assert plan["events"][4]["reason"] == "walls look right"
    assert plan["events"][2]["reason"] == "checked in 3 planes"
    assert [e["words"] for e in report["case"]] == [
        "case built",
        "confirmed the levels vertebrae_L2, vertebrae_L3, vertebrae_L4",
    ]
    words = verify(case).stdout
    assert 'Bob Ray (engineer) reviewed the plan: "walls look right"' in words
    assert report["head_sha256"] in words
    verify(case, "--expect", report["head_sha256"])


def test_a_tampered_case_is_one_line_and_an_error_with_the_line(case):
    path = case / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"Eve", b"Bob"), *lines[3:]]))
    result = verify(case, "--json", code=1)
    report = json.loads(result.stdout)
    assert (report["sound"], report["broken"]["line"], report["broken"]["how"]) == (False, 3, "edited")
    assert "line 3 was edited" in report["error"]["message"]
    assert report["entries"] == 2
    assert len([line for line in result.stderr.splitlines() if line]) == 1
    assert "not believed" in verify(case, code=1).stdout


def test_a_plan_file_that_was_changed_is_found(case):
    path = case / "plans" / "plan.json"
    path.write_bytes(path.read_bytes().replace(b"6.0", b"7.0"))
    assert "has changed since it was saved" in json.loads(verify(case, "--json", code=1).stdout)["error"]["message"]


def test_an_approval_that_another_program_wrote_past_the_rules_is_found(case):
    with Case.open(case) as opened:
        said = {"plan": "plan", "role": "engineer", "twin_id": opened.twin.twin_id, "confirmed": ["L3 left"]}
        opened.journal.append("Eve", APPROVED, {**said, "overrides": [{"key": "x", "reason": " "}]})
    problems = audit(case).problems
    assert len(problems) == 6
    for part in (
        "Eve edited this plan",
        "engineer can't approve",
        "reviewed",
        "places",
        "L3-left, L3-right",
        "no reason",
    ):
        assert any(part in line for line in problems)
    assert all(line.startswith("line 6: plan was approved against the rules") for line in problems)


def test_no_case_is_said(tmp_path):
    assert "NoCase" in verify(tmp_path, "--json", code=2).stdout
