"""Errors as problem details (RFC 9457), and their HTTP statuses."""

from __future__ import annotations

import msgspec
from aiohttp import web

from rota.core.problem import Problem
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    StaleError,
    UnavailableError,
)

#: The first class that an error is an instance of gives its status.
STATUSES: tuple[tuple[type[RotaError], int, str], ...] = (
    (InputError, 400, "Bad input"),
    (DeniedError, 403, "Not allowed"),
    (NotFoundError, 404, "Not found"),
    (StaleError, 412, "Somebody else was first"),
    (ConflictError, 409, "Not now"),
    (UnavailableError, 503, "Not available"),
    (RotaError, 500, "Internal error"),
)
MEDIA_TYPE = "application/problem+json"


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of an answer that is an error."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    problems: tuple[object, ...] = ()


def details(error: RotaError) -> ProblemDetails:
    """Return an error as problem details."""
    status, title = next(
        (status, title) for kind, status, title in STATUSES if isinstance(error, kind)
    )
    if isinstance(error, DeniedError) and not error.known:
        status, title = 401, "Who are you?"
    problems = error.problems if isinstance(error, InputError) else ()
    return ProblemDetails(
        type=f"urn:rota:error:{error.code}",
        title=title,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        problems=tuple(str(p) if isinstance(p, str) else p for p in problems),
    )


def respond(error: RotaError) -> web.Response:
    """Return the answer that tells of an error."""
    body = details(error)
    headers = {"WWW-Authenticate": 'Bearer, Basic realm="rota"'} if body.status == 401 else {}
    if body.status == 503:
        headers["Retry-After"] = "1"
    return web.Response(
        body=msgspec.json.encode(body, enc_hook=_plain),
        status=body.status,
        content_type=MEDIA_TYPE,
        headers=headers,
    )


def respond_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return the answer for what the framework itself refuses: no such route, method, size."""
    allowed = error.headers.get("Allow")
    body = ProblemDetails(
        type=f"urn:rota:error:http.{error.status}",
        title=error.reason,
        status=error.status,
        detail=f"{request.method} {request.path}: {error.reason.lower()}",
        code=f"http.{error.status}",
        hint=f"allowed are: {allowed}" if allowed else "all routes: GET /openapi.json",
    )
    return web.Response(
        body=msgspec.json.encode(body),
        status=error.status,
        content_type=MEDIA_TYPE,
        headers={"Allow": allowed} if allowed else {},
    )


def _plain(value: object) -> object:
    return msgspec.structs.asdict(value) if isinstance(value, Problem) else str(value)
