"""The cluster's settings: ``settings.toml`` on main, the same on every agent."""

from __future__ import annotations

from typing import Any

import msgspec

from rota.core import fields
from rota.core.environment import variable, variable_fault
from rota.core.fields import Field, FieldError, Spot
from rota.core.header import DAY_S, MAX_DURATION_S, MAX_HEADER_CHARACTERS
from rota.core.problem import Problem
from rota.core.toml_document import Source, read_document


class Logs(msgspec.Struct, frozen=True):
    """How long logs are kept: ``[logs]``."""

    max_age_s: float = 30 * DAY_S  # max_age: a log older than this is removed
    max_bytes: int = 20 * 1024**3  # max_bytes: beyond this the oldest are


class Builds(msgspec.Struct, frozen=True):
    """What stays of builds: ``[builds]``."""

    keep_failed_workspaces: int = 5  # how many workspaces of failed builds each agent keeps


class Settings(msgspec.Struct, frozen=True):
    """What holds for every job of the cluster unless its header says otherwise."""

    path: tuple[str, ...] = (  # folders in which a build finds its programs: its PATH
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    )
    env: dict[str, str] = {}  # variables of every build, under those of its job
    timeout_s: float | None = 6 * 3600.0  # timeout: for jobs that name none; None is no limit
    logs: Logs = Logs()
    builds: Builds = Builds()


def parse_settings(text: str, path: str = "settings.toml") -> tuple[Settings, tuple[Problem, ...]]:
    """Return the settings that ``text`` says, and all that is wrong with it, sorted by place.

    A faulty key keeps its default. Never raises.
    """
    if len(text) > MAX_HEADER_CHARACTERS:
        message = f"{len(text)} characters, the limit is {MAX_HEADER_CHARACTERS}"
        return Settings(), (Problem(path, 0, 0, message),)
    source = Source(path, tuple(line.removesuffix("\r") for line in text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _SETTINGS)
    ordered = sorted(problems, key=lambda it: (it.line, it.column, it.message))
    return Settings(**values), tuple(ordered)


def _folder(value: Any, spot: Spot) -> str:
    folder = fields.text(value, spot)
    if not folder.startswith("/"):
        raise FieldError(f"must be absolute, not {fields.printed_value(folder)}")
    if ":" in folder:
        raise FieldError("has a ':', which separates folders in PATH", "one folder an item")
    return folder


def _timeout(value: Any, spot: Spot) -> float | None:
    return None if value == "none" else fields.duration(0.001, MAX_DURATION_S)(value, spot)


_LOGS = {
    "max_age": Field("max_age_s", fields.duration(1, 3650 * DAY_S), 'max_age = "30d"'),
    "max_bytes": Field("max_bytes", fields.size(1 << 20, 1 << 60), 'max_bytes = "20G"'),
}

_BUILDS = {
    "keep_failed_workspaces": Field(
        "keep_failed_workspaces", fields.integer(0, 1000), "keep_failed_workspaces = 5"
    ),
}

_SETTINGS = {
    "path": Field("path", fields.list_of(_folder), 'path = ["/usr/bin", "/bin"]'),
    "env": Field("env", fields.table_of(variable_fault, variable), 'env = { LANG = "C" }'),
    "timeout": Field("timeout_s", _timeout, 'timeout = "6h", or "none"'),
    "logs": Field("logs", fields.table(_LOGS, Logs), '[logs] with max_age = "30d"'),
    "builds": Field(
        "builds", fields.table(_BUILDS, Builds), "[builds] with keep_failed_workspaces = 5"
    ),
}
