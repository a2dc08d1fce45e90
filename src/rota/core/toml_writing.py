"""Values as TOML writes them."""

from __future__ import annotations

import msgspec


def toml_value(value: object) -> str:
    """Return a string, number, boolean, or a list of such, as TOML, in one line."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    # What JSON says is TOML as well, but for DEL, which only TOML wants escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
