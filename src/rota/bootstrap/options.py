"""What an agent is started with."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """What `rota agent` was given. ``ready_fd`` gets the line `ready` once builds are taken."""

    data: Path
    name: str | None = None
    listen: str | None = None
    labels: str = ""
    slots: int | None = None
    join: str | None = None
    ephemeral: bool = False
    from_clone: Path | None = None
    bus: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    ready_fd: int | None = None
