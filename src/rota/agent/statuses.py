"""A leader's duty beside all others: forges are told how the builds are that came from them.

What is to be told is in the picture: builds whose trigger came from a forge, and what it knows. So a
new leader goes on where the former one was; at most something is said twice. Each forge has a queue
of its own and is told one thing at a time, what is true by then: nothing overtakes. A forge that
does not answer holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rota.agent.patience import persist_leading
from rota.core.backoff import Backoff
from rota.core.build import Build
from rota.core.events import StatusPosted
from rota.core.fold import Change
from rota.core.settings import Forge
from rota.core.statuses import (
    Target,
    authorization,
    is_taken,
    may_help_again,
    post_of,
    state_of,
    target_of,
)
from rota.errors import LaterError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.forges import Forges
from rota.ports.journal import Entry, Journal
from rota.service.world import World

logger = logging.getLogger(__name__)

POST_S = 10.0
#: A forge that took nothing for so long after a build's end will not be told of it any more.
GIVE_UP_S = 6 * 3600.0
FOLD_S = 10.0


class Statuses:
    """Tells forges while this agent leads: :meth:`run` is the duty, :meth:`folded` is for the loop."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        forges: Forges,
        base: Callable[[], str],
    ) -> None:
        """Make one.

        Args:
            name: This agent's.
            world: Says what is to be told.
            journal: What was told is written there.
            clock: For the time of events, and to give up.
            forges: Are told.
            base: Returns the URL under which people find builds.
        """
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._forges, self._base = clock, forges, base
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self._hosts: dict[str, dict[str, None]] = {}
        self._woken: dict[str, asyncio.Event] = {}
        self._news = asyncio.Event()
        self._changed: dict[str, None] = {}

    def folded(self, entry: Entry, change: Change) -> None:
        """Note builds of which a forge is to be told; returns at once."""
        owed = self._world.cluster.picture.statuses
        for build in change.builds:
            if build.id in owed:
                self._changed[build.id] = None
                self._news.set()

    async def run(self) -> None:
        """Tell forges, for ever."""
        self._hosts.clear()
        self._woken.clear()
        self._changed = dict.fromkeys(self._world.cluster.picture.statuses)
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                while self._changed:
                    build_id = next(iter(self._changed))
                    del self._changed[build_id]
                    await self._sort(group, build_id)
                await self._news.wait()

    async def _sort(self, group: asyncio.TaskGroup, build_id: str) -> None:
        """Put a build into the queue of its forge."""
        build = self._world.find(build_id)
        if build is None:
            await self._record(build_id, "?", final=True, why="the build is gone")
            return
        target = target_of(build, self._world.definitions.settings.forge)
        if isinstance(target, str):
            await self._record(build_id, state_of(build)[0], final=True, why=target)
            return
        queue = self._hosts.setdefault(target.host, {})
        queue.setdefault(build_id, None)
        if target.host not in self._woken:
            self._woken[target.host] = asyncio.Event()
            group.create_task(self._attend(target.host), name=f"forge {target.host}")
        self._woken[target.host].set()

    # -- one forge --------------------------------------------------------------------------------

    async def _attend(self, host: str) -> None:
        """Tell one forge all that is to be told, one after the other, for ever."""
        queue, woken = self._hosts[host], self._woken[host]
        backoff = Backoff()
        doubtful: set[Target] = set()
        while True:
            if not queue:
                await woken.wait()
                woken.clear()
                continue
            build_id = next(iter(queue))
            try:
                await self._tell(build_id, doubtful)
            except UnavailableError as error:
                after_s = error.after_s if isinstance(error, LaterError) else 0.0
                wait_s = backoff.failed(after_s)
                self._trouble(host, error.message)
                # Others of the same forge first: one that it cannot take holds up none of them.
                queue[build_id] = queue.pop(build_id)
                await asyncio.sleep(wait_s)
            else:
                backoff.went_well()
                queue.pop(build_id, None)
                if self._is_owed(build_id):
                    queue[build_id] = None  # it moved on meanwhile

    def _is_owed(self, build_id: str) -> bool:
        """Whether a forge knows less of a build than there is to know."""
        told = self._world.cluster.picture.statuses.get(build_id)
        build = self._world.find(build_id)
        return told is not None and build is not None and state_of(build)[0] != told

    async def _tell(self, build_id: str, doubtful: set[Target]) -> None:
        """Tell the forge how a build is now, and write that down.

        Raises:
            UnavailableError: it did not take it; trying again may help.
        """
        build = self._world.find(build_id)
        if build is None or not self._is_owed(build_id):
            return
        state, is_final = state_of(build)
        settings = self._world.definitions.settings.forge
        target = target_of(build, settings)
        if isinstance(target, str) or self._is_outdone(build, target):
            why = (
                target
                if isinstance(target, str)
                else "a newer build of the job speaks for the commit"
            )
            await self._record(build_id, state, final=True, why=why)
            return
        try:
            fault = await self._post(target, build, state, settings.get(target.host, Forge()))
            if is_final and target in doubtful and not fault:
                # What was sent before and got no answer may still arrive: say the last word last.
                await asyncio.sleep(POST_S)
                await self._post(target, build, state, settings.get(target.host, Forge()))
        except UnavailableError as error:
            doubtful.add(target)
            if is_final and self._is_too_old(build):
                await self._record(build_id, state, final=True, why=f"given up: {error.message}")
                return
            raise
        if is_final:
            doubtful.discard(target)
        if fault:
            self._trouble(target.host, fault)
        else:
            self._world.troubles.pop(f"forge {target.host}", None)
        await self._record(
            build_id, state, final=is_final or fault.startswith("no token"), why=fault
        )

    async def _post(self, target: Target, build: Build, state: str, forge: Forge) -> str:
        """Send one status; return why it is refused for good, if it is."""
        scheme = target.api.partition("://")[0]
        where = f"{scheme}://{target.host}"
        token = await self._forges.token(where, forge.token_file)
        if not token:
            return (
                f"no token for {target.host}: `git credential fill` has none on {self._name};"
                f' store one there, or set [forge."{target.host}"] token_file in settings.toml'
            )
        post = post_of(target, build, state, f"{self._base()}/v1/builds/{build.id}")
        reply = await self._forges.post(post, authorization(target, token), within_s=POST_S)
        if is_taken(target, reply.status, reply.text):
            return ""
        text = " ".join(reply.text.split())[:200]
        said = f"{target.host} answers {reply.status}" + (f": {text}" if text else "")
        if may_help_again(reply.status):
            raise LaterError(said, after_s=reply.retry_after_s or 0.0)
        if reply.status in (401, 403):
            self._forges.forget(where)
        return said

    def _is_outdone(self, build: Build, target: Target) -> bool:
        """Whether a newer build speaks for the same commit and job."""
        settings = self._world.definitions.settings.forge
        for other_id in self._world.cluster.picture.statuses:
            other = self._world.cluster.picture.builds.get(other_id)
            if (
                other is not None
                and other.job == build.job
                and other.requested_seq > build.requested_seq
                and target_of(other, settings) == target
            ):
                return True
        return False

    def _is_too_old(self, build: Build) -> bool:
        end = build.finished_at
        return end is not None and (self._clock.now() - end).total_seconds() > GIVE_UP_S

    def _trouble(self, host: str, text: str) -> None:
        key = f"forge {host}"
        if self._world.troubles.get(key) != text:
            logger.warning("statuses: %s", text)
        self._world.troubles[key] = text

    async def _record(self, build_id: str, state: str, *, final: bool, why: str = "") -> None:
        """Write down what a forge was told, and return once this agent has folded it."""
        event = StatusPosted(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            build=build_id,
            state=state,
            final=final,
            why=why,
        )
        seq = await persist_leading(
            "status", lambda: self._journal.append(event, fence=self.fence())
        )
        try:
            await self._world.reached(seq, FOLD_S)
        except TimeoutError:
            logger.info("a status is written down, and not folded yet")
