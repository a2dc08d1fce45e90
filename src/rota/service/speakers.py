"""The processes of this agent that speak for users, each by a token that dies with it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterator


class Speakers:
    """Who may ask for others at this agent: the process on the chat networks, while it lives.

    Such a token opens nothing alone: a request says for which user it is, with which role.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[str]:
        """Give a new token, which holds until the context ends."""
        token = secrets.token_urlsafe(32)
        digest = _digest(token.encode())
        self._digests.add(digest)
        try:
            yield token
        finally:
            self._digests.discard(digest)

    def knows(self, token: bytes) -> bool:
        """Whether a token is that of a process that lives."""
        digest = _digest(token)
        # All are compared, wherever one fits: the time that it takes says nothing.
        fits = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(fits)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
