"""Libcloud's drivers in threads: each call has its own, as their connections are not shared."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rota.adapters.clouds.faults import translated

T = TypeVar("T")

#: Seconds for one request. What is longer on its way may have been done all the same.
REQUEST_S = 30.0


class Threads:
    """Calls of one cloud. ``make`` makes a driver, without asking the provider anything."""

    def __init__(self, cloud: str, make: Callable[[], Any]) -> None:
        self._cloud, self._make = cloud, make

    async def call(self, work: Callable[[Any], T]) -> T:
        """Return what ``work`` does with a driver.

        Not in one of the executor's threads: a daemon that stops waits for those, and what keeps the
        git repository would wait for a provider.

        Raises:
            InputError: as of :func:`rota.adapters.clouds.faults.translated`, like all others.
            DeniedError: the key.
            ConflictError: not now.
            UnavailableError: no answer.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(what: Callable[[Any], None], value: object) -> None:
            # Nobody may wait any more, and there may be no loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None if answer.done() else what(value))

        def run() -> None:
            try:
                with translated(self._cloud):
                    found = work(self._make())
            except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
                tell(answer.set_exception, error)
            else:
                tell(answer.set_result, found)

        threading.Thread(target=run, name=f"cloud {self._cloud}", daemon=True).start()
        return await answer
