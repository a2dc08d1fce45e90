"""Who is told of what, as the fold keeps it: the outbox, and what of builds was looked at.

Each target has a queue, in the order in which the notices became due, and at most one message that
is being said: the intent is in the journal before the network is asked. What a leader found out
about an end is one event, so that it is told whole or not at all, and once: a second one about the
same *mark* changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.ids import derived_id
from rota.core.instant import Instant
from rota.core.job import Int

#: A target that takes nothing keeps so many; of the oldest only the number is told.
MAX_QUEUE = 200
#: Once all targets together are owed so many, each keeps only the last few.
MAX_OWED, MAX_CROWDED = 20_000, 10
#: Of more targets than this the further ones are not told.
MAX_TARGETS = 5000
#: So many notices that were said or given up are remembered.
MAX_DONE = 1000
#: So many jobs and branches are known to be broken; who broke longest ago is forgotten.
MAX_BROKEN = 20_000
#: So many are told of one break.
MAX_CONCERNED = 500
#: A build names so many of whom it was told to.
MAX_TOLD = 50

_T = TypeVar("_T")
#: Of what a notice is: an occasion; ``ended`` where nothing less general fits; ``test`` is asked for.
TEST = "test"


class Due(msgspec.Struct, frozen=True, omit_defaults=True):
    """One notice that became due: to ``target``, not before ``after``; ``user`` is whom it means."""

    target: str
    occasion: str
    user: str = ""
    after: Instant | None = None


class Tale(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one build gives to tell.

    ``turn`` is what it made of its lane (job and branch): it broke or mended it. ``concerned`` are
    who is not told of the same break again, and will be when it is mended. ``failed`` are the builds
    of its tree that are named with it.
    """

    build: str
    ref: str
    number: Int = 0  # of a question; 0 for an end, or an approval
    lane: str = ""
    turn: Literal["", "broken", "fixed"] = ""
    concerned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    since: str = ""  # the build since which it is broken, if that is another one
    notices: tuple[Due, ...] = ()


class Telling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that came of looking at one end, question or approval of a build: its ``mark``.

    Of a tree the end of its root stands for all builds in it.
    """

    build: str
    mark: str
    tales: tuple[Tale, ...]


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One notice that is owed to a target."""

    id: str
    target: str
    occasion: str
    build: str = ""
    ref: str = ""
    mark: str = ""
    number: Int = 0
    user: str = ""
    failed: tuple[str, ...] = ()
    since: str = ""
    at: Instant
    after: Instant | None = None

    @property
    def since_when(self) -> datetime:
        """From when on it may be told; by the clock of whoever wrote that it is owed."""
        return self.at if self.after is None else max(self.at, self.after)


class Sending(msgspec.Struct, frozen=True):
    """A message that is about to be said: its id, the notices in it, how many it says are left out."""

    message: str
    notices: tuple[str, ...]
    at: Instant
    left_out: Int = 0


