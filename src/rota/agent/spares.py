"""Folders of attempts that were not touched, for attempts to come: to make four and to remove four is dear.

A folder is used again only if nobody can have left anything in it: no process of the attempt is left,
and its workspace is the very one that was made, unchanged by what its inode says, or else a new one.
"""

# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH116, PTH208 - paths as text: a Path costs as much as the call
from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

#: More than attempts end at once.
_MOST = 16
#: The kernel counts changes by its clock, which stands still between two ticks: by now it has moved on.
_AGED_S = 0.05
_INNER = ("work", "tmp")
_MODE = 0o700


class _Spare(NamedTuple):
    path: str
    changed: tuple[int, ...]  # when its inner folders were, in nanoseconds
    made_at: float


class Spares:
    """Folders ``<build>/1`` with ``work`` and ``tmp`` in them, in a folder aside.

    Args:
        aside: Where they wait; on the same file system as those that are used.
    """

    def __init__(self, aside: Path) -> None:
        self._aside = str(aside)
        self._numbers = itertools.count()
        self._ready: deque[_Spare] = deque()
        self._used: dict[str, _Spare] = {}
        # Of a former daemon nobody knows what they are like.
        shutil.rmtree(self._aside, ignore_errors=True)

    def take(self, build: str) -> bool:
        """Let a spare one become the folder ``build``, which does not exist; say whether there was one."""
        if not self._ready or time.monotonic() - self._ready[0].made_at < _AGED_S:
            return False
        spare = self._ready.popleft()
        try:
            os.rename(spare.path, build)
        except OSError:
            return False
        self._used[build] = spare
        return True

    def forget(self, build: str) -> None:
        """Let a folder be as any other: it is not given back."""
        self._used.pop(build, None)

    def put(self, build: str) -> bool:
        """Take the folder of an ended attempt, the first of its build, to be used again.

        Only for one of which no process is left. Returns False, and leaves it to be removed, if it holds more
        than an attempt's own files, or is not as it was.
        """
        former = self._used.pop(build, None)
        if len(self._ready) >= _MOST:
            return False
        home = f"{build}/1"
        try:
            if not _is_plain(build) or not _is_plain(home) or os.listdir(build) != ["1"]:
                return False  # of the next attempt, say, which may have begun by now
            changed = former.changed if former is not None else ()
            made_at = former.made_at if former is not None else 0.0
            if _changes(home) != changed:
                changed, made_at = _anew(home), time.monotonic()
            for name in os.listdir(home):
                if name not in _INNER:
                    os.unlink(f"{home}/{name}")
            path = self._next()
            os.rename(build, path)
        except OSError:
            return False  # it is half gone: whoever removes it takes it as it is
        self._ready.append(_Spare(path, changed, made_at))
        return True

    def _next(self) -> str:
        number = next(self._numbers)
        if not number:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._aside, _MODE)
        return f"{self._aside}/{number}"


def _is_plain(folder: str) -> bool:
    """Say whether a folder has the rights that it was made with, and no others beside."""
    found = os.stat(folder, follow_symlinks=False)
    is_ours = found.st_uid == os.geteuid() and found.st_mode & 0o7777 == _MODE
    return is_ours and all(name.startswith("security.") for name in os.listxattr(folder))


def _changes(home: str) -> tuple[int, ...]:
    """Return when something was last made, removed or set in or at each inner folder."""
    return tuple(os.stat(f"{home}/{name}", follow_symlinks=False).st_ctime_ns for name in _INNER)


def _anew(home: str) -> tuple[int, ...]:
    """Replace the inner folders, which must be empty."""
    for name in _INNER:
        os.rmdir(f"{home}/{name}")
        os.mkdir(f"{home}/{name}")
    return _changes(home)
