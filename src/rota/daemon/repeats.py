"""Holds back what was said already: a fact is a line, however often it is found out.

What repeats itself within a minute is counted; one line says how often, when the minute is over and something
is logged. So a network that is away for a night does not fill a disk, and hides nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

WINDOW_S = 60.0
#: So many different lines are known at once; a further one is always written.
MAX_KNOWN = 500
#: Lines that are each a fact of their own.
EXEMPT = "rota.http.requests"


class _Heard:
    __slots__ = ("count", "record", "since")

    def __init__(self, record: logging.LogRecord, since: float) -> None:
        self.record, self.since, self.count = record, since, 0


class Repeats(logging.Handler):
    """Passes lines on to another handler, each once a minute.

    Args:
        inner: Who writes them.
        now: A clock that only runs forwards, in seconds.
    """

    def __init__(self, inner: logging.Handler, now: Callable[[], float]) -> None:
        super().__init__()
        self.inner, self._now = inner, now
        self._heard: dict[tuple[str, int, str], _Heard] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on, unless it repeats one."""
        now = self._now()
        self._tell(now)
        if record.name.startswith(EXEMPT):
            self.inner.handle(record)
            return
        key = record.name, record.levelno, record.getMessage()
        heard = self._heard.get(key)
        if heard is not None:
            heard.count += 1
            return
        if len(self._heard) < MAX_KNOWN:
            self._heard[key] = _Heard(record, now)
        self.inner.handle(record)

    def flush(self) -> None:
        """Say what was held back."""
        self._tell(float("inf"))
        self.inner.flush()

    def close(self) -> None:
        """Say what was held back, and close the other handler."""
        self.flush()
        self.inner.close()
        super().close()

    def _tell(self, now: float) -> None:
        while self._heard:
            key, heard = next(iter(self._heard.items()))
            if now - heard.since < WINDOW_S:
                return
            del self._heard[key]
            if heard.count:
                self.inner.handle(_again(heard.record, heard.count))


def _again(record: logging.LogRecord, count: int) -> logging.LogRecord:
    times = "once more" if count == 1 else f"{count} times more"
    return logging.LogRecord(
        record.name,
        record.levelno,
        record.pathname,
        record.lineno,
        "%s (%s within a minute)",
        (record.getMessage(), times),
        None,
    )
