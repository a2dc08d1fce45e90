"""The journal as one stream of the engine."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING

from rota.adapters.nats.jetstream import Spec, Stored, Stream, subject_of
from rota.core.codec import decode, encode
from rota.core.events import LEADER, key_of
from rota.errors import InputError, InvariantError
from rota.ports.journal import MAX_EVENT_BYTES, Entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rota.adapters.nats.client import Client
    from rota.core.events import Event

STREAM = Spec(
    name="JOURNAL",
    subjects=("rota.journal.>",),
    republish={"src": "rota.journal.>", "dest": "rota.live.journal.>"},
)
ALL = "rota.journal.>"
LIVE = "rota.live.journal.>"
ELECTIONS = f"rota.journal.{LEADER}"


class NatsJournal:
    """See :class:`rota.ports.journal.Journal`. Call :meth:`open` once before."""

    def __init__(self, client: Client) -> None:
        self._stream = Stream(client, STREAM.name, is_dense=True)
        self._me = secrets.token_hex(6)
        self._count = 0
        # With several copies the engine takes one fenced write at a time, and refuses the others
        # as long as it is at it.
        self._fences = asyncio.Lock()

    async def open(self, *, first: int = 1) -> None:
        """Make the stream, if it is not there. Safe to call twice, and at several agents at once.

        A journal that is made now begins with the sequence ``first``: after what a history from
        before it covers, so that this counts as the part that was trimmed (ADR 20).

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        await self._stream.ensure(STREAM, first=first)

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Write ``event`` and return its sequence; one round trip. Fenced ones go one by one."""
        if expect is not None and fence is not None:
            raise InvariantError("an append has either an expectation or a fence")
        data = encode(event)
        if len(data) > MAX_EVENT_BYTES:
            raise InputError(
                f"the event has {len(data)} bytes, the limit is {MAX_EVENT_BYTES}",
                hint="keep large data as an artifact and name it in the event",
            )
        self._count += 1
        subject = "rota.journal." + subject_of(key_of(event))
        msg_id = f"{self._me}-{self._count}"
        if fence is None:
            return await self._stream.publish(subject, data, msg_id, expect)
        async with self._fences:
            return await self._stream.publish(subject, data, msg_id, None, (ELECTIONS, fence))

    async def read(self, *, after: int = 0, follow: bool = False) -> AsyncGenerator[Entry, None]:
        """Yield the events above ``after``; see the port."""
        if not follow:
            last = (await self._stream.bounds()).last_seq
            async for batch in self._stream.scan(ALL, after + 1, last):
                for each in batch:
                    if each.seq <= last:
                        yield _entry(each)
            return
        at = after
        following = self._stream.follow(ALL, LIVE, after + 1, lambda each: each.seq == at + 1)
        async with aclosing(following):
            async for each in following:
                at = each.seq
                yield _entry(each)

    async def bounds(self) -> tuple[int, int]:
        """Return the first and last sequence."""
        found = await self._stream.bounds()
        return (found.first_seq or 1, found.last_seq)

    async def trim(self, *, before: int) -> None:
        """Forget what lies below ``before``."""
        await self._stream.purge(before=before)


def _entry(found: Stored) -> Entry:
    return Entry(found.seq, decode(found.data), hashlib.sha256(found.data).digest())
