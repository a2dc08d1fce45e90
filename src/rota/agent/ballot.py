"""Keeps this agent's part in the engine in step with what the journal says of voters.

It lets the members in and nobody else, starts a server when it is appointed, says where that
listens, and ends it when it is dismissed. All of it is read off the picture: what was missed while
this agent was away is made up for by looking once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rota.agent.patience import persist
from rota.core.events import VoterListening
from rota.core.voter import Voter
from rota.errors import UnavailableError
from rota.ports.clock import Clock
from rota.ports.ensemble import Ensemble
from rota.ports.journal import Journal
from rota.ports.voting import Server, Voting
from rota.service.world import World

logger = logging.getLogger(__name__)

RETRY_S = 2.0


class Ballot:
    """This agent and its server. :meth:`run` is its task; ``host`` is where others reach it."""

    def __init__(
        self,
        *,
        name: str,
        host: Callable[[], str],
        world: World,
        journal: Journal,
        voting: Voting,
        ensemble: Ensemble | None,
        clock: Clock,
    ) -> None:
        self._name, self._host, self._world = name, host, world
        self._journal, self._voting, self._clock = journal, voting, clock
        self._ensemble = ensemble
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Voters or members changed: look again. Call it once the journal was caught up with too."""
        self._changed.set()

    async def run(self) -> None:
        """Follow what is decided, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow()
            except UnavailableError as error:
                logger.warning("the engine: %s", error.message)
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _follow(self) -> None:
        picture = self._world.cluster.picture
        pins = {agent.name: agent.pin for agent in picture.agents.values() if agent.pin}
        mine = picture.voters.get(self._name)
        if picture.voters:
            coming = {it.name: it.coming for it in picture.agents.values() if it.coming}
            await self._voting.know(tuple(picture.voters.values()), pins, coming)
        server = self._voting.server
        if mine is None and server is None:
            return
        if mine is None and picture.voters:
            logger.info("%s is no voter any more", self._name)
            await self._give_up_seat(server)
            await self._voting.retire()
            return
        if mine is None and server is not None:
            await self._say(server)  # the first server of a cluster: nobody was there to appoint it
            return
        assert mine is not None
        if server is None or server.name != mine.server:
            logger.info("%s becomes a voter: server %s", self._name, mine.server)
            server = await self._voting.join(mine.server, self._host())
        if _voter(self._name, server) != mine:
            await self._say(server)

    async def _give_up_seat(self, server: Server | None) -> None:
        """Take the own server out of its group while it is up: it may have come in late.

        Ended with a seat, it would be missed at each election for ever.
        """
        if server is None or self._ensemble is None:
            return
        seats = await self._ensemble.seats()
        if any(seat.server == server.name for seat in seats) and len(seats) > 1:
            await self._ensemble.remove(server.name)

    async def _say(self, server: Server) -> None:
        event = VoterListening(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            server=server.name,
            host=server.host,
            client=server.client,
            route=server.route,
        )
        await persist("voter", lambda: self._journal.append(event))


def _voter(name: str, server: Server) -> Voter:
    return Voter(
        agent=name,
        server=server.name,
        host=server.host,
        client=server.client,
        route=server.route,
    )
