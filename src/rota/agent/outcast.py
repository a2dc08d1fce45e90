"""What an agent does that is no member any more: it ends its builds, and stops.

It was forgotten, or its key was revoked. Mostly it folds that as its last event; where it was cut off
before, nobody sends it anything, and it would run on for ever. So whoever has heard nothing of a
quorum for a while asks the others. That nobody answers proves nothing; a peer that cannot tell who
is a member by now says that it cannot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rota.errors import DeniedError, RotaError
from rota.ports.peers import Peer, Peers
from rota.service.members import known
from rota.service.ticks import tick
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Between looks; it asks nobody until it has been out of contact for as long.
LOOK_S = 5.0
#: How many are asked, voters first, and how long each may take.
ASKED = 7
ANSWER_S = 5.0


class Outcast:
    """Ends this agent once it is no member any more; :meth:`run` is its task.

    Args:
        name: This agent.
        world: For the members as they were last known, and since when nothing was heard.
        peers: How they are asked; ``None`` where there are none.
        end: Ends all that runs here, and returns when it is gone.
        stop: Stops the daemon.

    Costs nothing while a quorum is heard.
    """

    def __init__(
        self,
        name: str,
        world: World,
        peers: Peers | None,
        end: Callable[[], Awaitable[None]],
        stop: Callable[[], None],
    ) -> None:
        self._name, self._world, self._peers = name, world, peers
        self._end, self._stop = end, stop
        self.look_s = LOOK_S
        self._was_member = False

    async def run(self) -> None:
        """Wait until it is no member any more; then end what runs, and stop."""
        by = await self._expelled_by()
        while not by:
            await tick(self.look_s)
            by = await self._expelled_by()
        logger.error(
            "%s is no member of its cluster any more, says %s: it ends what it runs, and stops; to"
            " join again: empty its data folder, then rota agent --join TOKEN",
            self._name,
            by,
        )
        await self._end()
        self._stop()

    async def _expelled_by(self) -> str:
        """Return who says that this agent is no member any more, empty if it may be one."""
        if self._name in self._world.cluster.picture.agents:
            self._was_member = True
        elif self._was_member:
            return "the journal"
        contact = self._world.contact
        if self._peers is None or contact is None or contact.silent_s() < self.look_s:
            return ""
        voters = self._world.cluster.picture.voters
        asked = known(self._world).peers(besides=self._name)
        asked = sorted(asked, key=lambda peer: peer.name not in voters)[:ASKED]
        answers = await asyncio.gather(*(self._is_denied(self._peers, peer) for peer in asked))
        denying = [peer.name for peer, denied in zip(asked, answers, strict=True) if denied]
        if len(denying) * 2 <= len(asked) or False in answers:
            return ""
        return ", ".join(denying)

    async def _is_denied(self, peers: Peers, peer: Peer) -> bool | None:
        """Return whether a peer says that this is no member; ``None`` if it says nothing."""
        try:
            await peers.request(peer, "GET", "/peer/voters", within_s=ANSWER_S)
        except DeniedError:
            return True
        except RotaError:
            return None
        return False
