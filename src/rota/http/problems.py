"""Errors as problem details (RFC 9457), and their HTTP statuses."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from rota.core.problem import Problem
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    InvariantError,
    NotFoundError,
    RotaError,
    SlowError,
    StaleError,
    TooManyError,
    UnavailableError,
)
from rota.service.messages import ProblemView

#: The first class that an error is an instance of gives its status.
STATUSES: tuple[tuple[type[RotaError], int, str], ...] = (
    (InputError, 400, "Bad input"),
    (DeniedError, 403, "Not allowed"),
    (NotFoundError, 404, "Not found"),
    (StaleError, 412, "Somebody else was first"),
    (ConflictError, 409, "Not now"),
    (TooManyError, 429, "Too many"),
    (SlowError, 408, "Too slow"),
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
    problems: tuple[ProblemView | str, ...] = ()


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
        detail=_printable(error.message),
        code=error.code,
        hint=_printable(error.hint) if error.hint else None,
        problems=tuple(map(_view, problems)),
    )


def encode(body: ProblemDetails) -> bytes:
    """Return problem details as JSON."""
    return msgspec.json.encode(body)


def respond(error: RotaError, *, plain: bool = False) -> web.Response:
    """Return the answer that tells of an error.

    Args:
        error: What went wrong.
        plain: As text, for git: of what it is answered it shows text/plain alone.
    """
    body = details(error)
    headers = {"WWW-Authenticate": 'Bearer, Basic realm="rota"'} if body.status == 401 else {}
    if body.status == 503:
        headers["Retry-After"] = "1"
    if isinstance(error, TooManyError):
        headers["Retry-After"] = str(error.after_s)
    if plain:
        lines = (body.detail, *map(str, body.problems), *([body.hint] if body.hint else ()))
        text = "".join(f"{line}\n" for line in lines)
        return web.Response(text=text, status=body.status, headers=headers)
    return _response(body, headers)


def respond_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return the answer for what the framework itself refuses: no such route, method, size."""
    allowed = error.headers.get("Allow")
    what = f"{request.method} {request.path}: {error.reason.lower()}"
    hint = f"allowed are: {allowed}" if allowed else "all routes: GET /openapi.json"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        what, hint = f"{what}: {error.text}", "what is large goes into an artifact or a repository"
    body = _of_framework(error.status, what, hint)
    return _response(body, {"Allow": allowed} if allowed else {})


def respond_unexpected() -> web.Response:
    """Return the answer for a fault of ours; what it was stands in the agent's own log alone."""
    error = InvariantError(
        "the agent met a fault of its own; nothing more is known here",
        hint="the agent's log (agent.log in its data folder) has the traceback",
    )
    return _response(details(error), {})


def respond_malformed(status: int, what: str, hint: str) -> web.Response:
    """Return the answer for what is no request at all, or one whose head is too large."""
    return _response(_of_framework(status, what, hint), {})


def turned_away(status: int) -> bytes:
    """Return a whole answer, head and all, for a caller who is not served at all."""
    what, hint = _TURNED_AWAY[status]
    body = encode(_of_framework(status, what, hint))
    reason = HTTPStatus(status).phrase
    later = "" if status == HTTPStatus.REQUEST_TIMEOUT else "Retry-After: 5\r\n"
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n{later}Connection: close\r\n\r\n"
    )
    return head.encode() + body


_TURNED_AWAY = {
    408: ("no request came in time", "send it at once, or connect later"),
    429: ("too many connections from this address", "close some, or come later"),
    503: ("too many connections", "come later, or ask another agent"),
}


def _of_framework(status: int, what: str, hint: str) -> ProblemDetails:
    return ProblemDetails(
        type=f"urn:rota:error:http.{status}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_printable(what),
        code=f"http.{status}",
        hint=hint,
    )


def _response(body: ProblemDetails, headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=encode(body), status=body.status, content_type=MEDIA_TYPE, headers=headers
    )


def _view(problem: object) -> ProblemView | str:
    if isinstance(problem, Problem):
        return ProblemView(**msgspec.structs.asdict(problem))
    return problem if isinstance(problem, ProblemView) else _printable(str(problem))


def _printable(text: str) -> str:
    """Return ``text`` without what JSON cannot hold: halves of characters, from headers."""
    return text.encode("utf-8", "replace").decode()
