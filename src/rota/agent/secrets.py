"""The stage that gives a script its secrets, hides them in its log, and takes them away again.

What was given is noted down in the attempt's folder, encrypted for the cluster's own key: a daemon
that comes after one that was killed must hide the same values, which may be others on ``main`` by
then, and must give them to the finaliser.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.agent.finaliser import FOLDER
from rota.agent.stages import NOTHING, Ending, Left, Underway
from rota.core.build import Build
from rota.core.secret_use import SecretUse
from rota.errors import DeniedError, ExecutionError, NotFoundError, RotaError
from rota.ports.executor import Mount, Task
from rota.ports.private_files import PrivateFiles
from rota.ports.safe import Safe
from rota.ports.secrets import Secrets

logger = logging.getLogger(__name__)

NOTE = "secrets.age"


def scrub(home: Path) -> None:
    """Remove what an attempt that is over left in clear: its log, of which the engine has a better one."""
    for name in ("log", f"{FOLDER}/log", NOTE):
        with contextlib.suppress(OSError):
            (home / name).unlink(missing_ok=True)


class Given(msgspec.Struct, frozen=True):
    """A secret as a script got it."""

    env: str
    file: str
    value: bytes


class SecretStage:
    """See :class:`rota.agent.stages.Stage`. Without a safe nothing is noted down."""

    def __init__(self, secrets: Secrets, safe: Safe | None, files: PrivateFiles) -> None:
        self._secrets, self._safe, self._files = secrets, safe, files

    def concerns(self, build: Build) -> bool:
        """Say whether a build asks for secrets."""
        return bool(build.spec.secrets)

    async def before(self, under: Underway, task: Task) -> Task:
        """Read the secrets, have them hidden, and give them to the script.

        Raises:
            RotaError: one that is not optional is not given.
        """
        given = []
        for use in under.build.spec.secrets:
            value = await self._value(under, use)
            if value is not None:
                under.masks.add(value)
                given.append(Given(use.env, use.file, value))
        self._note(under, given)
        return self._given(under, task, given)

    async def resume(self, under: Underway, task: Task) -> Task:
        """Hide the same values as before, and give them to what still comes."""
        try:
            given = self._noted(under)
        except (RotaError, OSError, msgspec.MsgspecError) as error:
            # Better no log than one with what must be hidden in it.
            logger.warning("the log of %s is hidden: %s", under.build.ref, error)
            under.masks.hides_all = True
            return task
        for it in given:
            under.masks.add(it.value)
        return self._given(under, task, given)

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Take the files away."""
        # The note stays for as long as the folder: the log may have to be read once more.
        self._files.remove(key_of(under.build))
        return NOTHING

    def sweep(self, living: Iterable[Build], homes: Iterable[Path]) -> None:
        """Take away what a former daemon left: of all attempts but the ``living``.

        ``homes`` are the folders of all attempts; only those that had secrets are looked into.
        """
        keys = {key_of(build) for build in living}
        self._files.sweep(keys)
        for home in homes:
            if f"{home.parent.name}.{home.name}" not in keys and (home / NOTE).exists():
                scrub(home)

    async def _value(self, under: Underway, use: SecretUse) -> bytes | None:
        try:
            return await self._secrets.read(use.ref, build=under.build)
        except (NotFoundError, DeniedError) as error:
            if not use.optional:
                under.say(f"rota: {error.message}")
                if error.hint:
                    under.say(f"hint: {error.hint}")
                raise
            under.say(f"rota: {error.message}; it is optional, ${use.env} is not set")
            return None

    def _given(self, under: Underway, task: Task, given: list[Given]) -> Task:
        env = {it.env: _text(it) for it in given if not it.file}
        files = {it.file: it.value for it in given if it.file}
        if files:
            folder = self._files.write(
                key_of(under.build),
                files,
                user=_reader(under.build, task),
                shared=under.build.spec.container is not None,
            )
            env |= {it.env: str(folder / it.file) for it in given if it.file}
            # Also for a build that sees other folders than the agent does.
            mount = Mount(source=folder, target=str(folder), writable=False)
            task = replace(task, mounts=(*task.mounts, mount))
        return replace(task, env={**task.env, **env})

    def _note(self, under: Underway, given: list[Given]) -> None:
        if self._safe is None:
            return
        if not self._safe.recipients():
            self._safe.keep(self._safe.make())
        text = self._safe.encrypt(msgspec.json.encode(given), self._safe.recipients()[0])
        descriptor = os.open(
            under.home / NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())

    def _noted(self, under: Underway) -> list[Given]:
        if self._safe is None:
            raise ExecutionError("this agent noted down no secrets")
        text = (under.home / NOTE).read_text(encoding="ascii", errors="replace")
        return msgspec.json.decode(self._safe.decrypt(text), type=list[Given])


def _reader(build: Build, task: Task) -> str:
    """Return the user of the machine that an attempt's files are for; empty for the agent's own."""
    if build.spec.container is not None:
        return ""  # its user is none of the machine's
    words = task.confinement.user if task.confinement is not None else build.spec.user
    return words.partition(":")[0]


def key_of(build: Build) -> str:
    """Return by what an attempt's files are found."""
    return f"{build.id}.{build.attempt}"


def _text(it: Given) -> str:
    """Return a value as it stands in a variable: without the line's end that an editor adds."""
    if b"\0" in it.value:
        raise ExecutionError(
            f"the secret for ${it.env} has a NUL byte, which no variable can hold",
            hint="give it as a file: file = true",
        )
    return os.fsdecode(it.value.removesuffix(b"\n").removesuffix(b"\r"))
