"""A connection whose timers are told by hand that they are due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from aiohttp import web

from rota.http import connections
from rota.http.connections import Connection, Connections

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Caller(NamedTuple):
    """A connection, the other end of it, and why callers were refused."""

    connection: Connection
    end: socket.socket
    refused: list[str]

    async def answer(self) -> bytes:
        """Return all that is said to the caller until the connection is closed."""
        loop, found = asyncio.get_running_loop(), b""
        while piece := await loop.sock_recv(self.end, 4096):
            found += piece
        return found


@contextlib.asynccontextmanager
async def caller() -> AsyncIterator[Caller]:
    async def hello(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    refused: list[str] = []
    server, (here, there) = web.Server(hello), socket.socketpair()
    there.setblocking(False)
    made = Connection(server, Connections(refused.append), logger=logging.getLogger())
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: made, sock=here)
    with there:
        yield Caller(made, there, refused)
        transport.close()
        await server.shutdown(0)


async def test_a_request_that_came_while_the_machine_stood_still_is_answered() -> None:
    async with caller() as one:
        one.end.send(REQUEST)
        _due(one.connection)  # before the loop has read what lies there
        answer = await one.answer()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")
    assert one.refused == []


async def test_who_says_nothing_is_turned_away_when_it_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "AGAIN_S", 0.0)
    async with caller() as one:
        _due(one.connection)
        answer = await one.answer()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert one.refused == ["slow-head"]


def _due(connection: Connection) -> None:
    """Do what the timer of the head does."""
    timer = connection._head
    assert timer is not None
    timer._run()
    timer.cancel()
