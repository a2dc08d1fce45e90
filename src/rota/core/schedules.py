"""The schedules that the cluster keeps, and what is recorded of them.

A schedule's *cursor* is the last instant of it that is settled: fired, or skipped for a reason that
is on record. It moves forward only, by folding, so that no instant is settled twice whoever leads,
whatever its clock says, and however often it was killed in between. Instants count from *since* on,
when the rule was first seen; what lies before it never was an instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from rota.core.ids import ID_ALPHABET, ID_LENGTH
from rota.core.instant import Instant
from rota.core.job import Int
from rota.core.triggers import Schedule

#: The kind of trigger of a build that a schedule asked for; and of one that somebody made up for.
SCHEDULE, BACKFILL = "schedule", "backfill"
#: Skipped instants are counted up to so many; above that the record has a count of 0.
MAX_COUNTED = 10_000
FOLDER = "schedules"

#: What becomes of the instants of a pause when it ends.
Misses = Literal["skip", "run"]


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a schedule rests: its job was paused."""

    by: str = ""
    at: Instant | None = None
    reason: str = ""
    misses: Misses = "skip"

    @property
    def text(self) -> str:
        """Say it in words."""
        by = f"paused by {self.by}" if self.by else "paused"
        return f"{by}: {self.reason}" if self.reason else by


class Scheduled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule as the journal knows it.

    ``calendars`` is a hash of what the calendars say that it uses, and ``commit`` that of ``main``
    from which all this was read.
    """

    job: str
    rule: Schedule
    since: Instant
    cursor: Instant | None = None
    pause: Pause | None = None
    calendars: str = ""
    commit: str = ""

    @property
    def settled(self) -> datetime:
        """The moment up to which nothing is left to do."""
        return self.since if self.cursor is None else max(self.since, self.cursor)


class Skip(msgspec.Struct, frozen=True, omit_defaults=True):
    """Instants from ``first`` to ``last`` do not fire, and why; ``count`` is 0 if there are many."""

    schedule: str
    first: Instant
    last: Instant
    why: str
    count: Int = 1


class Fired(msgspec.Struct, frozen=True):
    """An instant fired: as which build."""

    schedule: str
    at: Instant
    build: str


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one event settled: a line of the ledger, as it stands on ``history``."""

    seq: Int
    at: Instant
    by: str = ""
    set: dict[str, Scheduled] = {}
    removed: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()
    fires: tuple[Fired, ...] = ()

    @property
    def is_urgent(self) -> bool:
        """Whether a record should be made of it soon: fires come with their builds."""
        return bool(self.set or self.removed or self.skips)


class Instants(Protocol):
    """When a rule fires; :class:`rota.core.timetable.Timetable` is one."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first instant strictly after ``after``."""
        ...

    def due_at(self, instant: datetime) -> datetime:
        """Return when ``instant`` is to be fired: not before it."""
        ...


def build_id(schedule: str, instant: datetime) -> str:
    """Return the id of the one build that an instant of a schedule can have."""
    digest = hashlib.sha256(f"schedule\0{schedule}\0{instant.isoformat()}".encode()).digest()
    return "".join(ID_ALPHABET[byte & 31] for byte in digest[:ID_LENGTH])


# -- folding ----------------------------------------------------------------------------------


def skipped(schedules: dict[str, Scheduled], skip: Skip) -> bool:
    """Move a schedule's cursor over a range; say whether it moved: one that overlaps is void."""
    known = schedules.get(skip.schedule)
    if known is None or not known.settled < skip.first <= skip.last:
        return False
    schedules[skip.schedule] = replace(known, cursor=skip.last)
    return True


def may_fire(schedules: dict[str, Scheduled], schedule: str, instant: datetime) -> bool:
    """Whether an instant of a schedule is still to be settled."""
    known = schedules.get(schedule)
    return known is not None and instant > known.settled


def fired(schedules: dict[str, Scheduled], schedule: str, instant: datetime) -> None:
    """Move a schedule's cursor to an instant."""
    schedules[schedule] = replace(schedules[schedule], cursor=instant)


# -- what changes when definitions do ---------------------------------------------------------


class Revision(msgspec.Struct, frozen=True):
    """What a change of definitions does to one schedule; ``now`` is ``None`` where it ends."""

    now: Scheduled | None
    skip: Skip | None = None


