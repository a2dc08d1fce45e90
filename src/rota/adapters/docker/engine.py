"""The container engine of this machine: where it listens, and how it is asked.

Nothing is loaded or opened before the first question.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rota.adapters.docker.outside import Outside
from rota.errors import ConflictError, ExecutionError, NotFoundError, RotaError, UnavailableError

if TYPE_CHECKING:
    from rota.adapters.docker.client import Client, Stream

#: Longer than an engine takes for anything that is not a wait, also on a very busy machine.
ANSWER_S = 120.0
_VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST")
_PLACES = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
_OWN_PLACES = ("docker.sock", "podman/podman.sock")  # in $XDG_RUNTIME_DIR
_NO_CONNECTION = 900  # aiodocker's own number
_INSTALL = "install Docker or Podman on this agent, or say where its socket is: DOCKER_HOST"


class AwayError(UnavailableError):
    """The engine cannot be reached, or went away in the middle of an answer."""


def find_socket(environ: Mapping[str, str]) -> Path:
    """Return the socket of this machine's engine; Docker's before Podman's.

    Raises:
        ExecutionError: there is none, or it is said to be on another machine.
    """
    for variable in _VARIABLES:
        told = environ.get(variable, "")
        if told:
            if not told.startswith("unix://"):
                raise ExecutionError(
                    f"{variable} is {told}: the engine must be on the agent's own machine",
                    hint="workspaces are mounted into containers; give it unix://…",
                )
            return Path(told.removeprefix("unix://"))
    own = environ.get("XDG_RUNTIME_DIR", "")
    places = [*_PLACES, *(f"{own}/{place}" for place in _OWN_PLACES if own)]
    for place in places:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(place).st_mode):  # noqa: PTH116 - of a link too
                return Path(place)
    raise ExecutionError("there is no container engine on this agent", hint=_INSTALL)


class Engine:
    """Asks the engine of this machine.

    Args:
        environ: Where ``DOCKER_HOST`` may stand.

    It is for one event loop.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._client: Client | None = None
        self._socket = Path()
        self._outside = Outside(self.ask)
        self._heard_at = -math.inf
        self._asking = asyncio.Lock()

    @property
    def socket(self) -> Path:
        """Where it listens.

        Raises:
            ExecutionError: there is none.
        """
        return find_socket(self._environ)

    async def close(self) -> None:
        """Close all connections; who waits for an answer gets none."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        within_s: float | None = ANSWER_S,
    ) -> Any:
        """Return the engine's answer to one request.

        Raises:
            NotFoundError: it knows no such thing.
            ConflictError: its state forbids that.
            AwayError: it cannot be reached, or does not answer within ``within_s``.
            ExecutionError: it refuses; the text is its own.
        """
        client = self._connected()
        if path == "containers/create" and isinstance(body, dict):
            body = await self._outside.body(body)
        with self._translated():
            try:
                async with asyncio.timeout(within_s):
                    answer = await client.ask(method, path, params=params or {}, body=body)
            except TimeoutError as error:
                raise AwayError(
                    f"the container engine did not answer within {within_s:g} s"
                ) from error
        self._heard_at = asyncio.get_running_loop().time()
        return answer

    async def heard(self, within_s: float, *, answer_s: float) -> None:
        """Return if it answered anything within the last ``within_s``, or does now; one asks for all.

        Raises:
            RotaError: as :meth:`ask`; ``AwayError`` if it does not answer within ``answer_s``.
        """
        async with self._asking:
            if asyncio.get_running_loop().time() - self._heard_at > within_s:
                await self.ask("GET", "version", within_s=answer_s)

    async def read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> bytes:
        """Return the engine's answer as it came, once it is whole; raises as :meth:`ask`."""
        client = self._connected()
        with self._translated():
            return await client.raw(method, path, params=params or {}, body=body)

    async def create(self, body: object, name: str = "") -> str:
        """Make a container and return its id; raises as :meth:`ask`.

        Cancelled, it waits until the engine has made it: so who removes what there is misses nothing.
        """
        params = {"name": name} if name else {}
        asking = self.ask("POST", "containers/create", params=params, body=body)
        # no group's: it has to outlive the cancellation of who asks
        making = asyncio.get_running_loop().create_task(asking, name="create container")
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            raise
        return str(made["Id"])

    async def stream(self, exec_id: str, *, is_tty: bool) -> Stream:
        """Start a program that was made in a container; return its input and output.

        Raises as :meth:`ask`.
        """
        client = self._connected()
        with self._translated():
            stream = client.stream(exec_id, is_tty=is_tty)
            try:
                async with asyncio.timeout(ANSWER_S):
                    await stream.open()
            except BaseException:
                await stream.close()
                raise
        return stream

    @contextlib.asynccontextmanager
    async def told(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Yield what the engine says while it does something long; raises as :meth:`ask`."""
        client = self._connected()
        with self._translated():
            async with client.told(
                method, path, params=params, headers=headers or {}, body=body
            ) as lines:
                yield lines

    async def version(self) -> tuple[str, str]:
        """Return which engine it is, ``docker`` or ``podman``, and its version.

        Raises:
            RotaError: as :meth:`ask`.
        """
        said = await self.ask("GET", "version", within_s=5.0)
        parts = {part.get("Name", ""): part for part in said.get("Components") or ()}
        for name, part in parts.items():
            if name.startswith("Podman"):
                return "podman", str(part.get("Version", ""))
        return "docker", str(said.get("Version", ""))

    def _connected(self) -> Client:
        socket = self.socket
        if self._client is None or socket != self._socket:
            from rota.adapters.docker.client import Client

            self._client, self._socket = Client(str(socket)), socket
        return self._client

    @contextlib.contextmanager
    def _translated(self) -> Any:
        from aiohttp import ClientError

        from rota.adapters.docker.client import DockerError

        try:
            yield
        except DockerError as error:
            raise self._fault(error.status, error.message) from error
        except (ClientError, ConnectionError) as error:
            raise AwayError("the container engine went away while it was asked") from error

    def _fault(self, status: int, message: str) -> RotaError:
        text = " ".join(str(message).split())
        if status == _NO_CONNECTION:
            return self._unreachable()
        if status == 404:
            return NotFoundError(text)
        if status in (304, 409):
            return ConflictError(text)
        return ExecutionError(f"the container engine refuses: {text}")

    def _unreachable(self) -> RotaError:
        socket = self._socket
        if not os.access(socket, os.R_OK | os.W_OK) and socket.exists():
            return ExecutionError(
                f"the agent may not use the container engine: no permission for {socket}",
                hint="put the agent's user into the socket's group, and start the agent again",
            )
        return AwayError(f"no container engine answers at {socket}", hint=_INSTALL)
