"""All that builds in containers need of this machine's engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rota.adapters.docker.attempt import remove
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.images import DATA_LABEL, Images
from rota.adapters.docker.reclaim import Reclaimer
from rota.adapters.docker.services import Services
from rota.adapters.docker.shell import bring
from rota.core.container import Image, Service
from rota.errors import ConflictError, ExecutionError, NotFoundError, RotaError, leaves
from rota.ports.containers import Login, Prepared, Say

ATTEMPT_LABEL = "rota.attempt"


class EngineContainers:
    """Implements :class:`rota.ports.containers.Containers`.

    Args:
        engine: This machine's.
        folder: Its own, in the agent's data folder; there once the engine was used.
        data: The agent's data folder: by it the agent's containers are told from another's.
    """

    def __init__(self, engine: Engine, folder: Path, data: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._data = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:20]
        self._images = Images(engine, self._data)
        self._services = Services(engine, self._images)
        #: Called when an image could not be had.
        self.failed: Callable[[], None] = _nothing

    async def image(self, wanted: Image, *, work: Path, login: Login | None, say: Say) -> Prepared:
        """See :meth:`rota.ports.containers.Containers.image`."""
        self._folder.mkdir(exist_ok=True)  # from now on there is something to sweep
        try:
            return await self._images.ready(wanted, work=work, login=login, say=say)
        except RotaError:
            # It may be that there is no engine any more: then no job must come here for it.
            self.failed()
            raise

    async def serve(
        self,
        attempt: str,
        services: Sequence[Service],
        *,
        logins: Mapping[str, Login],
        say: Say,
        internal: bool,
    ) -> str:
        """See :meth:`rota.ports.containers.Containers.serve`."""
        shell = await asyncio.to_thread(bring, self._folder)
        await self.clear(attempt)
        network = self.network(attempt)
        labels = self.labels(attempt)
        body = {"Name": network, "Driver": "bridge", "Labels": labels, "Internal": internal}
        await self._engine.ask("POST", "networks/create", body=body)
        try:
            await self._services.start(
                services, network=network, labels=labels, logins=logins, shell=shell, say=say
            )
        except* RotaError as faults:
            raise leaves(faults)[0] from None
        return network

    def network(self, attempt: str) -> str:
        """See :meth:`rota.ports.containers.Containers.network`."""
        return f"rota-{self._data[:8]}-{attempt}"

    def labels(self, attempt: str) -> dict[str, str]:
        """See :meth:`rota.ports.containers.Containers.labels`."""
        return {DATA_LABEL: self._data, ATTEMPT_LABEL: attempt}

    async def ended(self, attempt: str, say: Say) -> Sequence[str]:
        """See :meth:`rota.ports.containers.Containers.ended`."""
        return await self._services.ended(await self._listed(attempt), say)

    async def clear(self, attempt: str) -> None:
        """See :meth:`rota.ports.containers.Containers.clear`."""
        for container in await self._listed(attempt):
            await remove(self._engine, str(container["Id"]))
        await self._remove_network(self.network(attempt))

    async def reclaim(self, folders: Sequence[Path]) -> None:
        """See :meth:`rota.ports.containers.Containers.reclaim`."""
        shell = await asyncio.to_thread(bring, self._folder)
        await Reclaimer(self._engine, self.labels("reclaim"), shell).reclaim(folders)

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """See :meth:`rota.ports.containers.Containers.sweep`."""
        if not self._folder.exists():
            return 0
        containers = await self._listed(None)
        networks = await self._engine.ask("GET", "networks", params=self._filters(None))
        count = 0
        for container in containers:
            if not is_alive(str(container["Labels"].get(ATTEMPT_LABEL, ""))):
                await remove(self._engine, str(container["Id"]))
                count += 1
        for network in networks:
            labels = network.get("Labels") or {}
            if not is_alive(str(labels.get(ATTEMPT_LABEL, ""))):
                await self._remove_network(str(network["Name"]))
                count += 1
        return count

    async def _listed(self, attempt: str | None) -> list[dict[str, Any]]:
        params = {"all": "1", **self._filters(attempt)}
        found: list[dict[str, Any]] = await self._engine.ask(
            "GET", "containers/json", params=params
        )
        return found

    def _filters(self, attempt: str | None) -> dict[str, str]:
        labels = [f"{DATA_LABEL}={self._data}"]
        if attempt is not None:
            labels.append(f"{ATTEMPT_LABEL}={attempt}")
        return {"filters": json.dumps({"label": labels})}

    async def _remove_network(self, name: str) -> None:
        for _ in range(20):
            try:
                await self._engine.ask("DELETE", f"networks/{name}")
            except NotFoundError:
                return
            except (ConflictError, ExecutionError):
                await asyncio.sleep(0.1)  # a container that goes away still is on it
            else:
                return
        raise ExecutionError(f"the network {name} cannot be removed")


def _nothing() -> None:
    """Do nothing about it."""
