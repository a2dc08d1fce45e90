"""From an HTTP request to a verb's request."""

from __future__ import annotations

import asyncio
import functools
import re
import typing
from collections.abc import Collection
from typing import Any

import msgspec
from aiohttp import web

from rota.core.problem import nearest
from rota.errors import InputError, SlowError
from rota.service.messages import MAX_NUMBER, PutJobRequest, Request, RunRequest
from rota.service.verbs import Verb

#: JSON bodies are arguments; anything large has a route that streams.
MAX_BODY = 2 * 1024 * 1024
#: And are here whole after so long.
BODY_S = 60.0

#: Fields that are headers, and nothing but headers.
HEADERS = {
    "if_match": "If-Match",
    "if_none_match": "If-None-Match",
    "traceparent": "traceparent",
}
KEY_HEADER = "Idempotency-Key"

_JSON = "application/json"
_JSON_HINT = 'such as {"params": {"suite": "full"}}'
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


async def arguments(verb: Verb, request: web.Request) -> Request:
    """Return the verb's arguments: from the path, then the query or the body, then headers.

    Raises:
        InputError: an argument is unknown, missing, given twice or of the wrong type.
    """
    in_path = dict(request.match_info)
    given, strict = await _given(verb, request)
    for name in given:
        if name in in_path:
            raise InputError(
                f"argument {name!r} stands in the path already", hint=f"leave {name!r} out there"
            )
        if name in HEADERS:
            raise InputError(
                f"argument {name!r} is a header", hint=f"send it as {HEADERS[name]}: …"
            )
    return read(verb.request, in_path | given | _from_headers(verb, request, given), strict=strict)


def read(kind: type[Request], given: dict[str, Any], *, strict: bool = False) -> Request:
    """Return ``given`` as a request of ``kind``; strings are converted unless ``strict``.

    Raises:
        InputError: it does not fit.
    """
    known = _fields(kind)
    for name in given:
        if name not in known:
            raise InputError(
                f"unknown argument {name!r}",
                hint=nearest(name, known) or "known are: " + ", ".join(sorted(known) or ["none"]),
            )
    try:
        return msgspec.convert(given, type=kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _misfit(kind, str(error)) from error


@functools.cache
def _fields(kind: type[Request]) -> frozenset[str]:
    """Return the names of a request's arguments; to work them out takes longer than all else here."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def _misfit(kind: type[Request], text: str) -> InputError:
    """Return msgspec's words as ours: which argument, what is wrong with it, and what it is."""
    place = _PLACE.search(text)
    where = place[1] if place else ""
    what = _PLACE.sub("", text).replace("Object missing required field", "missing argument")
    what = what[:1].lower() + what[1:]
    name = re.split(r"[.\[]", where)[0]
    missing = re.search(r"missing argument `(\w+)`", what)
    meaning = _meanings(kind).get(missing[1] if missing else name)
    hint = f"{missing[1] if missing else name}: {meaning}" if meaning else None
    return InputError(f"bad argument {where}: {what}" if where else what, hint=hint)


def _meanings(kind: type[Request]) -> dict[str, str]:
    """Return what each field means, as the table says it."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        name: meta.description
        for name, hint in hints.items()
        for meta in getattr(hint, "__metadata__", ())
        if isinstance(meta, msgspec.Meta) and meta.description
    }


async def _given(verb: Verb, request: web.Request) -> tuple[dict[str, Any], bool]:
    """Return what the query or the body gives, and whether its types must be right already."""
    if verb.method in ("GET", "DELETE") or verb.stream:
        return _query(request, verb.request), False
    is_json = verb.request is not PutJobRequest or request.content_type == _JSON
    allowed = () if is_json else ("message",)
    for name in request.query:
        if name not in allowed:
            raise InputError(
                f"unknown argument {name!r} in the query", hint="arguments go into the JSON body"
            )
    if is_json:
        return await _body(request), True
    return {**_query(request, verb.request), "script": await _script(request)}, True


def _query(request: web.Request, kind: type[Request]) -> dict[str, str]:
    flags = _flags(kind)
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise InputError(f"argument {name!r} is given twice", hint="give it once")
        # A bare `?follow` means yes.
        given[name] = value or ("true" if name in flags else "")
    return given


@functools.cache
def _flags(kind: type[Request]) -> frozenset[str]:
    """Return the fields that are either on or off."""
    return frozenset(name for name, kind in typing.get_type_hints(kind).items() if kind is bool)


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await _raw(request)
    if not raw.strip():
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"the body is not a JSON object: {error}", hint=_JSON_HINT) from error


async def _script(request: web.Request) -> str:
    """Return a job's text, which is the body as it is."""
    raw = await _raw(request)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"the script is not UTF-8 at byte {error.start}",
            hint="binary programs belong into an artifact or a repository, not into a definition",
        ) from error


async def _raw(request: web.Request) -> bytes:
    refuse_encoded(request)
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise SlowError(
            f"the body did not come within {BODY_S:g} s", hint="nothing was changed; send it again"
        ) from error


def refuse_encoded(request: web.Request) -> None:
    """Do nothing if the body is sent as it is.

    Raises:
        InputError: it is compressed, so that its size would say nothing.
    """
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise InputError(
            f"the body is sent with Content-Encoding {encoding!r}, which is not taken",
            hint="send it as it is",
        )


def _from_headers(
    verb: Verb, request: web.Request, given: Collection[str] | dict[str, Any]
) -> dict[str, str]:
    fields = _fields(verb.request)
    found = {
        name: text
        for name, header in HEADERS.items()
        if name in fields and (text := header_text(request, header)) is not None
    }
    if verb.request is RunRequest and (key := header_text(request, KEY_HEADER)) is not None:
        if not key:
            raise InputError(
                f"the header {KEY_HEADER} is empty", hint="a random text, such as a UUID"
            )
        if "key" in given:
            raise InputError(
                f"the idempotency key is given twice: in the body and as {KEY_HEADER}",
                hint="give it once",
            )
        found["key"] = key
    return found


def header_text(request: web.Request, name: str) -> str | None:
    """Return a header's text, several lines of it joined as one list; ``None`` without it.

    Raises:
        InputError: it is not UTF-8.
    """
    lines = request.headers.getall(name, [])
    text = ", ".join(lines)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the header {name} is not UTF-8", hint="plain ASCII is best") from error
    return text if lines else None


def number_in(text: str, header: str, hint: str) -> int:
    """Return the number that a header says.

    Raises:
        InputError: it says none, or one that is beyond all that there are.
    """
    # Sixteen digits hold the largest; of thousands, zeros too, Python reads none.
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > MAX_NUMBER:
        raise InputError(f"bad {header} {text[:40]!r}", hint=hint)
    return int(text)
