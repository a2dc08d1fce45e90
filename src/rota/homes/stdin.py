"""A script's standard input: a FIFO that stays open across daemons until its end is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rota.errors import ConflictError, UnavailableError

_OPENING_S = (
    0.005  # between two looks whether sh has come to open it, which takes about a millisecond
)


class InputFiles(Protocol):
    """Where the input of an attempt is."""

    @property
    def stdin(self) -> Path:
        """The FIFO that the script reads."""
        ...

    @property
    def stdin_eof(self) -> Path:
        """The FIFO in which a line ends the input."""
        ...

    def has_begun(self) -> bool:
        """Say whether the supervisor came as far as the script: then both are held open."""
        ...


class ScriptInput:
    """Writes to the script of ``home``.

    Args:
        home: With both FIFOs in it.
        has_ended: Whether the script has.
        timeout_s: How long a script may go without reading before ``send`` gives up.
    """

    def __init__(
        self, home: InputFiles, *, has_ended: Callable[[], bool], timeout_s: float
    ) -> None:
        self._home = home
        self._has_ended = has_ended
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()

    @staticmethod
    def create(home: InputFiles) -> None:
        """Make the FIFOs, before the supervisor starts.

        Raises:
            OSError: they cannot be made.
        """
        os.mkfifo(home.stdin, 0o600)
        os.mkfifo(home.stdin_eof, 0o600)

    async def send(self, data: bytes, *, eof: bool) -> None:
        """Write ``data``, then end the input if ``eof``; one caller after the other.

        Raises:
            ConflictError: the input was ended, or the script closed it or has ended.
            UnavailableError: the script does not read; the text says how much it took.
        """
        async with self._turn:
            self._refuse_if_ended()
            await self._until_begun()
            if data:
                await self._write(data)
            if eof:
                self.end()

    def end(self) -> None:
        """End the input; safe to call again, as a daemon does that finds it half done."""
        # first the name, which is what says that it was asked for, then the deed
        self._home.stdin.unlink(missing_ok=True)
        try:
            fd = os.open(self._home.stdin_eof, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nobody holds it open: the supervisor has ended
        try:
            os.write(fd, b"\n")
        except OSError:
            return  # it ended just now, or a hundred lines wait there already
        finally:
            os.close(fd)

    def is_half_ended(self) -> bool:
        """Say whether the end was asked for; whether it was carried out is not known."""
        return self._home.stdin_eof.exists() and not self._home.stdin.exists()

    def _refuse_if_ended(self) -> None:
        if self._has_ended():
            raise ConflictError("the script has ended and reads no more")
        if not self._home.stdin.exists():
            raise ConflictError("the standard input was ended before")

    async def _until_begun(self) -> None:
        """Wait until sh has opened the input for the script: before, nobody would hold it open."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self._home.has_begun():
                    self._refuse_if_ended()
                    await asyncio.sleep(_OPENING_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"the script did not begin within {self._timeout_s:g} s"
            ) from error

    async def _write(self, data: bytes) -> None:
        try:
            fd = os.open(self._home.stdin, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConflictError("the script has closed its standard input") from error
        taken = 0
        try:
            while taken < len(data):
                taken += await self._write_some(fd, data[taken:])
        except BrokenPipeError as error:
            raise ConflictError(
                f"the script closed its standard input; it took {taken} of {len(data)} bytes"
            ) from error
        except TimeoutError as error:
            raise UnavailableError(
                f"the script does not read its standard input; "
                f"it took {taken} of {len(data)} bytes, and no more for {self._timeout_s:g} s"
            ) from error
        finally:
            os.close(fd)

    async def _write_some(self, fd: int, data: bytes) -> int:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            async with asyncio.timeout(self._timeout_s):
                await _until_writable(fd)
            return 0


async def _until_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(fd, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(fd)
