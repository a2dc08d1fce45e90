"""The web application: one route a verb, made from the table; and git beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from rota.errors import InputError, InvariantError, RotaError
from rota.http import openapi, problems, sse
from rota.http.access import Authenticate
from rota.http.arguments import MAX_BODY, arguments
from rota.ports.git_http import GitHttp
from rota.service import artifacts, events, logs
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.handlers import HANDLERS
from rota.service.verbs import VERBS, Role, Verb

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

#: A job's name has slashes; a build is one segment, percent-encoded where it has any.
_PATTERNS = {"job": r"{job:[^{}]+}", "path": r"{path:.+}"}


def make_app(service: Service, authenticate: Authenticate, git: GitHttp) -> web.Application:
    """Return the application. It holds no state of its own."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_middleware(authenticate)])
    # aiohttp takes the first route that fits: longer paths before `/v1/jobs/{job}` itself.
    for verb in sorted(VERBS, key=lambda verb: -verb.path.count("/")):
        path = re.sub(r"{(\w+)}", lambda match: _PATTERNS.get(match[1], match[0]), verb.path)
        app.router.add_route(verb.method, path, _route(service, verb))
    app.router.add_get("/openapi.json", _openapi)
    app.router.add_get("/health", _health)
    app.router.add_route("*", "/store.git/{tail:.*}", _git_route(git))
    return app


def _middleware(authenticate: Authenticate) -> Any:
    @web.middleware
    async def errors_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path not in ("/openapi.json", "/health"):
                request[PRINCIPAL] = authenticate(request)
            if request.method in ("GET", "HEAD"):
                return await handler(request)
            # What changes something is brought to its end, also when the caller has gone.
            return await asyncio.shield(handler(request))
        except RotaError as error:
            return problems.respond(error)
        except web.HTTPException as error:
            return problems.respond_http(request, error)

    return errors_as_problems


def _route(service: Service, verb: Verb) -> Handler:
    answer, handle = _STREAMS.get(verb.name), HANDLERS.get(verb.name)
    if answer is None and handle is None:
        raise InvariantError(f"the verb {verb.name} has no handler")

    async def respond(request: web.Request) -> web.StreamResponse:
        who = request[PRINCIPAL]
        who.require(verb.role, f"`{verb.name}`")
        wanted = await arguments(verb, request)
        if answer is not None:
            return await answer(service, request, wanted, who)
        assert handle is not None
        return _with_etag(_json(await handle(service, wanted, who), verb.status), verb, request)

    respond.__doc__ = verb.summary
    return respond


def _json(reply: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(reply), status=status, content_type="application/json"
    )


def _with_etag(response: web.Response, verb: Verb, request: web.Request) -> web.Response:
    if verb.name in ("job", "put") and isinstance(response.body, bytes):
        etag = msgspec.json.decode(response.body, type=_Tagged).etag
        if etag is not None:
            response.headers["ETag"] = f'"{etag}"'
        if verb.name == "job" and request.headers.get("If-None-Match", "").strip('"') == etag:
            return web.Response(status=304, headers={"ETag": f'"{etag}"'})
    return response


class _Tagged(msgspec.Struct):
    etag: str | None = None


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk, _ in request.content.iter_chunks():
        yield chunk


# -- answers that stream ------------------------------------------------------------------------


async def _log(
    service: Service, request: web.Request, wanted: m.LogRequest, who: Principal
) -> web.StreamResponse:
    as_events = sse.is_wanted(request)
    last = request.headers.get("Last-Event-ID")
    if as_events and last is not None:
        wanted = replace(wanted, offset=_number(last), tail=-1, line=0)
    start, pieces = await logs.log(service, wanted, who)
    async with contextlib.aclosing(pieces):
        if as_events:
            return await sse.stream(request, sse.log_events(start, pieces))
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        if start >= 0:
            response.headers["Rota-Log-Offset"] = str(start)
        return await sse.send(request, response, pieces)


async def _events(
    service: Service, request: web.Request, wanted: m.EventsRequest, who: Principal
) -> web.StreamResponse:
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        wanted = replace(wanted, after=_number(last))
    follows = wanted.follow or sse.is_wanted(request)
    entries = await events.events(service, replace(wanted, follow=follows), who)
    async with contextlib.aclosing(entries):
        if follows:
            return await sse.stream(request, sse.journal_events(entries))
        body = b"[" + b",".join([events.show(entry) async for entry in entries]) + b"]"
        return web.Response(body=body, content_type="application/json")


async def _artifact(
    service: Service, request: web.Request, wanted: m.ArtifactRequest, who: Principal
) -> web.StreamResponse:
    kept, pieces = await artifacts.artifact(service, wanted, who)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/octet-stream",
            # What a build left is never shown as a page of ours.
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{kept.sha256}"',
        }
    )
    response.content_length = kept.size
    async with contextlib.aclosing(pieces):
        return await sse.send(request, response, pieces)


async def _keep(
    service: Service, request: web.Request, wanted: m.ArtifactRequest, who: Principal
) -> web.StreamResponse:
    return _json(await artifacts.keep(service, wanted, who, _chunks(request)), 201)


_STREAMS: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
    "log": _log,
    "events": _events,
    "artifact": _artifact,
    "keep": _keep,
}


# -- beside the table ---------------------------------------------------------------------------


async def _openapi(request: web.Request) -> web.Response:
    return web.Response(body=openapi.document(), content_type="application/json")


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _git_route(git: GitHttp) -> Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        who = request[PRINCIPAL]
        path = "/" + request.match_info["tail"]
        writes = path == "/git-receive-pack" or "git-receive-pack" in request.query_string
        who.require(Role.MAINTAINER if writes else Role.VIEWER, "git push" if writes else "git")
        reply = await git.handle(
            request.method, path, request.query_string, request.headers, _chunks(request), who.name
        )
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        async with contextlib.aclosing(reply.body) as body:
            return await sse.send(request, response, body)

    return respond


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InputError(f"bad Last-Event-ID {text!r}", hint="a number, as the stream gave it")
    return int(text[:18])
