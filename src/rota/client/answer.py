"""What an agent said: a whole answer, or the error that stands in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    InvariantError,
    NotFoundError,
    RotaError,
    UnavailableError,
)


class Headers(Protocol):
    """An answer's headers: a dictionary, or what came with an answer."""

    def get(self, name: str, /) -> str | None:
        """Return a header's text, ``None`` if it is not there."""
        ...


class BrokenError(UnavailableError):
    """The connection was there and broke before the whole answer was."""


class RefusedError(UnavailableError):
    """There was no connection: nothing was asked."""


class BusyError(UnavailableError):
    """The agent cannot now, and says that it soon can (``Retry-After``)."""


class TooOftenError(BusyError):
    """The agent did nothing, since it is asked too often; ``after_s`` is when to come again."""

    def __init__(self, message: str, *, after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class NoQuorumError(BusyError):
    """The agent is cut off from most of the others: it cannot, and does not know until when."""


class ClosedError(RotaError):
    """The caller itself has ended this: its client or its screen was closed."""

    code = "closed"


class Answer(NamedTuple):
    """A whole answer. ``headers`` have the names that the agent wrote them with."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says.

        Raises:
            InvariantError: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise InvariantError("the agent's answer is no JSON; is this the right URL?") from error


def error_of(url: str, status: int, reason: str, headers: Headers, raw: bytes) -> RotaError:
    """Return the error that an answer carries as problem details (RFC 9457)."""
    details = _details(raw)
    text = str(details.get("detail") or details.get("title") or "")
    message = text or f"{url} answered {status} {reason}"
    hint = str(details["hint"]) if details.get("hint") else None
    if status in (401, 403):
        if hint is None and status == 401:
            hint = "say who you are: rota login URL, or $ROTA_TOKEN"
        return DeniedError(message, known=status == 403, hint=hint)
    if status == 404:
        return NotFoundError(message, hint=hint)
    if status in (409, 412, 428):
        return ConflictError(message, hint=hint)
    if status == 408 and details.get("code") == "http.408":
        # Whoever connected stood still before he asked, such as on a laptop that slept.
        return RefusedError(message, hint=hint)
    if status == 429 and (after := _seconds(headers)) is not None:
        return TooOftenError(message, after_s=after, hint=hint)
    if status in (429, 502, 503, 504):
        return _unavailable(headers)(message, hint=hint)
    if status >= 500:
        return InvariantError(message, hint=hint)
    problems = details.get("problems") or ()
    return InputError(message, problems=[_problem(it) for it in problems], hint=hint)


def error_event(data: str) -> UnavailableError:
    """Return what a stream of events broke off with."""
    details = _details(data.encode())
    return BusyError(str(details.get("detail") or "the events broke off"))


def _details(raw: bytes) -> dict[str, Any]:
    try:
        details = json.loads(raw)
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _unavailable(headers: Headers) -> type[UnavailableError]:
    if not headers.get("Retry-After"):
        return UnavailableError
    return NoQuorumError if headers.get("Rota-Stale-Since") else BusyError


def _seconds(headers: Headers) -> float | None:
    """Return how long to wait, where a number says that."""
    text = headers.get("Retry-After") or ""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _problem(problem: object) -> str:
    """Return a problem as ``path:line:column: message (hint)``, as far as it has these."""
    if not isinstance(problem, dict):
        return str(problem)
    place = str(problem.get("path") or "")
    if place and problem.get("line"):
        place += f":{problem['line']}"
        if problem.get("column"):
            place += f":{problem['column']}"
    message = str(problem.get("message") or problem.get("detail") or "")
    tail = f" ({problem['hint']})" if problem.get("hint") else ""
    return f"{place}: {message}{tail}" if place else message + tail
