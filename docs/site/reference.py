"""The pages of the site that are made from the program's own tables; none of them is in git."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from keys import Key, header_keys, settings_sections
from rota.cli.parser import command_parser, examples
from rota.cli.table import COMMANDS, GROUPS, JSON, Command
from rota.http.openapi import document
from rota.service.meters import METERS


def pages() -> dict[str, str]:
    """Return the text of each page by its name below ``docs/reference``."""
    return {
        "commands.md": commands(),
        "rest.md": rest(json.loads(document())),
        "header.md": header(),
        "settings.md": settings(),
        "metrics.md": metrics(),
    }


def commands() -> str:
    """Return the page on all commands, as ``--help`` says them."""
    lines = [
        "# Commands",
        "",
        "`rota COMMAND --help` says the same. At a terminal: `man rota-run`.",
        "",
    ]
    for group in GROUPS:
        members = [it for it in COMMANDS if it.group == group]
        names = ", ".join(f"[{it.name}](#rota-{it.name})" for it in members)
        lines += [f"**{group}**: {names}", ""]
    for group in GROUPS:
        for command in (it for it in COMMANDS if it.group == group):
            lines += _command(command)
    return "\n".join(lines)


def _command(command: Command) -> Iterator[str]:
    parser = command_parser(command)
    yield from (
        f"## rota {command.name}",
        "",
        html.escape(command.summary[:1].upper() + command.summary[1:]) + ".",
        "",
    )
    yield from ("```text", " ".join(parser.format_usage().split()).replace("usage: ", ""), "")
    if command.more:
        yield from (command.more, "")
    for arg in (*command.args, *((JSON,) if command.has_json else ())):
        if not arg.hidden:
            value = (
                ""
                if arg.kind == "flag" or not arg.is_option
                else f" {arg.metavar or '|'.join(arg.choices) or 'VALUE'}"
            )
            name = (
                ", ".join(arg.names) + value
                if arg.is_option
                else arg.metavar or "|".join(arg.choices) or arg.names[0]
            )
            yield f"  {name:<24} {arg.text}"
    if command.examples:
        yield from ("", examples(command))
    yield from ("```", "", f"Given in: {', '.join(mouth.value for mouth in command.mouths)}.", "")


def rest(openapi: Mapping[str, Any]) -> str:
    """Return the page on REST: each route with its fields."""
    lines = [
        "# REST",
        "",
        "An agent tells this itself, for programs: `GET /openapi.json`. Errors are problem details (RFC 9457).",
        "",
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", "", _sentence(operation["summary"]), ""]
            lines += [_text(operation.get("description", "")), ""]
            rows = list(_fields(operation))
            if rows:
                lines += ["| field | in | type | what |", "| --- | --- | --- | --- |", *rows, ""]
            for status, reply in operation["responses"].items():
                if status != "default":
                    kinds = reply.get("content", {})
                    what = [f"{kind}: {_type(it.get('schema', {}))}" for kind, it in kinds.items()]
                    lines += [
                        f"Answers {status}" + (f" with {_text('; '.join(what))}." if what else "."),
                        "",
                    ]
    lines += ["# What is sent", ""]
    for name, schema in openapi["components"]["schemas"].items():
        lines += [f"## {name}", "", _text(schema.get("description", "")), ""]
        rows = [_row(field, "", it) for field, it in schema.get("properties", {}).items()]
        if rows:
            lines += ["| field | in | type | what |", "| --- | --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _fields(operation: Mapping[str, Any]) -> Iterator[str]:
    for it in operation.get("parameters", ()):
        yield _row(it["name"], it["in"], {**it["schema"], "description": it.get("description", "")})
    for body in operation.get("requestBody", {}).get("content", {}).values():
        for name, schema in body.get("schema", {}).get("properties", {}).items():
            yield _row(name, "body", schema)


def _row(name: str, where: str, schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    text = schema.get("description", "") + (
        f" (default {json.dumps(default, ensure_ascii=False)})"
        if default not in (None, "", [], {})
        else ""
    )
    return f"| `{name}` | {where} | {_cell(_type(schema))} | {_cell(text)} |"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(it) for it in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(it) for it in schema["enum"])
    kind = schema.get("format") or schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(kind)


def header() -> str:
    """Return the page on the keys at the top of a job."""
    lines = [
        "# A job's header",
        "",
        "Keys of `[tool.rota]`, in the comment at the top of a script. `man rota-job` says the same.",
        "",
    ]
    return "\n".join([*lines, *_keys(header_keys())])


def settings() -> str:
    """Return the page on the keys of ``settings.toml``."""
    lines = [
        "# settings.toml",
        "",
        "One file on `main`, for the whole cluster. `man rota-settings` says the same.",
        "",
    ]
    for name, what, keys in settings_sections():
        lines += [f"## {name}" if name else "## At the top", "", _text(what), "", *_keys(keys)]
    return "\n".join(lines)


def _keys(keys: Mapping[str, Key]) -> Iterator[str]:
    yield from ("| key | what | such as | without it |", "| --- | --- | --- | --- |")
    for name, key in keys.items():
        example = f"`{key.example}`".replace("|", "\\|") if key.example != name else ""
        yield f"| `{name}` | {_cell(key.what)} | {example} | {_cell(key.default)} |"
    yield ""


def metrics() -> str:
    """Return the page on what ``GET /metrics`` shows."""
    lines = [
        "# Metrics",
        "",
        "The page for Prometheus, `GET /metrics`; how it is opened: [operations](../operations.md).",
        "",
    ]
    lines += ["| name | type | what |", "| --- | --- | --- |"]
    lines += [f"| `{it.name}` | {it.kind} | {_cell(it.help)} |" for it in METERS]
    return "\n".join([*lines, ""])


def _sentence(text: str) -> str:
    return _text(text[:1].upper() + text[1:].rstrip(".")) + "."


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _cell(text: str) -> str:
    return _text(" ".join(text.split())).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