def revised(
    id_: str,
    known: Scheduled | None,
    wanted: Scheduled | None,
    instants: Instants | None,
    at: datetime,
) -> Revision | None:
    """Return what becomes of a schedule at ``at``; ``None`` if nothing does.

    Args:
        id_: Its id.
        known: As the journal has it.
        wanted: As the definitions want it, its ``since`` and ``cursor`` not looked at.
        instants: Of the rule as it is known.
        at: Now, by whoever asks.
    """
    if wanted is None:
        if known is None:
            return None
        return Revision(None, left(id_, known, instants, at, _because(known, "removed")))
    if known is None:
        return Revision(replace(wanted, since=at, cursor=None))
    if _times(known) != _times(wanted):
        why = _because(known, "changed")
        return Revision(
            replace(wanted, since=max(at, known.settled), cursor=None),
            left(id_, known, instants, at, why),
        )
    now = replace(wanted, since=known.since, cursor=known.cursor)
    if known.pause is not None and wanted.pause is None and known.pause.misses == "skip":
        return Revision(now, left(id_, known, instants, at, known.pause.text))
    is_same = replace(now, commit=known.commit) == known
    return None if is_same else Revision(now)


def _because(known: Scheduled, what: str) -> str:
    text = f"the schedule was {what} before it could fire"
    return text if known.pause is None else f"{known.pause.text}; then the schedule was {what}"


def _times(it: Scheduled) -> tuple[str, Schedule, str]:
    """Return what a schedule's instants are made of."""
    policies = {"misfire": "once", "within_s": 0.0, "overlap": "allow"}
    return it.job, replace(it.rule, name="", params={}, priority=None, **policies), it.calendars


def left(
    id_: str, known: Scheduled, instants: Instants | None, at: datetime, why: str
) -> Skip | None:
    """Return the instants that were not settled by ``at``, as skipped."""
    if instants is None:
        return None
    found = list(islice(_between(instants, known.settled, at), MAX_COUNTED + 1))
    if not found:
        return None
    if len(found) > MAX_COUNTED:
        return Skip(id_, found[0], at, why, 0)
    return Skip(id_, found[0], found[-1], why, len(found))


def _between(instants: Instants, after: datetime, until: datetime) -> Iterator[datetime]:
    while (found := instants.next(after)) is not None and found <= until:
        yield found
        after = found


# -- the ledger -------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Note)


def ledger_path(covers: int) -> str:
    """Return the path on ``history`` of the notes that a seal up to ``covers`` brings.

    Folders stay small, as those of the records do.
    """
    return f"{FOLDER}/{covers // 1_000_000:05}/{covers // 10_000 % 100:02}/{covers}.jsonl"


def encode_notes(notes: tuple[Note, ...]) -> bytes:
    """Return the notes as lines of JSON: the same notes give the same bytes."""
    return b"".join(_encoder.encode(note) + b"\n" for note in notes)


def is_ledger(data: bytes) -> bool:
    """Whether a file of the history is of the ledger; a build's record begins with a line end."""
    return data.startswith(b'{"')


def decode_notes(data: bytes) -> list[Note]:
    """Return the notes of a ledger's file; lines that are none are passed over."""
    found = []
    for line in data.splitlines():
        try:
            found.append(_decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    return found


def rebuilt(notes: Iterable[Note]) -> dict[str, Scheduled]:
    """Return the schedules as a ledger leaves them."""
    schedules: dict[str, Scheduled] = {}
    for note in sorted(notes, key=lambda note: note.seq):
        fold_note(schedules, note)
    return schedules


def fold_note(schedules: dict[str, Scheduled], note: Note) -> None:
    """Let one note be true of the schedules, as its event was when it was folded."""
    for skip in note.skips:
        skipped(schedules, skip)
    for it in note.fires:
        if may_fire(schedules, it.schedule, it.at):
            fired(schedules, it.schedule, it.at)
    for id_ in note.removed:
        schedules.pop(id_, None)
    for id_, new in note.set.items():
        known = schedules.get(id_)
        is_behind = known is not None and known.settled > new.settled
        schedules[id_] = replace(new, cursor=known.settled) if is_behind and known else new
