"""Signals that end a program which has the terminal to itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Make an exception of each, so that the terminal is put back as it was on the way out.

    128 and the signal's number is the exit status, as a shell has it.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
