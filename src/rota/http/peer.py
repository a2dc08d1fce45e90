"""What agents ask each other beside the verbs: to be admitted, who is there, the state as it is.

These routes are there over TLS alone, whatever else the application is served on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from rota.core.levels import FIRST
from rota.errors import DeniedError, InputError
from rota.http.app import PRINCIPAL, Handler
from rota.service.admission import Application, Gate, Renewal

T = TypeVar("T")

#: Parts of a request for a certificate come to 2 KB; nobody who is unknown may send much more.
MAX_APPLICATION = 64 << 10
MAX_DIGITS = 6


def add_peer_routes(
    app: web.Application, gate: Gate, snapshot: Callable[[], Awaitable[bytes]]
) -> None:
    """Add the routes for peers; ``snapshot`` returns the picture, encoded, once it is whole.

    Whole means: all that was sealed up to it is in the history.
    """

    async def ca(request: web.Request) -> web.Response:
        return web.Response(body=gate.ca(), content_type="application/x-pem-file")

    async def join(request: web.Request) -> web.Response:
        application = await _application(request, Application)
        # Not in the application: a door from before levels takes none with a field that it does not know.
        said = request.query.get("level", "")
        level = int(said) if said.isascii() and said.isdigit() and len(said) < MAX_DIGITS else FIRST
        return _json(await gate.admit(application, request.remote or "?", level))

    async def known(request: web.Request) -> web.Response:
        return _json(gate.known())

    async def clock(request: web.Request) -> web.Response:
        return _json(gate.clock())

    async def pins(request: web.Request) -> web.Response:
        return _json(gate.kept_pins())

    async def identities(request: web.Request) -> web.Response:
        return web.Response(text=gate.identities())

    async def keep(request: web.Request) -> web.Response:
        gate.keep_identities((await _body(request)).decode("ascii", "replace"))
        return web.Response()

    async def renew(request: web.Request) -> web.Response:
        renewal = await _application(request, Renewal)
        name = request[PRINCIPAL].peer
        return web.Response(
            body=await gate.renew(name, renewal), content_type="application/x-pem-file"
        )

    async def hold(request: web.Request) -> web.Response:
        gate.hold(is_on=request.method == "POST")
        return web.Response()

    async def state(request: web.Request) -> web.Response:
        return web.Response(body=await snapshot(), content_type="application/json")

    add = app.router
    add.add_get("/peer/ca", _over_tls(ca))
    add.add_post("/peer/join", _over_tls(join))
    add.add_get("/peer/voters", _over_tls(_for_peers(known)))
    add.add_get("/peer/clock", _over_tls(_for_peers(clock)))
    add.add_get("/peer/pins", _over_tls(_for_peers(pins)))
    add.add_get("/peer/secrets", _over_tls(_for_peers(identities)))
    add.add_post("/peer/secrets", _over_tls(_for_peers(keep)))
    add.add_post("/peer/renew", _over_tls(_for_peers(renew)))
    add.add_post("/peer/hold", _over_tls(_for_peers(hold)))
    add.add_delete("/peer/hold", _over_tls(_for_peers(hold)))
    add.add_get("/peer/snapshot", _over_tls(_for_peers(state)))


def _over_tls(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.secure:
            raise web.HTTPNotFound
        return await handler(request)

    return answer


def _for_peers(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request[PRINCIPAL].peer:
            raise DeniedError("only agents of this cluster may ask for this", known=True)
        return await handler(request)

    return answer


async def _application(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await _body(request), type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"that is no application: {error}") from error


async def _body(request: web.Request) -> bytes:
    body = await request.content.read(MAX_APPLICATION + 1)
    while len(body) <= MAX_APPLICATION and (more := await request.content.readany()):
        body += more
    if len(body) > MAX_APPLICATION:
        raise InputError(f"an application has at most {MAX_APPLICATION} bytes")
    return body


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
