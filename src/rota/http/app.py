"""The web application: one route a verb, made from the table; and git beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace

from rota.core.exposition import MEDIA_TYPE
from rota.errors import (
    DeniedError,
    ExecutionError,
    InputError,
    InvariantError,
    RotaError,
    SlowError,
    UnavailableError,
)
from rota.http import openapi, problems, sockets, sse
from rota.http.access import Authenticate, address_of
from rota.http.arguments import MAX_BODY, arguments, header_text, number_in, refuse_encoded
from rota.http.callers import Callers
from rota.http.company import SEQ, Company
from rota.http.connections import Connections, Runner
from rota.http.cors import Cors
from rota.http.rates import Rates
from rota.http.watched import STREAMS, VERB, watched
from rota.ports.git_http import GitHttp
from rota.ports.journal import Entry
from rota.service import (
    artifacts,
    backup,
    builds,
    events,
    grep,
    hooks,
    jobs,
    logs,
    shell,
    verifying,
)
from rota.service import audit_messages as a
from rota.service import messages as m
from rota.service.context import ADDRESS, TOKEN, VIA, Principal, Service
from rota.service.etags import is_among
from rota.service.handlers import HANDLERS
from rota.service.judging import judged, refuse_early
from rota.service.leaks import refuse_leak
from rota.service.log_fields import also_about
from rota.service.meters import page
from rota.service.pushing import refuse_clone, refuse_push
from rota.service.verbs import VERBS, About, Role, Verb

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

#: Who is being answered; whoever serves the application lets it take note of each folded event.
CALLERS: web.AppKey[Callers] = web.AppKey("callers", Callers)

LAST_EVENT_ID = "Last-Event-ID"

#: What is answered to everybody. Who joins shows a token in what it sends.
OPEN = frozenset({"/openapi.json", "/health", "/peer/ca", "/peer/join"})

#: What is told to who watches the cluster, with a token unless the settings say otherwise.
METRICS = "/metrics"

#: And to these requests: who logs in is nobody yet.
LOGINS = frozenset((it.method, it.path) for it in VERBS if it.about is About.NOBODY)
#: Who they are by then.
NOBODY = Principal(name="", role=Role.NONE)
#: What they send is small.
MAX_LOGIN = 64 << 10

#: A body that goes on, such as an artifact out of a pipe, may pause so long.
CHUNK_S = 300.0

#: Who calls a webhook shows its signature, and nothing else.
HOOKS = "/v1/hooks/"

#: Where git clones from and pushes to.
GIT = "/store.git/"

#: A job's name has slashes; a build is one segment, percent-encoded where it has any.
_PATTERNS = {"job": r"{job:[^{}]+}", "path": r"{path:[\s\S]+}"}


def make_app(service: Service, authenticate: Authenticate, git: GitHttp) -> web.Application:
    """Return the application. It holds no state of its own."""
    company, cors, callers = Company(service), Cors(service), Callers(authenticate)
    rates = Rates(
        lambda: service.world.definitions.settings.rest,
        service.clock.monotonic,
        service.counts.refused,
    )
    app = web.Application(
        client_max_size=MAX_BODY,
        middlewares=[
            watched(service),
            _middleware(service, authenticate, company, cors, callers, rates),
        ],
    )
    app[CALLERS] = callers
    app.on_response_prepare.append(_telling(company, cors))
    # aiohttp takes the first route that fits: longer paths before `/v1/jobs/{job}` itself.
    for verb in sorted(VERBS, key=lambda verb: -verb.path.count("/")):
        path = re.sub(r"{(\w+)}", lambda match: _PATTERNS.get(match[1], match[0]), verb.path)
        add = app.router.add_get if verb.method == "GET" else partial(_add, app, verb.method)
        add(path, _route(service, verb, rates))
    app.router.add_post(f"{HOOKS}{{hook}}", _hook_route(service, rates))
    app.router.add_get("/openapi.json", _openapi)
    app.router.add_get("/health", _health)
    app.router.add_get(METRICS, _metrics_route(service))
    app.router.add_route("*", f"{GIT}{{tail:.*}}", _git_route(service, authenticate, git))
    return app


def make_runner(app: web.Application, connections: Connections | None = None) -> web.AppRunner:
    """Return what serves the application, with the settings that it counts on."""
    return Runner(app, connections or Connections(), logger=_protocol_logger())


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    app.router.add_route(method, path, handler)


def _protocol_logger() -> logging.Logger:
    """Return a logger for malformed requests, whose errors quote the request, token and all."""
    protocol = logging.getLogger(f"{__name__}.protocol")
    if not protocol.filters:
        protocol.addFilter(_without_quotes)
    return protocol


def _without_quotes(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg = f"a malformed request from {record.args}: {record.exc_info[0].__name__}"
        record.args, record.exc_info, record.levelno = None, None, logging.INFO
        record.levelname = "INFO"
    return True


def _telling(
    company: Company, cors: Cors
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        cors.mark(request, response)
        # Who is not known is not told who else is there.
        if PRINCIPAL in request:
            company.tell(response)

    return tell


def _middleware(
    service: Service,
    authenticate: Authenticate,
    company: Company,
    cors: Cors,
    callers: Callers,
    rates: Rates,
) -> Any:
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            asked_for_page = cors.preflight(request)
            if asked_for_page is not None:
                return asked_for_page
            is_call = request.method == "POST" and request.path.startswith(HOOKS)
            is_open = request.path in OPEN or (
                request.path == METRICS and service.world.definitions.settings.metrics.open
            )
            is_login = (request.method, request.path) in LOGINS
            # On a connection that goes on, a request's own in any case.
            ADDRESS.set(address_of(request))
            if is_login:
                rates.logging_in(request)
            if not is_open and not is_call and not is_login:
                request[PRINCIPAL] = who = await _known(request, authenticate, company, rates)
                rates.admit(request, who)
                also_about(principal=who.name)
                VIA.set(who.via)
                TOKEN.set(who.token)
                ADDRESS.set(who.address)
                with callers.during(request, who):
                    return await handler(request)
            return await handler(request)
        except RotaError as error:
            if isinstance(error, (InvariantError, ExecutionError)):
                logger.exception("%s %s", request.method, request.path)
            return problems.respond(error, plain=request.path.startswith(GIT))
        except web.HTTPException as error:
            if request.method == "OPTIONS" and isinstance(error, web.HTTPMethodNotAllowed):
                return _options(error)
            return problems.respond_http(request, error)
        except Exception:
            if request.transport is None or request.transport.is_closing():
                return web.Response()  # the caller has gone, and with it the body we were reading
            logger.exception("%s %s", request.method, request.path)
            return problems.respond_unexpected()

    @web.middleware
    async def errors_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        answering = answer(request, handler)
        if request.method in ("GET", "HEAD"):
            return await answering
        # What changes something is brought to its end, also when the caller has gone.
        return await asyncio.shield(answering)

    return errors_as_problems


async def _known(
    request: web.Request, authenticate: Authenticate, company: Company, rates: Rates
) -> Principal:
    """Return who asks, by what this agent knows once it knows as much as they do.

    Raises:
        DeniedError: nobody that is known here.
        TooManyError: the same, and too often.
    """
    try:
        who = authenticate(request)
    except (DeniedError, UnavailableError) as error:
        if SEQ not in request.headers:
            if isinstance(error, DeniedError) and "Authorization" in request.headers:
                rates.failed(request)
            raise
        who = None  # their token may be so new that it is not folded here
    await company.catch_up(request)
    if who is not None:
        return who
    try:
        return authenticate(request)
    except DeniedError:
        rates.failed(request)
        raise


def _options(error: web.HTTPMethodNotAllowed) -> web.Response:
    allowed = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
    return web.Response(status=204, headers={"Allow": allowed})


def _route(service: Service, verb: Verb, rates: Rates) -> Handler:
    answer = _ANSWERS.get(verb.name)
    if answer is None and verb.name not in HANDLERS:
        raise InvariantError(f"the verb {verb.name} has no handler")

    async def respond(request: web.Request) -> web.StreamResponse:
        request[VERB] = verb.name
        who = request.get(PRINCIPAL, NOBODY)
        if who is NOBODY and (request.content_length or MAX_LOGIN) > MAX_LOGIN:
            raise web.HTTPRequestEntityTooLarge(MAX_LOGIN, request.content_length or 0)
        refuse_early(verb, who)
        wanted = judged(service, verb, await arguments(verb, request), who)
        if verb.name == "emit":
            rates.emitted(request, who)
        if verb.method != "GET":
            refuse_leak(service, wanted, who)
        if answer is not None:
            goes_on = verb.name in STREAMS
            if not goes_on:
                return await answer(service, request, wanted, who)
            with rates.listening(request, who), service.counts.listening(verb.name):
                return await answer(service, request, wanted, who)
        return _json(await HANDLERS[verb.name](service, wanted, who), verb.status)

    respond.__doc__ = verb.summary
    return respond


def _json(
    reply: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(reply),
        status=status,
        content_type="application/json",
        headers=headers,
    )


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    refuse_encoded(request)
    size = 0
    try:
        # Not iter_chunks: where there is no body, aiohttp's reader of it (one for all) never ends.
        while chunk := await _next_chunk(request):
            size += len(chunk)
            yield chunk
    except (ConnectionError, web.RequestPayloadError, HttpProcessingError) as error:
        raise InputError(
            f"the body broke off after {size} bytes", hint="nothing was changed; send it again"
        ) from error


async def _next_chunk(request: web.Request) -> bytes:
    """Return what came next of a body; nothing at its end.

    Raises:
        SlowError: nothing came for a long time.
    """
    try:
        async with asyncio.timeout(CHUNK_S):
            return await request.content.readany()
    except TimeoutError as error:
        raise SlowError(
            f"nothing of the body came for {CHUNK_S:g} s", hint="nothing was changed; send it again"
        ) from error


def _next(request: web.Request, **changes: int) -> dict[str, str]:
    """Return the header that names the next page (RFC 8288)."""
    query = {**request.query, **{name: str(value) for name, value in changes.items()}}
    return {"Link": f'<{request.rel_url.with_query(query)}>; rel="next"'}


# -- answers that are more than their JSON ------------------------------------------------------


async def _job(
    service: Service, request: web.Request, wanted: m.JobRequest, who: Principal
) -> web.StreamResponse:
    view = await jobs.job(service, wanted, who)
    etag = {"ETag": f'"{view.etag}"'}
    known = header_text(request, "If-None-Match")
    if known and is_among(view.etag, known, weak=True):
        return web.Response(status=304, headers=etag)
    return _json(view, headers=etag)


async def _put(
    service: Service, request: web.Request, wanted: m.PutJobRequest, who: Principal
) -> web.StreamResponse:
    done = await jobs.put(service, wanted, who)
    return _json(done, headers={"ETag": f'"{done.etag}"'} if done.etag else None)


async def _builds(
    service: Service, request: web.Request, wanted: m.BuildsRequest, who: Principal
) -> web.StreamResponse:
    found = await builds.builds(service, replace(wanted, limit=wanted.limit + 1), who)
    page = found[: wanted.limit]
    more = _next(request, before=page[-1].requested_seq) if len(found) > len(page) else None
    return _json(page, headers=more)


async def _log(
    service: Service, request: web.Request, wanted: m.LogRequest, who: Principal
) -> web.StreamResponse:
    as_events = sse.is_wanted(request)
    last = header_text(request, LAST_EVENT_ID)
    if as_events and last:
        wanted = replace(wanted, offset=_number(last), tail=-1, line=0)
    start, pieces = await logs.log(service, wanted, who)
    if as_events:
        return await sse.stream(request, sse.log_events(start, pieces))
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/plain; charset=utf-8",
            # What a build prints is never shown as a page of ours.
            "X-Content-Type-Options": "nosniff",
        }
    )
    if start >= 0:
        response.headers["Rota-Log-Offset"] = str(start)
    return await sse.send(request, response, pieces)


async def _grep(
    service: Service, request: web.Request, wanted: m.GrepRequest, who: Principal
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    return await sse.send(request, response, grep.grep(service, wanted, who))


async def _verify(
    service: Service, request: web.Request, wanted: a.VerifyRequest, who: Principal
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    return await sse.send(request, response, verifying.verify(service, wanted, who))


async def _events(
    service: Service, request: web.Request, wanted: m.EventsRequest, who: Principal
) -> web.StreamResponse:
    last = header_text(request, LAST_EVENT_ID)
    if last:
        wanted = replace(wanted, after=_number(last))
    if wanted.follow or sse.is_wanted(request):
        return await sse.stream(request, sse.journal_events(events.follow(service, wanted, who)))
    first, _ = await service.journal.bounds()
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Rota-First-Event": str(first)}
    )
    return await sse.send(request, response, _array(events.past(service, wanted, who)))


async def _array(entries: AsyncGenerator[Entry]) -> AsyncGenerator[bytes]:
    """Yield a JSON array bit by bit: ten thousand events may be large."""
    before = b"["
    async with contextlib.aclosing(entries):
        async for entry in entries:
            yield before + events.show(entry)
            before = b","
    yield b"[]" if before == b"[" else b"]"


async def _artifact(
    service: Service, request: web.Request, wanted: m.ArtifactRequest, who: Principal
) -> web.StreamResponse:
    start = _range_start(header_text(request, "Range") or "")
    kept, pieces = await artifacts.artifact(service, wanted, who, offset=start)
    if start and (start >= kept.size or not _is_same(request, kept.sha256)):
        # Nothing, or something else, lies there: the caller is given all, and sees that by the status.
        await pieces.aclose()
        start = 0
        kept, pieces = await artifacts.artifact(service, wanted, who)
    response = web.StreamResponse(
        status=206 if start else 200,
        headers={
            "Content-Type": "application/octet-stream",
            # What a build left is never shown as a page of ours.
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
            "ETag": f'"{kept.sha256}"',
        },
    )
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{kept.size - 1}/{kept.size}"
    response.content_length = kept.size - start
    return await sse.send(request, response, pieces)


def _range_start(text: str) -> int:
    """Return where a range begins that goes to the end; 0 for any other, which is passed over."""
    found = re.fullmatch(r"bytes=([0-9]{1,15})-", text.strip())
    return int(found[1]) if found else 0


def _is_same(request: web.Request, sha256: str) -> bool:
    known = header_text(request, "If-Range")
    return not known or is_among(sha256, known, weak=False)


async def _keep(
    service: Service, request: web.Request, wanted: m.ArtifactRequest, who: Principal
) -> web.StreamResponse:
    return _json(await artifacts.keep(service, wanted, who, _chunks(request)), 201)


async def _backup(
    service: Service, request: web.Request, wanted: m.BackupRequest, who: Principal
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/x-tar", "Cache-Control": "no-store"}
    )
    return await sse.send(request, response, backup.backup(service, wanted, who))


async def _shell(
    service: Service, request: web.Request, wanted: m.ShellRequest, who: Principal
) -> web.StreamResponse:
    talk = await shell.shell(service, wanted, who)
    return await sockets.talk(request, talk)


#: Verbs whose answer has headers of its own, or is no JSON, or is not one value.
_ANSWERS: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
    "job": _job,
    "put": _put,
    "builds": _builds,
    "log": _log,
    "grep": _grep,
    "verify": _verify,
    "events": _events,
    "artifact": _artifact,
    "keep": _keep,
    "backup": _backup,
    "shell": _shell,
}


# -- beside the table ---------------------------------------------------------------------------


async def _openapi(request: web.Request) -> web.Response:
    return web.Response(body=openapi.document(), content_type="application/json")


def _metrics_route(service: Service) -> Handler:
    shown, until = b"", 0.0

    async def respond(request: web.Request) -> web.Response:
        nonlocal shown, until
        now = service.clock.monotonic()
        if PRINCIPAL in request:
            request[PRINCIPAL].require(Role.VIEWER, METRICS)
        # Anybody may ask as often as he likes where it is open; a page is made once a second for all.
        if PRINCIPAL in request or not shown or now >= until:
            shown, until = page(service), now + 1.0
        return web.Response(body=shown, headers={"Content-Type": MEDIA_TYPE})

    return respond


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _git_route(service: Service, authenticate: Authenticate, git: GitHttp) -> Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        who = request[PRINCIPAL]
        path = "/" + request.match_info["tail"]

        async def allow(old: str, new: str) -> None:
            # A push may take minutes: what counts is what they may as it is about to count.
            await refuse_push(service, authenticate(request), old, new)

        if path == "/git-receive-pack" or "git-receive-pack" in request.query_string:
            who.require_anywhere(Role.MAINTAINER, "git push")
        else:
            refuse_clone(who)
        reply = await git.handle(
            request.method,
            path,
            request.query_string,
            request.headers,
            _chunks(request),
            who.name,
            allow,
        )
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        return await sse.send(request, response, reply.body)

    return respond


def _hook_route(service: Service, rates: Rates) -> Handler:
    async def respond(request: web.Request) -> web.StreamResponse:
        if request.match_info["hook"] in service.world.definitions.hooks:
            rates.called(request.match_info["hook"])
        # What is too large is refused by what it says of itself, before it is read.
        if (request.content_length or 0) > hooks.MAX_BODY:
            raise web.HTTPRequestEntityTooLarge(hooks.MAX_BODY, request.content_length or 0)
        body = b""
        async for chunk in _chunks(request):
            body += chunk
            if len(body) > hooks.MAX_BODY:
                raise web.HTTPRequestEntityTooLarge(hooks.MAX_BODY, len(body))
        names = {name.lower() for name in request.headers}
        headers = {name: request.headers.getall(name) for name in names}
        kind = request.content_type if "content-type" in headers else ""
        name = request.match_info["hook"]
        return _json(await hooks.receive(service, name, headers, body, kind), 202)

    return respond


def _number(text: str) -> int:
    return number_in(text, LAST_EVENT_ID, "a number, as the stream gave it")
