"""Asks an agent for what ``rota top`` shows, in threads of their own: a silent agent stops no key.

Each thread has its client, which goes on at another agent by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rota.cli.logview import Sanitizer
from rota.cli.render import PLAIN, Look, clean, result_line
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
#: How long the threads may take to end; as daemons they do not keep the process.
END_S = 2.0
#: How long it is said that the client went on elsewhere.
NOTE_S = 10.0


class Wish(NamedTuple):
    """What is to be shown."""

    match: str = "*"
    sort: str = "longest"
    rows: int = 20
    log: str = ""


class _Log(NamedTuple):
    """The last lines of a build's log, and in words how the build is."""

    build: str = ""
    lines: Sequence[str] = ()
    said: str = ""
    is_whole: bool = False


class Feed:
    """What was answered last. Start it as a context; it ends its threads when that is left.

    Args:
        client: Makes a client; it is given what to tell of the client's moves.
        delay_s: The least time between two questions.
        look: What it is shown on.
    """

    def __init__(
        self,
        client: Callable[[Callable[[str], None]], Client],
        delay_s: float,
        look: Look = PLAIN,
    ) -> None:
        self._delay_s = delay_s
        # One a thread: a client is not for several at a time.
        self._looker, self._reader = client(self._tell), client(lambda _: None)
        self._look_at = look._replace(color=False)
        self._is_new = threading.Event()
        self._looker.patience_s = self._reader.patience_s = PATIENCE_S
        self._lock = threading.Lock()
        self._wish = Wish()
        self._overview: dict[str, Any] | None = None
        self._answered = time.monotonic()
        self._trouble = ""
        self._note, self._noted = "", 0.0
        self._log = _Log()
        self._is_over = threading.Event()
        self._new_wish, self._new_log = threading.Event(), threading.Event()
        self._cancels: list[Cancel] = []
        self._said = ""
        self._fault: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(task,), daemon=True)
            for task in (self._look, self._read)
        ]

    def __enter__(self) -> Feed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._new_wish.set()
        self._new_log.set()
        self._looker.close()
        self._reader.close()
        for thread in self._threads:
            thread.join(END_S)

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
        """Return what is known now.

        Raises:
            Exception: what nobody foresaw and a thread died of.
        """
        self._is_new.clear()
        with self._lock:
            if self._fault is not None:
                raise self._fault
            now = time.monotonic()
            age_s = now - self._answered
            return Seen(
                overview=self._overview,
                age_s=age_s,
                silent_s=max(0.0, age_s - max(self._delay_s, WAIT_S)),
                trouble=self._trouble,
                note=self._note if now - self._noted < NOTE_S else "",
                log=self._log.lines,
                log_of=self._log.build,
                log_said=self._log.said,
            )

    # -- threads --------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        with self._lock:
            self._note, self._noted = text, time.monotonic()
        self._is_new.set()

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001  # shown where people look, not over the picture
            with self._lock:
                self._fault = error
            self._is_new.set()

    def _look(self) -> None:
        client, asked = self._looker, Wish()
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
        client = self._reader
        while not self._is_over.is_set():
            self._new_log.clear()
            with self._lock:
                build, rows = self._wish.log, self._wish.rows
                cancels, self._cancels = self._cancels, []
            for cancel in cancels:
                said = _cancelled(client, cancel)
                with self._lock:
                    self._said = said
            if build and not (self._log.build == build and self._log.is_whole):
                log = _read_log(client, build, rows, self._look_at)
                with self._lock:
                    # While nobody answers, what is known of it stays.
                    if log.lines or log.is_whole or self._log.build != build:
                        self._log = log
                self._is_new.set()
            elif cancels:
                self._is_new.set()
            self._new_log.wait(max(self._delay_s, 0.2) if build else None)


def _cancelled(client: Client, cancel: Cancel) -> str:
    try:
        build = client.cancel(cancel.id, "at rota top")
    except RotaError as error:
        return error.message
    ending = build["state"] == "running"
    return f"{build.ref} is being ended" if ending else f"{build.ref} is cancelled"


def _read_log(client: Client, build: str, rows: int, look: Look) -> _Log:
    try:
        # First: what is finished by now has all its lines.
        found = client.build(build)
    except RotaError as error:
        return _Log(build, said=error.message)
    is_whole = found.is_finished
    return _Log(build, _last_lines(client, build, rows), result_line(found, look), is_whole)


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
