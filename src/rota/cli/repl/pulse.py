"""Knows how the cluster is by now, for the toolbar: asked in a thread, while somebody looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rota.cli.repl.bar import Beat
from rota.client.client import Client
from rota.errors import RotaError

#: How long the agent is asked to wait for something to happen: a change shows at once.
WAIT_S = 2.0
#: The least time between two questions: what happens faster nobody can read.
PAUSE_S = 0.5
#: How long one question is tried again before its trouble is shown; then it is asked anew.
PATIENCE_S = 1.0
ANSWER_S = 5.0


class Pulse:
    """The last answer, or what is wrong. Enter it to start its thread.

    Args:
        client: Whose agents are asked, by a client of its own.
        changed: Is called, in the thread, when :attr:`beat` is another one.
    """

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        self.beat = Beat()
        self._session, self._client = client, client.another()
        self._client.patience_s, self._client.answer_s = PATIENCE_S, ANSWER_S
        self._changed = changed
        self._is_seen = threading.Event()
        self._is_behind = threading.Event()  # a command may have gone elsewhere
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # It may wait for an agent; as a daemon it does not keep the process.
        self._is_over.set()
        self._is_seen.set()

    def look(self, *, seen: bool) -> None:
        """Say whether anybody sees it: while a command runs, nothing is asked.

        What is seen and what commands ask is one agent: each goes on where the other has gone.
        """
        if seen:
            self._is_behind.set()
            self._is_seen.set()
        else:
            self._is_seen.clear()
            self._session.where.follow(self._client.where)

    def _run(self) -> None:
        while True:
            self._is_seen.wait()
            if self._is_over.is_set():
                return
            if self._is_behind.is_set():
                self._is_behind.clear()
                self._client.where.follow(self._session.where)
            beat = self._asked()
            if beat != self.beat:
                self.beat = beat
                self._changed()
            self._is_over.wait(PAUSE_S)

    def _asked(self) -> Beat:
        last = self.beat.overview
        is_new = last is None or bool(self.beat.trouble)
        wait_s = 0.0 if is_new else WAIT_S
        try:
            answer = self._client.call(
                "overview",
                wait_s=wait_s,
                rows=0,
                after=last["seq"] if last is not None and not is_new else None,
                wait=wait_s or None,
            )
        except RotaError as error:
            since = self.beat.since if self.beat.trouble else time.strftime("%H:%M:%S")
            return Beat(last, error.message, since)
        found = answer.json()
        # What moves though nothing happens is not in the line.
        return Beat({name: found.get(name) for name in _SHOWN})


_SHOWN = [
    "seq",
    "agent",
    "leader",
    "stale_since",
    "trouble",
    "members",
    "up",
    "slots",
    "running",
    "queued",
    "held",
]
