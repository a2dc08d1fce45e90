"""The OpenAPI 3.1 document, made from the table of verbs."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

import rota
from rota.http.arguments import HEADERS, KEY_HEADER
from rota.http.problems import ProblemDetails
from rota.service.messages import PutJobRequest
from rota.service.verbs import VERBS, About, Verb

_REF = "#/components/schemas/{name}"

_GO_ON = "with Accept: text/event-stream, go on after the event of this id"
#: Headers that are no argument of the verb, or are one by another name.
_MORE_HEADERS: dict[str, dict[str, str]] = {
    "job": {"If-None-Match": "answer 304 if the ETag is among these"},
    "run": {KEY_HEADER: "the same as `key` in the body; give one of them"},
    "log": {"Last-Event-ID": _GO_ON},
    "events": {
        "Last-Event-ID": f"{_GO_ON}; where some after it are no longer kept, an event `gap` comes"
        " first and says which"
    },
}
#: What the bytes are that a verb answers with.
_BYTES = {
    "log": "text/plain",
    "grep": "application/x-ndjson",
    "verify": "application/x-ndjson",
    "backup": "application/x-tar",
}
#: One server-sent event, as its lines say it.
_SERVER_SENT: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}
#: Headers of the good answer.
_ANSWER_HEADERS: dict[str, dict[str, str]] = {
    "job": {"ETag": "for If-Match"},
    "put": {"ETag": "for If-Match"},
    "builds": {"Link": 'rel="next": the page of older builds, if there is one'},
    "log": {"Rota-Log-Offset": "the byte at which the answer starts; not with `grep`"},
    "events": {"Rota-First-Event": "the oldest event that is still kept"},
    "artifact": {"ETag": "the hex SHA-256 of its bytes"},
}


_UNCHANGED: dict[str, dict[str, Any]] = {
    "job": {"304": {"description": "its ETag is among those of If-None-Match; no body"}}
}


@functools.cache
def document() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(describe())


def describe() -> dict[str, Any]:
    """Return the document as plain data."""
    kinds: list[Any] = [verb.request for verb in VERBS]
    kinds += [verb.reply for verb in VERBS if verb.reply is not bytes]
    kinds.append(ProblemDetails)
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=_any_value, ref_template=_REF
    )
    replies = dict(zip([id(kind) for kind in kinds], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for verb in VERBS:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(verb, components, replies)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rota",
            "version": rota.__version__,
            "description": "A masterless build system. Any agent answers for every build and log.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _any_value(kind: type) -> dict[str, Any]:
    """Return the schema of a field that may hold any JSON value."""
    if kind is object:
        return {"description": "any JSON value"}
    raise NotImplementedError(kind)


def _operation(verb: Verb, components: dict[str, Any], replies: dict[int, Any]) -> dict[str, Any]:
    schema = components[verb.request.__name__]
    fields: dict[str, Any] = schema.get("properties", {})
    in_path = re.findall(r"{(\w+)}", verb.path)
    rest = [name for name in fields if name not in in_path and name not in HEADERS]
    in_query = verb.method in ("GET", "DELETE") or verb.stream
    parameters = [_parameter(name, "path", fields[name]) for name in in_path]
    parameters += [
        _parameter(header, "header", fields[name])
        for name, header in HEADERS.items()
        if name in fields
    ]
    parameters += [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in _MORE_HEADERS.get(verb.name, {}).items()
    ]
    required = schema.get("required", [])
    if in_query:
        parameters += [
            {
                **_parameter(name, "query", fields[name]),
                **({"required": True} if name in required else {}),
            }
            for name in rest
        ]
    operation: dict[str, Any] = {
        "operationId": verb.name,
        "summary": verb.summary,
        "description": _NEEDS[verb.about].format(role=verb.role.title),
        **({"security": []} if verb.about is About.NOBODY else {}),
        "parameters": parameters,
        "responses": {
            str(verb.status): _good(verb, replies),
            **_UNCHANGED.get(verb.name, {}),
            "default": {
                "description": "an error, as problem details (RFC 9457)",
                "content": {"application/problem+json": {"schema": replies[id(ProblemDetails)]}},
            },
        },
    }
    body = _request_body(verb, fields, rest, schema, in_query=in_query)
    if body is not None:
        operation["requestBody"] = body
    return operation


#: What somebody must be who asks.
_NEEDS = {
    About.JOB: "Needs {role} of the job; one that is not seen is not found.",
    About.BUILD: "Needs {role} of the build's job; one that is not seen is not found.",
    About.EACH: "Needs {role} of anything; what is not seen is left out.",
    About.EVERYTHING: "Needs {role} of everything.",
    About.ONESELF: "For oneself; of others for an admin.",
    About.NOBODY: "Needs no credential.",
}


def _good(verb: Verb, replies: dict[int, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": "done", "content": _content(verb, replies)}
    headers = _ANSWER_HEADERS.get(verb.name, {})
    if headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    return response


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key != "description"}
    parameter: dict[str, Any] = {"name": name, "in": place, "schema": plain}
    if "description" in schema:
        parameter["description"] = schema["description"]
    if place == "path":
        parameter["required"] = True
    return parameter


def _request_body(
    verb: Verb, fields: dict[str, Any], rest: list[str], schema: dict[str, Any], *, in_query: bool
) -> dict[str, Any] | None:
    if verb.name == "keep":
        # None at all is an empty file.
        return {"required": False, "content": {"application/octet-stream": {"schema": {}}}}
    if in_query or not rest:
        return None
    required = [name for name in schema.get("required", []) if name in rest]
    shape: dict[str, Any] = {
        "type": "object",
        "properties": {name: fields[name] for name in rest},
        "additionalProperties": False,
    }
    if required:
        shape["required"] = required
    content: dict[str, Any] = {"application/json": {"schema": shape}}
    if verb.request is PutJobRequest:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"required": bool(required), "content": content}


def _content(verb: Verb, replies: dict[int, Any]) -> dict[str, Any]:
    if verb.reply is bytes:
        kind = _BYTES.get(verb.name, "application/octet-stream")
        content: dict[str, Any] = {kind: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": replies[id(verb.reply)]}}
    if verb.name in ("log", "events"):
        content["text/event-stream"] = {"schema": _SERVER_SENT}
    return content
