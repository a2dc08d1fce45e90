"""WebSocket (RFC 6455) as a client, without input or output: bytes become messages, and back.

Only what rota's agents send: whole or fragmented messages, pings, a close; no extensions.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from rota.errors import UnavailableError

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: More than any agent sends in one message.
MAX_MESSAGE = 4 << 20


class Message(NamedTuple):
    """A message, or a ping or close, which have what the other side put in."""

    opcode: int
    data: bytes


class Handshake:
    """The headers of one upgrade, and whether the answer to them is right."""

    def __init__(self) -> None:
        self._key = base64.b64encode(os.urandom(16)).decode()
        self.headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": self._key,
        }

    def check(self, accepted: str | None) -> None:
        """Do nothing if the answer's ``Sec-WebSocket-Accept`` is for our key.

        Raises:
            UnavailableError: it is not: something in between has answered.
        """
        digest = hashlib.sha1(self._key.encode() + _MAGIC, usedforsecurity=False).digest()
        if accepted != base64.b64encode(digest).decode():
            raise UnavailableError(
                "the answer is not a WebSocket's", hint="is there a proxy that passes none on?"
            )


def frame(opcode: int, data: bytes) -> bytes:
    """Return one whole message as it is sent, masked as the protocol wants it of clients."""
    size, key = len(data), os.urandom(4)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + key + _masked(data, key)


class Reader:
    """Makes messages of the bytes that arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._parts = bytearray()
        self._opcode = CONTINUATION

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole with these bytes.

        Raises:
            UnavailableError: what arrives is no WebSocket.
        """
        self._rest += data
        while (found := self._frame()) is not None:
            is_last, opcode, payload = found
            if opcode >= CLOSE:
                yield Message(opcode, payload)
                continue
            if opcode != CONTINUATION:
                self._opcode, self._parts = opcode, bytearray()
            if len(self._parts) + len(payload) > MAX_MESSAGE:
                raise _broken("a message is too large")
            self._parts += payload
            if is_last:
                yield Message(self._opcode, bytes(self._parts))
                self._parts = bytearray()

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Return the next frame, if all of it is here."""
        rest = self._rest
        if len(rest) < 2:
            return None
        first, second = rest[0], rest[1]
        size, start = second & 0x7F, 2
        if first & 0x70 or second & 0x80:
            raise _broken("a frame has bits that nobody agreed on")
        if size == 126:
            start = 4
        elif size == 127:
            start = 10
        if len(rest) < start:
            return None
        if start > 2:
            size = int.from_bytes(rest[2:start], "big")
        if size > MAX_MESSAGE:
            raise _broken("a message is too large")
        if len(rest) < start + size:
            return None
        payload = bytes(rest[start : start + size])
        del rest[: start + size]
        return bool(first & 0x80), first & 0x0F, payload


def _broken(why: str) -> UnavailableError:
    return UnavailableError(f"the agent's side of the connection makes no sense: {why}")


def _masked(data: bytes, key: bytes) -> bytes:
    # As one large number: byte by byte it would take a hundred times as long.
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
