"""A leader's duty: whatever ends or asks people something is looked at, once, for who is to be told.

Every agent keeps what is still to be looked at, in the order of the journal; so a new leader goes
on where the former one was. Nothing is sealed before it was looked at. Where nobody is to be told
nothing is written, and where nothing is set up to tell anybody by nothing is kept, either.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec.structs import replace

from rota.agent.patience import persist_leading
from rota.core.build import Build
from rota.core.events import HistorySealed, NoticesQueued
from rota.core.fold import Change
from rota.core.links import Links
from rota.core.notices import (
    Audience,
    audience_of,
    concerns,
    is_bad,
    is_due,
    lane_of,
    look_at_end,
    look_at_questions,
    speaks_for_itself,
)
from rota.core.outbox import Telling, end_mark
from rota.core.settings_chat import THREADLESS
from rota.core.settings_notify import networks_of
from rota.core.states import State
from rota.errors import InputError, RotaError
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.service.world import World

logger = logging.getLogger(__name__)

#: So many ends are looked at in one go, some 0.1 ms each, and told of by one event at most; one that
#: tells so many already is full.
LOOKS_AT_ONCE, MAX_NOTICES = 20, 500
FOLD_S = 30.0
#: After an event so long to gather what the next one tells.
GATHER_S = 0.1
#: To look which tests are flaky; and how long nobody is asked once that took longer.
FLAKY_S, ASK_AGAIN_S = 2.0, 60.0
#: After a refused write: another agent leads, or this one by another election.
STALE_S = 0.2


IsFlaky = Callable[[Build], Awaitable[bool]]
"""Whether a build failed by nothing but tests that are known to be flaky."""


class Look(msgspec.Struct, frozen=True):
    """A build that was at a point worth a look, and the event by which it was."""

    seq: int
    build: str


class Lookout:
    """Of one agent: :meth:`folded` is for its loop, :meth:`begin` for its start, :meth:`run` a duty."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        advanced: Callable[[], None],
        is_flaky: IsFlaky,
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._advanced = clock, advanced
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self._looks: deque[Look] = deque()
        self._is_flaky, self._ask_at = is_flaky, 0.0
        self._is_begun = False
        self._woken = asyncio.Event()
        self._whom: tuple[object, int, Audience] | None = None

    @property
    def settled(self) -> int:
        """The sequence up to which all that happened was looked at."""
        return self._looks[0].seq - 1 if self._looks else self._world.seq

    @property
    def audience(self) -> Audience:
        """Everybody who may want to be told, as settings and users are now."""
        definitions, linking = self._world.definitions, self._world.cluster.picture.linking
        known = self._whom
        if known is None or known[0] is not definitions or known[1] != linking.seq:
            known = self._whom = (definitions, linking.seq, audience_of(definitions, linking))
        return known[2]

    # -- every agent --------------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Note what is to be looked at; returns at once. For the agent's loop, in order."""
        event = entry.event
        if isinstance(event, NoticesQueued):
            self._forget(event.through)
        elif isinstance(event, HistorySealed):
            # A leader says so: where another agent thought that there was more, nobody is to be told.
            self._forget(event.through)
        if self._is_begun and networks_of(self._world.definitions.settings):
            for build in change.builds:
                if is_due(build) and concerns(self.audience, build):
                    self._looks.append(Look(entry.seq, build.id))
                    self._woken.set()

    def begin(self) -> None:
        """Go over what is in memory. Call once, when the journal is folded."""
        self._is_begun = True
        if not networks_of(self._world.definitions.settings):
            return
        picture = self._world.cluster.picture
        found = [
            Look(build.seq, build.id)
            for build in picture.builds.values()
            if is_due(build) and build.seq > picture.outbox.looked
        ]
        self._looks.extend(sorted(found, key=lambda it: it.seq))
        self._woken.set()

    def _forget(self, through: int) -> None:
        before = len(self._looks)
        while self._looks and self._looks[0].seq <= through:
            self._looks.popleft()
        if len(self._looks) < before:
            self._advanced()

    # -- the leader ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at what is to be looked at, for ever."""
        while True:
            if not self._looks:
                await self._woken.wait()
                self._woken.clear()
                continue
            await self._look()

    async def _look(self) -> None:
        """Look at the first ones, and write down who is to be told."""
        batch = list(itertools.islice(self._looks, LOOKS_AT_ONCE + 1))
        looks, tellings = [], list[Telling]()
        turned: set[str] = set()
        for look in batch[:LOOKS_AT_ONCE]:
            builds = self._builds(look)
            if turned & {lane_of(build) for build in builds}:
                break  # what came first of a lane is folded first
            found = await self._tellings(builds)
            turned |= {tale.lane for it in found for tale in it.tales if tale.lane}
            looks.append(look)
            tellings += found
            if sum(len(tale.notices) for it in tellings for tale in it.tales) >= MAX_NOTICES:
                break
        following = batch[len(looks)] if len(batch) > len(looks) else None
        await self._settle(looks, following, tellings)

    def _builds(self, look: Look) -> list[Build]:
        """Return a build that is to be looked at, and its tree with it; nothing if others tell of it."""
        build = self._world.find(look.build)
        if build is None:
            return []
        if build.state is not State.FINISHED:
            return [build]
        root = build if build.root == build.id else self._world.find(build.root)
        is_known = self._world.cluster.picture.outbox.has(build.id, end_mark(build))
        if is_known or not speaks_for_itself(build, root):
            return []
        return [build, *self._tree(build)] if root is build else [build]

    async def _tellings(self, builds: Sequence[Build]) -> list[Telling]:
        if not builds:
            return []
        build, *tree = builds
        outbox, now, whom = self._world.cluster.picture.outbox, self._clock.now(), self.audience
        if build.state is not State.FINISHED:
            known = set(outbox.marks.get(build.id, ()))
            asked = look_at_questions(whom, build, known, now)
            return [self._without_followers(it) for it in asked]
        flaky = await self._flaky(builds)
        telling = look_at_end(whom, build, tree, outbox.broken, now, flaky=flaky)
        return [] if telling is None else [self._without_followers(telling)]

    def _without_followers(self, telling: Telling) -> Telling:
        """Return what is to be told but for those whom the bot tells where they asked for it."""
        chat, tales = self._world.cluster.picture.chat, []
        networks = self._world.definitions.settings.chat
        threadless = [name for name, it in networks.items() if it.kind in THREADLESS]
        for tale in telling.tales:
            by_bot = chat.told_by_bot(tale.build)
            rooms = chat.rooms_told(tale.build, threadless)
            left = tuple(
                due
                for due in tale.notices
                if (due.user, due.target.partition(":")[0]) not in by_bot
                and not (due.target in rooms and not due.user)
            )
            tales.append(replace(tale, notices=left))
        return replace(telling, tales=tuple(tales))

    def _tree(self, root: Build) -> list[Build]:
        """Return the other builds of a tree. Cost: a look into the index, and at all live ones if it has any."""
        is_joined = root.needs or root.group is not None or root.id in self._links.children
        world = self._world
        tree = world.pipeline(root.id) if is_joined else world.sealed_pipeline(root.id)
        return [it for it in tree if it.id != root.id]

    @property
    def _links(self) -> Links:
        return self._world.cluster.links

    async def _flaky(self, builds: Sequence[Build]) -> set[str]:
        """Return which of them failed by nothing but tests that are known to be flaky."""
        asked = [it for it in builds if is_bad(it) and it.tests is not None and it.tests.bad]
        if not asked or not self.audience.users or self._clock.monotonic() < self._ask_at:
            return set()
        try:
            async with asyncio.timeout(FLAKY_S):
                return {it.id for it in asked if await self._is_flaky(it)}
        except (RotaError, TimeoutError) as error:
            # Whoever keeps it is slow or away: people are told all the same.
            logger.info("which tests are flaky is not known: %s", error)
            self._ask_at = self._clock.monotonic() + ASK_AGAIN_S
            return set()

    async def _settle(
        self, looks: Sequence[Look], following: Look | None, tellings: list[Telling]
    ) -> None:
        """Forget some looks; what they came to is in the journal, and folded here, by then.

        ``following`` is the look that comes after them, if there is one.
        """
        last = looks[-1].seq
        through = last if following is None or following.seq > last else last - 1
        if tellings and not await self._write(tellings, through):
            await asyncio.sleep(STALE_S)
            return
        for look in looks:
            if self._looks and self._looks[0] == look:
                self._looks.popleft()
        self._advanced()
        # Between looks the rest of the agent has its turn; and ends that come one upon the other are
        # written down together.
        await asyncio.sleep(GATHER_S if tellings else 0)

    async def _write(self, tellings: list[Telling], through: int) -> bool:
        """Write who is to be told; return whether it is so by now."""
        event = NoticesQueued(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            tellings=tuple(tellings),
            through=through,
        )
        try:
            seq = await persist_leading(
                "notices", lambda: self._journal.append(event, fence=self.fence())
            )
            await self._world.reached(seq, FOLD_S)
        except TimeoutError:
            logger.info("notices are written down, and not folded yet")
            return False
        except InputError as error:
            # Beyond what an event may hold: nobody could write it, and the next ones go on.
            logger.warning("notices cannot be written down: %s", error.message)
        return True
