"""How much is said and heard at most: buckets that fill with time."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

#: So many people, or rooms, are told apart; who was silent longest is forgotten first.
MAX_KEYS = 2000


class Bucket:
    """So many at once, and then one every so many seconds; ``now`` is any clock that only rises."""

    __slots__ = ("_at", "_burst", "_every_s", "_level")

    def __init__(self, every_s: float, burst: int) -> None:
        self._every_s, self._burst = every_s, max(1, burst)
        self._level, self._at = float(self._burst), 0.0

    def take(self, now: float) -> float:
        """Take one; return how many seconds to wait before it may be used, 0 for none."""
        self._fill(now)
        self._level -= 1.0
        return max(0.0, -self._level * self._every_s)

    def give_back(self) -> None:
        """Give one back that was not used."""
        self._level += 1.0

    def try_take(self, now: float) -> bool:
        """Take one if there is one."""
        self._fill(now)
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    def _fill(self, now: float) -> None:
        if self._every_s <= 0.0:
            self._level = float(self._burst)
        elif self._at:
            self._level += max(0.0, now - self._at) / self._every_s
        self._level, self._at = min(self._level, float(self._burst)), now


class Rate(NamedTuple):
    """A bucket's size."""

    every_s: float
    burst: int


#: What one person, and all in one room, may write that is looked at at all.
PERSON, ROOM = Rate(1.0, 15), Rate(0.2, 60)
#: How often somebody is told that they are too fast: a crowd is not told one by one.
TELL = Rate(20.0, 3)


class Flood:
    """Says what of all that is heard is listened to; whoever floods is told so once, then ignored."""

    def __init__(self, person: Rate = PERSON, room: Rate = ROOM) -> None:
        self._rates = person, room
        self._people: OrderedDict[str, Bucket] = OrderedDict()
        self._rooms: OrderedDict[str, Bucket] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._tells = Bucket(*TELL)

    def admits(self, person: str, room: str, now: float) -> bool:
        """Whether what a person wrote in a room is listened to."""
        by_person = _bucket(self._people, person, self._rates[0]).try_take(now)
        if by_person:
            self._told.pop(person, None)
        return by_person and _bucket(self._rooms, room, self._rates[1]).try_take(now)

    def is_to_tell(self, person: str, now: float) -> bool:
        """Whether who was not listened to is to be told so: the first time, until they are again."""
        if person in self._told or not self._tells.try_take(now):
            return False
        self._told[person] = None
        _forget(self._told)
        return True


def _bucket(buckets: OrderedDict[str, Bucket], key: str, rate: Rate) -> Bucket:
    found = buckets.pop(key, None) or Bucket(*rate)
    buckets[key] = found
    _forget(buckets)
    return found


def _forget(known: OrderedDict[str, Bucket] | OrderedDict[str, None]) -> None:
    while len(known) > MAX_KEYS:
        known.popitem(last=False)
