"""What a back-up is made of, beside what verbs use anyway; the composition root knows where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from rota.ports.blobs import Blob


def no_seal(data: bytes, recipient: str) -> bytes:
    """Encrypt nothing: there is nothing to do it with."""
    raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class Copies:
    """Where a back-up gets the state from, and what it may copy.

    ``state`` returns the state, once the store has all that left it. ``find`` returns what is known
    of a blob that lies in the engine or here, and not in a store of somebody else. ``identities`` are
    those that secrets are encrypted for, ``seal`` encrypts for an age recipient.
    """

    state: Callable[[], Awaitable[bytes]]
    find: Callable[[str], Awaitable[Blob | None]]
    identities: Callable[[], str] = str
    seal: Callable[[bytes, str], bytes] = no_seal
