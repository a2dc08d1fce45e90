"""Ends all processes of one attempt: asks, waits, kills."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from rota.adapters.process import proc
from rota.adapters.process.census import Census
from rota.adapters.process.gone import until_gone
from rota.adapters.process.kin import Marks, kill, members
from rota.adapters.process.proc import Identity, Process
from rota.errors import ExecutionError

_BEGIN_S = 5.0  # for sh to come as far as the script, on a very busy machine
_BEGIN_LOOK_S = 0.005
_TERM_LOOK_S = 1.0  # so that what was born during the grace gets its SIGTERM as well
_KILL_ROUNDS = 10
_KILL_ROUND_S = 2.0  # a killed process takes as long only inside the kernel, on a dead disk


class Ending:
    """Ends what ``marks`` describes, except the supervisor.

    Args:
        census: Shared by all attempts.
        marks: Returns by what the processes are known at present.
        is_settled: Whether the script has begun, or never will; before, none is there to end.
        supervisor: Killed only if it never comes as far as the script.
    """

    def __init__(
        self,
        census: Census,
        *,
        marks: Callable[[], Marks],
        is_settled: Callable[[], bool],
        supervisor: Identity | None,
    ) -> None:
        self._census = census
        self._marks = marks
        self._is_settled = is_settled
        self._supervisor = supervisor
        self._has_killed = False

    @property
    def has_killed(self) -> bool:
        """Whether a SIGKILL was sent, so that one that arrives is no wonder."""
        return self._has_killed

    async def end(self, grace_s: float, *, is_over: bool) -> None:
        """Return when nothing is left.

        Args:
            grace_s: From SIGTERM to SIGKILL; 0 for SIGKILL at once.
            is_over: Whether the script has ended, so that most likely nothing is left.

        Raises:
            ExecutionError: something outlived ten rounds of SIGKILL, or may not be killed.
            OSError: no descriptors are left.
        """
        if self._supervisor is not None:
            proc.send(self._supervisor, signal.SIGCONT)  # a script may have stopped it
        await self._until_begun()
        if is_over and not await self._found():
            return
        if grace_s > 0:
            await self._ask(grace_s)
        # after an asking that all obeyed too: its looks miss what forks away fast, this one does not
        await self._kill()

    async def _found(self) -> list[Process]:
        seen = await self._census.take()
        return members(self._marks(), seen)

    async def _until_begun(self) -> None:
        """Wait until the script has begun; a supervisor that does not get there is killed."""
        try:
            async with asyncio.timeout(_BEGIN_S):
                while not self._is_settled():  # noqa: ASYNC110 - a file of another process appears
                    await asyncio.sleep(_BEGIN_LOOK_S)
        except TimeoutError:
            if self._supervisor is not None:
                proc.send(self._supervisor, signal.SIGKILL)

    async def _ask(self, grace_s: float) -> None:
        """Send SIGTERM to each process once; return when none is left, or after ``grace_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        told: set[Identity] = set()
        while found := await self._found():
            self._tell([process for process in found if process.identity not in told])
            told |= {process.identity for process in found}
            left = deadline - loop.time()
            if left <= 0:
                return
            await until_gone(found, min(left, _TERM_LOOK_S))

    def _tell(self, processes: list[Process]) -> None:
        # to the script's group at once: were its child told first, it could go on to the next line
        session = self._marks().session
        leader = next((p for p in processes if session and p.group == session), None)
        if leader is not None:
            proc.send_group(leader, signal.SIGTERM)
        for process in processes:
            # who is in the group still was told with it; who left it since the look, maybe not
            now = proc.look(process.pid)
            if leader is None or now is None or now.group != leader.group:
                proc.send(process.identity, signal.SIGTERM)
            if process.state == "T":
                proc.send(process.identity, signal.SIGCONT)

    async def _kill(self) -> None:
        self._has_killed = True  # before the first, so that no end overtakes it
        found: list[Process] = []
        for _ in range(_KILL_ROUNDS):
            # in one call of the thread: cancelled between stopping and killing, all would hang
            found = await asyncio.to_thread(kill, self._marks())
            if not found:
                return
            await until_gone(found, _KILL_ROUND_S)
        pids = ", ".join(str(process.pid) for process in found[:10])
        raise ExecutionError(
            f"{len(found)} processes of the attempt cannot be ended: pid {pids}",
            hint="another user's, or waiting for a dead disk: see ps -o pid,user,stat,wchan,args",
        )
