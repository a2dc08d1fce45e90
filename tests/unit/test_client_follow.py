"""Following logs and events while connections break everywhere: no gap, no repeat."""

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.fake_agent import BUILD, Asked, FakeAgent, Reply, answer, fake_agent, problem

from rota.client.client import Client
from rota.client.follow import (
    MAX_GREP_LINE,
    Piece,
    Start,
    follow_events,
    follow_log,
    matching,
    read_log,
    sse,
)
from rota.client.place import parse_place
from rota.errors import UnavailableError

LOG = b"".join(b"line %d \xc3\xa4\n" % number for number in range(400))


class Building:
    """A build whose log grows with each request, and whose agent breaks off all the time."""

    def __init__(self, logs: list[bytes], *, breaks: int, seed: int = 7, held: int = 0) -> None:
        self.logs = logs
        self.breaks = breaks
        self.held = held  # how often it is looked at before it begins
        self.random = random.Random(seed)
        self.attempt = 0 if held else 1
        self.state = "queued" if held else "running"

    def respond(self, asked: Asked) -> Reply | None:
        if not asked.path.endswith("/log"):
            return self._look()
        attempt = int(asked.query.get("attempt", 0)) or self.attempt
        if attempt > self.attempt:
            return problem(404, f"no attempt {attempt}")
        return self._log(self.logs[attempt - 1], attempt, asked)

    def _look(self) -> Reply | None:
        if self.held:
            self.held -= 1
            if not self.held:
                self.attempt, self.state = 1, "running"
        elif self._breaks():
            return None
        former = [
            {"attempt": number, "log_bytes": len(self.logs[number - 1])}
            for number in range(1, self.attempt)
        ]
        size = len(self.logs[self.attempt - 1]) if self.attempt else 0
        ours = {"state": self.state, "attempt": self.attempt, "log_bytes": size, "former": former}
        return answer({**BUILD, **ours})

    def _log(self, log: bytes, attempt: int, asked: Asked) -> Reply | None:
        start = int(asked.query.get("offset", 0))
        if "tail" in asked.query:
            start = len(b"".join(log.splitlines(keepends=True)[: -int(asked.query["tail"])]))
        headers = (("Rota-Log-Offset", str(start)),)
        chunk = self.random.randint(1, 700)
        if self._breaks():
            kind = self.random.randint(0, 3)
            if kind == 0:
                return None
            if kind == 1:
                return problem(503, "starting")._replace(headers=(("Retry-After", "1"),))
            upto = self.random.randint(0, len(log) - start)
            if kind == 2:
                # An agent that stops ends its answers in good order.
                return Reply(log[start : start + upto], headers=headers, chunk=chunk)
            return Reply(log[start:], headers=headers, chunk=chunk, break_at=upto)
        if attempt < len(self.logs):
            self.attempt = attempt + 1
        elif attempt == self.attempt:
            self.state = "finished"
        return Reply(log[start:], headers=headers, chunk=chunk)

    def _breaks(self) -> bool:
        if self.breaks and self.random.random() < 0.7:
            self.breaks -= 1
            return True
        return False


def client(agent: FakeAgent) -> Client:
    return Client(parse_place(agent.url, "--at"), patience_s=10)


def followed(agent: FakeAgent, start: Start, build: dict[str, Any], skip: int = 0) -> list[Piece]:
    return list(follow_log(client(agent), build, start, skip=skip, patience_s=10))


def joined(pieces: list[Piece], attempt: int) -> bytes:
    return b"".join(piece.data for piece in pieces if piece.attempt == attempt)


@pytest.mark.parametrize("seed", range(5))
def test_a_followed_log_is_whole_whatever_breaks(tmp_path: Path, seed: int) -> None:
    building = Building([LOG], breaks=6, seed=seed)
    with fake_agent(building.respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(), {**BUILD, "state": "running"})
    assert joined(pieces, 1) == LOG


def test_a_tail_begins_once_and_goes_on_by_offset(tmp_path: Path) -> None:
    building = Building([LOG], breaks=0)

    def respond(asked: Asked) -> Reply | None:
        reply = building.respond(asked)
        if reply is not None and "tail" in asked.query:
            reply = reply._replace(break_at=33)
            building.state = "running"
        return reply

    with fake_agent(respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(tail=20), {**BUILD, "state": "running"})
        queries = [asked.query for asked in agent.asked if asked.path.endswith("/log")]
    wanted = b"".join(LOG.splitlines(keepends=True)[-20:])
    assert joined(pieces, 1) == wanted
    assert [query.get("tail") for query in queries] == ["20", None]
    assert queries[1]["offset"] == str(len(LOG) - len(wanted) + 33)


def test_a_build_tried_again_is_followed_into_its_next_attempts(tmp_path: Path) -> None:
    logs = [LOG, b"", b"third\n"]
    building = Building(logs, breaks=4, seed=5)
    with fake_agent(building.respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(), {**BUILD, "state": "running"})
    assert [joined(pieces, number) for number in (1, 2, 3)] == logs


def test_an_attempt_that_was_asked_for_is_the_only_one(tmp_path: Path) -> None:
    building = Building([b"first\n", b"second\n"], breaks=0)
    with fake_agent(building.respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(attempt=1), BUILD)
    assert pieces == [Piece(1, b"first\n")]


