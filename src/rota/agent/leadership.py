"""The lease: stand for election when nobody leads, beat while leading, stop when no quorum hears.

Who leads is what the journal says last under the key ``leader``; this agent's duties end as soon as
that is another, and before: when its last beat that a quorum took is too old for others to wait any
longer. Clocks are this agent's own and never go back; nothing rests on those of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import Callable

from rota.core.agents import Agent
from rota.core.decide import expected
from rota.core.events import LeaderElected, LeaderResigned
from rota.errors import StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.ports.lease import Beat, Lease
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Others wait so long after the last beat before they stand for election.
LEASE_S = 2.5
BEAT_S = LEASE_S / 4
#: A leader stops by itself this long after it sent its last good beat.
HOLD_S = 0.8 * LEASE_S
#: Candidates do not stand all at once: the journal takes one, the others would only ask in vain.
SPREAD_S = 0.2
#: So often a candidate looks, and stands again where the journal did not answer.
LOOK_S = 0.1
STAND_S = 2.0


def _may_lead(agent: Agent) -> bool:
    """Whether an agent may stand: one that comes and goes with its machine never leads."""
    return agent.is_up and not agent.leaving and not agent.ephemeral


class Leadership:
    """This agent's part in the lease. :meth:`run` is its task."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        lease: Lease | None,
        clock: Clock,
        journal_first: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._lease, self._clock = lease, clock
        self._journal_first, self._changed = journal_first, changed
        self._heard_at = self._looked_at = clock.monotonic()
        self._held_until = 0.0
        self._token = 0
        self._stood_at = 0.0
        self._is_standing = False
        self._told = 0  # the election of which the others know
        self._is_over = False

    @property
    def fence(self) -> int:
        """What a write of this leader is fenced by; another election makes it worthless."""
        return expected(self._token, self._journal_first())

    @property
    def leads(self) -> bool:
        """Whether the duties are this agent's, as far as it can know."""
        picture = self._world.cluster.picture
        is_mine = self._token > 0 and picture.leader_seq == self._token
        if not is_mine or picture.leader != self._name:
            return False
        return self._is_alone() or self._clock.monotonic() < self._held_until

    @property
    def election(self) -> int:
        """The election that this agent leads by, as far as it can know; 0 if it does not lead."""
        return self._token if self.leads else 0

    def noted(self, seq: int, event: LeaderElected | LeaderResigned) -> None:
        """Take note of an election or a resignation, as it is folded."""
        self._heard_at = self._clock.monotonic()
        if isinstance(event, LeaderElected) and event.agent == self._name and self._is_standing:
            # The answer to the own append may come later than its event, or be lost.
            self._token, self._held_until = seq, self._stood_at + HOLD_S
        self._tell()

    async def run(self) -> None:
        """Stand, beat and stop, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="lease heard")
            while True:
                if self._mine():
                    await self._beat()
                elif self._is_free():
                    await self.stand()
                else:
                    await asyncio.sleep(LOOK_S)
                self._tell()

    async def resign(self, why: str) -> None:
        """Give the duties up by plan, and do not stand again; nothing if they are another's."""
        self._is_over = True
        if not self._mine():
            return
        event = LeaderResigned(at=self._clock.now(), by=self._name, agent=self._name, why=why)
        token, self._token = self._expected(), 0
        with contextlib.suppress(StaleError, UnavailableError):
            await self._journal.append(event, expect=token)

    def _mine(self) -> bool:
        picture = self._world.cluster.picture
        return picture.leader == self._name and self._token == picture.leader_seq

    def _is_alone(self) -> bool:
        return self._world.cluster.picture.agents.keys() <= {self._name}

    async def _listen(self) -> None:
        if self._lease is None:
            return
        async with contextlib.aclosing(self._lease.follow()) as beats:
            async for beat in beats:
                if beat.token >= self._world.cluster.picture.leader_seq:
                    self._heard_at = self._clock.monotonic()
                    self._world.touch()

    async def _beat(self) -> None:
        sent = self._clock.monotonic()
        if self._lease is None or self._is_alone():
            self._held_until = sent + HOLD_S  # who joins now waits for a whole lease
            await asyncio.sleep(BEAT_S)
            return
        try:
            await self._lease.beat(Beat(self._name, self._token), within_s=HOLD_S)
        except UnavailableError:
            self._tell()
        else:
            self._held_until = sent + HOLD_S
            self._world.touch()
        await asyncio.sleep(max(0.0, sent + BEAT_S - self._clock.monotonic()))

    def _is_free(self) -> bool:
        """Whether this agent may stand: nobody leads, or who does was silent for a lease."""
        picture = self._world.cluster.picture
        myself = picture.agents.get(self._name)
        if self._is_over or myself is None or not _may_lead(myself):
            return False
        if not picture.leader or picture.leader == self._name or self._is_alone():
            return True
        return picture.leader not in picture.agents or self._silent_s() >= self._patience_s()

    def _silent_s(self) -> float:
        self._note_awake(LEASE_S / 2)
        return self._looked_at - self._heard_at

    def _note_awake(self, within_s: float) -> None:
        """Forget the silence if more than ``within_s`` seconds passed since the last look.

        Then it was this agent that slept, and what it missed says nothing.
        """
        now = self._clock.monotonic()
        if now - self._looked_at > within_s:
            self._heard_at = now
        self._looked_at = now

    def _patience_s(self) -> float:
        return LEASE_S + self._spread_s()

    def _spread_s(self) -> float:
        """Return this agent's own delay; another one for each election."""
        seed = f"{self._name} {self._world.cluster.picture.leader_seq}".encode()
        return zlib.crc32(seed) / 2**32 * SPREAD_S

    async def stand(self) -> None:
        """Try to be elected, once; return when the outcome is folded, or after a moment."""
        # What made this agent stand, and nothing that is folded while it waits for an answer: it
        # must not depose who was elected meanwhile.
        seen = self._world.cluster.picture.leader_seq
        event = LeaderElected(
            at=self._clock.now(), by=self._name, agent=self._name, why=self._why()
        )
        self._stood_at, self._is_standing = self._clock.monotonic(), True
        try:
            async with asyncio.timeout(STAND_S):
                # Asked anew: only the leader knows how far it has trimmed the journal.
                first, _ = await self._journal.bounds()
                token = await self._journal.append(event, expect=expected(seen, first))
                await self._world.reached(token, STAND_S)
        except StaleError:
            await self._news(seen)
        except (UnavailableError, TimeoutError):
            await asyncio.sleep(LOOK_S)
        finally:
            self._is_standing = False
            self._note_awake(STAND_S + LEASE_S)

    def _why(self) -> str:
        picture = self._world.cluster.picture
        if not picture.leader:
            return picture.leader_why or "nobody led"
        if picture.leader == self._name:
            return "it was started again, or lost its lease"
        if picture.leader not in picture.agents:
            return f"{picture.leader} left"
        return f"{picture.leader} was silent for {LEASE_S:g} s"

    def _expected(self) -> int:
        return expected(self._world.cluster.picture.leader_seq, self._journal_first())

    async def _news(self, seen: int) -> None:
        """Wait until somebody else's election is folded; that may be a moment away."""
        if self._world.cluster.picture.leader_seq != seen:
            return
        with contextlib.suppress(TimeoutError):
            await self._world.reached(self._world.seq + 1, LEASE_S)

    def _tell(self) -> None:
        election = self.election
        if election != self._told:
            self._told = election
            logger.info("%s %s", self._name, "leads" if election else "leads no more")
            self._changed()
