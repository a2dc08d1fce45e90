"""Takes back what a container's users own of an attempt's files, for an agent that is not root.

Who may use the engine may do so: a container whose root changes the owner. Its image is empty, made
here; the program is this machine's own ``chown``, brought along as sh is.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rota.adapters.docker.attempt import remove
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.shell import Shell, bring
from rota.errors import ExecutionError, NotFoundError

_EMPTY = "rota-empty:1"


class Reclaimer:
    """Gives files to this process's user."""

    def __init__(self, engine: Engine, labels: Mapping[str, str], shell: Shell) -> None:
        self._engine = engine
        self._labels = labels
        self._shell = shell

    async def reclaim(self, folders: Sequence[Path]) -> None:
        """See :meth:`rota.ports.containers.Containers.reclaim`."""
        if os.geteuid() == 0:
            return  # who may do anything anyway
        foreign = await asyncio.to_thread(
            lambda: [folder for folder in folders if is_foreign(folder)]
        )
        if not foreign:
            return
        chown = shutil.which("chown")
        if chown is None:
            raise ExecutionError("there is no chown on this agent")
        brought = await asyncio.to_thread(bring, self._shell.folder.parent, chown)
        await self._make_empty()
        made = await self._engine.create(self._body(brought, foreign))
        try:
            await self._engine.ask("POST", f"containers/{made}/start")
            ended = await self._engine.ask("POST", f"containers/{made}/wait", within_s=None)
        finally:
            await asyncio.shield(remove(self._engine, made))
        if ended.get("StatusCode"):
            raise ExecutionError(f"files of {foreign[0]} could not be taken back")

    def _body(self, chown: Shell, folders: Sequence[Path]) -> dict[str, Any]:
        owner = f"{os.geteuid()}:{os.getegid()}"
        places = [str(folder) for folder in folders]
        return {
            "Image": _EMPTY,
            "Entrypoint": [*chown.words],
            "Cmd": ["-R", "-h", owner, *places],
            "User": "0",
            "Labels": dict(self._labels),
            "HostConfig": {
                "NetworkMode": "none",
                "LogConfig": {"Type": "none"},
                "CapDrop": ["ALL"],
                "CapAdd": ["CHOWN", "DAC_READ_SEARCH", "FOWNER"],
                "Mounts": [
                    {"Type": "bind", "Source": place, "Target": place, "ReadOnly": False}
                    for place in places
                ]
                + [
                    {
                        "Type": "bind",
                        "Source": str(chown.folder),
                        "Target": str(chown.folder),
                        "ReadOnly": True,
                    }
                ],
            },
        }

    async def _make_empty(self) -> None:
        try:
            await self._engine.ask("GET", f"images/{_EMPTY}/json")
        except NotFoundError:
            repository, _, tag = _EMPTY.partition(":")
            params = {"fromSrc": "-", "repo": repository, "tag": tag}
            headers = {"Content-Type": "application/x-tar"}
            async with self._engine.told(
                "POST", "images/create", params=params, headers=headers, body=_empty_tar()
            ) as lines:
                async for _ in lines:
                    pass


def is_foreign(folder: Path) -> bool:
    """Say whether anything in a folder belongs to another user. Cost: a look at each file."""
    mine = os.geteuid()
    try:
        if os.lstat(folder).st_uid != mine:
            return True
        for here, folders, files in os.walk(folder, onerror=_raise):
            for name in (*folders, *files):
                if os.lstat(f"{here}/{name}").st_uid != mine:
                    return True
    except PermissionError:
        return True
    except FileNotFoundError:
        return False
    return False


def _raise(error: OSError) -> None:
    raise error


def _empty_tar() -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        # of nothing at all some engines make no image
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return file.getvalue()
