"""What guards of attempts with a lease do alike: they wait for its end. Imports next to nothing.

A guard is a process of its own, since a lease is for the case that the daemon is dead, stopped or hung.
It reads lines from a FIFO: a moment until when the lease is good from now on, or "end". Moments are of
``CLOCK_BOOTTIME``, which goes on while the machine sleeps.
"""

from __future__ import annotations

import os
import select
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path

#: A sleeping machine stops the timer of a wait, so no wait is longer.
TICK_S = 0.5
#: Between two looks whether there is anything left to guard, where the daemon does not say so.
_LOOK_S = 10.0
_LINES_BYTES = 1 << 16
_DEAF = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def moment() -> float:
    """Return now, by the clock that leases run by: seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Guard(ABC):
    """Waits for the end of one lease. How it is carried out, each kind of executor says.

    Args:
        lease: The FIFO.
        until: The moment until when the lease is good at first.
    """

    def __init__(self, lease: Path, until: float) -> None:
        self._until = until
        # For reading and writing: so there is no end of file when a daemon closes its end.
        self._fifo = os.open(lease, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._torn = b""

    @abstractmethod
    def is_over(self) -> bool:
        """Say whether there is nothing left of the attempt."""

    @abstractmethod
    def expire(self) -> None:
        """Give the FIFO its name for ever, and end all of the attempt."""

    def begin(self) -> None:
        """Guard in the background; the process that was started ends when that is so."""
        for signum in _DEAF:
            signal.signal(signum, signal.SIG_IGN)
        if os.fork():
            os._exit(0)  # the daemon reaps this one; init, the one that stays
        self.run()

    def run(self) -> None:
        """Return when there is nothing to guard any more, or when all of it is killed."""
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        look_at = moment() + _LOOK_S
        while True:
            # What was written is read before the clock: each line is good by itself, however late.
            if self.is_released():
                return
            left = self._until - moment()
            if left <= 0:
                self.expire()
                return
            if moment() >= look_at:
                look_at = moment() + _LOOK_S
                if self.is_over():
                    return
            poll.poll(min(left, TICK_S) * 1000 + 1)

    def is_released(self) -> bool:
        """Read what the daemon wrote; say whether there is nothing to guard any more."""
        try:
            lines = (self._torn + os.read(self._fifo, _LINES_BYTES)).split(b"\n")
        except BlockingIOError:
            return False
        self._torn = lines.pop()
        for line in lines:
            if line == b"end":
                return True
            try:
                self._until = float(line)
            except ValueError:
                continue  # not from a daemon
        return False
