"""Asks an agent for what ``rota top`` shows, in threads of their own: a silent agent stops no key.

Each thread has its client, which goes on at another agent by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rota.cli.logview import Sanitizer
from rota.cli.render import clean
from rota.cli.top.frame import Seen
from rota.cli.top.view import Cancel
from rota.client.client import Client
from rota.client.follow import Start
from rota.errors import RotaError

#: How long an agent is asked to wait for something to happen: a change shows at once.
WAIT_S = 1.0
#: How long one question is tried again before its trouble is shown; then it is asked anew.
PATIENCE_S = 2.0
#: How much of a log is read for its last lines.
MAX_LOG = 256 * 1024
#: How long it is said that the client went on elsewhere.
NOTE_S = 10.0


class Wish(NamedTuple):
    """What is to be shown."""

    match: str = "*"
    sort: str = "longest"
    rows: int = 20
    log: str = ""


class Feed:
    """What was answered last. Start it as a context; it ends its threads when that is left.

    Args:
        client: Makes a client; it is given what to tell of the client's moves.
        delay_s: The least time between two questions.
    """

    def __init__(
        self,
        client: Callable[[Callable[[str], None]], Client],
        delay_s: float,
    ) -> None:
        self._make, self._delay_s = client, delay_s
        self._is_new = threading.Event()
        self._lock = threading.Lock()
        self._wish = Wish()
        self._overview: dict[str, Any] | None = None
        self._answered = time.monotonic()
        self._trouble = ""
        self._note, self._noted = "", 0.0
        self._log: tuple[str, list[str]] = ("", [])
        self._is_over = threading.Event()
        self._new_wish, self._new_log = threading.Event(), threading.Event()
        self._cancels: list[Cancel] = []
        self._said = ""
        self._threads = [
            threading.Thread(target=self._look, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]

    def __enter__(self) -> Feed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._new_wish.set()
        self._new_log.set()
        # They may wait for an agent; as daemons they do not keep the process.

    def wish(self, wish: Wish) -> None:
        """Say what is to be shown from now on."""
        with self._lock:
            before, self._wish = self._wish, wish
        if wish.log != before.log:
            self._new_log.set()
        if wish._replace(log="") != before._replace(log=""):
            self._new_wish.set()

    def cancel(self, cancel: Cancel) -> None:
        """Have a build cancelled; what came of it is :meth:`said`."""
        with self._lock:
            self._cancels.append(cancel)
        self._new_log.set()

    def said(self) -> str:
        """Return once what came of the last cancel; empty if nothing is new."""
        with self._lock:
            said, self._said = self._said, ""
        return said

    def is_new(self) -> bool:
        """Whether there is something that :meth:`seen` has not told yet."""
        return self._is_new.is_set()

    def seen(self) -> Seen:
        """Return what is known now."""
        self._is_new.clear()
        with self._lock:
            now = time.monotonic()
            age_s = now - self._answered
            return Seen(
                overview=self._overview,
                age_s=age_s,
                silent_s=max(0.0, age_s - max(self._delay_s, WAIT_S)),
                trouble=self._trouble,
                note=self._note if now - self._noted < NOTE_S else "",
                log=self._log[1],
                log_of=self._log[0],
            )

    # -- threads --------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        with self._lock:
            self._note, self._noted = text, time.monotonic()
        self._is_new.set()

    def _client(self, tell: Callable[[str], None]) -> Client:
        client = self._make(tell)
        client.patience_s = PATIENCE_S
        return client

    def _look(self) -> None:
        client, asked = self._client(self._tell), Wish()
        while not self._is_over.is_set():
            began = time.monotonic()
            with self._lock:
                wish, last = self._wish._replace(log=""), self._overview
            # With something else to show the answer is wanted at once.
            after = last["seq"] if last is not None and wish == asked else None
            wait_s = WAIT_S if after is not None else 0.0
            self._new_wish.clear()
            try:
                found = client.call(
                    "overview",
                    wait_s=wait_s,
                    match=wish.match,
                    sort=wish.sort,
                    rows=wish.rows,
                    after=after,
                    wait=wait_s or None,
                ).json()
            except RotaError as error:
                with self._lock:
                    self._trouble = error.message
            else:
                asked = wish
                with self._lock:
                    self._overview, self._trouble = found, ""
                    self._answered = time.monotonic()
            self._is_new.set()
            self._new_wish.wait(max(0.05, began + self._delay_s - time.monotonic()))

    def _read(self) -> None:
        client = self._client(lambda _: None)
        while not self._is_over.is_set():
            self._new_log.clear()
            with self._lock:
                build, rows = self._wish.log, self._wish.rows
                cancels, self._cancels = self._cancels, []
            for cancel in cancels:
                said = _cancelled(client, cancel)
                with self._lock:
                    self._said = said
            if build:
                lines = _last_lines(client, build, rows)
                with self._lock:
                    self._log = (build, lines)
            self._is_new.set()
            self._new_log.wait(max(self._delay_s, 0.2) if build else None)


def _cancelled(client: Client, cancel: Cancel) -> str:
    try:
        build = client.cancel(cancel.id, "at rota top")
    except RotaError as error:
        return error.message
    ending = build["state"] == "running"
    return f"{build.ref} is being ended" if ending else f"{build.ref} is cancelled"


def _last_lines(client: Client, build: str, rows: int) -> list[str]:
    """Return the last lines of a build's log, as they may be shown."""
    data = bytearray()
    try:
        for piece in client.log(build, Start(tail=rows), limit=MAX_LOG):
            data += piece
    except RotaError as error:
        return [error.message]
    text = Sanitizer(color=False).feed(data.decode("utf-8", "replace"))
    # A progress bar writes over itself: what it wrote last is what is seen.
    lines = [line.rstrip("\r").rpartition("\r")[2].expandtabs() for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    return [clean(line) for line in lines[-rows:]]
