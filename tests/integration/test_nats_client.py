"""The engine's client, alone with a server: what is lost, what is told, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.harness.engine import PATIENCE_S, until

from rota.adapters.nats import Address, Client, Engine, Login
from rota.adapters.nats import client as client_module
from rota.adapters.nats.config import ROTA
from rota.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

pytestmark = pytest.mark.nats

STREAM = "MANY"
INFO = {"server_id": "x", "version": "2.15.1", "headers": True, "max_payload": 1 << 20}


def is_status(message: Msg) -> bool:
    return "Status" in (message.headers or {})


@pytest.fixture
async def subject(client: Client) -> AsyncIterator[str]:
    """A subject that a stream of this test's own keeps."""
    spec = {"name": STREAM, "subjects": ["many"], "storage": "memory", "allow_direct": True}
    await client.request(
        f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(spec).encode(), within_s=PATIENCE_S
    )
    yield "many"
    await client.request(f"$JS.API.STREAM.DELETE.{STREAM}", within_s=PATIENCE_S)


async def test_a_large_batch_arrives_whole(client: Client, subject: str) -> None:
    sent = [os.urandom(400_000) for _ in range(20)]
    for each in sent:
        await client.request(subject, each, within_s=PATIENCE_S)
    wish = {"seq": 1, "next_by_subj": subject, "batch": 100, "max_bytes": 16 << 20}
    got = await client.request_many(
        f"$JS.API.DIRECT.GET.{STREAM}",
        json.dumps(wish).encode(),
        within_s=PATIENCE_S,
        is_last=is_status,
    )
    assert [each.data for each in got[:-1]] == sent


async def test_headers_go_out_and_come_back(client: Client, subject: str) -> None:
    await client.request(subject, b"x", {"Rota-Word": "Grüße"}, within_s=PATIENCE_S)
    got = await client.request(f"$JS.API.DIRECT.GET.{STREAM}", b'{"seq": 1}', within_s=PATIENCE_S)
    assert got.headers is not None
    assert (got.headers["Rota-Word"], got.headers["Nats-Sequence"]) == ("Grüße", "1")


async def test_a_message_over_the_limit_is_refused_and_harms_no_other(client: Client) -> None:
    with pytest.raises(InputError) as caught:
        await client.request("$JS.API.INFO", bytes(1 << 20), within_s=PATIENCE_S)
    assert caught.value.message == "a message of 1048576 bytes, the engine's limit is 1044480"
    assert client.is_connected
    await client.request("$JS.API.INFO", within_s=PATIENCE_S)


async def test_cancelled_and_late_requests_leave_nothing_behind(
    client: Client, subject: str
) -> None:
    feed = await client.feed("nobody.speaks.here")
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(client.request("$JS.API.INFO", within_s=PATIENCE_S))
            waiting = group.create_task(client.request(feed.subject, within_s=PATIENCE_S))
            await asyncio.sleep(0)
            waiting.cancel()
    with pytest.raises(UnavailableError) as caught:
        await client.request(feed.subject, within_s=0.01)
    assert caught.value.message == "the engine did not answer within 0.01 s"
    await client.close_feed(feed)
    await client.close_feed(feed)
    assert not client._calls
    assert not client._feeds


async def test_a_feed_is_told_of_a_reconnect_and_goes_on(engine: Engine, client: Client) -> None:
    feed = await client.feed("rota.test.live")
    os.kill(engine.pid, signal.SIGKILL)
    assert await feed.next(PATIENCE_S) is None
    assert client.is_connected
    with pytest.raises(UnavailableError):  # to the feed alone; it does not answer
        await client.request("rota.test.live", b"hello", within_s=0.1)
    message = await feed.next(PATIENCE_S)
    assert message is not None
    assert message.data == b"hello"
    await client.close_feed(feed)


async def test_a_feed_that_lags_is_told_so(client: Client) -> None:
    feed = await client.feed("rota.test.live", limit_bytes=1000)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await client.request("rota.test.live", bytes(500), within_s=0.1)
    assert await feed.next(PATIENCE_S) is None
    await client.close_feed(feed)


