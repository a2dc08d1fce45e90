"""Three agents on hosts of their own, as one cluster, started and broken as the tests do it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, lab, leader, no_spaces
from tests.harness.rest import RefusedError

from bench.case import Setting

AGENTS, SLOTS = 3, 2
PATIENCE_S = 60.0
SCRIPT = "#!/bin/sh\necho hello\n"


def why_not() -> str:
    """Return why hosts cannot be cut off on this machine; nothing if they can."""
    return no_spaces()


@contextlib.contextmanager
def cluster(setting: Setting, agents: int = AGENTS) -> Iterator[Lab]:
    """A cluster with as many voters as agents, a trivial job ``quick`` in it."""
    folder = setting.data()
    folder.mkdir()
    with lab(folder) as made:
        made.cluster(agents, SLOTS)
        until_whole(made.hosts)
        with made.hosts[0].rest(PATIENCE_S) as rest:
            rest.call("PUT", "/v1/jobs/quick", SCRIPT.encode())
        for host in made.hosts:
            wait_until("the job is known", functools.partial(_knows, host, "quick"))
        yield made


def _knows(host: Host, job: str) -> bool:
    with contextlib.suppress(RefusedError), host.rest(PATIENCE_S) as rest:
        return bool(rest.call("GET", f"/v1/jobs/{job}"))
    return False


def until_whole(hosts: Sequence[Host]) -> None:
    """Wait until all are up, agree on a leader, and tolerate a failure."""

    def look() -> bool:
        with contextlib.suppress(OSError, RefusedError):
            return all(_status(host)["tolerates"] >= (len(hosts) - 1) // 2 for host in hosts)
        return False

    wait_until("the cluster is whole", look, 2 * PATIENCE_S)
    leader(hosts, PATIENCE_S)
    time.sleep(1.0)


def _status(host: Host) -> Any:
    with host.rest(5.0) as rest:
        return rest.call("GET", "/v1/status")


class Watch:
    """Triggers at some hosts, one after the other, and follows the journal there.

    ``acked`` has the moments at which a trigger was acknowledged, ``events`` the events with the
    moment each was seen; both by ``time.monotonic``.
    """

    def __init__(self, hosts: Sequence[Host], pause_s: float = 0.02) -> None:
        self._hosts, self._pause_s = hosts, pause_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._trigger, args=(host,)) for host in hosts]
        self._threads += [threading.Thread(target=self._follow, args=(host,)) for host in hosts]
        self.acked: list[float] = []
        self.events: list[tuple[float, Mapping[str, Any]]] = []

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _trigger(self, host: Host) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, RefusedError), host.rest(0.5) as rest:
                while not self._over.is_set():
                    rest.call("POST", "/v1/jobs/quick/builds", {})
                    self.acked.append(time.monotonic())
                    self._over.wait(self._pause_s)
            self._over.wait(self._pause_s)

    def _follow(self, host: Host) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, RefusedError), host.rest(1.0) as rest:
                for told in rest.events("/v1/events?follow=true"):
                    if told.event not in ("gap", "error"):
                        self.events.append((time.monotonic(), json.loads(told.data)))
                    if self._over.is_set():
                        return

    def first_ack(self, after: float) -> float:
        """Return when the first trigger after a moment was acknowledged, in seconds from it."""
        return (
            self._until("a trigger is acknowledged", lambda: self._next(self.acked, after)) - after
        )

    def first_event(self, after: float, is_it: Callable[[Mapping[str, Any]], bool]) -> float:
        """Return when the first such event after a moment was seen, in seconds from it."""

        def look() -> float | None:
            return self._next([at for at, event in list(self.events) if is_it(event)], after)

        return self._until("the event is seen", look) - after

    def longest_gap_s(self, begin: float, end: float) -> float:
        """Return the longest time without an acknowledged trigger between two moments."""
        moments = sorted([begin, *(at for at in self.acked if begin < at < end), end])
        return max(after - before for before, after in itertools.pairwise(moments))

    @staticmethod
    def _next(moments: Sequence[float], after: float) -> float | None:
        return min((at for at in list(moments) if at > after), default=None)

    @staticmethod
    def _until(what: str, look: Callable[[], float | None]) -> float:
        return wait_until(what, look, PATIENCE_S)
