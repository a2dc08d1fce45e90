"""Channels with callers: WebSockets (RFC 6455)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from rota.errors import InputError
from rota.ports.channel import MAX_MESSAGE, Channel

#: A caller whose machine is gone is found out by the kernel: it looks after so long without a byte,
#: so often, so many times. No pings of ours: a caller that was stopped, or waits for a pager, answers
#: none, and is there all the same.
_IDLE_S, _EACH_S, _TIMES = 30, 10, 3
CLOSE_S = 2.0


async def talk(
    request: web.Request, say: Callable[[Channel], Awaitable[None]]
) -> web.StreamResponse:
    """Upgrade the connection, and let ``say`` talk with the caller; it is cancelled if he goes.

    Raises:
        InputError: the request asks for no WebSocket.
    """
    response = web.WebSocketResponse(
        timeout=CLOSE_S, heartbeat=None, compress=False, max_msg_size=MAX_MESSAGE
    )
    if not response.can_prepare(request):
        raise InputError(
            "this is for a WebSocket, and the request asks for none",
            hint="by hand: rota shell BUILD; a program sends Upgrade: websocket (RFC 6455)",
        )
    _watch_over(request)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await say(_Caller(response))
    await response.close()
    return response


class _Caller:
    """See :class:`rota.ports.channel.Channel`."""

    def __init__(self, response: web.WebSocketResponse) -> None:
        self._response = response

    async def receive(self) -> bytes | str | None:
        message = await self._response.receive()
        is_data = message.type in (WSMsgType.BINARY, WSMsgType.TEXT)
        return message.data if is_data else None

    async def send(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            await self._response.send_bytes(message)
        else:
            await self._response.send_str(message)

    async def close(self) -> None:
        await self._response.close()


def _watch_over(request: web.Request) -> None:
    """Let the kernel find out when the caller's machine is gone."""
    opened = request.transport.get_extra_info("socket") if request.transport else None
    if opened is None or opened.family == socket.AF_UNIX:
        return
    with contextlib.suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _EACH_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _TIMES)
