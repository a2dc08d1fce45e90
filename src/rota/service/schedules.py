"""Verbs on schedules: what comes next, why something did not fire, and making up for it."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import heapq
import itertools
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from rota.core.agenda import GRACE_S
from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.schedules import (
    BACKFILL,
    Note,
    Scheduled,
    Skip,
    build_id,
    decode_notes,
)
from rota.core.scheduling import described, wanted_schedules, wish_for
from rota.core.states import State
from rota.core.timetable import Timetable
from rota.core.zones import find_zone
from rota.errors import ConflictError, InputError, NotFoundError, StaleError
from rota.service import messages as m
from rota.service import pipelines
from rota.service.builds import find_definition
from rota.service.context import Principal, Service
from rota.service.sight import Sees, everything
from rota.service.world import World

#: So many instants one backfill comes to; more is asked for in pieces.
MAX_BACKFILL = 5000
#: So many builds are asked for at once.
AT_ONCE = 20
#: So many schedules are looked at before others get their turn.
SLICE = 200


async def schedules(
    service: Service, request: m.SchedulesRequest, who: Principal
) -> m.SchedulesView:
    """Return the next instants of the schedules of all jobs that match, in their order."""
    world, now = service.world, service.clock.now()
    start = _moment(request.start, "UTC", now) if request.start else now
    heap: list[tuple[datetime, str, datetime, Timetable]] = []
    idle: list[m.IdleView] = []
    for count, (id_, it) in enumerate(_matching(world, request.match)):
        if not who.sees(it.job):
            continue
        if count % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        if it.pause is not None:
            why = it.pause.text
            idle.append(m.IdleView(schedule=id_, job=it.job, rule=described(it.rule), why=why))
            continue
        instants = world.timetable(id_, it)
        just_before = start - timedelta(microseconds=1)
        at = instants.next(max(just_before, it.settled)) if instants is not None else None
        if instants is None or at is None:
            why = "it never fires again" if instants else "its rule cannot be read"
            idle.append(m.IdleView(schedule=id_, job=it.job, rule=described(it.rule), why=why))
        else:
            heap.append((at, id_, at, instants))
    heapq.heapify(heap)
    found: list[m.InstantView] = []
    known = world.cluster.picture.schedules
    while heap and len(found) < request.limit:
        _, id_, at, instants = heap[0]
        found.append(
            m.InstantView(
                at=at,
                due_at=instants.due_at(at),
                schedule=id_,
                job=known[id_].job,
                rule=described(known[id_].rule),
            )
        )
        following = instants.next(at)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, id_, following, instants))
    return m.SchedulesView(next=tuple(found), idle=tuple(idle))


async def why_not(service: Service, request: m.WhyNotRequest, who: Principal) -> m.WhyNotView:
    """Say of each schedule of a job what became of a moment, and why."""
    world, now = service.world, service.clock.now()
    known = {
        id_: it for id_, it in world.cluster.picture.schedules.items() if it.job == request.job
    }
    notes = [note async for note in notes_of(service, request.job)]
    former = _former(notes, request.job, known)
    if not known and not former:
        find_definition(world, request.job)
        raise NotFoundError(
            f"{request.job} has no schedule", hint="its header's `on` has none by cron, every or at"
        )
    answers = []
    for id_, it in known.items():
        at = _moment(request.at, it.rule.tz, now)
        text, build = _answer(service, id_, it, at, notes, now)
        answers.append(_answered(id_, it, at, text, build))
    for id_, (it, note) in former.items():
        at = _moment(request.at, it.rule.tz, now)
        build = world.find(build_id(id_, at))
        skip, instants = _skipped(notes, id_, at), world.timetable(id_, it)
        if build is not None:
            text = _fired(build, at)
        elif not it.since < at <= note.at or instants is None or instants.why_not(at):
            continue
        elif skip is not None:
            text = f"skipped: {skip.why}"
        else:
            text = f"it was removed at {_time(note.at)}"
        answers.append(_answered(id_, it, at, text, build))
    if not answers:
        raise NotFoundError(f"{request.job} had no schedule at that time")
    return m.WhyNotView(job=request.job, answers=tuple(answers))


async def backfill(service: Service, request: m.BackfillRequest, who: Principal) -> m.BackfillView:
    """Ask for the builds of the instants of a time that is past, but for those that there are.

    Each instant has one build, whoever asks for it, and how often: asking again asks for none.
    """
    definition = find_definition(service.world, request.job)
    wanted = wanted_schedules(service.world.definitions, definition, service.world.commit)
    if not wanted:
        raise InputError(
            f"{request.job} has no schedule", hint="its header's `on` has none by cron, every or at"
        )
    if definition.paused is not None and not request.dry_run:
        raise ConflictError(
            f"{request.job} is paused by {definition.paused.by}",
            hint=f"resume it: rota resume {request.job}",
        )
    now = service.clock.now()
    found: list[tuple[datetime, str, Scheduled]] = []
    for id_, it in wanted.items():
        start = _moment(request.start, it.rule.tz, now)
        end = _moment(request.end, it.rule.tz, now)
        _refuse_future(start, end, now)
        instants = service.world.timetable(id_, it)
        if instants is not None:
            just_before = start - timedelta(microseconds=1)
            at_most = itertools.islice(instants.between(just_before, end), MAX_BACKFILL + 1)
            found += ((at, id_, it) for at in at_most)
    if len(found) > MAX_BACKFILL:
        raise InputError(
            f"there are more than {MAX_BACKFILL} instants in that time",
            hint="ask for a part of it first",
        )
    found.sort(key=lambda each: each[0])
    views = []
    for start_at in range(0, len(found), AT_ONCE):
        some = found[start_at : start_at + AT_ONCE]
        asking = (_make_up(service, it, request, who) for it in some)
        views += await asyncio.gather(*asking)
    return m.BackfillView(job=request.job, instants=tuple(views))


async def _make_up(
    service: Service,
    instant: tuple[datetime, str, Scheduled],
    request: m.BackfillRequest,
    who: Principal,
) -> m.BackfilledView:
    at, id_, it = instant
    world, new_id = service.world, build_id(id_, at)
    build = world.find(new_id)
    is_new = build is None
    if is_new and not request.dry_run:
        wish = wish_for(id_, it, at, BACKFILL, who.name)
        with contextlib.suppress(StaleError):  # somebody else asked for it a moment ago
            await pipelines.request(service, (wish,), by=who.name)
        build = world.find(new_id)
    return m.BackfilledView(
        at=at, schedule=id_, build=build.ref if build is not None else None, is_new=is_new
    )


async def notes_of(service: Service, job: str) -> AsyncGenerator[Note]:
    """Yield what is recorded of a job's schedules, what the history does not have yet included."""
    needle = f'"{job}:'.encode()
    async with contextlib.aclosing(service.store.ledger()) as files:
        async for data in files:
            lines = [line for line in data.splitlines() if needle in line]
            for note in decode_notes(b"\n".join(lines)):
                yield note
    for note in service.world.cluster.picture.ledger:
        yield note


