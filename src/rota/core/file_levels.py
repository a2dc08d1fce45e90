"""What stands in files on ``main`` that agents below a level cannot read.

They would go on with what they read last: a rule that takes something away would hold at some agents
and not at others. So it is not taken before the cluster's level says that all can read it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from rota.core.definition_file import SETTINGS
from rota.core.users import USERS

#: Keys of the settings, and the level from which on all agents know them; one of a table as TABLE.KEY.
SETTINGS_KEYS: Mapping[str, int] = {
    "access": 2,
    "certificates": 2,
    "metrics": 2,
    "oidc": 2,
    "traces": 2,
    "logs.max_build": 2,
    "rest.calls": 2,
    "rest.events": 2,
    "rest.requests": 2,
}
#: The same for users' files.
USER_KEYS: Mapping[str, int] = {"logins": 2}
#: The same for values of users' files.
USER_VALUES: Mapping[tuple[str, str], int] = {("role", "none"): 2}


def too_new_in(path: str, data: bytes, former: bytes, level: int) -> dict[str, int]:
    """Return what a file has that not all agents can read at a level, with the level that it needs.

    What stood in it before is left out: that harm is done. So is what is no TOML; others say so.

    Args:
        path: Of the file, on ``main``.
        data: What it is to be.
        former: What it is, empty for none.
        level: That of the cluster.
    """
    if path != SETTINGS and not path.startswith(USERS):
        return {}
    had = {what for what, _ in _needs(path, former)}
    return {
        what: needed for what, needed in _needs(path, data) if needed > level and what not in had
    }


def _needs(path: str, data: bytes) -> Iterator[tuple[str, int]]:
    """Yield what a file says that not every level has, and the level that it needs."""
    try:
        table: dict[str, Any] = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    for key, needed in (SETTINGS_KEYS if path == SETTINGS else USER_KEYS).items():
        outer, _, inner = key.partition(".")
        value = table.get(outer)
        if outer in table if not inner else isinstance(value, dict) and inner in value:
            yield f"`{key}`", needed
    if path != SETTINGS:
        for (key, value), needed in USER_VALUES.items():
            if table.get(key) == value:
                yield f'`{key} = "{value}"`', needed
