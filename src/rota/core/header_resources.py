"""The part of a header that says what a build may use of its machine: resources, user, network."""

from __future__ import annotations

import re
from typing import Any

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.resources import Isolation, Resources

MAX_CPUS = 4096
MAX_PIDS = 4_194_304  # what a 64-bit kernel can count to
#: Less than this no interpreter starts in; a smaller number is a wrong unit.
MIN_MEMORY = 1 << 20
NETWORKS = ("host", "none", "private")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")


def _cpus(value: Any, _: Spot) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "how many processors' time, such as 2 or 0.5"
        raise FieldError(f"must be a number, not {fields.type_name(value)}", hint)
    if not 0.01 <= value <= MAX_CPUS:
        raise FieldError(f"must be between 0.01 and {MAX_CPUS}, not {value}")
    return float(value)


def user(value: Any, spot: Spot) -> str:
    """Read a user of the machine, by name or number, with a group after a colon if so wished."""
    name = fields.text(value, spot)
    if not _USER.fullmatch(name):
        hint = "a user of the machine, such as build, 1000 or build:docker"
        raise FieldError(f"is no user's name: {printed_value(name)}", hint)
    return name


def _resources(value: Any, spot: Spot) -> Resources:
    if value == {}:
        raise FieldError("is empty, so that it says nothing")
    return resources(value, spot)


def _isolation(value: Any, spot: Spot) -> Isolation:
    if value == {}:
        raise FieldError("is empty, so that it says nothing")
    return fields.table(ISOLATION, Isolation)(value, spot)


_RESOURCES = {
    "cpus": Field("cpus", _cpus, "cpus = 2"),
    "memory": Field("memory_bytes", fields.size(MIN_MEMORY, 1 << 60), 'memory = "1G"'),
    "pids": Field("pids", fields.integer(1, MAX_PIDS), "pids = 500"),
}
#: Reads a table of limits.
resources = fields.table(_RESOURCES, Resources)

#: What only a plain build can be kept from.
ISOLATION = {
    "no_new_privs": Field("no_new_privs", fields.boolean, "no_new_privs = true"),
    "private_tmp": Field("private_tmp", fields.boolean, "private_tmp = true"),
    "private_pids": Field("private_pids", fields.boolean, "private_pids = true"),
}

RESOURCES = {
    "resources": Field("resources", _resources, 'resources = { cpus = 2, memory = "1G" }'),
    "user": Field("user", user, 'user = "build"'),
    "network": Field("network", fields.one_of(NETWORKS), 'network = "none"'),
    "isolation": Field("isolation", _isolation, "isolation = { no_new_privs = true }"),
}
