"""A leader's duty: settle each instant of each schedule once its time has come.

All agents keep the agenda; the leader alone writes what becomes of it, one event for all that is due
together, fenced by its election, and looks again when it has folded that. So a leader that is killed
anywhere in between leaves either nothing or everything, and the next one goes on from the cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from rota.agent.patience import persist
from rota.core.agenda import Due, Round
from rota.core.build import Build, Edge
from rota.core.definitions import Definition
from rota.core.events import Fire, Known, SchedulesFired, SchedulesSet, kind_of
from rota.core.job import Spec
from rota.core.pipelines import plan
from rota.core.schedules import SCHEDULE, Scheduled, Skip, build_id, revised
from rota.core.scheduling import calendars_hash, wanted_schedules, wish_for
from rota.errors import InputError, RotaError, StaleError
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.service.ticks import until_tick
from rota.service.world import World

logger = logging.getLogger(__name__)

#: The wall clock may be set at any time: it is looked at so often, whatever is next.
LOOK_S = 1.0
#: So many schedules are looked at before others get their turn at the event loop.
SLICE = 100
#: An event holds so many instants, and no more bytes than this: the journal takes 900,000.
MOST = 250
MOST_BYTES = 400_000
FOLD_S = 5.0


class Scheduler:
    """Keeps the agenda (:meth:`keep` is a task), and settles what is due (:meth:`lead`, a duty)."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        fence: Callable[[], int],
    ) -> None:
        self._name, self._world, self._journal, self._clock = name, world, journal, clock
        self._fence = fence
        self._news = asyncio.Event()  # for the task that keeps the agenda
        self._due = asyncio.Event()  # for the duty
        self._is_changed = True
        self._seen: dict[str, Definition] | None = None  # what was brought in last
        self._seen_calendars = ""

    def folded(self, entry: Entry) -> None:
        """Take note of an event that moved schedules."""
        if isinstance(entry.event, SchedulesSet | SchedulesFired):
            self._news.set()

    def changed(self) -> None:
        """The definitions are others by now."""
        self._world.agenda.calendars_changed()
        self._is_changed = True
        self._news.set()
        self._due.set()

    async def keep(self) -> None:
        """Keep the agenda in step with what is folded, in pieces, for ever."""
        while True:
            await self._work()
            self._due.set()
            await self._news.wait()
            self._news.clear()

    async def _work(self) -> None:
        while self._world.agenda.work(SLICE):  # noqa: ASYNC110 - others get a turn between pieces
            await asyncio.sleep(0)

    async def lead(self) -> None:
        """Settle what is due, for as long as this agent leads."""
        self._is_changed, self._seen = True, None
        # What was given up half-way by an earlier lead is looked at again.
        self._world.agenda.look(self._world.cluster.picture.schedules)
        self._news.set()
        while True:
            try:
                if self._is_changed:
                    await self._revise()
                if await self._settle():
                    await self._wait()
            except StaleError:
                # Another one was elected, and this duty ends in a moment; or this one was, once more, and
                # it goes on: then what was to be brought in has still to be.
                self._is_changed = True
                await asyncio.sleep(LOOK_S)

    async def _wait(self) -> None:
        """Return when something may be due."""
        self._due.clear()
        top = self._world.agenda.next_due()
        left_s = LOOK_S if top is None else (top[0] - self._clock.now()).total_seconds()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(until_tick(LOOK_S), max(0.0, left_s))):
                await self._due.wait()

    # -- what is due ----------------------------------------------------------------------------

    async def _settle(self) -> bool:
        """Settle what is due now; say whether that was all."""
        world, now = self._world, self._clock.now()
        picture = world.cluster.picture
        round_ = world.agenda.due(now, self._running, led_since=picture.leader_since, limit=MOST)
        if not round_.schedules:
            return True
        try:
            for event in self._events(round_, now):
                await self._write(event)
        finally:
            world.agenda.look(round_.schedules)
            self._news.set()
        await self._work()
        return False

    def _running(self, schedule: str) -> Sequence[str]:
        builds = self._world.cluster.picture.builds
        ids = self._world.cluster.scheduled.get(schedule, ())
        return sorted(ids, key=lambda id_: (builds[id_].trigger.at, builds[id_].requested_seq))

    def _events(self, round_: Round, now: datetime) -> Iterable[SchedulesFired]:
        skips = list(round_.skips)
        specs: dict[bytes, tuple[int, Spec]] = {}
        fires: list[Fire] = []
        size = 0

        def made() -> SchedulesFired:
            return SchedulesFired(
                at=now,
                by=self._name,
                agent=self._name,
                fires=tuple(fires),
                skips=tuple(skips),
                specs=tuple(spec for _, spec in specs.values()),
                commit=self._world.commit,
                seen=self._world.seq,
            )

        blocked: set[str] = set()
        for due in round_.fires:
            if due.schedule in blocked:
                continue
            fire = self._fire(due, specs)
            if isinstance(fire, Skip):
                # Skips of an event come before its fires: what follows is for the next round.
                blocked.add(due.schedule)
                if not any(it.schedule == due.schedule for it in fires):
                    skips.append(fire)
                continue
            fires.append(fire)
            size += len(msgspec.json.encode(fire))
            if size + sum(map(len, specs)) > MOST_BYTES:
                yield made()
                skips, specs, fires, size = [], {}, [], 0
        if skips or fires:
            yield made()

    def _fire(self, due: Due, specs: dict[bytes, tuple[int, Spec]]) -> Fire | Skip:
        """Return what an instant asks for, or why it asks for nothing."""
        world = self._world
        id_ = build_id(due.schedule, due.at)
        known = world.find(id_)
        if known is not None:
            return Skip(due.schedule, due.at, due.at, f"it has a build already: {known.ref}")
        scheduled = world.cluster.picture.schedules[due.schedule]
        try:
            wish = wish_for(due.schedule, scheduled, due.at, SCHEDULE, self._name)
            planned = plan(world.definitions, id_, (wish,), world.find)
        except RotaError as error:
            problems = error.problems if isinstance(error, InputError) else ()
            why = "; ".join([error.message, *map(str, problems)])
            return Skip(due.schedule, due.at, due.at, f"it cannot be asked for: {why}")
        places = [_place(specs, spec) for spec in planned.specs]
        builds = tuple(replace(it, spec=places[it.spec]) for it in planned.builds)
        if due.after:
            former = tuple(_edge(world.cluster.picture.builds[it]) for it in due.after)
            builds = tuple(
                replace(it, needs=(*it.needs, *former)) if it.build == id_ else it for it in builds
            )
        return Fire(schedule=due.schedule, at=due.at, build=id_, builds=builds, ends=due.ends)

    # -- what changes ---------------------------------------------------------------------------

    async def _revise(self) -> None:
        """Bring the schedules to what the definitions say, in events of some hundred each.

        Only jobs that were changed since the last time are looked at; all of them at first, and when
        a calendar was changed.
        """
        self._is_changed = False
        definitions, commit = self._world.definitions, self._world.commit
        calendars = calendars_hash(definitions)
        former = self._seen if self._seen and calendars == self._seen_calendars else None
        self._seen = None
        wanted: dict[str, Scheduled] = {}
        ids: set[str] = set() if former is not None else {*self._world.cluster.picture.schedules}
        for count, (name, definition) in enumerate(definitions.jobs.items()):
            before = former.pop(name, None) if former is not None else None
            if before is None or not _is_same(before, definition):
                wanted |= wanted_schedules(definitions, definition, commit)
                ids |= wanted_schedules(definitions, before, commit).keys() if before else set()
            if count % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        for gone in (former or {}).values():
            ids |= wanted_schedules(definitions, gone, commit).keys()
        left = sorted(ids | wanted.keys())
        while left:
            left = await self._set(left, wanted)
            await asyncio.sleep(0)
        self._seen, self._seen_calendars = dict(definitions.jobs), calendars

    async def _set(self, ids: list[str], wanted: dict[str, Scheduled]) -> list[str]:
        """Write what changes of the first schedules; return those that are left."""
        world, now = self._world, self._clock.now()
        new: dict[str, Scheduled] = {}
        removed: list[str] = []
        skips: list[Skip] = []
        size = done = 0
        while done < min(len(ids), MOST) and size < MOST_BYTES:
            id_ = ids[done]
            done += 1
            known = world.cluster.picture.schedules.get(id_)
            instants = None if known is None else world.timetable(id_, known)
            revision = revised(id_, known, wanted.get(id_), instants, now)
            if revision is None:
                continue
            if revision.now is None:
                removed.append(id_)
            else:
                new[id_] = revision.now
                size += len(msgspec.json.encode(revision.now))
            if revision.skip is not None:
                skips.append(revision.skip)
        if new or removed:
            await self._write(
                SchedulesSet(
                    at=now,
                    by=self._name,
                    agent=self._name,
                    set=new,
                    removed=tuple(removed),
                    skips=tuple(skips),
                )
            )
        return ids[done:]

    async def _write(self, event: Known) -> None:
        """Append what only a leader may, and return when it is folded.

        Raises:
            StaleError: another one was elected.
        """
        fence = self._fence()
        seq = await persist(kind_of(event), lambda: self._journal.append(event, fence=fence))
        while self._world.seq < seq:
            with contextlib.suppress(TimeoutError):
                await self._world.reached(seq, FOLD_S)


def _is_same(one: Definition, other: Definition) -> bool:
    """Whether nothing of a definition has changed: what was parsed is kept where it has not."""
    return one.job is other.job and one.paused is other.paused


def _edge(former: Build) -> Edge:
    return Edge(build=former.id, job=former.job, number=former.number)


def _place(specs: dict[bytes, tuple[int, Spec]], spec: Spec) -> int:
    """Return the place of a spec in the table, where it is put if it is not there."""
    place, _ = specs.setdefault(msgspec.json.encode(spec), (len(specs), spec))
    return place
