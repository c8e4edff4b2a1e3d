"""How two sides are compared, and what the command says; quick, nothing real is timed."""

import importlib
import json
import time
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import commands.bench as bench
from tests.bench.measure import Job, Judgement, Side, measured


def sleeping(ms: float) -> Side:
    return Side("sleeper", lambda: time.sleep(ms / 1e3))


def job(agrees: bool = True, peer: Side | None = None, reason: str | None = None) -> Job:
    return Job("plan", "rest", sleeping(25.0), peer, lambda a, b: Judgement(agrees, "both rested"), 3, reason)


def test_the_ratio_is_peer_over_ours() -> None:
    found = measured(job(peer=sleeping(75.0)))
    assert found.ratio is not None
    assert found.ratio_range is not None
    assert 1.5 < found.ratio < 6.0
    assert found.ratio_range[0] <= found.ratio <= found.ratio_range[1]


def test_different_results_have_no_ratio() -> None:
    found = measured(job(agrees=False, peer=sleeping(25.0)))
    assert found.ratio is None
    assert found.ratio_range is None
    assert found.peer_ms is not None


def run(monkeypatch: pytest.MonkeyPatch, jobs: list[Job], *arguments: str) -> Any:
    monkeypatch.setattr(bench, "room_jobs", lambda room: iter(jobs))
    monkeypatch.setattr(bench, "machine", lambda: {"cpu_count": 2, "gl": None, "python": "3"})
    return CliRunner().invoke(bench.app, list(arguments))


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, [job(reason="none rests"), job(peer=sleeping(25.0))], "plan", "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["machine"]["cpu_count"] == 2
    alone, pair = report["results"]
    assert (alone["peer"], alone["ratio"], alone["no_peer"]) == (None, None, "none rests")
    assert pair["peer"]["who"] == "sleeper"
    assert pair["agreement"] == {"agrees": True, "words": "both rested"}


def test_what_numpy_made_of_a_judgement_is_plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"sd": np.float32(0.5), "none": float("nan")}
    odd = Job("plan", "rest", sleeping(25.0), None, lambda a, b: Judgement(np.bool_(True), "", figures), 1, "none")
    (result,) = json.loads(run(monkeypatch, [odd], "plan", "--json").stdout)["results"]
    assert result["agreement"]["agrees"] is True
    assert result["figures"] == {"sd": 0.5, "none": None}


def test_what_was_found_is_there_when_a_job_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Job("plan", "broken", Side("us", lambda: 1 / 0), None, lambda a, b: Judgement(True, ""), 1, "none")
    done = run(monkeypatch, [job(reason="none rests"), broken], "plan")
    assert done.exit_code != 0
    assert "plan: rest" in done.stdout


def test_a_disagreement_is_said_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, [job(agrees=False, peer=sleeping(25.0))], "plan")
    assert done.exit_code == 1
    assert "DISAGREE" in done.stdout
    assert "rest" in done.stderr


@pytest.mark.parametrize("room", ["walkthrough", "mechanics", "dance"])
def test_a_room_without_bench_names_those_there_are(room: str) -> None:
    done = CliRunner().invoke(bench.app, [room, "--json"])
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "Misuse"
    assert all(name in error["message"] for name in (room, *bench.ROOMS))


def test_without_the_checkout_the_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    done = CliRunner().invoke(bench.app, ["plan"])
    assert done.exit_code == 2
    assert "MissingPackage" in done.stderr


def test_every_room_has_a_module_of_jobs() -> None:
    for room in bench.ROOMS:
        assert callable(importlib.import_module(f"tests.bench.{room}").jobs)
