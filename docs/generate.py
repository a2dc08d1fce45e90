"""Write the parts of the reference that stand in the code: states of a build, and events.

``python docs/generate.py`` writes them; with ``--check`` it writes nothing, and exits with 1 if a
file is not what it would write.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.inspect import (
    CustomType,
    DateTimeType,
    DictType,
    EnumType,
    Field,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from rota.core import job, states
from rota.core.codec import VERSION
from rota.core.events import Fact, Known
from rota.core.states import mermaid

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/generate.py; change the code, not this file. -->"
FORM = (
    "The journal holds one JSON object an event; this is version {}. Its `kind` says which of\n"
    "these it is. A field that has its default is left out, and one that is not known is to be\n"
    "ignored. REST adds `seq`, the event's place in the journal."
)
#: Of a fault of ours a person reads this; the check's exit status is for programs.
STALE = "{} is not what the code says: run python docs/generate.py"


def build_states() -> str:
    """Return the page on the states of a build."""
    head, _, rest = (states.__doc__ or "").partition("\n\n")
    text, _, _ = rest.rpartition("\n\n")
    return f"# {head.rstrip('.')}\n\n{MADE}\n\n{_markdown(text)}\n\n```mermaid\n{mermaid()}\n```\n"


def events() -> str:
    """Return the page on all events and what they carry."""
    union = type_info(Known)
    assert isinstance(union, UnionType)
    kinds = [kind for kind in union.types if isinstance(kind, StructType)]
    common = [field.encode_name for field in _fields(Fact)]
    parts: dict[type, StructType] = {}
    sections = [_section(kind, common, parts) for kind in kinds]
    for part in list(parts.values()):
        _collect(part, parts)
    return (
        "\n\n".join(
            [
                "# Events",
                MADE,
                FORM.format(VERSION),
                "## Every event",
                _docs(Fact),
                _table(_fields(Fact), parts),
                *sections,
                "# What events are made of",
                *(_part(part, parts) for part in parts.values()),
                _reasons(),
            ]
        )
        + "\n"
    )


def _section(kind: StructType, common: list[str], parts: dict[type, StructType]) -> str:
    own = [field for field in kind.fields if field.encode_name not in common]
    table = [_table(own, parts)] if own else []
    return "\n\n".join([f"## `{kind.tag}`", _docs(kind.cls), *table])


def _part(part: StructType, parts: dict[type, StructType]) -> str:
    name = part.cls.__name__
    return "\n\n".join([f"## {name}", _docs(part.cls), _table(part.fields, parts)])


def _reasons() -> str:
    """Return the reasons with the remarks that stand beside them."""
    source = inspect.getsource(job.Reason)
    rows = re.findall(r'= "([a-z-]+)"  # (.+)', source)
    assert len(rows) == len(job.Reason)
    lines = [f"| `{reason}` | {text} |" for reason, text in rows]
    return "\n".join(
        ["## Reason", "", _docs(job.Reason), "", "| reason | when |", "|---|---|", *lines]
    )


def _collect(part: StructType, parts: dict[type, StructType]) -> None:
    for field in part.fields:
        before = set(parts)
        _name(field.type, parts)
        for new in set(parts) - before:
            _collect(parts[new], parts)


def _fields(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    info = type_info(struct)
    assert isinstance(info, StructType)
    return info.fields


def _table(fields: Any, parts: dict[type, StructType]) -> str:
    rows = [
        f"| `{field.encode_name}` | {_name(field.type, parts)} | {_default(field)} |"
        for field in fields
    ]
    return "\n".join(["| field | type | default |", "|---|---|---|", *rows])


def _default(field: Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    else:
        default = field.default
    return f"`{msgspec.json.encode(default).decode()}`"


def _name(info: Type, parts: dict[type, StructType]) -> str:
    match info:
        case Metadata():
            return _name(info.type, parts)
        case UnionType():
            return " or ".join(_name(member, parts) for member in info.types)
        case VarTupleType():
            return f"list of {_name(info.item_type, parts)}"
        case DictType():
            return f"object of {_name(info.value_type, parts)}"
        case StructType():
            parts[info.cls] = info
            return f"[{info.cls.__name__}](#{info.cls.__name__.lower()})"
        case LiteralType():
            return " or ".join(f"`{value}`" if value else "empty" for value in info.values)
        case EnumType() if info.cls is job.Reason:
            return "[Reason](#reason)"
        case EnumType():
            return " or ".join(f"`{member.value}`" for member in info.cls)
        case CustomType():
            return "any"
        case _:
            return _NAMES[type(info)]


_NAMES: dict[type[Type], str] = {
    msgspec.inspect.BytesType: "bytes, in base64",
    DateTimeType: "time, RFC 3339",
    IntType: "integer",
    NoneType: "null",
    msgspec.inspect.StrType: "string",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.FloatType: "number",
}


def _docs(thing: type) -> str:
    return _markdown(inspect.cleandoc(thing.__doc__ or ""))


def _markdown(text: str) -> str:
    """Return a docstring as Markdown: its double backticks and roles as single backticks."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").strip()


PAGES = {"build-states.md": build_states, "events.md": events}


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    """Write the pages, or check them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    is_check = parser.parse_args(arguments).check
    status = 0
    for name, page in PAGES.items():
        path = folder / name
        if path.exists() and path.read_text() == page():
            continue
        if is_check:
            sys.stderr.write(STALE.format(path) + "\n")
            status = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page())
    return status


if __name__ == "__main__":
    sys.exit(main())
