"""Images: found, pulled, or made of a ``Dockerfile``."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rota.adapters.docker.body import environment_of
from rota.adapters.docker.context import Context, pack
from rota.adapters.docker.engine import Engine
from rota.core.container import Image, Pull
from rota.errors import ConflictError, ExecutionError, NotFoundError, UnavailableError
from rota.ports.containers import Login, Prepared, Say

DATA_LABEL = "rota.data"
#: So many images that were made here are kept, the newest; they cost room, and time only if missed.
KEPT = 20
#: Between two lines about how far a pull is.
PROGRESS_S = 2.0
_REPOSITORY = "rota-made"
_DONE = {"Pull complete", "Already exists", "Download complete"}
_PIECE = 1 << 18


class Images:
    """The images of one engine.

    Args:
        engine: Which has them.
        data: What this agent's are known by.
    """

    def __init__(self, engine: Engine, data: str) -> None:
        self._engine = engine
        self._data = data

    async def ready(self, wanted: Image, *, work: Path, login: Login | None, say: Say) -> Prepared:
        """See :meth:`rota.ports.containers.Containers.image`."""
        if wanted.build is not None:
            return await self._made(wanted, work, login, say)
        return await self.named(wanted.name, wanted.pull, login, say)

    async def named(self, name: str, pull: Pull, login: Login | None, say: Say) -> Prepared:
        """Return an image of a registry."""
        if pull != "always":
            found = await self._found(name, name)
            if found is not None:
                return found
            if pull == "never":
                raise ExecutionError(
                    f'the image {name} is not on this agent, and pull is "never"',
                    hint=f"docker pull {name}, on the agent",
                )
        await self._pull(name, login, say)
        found = await self._found(name, name)
        if found is None:
            raise ExecutionError(f"the image {name} was pulled, and is not there")
        return found

    async def _found(self, name: str, called: str) -> Prepared | None:
        try:
            seen = await self._engine.ask("GET", f"images/{name}/json")
        except NotFoundError:
            return None
        config = seen.get("Config") or {}
        return Prepared(
            id=str(seen["Id"]),
            called=called,
            env=environment_of(config.get("Env") or ()),
            user=str(config.get("User") or ""),
            entrypoint=tuple(config.get("Entrypoint") or ()),
        )

    # -- pulling --------------------------------------------------------------------------------

    async def _pull(self, name: str, login: Login | None, say: Say) -> None:
        say(f"pulling the image {name}")
        repository, tag = split_reference(name)
        params = {"fromImage": repository, "tag": tag}
        headers = {} if login is None else {"X-Registry-Auth": auth_header(login, name)}
        progress = Progress(say)
        try:
            async with self._engine.told(
                "POST", "images/create", params=params, headers=headers
            ) as lines:
                async for line in lines:
                    progress.tell(line, asyncio.get_running_loop().time())
        except (NotFoundError, ConflictError, ExecutionError) as error:
            text = error.message.removeprefix("the container engine refuses: ")
            raise ExecutionError(f"cannot pull the image {name}: {text}") from error

    # -- making ---------------------------------------------------------------------------------

    async def _made(self, wanted: Image, work: Path, login: Login | None, say: Say) -> Prepared:
        assert wanted.build is not None
        context = await asyncio.to_thread(pack, work, wanted.build)
        try:
            name = f"{_REPOSITORY}:{context.key}"
            called = f"of {context.dockerfile}"
            found = None if wanted.pull == "always" else await self._found(name, called)
            if found is not None:
                say(f"the image of {context.dockerfile} is unchanged: {name}")
                return found
            say(f"::group::Image of {context.dockerfile}")
            try:
                await self._make(wanted, context, name, login, say)
            finally:
                say("::endgroup::")
        finally:
            context.tar.unlink(missing_ok=True)
        found = await self._found(name, called)
        if found is None:
            raise ExecutionError(f"the image of {context.dockerfile} was made, and is not there")
        await self._forget_old()
        return found

    async def _make(
        self, wanted: Image, context: Context, name: str, login: Login | None, say: Say
    ) -> None:
        assert wanted.build is not None
        params = {
            "t": name,
            "dockerfile": context.dockerfile_within,
            "rm": "1",
            "forcerm": "1",
            "target": wanted.build.target,
            "buildargs": json.dumps(wanted.build.args),
            "labels": json.dumps({DATA_LABEL: self._data}),
            **({"pull": "1"} if wanted.pull == "always" else {}),
        }
        headers = {"Content-Type": "application/x-tar"}
        if login is not None:
            headers["X-Registry-Config"] = _config_header(login)
        try:
            async with self._engine.told(
                "POST", "build", params=params, headers=headers, body=_pieces(context.tar)
            ) as lines:
                async for line in lines:
                    for text in str(line.get("stream") or "").splitlines():
                        if text.strip():
                            say(text.rstrip())
        except (NotFoundError, ConflictError, ExecutionError) as error:
            text = error.message.removeprefix("the container engine refuses: ")
            raise ExecutionError(
                f"cannot make the image of {context.dockerfile}: {text}"
            ) from error

    async def _forget_old(self) -> None:
        """Remove the oldest images that were made here, beyond those that are kept."""
        filters = json.dumps({"label": [f"{DATA_LABEL}={self._data}"], "reference": [_REPOSITORY]})
        listed = await self._engine.ask("GET", "images/json", params={"filters": filters})
        for image in sorted(listed, key=lambda it: -int(it["Created"]))[KEPT:]:
            for name in image.get("RepoTags") or ():
                try:
                    await self._engine.ask("DELETE", f"images/{name}")
                except (NotFoundError, ConflictError, UnavailableError):
                    continue  # a container has it; it is old another day as well


class Progress:
    """Says how a pull goes: what was done, and every few seconds how far it is."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said_at = float("-inf")
        self._layers: dict[str, tuple[str, int, int]] = {}

    def tell(self, line: dict[str, Any], now: float) -> None:
        """Take up one line of the engine; ``now`` in seconds."""
        status, layer = str(line.get("status") or ""), str(line.get("id") or "")
        detail = line.get("progressDetail") or {}
        if not status:
            return
        if status.startswith(("Digest:", "Status:")):
            self._say(status)
            return
        if not layer or status.startswith("Pulling from"):
            return
        had = self._layers.get(layer, ("", 0, 0))
        current, total = int(detail.get("current") or had[1]), int(detail.get("total") or had[2])
        if status != "Downloading":
            current, total = had[2], had[2]
        self._layers[layer] = (status, current, total)
        if now - self._said_at >= PROGRESS_S:
            self._said_at = now
            self._say(self._text())

    def _text(self) -> str:
        done = sum(1 for status, _, _ in self._layers.values() if status in _DONE)
        megabytes = sum(current for _, current, _ in self._layers.values()) / 1e6
        return f"{done} of {len(self._layers)} layers, {megabytes:.1f} MB fetched"


def split_reference(name: str) -> tuple[str, str]:
    """Return repository and tag, or digest, of an image; without either it is ``latest``."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return split_reference(repository)[0], digest
    head, slash, last = name.rpartition("/")
    repository, _, tag = last.partition(":")
    return f"{head}{slash}{repository}", tag or "latest"


def registry_of(name: str) -> str:
    """Return the host of the registry that an image is of."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "https://index.docker.io/v1/"


def auth_header(login: Login, name: str) -> str:
    """Return who pulls, as the engine's header has it."""
    told = {
        "username": login.user,
        "password": login.password,
        "serveraddress": login.host or registry_of(name),
    }
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _config_header(login: Login) -> str:
    host = login.host or "https://index.docker.io/v1/"
    told = {host: {"username": login.user, "password": login.password}}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
