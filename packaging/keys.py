"""What the keys of a job's header and of the settings are, as the program's own tables say it.

A table names the attribute that a key becomes, and an example; the remark that stands beside that
attribute says what it means.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from meanings import HEADER
from rota.core import header, settings
from rota.core.durations import format_duration
from rota.core.fields import Field


class Key(NamedTuple):
    """One key: what it is for, an example as it is written, and what holds without it."""

    what: str
    example: str
    default: str


def header_keys() -> dict[str, Key]:
    """Return the keys of ``[tool.rota]``."""
    fields: Mapping[str, Field] = header._JOB
    return {name: Key(HEADER.get(name, ""), field.example, "") for name, field in fields.items()}


def settings_sections() -> Iterator[tuple[str, str, dict[str, Key]]]:
    """Yield each section of ``settings.toml``: its name, what it is for, and its keys.

    The first one, without a name, has what stands at the top.
    """
    top: dict[str, Key] = {}
    sections = []
    remarks = _remarks(settings.Settings)
    for name, field in settings._SETTINGS.items():
        table, struct = _table_of(field)
        if table is None or struct is None:
            top[name] = Key(remarks.get(field.into, ""), field.example, "")
            continue
        what = (inspect.getdoc(struct) or "").split("\n\n")[0]
        sections.append((f"[{name}]", re.sub(r"\s+", " ", what), _keys(table, struct)))
    yield "", "", top
    yield from sections


def _keys(table: Mapping[str, Field], struct: type[msgspec.Struct]) -> dict[str, Key]:
    remarks = _remarks(struct)
    defaults = {it.name: it.default for it in msgspec.structs.fields(struct)}
    return {
        name: Key(
            remarks.get(field.into, remarks.get(name, "")),
            field.example,
            _printed(name, field.into, defaults.get(field.into, msgspec.NODEFAULT)),
        )
        for name, field in table.items()
    }


def _table_of(field: Field) -> tuple[Mapping[str, Field] | None, type[msgspec.Struct] | None]:
    """Return the table of keys that a reader checks, and what it makes of it."""
    known = inspect.getclosurevars(field.read).nonlocals if inspect.isfunction(field.read) else {}
    table = known.get("fields")
    struct = next((it for it in known.values() if inspect.isclass(it)), None)
    if isinstance(table, Mapping) and struct is not None and issubclass(struct, msgspec.Struct):
        return table, struct
    return None, None


def _remarks(struct: type) -> dict[str, str]:
    """Return the remarks beside a class's attributes, without the key that some begin with."""
    source = inspect.getsource(struct)
    found = re.findall(r"^    (\w+): [^#\n]*?#:? (.+)$", source, re.MULTILINE)
    remarks = {name: re.sub(r"^[a-z_]+: ", "", text) for name, text in found}
    split = re.findall(r"^    (\w+): [^#]*?\)  # ([^\n]+)$", source, re.MULTILINE)
    return {**{name: re.sub(r"^[a-z_]+: ", "", text) for name, text in split}, **remarks}


def _printed(name: str, into: str, value: Any) -> str:
    if value is msgspec.NODEFAULT or value is None or value in ("", ()):
        return ""
    if into == f"{name}_s" and isinstance(value, float):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float, str)) else ""
