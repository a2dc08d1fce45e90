"""The rooms where we are to be, and why we are not in some.

Pure: a line goes in, what is to be sent comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rota.adapters.irc.lines import Line, line_of

#: Until we try again: doubled each time, so that nobody who throws us out is bothered.
FIRST_S, LAST_S = 2.0, 600.0
#: Until a server that did not answer is asked again.
UNANSWERED_S = 60.0
_JOIN_BYTES = 380
_CAUGHT_UP = "rota-in-"
_WHY = {
    "403": "there is no such room",
    "405": "we are in too many rooms",
    "437": "it cannot be joined now",
    "448": "it cannot be a room's name",
    "470": "it forwards to another one",
    "471": "it is full (+l)",
    "473": "only who is invited gets in (+i)",
    "474": "we are banned (+b)",
    "475": "the key is wrong or missing (+k): write it behind the room's name",
    "476": "it cannot be a room's name",
    "477": "only who is logged in gets in (+r): set account and password",
    "489": "only who uses TLS gets in (+z)",
    "520": "only who runs the server gets in (+O)",
}
#: What may be otherwise in a moment, without anybody doing something.
_PASSING = {"405", "437", "471"}


class Room:
    """One room."""

    def __init__(self, name: str, key: str = "", *, is_settled: bool = True) -> None:
        self.name, self.key, self.is_settled = name, key, is_settled
        self.is_joined = False
        self.is_caught_up = False  # and has told us its past, if it keeps one
        self.refusal = ""  # why not
        self.is_passing = True  # and whether that may change by itself
        self.next = 0.0
        self.pause = FIRST_S
        self.joined = 0.0  # when, in monotonic seconds
        self.has_colours = True


class Rooms:
    """All rooms of one connection, by name."""

    def __init__(self, wanted: Iterable[str], fold: Callable[[str], str]) -> None:
        self._fold = fold
        self._rooms: dict[str, Room] = {}
        for it in wanted:
            name, _, key = it.partition(" ")
            self._rooms[fold(name)] = Room(name, key.strip())
        self.types = "#&"

    def refold(self) -> None:
        """Go by another meaning of names that are the same."""
        self._rooms = {self._fold(it.name): it for it in self._rooms.values()}

    def is_room(self, name: str) -> bool:
        """Whether that is the name of a room, and not of a person."""
        return name[:1] in self.types if name else False

    def get(self, name: str) -> Room | None:
        """Return a room that is wanted."""
        return self._rooms.get(self._fold(name))

    def has_joined(self, name: str) -> bool:
        """Whether we are in it."""
        room = self.get(name)
        return room is not None and room.is_joined

    def want(self, name: str) -> Room:
        """Return a room, to be joined from now on if it was not wanted before."""
        room = self.get(name)
        if room is None:
            room = self._rooms[self._fold(name)] = Room(name, is_settled=False)
        return room

    @property
    def troubles(self) -> list[str]:
        """Why we are not in those that are settled."""
        return [f"{it.name}: {it.refusal}" for it in self._rooms.values() if it.refusal]

    @property
    def are_answered(self) -> bool:
        """Whether all that are settled let us in and told us their past, or said why not."""
        settled = [it for it in self._rooms.values() if it.is_settled]
        return all((it.is_joined and it.is_caught_up) or it.refusal for it in settled)

    def settle(self, key: str, value: str) -> None:
        """Go by what the server says of itself."""
        if key == "CHANTYPES" and value:
            self.types = value

    def due(self, now: float) -> Iterator[Line]:
        """Return what joins those that it is time for."""
        wanted = [it for it in self._rooms.values() if not it.is_joined and it.next <= now]
        for room in wanted:
            room.next, room.refusal = now + UNANSWERED_S, ""
        wanted.sort(key=lambda it: not it.key)  # keys belong to the first ones of a line
        while wanted:
            names, keys, size = [], [], 0
            while wanted and size + len(wanted[0].name) + len(wanted[0].key) + 2 < _JOIN_BYTES:
                room = wanted.pop(0)
                size += len(room.name.encode()) + len(room.key.encode()) + 2
                names.append(room.name)
                keys += [room.key] if room.key else []
            if not names:
                wanted.pop(0)
                continue
            yield line_of("JOIN", ",".join(names), *([",".join(keys)] if keys else []))

    def take(self, line: Line, now: float, *, is_ours: Callable[[str], bool]) -> Iterator[Line]:
        """Return what is to be sent after a line."""
        match line.command:
            case "JOIN" if is_ours(line.source.nick):
                room = self.want(line.param(0))
                room.is_joined, room.refusal, room.joined = True, "", now
                # What the server says of the past comes before it answers this.
                yield line_of("PING", f"{_CAUGHT_UP}{room.name}")
                yield line_of("MODE", room.name)  # whether it takes colours
            case "PONG" if line.text.startswith(_CAUGHT_UP):
                caught_up = self.get(line.text.removeprefix(_CAUGHT_UP))
                if caught_up is not None:
                    caught_up.is_caught_up = caught_up.is_joined
            case "PART" if is_ours(line.source.nick):
                self._out(line.param(0), "", now)
            case "KICK" if is_ours(line.param(1)):
                who, why = line.source.nick, line.param(2)
                self._out(line.param(0), f"{who} threw us out: {why}", now)
            case "INVITE" if is_ours(line.param(0)):
                room_ = self.get(line.param(1))
                if room_ is not None and room_.is_settled:
                    room_.next = now
                    yield from self.due(now)
            case "324":
                self._modes(line.param(1), line.param(2))
            case "MODE":
                self._modes(line.param(0), line.param(1))
            case command if command in _WHY:
                room_ = self.get(line.param(1))
                if room_ is not None and not room_.is_joined:
                    self._refused(room_, command, line.text, now)
            case _:
                pass

    def _refused(self, room: Room, command: str, text: str, now: float) -> None:
        room.refusal = f"{_WHY[command]}; the server says: {text}"
        room.is_passing = command in _PASSING
        self._wait(room, now)
        if not room.is_settled:
            del self._rooms[self._fold(room.name)]

    def _out(self, name: str, why: str, now: float) -> None:
        room = self.get(name)
        if room is None:
            return
        room.is_joined, room.refusal, room.is_passing = False, why, True
        room.is_caught_up = False
        if now - room.joined > LAST_S:
            room.pause = FIRST_S
        self._wait(room, now)

    @staticmethod
    def _wait(room: Room, now: float) -> None:
        room.next, room.pause = now + room.pause, min(room.pause * 4, LAST_S)

    def _modes(self, name: str, modes: str) -> None:
        if (room := self.get(name)) is None:
            return
        adds = True
        for sign in modes:
            if sign in "+-":
                adds = sign == "+"
            elif sign in "cS":
                room.has_colours = not adds
