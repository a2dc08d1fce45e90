"""Forges, as an agent speaks to them: one request at a time, and a token of this machine."""

from __future__ import annotations

from typing import Protocol

import msgspec

from rota.core.statuses import Post


class Reply(msgspec.Struct, frozen=True):
    """What a forge answered: the status, the beginning of its text, and when to come back."""

    status: int
    text: str = ""
    retry_after_s: float | None = None


class Forges(Protocol):
    """Any number of calls at once. Cancelling leaves open whether a request was carried out."""

    async def token(self, url: str, token_file: str) -> str:
        """Return the token that this machine has for a forge; empty if it has none.

        Args:
            url: Scheme and host, such as ``https://git.example``, for git's credential helpers.
            token_file: Read instead, if it is not empty.

        Raises:
            UnavailableError: the file cannot be read, or git does not answer.
        """
        ...

    def forget(self, url: str) -> None:
        """Ask for the token anew the next time: the forge did not take it."""
        ...

    async def post(self, post: Post, headers: dict[str, str], *, within_s: float) -> Reply:
        """Send a request and return the answer, whatever its status. Redirects are not followed.

        Raises:
            UnavailableError: there is no answer in time; it may have been taken all the same.
        """
        ...
