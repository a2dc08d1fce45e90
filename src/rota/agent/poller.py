"""A leader's duty beside all others: it looks for pushes in the repositories that jobs poll.

One look for each repository, however many jobs it has; the first one after a while of its own, so
that a new leader does not ask all servers at once. A server that does not answer is asked more and
more seldom, is told of as a trouble, and holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from rota.agent.patience import persist
from rota.core.polling import MAX_REFS, Poll, news
from rota.core.scm import shown
from rota.errors import RotaError, StaleError, UnavailableError
from rota.ports.checkout import Checkout
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.service.world import World

logger = logging.getLogger(__name__)

AT_ONCE = 8
LOOK_S = 60.0
MAX_BACKOFF = 32
FOLD_S = 10.0
#: The first look of a new leader is put off by so much at most.
SPREAD_S = 5.0


class Poller:
    """Looks while this agent leads: :meth:`run` is the duty."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        checkout: Checkout,
        wanted: Callable[[], Mapping[str, Poll]],
    ) -> None:
        self._name, self._world, self._journal, self._clock = name, world, journal, clock
        self._checkout, self._wanted = checkout, wanted
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._polls: Mapping[str, Poll] = {}

    def changed(self) -> None:
        """The definitions are others by now."""
        self._changed.set()

    async def run(self) -> None:
        """Look, for ever."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._changed.clear()
                    self._polls = self._wanted()
                    for url in running.keys() - self._polls.keys():
                        running.pop(url).cancel()
                        self._world.troubles.pop(_trouble(url), None)
                    for url in self._polls.keys() - running.keys():
                        running[url] = group.create_task(self._attend(url), name=f"poll {url}")
                    await self._changed.wait()
        finally:
            for url in running:
                self._world.troubles.pop(_trouble(url), None)

    async def _attend(self, url: str) -> None:
        failures = 0
        every_s = self._polls[url].every_s
        await asyncio.sleep(_share(url) * min(SPREAD_S, every_s))
        while True:
            try:
                async with self._room:
                    await self._look(self._polls[url])
            except (RotaError, TimeoutError) as error:
                failures += 1
                why = (
                    error.message if isinstance(error, RotaError) else f"no answer in {LOOK_S:g} s"
                )
                self._world.troubles[_trouble(url)] = f"cannot look for pushes: {why}"
                logger.warning("cannot look for pushes in %s: %s", shown(url), why)
            else:
                failures = 0
                self._world.troubles.pop(_trouble(url), None)
            poll = self._polls.get(url)
            if poll is None:
                return
            await asyncio.sleep(poll.every_s * min(2**failures, MAX_BACKOFF))

    async def _look(self, poll: Poll) -> None:
        """Look once, and write what is new.

        Raises:
            RotaError: the other side, or the journal, does not answer.
        """
        async with asyncio.timeout(LOOK_S):
            refs = await self._checkout.refs(poll.url)
        if sum(map(poll.follows, refs)) > MAX_REFS:
            raise UnavailableError(
                f"{shown(poll.url)} has more than {MAX_REFS} branches and tags that jobs wait for",
                hint="wait for fewer, or let it tell by a webhook: rota hook",
            )
        tips = self._world.cluster.picture.tips
        found = list(news(poll, refs, tips, at=self._clock.now(), agent=self._name))
        last = 0
        for event in found:
            with suppress(StaleError):  # written before, by another leader or by us
                last = await persist("poll", partial(self._journal.append, event, expect=0))
        if last:
            await self._world.reached(last, FOLD_S)


def _trouble(url: str) -> str:
    return f"poll {shown(url)}"


def _share(url: str) -> float:
    return hashlib.sha256(url.encode()).digest()[0] / 256