def late_schedules(world: World, now: datetime, sees: Sees = everything) -> str | None:
    """Return in words that instants were due long ago and nobody settled them; ``None``: all is well."""
    picture = world.cluster.picture
    top = world.agenda.next_due()
    led_s = (now - picture.leader_since).total_seconds()
    if top is None or not picture.leader or led_s < GRACE_S or world.agenda.is_behind:
        return None
    late_s = (now - top[0]).total_seconds()
    if late_s < 2 * GRACE_S:
        return None
    scheduled = picture.schedules.get(top[1])
    name = top[1] if scheduled is None or sees(scheduled.job) else "one of them"
    return (
        f"schedules are not kept: {name} was due {format_duration(late_s)} ago, at "
        f"{_time(top[2])}, and {picture.leader} leads"
    )


def _matching(world: World, match: str) -> Iterator[tuple[str, Scheduled]]:
    for id_, it in tuple(world.cluster.picture.schedules.items()):
        if match == "*" or it.job == match or fnmatch.fnmatchcase(it.job, match):
            yield id_, it


def _answered(
    id_: str, it: Scheduled, at: datetime, text: str, build: Build | None
) -> m.WhyNotAnswer:
    return m.WhyNotAnswer(
        schedule=id_,
        rule=described(it.rule),
        at=at,
        text=text,
        build=build.ref if build is not None else None,
    )


