"""Lets a container's user write where its script works.

An attempt's home is its agent's, and closed to all others of the machine. A container's root may do
anything there; another user is given workspace and temporary files, behind that closed door.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
from typing import NamedTuple

from rota.adapters.docker.body import existing
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.home import Home
from rota.errors import ExecutionError, NotFoundError
from rota.ports.executor import Task

_ROOT = ("", "0", "root", "0:0", "root:root")


class Owner(NamedTuple):
    """A user and a group, as numbers."""

    user: int
    group: int


async def give(engine: Engine, container: str, user: str, task: Task) -> None:
    """Give the workspace to ``user`` of a container that is made and not yet started.

    Raises:
        ExecutionError: the image knows no such user.
    """
    if user in _ROOT:
        return
    owner = await _resolved(engine, container, user)
    await asyncio.to_thread(_give, owner, task)


async def _resolved(engine: Engine, container: str, user: str) -> Owner:
    name, _, group = user.partition(":")
    if name.isdecimal() and (not group or group.isdecimal()):
        return Owner(int(name), int(group or 0))
    users = await _lines(engine, container, "/etc/passwd")
    found = next((line for line in users if name in (line[0], line[2])), None)
    if found is None and not name.isdecimal():
        raise ExecutionError(
            f"the image has no user {name!r}", hint="name one of the image's, or give a number"
        )
    number = int(found[2]) if found else int(name)
    if not group or group.isdecimal():
        return Owner(number, int(group or (found[3] if found else 0)))
    groups = await _lines(engine, container, "/etc/group")
    named = next((line for line in groups if line[0] == group), None)
    if named is None:
        raise ExecutionError(f"the image has no group {group!r}")
    return Owner(number, int(named[2]))


async def _lines(engine: Engine, container: str, path: str) -> list[list[str]]:
    """Return the fields of a file's lines; none if the image has no such file."""
    try:
        data = await engine.read("GET", f"containers/{container}/archive", params={"path": path})
    except NotFoundError:
        return []
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = next((it for it in tar if it.isfile()), None)
        file = tar.extractfile(member) if member else None
        text = file.read().decode("utf-8", "replace") if file else ""
    fields = (line.split(":") for line in text.splitlines())
    return [line for line in fields if len(line) >= 3 and line[2].isdecimal()]


def _give(owner: Owner, task: Task) -> None:
    home = Home(task.home)
    home.own.chmod(0o711)
    for fifo in existing(home.output, home.stdin, home.stdin_eof):
        fifo.chmod(0o666)
    # Files of secrets lie elsewhere: only root can give them away without showing them to everybody.
    own = (
        mount.source
        for mount in task.mounts
        if os.geteuid() == 0 or mount.source.is_relative_to(home.log.parent)
    )
    for tree in (home.run, task.cwd, *existing(*home.folders), *own):
        for place, _, files in os.walk(tree):
            for path in (place, *(f"{place}/{name}" for name in files)):
                _give_one(owner, path)


def _give_one(owner: Owner, path: str) -> None:
    try:
        status = os.lstat(path)
        mode = status.st_mode
        if stat.S_ISREG(mode) and status.st_nlink > 1:
            return  # of a mirror's packs: it may be read, and is no build's to change
        if os.geteuid() == 0:
            os.chown(path, owner.user, owner.group, follow_symlinks=False)
        elif not stat.S_ISLNK(mode):
            rights = 0o777 if mode & 0o100 or stat.S_ISDIR(mode) else 0o666
            os.chmod(path, stat.S_IMODE(mode) | rights)  # noqa: PTH101
    except FileNotFoundError:
        return
