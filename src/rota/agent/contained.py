"""The stage that gets a script's container ready: its image, and the services beside it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

import rota
from rota.agent.stages import Ending, Left, Underway
from rota.core.build import Annotation, Build
from rota.core.confinement import BUILDS_DOOR
from rota.core.container import Image
from rota.core.settings import Settings
from rota.core.template import TemplateError, fill
from rota.errors import ExecutionError, RotaError
from rota.ports.containers import Containers, Login, Prepared
from rota.ports.executor import Container, Mount, Task
from rota.ports.secrets import Secrets


class Active(Protocol):
    """An attempt that runs here."""

    build: Build


logger = logging.getLogger(__name__)

#: In an attempt's folder: the image as it was when the script began.
NOTE = "image.json"
#: Taking services away takes no longer; what is left is found by the next sweep.
AFTER_S = 120.0
#: Where programs are in an image that does not say so itself.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Of the agent's user, which means nothing in an image.
_OF_THE_AGENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL")
_COMMAND = """#!/usr/bin/env python3
import sys

sys.path.insert(0, {source!r})
from rota.__main__ import main

sys.exit(main())
"""
_TRUSTED = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
_ROOT = ("", "0", "root")


class Contained:
    """See :class:`rota.agent.stages.Stage`.

    Args:
        containers: The engine of this machine.
        settings: Returns what the cluster allows.
        secrets: Have registries' logins; ``None`` where there are no secrets.
        data: The agent's data folder.
    """

    def __init__(
        self,
        containers: Containers,
        settings: Callable[[], Settings],
        *,
        secrets: Secrets | None = None,
        data: Path,
    ) -> None:
        self._containers = containers
        self._settings = settings
        self._secrets = secrets
        self._reach = Reach(data)

    def concerns(self, build: Build) -> bool:
        """Whether its header names an image."""
        return build.spec.container is not None

    async def before(self, under: Underway, task: Task) -> Task:
        """Have the image, start the services, and return the task that runs in a container."""
        try:
            return await self._ready(under, task)
        except RotaError as error:
            under.say(f"rota: {error.message}")
            if error.hint:
                under.say(f"hint: {error.hint}")
            raise

    async def _ready(self, under: Underway, task: Task) -> Task:
        wanted = filled(under.build)
        check_leave(wanted, self._settings())
        attempt = _attempt(under.build)
        login = await self._login(wanted.auth, under)
        prepared = await self._containers.image(wanted, work=under.work, login=login, say=under.say)
        if under.build.spec.services:
            logins = {
                service.auth: found
                for service in under.build.spec.services
                if (found := await self._login(service.auth, under)) is not None
            }
            await self._containers.serve(
                attempt,
                under.build.spec.services,
                logins=logins,
                say=under.say,
                internal=self._settings().isolation.network == "none",
            )
        await asyncio.to_thread(self._note, under.home, prepared)
        return self._contained(under.build, task, prepared)

    def _note(self, home: Path, prepared: Prepared) -> None:
        (home / NOTE).write_bytes(msgspec.json.encode(prepared))
        if prepared.user:
            (home / "home").mkdir(exist_ok=True)
        self._reach.lay()

    async def resume(self, under: Underway, task: Task) -> Task:
        """Return the task as it runs: what comes after the script runs in the same image."""
        try:
            raw = await asyncio.to_thread((under.home / NOTE).read_bytes)
            prepared = msgspec.json.decode(raw, type=Prepared)
        except (OSError, msgspec.DecodeError) as error:
            raise ExecutionError(f"what its container is made of is lost: {error}") from error
        return self._contained(under.build, task, prepared)

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Take the services away, and take back what others own of the attempt's files."""
        attempt = _attempt(under.build)
        said: list[str] = []
        faults: list[str] = []
        try:
            async with asyncio.timeout(AFTER_S):
                if under.build.spec.services and ending.exit is not None:
                    said += await self._containers.ended(attempt, under.say)
                if under.build.spec.services:
                    await self._containers.clear(attempt)
                await self._containers.reclaim([under.home])
        except (RotaError, TimeoutError) as error:
            text = error.message if isinstance(error, RotaError) else "the engine takes too long"
            logger.warning("after the container of %s: %s", under.build.ref, text)
            faults.append(f"what its container left is not away yet: {text}")
        note = ending.exit.note if ending.exit is not None else ""
        remarks = tuple(Annotation(level="warning", title="services", message=it) for it in said)
        return Left(faults=(*filter(None, [note]), *faults), remarks=remarks)

    def _contained(self, build: Build, task: Task, prepared: Prepared) -> Task:
        wanted, spec = filled(build), build.spec
        bounds = self._settings().isolation
        user = spec.user or prepared.user
        attempt = _attempt(build)
        asked = spec.network or ("none" if bounds.network == "none" else "private")
        network = "bridge" if asked == "private" else asked
        container = Container(
            image=prepared.id,
            called=prepared.called,
            labels=self._containers.labels(attempt),
            network=self._containers.network(attempt) if spec.services else network,
            aliases=("build",),
            user=user,
            resources=spec.resources.under(bounds.resources),
            mounts=(*self._reach.mounts(task), *(_mount(it) for it in wanted.mounts)),
            tmpfs=wanted.tmpfs,
            shm_bytes=wanted.shm_bytes,
            entrypoint=prepared.entrypoint if wanted.entrypoint else (),
            capabilities=wanted.capabilities,
            no_new_privs=spec.isolation.no_new_privs is not False and not wanted.privileged,
            privileged=wanted.privileged,
        )
        env = environment(build, task, prepared, user)
        return replace(task, container=container, env=self._reach.told(env))

    async def _login(self, name: str, under: Underway) -> Login | None:
        if not name:
            return None
        if self._secrets is None:
            raise ExecutionError(f"the secret {name} cannot be read here: there are no secrets")
        value = await self._secrets.read(name, build=under.build)
        under.masks.add(value)
        login = parse_login(name, value)
        under.masks.add(login.password.encode())
        return login


