"""Requests as they are counted: outside of all that answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from rota.service.context import Service

#: The verb of a request, once its route is known.
VERB: web.RequestKey[str] = web.RequestKey("verb", str)

#: Paths beside the table of verbs, by what they begin with.
_BESIDE = {
    "/store.git": "git",
    "/v1/hooks/": "hook",
    "/peer/": "peer",
    "/metrics": "metrics",
    "/health": "health",
    "/openapi.json": "openapi",
}
#: Answers that go on, whose time says how long somebody listened.
STREAMS = frozenset({"events", "log", "shell", "grep", "artifact", "keep", "git"})
#: What is said of a caller that went away first.
GONE = 499

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def watched(service: Service) -> Any:
    """Return the middleware that counts requests, once somebody looks at the counts."""
    counts = service.counts

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not counts.is_on:
            return await handler(request)
        began, status = service.clock.monotonic(), GONE
        try:
            response = await handler(request)
            status = response.status
        finally:
            name = request.get(VERB) or _beside(request.path)
            took = service.clock.monotonic() - began
            # Who waits for something is told as late as he asked for.
            is_timed = name not in STREAMS and "wait" not in request.query
            counts.answered(name, status, took if is_timed else None)
        return response

    return watch


def _beside(path: str) -> str:
    return next((name for start, name in _BESIDE.items() if path.startswith(start)), "other")
