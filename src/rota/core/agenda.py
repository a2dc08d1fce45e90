"""The agenda: which instant of each schedule is next, and what becomes of those whose time has come.

It is derived from the folded schedules, on every agent, so that a new leader has it at once; it is
brought up to date in pieces (:meth:`Agenda.work`), so that a hundred thousand schedules stop
nothing. A tick costs what is due, not what there is: the next moments stand in a heap, and what is
outdated there is passed over when it comes up.

What is due is only said here. Until it is folded nothing has happened, and whoever asked says which
schedules are to be looked at again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from rota.core.durations import format_duration
from rota.core.schedules import Instants, Scheduled, Skip

#: An instant is missed if it is looked at so much later than it was due: longer than an election
#: takes, and the restart of a machine. What is less late than that fires, whatever the policy.
GRACE_S = 60.0
#: Of missed instants at most so many fire, the last ones; the others are skipped on the record.
MAX_MISSES = 100
#: So many instants of one schedule are looked at in one turn.
TURN = 1000
#: A schedule that rests for longer gets its instants made anew when it is due: 100,000 rules that are
#: kept made take 100 MB, and one is made in some 50 µs.
REST = timedelta(hours=1)
#: With `overlap = "queue"`, so many builds of one schedule wait for each other; then it skips.
MAX_WAITING = 100


class Due(msgspec.Struct, frozen=True):
    """An instant is to fire: after the builds ``after`` have ended, and in place of ``ends``."""

    schedule: str
    at: datetime
    after: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


class Round(msgspec.Struct, frozen=True):
    """What is to be settled now. Of one schedule, skips come before what fires."""

    fires: tuple[Due, ...] = ()
    skips: tuple[Skip, ...] = ()

    @property
    def schedules(self) -> dict[str, None]:
        """The schedules that it is about."""
        skipped = (it.schedule for it in self.skips)
        return dict.fromkeys([*skipped, *(it.schedule for it in self.fires)])


class _Entry(msgspec.Struct):
    scheduled: Scheduled
    instants: Instants | None  # made anew where they are wanted
    next: datetime | None = None


class Agenda:
    """The next instants of all schedules.

    Args:
        schedules: As folded; asked anew each time.
        made: Makes a rule's instants; ``None`` where it cannot be read here.
    """

    def __init__(
        self,
        schedules: Callable[[], Mapping[str, Scheduled]],
        made: Callable[[str, Scheduled], Instants | None],
    ) -> None:
        self._schedules, self._made = schedules, made
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[datetime, int, str, datetime]] = []
        self._todo: dict[str, None] = dict.fromkeys(schedules())

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_behind(self) -> bool:
        """Whether :meth:`work` has something to do."""
        return bool(self._todo)

    def look(self, schedules: Iterable[str]) -> None:
        """Look at these schedules again, in :meth:`work`."""
        self._todo.update(dict.fromkeys(schedules))

    def calendars_changed(self) -> None:
        """Look again at all that uses calendars: they may say something else."""
        uses = [it for it, entry in self._entries.items() if _uses_calendars(entry.scheduled)]
        for id_ in uses:
            del self._entries[id_]
        self.look(uses)

    def work(self, count: int = TURN) -> bool:
        """Look at up to ``count`` schedules; say whether there are more. Cost: 10 to 100 µs each."""
        schedules = self._schedules()
        while self._todo and count > 0:
            id_, _ = self._todo.popitem()
            self._look_at(id_, schedules.get(id_))
            count -= 1
        if len(self._heap) > 2 * len(self._entries) + 1000:
            self._heap = [item for item in self._heap if self._is_current(item)]
            heapq.heapify(self._heap)
        return bool(self._todo)

    def next_due(self) -> tuple[datetime, str, datetime] | None:
        """Return when something is due next, of which schedule, and for which instant."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        due, _, id_, at = self._heap[0]
        return due, id_, at

    def due(
        self,
        now: datetime,
        running: Callable[[str], Sequence[str]],
        *,
        led_since: datetime | None = None,
        limit: int = 250,
    ) -> Round:
        """Return what is to be settled at ``now``, the most urgent first: some ``limit`` instants.

        Those schedules are looked at again only after :meth:`look`. ``running`` returns the builds
        of a schedule that have not finished, oldest first; ``led_since`` is when the leader was
        elected, which may be why something was missed.
        """
        fires: list[Due] = []
        skips: list[Skip] = []
        while (top := self.next_due()) is not None and top[0] <= now:
            if len(fires) + len(skips) >= limit:
                break
            heapq.heappop(self._heap)
            id_ = top[1]
            entry = self._entries[id_]
            entry.next = None
            instants = entry.instants or self._made(id_, entry.scheduled)
            if instants is None:
                continue
            found, is_all = _due(instants, top[2], now)
            skipped, left = _missed(
                id_, entry.scheduled, instants, found, now, led_since, is_all=is_all
            )
            if skipped is not None:
                skips.append(skipped)
            if left:
                fired, skipped = _overlapping(id_, entry.scheduled, left, running(id_))
                fires += fired
                if skipped is not None:
                    skips.append(skipped)
        return Round(tuple(fires), tuple(skips))

    def _look_at(self, id_: str, scheduled: Scheduled | None) -> None:
        entry = self._entries.get(id_)
        if scheduled is None or scheduled.pause is not None:
            self._entries.pop(id_, None)
            return
        kept = entry is not None and _is_same(entry.scheduled, scheduled)
        instants = (entry.instants if entry and kept else None) or self._made(id_, scheduled)
        if instants is None:
            self._entries.pop(id_, None)
            return
        entry = self._entries[id_] = _Entry(scheduled, instants, instants.next(scheduled.settled))
        if entry.next is None or entry.next - scheduled.settled > REST:
            entry.instants = None
        if entry.next is not None:
            due = instants.due_at(entry.next)
            heapq.heappush(self._heap, (due, -(scheduled.rule.priority or 0), id_, entry.next))

    def _is_current(self, item: tuple[datetime, int, str, datetime]) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.next == item[3]


