"""What an answer says beside itself: who gave it, who else is there, and as of when.

``Rota-Agents`` names other agents that are up, so that a caller can go on at one of them. ``Rota-Seq``
is the journal's sequence that the answer knows of; a caller that sends it along, here or elsewhere,
is answered by an agent that knows as much. ``Rota-Stale-Since`` stands where no quorum was heard of
since: the answer is as of that time.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC
from urllib.parse import urlsplit

from aiohttp import web

from rota.core.agents import Agent
from rota.errors import UnavailableError
from rota.http.arguments import header_text, number_in
from rota.service.context import Service

SEQ = "Rota-Seq"
#: More agents than this are not named: any of them names the others.
MAX_NAMED = 8
#: How long what was found holds: with a thousand agents looking costs a fraction of a millisecond.
FRESH_S = 1.0
#: How long a caller that knows more than this agent is kept waiting.
LAG_S = 2.0
_LOOPBACK = ("127.", "localhost", "::1")


class Company:
    """Writes the headers of answers to callers who may know."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._named, self._named_at = "", -FRESH_S

    def tell(self, response: web.StreamResponse) -> None:
        """Add the headers to an answer that is about to begin."""
        world = self._service.world
        response.headers["Rota-Agent"] = self._service.me.name
        response.headers["Rota-Agents"] = self._others()
        response.headers[SEQ] = str(world.seq)
        if world.stale_since is not None:
            since = world.stale_since.astimezone(UTC).replace(tzinfo=None)
            response.headers["Rota-Stale-Since"] = f"{since.isoformat(timespec='seconds')}Z"

    async def catch_up(self, request: web.Request) -> None:
        """Return once this agent has folded what the caller has seen already.

        Raises:
            InputError: what the caller says is no sequence.
            UnavailableError: not within a short time.
        """
        text = header_text(request, SEQ)
        if not text:
            return
        seq = number_in(text, SEQ, "a number, as an answer gave it")
        world = self._service.world
        try:
            await world.reached(seq, LAG_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"{self._service.me.name} is at event {world.seq} and lags behind event {text},"
                " which the caller has seen",
                hint="try again in a moment, or at another agent",
            ) from error

    def _others(self) -> str:
        now = asyncio.get_running_loop().time()
        if now - self._named_at >= FRESH_S:
            agents = self._service.world.cluster.picture.agents
            self._named, self._named_at = named(self._service.me.name, agents), now
        return self._named


def named(me: str, agents: dict[str, Agent]) -> str:
    """Return the URLs of other agents that are up, some by chance if there are many.

    An agent on the same host that serves its people on loopback alone is named by that, too.
    """
    others = [agent for agent in agents.values() if agent.is_up and agent.name != me]
    if len(others) > MAX_NAMED:
        others = random.sample(others, MAX_NAMED)
    mine = agents.get(me)
    host = mine.host if mine is not None else ""
    return " ".join(url for agent in others for url in _urls(agent, host))


def _urls(agent: Agent, host: str) -> list[str]:
    name = urlsplit(agent.url).hostname or ""
    is_here = agent.host == host and name.startswith(_LOOPBACK)
    return [url for url in (agent.url if is_here else "", agent.peer) if url]
