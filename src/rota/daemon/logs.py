"""The daemon's log: where it goes, in which form, how much of it; all of that may change while it runs."""

from __future__ import annotations

import logging
import sys
import time

from rota.core.agent_file import LogChoice
from rota.daemon.log_formats import JournalHandler, JsonFormatter, TextFormatter, is_journal
from rota.daemon.repeats import EXEMPT, Repeats


class DaemonLog:
    """The root logger of a daemon. ``agent`` is its name, once that is known."""

    def __init__(self) -> None:
        self.agent = ""
        self._format = ""
        self._handler: Repeats | None = None

    def apply(self, choice: LogChoice) -> None:
        """Write from now on as it is said."""
        wanted = choice.format
        if wanted == "auto":
            wanted = "journald" if is_journal() else "text"
        root = logging.getLogger()
        if wanted != self._format:
            handler = Repeats(self._written(wanted), time.monotonic)
            root.addHandler(handler)
            if self._handler is not None:
                root.removeHandler(self._handler)
                self._handler.close()
            self._handler, self._format = handler, wanted
        root.setLevel(choice.level.upper())
        logging.getLogger(EXEMPT).setLevel("INFO" if choice.requests else "WARNING")

    def _written(self, wanted: str) -> logging.Handler:
        if wanted == "journald":
            return JournalHandler(lambda: self.agent)
        written = logging.StreamHandler(sys.stderr)
        is_json = wanted == "json"
        written.setFormatter(JsonFormatter(lambda: self.agent) if is_json else TextFormatter())
        return written