def test_a_queued_build_is_waited_for(tmp_path: Path) -> None:
    building = Building([b"begun\n"], breaks=0, held=3)
    with fake_agent(building.respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(), {**BUILD, "state": "queued", "attempt": 0})
    assert joined(pieces, 1) == b"begun\n"


def test_attempts_that_are_known_are_skipped(tmp_path: Path) -> None:
    building = Building([b"old\n", b"new\n"], breaks=0)
    building.attempt = 2
    with fake_agent(building.respond, tmp_path / "s") as agent:
        pieces = followed(agent, Start(), {**BUILD, "state": "queued"}, skip=1)
    assert pieces == [Piece(2, b"new\n")]


def test_a_build_cancelled_in_the_queue_has_no_log(tmp_path: Path) -> None:
    over = {**BUILD, "attempt": 0, "result": "cancelled"}
    with fake_agent(lambda _: answer(over), tmp_path / "s") as agent:
        assert followed(agent, Start(), {**over, "state": "queued"}) == []


def test_a_follower_gives_up_when_the_agent_stays_away(tmp_path: Path) -> None:
    with fake_agent(lambda _: None, tmp_path / "s") as agent, pytest.raises(UnavailableError):
        list(follow_log(client(agent), BUILD, Start(), patience_s=0.2))


@pytest.mark.parametrize(
    ("grep", "limit", "expected"),
    [(None, None, LOG), (None, 1000, LOG[:1000]), ("1", None, b"1"), (None, 0, LOG)],
)
def test_a_read_log_is_whole_although_it_breaks(
    tmp_path: Path, grep: str | None, limit: int | None, expected: bytes
) -> None:
    breaks = [7, 500, 0]

    def respond(asked: Asked) -> Reply:
        body = LOG
        if "grep" in asked.query:
            body = b"".join(line for line in LOG.splitlines(keepends=True) if b"1" in line)
        body = body[int(asked.query.get("offset", 0)) :]
        if int(asked.query.get("limit", 0)):
            body = body[: int(asked.query["limit"])]
        headers = () if grep else (("Rota-Log-Offset", asked.query.get("offset", "0")),)
        return Reply(body, headers=headers, chunk=100, break_at=breaks.pop() if breaks else None)

    with fake_agent(respond, tmp_path / "s") as agent:
        got = b"".join(read_log(client(agent), "x", Start(), grep=grep, limit=limit))
        assert len(agent.asked) == 4
    if grep:
        expected = b"".join(line for line in LOG.splitlines(keepends=True) if b"1" in line)
    assert got == expected


def test_events_go_on_behind_the_last_one_seen(tmp_path: Path) -> None:
    rng = random.Random(1)

    def respond(asked: Asked) -> Reply | None:
        after = int(asked.headers["last-event-id"])
        body = b": hello\n\n"
        for seq in range(after + 1, 60):
            data = json.dumps({"seq": seq, "kind": "custom"})
            body += f"id: {seq}\nevent: custom\ndata: {data}\n\n: still here\n\n".encode()
        headers = (("Content-Type", "text/event-stream"),)
        return Reply(body, headers=headers, chunk=50, break_at=rng.randint(0, 700))

    with fake_agent(respond, tmp_path / "s") as agent:
        stream = follow_events(client(agent), 10, "custom")
        seen = [next(stream)["seq"] for _ in range(49)]
        assert agent.asked[0].query == {"after": "10", "kind": "custom", "follow": "true"}
        assert agent.asked[0].headers["accept"] == "text/event-stream"
    assert seen == list(range(11, 60))


def test_server_sent_events_are_read_as_the_standard_says() -> None:
    lines = [
        "id: 1",
        "data: a",
        "data: b",
        "",
        ":comment",
        "",
        "data:c\r",
        "\r",
        "id: 3",
        "data: half",
    ]
    assert list(sse(iter(line.encode() for line in lines))) == [("", "1", "a\nb"), ("", "", "c")]


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.sampled_from("ab.^"))
def test_a_filter_does_not_depend_on_how_the_log_is_cut(
    log: bytes, places: list[int], regex: str
) -> None:
    pattern = re.compile(regex.encode())
    wanted = [line for line in log.split(b"\n")[:-1] if pattern.search(line)]
    last = log.split(b"\n")[-1]
    if last and pattern.search(last):
        wanted.append(last)
    got = b"".join(piece.data for piece in matching(_cut(log, places), pattern))
    assert got == b"".join(line + b"\n" for line in wanted)


def test_a_filter_looks_at_the_beginning_of_an_endless_line() -> None:
    line = b"start" + b"x" * (3 * MAX_GREP_LINE) + b"end"
    pieces = [Piece(1, line[at : at + 10_000]) for at in range(0, len(line), 10_000)]
    pieces.append(Piece(1, b"\nshort end\n"))
    assert b"".join(it.data for it in matching(iter(pieces), re.compile(b"end"))) == b"short end\n"
    found = b"".join(it.data for it in matching(iter(pieces), re.compile(b"start")))
    assert found == line[:MAX_GREP_LINE] + b"\n"


def _cut(log: bytes, places: list[int]) -> Iterator[Piece]:
    borders = [0, *sorted(min(place, len(log)) for place in places), len(log)]
    for start, end in itertools.pairwise(borders):
        yield Piece(1, log[start:end])
