"""A voter: an agent that runs one of the engine's servers."""

from __future__ import annotations

import msgspec

from rota.core.job import Int


class Voter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an agent's server is; without ports it is appointed, and does not listen yet."""

    agent: str
    server: str
    host: str = ""
    client: Int = 0
    route: Int = 0

    @property
    def is_listening(self) -> bool:
        """Whether its addresses are known."""
        return self.client > 0
