"""Git over HTTP: what the edge needs to serve the store to stock git clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol


class Reply(Protocol):
    """An HTTP answer. ``body`` is to be read to its end, or closed."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""
        ...

    @property
    def body(self) -> AsyncGenerator[bytes]:
        """The answer's bytes, as they are made."""
        ...


Allow = Callable[[str, str], Awaitable[None]]
"""Looks at a push before it counts: told old commit and new one, whose objects are in the store.

Raises DeniedError where it is not to count.
"""


async def anything(old: str, new: str) -> None:
    """Allow any push."""


class GitHttp(Protocol):
    """Answers requests of the smart protocol; any number at once."""

    async def handle(
        self,
        method: str,
        path_info: str,
        query: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes],
        principal: str,
        allow: Allow = anything,
    ) -> Reply:
        """Answer one request; the answer's body is still being made when this returns.

        ``allow`` is asked for each push that git takes.

        Raises:
            UnavailableError: git could not be started, or ended without an answer.
        """
        ...
