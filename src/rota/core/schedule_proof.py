"""Proof, from the history alone, that each instant of each schedule was settled once.

All instants are worked out anew from the rules that the ledger has, and held against what it says of
them: fired as which build, or skipped and why. The cursors that the agents went by are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from rota.core.agenda import GRACE_S
from rota.core.build import Build
from rota.core.schedules import SCHEDULE, Instants, Note, Scheduled, Skip

#: So many findings are told; more of the same would help nobody.
MAX_FINDINGS = 1000


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with an instant: ``lost``, ``doubled`` or ``unexplained``."""

    what: str
    schedule: str
    at: datetime
    text: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof came to. ``through`` is the time up to which the ledger goes."""

    schedules: int = 0
    fired: int = 0
    skipped: int = 0
    recorded: int = 0  # of what fired, the builds that are in the history
    through: datetime | None = None
    findings: tuple[Finding, ...] = ()
    more: int = 0  # findings that are not told

    @property
    def is_clean(self) -> bool:
        """Whether each instant was settled once."""
        return not self.findings


class _Line:
    """One schedule, followed through the ledger."""

    def __init__(self, id_: str, scheduled: Scheduled, instants: Instants | None) -> None:
        self.id, self.instants = id_, instants
        self.scheduled = scheduled
        self.settled = scheduled.since


class Prover:
    """Takes notes in the order of the journal, then builds, and says what they come to.

    Args:
        made: Makes a rule's instants; ``None`` where its calendars cannot be had any more.
        job: Only the schedules of this job; empty: all.
    """

    def __init__(self, made: Callable[[str, Scheduled], Instants | None], job: str = "") -> None:
        self._made, self._job = made, job
        self._lines: dict[str, _Line] = {}
        self._fired: dict[tuple[str, datetime], str] = {}
        self._seen: set[str] = set()
        self._findings: list[Finding] = []
        self._more = self._skipped = 0
        self._through: datetime | None = None

    def prove(self, notes: Iterable[Note], builds: Iterable[Build]) -> Proof:
        """Return what notes, in any order, and records come to."""
        for note in sorted(notes, key=lambda note: note.seq):
            self._note(note)
        if self._through is not None:
            for line in self._lines.values():
                self._end(line, self._through)
        recorded = self._builds(builds)
        self._findings.sort(key=lambda it: (it.schedule, it.at))
        return Proof(
            schedules=len(self._seen),
            fired=len(self._fired),
            skipped=self._skipped,
            recorded=recorded,
            through=self._through,
            findings=tuple(self._findings),
            more=self._more,
        )

    def _note(self, note: Note) -> None:
        self._through = note.at if self._through is None else max(self._through, note.at)
        for skip in note.skips:
            self._skip(skip)
        for fire in note.fires:
            self._fire(fire.schedule, fire.at, fire.build)
        for id_ in note.removed:
            line = self._lines.pop(id_, None)
            if line is not None:
                self._lost_before(line, note.at, "when it was removed")
        for id_, scheduled in note.set.items():
            if not self._job or scheduled.job == self._job:
                self._set(id_, scheduled, note.at)

    def _set(self, id_: str, scheduled: Scheduled, at: datetime) -> None:
        self._seen.add(id_)
        line = self._lines.get(id_)
        if line is not None and line.scheduled.since == scheduled.since:
            line.scheduled = scheduled
            return
        if line is not None:
            self._lost_before(line, at, "when it was changed")
        new = self._lines[id_] = _Line(id_, scheduled, self._made(id_, scheduled))
        if line is not None:
            new.settled = max(new.settled, line.settled)

    def _skip(self, skip: Skip) -> None:
        line = self._lines.get(skip.schedule)
        if line is None:
            if not self._job or skip.schedule.startswith(f"{self._job}:"):
                self._find(
                    "unexplained", skip.schedule, skip.first, "skipped, and no such schedule"
                )
            return
        if skip.first <= line.settled:
            self._find("doubled", line.id, skip.first, "skipped, and it was settled before")
        else:
            self._lost_until(line, skip.first, "nothing says why it did not fire")
        count = self._count(line, skip.last) if skip.count else 0
        if count != skip.count:
            text = f"skipped {skip.count} instants up to {_time(skip.last)}, there are {count}"
            self._find("unexplained", line.id, skip.first, text)
        self._skipped += skip.count
        line.settled = max(line.settled, skip.last)

    def _count(self, line: _Line, until: datetime) -> int:
        if line.instants is None:
            return -1
        count, at = 0, line.instants.next(line.settled)
        while at is not None and at <= until:
            count, at = count + 1, line.instants.next(at)
        return count

    def _fire(self, schedule: str, at: datetime, build: str) -> None:
        line = self._lines.get(schedule)
        if line is None:
            if not self._job or schedule.startswith(f"{self._job}:"):
                self._find("unexplained", schedule, at, f"fired as {build}, and no such schedule")
            return
        if at <= line.settled:
            former = self._fired.get((schedule, at))
            text = f"fired as {build}, and before as {former}" if former else f"fired as {build}"
            self._find("doubled", schedule, at, f"{text}; it was settled already")
            return
        self._lost_until(line, at, "nothing says why it did not fire")
        if line.instants is not None and line.instants.next(line.settled) != at:
            self._find("unexplained", schedule, at, f"fired as {build}, and is no instant of it")
        self._fired[schedule, at] = build
        line.settled = at

    def _lost_until(self, line: _Line, until: datetime, why: str) -> None:
        """Find the instants before ``until`` that nobody settled."""
        if line.instants is None:
            return
        while (at := line.instants.next(line.settled)) is not None and at < until:
            self._find("lost", line.id, at, why)
            line.settled = at

    def _lost_before(self, line: _Line, end: datetime, what: str) -> None:
        self._lost_until(line, end, f"it was not settled {what}")

    def _end(self, line: _Line, through: datetime) -> None:
        """Find what had been due for long when the ledger ends, and was not settled."""
        if line.scheduled.pause is not None or line.instants is None:
            return
        limit = through - timedelta(seconds=GRACE_S)
        while (at := line.instants.next(line.settled)) is not None and at < limit:
            if line.instants.due_at(at) >= limit:
                return
            self._find("lost", line.id, at, f"it was not settled by {_time(through)}")
            line.settled = at

    def _builds(self, builds: Iterable[Build]) -> int:
        """Hold the records of builds against what fired; return how many of these are there."""
        found: dict[tuple[str, datetime], str] = {}
        for build in builds:
            trigger = build.trigger
            if trigger.kind != SCHEDULE or trigger.at is None:
                continue
            if self._job and build.job != self._job:
                continue
            key = trigger.source, trigger.at
            if key in found and found[key] != build.id:
                self._find("doubled", *key, f"there are two builds: {found[key]} and {build.id}")
            elif self._fired.get(key) != build.id:
                self._find("unexplained", *key, f"{build.ref} is there, and no note says it fired")
            found[key] = build.id
        return len(found)

    def _find(self, what: str, schedule: str, at: datetime, text: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(what, schedule, at, text))
        else:
            self._more += 1


def prove(
    notes: Iterable[Note],
    builds: Sequence[Build],
    made: Callable[[str, Scheduled], Instants | None],
    job: str = "",
) -> Proof:
    """Return what is wrong with the schedules of a history, if anything is."""
    return Prover(made, job).prove(notes, builds)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"
