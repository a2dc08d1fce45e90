"""The programs that confine a build, and what this machine lets them do.

One tool for each thing: control groups are files; ``setpriv`` gives a user and takes rights; ``unshare``
and ``mount`` make other temporary folders; ``unshare`` and ``ip`` cut the network. All of them become
the next one, so that a script is the process that it would be without them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rota.adapters.process.lender import BOOTED
from rota.core.confinement import ABILITIES

_NAMES = ("setpriv", "unshare", "mount", "umount", "ip", "setsid")
#: Where they are; not the PATH of jobs, which anybody may set who writes one.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TRY_S = 5.0
#: Of the first process of a namespace of processes only a parent knows the end.
_FLAGS = {
    "mount": ("--mount",),
    "net": ("--net",),
    "pid": ("--pid", "--fork", "--kill-child", "--mount-proc"),
}


class Toolbox(NamedTuple):
    """Where the tools are; empty for one that is not there."""

    setpriv: str = ""
    unshare: str = ""
    mount: str = ""
    umount: str = ""
    ip: str = ""
    setsid: str = ""

    def missing(self, *names: str) -> list[str]:
        """Return those of ``names`` that are not there."""
        return [name for name in names if not getattr(self, name)]


def find_toolbox(path: str = _PATH) -> Toolbox:
    """Return the tools of this machine."""
    return Toolbox(*(shutil.which(name, path=path) or "" for name in _NAMES))


def namespaces(tools: Toolbox, *kinds: str) -> list[str]:
    """Return the command that makes namespaces of these kinds, for a program that may then mount.

    An ordinary user has to be root of a user namespace for that, and is itself again in one below it.
    """
    flags = [flag for kind in kinds for flag in _FLAGS[kind]]
    return [tools.unshare, *(["--map-root-user"] if os.geteuid() else []), *flags, "--"]


def back_again(tools: Toolbox) -> list[str]:
    """Return the command by which an ordinary user is itself again, inside of its namespaces."""
    if not os.geteuid():
        return []
    return [tools.unshare, f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}", "--"]


def able(tools: Toolbox, limits: frozenset[str]) -> Iterator[str]:
    """Yield the labels of what this agent can do; the kernel is asked by doing it. Costs about 20 ms.

    Args:
        tools: What there is.
        limits: What control groups can limit.
    """
    yield from (ABILITIES[name] for name in sorted(limits))
    if tools.setpriv:
        yield ABILITIES["no_new_privs"]
        if os.geteuid() == 0:
            yield ABILITIES["user"]
    if not tools.missing("unshare", "mount", "umount"):
        trial = [*namespaces(tools, "mount"), tools.mount, "-t", "tmpfs", "rota", "/mnt"]
        if _succeeds(trial) and _succeeds(
            [*namespaces(tools, "mount"), *back_again(tools), "true"]
        ):
            yield ABILITIES["private_tmp"]
            if _succeeds([*namespaces(tools, "mount", "pid"), *back_again(tools), "true"]):
                yield ABILITIES["private_pids"]
    if not tools.missing("unshare", "ip"):
        trial = [*namespaces(tools, "net"), tools.ip, "link", "set", "lo", "up"]
        if _succeeds(trial):
            yield ABILITIES["network"]


def confining_programs() -> Iterator[str]:
    """Yield the labels of programs by which a job may confine what it starts itself."""
    yield from (name for name in ("bwrap", "setpriv", "unshare") if shutil.which(name, path=_PATH))
    if BOOTED.is_dir() and shutil.which("systemd-run", path=_PATH):
        yield "systemd-run"


def _succeeds(words: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": _PATH},
            timeout=_TRY_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
