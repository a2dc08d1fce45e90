"""Tells a collector of builds, as spans. A duty of the leader; every agent remembers what came lately.

What is told is derived from what all agents fold, with ids that all of them derive alike. So a leader that takes
over tells again what ended within a minute before it: what its predecessor told is not there twice, and
what it did not tell is not lost. A collector that is away costs builds nothing; what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from rota.core.backoff import Backoff
from rota.core.build import Build
from rota.core.events import BuildCheckedOut
from rota.core.fold import Change
from rota.core.settings_traces import TracesSettings
from rota.core.spans import (
    TRACEPARENT,
    Context,
    Seen,
    Span,
    build_spans,
    encode_spans,
    pipeline_span,
    trace_of,
)
from rota.core.states import State
from rota.errors import RotaError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.collector import Collector
from rota.ports.journal import Entry
from rota.service.counts import Counts
from rota.service.world import World

logger = logging.getLogger(__name__)

#: What ended so long before it led, a leader tells again.
LATELY = timedelta(minutes=1)
#: So many ended builds wait for a collector; the oldest go.
MAX_OWED = 5000
#: A request carries the spans of so many builds.
BATCH = 100
#: What ends within so long is told together.
GATHER_S = 0.5
SEND_S = 10.0
TROUBLE = "traces"


class _Ended(msgspec.Struct, frozen=True):
    """A build that has ended, what was seen of it, and whether its tree has ended with it."""

    build: Build
    seen: Seen
    is_whole: bool


class Tracer:
    """Remembers what ended, and tells it while this agent leads: :meth:`run`."""

    def __init__(
        self,
        *,
        world: World,
        collector: Collector,
        clock: Clock,
        counts: Counts,
        read_secret: Callable[[str], Awaitable[bytes]],
        version: str,
    ) -> None:
        self._world, self._collector, self._clock = world, collector, clock
        self._counts, self._read_secret, self._version = counts, read_secret, version
        self._recent: deque[_Ended] = deque(maxlen=MAX_OWED)
        self._owed: deque[_Ended] = deque(maxlen=MAX_OWED)
        self._seen: dict[str, Seen] = {}
        self._held: dict[str, None] = {}
        self._open: dict[str, set[str]] | None = None  # by root, what has not ended of a tree
        self._leads = False
        self._news = asyncio.Event()

    @property
    def _settings(self) -> TracesSettings:
        return self._world.definitions.settings.traces

    # -- what is folded -------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Remember what ended. Cost: nothing without a collector; else some µs a build that changed."""
        if not self._settings.endpoint:
            if self._open is not None:
                self._forget()
            return
        if self._open is None:
            self._open = {}
            for build in self._world.cluster.picture.builds.values():
                self._note(build)
        event = entry.event
        for build in change.builds:
            is_over = build.state is State.FINISHED and build.seq == entry.seq
            if self._held.pop(build.id, False) is None and build.state is State.QUEUED:
                seen = self._seen.get(build.id, Seen())
                self._seen[build.id] = msgspec.structs.replace(seen, queued_at=event.at)
            if isinstance(event, BuildCheckedOut) and event.build == build.id:
                seen = self._seen.get(build.id, Seen())
                both = (*seen.checked_out, (event.attempt, event.at))
                self._seen[build.id] = msgspec.structs.replace(seen, checked_out=both)
            self._note(build)
            if is_over:
                self._end(build)

    def _note(self, build: Build) -> None:
        assert self._open is not None
        if build.state is State.FINISHED:
            still = self._open.get(build.root)
            if still is not None:
                still.discard(build.id)
                if not still:
                    del self._open[build.root]
            return
        self._open.setdefault(build.root, set()).add(build.id)
        if build.state is State.HELD:
            self._held[build.id] = None

    def _end(self, build: Build) -> None:
        assert self._open is not None
        seen = self._seen.pop(build.id, Seen())
        ended = _Ended(build, seen, build.root not in self._open)
        self._recent.append(ended)
        if self._leads:
            self._owe(ended)

    def _owe(self, ended: _Ended) -> None:
        if len(self._owed) == MAX_OWED:
            self._counts.spans_dropped += 1
        self._owed.append(ended)
        self._news.set()

    def _forget(self) -> None:
        self._open = None
        self._recent.clear()
        self._owed.clear()
        self._seen.clear()
        self._held.clear()
        self._world.troubles.pop(TROUBLE, None)

    # -- what is told ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell what ends, and what ended lately, for ever."""
        since = self._clock.now() - LATELY
        self._leads = True
        self._owed.clear()
        for it in self._recent:
            if it.build.finished_at is not None and it.build.finished_at >= since:
                self._owe(it)
        backoff = Backoff()
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await asyncio.sleep(GATHER_S)
                while self._owed:
                    await self._tell(backoff)
        finally:
            self._leads = False
            self._world.troubles.pop(TROUBLE, None)

    async def _tell(self, backoff: Backoff) -> None:
        batch = [self._owed.popleft() for _ in range(min(BATCH, len(self._owed)))]
        spans = [span for it in batch for span in self._spans(it)]
        try:
            again_s = await self._send(spans) if spans else None
        except UnavailableError as error:
            self._trouble(error.message)
            again_s = 0.0
        if again_s is None:
            backoff.went_well()
            return
        wait_s = backoff.failed(again_s)
        room = MAX_OWED - len(self._owed)
        self._counts.spans_dropped += max(len(batch) - room, 0)
        self._owed.extendleft(reversed(batch[max(len(batch) - room, 0) :]))
        await asyncio.sleep(wait_s)

    async def _send(self, spans: list[Span]) -> float | None:
        """Send spans; return when to try again, or ``None`` if that is of no use."""
        settings = self._settings
        if not settings.endpoint:
            return None
        body = encode_spans(spans, version=self._version)
        headers = await self._headers(settings.headers)
        taken = await self._collector.send(settings.endpoint, body, headers, within_s=SEND_S)
        if taken.status in (429, 502, 503, 504):
            self._trouble(f"the collector answers {taken.status}")
            return taken.retry_after_s
        if taken.status >= 300:
            text = " ".join(taken.text.split())[:200]
            self._trouble(f"the collector refuses spans with {taken.status}: {text}")
            self._counts.spans_dropped += len(spans)
            return None
        self._world.troubles.pop(TROUBLE, None)
        self._counts.spans_sent += len(spans)
        return None

    async def _headers(self, secret: str) -> dict[str, str]:
        """Return what is sent along, as ``OTEL_EXPORTER_OTLP_HEADERS`` writes it.

        Raises:
            UnavailableError: the secret cannot be read, or is none of that form.
        """
        if not secret:
            return {}
        try:
            text = (await self._read_secret(secret)).decode()
            pairs = [it.partition("=") for it in text.strip().split(",") if it.strip()]
        except (RotaError, UnicodeDecodeError) as error:
            raise UnavailableError(f"the secret {secret} cannot be read: {error}") from error
        if not all(
            name.strip().isascii() and equals and value.strip().isprintable()
            for name, equals, value in pairs
        ):
            raise UnavailableError(f"the secret {secret} must be key=value,key=value")
        return {name.strip(): value.strip() for name, _, value in pairs}

    def _spans(self, ended: _Ended) -> list[Span]:
        build = ended.build
        tree = tree_of(self._world, build)
        if not tree.sampled:
            return []
        found = list(build_spans(build, tree, ended.seen))
        if ended.is_whole and (root := _root(self._world, build)) is not None:
            found.append(pipeline_span(root, tree, found[0].end))
        return found

    def _trouble(self, text: str) -> None:
        if self._world.troubles.get(TROUBLE) != text:
            logger.warning("traces: %s", text)
        self._world.troubles[TROUBLE] = f"traces: {text}"


def tree_of(world: World, build: Build) -> Context:
    """Return the trace of a build's tree."""
    root = _root(world, build)
    given = root.trigger.data.get(TRACEPARENT, "") if root is not None else ""
    return trace_of(build.root, given)


def _root(world: World, build: Build) -> Build | None:
    return build if build.root == build.id else world.find(build.root)
