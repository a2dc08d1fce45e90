"""Time zones: from when to when a zone keeps which offset, and what a change of it does to clocks.

A change *leaves out* the wall-clock times between what clocks showed before and after it, or
brings some *twice*. Whether it is called summer time, makes no difference here: half an hour on
Lord Howe, the day that Samoa never had, and a country's new standard time are all changes.

The rules are those of the package ``tzdata`` alone, never the machine's own: agents on machines
with other versions would not agree on when a schedule fires (ADR 23). Instants and wall-clock times
are whole seconds: of Unix time, and of a clock that showed 1970-01-01 00:00 at 0.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from rota.core.problem import nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Spans are found in blocks of so many seconds (388 days), and kept.
_BLOCK = 25
#: How far apart offsets are looked at, 18 hours: since 1970 no zone has changed twice in six days,
#: and the package says of none that it will. A test over all of them holds it.
_STEP = 1 << 16
#: No change ever moved clocks by more than a day.
WIDEST = 86_400


class Span(msgspec.Struct, frozen=True):
    """A time of one offset. At ``start`` it took the place of ``before``.

    Wall-clock time is the instant plus the offset. A span may be cut at ``end`` though the offset
    goes on, and be said to have begun later than it did; never within two days after a change.
    """

    start: int
    end: int
    offset: int
    before: int

    @property
    def gap(self) -> int:
        """How many seconds of wall-clock time were left out at ``start``; negative: came twice."""
        return self.offset - self.before


class Zone:
    """A time zone by its IANA name. Equal names give the same object, by :func:`find_zone`."""

    __slots__ = ("_blocks", "_fixed", "info", "name")

    def __init__(self, name: str, info: ZoneInfo) -> None:
        self.name, self.info = name, info
        self._blocks: dict[int, tuple[list[int], list[Span]]] = {}
        self._fixed = Span(-(1 << 62), 1 << 62, 0, 0) if name in _UTC else None

    def span(self, instant: int) -> Span:
        """Return the span that ``instant`` is in."""
        if self._fixed is not None:
            return self._fixed
        block = self._blocks.get(instant >> _BLOCK)
        if block is None:
            block = self._blocks[instant >> _BLOCK] = self._spans(instant >> _BLOCK)
        starts, spans = block
        return spans[bisect.bisect_right(starts, instant) - 1]

    def offset(self, instant: int) -> int:
        """Return the offset at ``instant``, in seconds east of UTC."""
        delta = datetime.fromtimestamp(instant, self.info).utcoffset()
        assert delta is not None
        return delta.days * 86_400 + delta.seconds

    def local(self, instant: int) -> int:
        """Return what clocks show at ``instant``."""
        return instant + self.span(instant).offset

    def _spans(self, block: int) -> tuple[list[int], list[Span]]:
        first, end = block << _BLOCK, (block + 1) << _BLOCK
        # Two days before the block decide whether it begins right after a change.
        start = first - 2 * WIDEST
        changes = self._changes(start, end)
        cuts = [start, *changes, end]
        spans = []
        before = self.offset(start)
        for since, until in itertools.pairwise(cuts):
            offset = self.offset(since)
            if until > first:
                spans.append(Span(since, until, offset, before))
            before = offset
        return [span.start for span in spans], spans

    def _changes(self, start: int, end: int) -> list[int]:
        """Return the instants at which the offset changes, after ``start`` and before ``end``."""
        found = []
        offset = self.offset(start)
        for at in range(start, end, _STEP):
            until = min(at + _STEP, end - 1)
            if (new := self.offset(until)) != offset:
                found.append(self._change(at, until))
                offset = new
        return found

    def _change(self, low: int, high: int) -> int:
        """Return the one instant after ``low``, up to ``high``, from which the offset is another."""
        old = self.offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.offset(middle) == old else (low, middle)
        return high


_UTC = frozenset(
    {"UTC", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "UCT", "Universal", "Zulu"}
)


class UnknownZoneError(ValueError):
    """There is no zone of that name; ``hint`` has the one most like it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no time zone is called {name!r}")
        self.hint = zone_hint(name)


@functools.cache
def find_zone(name: str) -> Zone:
    """Return the zone of that IANA name.

    Raises:
        UnknownZoneError: there is none.

    Cost: 0.2 ms for the first time.
    """
    if not is_zone(name):
        raise UnknownZoneError(name)
    with _package().joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return Zone(name, ZoneInfo.from_file(file, key=name))


def is_zone(name: str) -> bool:
    """Whether there is a zone of that name. Does not read the others' names for UTC."""
    return name == "UTC" or name in zone_names()


@functools.cache
def zone_names() -> frozenset[str]:
    """Return the names of all zones."""
    return frozenset(_package().joinpath("zones").read_text("utf-8").split())


def _package() -> Traversable:
    import importlib.resources  # 7 ms that most headers need not pay

    return importlib.resources.files("tzdata")


def zone_hint(name: str) -> str:
    """Return what may have been meant by a name that is no zone's."""
    known = sorted(zone_names())
    by_city = {it.rpartition("/")[2].casefold(): it for it in reversed(known)}
    by_city |= {it.casefold(): it for it in known}
    word = name.strip().replace(" ", "_").casefold()
    if word in by_city:
        return f"did you mean {by_city[word]!r}?"
    # Like an abbreviation is only another one, of another part of the world.
    is_short = name.isupper() and len(name) <= 5
    meant = None if is_short else nearest(word, by_city)
    if meant is None:
        return "an IANA name, such as Europe/Berlin or UTC"
    return f"did you mean {by_city[meant.removeprefix('did you mean ')[1:-2]]!r}?"


def to_instant(moment: datetime) -> int:
    """Return the whole second that ``moment``, which is aware, is in."""
    return int((moment - _EPOCH) // _SECOND)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC) - _EPOCH