def _answer(
    service: Service, id_: str, it: Scheduled, at: datetime, notes: list[Note], now: datetime
) -> tuple[str, Build | None]:
    """Return what became of a moment of a schedule, and the build it fired as."""
    world = service.world
    build = world.find(build_id(id_, at))
    if build is not None:
        return _fired(build, at), build
    instants = world.timetable(id_, it)
    skip = _skipped(notes, id_, at)
    why = instants.why_not(at) if instants is not None else "its rule cannot be read"
    if why and (skip is None or at > it.since):
        return f"not an instant of it: {why}", None
    if skip is not None:
        return f"skipped: {skip.why}", None
    if at <= it.since:
        commit = f", in commit {it.commit[:10]}" if it.commit else ""
        return f"before the rule was first seen, at {_time(it.since)}{commit}", None
    due = instants.due_at(at) if instants is not None else at
    if it.pause is not None and at > it.settled:
        return f"{it.pause.text}; what becomes of it is settled when it is resumed", None
    if due > now:
        return f"not yet: it is due in {format_duration((due - now).total_seconds())}", None
    if at <= it.settled:
        return "settled, and nothing is known of it any more", None
    return _unsettled(service, due, now), None


def _unsettled(service: Service, due: datetime, now: datetime) -> str:
    late = format_duration((now - due).total_seconds())
    since = service.world.stale_since
    if since is not None:
        return f"not settled, {late} late: no quorum of the voters since {_time(since)}"
    leader = service.world.cluster.picture.leader
    who = f"{leader} leads, and will settle it" if leader else "nobody leads"
    return f"not settled yet, {late} late: {who}"


def _fired(build: Build, at: datetime) -> str:
    late = format_duration(max(0.0, (build.requested_at - at).total_seconds()))
    how = build.result if build.state is State.FINISHED else build.state
    if build.trigger.kind == BACKFILL:
        return f"made up for as {build.ref} by {build.trigger.by}, {late} later: {how}"
    return f"fired as {build.ref}, {late} after it: {how}"


def _skipped(notes: list[Note], id_: str, at: datetime) -> Skip | None:
    skips = (skip for note in notes for skip in note.skips if skip.schedule == id_)
    return next((skip for skip in skips if skip.first <= at <= skip.last), None)


def _former(
    notes: list[Note], job: str, known: Mapping[str, Scheduled]
) -> dict[str, tuple[Scheduled, Note]]:
    """Return the schedules that a job had, as they last were, and the notes of their end."""
    last: dict[str, Scheduled] = {}
    ended: dict[str, tuple[Scheduled, Note]] = {}
    for note in sorted(notes, key=lambda note: note.seq):
        for id_ in note.removed:
            if id_ in last and id_ not in known:
                ended[id_] = last[id_], note
        last |= {id_: it for id_, it in note.set.items() if it.job == job}
    return ended


def _refuse_future(start: datetime, end: datetime, now: datetime) -> None:
    if end < start:
        raise InputError(f"the time ends at {_time(end)}, before it begins at {_time(start)}")
    if end > now:
        raise InputError(
            f"{_time(end)} is still to come, and will fire by itself", hint="see: rota schedule"
        )


def _moment(text: str, zone: str, now: datetime) -> datetime:
    """Return the moment that a person wrote; without a zone it is the clock of ``zone``.

    Raises:
        InputError: it is none.
    """
    if text == "now":
        return now
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=find_zone(zone).info)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{text!r} is no date and time",
            hint="such as 2026-12-24T18:00, by the schedule's own clock, or 2026-12-24T17:00:00Z",
        ) from None


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"
