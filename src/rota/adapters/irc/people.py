"""Who is who on IRC: what the server vouches for, for as long as it does.

A nick alone says nothing: whoever comes first has it. An account does, where services keep them. Where there
are none a session does: nick, user and host with the second in which that connection began, which only the
server knows and which nobody can choose afterwards. It is asked for once a session (WHOIS) and forgotten when
the session is out of sight: from then on anybody may have the nick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rota.adapters.irc.lines import Line, Source, line_of

ACCOUNT, SESSION = "account:", "session:"
#: So many people are known at once; who spoke longest ago is asked about again.
MAX_PEOPLE = 2000
#: An answer to WHOIS is waited for so long, and one that comes by then is still told apart from the next.
PATIENCE_S, STALE_S = 10.0, 60.0
_PREFIXES = "~&@%+!*^"


class Person:
    """Somebody who spoke, and what a WHOIS said of them."""

    def __init__(self, source: Source, asked: float) -> None:
        self.source = source
        self.account = ""
        self.since = 0  # of the connection: UNIX seconds by the server's clock
        self.rooms: set[str] = set()  # in which both are, folded
        self.asked = asked  # when, in monotonic seconds
        self.is_known = False  # whether that was answered
        self.is_other = False  # and it was about another one
        self.is_gone = False  # and left before that: what is answered may be about the next one

    def identity(self, *, has_account_tags: bool = False) -> str:
        """Return as whom the server vouches for them; empty if it does not."""
        if not self.is_known or self.is_other:
            return ""
        if self.account and not has_account_tags:
            return f"{ACCOUNT}{self.account.lower()}"
        return f"{SESSION}{self.source}/{self.since}" if self.since else ""

    def is_named(self, who: str) -> bool:
        """Whether that identity is theirs."""
        if who.startswith(ACCOUNT):
            return self.is_known and f"{ACCOUNT}{self.account}".lower() == who.lower()
        return self.identity(has_account_tags=True) == who


class People:
    """Those whom we heard, by nick, while they are in sight."""

    def __init__(self, fold: Callable[[str], str]) -> None:
        self._fold = fold
        self._people: dict[str, Person] = {}
        self._last: dict[str, str] = {}  # by identity: under which nick it spoke last
        self._asked: dict[str, deque[Person]] = {}  # by nick, in the order of the answers
        self._nobody: set[str] = set()  # of whom the last answer was that there is nobody
        self.has_account_tags = False  # what is not tagged is of nobody who is logged in

    def identity(self, person: Person | None, line: Line, now: float) -> str | None:
        """Return who sent a line, empty if nobody vouches, ``None`` if it is not known yet."""
        if account := line.tags.get("account", ""):
            return f"{ACCOUNT}{account.lower()}"
        if person is None:
            return ""
        if person.is_known:
            return person.identity(has_account_tags=self.has_account_tags)
        return "" if person.is_gone or now - person.asked > PATIENCE_S else None

    def nick_of(self, who: str) -> str:
        """Return the nick under which an identity is in sight, or nothing."""
        found = (it.source.nick for it in self._people.values() if it.is_named(who))
        return next(found, "")

    def spoke(self, who: str, nick: str) -> None:
        """Take note under which nick somebody spoke."""
        self._last.pop(who, None)
        self._last[who] = nick
        while len(self._last) > MAX_PEOPLE:
            del self._last[next(iter(self._last))]

    def guesses(self, who: str) -> list[str]:
        """Return under which nicks an identity may be there; the server is to be asked of each."""
        _, _, rest = who.partition(":")
        last = self._last.get(who.lower() if who.startswith(ACCOUNT) else who, "")
        return [nick for nick in dict.fromkeys((last, rest.partition("!")[0])) if nick]

    # -- asking ----------------------------------------------------------------------------------

    def meet(self, source: Source, room: str, now: float) -> tuple[Person, list[Line]]:
        """Return who spoke, in a room or to us alone, and what the server is to be asked of them."""
        key = self._fold(source.nick)
        person = self._people.pop(key, None)
        ask: list[Line] = []
        is_late = person is not None and not person.is_known and now - person.asked > PATIENCE_S
        if person is not None and (person.source != source or is_late):
            self._end(person)
            person = None
        if person is None:
            person, ask = self.probe(source, now)
        self._people[key] = person
        if room:
            person.rooms.add(self._fold(room))
        while len(self._people) > MAX_PEOPLE:
            self._people.pop(next(iter(self._people)))
        return person, ask

    def probe(self, source: Source, now: float) -> tuple[Person, list[Line]]:
        """Return somebody of that nick, to be known when the server has answered."""
        person = Person(source, now)
        waiting = self._asked.setdefault(self._fold(source.nick), deque())
        while waiting and now - waiting[0].asked > STALE_S:
            waiting.popleft()
        waiting.append(person)
        # Twice: the server on which they are is the one that knows since when.
        return person, [line_of("WHOIS", source.nick, source.nick)]

    # -- what the server says ----------------------------------------------------------------------

    def take(self, line: Line, rooms: Callable[[str], bool]) -> None:
        """Learn from a line; ``rooms`` says of a folded name whether we are in that room."""
        key = self._fold(line.source.nick)
        match line.command:
            case "QUIT":
                self._forget(key)
            case "NICK":
                self._forget(key)
                self._forget(self._fold(line.param(0)))
            case "PART":
                for room in line.param(0).split(","):
                    self._left(key, room)
            case "KICK":
                self._left(self._fold(line.param(1)), line.param(0))
            case "JOIN":
                person = self._people.get(key)
                if person is not None and person.source != line.source:
                    self._forget(key)
                elif person is not None:
                    person.rooms.add(self._fold(line.param(0)))
            case "ACCOUNT":
                if (person := self._people.get(key)) is not None:
                    person.account = "" if line.param(0) == "*" else line.param(0)
            case "311" | "307" | "330" | "317" | "319" | "318" | "401" | "402":
                self._answered(line, rooms)
            case _:
                pass

    def _answered(self, line: Line, rooms: Callable[[str], bool]) -> None:
        key = self._fold(line.param(1))
        if line.command == "318" and key in self._nobody:
            self._nobody.discard(key)
            return
        waiting = self._asked.get(key)
        if not waiting:
            return
        person = waiting[0]
        match line.command:
            case "311":
                self._nobody.discard(key)
                said = Source(line.param(1), line.param(2), line.param(3))
                if person.source.user:
                    person.is_other = said[1:] != person.source[1:]
                else:
                    person.source = said
            case "330":
                person.account = line.param(2)
            case "307":
                # Identified for this very nick, say servers that do not name accounts.
                person.account = person.account or line.param(1)
            case "317" if line.param(3).isdecimal() and len(line.param(3)) < 16:
                person.since = int(line.param(3))
            case "319":
                names = (self._fold(name.lstrip(_PREFIXES)) for name in line.text.split())
                person.rooms |= {name for name in names if rooms(name)}
            case "401" | "402":
                # Some end that by 318, others do not: one that follows is not the next one's.
                self._nobody.add(key)
                person.is_other = True
                self._known(key, waiting)
            case "318":
                self._known(key, waiting)
            case _:
                pass

    def _known(self, key: str, waiting: deque[Person]) -> None:
        person = waiting.popleft()
        if not waiting:
            del self._asked[key]
        person.is_known = not person.is_gone
        if not person.rooms and self._people.get(key) is person:
            del self._people[key]  # out of sight: known for the messages that wait alone

    def left(self, room: str) -> None:
        """We are not in a room any more: who is in no other one is out of sight."""
        for key in list(self._people):
            self._left(key, room)

    def _left(self, key: str, room: str) -> None:
        person = self._people.get(key)
        if person is None or self._fold(room) not in person.rooms:
            return
        person.rooms.discard(self._fold(room))
        if not person.rooms:
            self._forget(key)

    def _forget(self, key: str) -> None:
        if (person := self._people.pop(key, None)) is not None:
            self._end(person)

    @staticmethod
    def _end(person: Person) -> None:
        person.is_gone = not person.is_known
