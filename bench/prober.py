"""Somebody who asks all the while, and a clock beside that says what the machine itself did."""

from __future__ import annotations

import threading
import time

from bench.agent import Agent
from bench.floor import timed_ms

PAUSE_S = 0.002


class Prober:
    """Asks `/v1/status` over and over while its block lasts; ``answers_ms`` has each time it took.

    ``hiccups_ms`` has how much later than asked for each sleep of a thread beside it ended: what
    of a slow answer is the machine's fault, and not the agent's.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._sleep)]
        self.answers_ms: list[float] = []
        self.hiccups_ms: list[float] = []

    def __enter__(self) -> Prober:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._agent.connect() as connection:
            while not self._over.is_set():
                self.answers_ms.append(timed_ms(lambda: connection.call("GET", "/v1/status")))
                time.sleep(PAUSE_S)

    def _sleep(self) -> None:
        while not self._over.is_set():
            late = timed_ms(lambda: time.sleep(PAUSE_S)) - PAUSE_S * 1000
            self.hiccups_ms.append(max(late, 0.0))