async def test_requests_under_way_end_with_the_connection(engine: Engine, client: Client) -> None:
    feed = await client.feed("rota.test.silent")
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(fails(client, feed.subject, PATIENCE_S))
        await until(lambda: bool(client._calls))
        assert await feed.next(PATIENCE_S) is not None
        os.kill(engine.pid, signal.SIGKILL)
    assert asking.result().message == "the connection to the engine was lost"
    await client.connected(PATIENCE_S)


async def test_a_server_that_takes_no_bytes_is_named_in_words(
    engine: Engine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_UNSENT_BYTES", 1 << 20)
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(fails(client, "rota.test", 0.2, bytes(900_000)))
                for _ in range(40)
            ]
            await asyncio.wait(asking)
            late = group.create_task(fails(client, "rota.test", 0.2))
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    assert late.result().message == "the engine takes no bytes for 0.2 s"
    await client.request("$JS.API.INFO", within_s=PATIENCE_S)


async def fails(
    client: Client, subject: str, within_s: float, data: bytes = b""
) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        await client.request(subject, data, within_s=within_s)
    return caught.value


@asynccontextmanager
async def speaking(words: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[Address]:
    """Listen, and greet everybody with ``words``."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words(writer)

    server = await asyncio.start_server(greet, "127.0.0.1")
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


@pytest.mark.parametrize("turns", range(0, 40, 2))
@pytest.mark.parametrize("parting", [b"PONG\r\n", b""])
async def test_leaving_at_any_moment_of_a_connection_ends_at_once(
    turns: int, parting: bytes
) -> None:
    """Cancellations that meet an answer, or the end of the connection, must not get lost."""
    writers: list[asyncio.StreamWriter] = []

    def greet(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
        if not parting:
            writer.write(b"PONG\r\n")

    async with speaking(greet) as address, asyncio.timeout(PATIENCE_S):
        async with Client(lambda: [address], Login("rota", "word")) as client:
            await until(lambda: bool(writers))
            if parting:
                writers[0].write(parting)
            else:
                await client.connected(PATIENCE_S)
                writers[0].close()
            for _ in range(turns):
                await asyncio.sleep(0)
        assert not client.is_connected
        for writer in writers:
            writer.close()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "empty response from server when expecting INFO message"),
        (b"x" * 200_000, "Separator is not found, and chunk exceed the limit"),
        (b"", "empty response from server when expecting INFO message"),
    ],
)
async def test_what_speaks_no_nats_is_named(words: bytes, why: str) -> None:
    def greet(writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with (
        speaking(greet) as address,
        Client(lambda: [address], Login("rota", "word")) as client,
    ):
        await until(lambda: bool(client._why))
        with pytest.raises(UnavailableError) as caught:
            await client.connected(0.1)
    assert caught.value.message == "the engine could not be reached within 0.1 s"
    assert caught.value.hint == why


async def test_a_server_behind_others_that_are_gone_is_found(engine: Engine) -> None:
    here = engine._addresses()[0]
    gone = [Address("127.0.0.1", 1), Address("::1", 1)]
    async with Client(lambda: [*gone, here], ROTA, tls=engine._tls) as client:
        await client.connected(PATIENCE_S)
        await client.request("$JS.API.INFO", within_s=PATIENCE_S)


async def test_a_server_that_moved_is_found_again(engine: Engine) -> None:
    here = engine._addresses()[0]
    known = [Address("127.0.0.1", 1)]
    async with Client(lambda: known, ROTA, tls=engine._tls) as client:
        await until(lambda: bool(client._why))
        known[0] = here
        await client.connected(PATIENCE_S)


async def test_a_client_that_left_has_no_connection_and_no_task(engine: Engine) -> None:
    before = asyncio.all_tasks()
    async with Client(engine._addresses, ROTA, tls=engine._tls) as client:
        await client.connected(PATIENCE_S)
        _ = await client.feed("rota.test.live")
    port = engine._addresses()[0].port
    await until(lambda: asyncio.all_tasks() == before)
    open_ = [each.raddr[1:] for each in psutil.Process().net_connections()]
    assert (port,) not in open_
