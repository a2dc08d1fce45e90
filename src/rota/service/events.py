"""Verbs on the journal: read, follow, emit."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import AsyncGenerator

import msgspec

from rota.core.events import Emitted, kind_of
from rota.errors import InputError
from rota.ports.journal import Entry
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.world import wire_event

MAX_DATA = 64 * 1024


async def events(
    service: Service, request: m.EventsRequest, who: Principal
) -> AsyncGenerator[Entry]:
    """Return the events that match: the last ``limit`` ones, or those after a sequence.

    With ``follow`` it goes on with new ones and has no limit; without ``after`` it then begins
    with what comes next.
    """
    if request.follow:
        start = service.world.seq if request.after is None else request.after
        return _matching(service.world.entries(start, follow=True), request.kind, None)
    if request.after is not None:
        past = service.world.entries(request.after, follow=False)
        return _matching(past, request.kind, request.limit)
    return _last(service, request)


async def emit(service: Service, request: m.EmitRequest, who: Principal) -> m.Emission:
    """Write an event of the users' own."""
    size = len(msgspec.json.encode(request.data))
    if size > MAX_DATA:
        raise InputError(f"the event's data has {size} bytes, the limit is {MAX_DATA}")
    event = Emitted(
        at=service.clock.now(),
        by=who.name,
        agent=service.me.name,
        type=request.type,
        data=request.data,
    )
    return m.Emission(seq=await service.write(event))


def show(entry: Entry) -> bytes:
    """Return an event as one JSON object."""
    return wire_event(entry)


async def _matching(
    entries: AsyncGenerator[Entry], kind: str, limit: int | None
) -> AsyncGenerator[Entry]:
    count = 0
    async with contextlib.aclosing(entries):
        async for entry in entries:
            if kind == "*" or fnmatch.fnmatchcase(kind_of(entry.event), kind):
                yield entry
                count += 1
                if count == limit:
                    return


async def _last(service: Service, request: m.EventsRequest) -> AsyncGenerator[Entry]:
    """Yield the last ``limit`` matching events, looking back further until there are enough."""
    reach = request.limit
    while True:
        start = max(0, service.world.seq - reach)
        found = [
            entry
            async for entry in _matching(
                service.world.entries(start, follow=False), request.kind, None
            )
        ]
        if len(found) >= request.limit or start == 0 or reach > 100 * request.limit:
            break
        reach *= 10
    for entry in found[-request.limit :]:
        yield entry
