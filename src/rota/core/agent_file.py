"""``agent.toml``: what one agent is to be, in a file of its data folder, read again while it runs.

What its command line says goes above it. A faulty file is refused as a whole: what held before goes on.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.labels import parse_agent_labels
from rota.core.problem import Problem
from rota.core.settings import Settings
from rota.core.toml_document import Source, read_document
from rota.errors import InputError

NAME = "agent.toml"
MAX_SLOTS = 1000
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json", "journald")
MAX_CHARACTERS = 100_000


class LogFile(msgspec.Struct, frozen=True):
    """How the daemon is to log: ``[log]``; ``None`` where the file says nothing."""

    level: str | None = None  # level: debug, info, warning or error
    format: str | None = None  # format: text, json or journald; auto is journald under systemd
    requests: bool = False  # requests: a line for each request


class LogChoice(msgspec.Struct, frozen=True):
    """How the daemon logs, by all that was said."""

    level: str = "info"
    format: str = "auto"
    requests: bool = False


class MachineLimits(msgspec.Struct, frozen=True):
    """What this machine gives away, where that is less than the settings of all: ``[limits]``."""

    min_free: int | None = None  # min_free: below so much free space no build is taken
    workspaces: int | None = None  # workspaces: what is kept of them takes so much at most
    caches: int | None = None  # caches: so much at most


class AgentFile(msgspec.Struct, frozen=True):
    """What the file says; ``None`` where it says nothing."""

    labels: str | None = None
    slots: int | None = None
    listen: str | None = None
    log: LogFile = LogFile()
    limits: MachineLimits = MachineLimits()


def limited(settings: Settings, limits: MachineLimits) -> Settings:
    """Return the settings of all as they hold on a machine that gives away less."""
    caches, workspaces = settings.caches, settings.workspaces
    return replace(
        settings,
        caches=replace(caches, max_bytes=_least(caches.max_bytes, limits.caches)),
        workspaces=replace(workspaces, max_bytes=_least(workspaces.max_bytes, limits.workspaces)),
    )


def _least(bytes_: int, own: int | None) -> int:
    return bytes_ if own is None else min(bytes_, own)


def parse_agent_file(text: str, path: str = NAME) -> tuple[AgentFile, tuple[Problem, ...]]:
    """Return what the file says, and all that is wrong with it, sorted by place. Never raises."""
    if len(text) > MAX_CHARACTERS:
        message = f"{len(text)} characters, the limit is {MAX_CHARACTERS}"
        return AgentFile(), (Problem(path, 0, 0, message),)
    source = Source(path, tuple(line.removesuffix("\r") for line in text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _FILE)
    ordered = sorted(problems, key=lambda it: (it.line, it.column, it.message))
    return AgentFile(**values), tuple(ordered)


def _labels(value: Any, spot: Spot) -> str:
    if isinstance(value, str):
        items = [item for item in value.split(",") if item.strip()]
    else:
        items = list(fields.list_of(fields.text)(value, spot))
    try:
        parse_agent_labels(items)
    except InputError as error:
        raise FieldError(f"cannot be read: {error.message}", error.hint) from None
    return ",".join(item.strip() for item in items)


def _listen(value: Any, spot: Spot) -> str:
    text = fields.text(value, spot)
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]*):(\d{1,5})", text)
    if not found or int(found[2]) > 65535:
        raise FieldError(f"must be HOST:PORT, not {printed_value(text)}", "0.0.0.0:7070")
    return text


_LOG = {
    "level": Field("level", fields.one_of(LEVELS), 'level = "debug"'),
    "format": Field("format", fields.one_of(FORMATS), 'format = "json"'),
    "requests": Field("requests", fields.boolean, "requests = true"),
}
_SIZE = fields.size(0, 1 << 60)
_LIMITS = {
    "min_free": Field("min_free", _SIZE, 'min_free = "5G"'),
    "workspaces": Field("workspaces", _SIZE, 'workspaces = "10G"'),
    "caches": Field("caches", _SIZE, 'caches = "10G"'),
}
_FILE = {
    "labels": Field("labels", _labels, 'labels = ["docker", "arch=arm64"]'),
    "slots": Field("slots", fields.integer(0, MAX_SLOTS), "slots = 4"),
    "listen": Field("listen", _listen, 'listen = "0.0.0.0:7070"'),
    "log": Field("log", fields.table(_LOG, LogFile), '[log] with level = "debug"'),
    "limits": Field(
        "limits", fields.table(_LIMITS, MachineLimits), '[limits] with min_free = "5G"'
    ),
}
