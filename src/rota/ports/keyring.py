"""The keyring: an agent's key and certificate, and the cluster's CA, which every member holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from rota.core.certificate import Certificate
from rota.ports.credentials import Credentials


class Keyring(Protocol):
    """Files of one agent. Calls take up to 0.1 s (the first that makes something), most 1 ms.

    All raise UnavailableError where a file cannot be read or written, or is damaged; then nothing
    was changed but what is said. Certificates are for ``hosts``, the agent's name, ``localhost``
    and the loopback addresses.
    """

    def credentials(self) -> Credentials | None:
        """Return what the agent shows, or ``None`` while it has no certificate yet."""
        ...

    def found(self, name: str, hosts: Sequence[str]) -> Credentials:
        """Make a CA, and what an agent called ``name`` shows. What is there already stays.

        Raises:
            InputError: a host is no name and no IP address.
        """
        ...

    def request(self, name: str) -> bytes:
        """Return a certificate request (PEM) for this agent's key, which is made if there is none."""
        ...

    def sign(self, request: bytes, name: str, hosts: Sequence[str], life: timedelta = ...) -> bytes:
        """Return a certificate (PEM) for the key of a request. What else it asks for is not heeded.

        Raises:
            InputError: the request is damaged, not by its key's owner, or of another kind of key;
                or a host is no name and no IP address.
        """
        ...

    def install(self, *, ca: bytes, ca_key: bytes, cert: bytes) -> Credentials:
        """Take over a cluster's CA, and the certificate that a member signed for this agent's key.

        Without the CA's key this agent admits nobody, and cannot renew its own certificate.

        Raises:
            InputError: they do not belong together; nothing was changed.
        """
        ...

    def adopt(self, *, ca: bytes, ca_key: bytes) -> None:
        """Take over a cluster's CA where there is none yet; :meth:`found` then signs with it."""
        ...

    def present(self) -> Certificate:
        """Return what this agent's certificate says. Cost: a file is read, some 50 µs."""
        ...

    def renew(self, name: str, hosts: Sequence[str], life: timedelta | None = None) -> bool:
        """Sign this agent's certificate anew if it lacks a host or is due; say whether it did.

        It is due with a third of ``life`` left; without that only once it is late, with a sixth of the
        life that it has: who runs may give it another key as well.
        The key and so the pin stay. Whoever has loaded the old one goes on with that until told.
        """
        ...

    def prepare(self, name: str) -> bytes:
        """Make a key beside the present one, in place of an earlier such; return a request for it."""
        ...

    def prepared(self, cert: bytes) -> str:
        """Keep the certificate that was signed for the next key; return its pin.

        Raises:
            InputError: it is for another key, or of another CA; nothing was changed.
        """
        ...

    def coming(self) -> str:
        """Return the pin of the next key; empty if there is none, or no certificate for it yet."""
        ...

    def switch(self) -> Credentials:
        """Show the next key from now on, and return that; without one nothing changes.

        A change that breaks off in the middle is finished by the next :meth:`credentials`.
        """
        ...

    def drop_coming(self) -> None:
        """Delete the next key. Safe to call twice."""
        ...

    @property
    def is_authority(self) -> bool:
        """Whether the CA's key is here: an ephemeral agent is not given it."""
        ...

    def ca(self) -> bytes:
        """Return the CA's certificate (PEM)."""
        ...

    def ca_key(self) -> bytes:
        """Return the CA's key (PEM)."""
        ...

    def fingerprint(self) -> str:
        """Return the SHA-256 of the CA's certificate in hex; empty while there is no CA."""
        ...

    def forget(self) -> None:
        """Delete all of it. Safe to call twice."""
        ...
