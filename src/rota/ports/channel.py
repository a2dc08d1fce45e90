"""A channel: messages both ways over one connection, for as long as both sides hold it open."""

from __future__ import annotations

from typing import Protocol

#: What one message may have at most.
MAX_MESSAGE = 1 << 20


class Channel(Protocol):
    """Messages of bytes or of text, in order. One receiver and one sender at a time."""

    async def receive(self) -> bytes | str | None:
        """Return the next message; ``None`` once the other side has closed it, or is gone."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Send a message; return once there is room for the next. Who does not read holds it up.

        Raises:
            ConnectionError: the other side is gone.
        """
        ...

    async def close(self) -> None:
        """Close it, after what was sent. Safe to call twice."""
        ...
