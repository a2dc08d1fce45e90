"""The stage that gets a script's container ready: its image, and the services beside it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.agent.stages import Ending, Left, Underway
from rota.core.build import Annotation, Build
from rota.core.container import Image
from rota.core.settings import Settings
from rota.core.template import TemplateError, fill
from rota.errors import ExecutionError, RotaError
from rota.ports.containers import Containers, Login, Prepared
from rota.ports.executor import Container, Mount, Task
from rota.ports.secrets import Secrets

logger = logging.getLogger(__name__)

#: In an attempt's folder: the image as it was when the script began.
NOTE = "image.json"
#: Taking services away takes no longer; what is left is found by the next sweep.
AFTER_S = 120.0
#: Where programs are in an image that does not say so itself.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Of the agent's user, which means nothing in an image.
_OF_THE_AGENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL")
_ROOT = ("", "0", "root")


class Contained:
    """See :class:`rota.agent.stages.Stage`.

    Args:
        containers: The engine of this machine.
        settings: Returns what the cluster allows.
        secrets: Have registries' logins; ``None`` where there are no secrets.
        reach: What of the agent a container sees, so that a script can call it.
    """

    def __init__(
        self,
        containers: Containers,
        settings: Callable[[], Settings],
        *,
        secrets: Secrets | None = None,
        reach: tuple[Mount, ...] = (),
    ) -> None:
        self._containers = containers
        self._settings = settings
        self._secrets = secrets
        self._reach = reach

    def concerns(self, build: Build) -> bool:
        """Whether its header names an image."""
        return build.spec.container is not None

    async def before(self, under: Underway, task: Task) -> Task:
        """Have the image, start the services, and return the task that runs in a container."""
        wanted = filled(under.build)
        check_leave(wanted, self._settings())
        attempt = _attempt(under.build)
        # of an attempt that a former daemon began and did not end
        await self._containers.clear(attempt)
        login = await self._login(wanted.auth, under.build)
        prepared = await self._containers.image(wanted, work=under.work, login=login, say=under.say)
        if under.build.spec.services:
            logins = {
                service.auth: found
                for service in under.build.spec.services
                if (found := await self._login(service.auth, under.build)) is not None
            }
            await self._containers.serve(
                attempt, under.build.spec.services, logins=logins, say=under.say
            )
        note = under.home / NOTE
        await asyncio.to_thread(note.write_bytes, msgspec.json.encode(prepared))
        return self._contained(under.build, task, prepared)

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
                    said += await self._containers.ended(attempt)
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
        user = spec.user or prepared.user
        attempt = _attempt(build)
        network = {"": "bridge", "private": "bridge"}.get(spec.network, spec.network)
        container = Container(
            image=prepared.id,
            called=prepared.called,
            labels=self._containers.labels(attempt),
            network=self._containers.network(attempt) if spec.services else network,
            aliases=("build",),
            user=user,
            resources=spec.resources,
            mounts=(*self._reach, *(_mount(it) for it in wanted.mounts)),
            tmpfs=wanted.tmpfs,
            shm_bytes=wanted.shm_bytes,
            entrypoint=prepared.entrypoint if wanted.entrypoint else (),
            capabilities=wanted.capabilities,
            no_new_privs=spec.isolation.no_new_privs is not False and not wanted.privileged,
            privileged=wanted.privileged,
        )
        return replace(task, container=container, env=environment(build, task, prepared, user))

    async def _login(self, name: str, build: Build) -> Login | None:
        if not name:
            return None
        if self._secrets is None:
            raise ExecutionError(f"the secret {name} cannot be read here: there are no secrets")
        return parse_login(name, await self._secrets.read(name, build=build))


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
    own = task.env.get("PATH", "").partition(":")[0]
    env["PATH"] = ":".join(filter(None, [own, prepared.env.get("PATH", PATH)]))
    if any(mount.target.startswith("~/") for mount in task.mounts):
        at_root = "/root" if user.partition(":")[0] in _ROOT else str(task.home / "home")
        env["HOME"] = prepared.env.get("HOME") or at_root
    return env


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
        source = Path(text.partition(":")[0])
        if not any(source.is_relative_to(folder) for folder in allowed.mounts):
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
    return Mount(source=Path(source), target=target or source, writable=mode != "ro")
