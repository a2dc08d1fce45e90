"""The control group of an attempt: who is in it, what they used, and its end.

Version 1 has a folder for each controller, version 2 has one for all; what a folder's files are called
says which it is. Everything here works on what is there, so that a later daemon, or the guard, needs
to know nothing but the folders. The kernel keeps a process's children in its group, whatever session,
parent, environment and output they give themselves: nothing gets away from it but what root moves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

_PREFIX = "rota-"
_KILL_LOOKS, _KILL_LOOK_S = 50, 0.01


class Used(NamedTuple):
    """What all processes of a group used together; 0 where the kernel does not count it.

    ``memory_bytes`` is the most that it held at once; ``oom_kills`` processes were ended for want of
    memory, ``refused`` forks failed for the limit of pids, ``throttled_s`` it was kept from a processor.
    """

    user_s: float = 0.0
    system_s: float = 0.0
    memory_bytes: int = 0
    oom_kills: int = 0
    refused: int = 0
    throttled_s: float = 0.0


class Cgroup(NamedTuple):
    """A control group, by its folders; one without any is none, and has nothing in it."""

    folders: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.folders)

    def pids(self) -> frozenset[int]:
        """Return who is in it, and in groups that were made below it. Costs about 50 µs."""
        found: set[int] = set()
        for folder in self.folders:
            for each in _all_of(folder):
                found.update(int(line) for line in _text(f"{each}/cgroup.procs").split())
        return frozenset(found)

    def kill(self) -> None:
        """Send SIGKILL to all of it; those that fork meanwhile are stopped before.

        Takes half a second at most, mostly none: who waits for a dead disk is not waited for.
        """
        for _ in range(_KILL_LOOKS):
            if not self.pids():
                return
            self._freeze(True)
            is_one_call = any(_write(f"{folder}/cgroup.kill", "1") for folder in self.folders)
            for pid in () if is_one_call else self.pids():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._freeze(False)  # in version 1 a frozen process does not die
            time.sleep(_KILL_LOOK_S)

    def used(self) -> Used:
        """Return what it used so far. Costs about 0.1 ms."""
        user_s, system_s = self._cpu_s()
        return Used(
            user_s=user_s,
            system_s=system_s,
            memory_bytes=self._number("memory.peak") or self._number("memory.max_usage_in_bytes"),
            oom_kills=self._entry("memory.events", "oom_kill")
            or self._entry("memory.oom_control", "oom_kill"),
            refused=self._entry("pids.events", "max"),
            throttled_s=self._entry("cpu.stat", "throttled_usec") / 1e6
            or self._entry("cpu.stat", "throttled_time") / 1e9,
        )

    def remove(self) -> bool:
        """Remove it; say whether it is gone. One that still holds a process stays."""
        for folder in self.folders:
            for each in reversed(_all_of(folder)):
                with contextlib.suppress(OSError):
                    os.rmdir(each)  # noqa: PTH106 - as light as the rest
        return not any(os.path.isdir(folder) for folder in self.folders)  # noqa: PTH112 - likewise

    def _cpu_s(self) -> tuple[float, float]:
        if user_ns := self._number("cpuacct.usage_user"):
            return user_ns / 1e9, self._number("cpuacct.usage_sys") / 1e9
        user_us = self._entry("cpu.stat", "user_usec")
        return user_us / 1e6, self._entry("cpu.stat", "system_usec") / 1e6

    def _freeze(self, frozen: bool) -> None:
        for folder in self.folders:
            if not _write(f"{folder}/freezer.state", "FROZEN" if frozen else "THAWED"):
                _write(f"{folder}/cgroup.freeze", "1" if frozen else "0")

    def _number(self, name: str) -> int:
        """Return what the file ``name`` holds, in whichever folder it is; 0 if in none."""
        for folder in self.folders:
            text = _text(f"{folder}/{name}").strip()
            if text.isdecimal():
                return int(text)
        return 0

    def _entry(self, name: str, key: str) -> int:
        """Return the number beside ``key`` in the file ``name``; 0 if there is none."""
        for folder in self.folders:
            for line in _text(f"{folder}/{name}").splitlines():
                word, _, number = line.partition(" ")
                if word == key and number.isdecimal():
                    return int(number)
        return 0


NO_CGROUP = Cgroup()


def group_name(owner: str, attempt: str) -> str:
    """Return how the folders of an attempt's group are called: nobody else's begin so."""
    return f"{_PREFIX}{owner}-{attempt}"


def groups_of(base: str, owner: str) -> Iterator[tuple[str, str]]:
    """Yield the attempts that have a group of this ``owner`` below the folder ``base``, and its folder."""
    prefix = group_name(owner, "")
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        yield from (
            (entry.name.removeprefix(prefix), entry.path)
            for entry in entries
            if entry.name.startswith(prefix)
        )


def _all_of(folder: str) -> list[str]:
    """Return a folder and those below it, above before below; files of a kernel need no look."""
    found = [folder]
    for each in found:
        with contextlib.suppress(OSError), os.scandir(each) as entries:
            found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - as light as the rest
            return file.read()
    except OSError:
        return ""  # not of this version, or gone


def _write(path: str, text: str) -> bool:
    # Never made where there is none: what a kernel does not offer is no file of ours.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode("ascii"))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
