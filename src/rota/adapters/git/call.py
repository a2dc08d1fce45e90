"""One run of ``git http-backend``: a request fed in, an answer handed out piece by piece."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

from rota.adapters.git.process import Git, feed, words
from rota.errors import RotaError, UnavailableError

Head: TypeAlias = tuple[int, dict[str, str]]

PIECE_BYTES = 1 << 16
#: So many pieces wait for a slow client; then git waits.
MAX_WAITING = 4
_GZIP = b"\x1f\x8b"


class Call:
    """Made for one request, run by one task, read by another.

    ``idle_s`` bounds how long nothing may move in either direction.
    """

    def __init__(self, git: Git, body: AsyncIterator[bytes], idle_s: float) -> None:
        self.head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._git = git
        self._body = body
        self._idle_s = idle_s
        self._first = b""
        self._limit = asyncio.timeout(None)
        self._pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._is_abandoned = False

    async def peek(self) -> str:
        """Wait for the first piece of the body and return its encoding, ``gzip`` or ``""``.

        The header field does not say it: some servers decompress and leave the field as it was.
        """
        self._first = await anext(self._body, b"")
        return "gzip" if self._first.startswith(_GZIP) else ""

    async def run(self, env: Mapping[str, str], fds: tuple[int, ...] = ()) -> None:
        """Run http-backend to its end. What goes wrong is told to the reader, not raised."""
        try:
            async with self._git.start("git", "http-backend", env=env, fds=fds) as process:
                await self._converse(process)
        except TimeoutError:
            self.fail(UnavailableError(f"nothing moved for {self._idle_s:g} s"))
        except RotaError as error:
            self.fail(error)

    def finish(self) -> None:
        """Tell the reader that this was all."""
        self._pieces.put_nowait(None)

    def fail(self, error: BaseException) -> None:
        """Tell the reader what went wrong: in place of the answer, or in its midst."""
        if not self.head.done():
            self.head.set_exception(error)
        self._pieces.put_nowait(error)

    def abandon(self) -> None:
        """Say that nobody reads on; what still comes is dropped."""
        self._is_abandoned = True
        self._room.release()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the answer's body; raises what went wrong in its midst."""
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            self._room.release()
            yield piece

    async def _converse(self, process: Process) -> None:
        async with asyncio.timeout(self._idle_s) as self._limit:
            # Exceptions come as results: what a client's stream raises is no error of ours.
            fed, answered, said = await asyncio.gather(
                self._feed(process), self._read(process), _said(process), return_exceptions=True
            )
            await process.wait()
        if isinstance(answered, asyncio.IncompleteReadError) and isinstance(said, str):
            answered = UnavailableError(said or "git ended without an answer")
        for result in (fed, answered):
            if isinstance(result, BaseException):
                self.fail(result)

    async def _feed(self, process: Process) -> None:
        """Pass the request's body on; if git takes no more, read it all the same, for its answer.

        A body that breaks off is no danger: a pack ends in a checksum of itself.
        """
        assert process.stdin is not None
        try:
            await feed(process.stdin, self._first)
            async for piece in self._body:
                self._moved()
                await feed(process.stdin, piece)
        finally:
            process.stdin.close()

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        head = _parse_head(await process.stdout.readuntil(b"\r\n\r\n"))
        if not self.head.done():
            self.head.set_result(head)
        while piece := await process.stdout.read(PIECE_BYTES):
            self._moved()
            if not self._is_abandoned:
                await self._room.acquire()
                self._pieces.put_nowait(piece)

    def _moved(self) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + self._idle_s)


async def _said(process: Process) -> str:
    assert process.stderr is not None
    end = b""
    while piece := await process.stderr.read(PIECE_BYTES):
        end = (end + piece)[-4096:]
    return words(end)


def _parse_head(head: bytes) -> Head:
    """Return status and fields of a CGI answer."""
    lines = head.decode("latin-1").split("\r\n")
    fields = {name: value for name, _, value in (line.partition(": ") for line in lines) if name}
    status = fields.pop("Status", "200 OK")
    return int(status.split(" ")[0]), fields
