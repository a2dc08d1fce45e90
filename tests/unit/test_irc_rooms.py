"""Rooms, history, what became of what was said, and how much may be sent."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime

import pytest

from rota.adapters.irc.connection import Connection, Flow, LostError
from rota.adapters.irc.ear import Position
from rota.adapters.irc.history import History, news
from rota.adapters.irc.lines import Line, line_of, parse
from rota.adapters.irc.rooms import LAST_S, Rooms
from rota.adapters.irc.talk import Names, Utterance
from rota.errors import InputError, LaterError


def read(raw: str) -> Line:
    line = parse(raw.encode())
    assert line is not None
    return line


def tell(rooms: Rooms, raw: str, now: float = 0.0) -> list[str]:
    lines = rooms.take(read(raw), now, is_ours=lambda nick: nick == "rota")
    return [bytes(it).decode().rstrip() for it in lines]


def due(rooms: Rooms, now: float) -> list[str]:
    return [bytes(it).decode().rstrip() for it in rooms.due(now)]


def test_all_rooms_are_joined_in_few_lines_those_with_keys_first() -> None:
    rooms = Rooms(["#a", "#b sesame", "#c"], str.lower)
    assert due(rooms, 0.0) == ["JOIN #b,#a,#c sesame"]
    many = Rooms([f"#{'x' * 40}{number}" for number in range(30)], str.lower)
    lines = due(many, 0.0)
    assert len(lines) == 4
    assert all(len(line) < 510 for line in lines)
    assert due(many, 1.0) == []


def test_who_is_refused_tries_again_ever_less_often() -> None:
    rooms = Rooms(["#web"], str.lower)
    tries, now = [], 0.0
    while now < 3000:
        if due(rooms, now):
            tries.append(now)
            tell(rooms, ":s 474 rota #web :Cannot join (+b)", now)
        now += 1
    assert tries[:5] == [0, 2, 10, 42, 170]
    assert max(b - a for a, b in itertools.pairwise(tries)) <= LAST_S + 1
    assert rooms.troubles == ["#web: we are banned (+b); the server says: Cannot join (+b)"]


def test_a_room_that_was_asked_for_besides_is_forgotten_when_it_is_refused() -> None:
    rooms = Rooms([], str.lower)
    rooms.want("#other")
    assert due(rooms, 0.0) == ["JOIN #other"]
    tell(rooms, ":s 403 rota #other :No such channel")
    assert rooms.get("#other") is None
    assert rooms.are_answered


def test_who_invites_is_followed_into_settled_rooms_alone() -> None:
    rooms = Rooms(["#web"], str.lower)
    due(rooms, 0.0)
    tell(rooms, ":s 473 rota #web :Cannot join (+i)")
    assert tell(rooms, ":x!y@z INVITE rota #trap", 1.0) == []
    assert tell(rooms, ":x!y@z INVITE rota #web", 1.0) == ["JOIN #web"]


def test_colours_are_sent_as_the_room_has_it() -> None:
    rooms = Rooms(["#web"], str.lower)
    assert tell(rooms, ":rota!u@h JOIN #web") == ["PING rota-in-#web", "MODE #web"]
    before = rooms.are_answered
    tell(rooms, ":s PONG s :rota-in-#web")
    assert (before, rooms.are_answered) == (False, True)
    for raw, has_colours in (
        (":s 324 rota #web +nt", True),
        (":s 324 rota #web +cnt", False),
        (":x!y@z MODE #web -c+s", True),
    ):
        tell(rooms, raw)
        room = rooms.get("#WEB")
        assert room is not None
        assert room.has_colours is has_colours


def batch(*entries: tuple[str, str]) -> list[Line]:
    return [
        read(f"@batch=1;time=2026-01-01T00:00:{second}Z;msgid={name} :a!b@c PRIVMSG #web :{name}")
        for second, name in entries
    ]


def test_news_are_what_came_after_a_position() -> None:
    lines = batch(("01.000", "a"), ("02.000", "b"), ("02.000", "c"), ("03.000", "d"))
    at = datetime(2026, 1, 1, 0, 0, 2, 500_000, UTC)

    def names(position: Position | None) -> list[str]:
        return [line.text for line in news(lines, position)]

    assert names(Position(at, "b")) == ["c", "d"]
    assert names(Position(at, "of another room")) == ["b", "c", "d"]  # the server keeps seconds
    assert names(Position(at)) == ["b", "c", "d"]
    assert names(None) == []
    assert Position.read(str(Position(at, "b"))) == Position(at, "b")
    assert Position.read("nonsense") is None


def test_batches_of_history_alone_are_held() -> None:
    history = History()
    (line,) = batch(("01.000", "a"))
    assert not history.holds(line)
    assert history.take(read(":s BATCH +1 netsplit x y")) == []
    assert not history.holds(line)
    history.take(read(":s BATCH +1 chathistory #web"))
    assert history.holds(line)
    assert history.take(read(":s BATCH -1")) == [line]
    assert history.take(read(":s BATCH -1")) == []


async def outcome(*raw: str, echoed: bool = False, lines: int = 1) -> Utterance:
    said = Utterance("s-1", "#web", ["x"] * lines, tagged=True, echoed=echoed)
    for text in raw:
        said.take(read(text), is_ours=lambda nick: nick == "rota", fold=str.lower)
    return said


ECHO = "@msgid=m1 :rota!u@h PRIVMSG #WEB :x"
PONG = ":s PONG s :rota-s-1"


async def test_an_echo_or_a_pong_is_a_receipt() -> None:
    assert (await (await outcome(ECHO, echoed=True)).outcome).id == "m1"
    assert (await (await outcome(PONG)).outcome).id == "s-1"
    assert not (await outcome(ECHO, echoed=True, lines=2)).outcome.done()
    assert not (await outcome(":s PONG s :rota-s-0")).outcome.done()


async def test_what_was_taken_in_part_was_taken() -> None:
    refused = ":s 404 rota #web :slow down"
    part = await outcome(ECHO, refused, PONG, echoed=True, lines=2)
    assert (await part.outcome).id == "m1"
    assert (await (await outcome(refused, PONG, lines=2)).outcome).id == "s-1"


@pytest.mark.parametrize(
    ("raw", "echoed", "kind", "message"),
    [
        (":s 404 rota #web :Cannot send", False, InputError, "does not let us speak; the server"),
        (":s 401 rota #web :No such nick", False, InputError, "there is nobody of that name"),
        (":s 439 rota #web :Too fast", True, LaterError, "slower, says the server: Too fast"),
        (":s FAIL PRIVMSG X #web :Not so", True, InputError, "the server refuses it; the server"),
        (":s NOTICE rota :hm", True, InputError, "the server dropped it without a word"),
    ],
)
async def test_what_was_not_taken(
    raw: str, echoed: bool, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"#web: .*{message}"):
        await (await outcome(raw, PONG, echoed=echoed)).outcome


def test_a_name_is_known_until_many_others_are() -> None:
    known = Names()
    known.add("a", "m1")
    known.add("")
    assert known.get("a") == "m1"
    assert "" not in known
    for number in range(6000):
        known.add(f"n{number}")
    assert "a" not in known


def test_lines_flow_as_the_server_takes_them() -> None:
    flow, now, sent = Flow(2.0, 5), 0.0, []
    for _ in range(8):
        now += flow.wait_s(now)
        flow.sent(now)
        sent.append(now)
    assert sent == [0, 0, 0, 0, 0, 2, 4, 6]
    now += 100
    assert flow.wait_s(now) == 0


def test_a_ping_is_no_line_that_may_be_forged() -> None:
    with pytest.raises(ValueError, match="no such line"):
        bytes(line_of("PING", "a\r\nQUIT"))


async def test_who_stood_still_does_not_say_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Writer:
        def write(self, data: bytes) -> None:
            sent.append(data)

        async def drain(self) -> None:
            pass

    def connection() -> Connection:
        return Connection(asyncio.StreamReader(), Writer(), Flow(0.001, 1))  # type: ignore[arg-type]

    awake = connection()
    for number in range(3):
        awake.put(line_of("PRIVMSG", "#web", f"{number}"), is_urgent=False)
    sending = asyncio.create_task(awake.send_all())
    while len(sent) < 3:
        await asyncio.sleep(0)
    sending.cancel()
    monkeypatch.setattr("rota.adapters.irc.connection.STOOD_S", -1.0)  # as if it woke too late
    stopped = connection()
    for number in range(3):
        stopped.put(line_of("PRIVMSG", "#web", f"{number}"), is_urgent=False)
    with pytest.raises(LostError, match="this process stood still"):
        await stopped.send_all()
    assert len(sent) == 4
