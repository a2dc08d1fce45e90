"""Levels: what all members of a cluster can, so that agents of two versions fold one journal alike.

A version that folds an event otherwise than the one before it, or writes other bytes into the
``history``, brings a new level. It does so only where :attr:`~rota.core.cluster.Picture.level` says
that every member can; until then it does as the version before. ``cluster.raised`` makes it so, once
for all, and nothing lowers it.

======  ==========================================================================================
level   what it brings
======  ==========================================================================================
1       all that was there before levels were: its agents announce none
2       tokens and roles; certificates that are revoked; who wrote what, and the audit's chain; `too-much-output`
======  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from rota.core.agents import Agent, AgentState
from rota.errors import InputError

#: What an agent can that does not say.
FIRST = 1
#: What this program can.
LEVEL = 2
#: From which on an attempt may end as `too-much-output`.
ENDS_FLOODS = 2
#: Kinds of events that nobody writes below a level: who does not know them would keep a state
#: without what they say, and hand it on.
NEEDED = {
    "agent.key-made": 2,
    "agent.key-taken": 2,
    "token.made": 2,
    "token.revoked": 2,
    "token.used": 2,
}


#: Whoever went down less than that ago may be on the way to another version, and back to a former one.
AWAY = timedelta(minutes=10)


def just_gone(agents: Iterable[Agent], now: datetime) -> list[str]:
    """Return who went down so lately that nobody knows yet which version it will come back as."""
    gone = (AgentState.STOPPED, AgentState.LOST)
    return sorted(it.name for it in agents if it.state in gone and now - it.since < AWAY)


def parse_level(text: str) -> int:
    """Return the level that an agent is to announce; that of this program for an empty text.

    Raises:
        InputError: it is none that this program can.
    """
    if not text:
        return LEVEL
    if not (text.isascii() and text.isdigit() and FIRST <= int(text[:9]) <= LEVEL):
        raise InputError(
            f"level {text!r} is none that this rota can announce",
            hint=f"{FIRST} to {LEVEL}; without one it announces {LEVEL}",
        )
    return int(text)


def too_new(level: int) -> str:
    """Return in words why this program must not fold a journal of that level; empty if it may."""
    if level <= LEVEL:
        return ""
    return f"the cluster is at level {level}, and this rota knows {LEVEL}"


def attainable(members: Iterable[str], announced: Mapping[str, int]) -> int:
    """Return the level that all members can; where there are none, that of this program."""
    return min((max(announced.get(name, FIRST), FIRST) for name in members), default=LEVEL)
