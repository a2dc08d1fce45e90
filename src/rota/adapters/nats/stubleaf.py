"""A connection that wakes a lone server's cluster.

A clustered server does not start its Raft loops before it has seen one other server: a route, a
gateway or a leaf node. A server that restarts alone would wait for ever. This speaks just enough of
the leaf node protocol to count as one; it has an account of its own, without rights.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.beside import beside
from rota.adapters.nats.config import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RETRY_S = 0.005


@asynccontextmanager
async def stub_leaf(port: int, password: str, *, retry_s: float = RETRY_S) -> AsyncIterator[None]:
    """Be a leaf node while the context lasts, as soon as the server lets us."""
    async with beside(_run(port, password, retry_s), "engine-leaf"):
        yield


async def _run(port: int, password: str, retry_s: float) -> None:
    while True:
        try:
            await _serve_once(port, password)
        except OSError:
            await asyncio.sleep(retry_s)


async def _serve_once(port: int, password: str) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        await reader.readline()
        hello = {
            "user": "loop",
            "pass": password,
            "name": f"stub-{secrets.token_hex(4)}",
            "version": "2.15.1",
            "headers": True,
            "jetstream": False,
        }
        writer.write(b"CONNECT " + msgspec.json.encode(hello) + b"\r\nPING\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
    finally:
        writer.close()
    raise ConnectionResetError("the server closed the leaf connection")
