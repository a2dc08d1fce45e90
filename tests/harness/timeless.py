"""An event loop whose time passes only when nothing is left to do: hours of it in a second."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
START = datetime(2026, 3, 29, 0, 55, 0, 500_000, tzinfo=UTC)


class _Selector(selectors.SelectSelector):
    """Does not wait: time goes on to where the loop would have woken up."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again: everybody waits for somebody")
        self.now += max(0.0, timeout)
        return super().select(0)


class TimelessLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; for what does no real input or output."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock:
    """The clock of a machine in a :class:`TimelessLoop`, wrong by ``offset_s``."""

    def __init__(self, offset_s: float = 0.0, start: datetime = START) -> None:
        self.offset_s, self._start = offset_s, start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic() + self.offset_s)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run_timeless(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    loop = TimelessLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
