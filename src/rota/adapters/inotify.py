"""The watcher over inotify(7): one descriptor for the whole daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from inotify_simple import INotify, flags

from rota.errors import UnavailableError


class InotifyWatcher:
    """Implements the watcher port; made inside a running loop, closed once."""

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._watches: dict[int, _InotifyWatch] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._readable)

    def watch(self, path: Path, on_write: Callable[[], None]) -> _InotifyWatch:
        """Call ``on_write`` after each write to ``path``."""
        try:
            number = self._inotify.add_watch(path, flags.MODIFY)
        except OSError as error:
            raise UnavailableError(
                f"cannot watch {path}: {error.strerror}",
                hint="raise fs.inotify.max_user_watches (sysctl) if there is no space left",
            ) from error
        watch = _InotifyWatch(self, number, on_write)
        self._watches[number] = watch
        return watch

    def close(self) -> None:
        """Let go of the descriptor; all watches end."""
        self._loop.remove_reader(self._inotify.fd)
        self._watches.clear()
        self._inotify.close()

    def forget(self, number: int) -> None:
        """Drop one watch; the kernel has dropped it already if the file is gone."""
        if self._watches.pop(number, None) is not None:
            try:
                self._inotify.rm_watch(number)
            except OSError:
                return

    def _readable(self) -> None:
        # One write(2) of a script is one event, so a chatty script fills the queue with repeats of
        # its own watch: call each watch once a wake-up. An overflow names no watch: wake them all.
        numbers = {event.wd for event in self._inotify.read(timeout=0)}
        for number in self._watches.keys() if -1 in numbers else numbers:
            watch = self._watches.get(number)
            if watch is not None:
                watch.on_write()


class _InotifyWatch:
    def __init__(self, owner: InotifyWatcher, number: int, on_write: Callable[[], None]) -> None:
        self._owner, self._number = owner, number
        self.on_write = on_write

    def close(self) -> None:
        self._owner.forget(self._number)
