"""What is heard on a network, over all connections to it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

from rota.adapters.irc.lines import Line
from rota.adapters.irc.talk import Names, Taken
from rota.adapters.irc.texts import plain
from rota.ports.clock import Clock
from rota.ports.networks import Heard

#: What nobody took away by then is a flood: more is not kept.
MAX_WAITING = 2000


class Position(NamedTuple):
    """After which message we go on: when the server had it, and which it is."""

    at: datetime
    id: str = ""

    @classmethod
    def read(cls, text: str) -> Position | None:
        """Return the position that is written so, or ``None`` if none is."""
        when, _, name = text.partition(" ")
        at = moment(when)
        return None if at is None else cls(at, name)

    def __str__(self) -> str:
        """Return what :meth:`read` reads."""
        return f"{self.at.isoformat()} {self.id}"


class Ear:
    """What people wrote, each message once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.heard: asyncio.Queue[Heard] = asyncio.Queue(MAX_WAITING)
        self.position: Position | None = None
        self.taken = Taken()
        self._known = Names()

    def when(self, line: Line) -> datetime:
        """Return when the server had a line: by its clock if it says so, else by ours."""
        return moment(line.tags.get("time", "")) or self._clock.now()

    def hear(
        self,
        line: Line,
        *,
        room: str,
        who: str,
        text: str,
        at: datetime,
        is_direct: bool,
        is_next: bool = True,
    ) -> None:
        """Take a message, unless it was heard before.

        One that overtook others is not ``is_next``: its position is before them, or they were lost with us.
        """
        name = line.tags.get("msgid", "") or _made_id(line, at)
        if name in self._known or self.heard.full():
            return
        self._known.add(name)
        if is_next or self.position is None:
            self.position = Position(at, name)
        self.heard.put_nowait(
            Heard(
                id=name,
                room=room,
                who=who,
                nick=line.source.nick,
                text=plain(text),
                at=at,
                is_direct=is_direct,
                position=str(self.position),
            )
        )


def _made_id(line: Line, at: datetime) -> str:
    """What names a message where the server does not: the same for all who hear it from one server."""
    parts = (at.isoformat(), str(line.source), *line.params)
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:32]


def moment(text: str) -> datetime | None:
    """Return the time of a ``time`` tag."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
