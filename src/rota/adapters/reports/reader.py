"""Starts the program that reads reports, and asks it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rota import child
from rota.core.case_history import Read
from rota.errors import ExecutionError, UnavailableError
from rota.ports.reports import Reading, ReportsFound, ReportsWanted

#: The program stops by itself before that; this is for one that does not.
MAX_READ_S = 180.0
MAX_CASES_S = 60.0
#: Programs at the same time: each may take a CPU.
AT_ONCE = 4


class ReportReader:
    """Reads reports by a process for each attempt."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, wanted: ReportsWanted, cases: Path) -> ReportsFound:
        """Read what is wanted; see the port."""
        answer, status = await self._ask(
            ["read", str(cases)], msgspec.json.encode(wanted), MAX_READ_S
        )
        try:
            return msgspec.json.decode(answer, type=ReportsFound)
        except (msgspec.MsgspecError, UnicodeError):
            raise ExecutionError(
                f"the reports could not be read: {_why(status)}",
                hint="they are more, or stranger, than what is read within bounds",
            ) from None

    async def cases(
        self, packed: bytes, *, match: str = "", bad: bool = False, limit: int = 1000
    ) -> Reading:
        """Return what was written; see the port."""
        words = ["cases", str(limit), "bad" if bad else "all", match]
        answer, status = await self._ask(words, packed, MAX_CASES_S)
        try:
            return msgspec.json.decode(answer, type=Reading)
        except (msgspec.MsgspecError, UnicodeError):
            raise _unreadable(status) from None

    async def runs(self, packed: Sequence[bytes]) -> Sequence[Read | None]:
        """Return how the tests ended; see the port."""
        answer, status = await self._ask(["runs"], msgspec.msgpack.encode(packed), MAX_CASES_S)
        try:
            return msgspec.msgpack.decode(answer, type=list[Read | None])
        except (msgspec.MsgspecError, UnicodeError):
            raise _unreadable(status) from None

    async def _ask(self, words: list[str], data: bytes, limit_s: float) -> tuple[bytes, int | None]:
        # Isolated from the environment and the current folder, which a build may have filled.
        argv = (sys.executable, "-I", "-W", "ignore", "-m", "rota.adapters.reports.worker", *words)
        async with self._turns:
            try:
                worker = await child.begin(*argv, stdin=PIPE, stderr=DEVNULL, env={})
            except OSError as error:
                raise ExecutionError(f"cannot read reports: {error.strerror}") from error
            try:
                async with asyncio.timeout(limit_s):
                    answer, _ = await worker.communicate(data)
            except TimeoutError:
                return b"", None
            else:
                return answer, worker.returncode
            finally:
                await child.end(worker)


def _unreadable(status: int | None) -> UnavailableError:
    return UnavailableError(f"these tests cannot be read back: {_why(status)}")


def _why(status: int | None) -> str:
    if status is None:
        return f"it took longer than {MAX_READ_S:g} s"
    if status == 3:
        return "they need more memory than they may"
    return f"a signal {-status} ended it" if status < 0 else f"it ended with status {status}"
