"""Whatever people want to know and whatever ends: nobody is told twice, or who wants nothing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.build import Build, Trigger
from rota.core.job import Reason, Spec
from rota.core.notices import Audience, audience, is_bad, lane_of, look_at_end, room_of
from rota.core.outbox import (
    MAX_QUEUE,
    Due,
    Outbox,
    Queue,
    Said,
    Sending,
    Tale,
    Telling,
    fold_done,
    fold_queued,
    fold_sending,
)
from rota.core.preferences import OCCASIONS, JobNotices, Preference
from rota.core.quiet import Quiet, is_quiet
from rota.core.scm import Source
from rota.core.states import Result, State
from rota.core.targets import Target, parse_target
from rota.core.users import Claim, User, Users
from rota.core.zones import find_zone

AT = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # Europe's clocks are about to go forward
NAMES = ("ann", "bob", "eve")
JOBS = ("web", "web/unit", "app")

own = st.sampled_from(["mail", "room", "pager", "room:#web", "mail:team@x.example"])
rooms = st.sampled_from(["room:#web", "room:#ops", "pager", "mail:team@x.example", "room:@ann"])


def wishes(
    targets: st.SearchStrategy[str], whose: tuple[str, ...]
) -> st.SearchStrategy[Preference]:
    return st.builds(
        Preference,
        to=st.lists(targets.map(_target), min_size=1, max_size=3).map(tuple),
        on=st.lists(st.sampled_from(OCCASIONS), min_size=1, max_size=3).map(tuple),
        jobs=st.sampled_from([("**",), ("web*",), ("app", "web/unit"), ("!app",)]),
        whose=st.sampled_from(whose),
    )


def _target(text: str) -> Target:
    found = parse_target(text)
    assert isinstance(found, Target)
    return found


def user(name: str) -> st.SearchStrategy[User]:
    return st.builds(
        User,
        emails=st.just((f"{name}@x.example",)),
        chat=st.sampled_from([{}, {"room": (f"who:{name}",)}]),
        timezone=st.sampled_from(["", "Europe/Berlin", "America/New_York"]),
        quiet=st.builds(Quiet, st.integers(0, 1439), st.integers(0, 1439)),
        preferences=st.none() | st.lists(wishes(own, ("mine", "all")), max_size=3).map(tuple),
    )


channels = st.lists(wishes(rooms, ("all",)), max_size=3).map(tuple)


@st.composite
def audiences(draw: st.DrawFn) -> Audience:
    files = {name: (draw(user(name)), (Claim("mail", f"{name}@x.example"),)) for name in NAMES[:2]}
    return audience(Users(files), draw(channels), networks=["room", "mail"], outlets=["pager"])


@st.composite
def trees(draw: st.DrawFn, number: int) -> list[Build]:
    """A root and what was asked for by it, all finished."""
    made: list[Build] = []
    for index in range(draw(st.integers(1, 4))):
        result = draw(st.sampled_from(list(Result)))
        culprits = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
        branch = draw(st.sampled_from(["main", "next"]))
        made.append(
            Build(
                id=f"b{number}.{index}",
                job=draw(st.sampled_from(JOBS)),
                number=number * 10 + index,
                state=State.FINISHED,
                result=result,
                reason=draw(st.sampled_from([Reason.SCRIPT, Reason.UNMET, Reason.SUPERSEDED])),
                requested_at=AT,
                finished_at=AT + timedelta(minutes=number, seconds=-index),
                seq=number * 10 - index,
                pipeline="" if index == 0 else f"b{number}.0",
                trigger=Trigger(by=draw(st.sampled_from(NAMES))),
                source=Source(
                    url="u",
                    commit="c",
                    branch=branch,
                    culprits=tuple(f"{it} <{it}@x.example>" for it in culprits),
                ),
                spec=Spec(notify=draw(st.just(JobNotices()) | st.builds(JobNotices, channels))),
            )
        )
    return made


@settings(max_examples=150, deadline=None)
@given(audiences(), st.data())
def test_nobody_is_told_twice_or_who_wants_nothing(whom: Audience, data: st.DataObject) -> None:
    outbox, builds = Outbox(), dict[str, Build]()
    for number in range(1, data.draw(st.integers(1, 6)) + 1):
        root, *others = data.draw(trees(number))
        builds |= {it.id: it for it in (root, *others)}
        before = dict(outbox.broken)
        telling = look_at_end(whom, root, others, before, AT)
        if telling is None:
            continue
        fold_queued(outbox, builds, [telling], AT)
        places = Counter[str]()
        for tale in telling.tales:
            build = builds[tale.build]
            for due in tale.notices:
                room = room_of(whom, due.target)
                assert isinstance(room, Target)
                places[room.text] += 1
                if due.user:
                    known = whom.users[due.user]
                    zone = find_zone(known.timezone or "UTC")
                    assert due.after is None or due.after > AT
                    assert not is_quiet(known.quiet, zone, due.after or AT)
                if due.occasion in ("failed", "first-failure"):
                    assert is_bad(build) or build.reason is Reason.UNMET
                if due.occasion == "fixed":
                    assert build.result is Result.PASSED
                    assert lane_of(build) in before
        assert set(places.values()) <= {1}, "one place, one notice"
        # Again: nothing changes.
        copy = dict(outbox.queues)
        fold_queued(outbox, builds, [telling], AT)
        assert outbox.queues == copy
    nothing = [name for name, it in whom.users.items() if it.preferences == ()]
    personal = {notice.user for queue in outbox.queues.values() for notice in queue.notices}
    by_name = {it.text for channel in whom.channels for it in channel.to if it.user}
    by_name |= {
        it.text
        for build in builds.values()
        for channel in build.spec.notify.channels or ()
        for it in channel.to
        if it.user
    }
    for name in nothing:
        assert name not in personal or f"room:@{name}" in by_name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 150), st.booleans()), max_size=12))
def test_a_queue_is_bounded_and_counts_what_it_drops(steps: list[tuple[int, int, bool]]) -> None:
    outbox, number, said, told = Outbox(), 0, 0, 0
    for what, count, is_taken in steps:
        queue = outbox.queues.get("room:#web")
        if what == 0:
            tales = tuple(
                Tale(build=f"b{number + n}", ref="r", notices=(Due("room:#web", "failed"),))
                for n in range(count)
            )
            number += count
            fold_queued(outbox, {}, [Telling(build="x", mark=str(number), tales=tales)], AT)
        elif what == 1 and queue is not None and queue.sending is None:
            chosen = tuple(it.id for it in queue.notices[:count])
            fold_sending(outbox, "room:#web", Sending("m", chosen, AT, queue.left_out))
        elif what == 2 and queue is not None and queue.sending is not None:
            said += len(queue.sending.notices)
            told += queue.sending.left_out if is_taken else 0
            over = Said(at=AT, why="" if is_taken else "no")
            fold_done(outbox, "room:#web", queue.sending.notices, over)
        queue = outbox.queues.get("room:#web", Queue())
        assert len(queue.notices) <= MAX_QUEUE
        assert outbox.owed == len(queue.notices)
        assert len(queue.notices) + queue.left_out + said + told == number or not queue.notices
        if queue.sending is not None:
            assert {it.id for it in queue.notices} >= set(queue.sending.notices)
