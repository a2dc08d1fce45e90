"""How often one caller may ask: who asks more often is told when to come again.

Each agent counts by itself, in memory. Who asks over the agent's own Unix socket and is no build is not
counted: he could end the agent as well.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Literal

from aiohttp import web

from rota.core.job import Rate
from rota.core.rates import after, opens_at
from rota.core.settings import RestSettings
from rota.errors import TooManyError
from rota.http.connections import address_of
from rota.service.context import Principal

Kind = Literal["requests", "events", "calls", "logins", "strangers"]

#: So many callers are told apart; who asked longest ago is forgotten first.
MAX_CALLERS = 10_000
#: Of one caller: logs and events that are followed, shells, files on their way.
MOST_STREAMS = 100
#: Wrong credentials from one address. A credential that is good is never refused for them.
STRANGERS = Rate(30, 60.0)
#: Steps of logging in from one address: each asks a provider of identities something.
LOGINS = Rate(120, 60.0)
_WORDS: dict[Kind, str] = {
    "requests": "requests",
    "events": "events",
    "calls": "calls of this webhook",
    "logins": "requests for logging in",
    "strangers": "requests without a good credential",
}


class Rates:
    """Counts what callers ask, by kind.

    Args:
        settings: What the settings allow now.
        now: Seconds that only rise.
        refused: Is told each refusal's kind.
    """

    def __init__(
        self,
        settings: Callable[[], RestSettings],
        now: Callable[[], float],
        refused: Callable[[str], None],
    ) -> None:
        self._settings, self._now, self._refused = settings, now, refused
        self._used: OrderedDict[tuple[Kind, str], float] = OrderedDict()
        self._open: Counter[str] = Counter()

    def admit(self, request: web.Request, who: Principal) -> None:
        """Count a request of a known caller.

        Raises:
            TooManyError: there were too many of late.
        """
        caller = _caller(request, who)
        if caller:
            self._take("requests", caller, self._settings().requests)

    @contextlib.contextmanager
    def listening(self, request: web.Request, who: Principal) -> Iterator[None]:
        """Count an answer that goes on, for as long as the context is open; see :meth:`admit`.

        One that is not read holds a megabyte or two: a piece of a log, and what is on its way.
        """
        caller = _caller(request, who)
        if caller and self._open[caller] >= MOST_STREAMS:
            self._refused("streams")
            raise TooManyError(
                f"too many answers that go on: {MOST_STREAMS} are open for you",
                after_s=5,
                hint="close some, or wait as long as Retry-After says",
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def emitted(self, request: web.Request, who: Principal) -> None:
        """Count an event that a caller makes up; see :meth:`admit`. Builds are counted in any case."""
        caller = _caller(request, who)
        if caller:
            self._take("events", caller, self._settings().events)

    def called(self, hook: str) -> None:
        """Count a call of a webhook, before it is read; see :meth:`admit`."""
        self._take("calls", hook, self._settings().calls)

    def logging_in(self, request: web.Request) -> None:
        """Count what somebody asks who is nobody yet, and logs in; see :meth:`admit`."""
        address = address_of(request.transport)
        if address:
            self._take("logins", address, LOGINS)

    def failed(self, request: web.Request) -> None:
        """Count a request without a good credential; see :meth:`admit`."""
        address = address_of(request.transport)
        if address:
            self._take("strangers", address, STRANGERS)

    def _take(self, kind: Kind, caller: str, rate: Rate) -> None:
        now, key = self._now(), (kind, caller)
        used = self._used.get(key, 0.0)
        opens = opens_at(used, rate)
        if opens > now:
            self._refused(kind)
            raise TooManyError(
                f"too many {_WORDS[kind]}: {rate.count} in {rate.per_s:g} s are taken",
                after_s=max(1, math.ceil(opens - now)),
                hint="wait as long as Retry-After says",
            )
        self._used[key] = after(used, rate, now)
        self._used.move_to_end(key)
        while len(self._used) > MAX_CALLERS:
            self._used.popitem(last=False)


def _caller(request: web.Request, who: Principal) -> str:
    """Return by what a caller is counted; nothing for one who is not."""
    if who.peer and who.peer == who.name:
        return ""  # an agent: who asked it was counted there
    if who.build:
        return f"build {who.build}"
    if who.builds or address_of(request.transport):
        return f"token {who.token}" if who.token else f"name {who.name}"
    return ""
