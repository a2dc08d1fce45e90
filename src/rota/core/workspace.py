"""What a job asks for its workspace."""

from __future__ import annotations

from typing import Literal

import msgspec

Keeping = Literal["", "on-failure", "always", "never"]


class Workspace(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of a workspace after its attempt; empty and ``None`` leave it to the settings.

    ``keep`` says when it is kept for certain, ``for_s`` for how many seconds.
    """

    keep: Keeping = ""
    for_s: float | None = None
