"""``rota log --grep`` over many builds, against an agent that answers from a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.fake_agent import Asked, FakeAgent, Reply, fake_agent, problem

from rota.cli.main import main

MATCH: dict[str, Any] = {
    "build": "web/test#12",
    "id": "0123456789abcdef",
    "attempt": 1,
    "is_last": True,
    "line": 345,
    "offset": 6789,
    "text": "an error\x1b[2J",
}
FORMER = {**MATCH, "build": "b#1", "id": "b", "attempt": 2, "is_last": False, "line": 1}
END = {"done": True, "builds": 9, "bytes": 1, "matches": 2, "removed": 0, "more": False}


def ndjson(*found: dict[str, Any], is_broken: bool = False) -> Reply:
    body = b"".join(json.dumps(each).encode() + b"\n" for each in found)
    return Reply(body, chunk=50, break_at=len(body) if is_broken else None)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("ROTA_BUILD", raising=False)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(lambda _: None, tmp_path / "rota.sock") as fake:
        yield fake


def answering(agent: FakeAgent, *replies: Reply) -> list[Asked]:
    """Let the agent answer searches so, and return what it is asked."""
    asked: list[Asked] = []
    left = list(replies)

    def respond(request: Asked) -> Reply:
        if request.path != "/v1/logs":
            return problem(404, f"no {request.path}")
        asked.append(request)
        return left.pop(0)

    agent.respond = respond
    return asked


def log(agent: FakeAgent, *words: str) -> int:
    return main(["--at", agent.url, "log", *words])


def test_matches_are_printed_as_grep_prints_them(
    agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = answering(agent, ndjson(MATCH, FORMER, END))
    assert log(agent, "--grep", "err.r") == 0
    out, err = capfd.readouterr()
    assert out == "web/test#12:345:an error\x1b[2J\nb#1 (attempt 2):1:an error\x1b[2J\n"
    assert err == ""
    assert asked[0].query == {"pattern": "err.r"}


def test_builds_are_chosen_by_glob_and_options(agent: FakeAgent) -> None:
    asked = answering(agent, ndjson(MATCH, END))
    words = ("web/*", "--grep", "x", "-n", "9", "--max", "5", "--result", "failed")
    assert log(agent, *words, "--after", "2h", "--before", "1h") == 0
    assert asked[0].query == {
        "pattern": "x",
        "job": "web/*",
        "builds": "9",
        "max": "5",
        "result": "failed",
        "after": "2h",
        "before": "1h",
    }


def test_nothing_found_is_status_1(agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
    answering(agent, ndjson({**END, "matches": 0, "removed": 3}))
    assert log(agent, "--grep", "x") == 1
    assert capfd.readouterr() == ("", "note: 3 logs are no longer kept\n")


def test_it_says_that_it_ended_at_its_limit(
    agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    answering(agent, ndjson(MATCH, {**END, "matches": 1, "more": True}))
    assert log(agent, "--grep", "x", "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == MATCH
    assert err == "note: it ended at 1 matches; more: --max N\n"


def test_on_a_terminal_nothing_drives_it_and_the_match_is_in_colour(
    agent: FakeAgent, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.cli.render.Look.is_terminal", True)
    for pattern, text in (("error", "an \x1b[31merror\x1b[0m"), ("err.r", "an error")):
        answering(agent, ndjson(MATCH, END))
        assert main(["--at", agent.url, "--color", "always", "log", "--grep", pattern]) == 0
        line = f"\x1b[36mweb/test#12\x1b[0m:\x1b[32m345\x1b[0m:{text}\n"
        assert capfd.readouterr().out == line


@pytest.mark.parametrize(
    ("words", "fault", "hint"),
    [
        ((), "which build's log?", "rota log BUILD, or rota log --grep PATTERN ['JOBS*']"),
        (("a*",), "the logs of many builds need --grep", "rota log BUILD"),
        (("--grep", "x", "-f"), "--follow is about the log of one build", "such as 'web/test#7'"),
        (("--grep", "x", "--tail", "5"), "--tail is about the log of one build", "name it"),
    ],
)
def test_what_is_wrong_is_said(
    agent: FakeAgent,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    fault: str,
    hint: str,
) -> None:
    assert log(agent, *words) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"error: {fault}\n")
    assert hint in err


def test_a_search_that_broke_off_goes_on_without_a_repeat(
    agent: FakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = answering(agent, ndjson(MATCH, is_broken=True), ndjson(MATCH, FORMER, END))
    assert log(agent, "--grep", "x") == 0
    assert len(asked) == 2
    assert [line[:11] for line in capfd.readouterr().out.splitlines()] == [
        "web/test#12",
        "b#1 (attemp",
    ]
