"""Whatever a server sends, a session ends as it may, or goes on, and sends nothing that is two lines."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.adapters.clocks import ManualClock
from rota.adapters.irc.connection import LostError
from rota.adapters.irc.ear import Ear
from rota.adapters.irc.handshake import Login
from rota.adapters.irc.lines import Line, parse
from rota.adapters.irc.session import LoginError, Patience, Plan, Session
from rota.errors import InputError, LaterError
from rota.ports.networks import Saying


class Wire:
    """Instead of a connection: what is put is made into bytes, as it would be for sending."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def put(self, line: Line, *, is_urgent: bool = True, is_in_order: bool = False) -> None:
        raw = bytes(line)
        assert raw.endswith(b"\r\n")
        assert raw.count(b"\n") == raw.count(b"\r") == 1
        self.sent.append(raw)

    def take_back(self) -> None:
        pass


WORDS = (
    st.sampled_from(
        [
            "rota",
            "rota-2",
            "ann",
            "#web",
            "#Web,#ops",
            "*",
            "+",
            "-1",
            "+1",
            "LS",
            "NEW",
            "ACK",
            "NAK",
            "DEL",
            "sasl",
            "batch",
            ":x",
            "chathistory",
            "PRIVMSG",
            "1700000000",
            "9" * 5000,
            "+c-S",
            "0",
            "CASEMAPPING=ascii",
            "CHANTYPES=#!",
            "BOT=B",
            "BOT=\x01",
            "MONITOR",
            "PREFIX",
        ]
    )
    | st.sampled_from(["a b", "", "#x y"])
    | st.text(max_size=12)
)
COMMANDS = st.sampled_from(
    [
        "001",
        "005",
        "302",
        "303",
        "307",
        "311",
        "317",
        "318",
        "319",
        "324",
        "330",
        "376",
        "401",
        "402",
        "403",
        "404",
        "421",
        "422",
        "432",
        "433",
        "437",
        "464",
        "470",
        "471",
        "473",
        "474",
        "475",
        "477",
        "482",
        "605",
        "731",
        "900",
        "901",
        "903",
        "904",
        "905",
        "906",
        "907",
        "908",
        "ACCOUNT",
        "AUTHENTICATE",
        "BATCH",
        "CAP",
        "CHGHOST",
        "ERROR",
        "FAIL",
        "INVITE",
        "JOIN",
        "KICK",
        "KILL",
        "MODE",
        "NICK",
        "NOTICE",
        "PART",
        "PING",
        "PONG",
        "PRIVMSG",
        "QUIT",
        "TAGMSG",
    ]
)
SOURCES = st.sampled_from(
    ["rota!u@h", "ROTA!u@h", "ann!u@h", "irc.test", "", "rota-2!u@h", "@", "!", "ann!u u@h"]
)
TAGS = st.dictionaries(
    st.sampled_from(["time", "msgid", "account", "batch", "+rota/id", "bot"]),
    st.sampled_from(
        ["2026-01-01T00:00:00Z", "x", "1", "a/1.2", "a/0.0", "9999-12-31T23:59:59-23:59"]
    )
    | st.text(max_size=5),
    max_size=3,
)
LINES = st.builds(
    lambda tags, source, command, params: (
        ("@" + ";".join(f"{key}={value}" for key, value in tags.items()) + " " if tags else "")
        + (f":{source} " if source else "")
        + " ".join([command, *params[:-1], *(f":{it}" for it in params[-1:])])
    ).encode(errors="replace"),
    TAGS,
    SOURCES,
    COMMANDS,
    st.lists(WORDS, max_size=5),
)
WELCOME = (b":s 001 rota :hi", b":s 376 rota :end", b":rota!u@h JOIN #web")


async def fed(raws: list[bytes], *, is_welcome: bool) -> None:
    wire = Wire()
    login = Login(nick="rota", account="rota", password="pw")
    plan = Plan("irc", login, ("#web KEY", "#b"), "!", Patience())
    ear = Ear(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    session = Session(plan, wire, ear)  # type: ignore[arg-type]
    session._put(session._handshake.begin())
    said = None
    for raw in [*(WELCOME if is_welcome else ()), *raws]:
        if (line := parse(raw)) is not None:
            session._take(line)
            session._arrive()
            session._release()
        if is_welcome and said is None:
            said = asyncio.create_task(session.say(Saying(id="s-1", room="#web", text="x")))
            await asyncio.sleep(0)
    session._put(session._rooms.due(session._now() + 10_000))
    session._put(session._handshake.due(session._now() + 10_000))
    session._regain(session._now() + 10_000)
    session._complain()
    session.end()
    if said is not None:
        said.cancel()
        with contextlib.suppress(asyncio.CancelledError, InputError, LaterError):
            await said


@settings(max_examples=400)
@given(st.lists(LINES | st.binary(max_size=40), max_size=30), st.booleans())
def test_no_server_is_too_strange(raws: list[bytes], is_welcome: bool) -> None:
    with contextlib.suppress(LostError, LoginError, InputError):
        asyncio.run(fed(raws, is_welcome=is_welcome))
