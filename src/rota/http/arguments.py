"""From an HTTP request to a verb's request."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from rota.core.problem import nearest
from rota.errors import InputError
from rota.service.messages import PutJobRequest, Request, RunRequest
from rota.service.verbs import Verb

#: JSON bodies are arguments; anything large has a route that streams.
MAX_BODY = 2 * 1024 * 1024


async def arguments(verb: Verb, request: web.Request) -> Request:
    """Return the verb's arguments: from the path, then the query or the body, then headers.

    Raises:
        InputError: an argument is unknown, missing or of the wrong type.
    """
    given: dict[str, Any] = dict(request.match_info)
    if verb.request is PutJobRequest:
        given |= await _definition(request)
    elif verb.method in ("GET", "DELETE") or verb.stream:
        given |= {key: _flag(value) for key, value in request.query.items()}
    else:
        given |= await _body(request)
    given |= _from_headers(verb, request)
    return read(verb.request, given)


def read(kind: type[Request], given: dict[str, Any]) -> Request:
    """Return ``given`` as a request of ``kind``; strings are converted.

    Raises:
        InputError: it does not fit.
    """
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    for name in given:
        if name not in known:
            raise InputError(
                f"unknown argument {name!r}",
                hint=nearest(name, known) or "known are: " + ", ".join(sorted(known) or ["none"]),
            )
    try:
        return msgspec.convert(given, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"bad argument: {_readable(str(error))}") from error


def _readable(text: str) -> str:
    return text.replace("Object missing", "missing").replace("`$.", "`").replace(" - at `", ": `")


def _flag(value: str) -> str:
    """A bare `?follow` means yes."""
    return value or "true"


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await _raw(request)
    if not raw.strip():
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(
            f"the body is not a JSON object: {error}", hint='such as {"params": {"suite": "full"}}'
        ) from error


async def _definition(request: web.Request) -> dict[str, Any]:
    """Return a job's text: the body as it is, or as a field of a JSON object."""
    if request.content_type == "application/json":
        return await _body(request)
    raw = await _raw(request)
    try:
        script = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"the script is not UTF-8 at byte {error.start}",
            hint="binary programs belong into an artifact or a repository, not into a definition",
        ) from error
    message = request.query.get("message")
    return {"script": script} | ({"message": message} if message else {})


async def _raw(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise InputError(f"the body is larger than {MAX_BODY} bytes") from error


def _from_headers(verb: Verb, request: web.Request) -> dict[str, Any]:
    headers = request.headers
    found: dict[str, Any] = {}
    fields = {field.name for field in msgspec.structs.fields(verb.request)}
    if "if_match" in fields and "If-Match" in headers:
        found["if_match"] = headers["If-Match"].strip('"')
    if "if_none_match" in fields and "If-None-Match" in headers:
        found["if_none_match"] = headers["If-None-Match"].strip('"')
    if verb.request is RunRequest and "Idempotency-Key" in headers:
        found["key"] = headers["Idempotency-Key"]
    return found