class Reach:
    """How a script in a container calls the agent: `rota`, and where the agent listens.

    The command line needs Python and nothing else: where an image has it, `rota` works.
    """

    def __init__(self, data: Path) -> None:
        self._bin = data / "containers" / "bin"
        self._door = data / BUILDS_DOOR
        self._package = Path(rota.__file__).parent

    def lay(self) -> None:
        """Write the command, unless it is there.

        Raises:
            OSError: the disk does not take it.
        """
        path = self._bin / "rota"
        text = _COMMAND.format(source=str(self._package.parent))
        if not path.exists() or path.read_text() != text:
            self._bin.mkdir(parents=True, exist_ok=True)
            aside = path.with_name("rota.new")
            aside.write_text(text)
            aside.chmod(0o755)
            aside.rename(path)

    def mounts(self, task: Task) -> tuple[Mount, ...]:
        """Return what a container sees of the agent; the folder of its door survives its restarts."""
        if not task.env.get("ROTA_SOCKET"):
            return ()
        seen = (self._bin, self._package, self._door)
        return tuple(Mount(source=it, target=str(it), writable=False) for it in seen)

    def told(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which both are found."""
        if not env.get("ROTA_SOCKET"):
            return dict(env)
        told = {**env, "ROTA_SOCKET": str(self._door / Path(env["ROTA_SOCKET"]).name)}
        return {**told, "PATH": f"{self._bin}:{env['PATH']}"}


def _attempt(build: Build) -> str:
    return f"{build.id}.{build.attempt}"


def filled(build: Build) -> Image:
    """Return the image that a build asks for, with its parameters in the name.

    Raises:
        ExecutionError: the name asks for what is no parameter of the build.
    """
    wanted = build.spec.container
    assert wanted is not None
    try:
        return replace(wanted, name=fill(wanted.name, build.params))
    except TemplateError as error:
        raise ExecutionError(f"image {error}") from error


def environment(build: Build, task: Task, prepared: Prepared, user: str) -> Mapping[str, str]:
    """Return the variables of a task that runs in an image: what is of the image is left to it."""
    env = {name: value for name, value in task.env.items() if name not in _OF_THE_AGENT}
    if "LANG" in prepared.env and "LANG" not in build.spec.env:
        env.pop("LANG", None)
    env["PATH"] = prepared.env.get("PATH", PATH)
    if any(mount.target.startswith("~/") for mount in task.mounts):
        at_root = "/root" if user.partition(":")[0] in _ROOT else str(task.home / "home")
        env["HOME"] = prepared.env.get("HOME") or at_root
    # Who works there is often not who laid it out, and git would refuse to look at it.
    return {**_TRUSTED, **env}


def check_leave(wanted: Image, settings: Settings) -> None:
    """Refuse what the settings do not allow.

    Raises:
        ExecutionError: privileged mode, a mount or a capability is not allowed; the text says which.
    """
    allowed = settings.containers
    hint = "settings.toml on main, table [containers]"
    if wanted.privileged and not allowed.privileged:
        raise ExecutionError("the settings allow no privileged containers", hint=hint)
    for text in wanted.mounts:
        source = _mount(text).source
        if not any(source.is_relative_to(Path(folder).resolve()) for folder in allowed.mounts):
            raise ExecutionError(f"the settings allow no mount of {source}", hint=hint)
    for name in wanted.capabilities:
        if name not in allowed.capabilities:
            raise ExecutionError(f"the settings allow no capability {name}", hint=hint)


def parse_login(name: str, secret: bytes) -> Login:
    """Return what the secret ``name`` holds: ``user:password``, or JSON with both.

    Raises:
        ExecutionError: it is neither; its value is not said.
    """
    text = secret.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            told = json.loads(text)
            return Login(user=str(told["username"]), password=str(told["password"]))
        except (ValueError, KeyError, TypeError):
            raise _no_login(name) from None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise _no_login(name)
    return Login(user=user, password=password)


def _no_login(name: str) -> ExecutionError:
    return ExecutionError(
        f"the secret {name} is no login of a registry",
        hint='user:password, or {"username": …, "password": …}',
    )


def _mount(text: str) -> Mount:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if target in ("ro", "rw") and not mode:
        target, mode = "", target
    # Who may write there may lay links there, too: it is what they lead to that must be allowed.
    real = Path(source).resolve()
    return Mount(source=real, target=target or source, writable=mode != "ro")


async def swept(containers: Containers, running: Callable[[], Iterable[Active]]) -> None:
    """Remove what former attempts left at the engine, but for those that are ``running``; never raises."""

    def is_alive(attempt: str) -> bool:
        return attempt in {_attempt(each.build) for each in running()}

    try:
        count = await containers.sweep(is_alive)
    except RotaError as error:
        logger.warning("containers of former builds could not be looked for: %s", error.message)
        return
    if count:
        logger.warning("removed %d containers and networks that former builds left", count)
