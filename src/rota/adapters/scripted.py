"""An executor that runs nothing and obeys a plan: the in-memory twin of the process executor.

Attempts live in the object, as processes live in the machine: a second daemon in a test adopts from
the same ``ScriptedExecutor``. Only the log is a real file, since others read it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.core.build import Usage
from rota.errors import ConflictError, ExecutionError
from rota.ports.executor import Exit, Task
from rota.ports.session import STDOUT, Tty

_FOREVER_S = 1e6


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt does: writes ``output``, then ends with ``code`` unless it hangs."""

    output: bytes = b""
    code: int = 0
    signal: int | None = None
    usage: Usage = Usage()
    oom_killed: bool = False
    refusal: str = ""  # not empty: it cannot be started, and this is why
    hangs: bool = False  # until it is terminated, or its standard input ends
    ignores_term: bool = False


class ScriptedAttempt:
    """An attempt under a plan; implements :class:`rota.ports.executor.Running`."""

    def __init__(self, task: Task, plan: Plan, pid: int) -> None:
        self._task = task
        self._plan = plan
        self._pid = pid
        self._received = bytearray()
        self._is_input_ended = False
        self._is_clean = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._lease: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """A number that no process has."""
        return self._pid

    @property
    def received(self) -> bytes:
        """All that was sent to the standard input."""
        return bytes(self._received)

    async def wait(self) -> Exit:
        """Return how it ended."""
        return await asyncio.shield(self._ended)

    async def terminate(self, grace_s: float) -> None:
        """End it by SIGTERM; one that ignores that, by SIGKILL after ``grace_s``."""
        self._is_clean = self._ended.done()
        if self._is_clean or not self._plan.ignores_term:
            self.end(self._killed(signal.SIGTERM if grace_s > 0 else signal.SIGKILL))
            return
        await asyncio.wait([self._ended], timeout=grace_s)
        self.end(self._killed(signal.SIGKILL))

    async def send(self, data: bytes, *, eof: bool = False) -> None:
        """Take ``data``; the end of input ends a plan that hangs.

        Raises:
            ConflictError: there is no standard input, or it was ended, or nobody reads it.
        """
        if not self._task.stdin:
            raise ConflictError("the script was started without a standard input")
        if self._ended.done():
            raise ConflictError("the script has ended and reads no more")
        if self._is_input_ended:
            raise ConflictError("the standard input was ended before")
        self._received += data
        if eof:
            self._is_input_ended = True
            self.finish()

    def renew(self, until: float) -> bool:
        """Set when its lease runs out; False without one, or after the end."""
        if self._lease is None or self._is_clean:
            return False
        if self._ended.done():
            return not self._ended.result().expired
        self.lend(until)
        return True

    def lend(self, until: float) -> None:
        """Give it a lease, or another one."""
        if self._lease is not None:
            self._lease.cancel()
        # A loop takes no timer without an end.
        until = min(until, self._loop.time() + _FOREVER_S)
        self._lease = self._loop.call_at(until, self._expire)

    def print(self, data: bytes) -> None:
        """Append ``data`` to the log, as a script would."""
        with (self._task.home / "log").open("ab") as log:
            log.write(data)

    def finish(self) -> None:
        """End as the plan says; for one that hangs."""
        plan = self._plan
        self.end(Exit(plan.code, plan.signal, plan.usage, plan.oom_killed))

    def lose(self) -> None:
        """End without a trace of the outcome, as if its supervisor had been killed."""
        self.end(Exit(None, None, Usage(), known=False))

    def end(self, outcome: Exit) -> None:
        """End with ``outcome``, if it has not ended yet."""
        if not self._ended.done():
            self._ended.set_result(outcome)
        if self._lease is not None:
            self._lease.cancel()

    def _expire(self) -> None:
        self.end(replace(self._killed(signal.SIGKILL), expired=True))

    def _killed(self, signum: signal.Signals) -> Exit:
        return Exit(128 + signum, signum, self._plan.usage)


class ScriptedSession:
    """Implements :class:`rota.ports.session.Session`: like ``cat`` if it ``echoes``."""

    def __init__(self, output: bytes, code: int, tty: Tty | None, *, echoes: bool) -> None:
        self.tty = tty
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._exit = code
        self._code: int | None = None
        self.has_ended = False
        if output:
            self._waiting.put_nowait(output)
        if not echoes:
            self._waiting.put_nowait(b"")

    @property
    def code(self) -> int | None:
        """Its exit code, once all was read."""
        return self._code

    async def read(self) -> tuple[int, bytes] | None:
        """Return what was printed next."""
        if self._code is not None:
            return None
        data = await self._waiting.get()
        if data:
            return STDOUT, data
        if self._code is None:
            self._code = self._exit
        return None

    async def write(self, data: bytes) -> None:
        """Print it."""
        self._waiting.put_nowait(data)

    async def close_input(self) -> None:
        """End it."""
        self._waiting.put_nowait(b"")

    def resize(self, rows: int, columns: int) -> None:
        """Keep the size for who asks."""
        if self.tty is not None:
            self.tty = Tty(rows, columns, self.tty.term)

    async def end(self) -> None:
        """End it, as a hang-up does."""
        self.has_ended = True
        if self._code is None:
            self._code = 129


class ScriptedExecutor:
    """Implements :class:`rota.ports.executor.Executor` in memory.

    Args:
        plan: Returns the plan of a task; by default all pass at once and print nothing.
    """

    def __init__(self, plan: Callable[[Task], Plan] = lambda _: Plan()) -> None:
        self._plan = plan
        self._attempts: dict[Path, ScriptedAttempt] = {}
        self.entered: list[tuple[Task, tuple[str, ...], ScriptedSession]] = []

    @property
    def attempts(self) -> dict[Path, ScriptedAttempt]:
        """All attempts ever started, by home, oldest first."""
        return dict(self._attempts)

    def moment(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def start(self, task: Task) -> ScriptedAttempt:
        """Begin the task's plan.

        Raises:
            ExecutionError: the plan says so.
        """
        plan = self._plan(task)
        if plan.refusal:
            raise ExecutionError(plan.refusal)
        attempt = ScriptedAttempt(task, plan, pid=(1 << 22) + 1 + len(self._attempts))
        self._attempts[task.home] = attempt
        if task.lease_until is not None and task.lease_until <= self.moment():
            attempt.end(Exit(None, None, Usage(), known=False, expired=True))
            return attempt
        attempt.print(plan.output)
        if task.lease_until is not None:
            attempt.lend(task.lease_until)
        if not plan.hangs:
            attempt.finish()
        return attempt

    async def adopt(self, task: Task) -> ScriptedAttempt:
        """Return the attempt of ``task.home``; a lost one if it never started."""
        attempt = self._attempts.get(task.home)
        if attempt is None:
            attempt = ScriptedAttempt(task, Plan(), pid=0)
            attempt.lose()
        return attempt

    async def enter(self, task: Task, argv: Sequence[str], tty: Tty | None) -> ScriptedSession:
        """Begin what the task's plan says, as a session: one that hangs says back what it hears.

        Raises:
            ExecutionError: the plan says so.
        """
        plan = self._plan(task)
        if plan.refusal:
            raise ExecutionError(plan.refusal)
        session = ScriptedSession(plan.output, plan.code, tty, echoes=plan.hangs)
        self.entered.append((task, tuple(argv), session))
        return session
