"""The leader's duty to keep the engine's servers as many as they should be, one step at a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence

from rota.core.events import Known, VoterAppointed, VoterDismissed
from rota.core.voters import (
    NEVER_CAME,
    Appoint,
    Dismiss,
    Evacuate,
    Ranks,
    Remove,
    Replicate,
    Seat,
    Step,
    Wait,
    next_step,
)
from rota.errors import StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.ensemble import Ensemble
from rota.ports.journal import Journal
from rota.service.ticks import tick
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Between looks: while something is under way, and while all is as it should be.
SOON_S = 0.2
PATROL_S = 3.0
#: So many of these pass between looks while there is no other agent: nobody could be given a server, or lose one.
LONE_PATROLS = 10
#: How long a server may take to hand over what it keeps, before it is asked again.
EVACUATE_S = 10.0
#: How often copies are compared.
COMPARE_S = 60.0


class Membership:
    """Looks, chooses a step, does it, looks again. :meth:`run` is a duty."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        ensemble: Ensemble,
        clock: Clock,
        silent: Callable[[], Mapping[str, float]],
        leads: Callable[[], bool],
        fence: Callable[[], int],
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._ensemble, self._clock = ensemble, clock
        self._silent, self._leads, self._fence = silent, leads, fence
        self._absent: dict[str, float] = {}
        self._failed: set[str] = set()
        self._damaged: frozenset[str] = frozenset()
        self._compared_at = clock.monotonic()

    async def run(self) -> None:
        """Bring the ensemble to what it should be, and keep it there, for ever."""
        said: Step | None = None
        while True:
            try:
                step = await self._look()
                if step is not None and step != said:
                    logger.info("the engine: %s", step)
                said = step
                if step is not None:
                    await self._do(step)
            except StaleError:
                step = None  # another agent leads; this task is about to be told
            except UnavailableError as error:
                logger.info("the engine cannot change now: %s", error.message)
                step = None
            await self._rest(step)

    async def _rest(self, step: Step | None) -> None:
        """Return when it is time to look again: at the latest so long after another agent has come."""
        for _ in range(LONE_PATROLS):
            await tick(PATROL_S if step is None else SOON_S)
            if step is not None or len(self._world.cluster.picture.agents) > 1:
                return

    async def _look(self) -> Step | None:
        seats = await self._ensemble.seats()
        copies, is_whole = await self._ensemble.copies()
        picture, settings = self._world.cluster.picture, self._world.definitions.settings
        await self._compare()
        self._note_absent(seats)
        now = self._clock.monotonic()
        return next_step(
            Ranks(
                voters=picture.voters,
                agents=picture.agents,
                silent=self._silent(),
                seats=seats,
                copies=copies,
                is_whole=is_whole,
                damaged=self._damaged,
                absent={server: now - since for server, since in self._absent.items()},
                failed=self._failed,
                limit=settings.voters,
                lost_after_s=settings.agents.lost_after_s,
                replace_after_s=settings.agents.replace_after_s,
            )
        )

    def _note_absent(self, seats: Sequence[Seat]) -> None:
        well = {seat.server for seat in seats if seat.is_current and not seat.is_offline}
        servers = {voter.server for voter in self._world.cluster.picture.voters.values()}
        now = self._clock.monotonic()
        self._absent = {name: self._absent.get(name, now) for name in servers - well}

    async def _compare(self) -> None:
        now = self._clock.monotonic()
        if now - self._compared_at < COMPARE_S:
            return
        self._compared_at = now
        damaged = frozenset(await self._ensemble.damaged())
        for server in damaged - self._damaged:
            logger.error("the copies of server %s lack what others have: it is replaced", server)
        self._damaged = damaged

    async def _do(self, step: Step) -> None:
        # The engine knows no fence: look once more, for this task may have slept since it looked.
        if not self._leads():
            raise StaleError("this agent leads no more")
        match step:
            case Appoint():
                server = f"a-{secrets.token_hex(8)}"
                await self._write(
                    VoterAppointed(
                        at=self._clock.now(),
                        by=self._name,
                        agent=self._name,
                        name=step.agent,
                        server=server,
                    )
                )
            case Dismiss():
                if step.why == NEVER_CAME:
                    self._failed.add(step.agent)
                await self._write(
                    VoterDismissed(
                        at=self._clock.now(),
                        by=self._name,
                        agent=self._name,
                        name=step.agent,
                        server=step.server,
                        why=step.why,
                    )
                )
            case Remove():
                await self._ensemble.remove(step.server)
                await self._dismiss_owner(step.server, "its server was lost")
            case Evacuate():
                await self._evacuate(step.server)
            case Replicate():
                await self._ensemble.replicate(step.copies)
            case Wait():
                pass

    async def _evacuate(self, server: str) -> None:
        await self._ensemble.evacuate(server)
        for _ in range(round(EVACUATE_S / SOON_S)):
            if not await self._ensemble.keeps(server):
                break
            await asyncio.sleep(SOON_S)
        else:
            raise UnavailableError(f"server {server} still keeps copies")
        await self._ensemble.remove(server)
        await self._dismiss_owner(server, "it handed over what it kept")

    async def _dismiss_owner(self, server: str, why: str) -> None:
        for voter in self._world.cluster.picture.voters.values():
            if voter.server == server:
                await self._do(Dismiss(voter.agent, server, why))
                return

    async def _write(self, event: Known) -> None:
        """Append what only a leader may, and wait until it is folded here."""
        seq = await self._journal.append(event, fence=self._fence())
        try:
            await self._world.reached(seq, EVACUATE_S)
        except TimeoutError:
            raise UnavailableError("this agent lags behind the journal") from None