def _uses_calendars(scheduled: Scheduled) -> bool:
    return bool(scheduled.rule.calendars or scheduled.rule.excepts)


def _is_same(one: Scheduled, other: Scheduled) -> bool:
    is_same = one.rule is other.rule or one.rule == other.rule
    return is_same and one.calendars == other.calendars


def _due(instants: Instants, first: datetime, now: datetime) -> tuple[list[datetime], bool]:
    """Return the instants that are due from ``first`` on, and whether these are all."""
    found = [first]
    while len(found) < TURN:
        instant = instants.next(found[-1])
        if instant is None or instants.due_at(instant) > now:
            return found, True
        found.append(instant)
    return found, False


def _missed(
    id_: str,
    scheduled: Scheduled,
    instants: Instants,
    found: list[datetime],
    now: datetime,
    led_since: datetime | None,
    *,
    is_all: bool,
) -> tuple[Skip | None, list[datetime]]:
    """Return what the misfire policy skips of the instants that are due, and what it leaves."""
    rule, limit = scheduled.rule, now - timedelta(seconds=GRACE_S)
    due_at = instants.due_at
    count = next((n for n, at in enumerate(found) if due_at(at) >= limit), len(found))
    late, fresh = found[:count], found[count:]
    fired = 0
    match rule.misfire:
        case "once":
            fired = 1 if is_all and late and not fresh else 0
        case "all":
            fired = min(MAX_MISSES, len(late))
        case "within":
            young = now - timedelta(seconds=rule.within_s)
            fired = min(MAX_MISSES, sum(due_at(at) >= young for at in late))
        case "skip":
            pass
    if fired and not is_all and len(late) > MAX_MISSES:
        # More are due after these: which ones are the last, is seen when these are skipped.
        late, fresh, fired = late[:-MAX_MISSES], [], 0
    gone, kept = late[: len(late) - fired], late[len(late) - fired :]
    if not gone:
        return None, [*kept, *fresh]
    policy = f"within {format_duration(rule.within_s)}" if rule.within_s else rule.misfire
    age = format_duration((now - gone[0]).total_seconds())
    why = f"missed, up to {age} late; misfire policy: {policy}"
    if led_since is not None and gone[0] < led_since:
        why += f"; the present leader was elected at {led_since:%Y-%m-%d %H:%M:%S} UTC"
    return Skip(id_, gone[0], gone[-1], why, len(gone)), [*kept, *fresh]


def _overlapping(
    id_: str, scheduled: Scheduled, left: list[datetime], running: Sequence[str]
) -> tuple[list[Due], Skip | None]:
    """Return what the overlap policy lets fire now. But for `allow`, one instant a turn is judged."""
    policy = scheduled.rule.overlap
    if policy == "allow":
        return [Due(id_, at) for at in left], None
    first = left[0]
    if not running:
        return [Due(id_, first)], None
    if policy == "replace":
        return [Due(id_, first, ends=tuple(running))], None
    if policy == "queue" and len(running) <= MAX_WAITING:
        return [Due(id_, first, after=(running[-1],))], None
    many = len(running)
    why = f"build {running[-1]} had not finished; overlap policy: {policy}"
    if policy == "queue":
        why = f"{many} builds of it had not finished, the limit is {MAX_WAITING}"
    return [], Skip(id_, first, first, why)
