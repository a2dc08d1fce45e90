"""The engine's API as aiodocker speaks it; a module of its own, since importing it costs 5 MB."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiodocker
import aiohttp
from aiodocker.jsonstream import json_stream_stream

DockerError = aiodocker.DockerError


class Client(aiodocker.Docker):
    """One engine. Waits for containers are connections of their own, so their number has no bound."""

    def __init__(self, socket: str) -> None:
        connector = aiohttp.UnixConnector(socket, limit=0)
        # aiodocker leaves a connector alone that it did not make
        self._ours = connector
        super().__init__(url="http://engine", connector=connector)

    async def close(self) -> None:
        """Close all connections."""
        await super().close()
        await self._ours.close()

    async def ask(
        self, method: str, path: str, *, params: Mapping[str, Any], body: object = None
    ) -> Any:
        """Return the answer to one request."""
        return await self._query_json(path, method, params=dict(params), data=body)

    @contextlib.asynccontextmanager
    async def told(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        body: object = None,
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Yield what the engine says, one line after the other."""
        query = self._query(
            path, method, params=dict(params), headers=dict(headers), data=body, timeout=None
        )
        async with query as response:
            try:
                yield json_stream_stream(response)
            finally:
                # aiodocker does not: and the engine goes on with what it does until it sees that
                response.close()

    async def raw(
        self, method: str, path: str, *, params: Mapping[str, Any], body: object = None
    ) -> bytes:
        """Return the answer to one request as it came."""
        data = None if body is None else json.dumps(body)
        async with self._query(path, method, params=dict(params), data=data) as response:
            try:
                return await response.read()
            finally:
                response.close()
