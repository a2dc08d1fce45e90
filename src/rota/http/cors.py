"""Pages of other origins that may read REST in a browser: cross-origin resource sharing.

A browser gives a page the answers of another origin only where that origin says so (Fetch Standard,
§ 3.2). Ours says so to the origins that the settings name, exactly, and to nobody else; never to all,
and never with the browser's own credentials: a page shows a token that a person gave it.
"""

from __future__ import annotations

from aiohttp import web

from rota.service.context import Service

#: What pages may read: the interface, but neither git nor what agents say among themselves.
_PATHS = ("/v1/", "/openapi.json", "/health")
#: What pages may send, beyond what any form can.
_SENT = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Rota-Seq",
    "traceparent",
)
#: What scripts may read of our answers' heads.
_SHOWN = (
    "Date",
    "ETag",
    "Link",
    "Retry-After",
    "Rota-Agent",
    "Rota-Agents",
    "Rota-First-Event",
    "Rota-Log-Offset",
    "Rota-Seq",
    "Rota-Stale-Since",
)
_METHODS = "GET, HEAD, POST, PUT, DELETE"
#: How long a browser remembers a yes; what was taken out of the settings is refused after that.
_REMEMBERED_S = 600


class Cors:
    """Answers what browsers ask before pages may, and marks what pages may read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def preflight(self, request: web.Request) -> web.Response | None:
        """Return the answer to a browser that asks for a page it may; ``None`` for anything else.

        It has no credential yet: that comes with the request it asks about.
        """
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        if self._origin(request) is None:
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": ", ".join(_SENT),
                "Access-Control-Max-Age": str(_REMEMBERED_S),
            },
        )

    def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page read this answer, if it may."""
        if not self._service.world.definitions.settings.rest.origins:
            return
        # A cache between must not give one page's answer to another.
        response.headers["Vary"] = "Origin"
        origin = self._origin(request)
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = ", ".join(_SHOWN)

    def _origin(self, request: web.Request) -> str | None:
        """Return who asks, if it is a page that may."""
        origin = request.headers.get("Origin")
        if origin is None or not request.path.startswith(_PATHS):
            return None
        allowed = self._service.world.definitions.settings.rest.origins
        return origin if origin in allowed else None
