"""Who is being answered right now: so that who loses the right to ask loses what is open, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import NamedTuple

from aiohttp import web

from rota.core.events import AgentJoined, AgentLeft, TokenRevoked
from rota.errors import RotaError
from rota.http.access import Authenticate
from rota.ports.journal import Entry
from rota.service.context import Principal

logger = logging.getLogger(__name__)

#: After these somebody may have no credential any more who had one.
ENDING = (AgentLeft, AgentJoined, TokenRevoked)
#: No answer is open for longer than a timer can wait.
MAX_TIMER_S = 30 * 86400.0


class _Caller(NamedTuple):
    """A request that is answered, and who asked as it began."""

    request: web.Request
    who: Principal


class Callers:
    """The requests that are being answered. Idle connections are in none: the next request asks."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._open: dict[int, _Caller] = {}  # by identity: requests have no hash

    @contextlib.contextmanager
    def during(self, request: web.Request, who: Principal) -> Iterator[None]:
        """Count a request for as long as it is answered; what it shows may end before that."""
        key, timer = id(request), None
        self._open[key] = _Caller(request, who)
        if who.holds_s is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(min(who.holds_s, MAX_TIMER_S), self._look, key)
        try:
            yield
        finally:
            del self._open[key]
            if timer is not None:
                timer.cancel()

    def noted(self, entry: Entry) -> None:
        """Take note of a folded event; call it once the picture has it."""
        if isinstance(entry.event, ENDING):
            self.recheck()

    def recheck(self) -> int:
        """Cut off all whose credential holds no more, or who may something else than they might.

        An answer that is being written breaks off: whoever may go on follows it anew. What changes
        something is brought to its end. Returns how many were cut off. Cost: 50 µs a request.
        """
        return sum(self._look(key) for key in tuple(self._open))

    def _look(self, key: int) -> bool:
        """Cut one off if need be; return whether that was so."""
        caller = self._open.get(key)
        if caller is None:
            return False
        request, was = caller
        if request.method == "DELETE":
            return False  # over in a moment; it may be the very request that ended what it shows
        try:
            now = self._authenticate(request)
        except RotaError as error:
            why = error.message
        else:
            # What changes something was judged as it began, and is at its end soon.
            if request.method != "GET" or (now.role, now.rights) == (was.role, was.rights):
                return False
            why = f"{now.name} may something else by now"
        logger.info("cut off %s %s: %s", request.method, request.path, why)
        if request.transport is not None:
            request.transport.abort()
        return True