class Queue(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one target is owed, oldest first; ``left_out`` were dropped for being too many."""

    notices: tuple[Notice, ...] = ()
    left_out: Int = 0
    sending: Sending | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of notices: they were sent in a message; or dropped, and why.

    ``said`` is what the network calls the message, ``thread`` what it stands in.
    """

    at: Instant
    message: str = ""
    said: str = ""
    thread: str = ""
    why: str = ""

    @property
    def was_sent(self) -> bool:
        """Whether the target has it."""
        return not self.why


class Done(msgspec.Struct, frozen=True):
    """A notice that is over, and what became of it."""

    notice: Notice
    said: Said


class Broken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job's branch that fails: since which build, and who knows."""

    ref: str
    build: str
    concerned: tuple[str, ...] = ()


class Outbox(msgspec.Struct):
    """What is owed by target; what became of the last ones; what is broken; what was looked at.

    ``marks`` are by build, for as long as it is in memory; ``looked`` is the sequence up to which
    whoever leads looked at ends and questions, as of the last one that gave something to tell.
    """

    looked: Int = 0
    owed: Int = 0  # how many notices there are in all queues
    queues: dict[str, Queue] = {}
    done: dict[str, Done] = {}
    broken: dict[str, Broken] = {}
    marks: dict[str, tuple[str, ...]] = {}

    def has(self, build: str, mark: str) -> bool:
        """Whether somebody looked at that before, and there was something to tell."""
        return mark in self.marks.get(build, ())


def end_mark(build: Build) -> str:
    """Return what tells this end of a build from those of its other attempts."""
    at = build.finished_at
    return f"{build.attempt}@{_micros(at)}" if at is not None else f"{build.attempt}"


def approval_mark(build: Build) -> str:
    """Return what tells this time that a build is to be approved from others."""
    return f"?0@{_micros(build.asked_at)}" if build.asked_at is not None else "?0"


def question_mark(number: int) -> str:
    """Return what a question is told by."""
    return f"?{number}"


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def notice_id(tale: Tale, mark: str, target: str) -> str:
    """Return the notice's id: the same on every agent."""
    return derived_id("notice", tale.build, mark, str(tale.number), target)


def message_id(notices: Sequence[str], left_out: int) -> str:
    """Return the id of a message that tells these notices: the same whoever says it."""
    if len(notices) == 1 and not left_out:
        return notices[0]
    return derived_id("notices", *notices, str(left_out))


# -- folding --------------------------------------------------------------------------------------


def fold_queued(
    outbox: Outbox, builds: dict[str, Build], tellings: Sequence[Telling], at: datetime
) -> None:
    """Take note of what is to be told; a telling that is known changes nothing."""
    for telling in tellings:
        known = outbox.marks.get(telling.build, ())
        if telling.mark in known:
            continue
        if telling.build in builds:
            outbox.marks[telling.build] = (*known, telling.mark)
        for tale in telling.tales:
            _turn(outbox.broken, tale)
            for due in tale.notices:
                _queue(outbox, _notice(tale, telling.mark, due, at))
            _note_told(builds, tale)


def fold_sending(outbox: Outbox, target: str, sending: Sending) -> None:
    """Take note that a message is about to be said."""
    queue = outbox.queues.get(target)
    if queue is not None:
        outbox.queues[target] = replace(queue, sending=sending)


def fold_done(outbox: Outbox, target: str, notices: Sequence[str], said: Said) -> None:
    """Take note of what became of some notices of a target."""
    queue = outbox.queues.get(target)
    if queue is None:
        return
    over = set(notices)
    for notice in queue.notices:
        if notice.id in over:
            outbox.done.pop(notice.id, None)
            outbox.done[notice.id] = Done(notice, said)
    _forget(outbox.done, MAX_DONE)
    sending, left_out = queue.sending, queue.left_out
    if sending is not None and over.issuperset(sending.notices):
        left_out = max(0, left_out - sending.left_out) if said.was_sent else left_out
        sending = None
    left = tuple(notice for notice in queue.notices if notice.id not in over)
    outbox.owed -= len(queue.notices) - len(left)
    if left or sending is not None:
        outbox.queues[target] = Queue(left, left_out, sending)
    else:
        del outbox.queues[target]


def forget_builds(outbox: Outbox, builds: Sequence[Build]) -> None:
    """Forget what of builds was looked at that leave the memory."""
    if outbox.marks:
        for build in builds:
            outbox.marks.pop(build.id, None)


def _turn(broken: dict[str, Broken], tale: Tale) -> None:
    if tale.turn == "fixed":
        broken.pop(tale.lane, None)
    elif tale.turn == "broken":
        known = broken.get(tale.lane) or Broken(tale.ref, tale.build)
        concerned = tuple(dict.fromkeys([*known.concerned, *tale.concerned]))[:MAX_CONCERNED]
        broken[tale.lane] = replace(known, concerned=concerned)
        _forget(broken, MAX_BROKEN)


def _notice(tale: Tale, mark: str, due: Due, at: datetime) -> Notice:
    return Notice(
        id=notice_id(tale, mark, due.target),
        target=due.target,
        occasion=due.occasion,
        build=tale.build,
        ref=tale.ref,
        mark=mark,
        number=tale.number,
        user=due.user,
        failed=tale.failed,
        since=tale.since,
        at=at,
        after=due.after,
    )


def _queue(outbox: Outbox, notice: Notice) -> None:
    queue = outbox.queues.get(notice.target)
    if queue is None:
        if len(outbox.queues) >= MAX_TARGETS:
            why = f"{MAX_TARGETS} targets wait already"
            outbox.done[notice.id] = Done(notice, Said(at=notice.at, why=why))
            _forget(outbox.done, MAX_DONE)
            return
        queue = Queue()
    notices, left_out = [*queue.notices, notice], queue.left_out
    # What is being said stays: nobody can take it back.
    held = () if queue.sending is None else queue.sending.notices
    most = MAX_QUEUE if outbox.owed < MAX_OWED else MAX_CROWDED
    free = [it for it in notices if it.id not in held]
    dropped = {it.id for it in free[: max(0, len(notices) - most)]}
    kept = tuple(it for it in notices if it.id not in dropped)
    left_out += len(notices) - len(kept)
    outbox.owed += len(kept) - len(queue.notices)
    outbox.queues[notice.target] = replace(queue, notices=kept, left_out=left_out)


def _note_told(builds: dict[str, Build], tale: Tale) -> None:
    """Let a build say who is told of it; nothing else of it changes, and nothing else looks at it."""
    build = builds.get(tale.build)
    if build is None or not tale.notices:
        return
    told = dict.fromkeys([*build.told, *(due.target for due in tale.notices)])
    builds[build.id] = replace(build, told=tuple(told)[:MAX_TOLD])


def _forget(notes: dict[str, _T], most: int) -> None:
    while len(notes) > most:
        del notes[next(iter(notes))]
