"""Values as TOML writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: object) -> str:
    """Return a string, number, boolean, or a list or table of such, as TOML, in one line."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    # What JSON says is TOML as well, but for DEL, which only TOML wants escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    """Return a key as it stands before ``=``: bare where it may be."""
    return key if _BARE.fullmatch(key) else toml_value(key)
