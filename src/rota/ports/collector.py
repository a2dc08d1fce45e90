"""Who collects traces: one request at a time."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Taken(msgspec.Struct, frozen=True):
    """What a collector answered: the status, the beginning of its text, and when to come back."""

    status: int
    text: str = ""
    retry_after_s: float = 0.0


class Collector(Protocol):
    """Takes spans by OTLP over HTTP. Cancelling leaves open whether they were taken."""

    async def send(
        self, endpoint: str, body: bytes, headers: dict[str, str], *, within_s: float
    ) -> Taken:
        """Send an ``ExportTraceServiceRequest`` as JSON and return the answer, whatever its status.

        Raises:
            UnavailableError: there is no answer in time; it may have been taken all the same.
        """
        ...
