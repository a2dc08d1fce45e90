"""What a server says of itself on its monitoring port."""

from __future__ import annotations

import asyncio

import msgspec

from rota.adapters.nats.config import HOST


class Meta(msgspec.Struct):
    """The cluster as one server sees it; ``leader`` is empty while there is none."""

    leader: str = ""
    cluster_size: int = 0


class _JetStream(msgspec.Struct):
    """The part of ``/jsz`` we read."""

    meta_cluster: Meta | None = None


class _Server(msgspec.Struct):
    """The part of ``/varz`` we read."""

    server_name: str = ""
    mem: int = 0
    slow_consumers: int = 0


class _Route(msgspec.Struct):
    remote_name: str = ""


class _Routes(msgspec.Struct):
    """The part of ``/routez`` we read."""

    routes: list[_Route] = []


async def server_name(port: int, within_s: float) -> str:
    """Return the name of the server that answers; ``""`` if none does."""
    body = await get(port, "/varz", within_s)
    try:
        return msgspec.json.decode(body, type=_Server).server_name
    except msgspec.MsgspecError:
        return ""


async def usage(port: int, within_s: float) -> tuple[int, int]:
    """Return the bytes that a server holds in memory, and how many readers it gave up."""
    body = await get(port, "/varz", within_s)
    try:
        found = msgspec.json.decode(body, type=_Server)
    except msgspec.MsgspecError:
        return 0, 0
    return found.mem, found.slow_consumers


async def meta(port: int, within_s: float) -> Meta:
    """Return who leads the cluster; an empty picture if the server does not answer."""
    body = await get(port, "/jsz", within_s)
    try:
        return msgspec.json.decode(body, type=_JetStream).meta_cluster or Meta()
    except msgspec.MsgspecError:
        return Meta()


async def routed(port: int, within_s: float) -> set[str]:
    """Return the names of the servers that this one has routes to."""
    body = await get(port, "/routez", within_s)
    try:
        found = msgspec.json.decode(body, type=_Routes).routes
    except msgspec.MsgspecError:
        return set()
    return {route.remote_name for route in found if route.remote_name}


async def is_alive(port: int, within_s: float) -> bool:
    """Whether the server answers at all."""
    return bool(await get(port, "/healthz?js-server-only=true", within_s))


async def get(port: int, path: str, within_s: float) -> bytes:
    """Return the body of a page; ``b""`` if it did not come in time."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return (await reader.read()).partition(b"\r\n\r\n")[2]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
