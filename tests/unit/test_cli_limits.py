"""The queue, the limits and the token, as they are printed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.harness.fake_agent import BUILD, answer
from tests.unit.test_cli_commands import Rota, rota

from rota.cli.limits_view import limits_lines, queue_lines, why_lines
from rota.cli.render import Look

__all__ = ["rota"]

AT = "2026-01-02T03:04:05.000000Z"
HOLDER = {"build": "web/d#1", "agent": "a1", "take": 2, "fence": 31, "since": AT}
LIMITS: list[dict[str, Any]] = [
    {
        "kind": "limit",
        "name": "licence",
        "capacity": 3,
        "used": 2,
        "holders": [HOLDER],
        "waiting": 6,
        "line": ["a#1", "a#2", "a#3", "a#4", "a#5", "a#6"],
        "kept_for": "a#1",
    },
    {"kind": "concurrency", "name": "web/d", "key": "prod", "capacity": 1},
    {"kind": "throttle", "name": "docker", "agent": "a1", "capacity": 1, "used": 1},
    {"kind": "throttle", "name": "", "capacity": 9},
]
QUEUED = {
    "place": 1,
    "build": "web/d#2",
    "id": "x",
    "project": "web",
    "priority": 0,
    "labels": "linux && docker",
    "requested_at": AT,
    "text": "limit: licence",
}


def test_limits_are_a_table_with_holders_and_lines(rota: Rota) -> None:
    rota.routes["GET /v1/limits"] = answer(LIMITS)
    assert rota("limits").out.splitlines() == [
        "licence  2 of 3  limit  6 waiting: a#1, a#2, a#3 and 3 more; all kept for a#1",
        f"  web/d#1  2  on a1  token 31, since {AT}",
        "web/d 'prod'  0 of 1  concurrency  -",
        "docker  1 of 1  throttle on a1  -",
        "all builds  0 of 9  throttle  -",
    ]
    rota.routes["GET /v1/limits"] = answer([])
    assert rota("limits").err == (
        "there are none: set them in settings.toml, such as [limits] licence = 5\n"
    )


def test_a_terminal_of_80_columns_is_enough() -> None:
    look = Look(width=80)
    lines = [*limits_lines(LIMITS, look), *queue_lines([QUEUED] * 3, look)]
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith("1  web/d#2  ")
    assert lines[-1].endswith("linux && docker")
    assert queue_lines([], look) == []


def test_the_queue_says_how_much_more_there_is(rota: Rota) -> None:
    rota.routes["GET /v1/queue"] = answer({"queued": 7, "builds": [QUEUED]})
    said = rota("queue", "-n", "1")
    assert said.out == f"1  web/d#2  -  {AT}  limit: licence  linux && docker\n"
    assert said.err == "and 6 more: rota queue -n 7\n"
    rota.routes["GET /v1/queue"] = answer({"queued": 0, "builds": []})
    assert rota("queue").err == "nothing is queued\n"


def test_agents_that_refuse_for_the_same_are_one_line() -> None:
    refused = [{"agent": f"a{n}", "because": "gpu"} for n in range(6)]
    refused.append({"agent": "b", "because": "it is lost"})
    wanting = {"limit": LIMITS[0], "take": 1}
    assert why_lines({"refused": refused, "limits": [wanting]}, Look()) == [
        f"  web/d#1 has 2 of licence on a1 since {AT}, token 31",
        "  a0, a1, a2 and 3 more  gpu",
        "  b                      it is lost",
    ]


def test_a_token_is_printed_while_its_attempt_holds(
    rota: Rota, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROTA_BUILD", "ROTA_FENCE"):
        monkeypatch.delenv(name, raising=False)
    assert rota("fence").err == (
        "error: no build is named\n\nhint: outside of a script: rota fence BUILD\n"
    )
    running = {**BUILD, "state": "running", "fence": 31}
    rota.routes["GET /v1/builds/me"] = answer(running)
    assert rota("fence", "me").out == "31\n"
    rota.routes["GET /v1/builds/me"] = answer({**running, "state": "finished"})
    said = rota("fence", "me")
    assert said.status != 0
    assert "is finished: it holds nothing" in said.err


def test_a_script_that_was_given_up_learns_it(rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_BUILD", BUILD["id"])
    monkeypatch.setenv("ROTA_FENCE", "31")
    target = f"GET /v1/builds/{BUILD['id']}"
    rota.routes[target] = answer({**BUILD, "state": "running", "fence": 31})
    assert rota("fence").out == "31\n"
    rota.routes[target] = answer({**BUILD, "state": "running", "fence": 44})
    said = rota("fence")
    assert said.status != 0
    assert "was given up and runs again, with token 44; this is 31" in said.err
