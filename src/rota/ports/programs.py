"""Programs of the machine whose output is wanted: such as what hands over a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Programs(Protocol):
    """Runs programs; any number at the same time."""

    async def output(self, argv: Sequence[str], *, within_s: float) -> bytes:
        """Return what a program wrote to its standard output, once it exited with 0.

        It gets no standard input, and ends with all it started when its time is over or the caller is
        cancelled.

        Raises:
            UnavailableError: it cannot be started, takes too long, prints too much, or exits with
                something else; the message has a line of its standard error, none of its output.
        """
        ...
