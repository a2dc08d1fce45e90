"""An attempt in a container: knows its end, and ends it.

What the supervisor wrote down is the outcome. Where it could not, since all of the container was
killed, the engine says how; and where that is gone too, the end is unknown, and why is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from rota.adapters.docker.engine import AwayError, Engine
from rota.adapters.docker.home import Home, Record, Verdict
from rota.adapters.docker.shell import Shell
from rota.core.build import Usage
from rota.errors import ConflictError, ExecutionError, NotFoundError, RotaError
from rota.homes.drain import Drain
from rota.homes.lease import Lease
from rota.homes.stdin import ScriptInput
from rota.ports.executor import Exit

logger = logging.getLogger(__name__)

#: How long an engine may be away, as when it is upgraded, until its containers are given up.
AWAY_S = 60.0
#: Who waits for a container hears nothing of an engine that hangs: so it is asked something, as often as this.
LOOK_S = 15.0
#: An engine that lives answers that in milliseconds, on a very busy machine in a second.
ANSWER_S = 10.0
_AGAIN_S = (0.1, 0.2, 0.5, 1.0)
_REMOVE_AGAIN_S = 10.0
_KILLED = 128 + signal.SIGKILL
_UNTOLD = {signal.SIGINT, signal.SIGPIPE, signal.SIGTERM}
_SIGNALS = signal.valid_signals()
#: All processes of the container but the supervisor and the one that asks; stopped ones go on to hear it.
_ASKING = "kill -TERM -1; kill -CONT -1"


class ContainerAttempt:
    """One attempt; implements :class:`rota.ports.executor.Running`.

    Args:
        engine: Which runs it.
        home: Its files.
        drain: What carries its output to its log.
        record: Its container; ``None`` if none was ever made.
        shell: What is mounted in it.
        stdin: Whether it has a standard input.
        send_timeout_s: How long a script may go without reading.
        away_s: How long the engine may be away.
        look_s: How long it may say nothing until it is asked whether it is there.
    """

    def __init__(
        self,
        engine: Engine,
        home: Home,
        drain: Drain,
        record: Record | None,
        shell: Shell,
        *,
        stdin: bool,
        send_timeout_s: float,
        away_s: float,
        look_s: float = LOOK_S,
    ) -> None:
        self._engine = engine
        self._home = home
        self._drain = drain
        self._record = record
        self._shell = shell
        self._has_input = stdin
        self._away_s, self._look_s = away_s, look_s
        self._killed = False
        self._is_gone = False
        self._lease = Lease(home)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._following: asyncio.Task[None] | None = None
        self._removing: asyncio.Task[None] | None = None
        self._input = ScriptInput(home, has_ended=self._ended.done, timeout_s=send_timeout_s)

    @property
    def pid(self) -> int:
        """The script's process id within its container; 0 when it is not known yet."""
        return self._home.pid()

    @property
    def has_ended(self) -> bool:
        """Whether the outcome is known."""
        return self._ended.done()

    async def wait(self) -> Exit:
        """Return the outcome once the container has ended, and what it printed stands in the log."""
        ended = await asyncio.shield(self._ended)
        await self._drain.caught_up()
        return ended

    async def send(self, data: bytes, *, eof: bool = False) -> None:
        """Write to the script's standard input.

        Raises:
            ConflictError: it has none, or it was ended, or the script closed it.
            UnavailableError: the script does not read.
        """
        if not self._has_input:
            raise ConflictError("the script was started without a standard input")
        await self._input.send(data, eof=eof)

    def renew(self, until: float) -> bool:
        """Set when the attempt's lease runs out; False if nobody guards it."""
        return not self._is_gone and self._lease.renew(until)

    def watch(self) -> None:
        """Begin to wait for the end; once, before anything else."""
        if self._has_input and self._input.is_half_ended():
            self._input.end()
        if self._record is None:
            self._drain.script_ended()
            self._ended.set_result(_unknown("", expired=self._lease.has_expired))
            return
        name = f"container {self._record.name}"
        # no group's: it lives as long as the attempt is watched, and who waits is told of its fault
        self._following = self._loop.create_task(self._follow(self._record), name=name)
        self._following.add_done_callback(self._followed)

    def forget(self) -> None:
        """Stop watching and leave the attempt alone; who waits for it is cancelled."""
        for task in (self._following, self._removing):
            if task is not None:
                task.cancel()
        self._drain.forget()
        self._ended.cancel()

    async def terminate(self, grace_s: float) -> None:
        """End all of it; returns when nothing of it runs and the log is whole.

        The container is removed in the background.

        Raises:
            RotaError: the engine cannot be reached, or does not do it.
        """
        if self._is_gone:
            return
        if self._record is None:
            await self._drain.finish()
            return
        if not self._ended.done() and grace_s > 0:
            await self._ask(self._record, grace_s)
        if not self._ended.done():
            await self._kill(self._record)
        await self.wait()
        await self._drain.finish()
        self._is_gone = True
        self._lease.release()
        self._removing = self._loop.create_task(
            self._remove(self._record), name=f"remove {self._record.name}"
        )

    async def _remove(self, record: Record) -> None:
        """Remove the container, as soon as the engine answers: one that was given up may run still."""
        pause_s = _AGAIN_S[0]
        while True:
            try:
                await remove(self._engine, record.name)
            except AwayError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _REMOVE_AGAIN_S)
            except RotaError as error:
                # it is found again when the agent starts
                logger.warning("container %s is not removed: %s", record.name, error.message)
                return
            else:
                return

    async def removed(self) -> None:
        """Return once the container is removed, if it is to be."""
        if self._removing is not None:
            await asyncio.wait([self._removing])

    async def _ask(self, record: Record, grace_s: float) -> None:
        """Send SIGTERM to all in the container; return when it has ended, or after ``grace_s``."""
        try:
            async with asyncio.timeout(grace_s):
                await self._until_begun()
                await self._tell(record)
                await asyncio.wait([self._ended])
        except TimeoutError:
            return
        except RotaError as error:
            # no process can be added where a limit is reached, or it ends just now
            logger.info("container %s cannot be asked to end: %s", record.name, error.message)

    async def _until_begun(self) -> None:
        """Wait until the script runs: before, nobody would hear a signal."""
        while not self._ended.done() and not self._home.has_begun():  # noqa: ASYNC110 - a file appears
            await asyncio.sleep(0.002)

    async def _tell(self, record: Record) -> None:
        body = {"Cmd": [*self._shell.words, "-c", _ASKING], "AttachStdout": False}
        made = await self._engine.ask("POST", f"containers/{record.name}/exec", body=body)
        await self._engine.ask("POST", f"exec/{made['Id']}/start", body={"Detach": True})

    async def _kill(self, record: Record) -> None:
        self._killed = True  # before the deed, so that no end overtakes it
        # One that is not running has ended, or is about to be found so.
        with contextlib.suppress(ConflictError, NotFoundError):
            await self._engine.ask("POST", f"containers/{record.name}/kill")

    async def _follow(self, record: Record) -> None:
        """Wait for the container's end, over restarts of the engine too."""
        loop = asyncio.get_running_loop()
        away_since: float | None = None
        tries = 0
        while True:
            try:
                if away_since is not None:
                    await self._answered()
                verdict = await self._over(record)
            except AwayError as error:
                if away_since is None:
                    away_since, tries = loop.time(), 0
                if self._home.outcome() is not None:
                    verdict = Verdict()
                elif loop.time() - away_since > self._away_s:
                    verdict = Verdict(note=f"{error.message} for {self._away_s:g} s")
                else:
                    await asyncio.sleep(_AGAIN_S[min(tries, len(_AGAIN_S) - 1)])
                    tries += 1
                    continue
            except RotaError as error:
                verdict = Verdict(note=error.message)
            if verdict is not None:
                break
            away_since = None
        self._settle(verdict)

    def _followed(self, following: asyncio.Task[None]) -> None:
        if following.cancelled() or self._ended.done():
            return
        fault = following.exception()
        if fault is not None:
            self._ended.set_exception(fault)

    async def _over(self, record: Record) -> Verdict | None:
        """Wait for the end and return how it was; ``None`` if it runs."""
        name = record.name
        try:
            await self._waited(name)
            if self._home.outcome() is not None:
                return Verdict()
            state = (await self._engine.ask("GET", f"containers/{name}/json"))["State"]
        except NotFoundError:
            if self._home.outcome() is not None or self._home.verdict() is not None:
                return Verdict()
            return Verdict(note="its container was removed from outside")
        if state.get("Running"):
            return None
        if state.get("Status") == "created" or not str(state.get("StartedAt", "")).strip("0:-TZ."):
            return Verdict(note="its container never started")
        return self._verdict(state)

    async def _waited(self, name: str) -> None:
        """Return when the container has ended, as the engine says, or its supervisor if the engine hangs.

        Raises:
            RotaError: as the engine's ``ask``; ``AwayError`` also where it hangs.
        """
        waiting = self._loop.create_task(
            self._engine.ask("POST", f"containers/{name}/wait", within_s=None), name=f"wait {name}"
        )
        try:
            while not (await asyncio.wait([waiting], timeout=self._look_s))[0]:
                if self._home.outcome() is not None:
                    return
                await self._answered()
            await waiting
        finally:
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()  # it was told, or something worse is

    async def _answered(self) -> None:
        await self._engine.heard(self._look_s / 2, answer_s=min(ANSWER_S, self._look_s))

    def _verdict(self, state: dict[str, object]) -> Verdict:
        """Judge a container that ended before its supervisor could say how."""
        code = state.get("ExitCode")
        killed = self._killed or self._lease.has_expired
        told = str(state.get("Error") or "")
        note = ""
        number = code if isinstance(code, int) and 0 <= code < 256 else None
        # A smaller one is the supervisor's, and so the script's: only its record is lost. But 0 is
        # also what an engine says that was killed itself, and does not know.
        is_own = number is not None and 0 < number < 128
        if not killed and not state.get("OOMKilled") and not is_own:
            note = told or "its container was killed from outside"
        return Verdict(
            code=number if number not in (0, 255) or told else None,
            oom_killed=bool(state.get("OOMKilled")) and not killed,
            killed=killed,
            note=note,
        )

    def _settle(self, verdict: Verdict) -> None:
        found = self._home.outcome()
        if found is None:
            known = self._home.verdict()
            if known is None:
                # The container is removed soon, and with it what the engine knows.
                with contextlib.suppress(OSError):
                    self._home.write("verdict", verdict)
            verdict = known or verdict
        if not self._ended.done():
            self._drain.script_ended()
            self._ended.set_result(self._exit(verdict))

    def _exit(self, verdict: Verdict) -> Exit:
        found = self._home.outcome()
        expired = self._lease.has_expired
        if found is None:
            if expired and self._home.has_begun():
                return Exit(code=_KILLED, signal=9, usage=Usage(), expired=True)
            if verdict.code is None or expired:
                return _unknown(verdict.note, expired=expired)
            number = verdict.code - 128
            return Exit(
                code=verdict.code,
                signal=number if number in _SIGNALS else None,
                usage=Usage(),
                oom_killed=verdict.oom_killed,
                note=verdict.note,
            )
        number = found.code - 128
        is_told = found.is_told or not self._shell.tells_signals
        is_signal = number in _SIGNALS and (is_told or number in _UNTOLD)
        usage = Usage(
            user_s=found.user_s,
            system_s=found.system_s,
            memory_bytes=found.memory_bytes,
            oom_kills=found.oom_kills,
        )
        return Exit(
            code=found.code,
            signal=number if is_signal else None,
            usage=usage,
            oom_killed=found.code == _KILLED and found.oom_kills > 0 and not self._killed,
        )


def _unknown(note: str, *, expired: bool) -> Exit:
    return Exit(code=None, signal=None, usage=Usage(), known=False, expired=expired, note=note)


async def remove(engine: Engine, name: str) -> None:
    """Remove a container, running or not, and the volumes that only it had.

    Raises:
        RotaError: the engine cannot be reached, or does not do it.
    """
    for _ in range(50):
        try:
            await engine.ask("DELETE", f"containers/{name}", params={"force": "1", "v": "1"})
        except NotFoundError:
            return
        except ConflictError:
            await asyncio.sleep(0.1)  # its removal is under way
        else:
            return
    raise ExecutionError(f"the container {name} cannot be removed")
