"""Our own nick: taken back from whoever has it, as soon as that may be.

Pure: a line goes in, what is to be sent comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rota.adapters.irc.lines import Line, line_of

#: Between two tries: doubled each time, since services count them.
FIRST_S, LAST_S = 15.0, 240.0
#: How often services are asked in one connection: two bots of one account would fight for ever.
MAX_REGAINS = 4


def alternatives(nick: str) -> Iterator[str]:
    """Yield the nick, and others for as long as it is taken; all fit where it does."""
    yield nick
    number = 1
    while True:
        number += 1
        end = f"-{number}"
        yield f"{nick[: max(len(nick), 9) - len(end)]}{end}"


class OwnNick:
    """Which nick we have, and which we want."""

    def __init__(self, wanted: str, fold: Callable[[str], str]) -> None:
        self._fold = fold
        self.wanted = wanted
        self.current = wanted
        self._next = 0.0
        self._pause = FIRST_S
        self._regains = 0
        self._is_watched = False

    @property
    def is_right(self) -> bool:
        """Whether we have the one we want."""
        return self._fold(self.current) == self._fold(self.wanted)

    def is_ours(self, nick: str) -> bool:
        """Whether a line of that nick is ours."""
        return self._fold(nick) == self._fold(self.current)

    def take(self, line: Line, now: float) -> Iterator[Line]:
        """Return what is to be sent after a line."""
        match line.command:
            case "NICK" if self.is_ours(line.source.nick):
                was_right, self.current = self.is_right, line.param(0)
                if was_right and not self.is_right:
                    # Renamed by services, or by who runs the server: not at once, or it is a fight.
                    self._next = now + self._pause
            case "NICK" | "QUIT" if self._is_holder(line.source.nick):
                yield line_of("NICK", self.wanted)
            case "731" | "605":  # MONITOR: who is not there any more
                if any(self._is_holder(it.partition("!")[0]) for it in line.text.split(",")):
                    yield line_of("NICK", self.wanted)
            case "303" if not self.is_right:  # ISON: who of those asked for is there
                if not any(self._is_holder(nick) for nick in line.text.split()):
                    yield line_of("NICK", self.wanted)
            case _:
                pass

    def _is_holder(self, nick: str) -> bool:
        return not self.is_right and self._fold(nick) == self._fold(self.wanted)

    def hurry(self) -> None:
        """Try at once: what stood against it may not any more."""
        self._next = 0.0

    def due(self, now: float, *, is_logged_in: bool, can_monitor: bool) -> Iterator[Line]:
        """Return what is to be sent now to have the right nick; nothing most of the time."""
        if self.is_right:
            self._pause = FIRST_S
            return
        if now < self._next:
            return
        self._next = now + self._pause
        self._pause = min(self._pause * 2, LAST_S)
        if can_monitor and not self._is_watched:
            self._is_watched = True
            yield line_of("MONITOR", "+", self.wanted)
        if is_logged_in and self._regains < MAX_REGAINS:
            # Not all services have the first. There is no secret in it: whoever calls itself
            # NickServ learns nothing.
            word = ("REGAIN", "GHOST")[self._regains % 2]
            self._regains += 1
            yield line_of("PRIVMSG", "NickServ", f"{word} {self.wanted}")
        else:
            yield line_of("ISON", self.wanted)
