"""Verbs on the journal: read, follow, emit."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections import deque
from collections.abc import AsyncGenerator

import msgspec

from rota.core.disclosure import as_seen
from rota.core.events import Emitted, kind_of
from rota.errors import InputError
from rota.ports.journal import Entry
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.world import wire_event

MAX_DATA = 64 * 1024
#: How far back the last events of a rare kind are looked for, in multiples of how many are wanted.
MAX_REACH = 100

_LINE_ENDS = re.compile(r"[\r\n\0]")


class Gap(msgspec.Struct, frozen=True, tag_field="kind", tag="gap"):
    """The events between ``after`` and ``first`` are no longer kept: a follower missed them."""

    after: int
    first: int


async def follow(
    service: Service, request: m.EventsRequest, who: Principal
) -> AsyncGenerator[Entry | Gap]:
    """Yield the matching events after a sequence, or from now on, and go on without end."""
    last = service.world.seq if request.after is None else request.after
    async with contextlib.aclosing(service.world.entries(last, follow=True)) as entries:
        async for entry in entries:
            # Sequences may have holes; whether one is a loss, the journal's beginning tells.
            if entry.seq > last + 1:
                first, _ = await service.journal.bounds()
                if first > last + 1:
                    yield Gap(after=last, first=min(first, entry.seq))
            last = entry.seq
            if _matches(entry, request.kind) and (shown := _seen(service, entry, who)) is not None:
                yield shown


async def past(service: Service, request: m.EventsRequest, who: Principal) -> AsyncGenerator[Entry]:
    """Yield the matching events: ``limit`` of them after a sequence, or the last ``limit``."""
    if request.after is None:
        for entry in await _last(service, request, who):
            yield entry
        return
    count = 0
    async with contextlib.aclosing(service.world.entries(request.after, follow=False)) as entries:
        async for entry in entries:
            if _matches(entry, request.kind) and (shown := _seen(service, entry, who)) is not None:
                yield shown
                count += 1
                if count == request.limit:
                    return


async def emit(service: Service, request: m.EmitRequest, who: Principal) -> m.Emission:
    """Write an event of the users' own."""
    try:
        size = len(msgspec.json.encode(request.data))
    except OverflowError as error:
        raise InputError(
            "the event's data has an integer of more than 64 bits", hint="write it as a string"
        ) from error
    if size > MAX_DATA:
        raise InputError(
            f"the event's data has {size} bytes, the limit is {MAX_DATA}",
            hint="keep large data as an artifact, and name it in the event",
        )
    event = Emitted(
        at=service.clock.now(),
        by=who.name,
        agent=service.me.name,
        type=request.type,
        data=request.data,
        build=who.build,
    )
    return m.Emission(seq=await service.write(event))


def show(entry: Entry) -> bytes:
    """Return an event as one JSON object, in one line."""
    return wire_event(entry)


def kind_shown(entry: Entry) -> str:
    """Return an event's kind in one line, whoever wrote it."""
    return _LINE_ENDS.sub(" ", kind_of(entry.event))


def _seen(service: Service, entry: Entry, who: Principal) -> Entry | None:
    """Return an event as somebody is told it; ``None`` if it is none of his business."""
    if who.sees_all:
        return entry

    def sees_build(build: str) -> bool:
        found = service.world.find(build)
        return found is not None and who.sees(found.job)

    event = as_seen(entry.event, who.name, who.sees, sees_build)
    return Entry(entry.seq, event) if event is not None else None


def _matches(entry: Entry, glob: str) -> bool:
    event = entry.event
    if glob == "*" or fnmatch.fnmatchcase(kind_of(event), glob):
        return True
    return isinstance(event, Emitted) and fnmatch.fnmatchcase(f"custom.{event.type}", glob)


async def _last(service: Service, request: m.EventsRequest, who: Principal) -> deque[Entry]:
    """Return the last ``limit`` matching events, looking back further until there are enough."""
    reach = request.limit
    while True:
        start = max(0, service.world.seq - reach)
        found: deque[Entry] = deque(maxlen=request.limit)
        async with contextlib.aclosing(service.world.entries(start, follow=False)) as entries:
            async for entry in entries:
                if not _matches(entry, request.kind):
                    continue
                if (shown := _seen(service, entry, who)) is not None:
                    found.append(shown)
        if len(found) >= request.limit or start == 0 or reach >= MAX_REACH * request.limit:
            return found
        reach *= 10
