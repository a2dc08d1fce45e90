"""Secrets, as other parts read them: by name, whoever keeps them."""

from __future__ import annotations

from typing import Protocol

from rota.core.build import Build


class Secrets(Protocol):
    """Values by name: ``NAME`` of the store, or ``PROVIDER:PATH`` of what the settings name.

    Nothing is kept in memory beyond a call. Whoever prints anything that may hold a value masks it
    first. May be called at any time, also at the same time. No error has a value in it.
    """

    async def read(self, name: str, *, build: Build | None = None) -> bytes:
        """Return a secret's value.

        Args:
            name: What a header, or the settings, call it.
            build: For whom. Its rules hold then; without one the agent reads for itself.

        Raises:
            NotFoundError: there is no such secret, or no such provider.
            DeniedError: its rules do not give it to this build; or the value is bound to others.
            UnavailableError: this agent has not the key, or a provider does not answer.

        Cost: 0.3 ms for one of the store; a provider's is a program's run.
        """
        ...
