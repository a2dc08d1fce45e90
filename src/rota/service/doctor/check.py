"""A check: a name, what it looks at, and how; and a finding, which it yields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec

from rota.service.context import Service
from rota.service.messages import Finding


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself, so that agents can be compared.

    ``away_s`` is how far its clock is ahead of the asking agent's, as far as the way there lets
    tell, and ``unsure_s`` how far that may be off.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    main: str = ""
    history: str = ""
    covered: int = 0
    away_s: float = 0.0
    unsure_s: float = 0.0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a check has to go by. ``examined`` are all agents that answered: for the cluster's.

    ``older`` are those whose rota has no doctor yet.
    """

    service: Service
    now: datetime
    examined: tuple[Examined, ...] = ()
    unreached: dict[str, str] = {}
    older: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True):
    """``looks_at`` says it in words, for `rota doctor` and its page."""

    name: str
    looks_at: str
    run: Callable[[Look], AsyncIterator[Finding]]


def finding(check: str, agent: str, what: str, hint: str, *, is_warning: bool = False) -> Finding:
    """Return a finding; ``agent`` is empty for the cluster as a whole."""
    severity = "warning" if is_warning else "trouble"
    return Finding(check=check, agent=agent, what=what, hint=hint, severity=severity)
