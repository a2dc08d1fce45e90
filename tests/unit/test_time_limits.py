"""How long an attempt may run and be silent, by a clock that stands still until it is moved."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

from msgspec.structs import replace

from rota.adapters.clocks import ManualClock
from rota.agent.time_limits import TimeLimits
from rota.core.build import Build
from rota.core.job import Reason, Spec
from rota.core.questions import Question
from rota.core.states import State
from rota.service.world import World

AT = datetime(2026, 1, 1, tzinfo=UTC)
BUILD = Build(
    id="b",
    job="web",
    number=1,
    requested_seq=1,
    requested_at=AT,
    seq=1,
    state=State.RUNNING,
    attempt=1,
    started_at=AT,
    spec=Spec(),
)


class Attempt:
    """Limits of a build, what they said, and a fold that counts how often it is asked."""

    def __init__(self, build: Build, clock: ManualClock) -> None:
        self.build, self.looks = build, 0
        self.looked, self.stopped = asyncio.Event(), asyncio.Event()
        self.reasons: list[Reason] = []
        builds = SimpleNamespace(get=self._look)
        world = SimpleNamespace(cluster=SimpleNamespace(picture=SimpleNamespace(builds=builds)))
        self.limits = TimeLimits(build, cast("World", world), clock, self._stop)

    def _look(self, _: str) -> Build:
        self.looks += 1
        self.looked.set()
        return self.build

    def _stop(self, reason: Reason) -> None:
        self.reasons.append(reason)
        self.stopped.set()

    async def look_again(self) -> None:
        self.looked.clear()
        await self.looked.wait()


async def test_time_that_passed_under_a_former_daemon_counts() -> None:
    clock = ManualClock(AT + timedelta(hours=2))
    attempt = Attempt(replace(BUILD, spec=Spec(timeout_s=3600.0)), clock)
    attempt.limits.begin()
    await attempt.stopped.wait()
    assert attempt.reasons == [Reason.TIMEOUT]


async def test_who_is_silent_is_stopped_and_who_waits_for_a_person_is_not() -> None:
    clock = ManualClock(AT)
    asked = Question(number=1, attempt=1, text="go on?", at=AT)
    attempt = Attempt(replace(BUILD, spec=Spec(idle_timeout_s=0.001), questions=(asked,)), clock)
    attempt.limits.begin()
    for _ in range(3):
        clock.advance(60)
        await attempt.look_again()
    assert attempt.reasons == []
    attempt.build = replace(attempt.build, questions=())
    await attempt.look_again()
    assert attempt.reasons == []
    clock.advance(60)
    await attempt.stopped.wait()
    assert attempt.reasons == [Reason.NO_OUTPUT]


async def test_what_is_printed_gives_new_time_and_the_end_stops_the_clocks() -> None:
    clock = ManualClock(AT)
    attempt = Attempt(replace(BUILD, spec=Spec(idle_timeout_s=0.001, timeout_s=60.0)), clock)
    attempt.limits.begin()
    clock.advance(60)
    attempt.limits.grew()
    await attempt.look_again()
    assert attempt.reasons == []
    attempt.limits.end()
    attempt.limits.end()
    looks = attempt.looks
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, later.set)  # timers fire in order of time
    await later.wait()
    assert (attempt.looks, attempt.reasons) == (looks, [])
