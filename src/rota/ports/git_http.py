"""Git over HTTP: what the edge needs to serve the store to stock git clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
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
    ) -> Reply:
        """Answer one request; the answer's body is still being made when this returns.

        Raises:
            UnavailableError: git could not be started, or ended without an answer.
        """
        ...
