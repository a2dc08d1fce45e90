"""The safe: the cluster's identity, for whose public key all secrets on ``main`` are encrypted."""

from __future__ import annotations

from typing import Protocol


class Safe(Protocol):
    """Identities that this agent holds: the present one, and former ones that old values need.

    Every member holds them; who is no member gets none. Calls take less than a millisecond and may
    run at the same time. All raise UnavailableError where the file cannot be read or written, or is
    damaged.
    """

    def recipients(self) -> tuple[str, ...]:
        """Return the public keys of the identities, the last one that was kept first."""
        ...

    def identities(self) -> str:
        """Return all identities as a text: for other members' :meth:`keep`. Empty if there are none."""
        ...

    def identity(self, recipient: str) -> str:
        """Return the identity whose public key is ``recipient``.

        Raises:
            NotFoundError: it is not held.
        """
        ...

    def make(self) -> str:
        """Return a new identity as a text; it is kept nowhere."""
        ...

    def keep(self, identities: str) -> tuple[str, ...]:
        """Keep what a text has and is not there yet, on disk; return the public keys of all of it.

        Raises:
            InputError: the text holds none, or something else.
        """
        ...

    def encrypt(self, data: bytes, recipient: str) -> str:
        """Return ``data``, encrypted and armoured.

        Raises:
            NotFoundError: the recipient is none of those whose identity is held: what nobody here
                could read is not written.
        """
        ...

    def decrypt(self, text: str) -> bytes:
        """Return what was encrypted.

        Raises:
            NotFoundError: it is for an identity that is not held.
            InputError: it is damaged.
        """
        ...
