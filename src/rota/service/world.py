"""The live picture of the cluster, and who waits for it to change.

One task (the agent's loop) folds; everybody else reads, and waits by sequence or by build. The last
events stay in memory in full, so that many followers cost the engine nothing.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from rota.core.agenda import Agenda
from rota.core.agents import Agent
from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.codec import encode
from rota.core.deeds import Deed
from rota.core.definitions import Definitions
from rota.core.events import BuildsSwept, SchedulesFired, SchedulesSet, Unknown
from rota.core.fold import Change, apply
from rota.core.levels import FIRST
from rota.core.pulse import Pulse
from rota.core.reactions import Rules
from rota.core.retention import Removed
from rota.core.schedules import Scheduled
from rota.core.states import State
from rota.core.timetable import Timetable
from rota.errors import NotFoundError, UnavailableError
from rota.ports.index import Index
from rota.ports.journal import Entry, Journal
from rota.service.contact import Contact
from rota.service.hold import Hold
from rota.service.judge import Judge
from rota.service.livelog import LiveLog

logger = logging.getLogger(__name__)

#: A leader beats every 0.6 s. So long a silence means that no quorum hears anybody, or not us.
STALE_S = 4.0
#: Events kept in memory for followers; older ones are read from the journal.
RECENT = 4096
#: So many builds are looked through for those that somebody sees, of an id's beginning.
MAX_UNSEEN = 200
#: So many builds are asked for at once, where all are.
PAGE = 500
#: So many builds of the time before a daemon's start are counted for its pulse.
RECALLED = 1000


class World:
    """What this agent knows: cluster, definitions, live logs. Folded by one task, read by all."""

    def __init__(self, journal: Journal, index: Index, cluster: Cluster) -> None:
        self.cluster = cluster
        self.definitions = Definitions()
        self._rules = (self.definitions, Rules(self.definitions))
        self.commit = ""  # of `main`, that the definitions are of
        self.live_logs: dict[tuple[str, int], LiveLog] = {}
        self.troubles: dict[str, str] = {}
        #: By agent, what it last said that it can; known where words are listened to.
        self.levels: dict[str, int] = {}
        self.contact: Contact | None = None  # the agent that runs this world makes it
        self.hold: Hold | None = None  # the agent that runs this world makes it
        #: The first sequence that the journal still has, as far as this agent knows.
        self.journal_first = 1
        self.agenda = Agenda(lambda: self.cluster.picture.schedules, self.timetable)
        self.judge = Judge(lambda: self.definitions)
        self.pulse = Pulse()
        self._has_recalled = False
        self._journal, self._index = journal, index
        self._unindexed: dict[str, Build] = {}
        self._recent: deque[Entry] = deque(maxlen=RECENT)
        self._sealed_deeds: deque[Deed] = deque(maxlen=RECENT)
        self._ticks: set[asyncio.Future[None]] = set()
        self._watchers: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def rules(self) -> Rules:
        """What all jobs react to, by the definitions that this agent has."""
        if self._rules[0] is not self.definitions:
            self._rules = (self.definitions, Rules(self.definitions))
        return self._rules[1]

    @property
    def stale_since(self) -> datetime | None:
        """When a quorum of the voters was last heard of, if that is too long ago; else ``None``.

        What this agent says of the cluster is then as of that time, and it can write nothing.
        """
        contact = self.contact
        if contact is None:
            return None
        if len(self.cluster.picture.agents) <= 1:
            return contact.at if "engine" in self.troubles else None
        return contact.at if contact.silent_s() > STALE_S else None

    def level_of(self, agent: Agent) -> int:
        """Return what an agent can, as far as this one knows.

        Its start may have been folded by an older rota here, which kept nothing of it; then its
        words say it.
        """
        return max(agent.level, self.levels.get(agent.name, 0), FIRST)

    @property
    def is_held(self) -> bool:
        """Whether a recovery is about to settle where the journal goes on."""
        return self.hold is not None and self.hold.is_on

    def touch(self) -> None:
        """Note a sign of life of the voters."""
        if self.contact is not None:
            self.contact.made()

    @property
    def seq(self) -> int:
        """The sequence of the last event folded."""
        return self.cluster.picture.seq

    def fold(self, entry: Entry) -> Change:
        """Fold one event and wake those who wait. Only the agent's loop calls this."""
        change = apply(self.cluster, entry.seq, entry.event, entry.digest)
        self._recent.append(entry)
        self._sealed_deeds.extend(change.deeds)
        self.pulse.beat(entry.seq, entry.event.at, change.builds)
        if change.sealed:
            # In the same step as they leave the cluster: a build is always in one of the places.
            self._unindexed.update((build.id, build) for build in change.sealed)
            self.index_sealed()
        match entry.event:
            case BuildsSwept() as event:
                self._note_swept(event)
            case SchedulesSet() as event:
                self.agenda.look([*event.set, *event.removed])
            case SchedulesFired() as event:
                self.agenda.look(it.schedule for it in event.skips)
                self.agenda.look(it.schedule for it in event.fires)
            case _:
                pass
        _wake(self._ticks)
        if self._watchers:
            for build in change.builds:
                _wake(self._watchers.get(build.id, set()))
        return change

    def index_sealed(self) -> bool:
        """Move sealed builds to the index; say whether it has them all.

        What a full disk does not let it take stays here until a later call.
        """
        if self._unindexed:
            try:
                self._index.add(tuple(self._unindexed.values()))
            except UnavailableError as error:
                logger.warning("%d builds stay in memory: %s", len(self._unindexed), error.message)
                return False
            self._unindexed.clear()
        return True

    def _note_swept(self, event: BuildsSwept) -> None:
        try:
            self._index.sweep(event.swept, event.at)
        except UnavailableError as error:
            logger.warning("nobody will know why these were removed: %s", error.message)

    # -- builds ---------------------------------------------------------------------------------

    def find(self, build_id: str) -> Build | None:
        """Return a build by its whole id, wherever it is."""
        return (
            self.cluster.picture.builds.get(build_id)
            or self._unindexed.get(build_id)
            or self._index.get(build_id)
        )

    def left(self) -> Iterator[str]:
        """Yield the ids of builds of the past that left something which was not dropped since."""
        for job in self._index.jobs_with_remains():
            before = None
            while page := self._index.remains(job=job, before=before, limit=PAGE):
                yield from (it.build for it in page)
                before = page[-1].finished_at, page[-1].build

    def removed(self, build_id: str) -> Removed:
        """Return what is known of a build's logs and artifacts that were removed."""
        return self._index.removed(build_id)

    def find_number(self, job: str, number: int) -> Build | None:
        """Return a build by job and number, wherever it is."""
        build_id = self.cluster.numbered.get((job, number))
        if build_id is not None:
            return self.cluster.picture.builds[build_id]
        for build in self._unindexed.values():
            if (build.job, build.number) == (job, number):
                return build
        return self._index.by_number(job, number)

    def find_prefix(self, prefix: str, sees: Callable[[str], bool] | None = None) -> list[Build]:
        """Return up to two builds whose id starts with ``prefix``, of the jobs that are seen.

        Of many in the index that are not seen, one behind them is not found: more of its id helps.
        """
        live = [build for build in self.live() if build.id.startswith(prefix)]
        past = self._index.by_prefix(prefix, 2 if sees is None else MAX_UNSEEN)
        both = {b.id: b for b in (*past, *live) if sees is None or sees(b.job)}
        return list(both.values())[:2]

    def pipeline(self, root: str) -> Sequence[Build]:
        """Return all builds of a tree, its root included, wherever they are. Cost: all live ones."""
        found = {build.id: build for build in self._index.pipeline(root)}
        found |= {build.id: build for build in self._unindexed.values() if build.root == root}
        live = self.cluster.picture.builds.values()
        found |= {build.id: build for build in live if build.root == root}
        return tuple(found.values())

    def sealed_pipeline(self, root: str) -> Sequence[Build]:
        """Return those builds of a tree that have left the memory. Cost: flat in what is live."""
        found = {build.id: build for build in self._index.pipeline(root)}
        found |= {build.id: build for build in self._unindexed.values() if build.root == root}
        live = self.cluster.picture.builds
        return tuple(build for build in found.values() if build.id not in live)

    def past(
        self, *, job: str | None, result: str | None, before: int | None, limit: int
    ) -> Sequence[Build]:
        """Return ``limit`` builds from the index, newest first, without those that live again."""
        live = self.cluster.picture.builds.keys() | self._unindexed.keys()
        past: list[Build] = []
        while True:
            found = self._index.latest(job=job, result=result, before=before, limit=limit)
            past += (build for build in found if build.id not in live)
            if len(past) >= limit or len(found) < limit:
                return past[:limit]
            before = found[-1].requested_seq

    def per_minute(self, now: datetime, minutes: int) -> tuple[int, ...]:
        """Return how many builds finished in each of the last minutes; the last is under way.

        What finished before this daemon began is looked up in the index, once.
        """
        if not self._has_recalled:
            self._has_recalled = True
            self.pulse.recall(self._index.latest(limit=RECALLED))
        return self.pulse.per_minute(now, minutes)

    def last_number(self, job: str) -> int:
        """Return the number of the job's latest build; 0 if there is none."""
        return self.cluster.picture.numbers.get(job, 0)

    def live(self) -> Iterable[Build]:
        """Return the builds that are in memory: unfinished, or not yet in the index."""
        return itertools.chain(self.cluster.picture.builds.values(), self._unindexed.values())

    def unindexed(self) -> Iterable[Build]:
        """Return the builds that are sealed and not yet in the index."""
        return self._unindexed.values()

    def timetable(self, schedule: str, scheduled: Scheduled) -> Timetable | None:
        """Return when a schedule fires; ``None`` where its rule cannot be read here."""
        try:
            return Timetable(scheduled.rule, schedule, self.definitions.calendars)
        except (ValueError, KeyError) as error:
            logger.warning("%s: %s", schedule, error)
            return None

    # -- waiting --------------------------------------------------------------------------------

    async def reached(self, seq: int, timeout_s: float) -> None:
        """Return once the event ``seq`` is folded.

        Raises:
            TimeoutError: not within ``timeout_s``.
        """
        async with asyncio.timeout(timeout_s):
            while self.seq < seq:
                await _wait(self._ticks)

    async def changed(self, build_id: str, timeout_s: float) -> None:
        """Return when the build changes, or after ``timeout_s``."""
        waiters = self._watchers.setdefault(build_id, set())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await _wait(waiters)
        finally:
            # Another one may have begun anew, since this set was woken and emptied.
            if not waiters and self._watchers.get(build_id) is waiters:
                self._watchers.pop(build_id, None)

    async def finished(self, build_id: str, timeout_s: float) -> Build:
        """Return the build once it has finished, or as it is after ``timeout_s``.

        Raises:
            NotFoundError: there is no such build.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            build = self.find(build_id)
            if build is None:
                raise NotFoundError(f"no build {build_id}")
            left = deadline - asyncio.get_running_loop().time()
            if build.state is State.FINISHED or left <= 0:
                return build
            await self.changed(build_id, left)

    # -- audit ----------------------------------------------------------------------------------

    def deeds(self) -> Iterable[Deed]:
        """Yield the last deeds, newest first: all that the history does not have yet are among them."""
        return itertools.chain(
            reversed(self.cluster.picture.deeds), reversed(tuple(self._sealed_deeds))
        )

    def digest(self, seq: int) -> bytes:
        """Return the digest of an event as it was folded, if it is one of the last; else nothing."""
        if not self._recent or not self._recent[0].seq <= seq <= self._recent[-1].seq:
            return b""
        at = bisect.bisect_left(self._recent, seq, key=lambda entry: entry.seq)
        return self._recent[at].digest if self._recent[at].seq == seq else b""

    # -- events ---------------------------------------------------------------------------------

    async def entries(self, after: int, *, follow: bool) -> AsyncGenerator[Entry]:
        """Yield the events after a sequence, each once, in order; with ``follow`` without end."""
        stop = None if follow else self.seq
        while stop is None or after < stop:
            memory_from = self._recent[0].seq if self._recent else self.seq + 1
            if after + 1 < memory_from:
                async for entry in self._older(after, memory_from):
                    yield entry
                after = memory_from - 1
                continue
            newer = [entry for entry in self._newer(after) if stop is None or entry.seq <= stop]
            for entry in newer:
                after = entry.seq
                yield entry
            if not newer:
                if stop is not None:
                    return
                await _wait(self._ticks)

    async def _older(self, after: int, before: int) -> AsyncGenerator[Entry]:
        async with contextlib.aclosing(self._journal.read(after=after)) as entries:
            async for entry in entries:
                if entry.seq >= before:
                    return
                yield entry

    def _newer(self, after: int) -> list[Entry]:
        found: list[Entry] = []
        for entry in reversed(self._recent):
            if entry.seq <= after:
                break
            found.append(entry)
        found.reverse()
        return found


def wire_event(entry: Entry) -> bytes:
    """Return an event as REST shows it: one line, its JSON object with ``seq`` in front."""
    raw = encode(entry.event)
    if not isinstance(entry.event, Unknown):
        return b'{"seq":%d,' % entry.seq + raw[1:]
    # Not from our codec: it may have line ends, a `seq` of its own, or be no JSON at all.
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
        return msgspec.json.encode({**fields, "seq": entry.seq})
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return msgspec.json.encode({"seq": entry.seq, "kind": "?", "raw": raw.decode("latin-1")})


def _wake(waiters: set[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


async def _wait(waiters: set[asyncio.Future[None]]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    waiters.add(waiter)
    try:
        await waiter
    finally:
        waiters.discard(waiter)
