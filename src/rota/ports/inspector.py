"""The inspector: reads an agent's store from end to end, apart from the agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from rota.core.audit import Head, Step


class Inspector(Protocol):
    """May be asked at any time; each call reads everything anew."""

    def inspect(self, heads: Sequence[Head] = ()) -> AsyncGenerator[Step]:
        """Yield what is wrong with the store and the index, how far it is, and at last a summary.

        Close it (``aclosing``) to end it early. Cost: minutes of a processor for a million builds, at
        low priority, in another process.

        Args:
            heads: Those that somebody kept of its history.

        Raises:
            UnavailableError: it could not be begun, or broke off.
        """
        ...
