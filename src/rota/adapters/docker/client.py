"""The engine's API as aiodocker speaks it; a module of its own, since importing it costs 5 MB."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiodocker
import aiodocker.stream
import aiohttp
from aiodocker.execs import Exec
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

    def stream(self, exec_id: str, *, is_tty: bool) -> Stream:
        """Return the input and output of a program that is to be started in a container."""
        made = Exec(self, exec_id, tty=is_tty)
        return Stream(made, made.start())


class Stream:
    """What a program in a container says and hears. Closing it does not end the program."""

    def __init__(self, program: Exec, stream: aiodocker.stream.Stream) -> None:
        self._program, self._stream = program, stream
        self._resizing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the program."""
        await self._stream.__aenter__()

    async def read(self) -> tuple[int, bytes] | None:
        """Return what it printed next, and where; ``None`` once there is no more."""
        try:
            found = await self._stream.read_out()
        except (aiohttp.ClientError, ConnectionError):
            return None  # the engine went away
        return None if found is None else (found.stream, found.data)

    async def write(self, data: bytes) -> None:
        """Give it input; return once there is room for more.

        Raises:
            ConnectionError, RuntimeError: nobody takes it any more.
        """
        await self._stream.write_in(data)

    def end_input(self) -> None:
        """Say that there is no more input, and go on reading: aiodocker has no word for that."""
        response = self._stream._resp  # noqa: SLF001 - there is no other way to it
        transport = response.connection.transport if response and response.connection else None
        if transport is not None and not transport.is_closing():
            transport.write_eof()

    def resize(self, rows: int, columns: int) -> None:
        """Say how large its terminal is; of several at once the last one counts."""
        if self._resizing is not None:
            self._resizing.cancel()
        loop = asyncio.get_running_loop()
        self._resizing = loop.create_task(self._resize(rows, columns), name="resize")

    async def _resize(self, rows: int, columns: int) -> None:
        # It may have ended by now; a wrong size is no reason to end it.
        with contextlib.suppress(DockerError, aiohttp.ClientError):
            await self._program.resize(h=rows, w=columns)

    async def close(self) -> None:
        """Close the connection."""
        if self._resizing is not None:
            self._resizing.cancel()
        response = self._stream._resp  # noqa: SLF001 - of one that was never opened there is none
        if response is not None and response.connection is not None:
            await self._stream.close()
        else:
            self._stream._closed = True  # noqa: SLF001 - else it warns that it was not closed
