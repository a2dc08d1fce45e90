"""The clocks of one attempt: how long it may run, and how long it may print nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rota.core.build import Build
from rota.core.job import Reason
from rota.core.people import open_questions
from rota.ports.clock import Clock
from rota.service.world import World


class TimeLimits:
    """``timeout`` and ``idle_timeout`` of a build's attempt.

    Args:
        build: As it was when the attempt began.
        world: Which knows whether it waits for a person by now.
        clock: By which an attempt that began under a former daemon has had its time.
        stop: Called once a limit is reached, with which.
    """

    def __init__(
        self, build: Build, world: World, clock: Clock, stop: Callable[[Reason], None]
    ) -> None:
        self._build, self._world, self._clock, self._stop = build, world, clock, stop
        self._grown_at = clock.monotonic()
        self._timers: dict[Reason, asyncio.TimerHandle] = {}

    def begin(self) -> None:
        """Start the clocks."""
        spec, now = self._build.spec, self._clock.now()
        if spec.timeout_s:
            elapsed = (now - (self._build.started_at or now)).total_seconds()
            left = max(0.0, spec.timeout_s - max(0.0, elapsed))
            self._after(left, Reason.TIMEOUT, lambda: self._stop(Reason.TIMEOUT))
        if spec.idle_timeout_s is not None:
            self._watch(spec.idle_timeout_s, spec.idle_timeout_s)

    def grew(self) -> None:
        """Note that something was printed."""
        self._grown_at = self._clock.monotonic()

    def end(self) -> None:
        """Stop the clocks. Safe to call again."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _watch(self, within_s: float, limit_s: float) -> None:
        self._after(within_s, Reason.NO_OUTPUT, lambda: self._check(limit_s))

    def _check(self, limit_s: float) -> None:
        now = self._world.cluster.picture.builds.get(self._build.id)
        if now is not None and open_questions(now):
            self.grew()  # it is silent since it waits for a person
        left = self._grown_at + limit_s - self._clock.monotonic()
        if left <= 0:
            self._stop(Reason.NO_OUTPUT)
        else:
            self._watch(left, limit_s)

    def _after(self, within_s: float, what: Reason, act: Callable[[], None]) -> None:
        self._timers[what] = asyncio.get_running_loop().call_later(within_s, act)
