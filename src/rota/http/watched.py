"""Requests as they are counted and logged: outside of all that answers them."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from rota.service.context import Service
from rota.service.log_fields import about

logger = logging.getLogger("rota.http.requests")

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

#: By which a request is found in logs, ours and those of a proxy.
REQUEST_ID = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_PATH = 300

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def watched(service: Service) -> Any:
    """Return the middleware that counts requests, once somebody looks at the counts."""
    counts = service.counts
    prefix, numbers = secrets.token_hex(3), itertools.count(1)

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        id_ = _given_id(request) or f"{prefix}-{next(numbers):x}"
        about(request=id_)
        is_logged = logger.isEnabledFor(logging.INFO)
        if not counts.is_on and not is_logged:
            return _marked(await handler(request), id_)
        began, status = service.clock.monotonic(), GONE
        try:
            response = _marked(await handler(request), id_)
            status = response.status
        finally:
            name = request.get(VERB) or _beside(request.path)
            took = service.clock.monotonic() - began
            # Who waits for something is told as late as he asked for.
            is_timed = name not in STREAMS and "wait" not in request.query
            if counts.is_on:
                counts.answered(name, status, took if is_timed else None)
            if is_logged:
                _log(request, name, status, took)
        return response

    return watch


def _beside(path: str) -> str:
    return next((name for start, name in _BESIDE.items() if path.startswith(start)), "other")


def _given_id(request: web.Request) -> str:
    """Return the id that who sent the request, such as a proxy, gave it; empty if none, or no id."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else ""


def _marked(response: web.StreamResponse, id_: str) -> web.StreamResponse:
    """Let who was refused something name the request: its lines in the log have the id."""
    if response.status >= web.HTTPBadRequest.status_code and not response.prepared:
        response.headers[REQUEST_ID] = id_
    return response


def _log(request: web.Request, verb: str, status: int, took_s: float) -> None:
    # As it was sent, so that it is one line; without its query, which may have anything in it.
    path = request.rel_url.raw_path[:MAX_PATH]
    fields = {"verb": verb, "status": str(status), "ms": f"{took_s * 1000:.1f}"}
    logger.info("%s %s", request.method, path, extra={"fields": fields})
