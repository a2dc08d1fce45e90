"""Secrets and safe in memory: for tests, and for an agent that is alone with one build."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from rota.core.build import Build
from rota.core.secrets import Rules, refusal
from rota.errors import DeniedError, InputError, NotFoundError


class MemorySecrets:
    """See :class:`rota.ports.secrets.Secrets`. ``rules`` by name; who has none is given to all."""

    def __init__(
        self,
        values: Mapping[str, bytes],
        rules: Mapping[str, Rules] = {},
        *,
        hint: str = "rota secret set {name}",
    ) -> None:
        self._values, self._rules, self._hint = dict(values), dict(rules), hint

    async def read(self, name: str, *, build: Build | None = None) -> bytes:
        """Return a secret's value."""
        if name not in self._values:
            raise NotFoundError(f"no secret {name!r}", hint=self._hint.replace("{name}", name))
        why = refusal(self._rules.get(name, Rules()), build) if build is not None else None
        if why is not None:
            raise DeniedError(f"the secret {name} is not given: {why}", known=True)
        return self._values[name]


class MemorySafe:
    """See :class:`rota.ports.safe.Safe`: it hides nothing, and keeps to the same contract."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._made = 0

    def recipients(self) -> tuple[str, ...]:
        """Return the public keys of the identities, the last one that was kept first."""
        return tuple(_public(identity) for identity in reversed(self._held))

    def identities(self) -> str:
        """Return all identities as a text."""
        return "".join(f"{identity}\n" for identity in self._held)

    def identity(self, recipient: str) -> str:
        """Return the identity whose public key is ``recipient``."""
        found = next((it for it in self._held if _public(it) == recipient), None)
        if found is None:
            raise NotFoundError(f"this agent has not the key {recipient[:12]}…")
        return found

    def make(self) -> str:
        """Return a new identity as a text; it is kept nowhere."""
        self._made += 1
        return f"MEMORY-{id(self):x}-{self._made}\n"

    def keep(self, identities: str) -> tuple[str, ...]:
        """Keep what a text has; return the public keys of all of it."""
        given = [line for line in identities.split() if line.startswith("MEMORY-")]
        if not given:
            raise InputError("that holds no identity")
        self._held += [line for line in given if line not in self._held]
        return tuple(map(_public, given))

    def encrypt(self, data: bytes, recipient: str) -> str:
        """Return ``data`` in another form."""
        if recipient not in self.recipients():
            raise NotFoundError("this agent has not the key that secrets are encrypted for")
        return f"{recipient} {base64.b64encode(data).decode()}"

    def decrypt(self, text: str) -> bytes:
        """Return what :meth:`encrypt` was given."""
        recipient, _, data = text.strip().partition(" ")
        if recipient not in self.recipients():
            raise NotFoundError("it is encrypted for a key that this agent has not")
        try:
            return base64.b64decode(data, validate=True)
        except ValueError as error:
            raise InputError("its value is damaged") from error


def _public(identity: str) -> str:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:58]
    return "age1" + digest.translate(str.maketrans("1b", "q2")).ljust(58, "q")
