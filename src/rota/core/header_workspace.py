"""The part of a header that says what becomes of the workspace: `workspace`."""

from __future__ import annotations

from typing import Any

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.workspace import Workspace

KEEPING = ("on-failure", "always", "never")
_MAX_S = 30 * 86_400.0


def _workspace(value: Any, spot: Spot) -> Workspace:
    if value == {}:
        raise FieldError("is empty, so that it says nothing")
    found = fields.table(_WORKSPACE, Workspace)(value, spot)
    if found.for_s is not None and found.keep == "never":
        here = spot.at("for")
        here.fault(f"{here.name} says how long what is never kept is kept", "leave it out")
    return found


_WORKSPACE = {
    "keep": Field("keep", fields.one_of(KEEPING), 'keep = "on-failure"'),
    "for": Field("for_s", fields.duration(1, _MAX_S), 'for = "2h"'),
}

#: What a header says by this key.
WORKSPACE = {
    "workspace": Field("workspace", _workspace, 'workspace = { keep = "on-failure", for = "2h" }')
}
