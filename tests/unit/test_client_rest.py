"""The HTTP client: what it sends, what it repeats, what it makes of errors."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.fake_agent import BUILD, Asked, FakeAgent, Reply, answer, fake_agent, problem

import rota.client
from rota.cli.status import exit_status
from rota.client.answer import BrokenError
from rota.client.client import Client
from rota.client.place import parse_place
from rota.client.rest import BUILD_PATIENCE_S, PATIENCE_S, written
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    InvariantError,
    NotFoundError,
    RotaError,
    UnavailableError,
)


def client(agent: FakeAgent, patience_s: float = 5.0) -> Client:
    return Client(parse_place(agent.url, "--at"), patience_s=patience_s)


def flaky(
    times: int, then: Reply, how: Callable[[], Reply | None]
) -> Callable[[Asked], Reply | None]:
    left = [times]

    def respond(_: Asked) -> Reply | None:
        left[0] -= 1
        return how() if left[0] >= 0 else then

    return respond


def test_the_package_is_light_until_something_is_asked_of_it() -> None:
    code = "import sys, rota.client; print('rota.client.rest' in sys.modules); rota.client.Client"
    heavy = (
        "{'http.client', 'ssl', 'hashlib', 'copy', 'email', 'urllib.parse'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('rota.client.rest' in sys.modules, {heavy})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True", "set()"]
    with pytest.raises(AttributeError, match=r"module 'rota\.client' has no attribute 'Cleint'"):
        rota.client.Cleint  # noqa: B018 - asking is what is tested


@given(st.text())
def test_what_stands_in_a_path_and_a_query_is_escaped_as_the_standard_library_does(
    text: str,
) -> None:
    _, target, _ = written("job", {"job": text})
    assert target == f"/v1/jobs/{quote(text, safe='/')}"
    _, target, _ = written("builds", {"job": text, "limit": 2})
    assert target == f"/v1/builds?job={quote(text, safe='')}&limit=2"


def test_all_that_the_package_offers_is_there() -> None:
    for name in rota.client.__all__:
        assert getattr(rota.client, name).__doc__


def test_fields_go_to_the_path_the_query_or_the_body() -> None:
    assert written("job", {"job": "web/test"}) == ("GET", "/v1/jobs/web/test", None)
    assert written("build", {"build": "web/test#7", "wait": 2.5}) == (
        "GET",
        "/v1/builds/web%2Ftest%237?wait=2.5",
        None,
    )
    method, target, body = written("cancel", {"build": "a#1", "why": "ä"})
    assert (method, target) == ("POST", "/v1/builds/a%231/cancel")
    assert json.loads(body or b"") == {"why": "ä"}
    assert written("artifact", {"build": "a#1", "path": "dist/a b.whl"})[1] == (
        "/v1/builds/a%231/artifacts/dist/a%20b.whl"
    )
    assert written("log", {"build": "a", "follow": True, "tail": None})[1] == (
        "/v1/builds/a/log?follow=true"
    )
    assert written("rm", {"job": "a", "message": "bye & thanks"})[1] == (
        "/v1/jobs/a?message=bye%20%26%20thanks"
    )
    with pytest.raises(KeyError):
        written("job", {"jobb": "a"})


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, InputError, 2),
        (413, InputError, 2),
        (401, DeniedError, 4),
        (403, DeniedError, 4),
        (404, NotFoundError, 5),
        (409, ConflictError, 6),
        (412, ConflictError, 6),
        (503, UnavailableError, 3),
        (500, InvariantError, 70),
    ],
)
def test_each_status_has_its_error_and_exit_status(
    tmp_path: Path, status: int, kind: type[RotaError], code: int
) -> None:
    with fake_agent(lambda _: problem(status, "so it is", hint="do this"), tmp_path / "s") as agent:
        with pytest.raises(kind, match="so it is") as caught:
            client(agent).call("status")
        assert caught.value.hint == "do this"
        assert exit_status(caught.value) == code


def test_problems_are_told_with_their_places(tmp_path: Path) -> None:
    problems = [
        {"path": "jobs/a", "line": 3, "column": 5, "message": "bad", "hint": "good?"},
        {"path": "jobs/a", "line": 0, "column": 0, "message": "worse", "hint": None},
        "a plain one",
    ]
    reply = problem(400, "a was not taken", problems=problems)
    with fake_agent(lambda _: reply, tmp_path / "s") as agent, pytest.raises(InputError) as caught:
        client(agent).call("status")
    assert caught.value.problems == ("jobs/a:3:5: bad (good?)", "jobs/a: worse", "a plain one")


def test_an_answer_that_is_no_problem_is_told_by_its_status(tmp_path: Path) -> None:
    replies = [Reply(b"<html>", 502), Reply(b"<html>")]
    with fake_agent(lambda _: replies.pop(0), tmp_path / "s") as agent:
        with pytest.raises(UnavailableError, match=r"answered 502 Bad Gateway"):
            client(agent, 0).call("status")
        with pytest.raises(InvariantError, match="no JSON; is this the right URL"):
            client(agent).call("status").json()


@pytest.mark.parametrize("chunk", [0, 3])
def test_a_read_is_repeated_when_the_connection_breaks(tmp_path: Path, chunk: int) -> None:
    whole = answer(BUILD)._replace(chunk=chunk)
    for how in (
        lambda: None,
        lambda: whole._replace(break_at=0),
        lambda: whole._replace(break_at=9),
    ):
        with fake_agent(flaky(2, whole, how), tmp_path / "s") as agent:
            assert client(agent).call("build", build="x").json() == BUILD
            assert len(agent.asked) == 3


def test_a_trigger_is_repeated_with_its_key(tmp_path: Path) -> None:
    with fake_agent(flaky(1, answer(BUILD, 201), lambda: None), tmp_path / "s") as agent:
        headers = {"Idempotency-Key": "k1"}
        client(agent).call("run", job="a", params={}, headers=headers, repeat=True)
        assert [asked.headers["idempotency-key"] for asked in agent.asked] == ["k1", "k1"]


@pytest.mark.parametrize("verb", ["leave", "drain", "label"])
def test_what_is_done_once_however_often_it_is_asked_is_asked_again(
    tmp_path: Path, verb: str
) -> None:
    busy = answer({"detail": "the voters did not confirm"}, 503, Retry_After="1")
    replies = [None, busy, answer({"name": "a"})]
    with fake_agent(lambda _: replies.pop(0), tmp_path / "s") as agent:
        assert client(agent).call(verb, agent="a").json() == {"name": "a"}
        assert len(agent.asked) == 3


def test_what_may_not_be_repeated_says_that_it_cannot_know(tmp_path: Path) -> None:
    with fake_agent(flaky(1, answer(BUILD), lambda: None), tmp_path / "s") as agent:
        with pytest.raises(BrokenError, match="broke before the answer was here") as caught:
            client(agent).call("retry", build="a")
        assert (
            caught.value.hint
            == "if the agent was restarted, see what it did: rota builds, rota jobs"
        )
        assert len(agent.asked) == 1


def test_a_busy_agent_is_asked_again_only_if_it_says_so(tmp_path: Path) -> None:
    busy = answer({"detail": "the engine moves"}, 503, Retry_After="1")
    with fake_agent(flaky(2, answer(BUILD), lambda: busy), tmp_path / "s") as agent:
        client(agent).call("build", build="a")
        assert len(agent.asked) == 3
    with fake_agent(lambda _: problem(503, "the disk is full"), tmp_path / "s") as agent:
        with pytest.raises(UnavailableError, match="the disk is full"):
            client(agent).call("build", build="a")
        assert len(agent.asked) == 1


def test_a_restarting_agent_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    gone = threading.Event()
    replies = flaky(1, answer(BUILD), lambda: None)

    def respond(asked: Asked) -> Reply | None:
        reply = replies(asked)
        if reply is None:
            gone.set()
        return reply

    first = FakeAgent(respond, path)
    first.up()
    asking = threading.Thread(target=client(first, 20).call, args=("build",), kwargs={"build": "a"})
    asking.start()
    assert gone.wait(10)
    first.down()
    with fake_agent(respond, path) as second:
        asking.join(20)
        assert len(second.asked) == 1


def test_patience_ends_with_the_last_error(tmp_path: Path) -> None:
    with fake_agent(lambda _: None, tmp_path / "s") as agent:
        with pytest.raises(BrokenError):
            client(agent, 0.2).call("status")
        assert len(agent.asked) > 1


def test_inside_a_build_requests_are_attributed_and_patient(tmp_path: Path) -> None:
    with fake_agent(lambda _: answer([]), tmp_path / "s") as agent:
        within = {"ROTA_BUILD": "0123456789abcdef", "ROTA_SOCKET": str(tmp_path / "s")}
        inside = Client.find(agent.url, env=within)
        inside.call("jobs")
        Client.find(agent.url, env={}).call("jobs")
        assert inside.patience_s == BUILD_PATIENCE_S
        alone = {"ROTA_BUILD": "0123456789abcdef", "ROTA_SOCKET": ""}
        assert Client.find(agent.url, env=alone).patience_s == PATIENCE_S, "as under rota exec"
        assert agent.asked[0].headers["rota-build"] == "0123456789abcdef"
        assert "rota-build" not in agent.asked[1].headers


def test_the_token_goes_over_tcp() -> None:
    with fake_agent(lambda _: answer([])) as agent:
        place = parse_place(agent.url, "x")._replace(token="sesame")
        Client(place).call("jobs")
        assert agent.asked[0].headers["authorization"] == "Bearer sesame"


def test_a_file_is_sent_as_a_stream_and_anew_at_each_try(tmp_path: Path) -> None:
    data = b"x" * 300_000
    opened = []

    def body() -> io.BytesIO:
        opened.append(1)
        return io.BytesIO(data)

    with fake_agent(flaky(1, answer({}, 201), lambda: None), tmp_path / "s") as agent:
        headers = {"Content-Length": str(len(data))}
        client(agent).send("PUT", "/x", body=body, headers=headers, repeat=True)
        assert [len(asked.body) for asked in agent.asked] == [len(data)] * 2
        assert len(opened) == 2


def test_who_asked_too_often_asks_again_as_late_as_he_is_told(tmp_path: Path) -> None:
    """Nothing was done, so that it may be asked again, whatever it is."""
    often = answer({"detail": "too many requests"}, 429, Retry_After="1")
    began = time.monotonic()
    with fake_agent(flaky(1, answer(BUILD), lambda: often), tmp_path / "s") as agent:
        client(agent).call("retry", build="a")
        assert len(agent.asked) == 2
    assert time.monotonic() - began >= 1.0


def test_who_connected_and_stood_still_before_he_asked_asks_again(tmp_path: Path) -> None:
    """The agent waited no longer; nothing was asked, so that it may be asked, whatever it is."""
    late = answer({"detail": "no request came in time", "code": "http.408"}, 408)
    with fake_agent(flaky(1, answer(BUILD), lambda: late), tmp_path / "s") as agent:
        client(agent).call("retry", build="a")
        assert len(agent.asked) == 2


def test_who_is_too_slow_with_a_body_is_told_and_does_not_send_it_again(tmp_path: Path) -> None:
    slow = answer({"detail": "nothing of the body came for 60 s", "code": "slow"}, 408)
    with fake_agent(lambda _: slow, tmp_path / "s") as agent:
        with pytest.raises(InputError, match="nothing of the body came"):
            client(agent).send("PUT", "/x", body=b"x", repeat=True)
        assert len(agent.asked) == 1
