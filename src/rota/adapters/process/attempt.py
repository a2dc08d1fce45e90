"""A live attempt: knows its end, and ends it.

The supervisor's pidfd says when it is over. What then stands in ``home/exit`` is the outcome; the
supervisor's own status says the same should the disk be full. A supervisor that was killed takes
the outcome along: the script is waited for, and its end is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from rota.adapters.process import proc
from rota.adapters.process.census import Census
from rota.adapters.process.cgroup import NO_CGROUP, Cgroup
from rota.adapters.process.ending import Ending
from rota.adapters.process.home import Home
from rota.adapters.process.kin import Marks, carriers, members, window
from rota.adapters.process.oom import OomCounter
from rota.adapters.process.proc import Identity
from rota.adapters.process.supervisor import Report, Supervisor
from rota.core.build import Usage
from rota.errors import ConflictError, ExecutionError, UnavailableError
from rota.homes.drain import Drain
from rota.homes.lease import Lease
from rota.homes.stdin import ScriptInput
from rota.ports.executor import Exit, Task

_UNTOLD = {signal.SIGINT, signal.SIGPIPE, signal.SIGTERM}
_SIGNALS = signal.valid_signals()


class Host(NamedTuple):
    """What all attempts of an executor share."""

    census: Census
    oom: OomCounter
    boot: str
    tells_signals: bool  # whether its sh is one known to speak of deaths by signal
    send_timeout_s: float


class Attempt:
    """One attempt; implements :class:`rota.ports.executor.Running`.

    Args:
        host: Shared by all.
        task: As it was started.
        drain: What carries its output to its log.
        supervisor: Who supervises it; ``None`` if nobody does, or that is not known.
        forked: The line to that supervisor, if it is one that was forked for this process.
        oom_kills: The counter at its start.
        is_ours: Whether it was seen alive by this process, in this boot. If not, its session's
            number may be somebody else's by now, and is not gone by.
        is_child: Whether the supervisor is a child of this process, and so its to reap.
        is_new: Whether it was started just now.
        cgroup: Its control group; an empty one if it has none.
    """

    def __init__(
        self,
        host: Host,
        task: Task,
        drain: Drain,
        *,
        supervisor: Identity | None,
        forked: Supervisor | None = None,
        oom_kills: int,
        is_ours: bool,
        is_child: bool = False,
        is_new: bool = False,
        cgroup: Cgroup = NO_CGROUP,
    ) -> None:
        self._host = host
        self._task = task
        self._drain = drain
        self._home = Home(task.home)
        self._supervisor = supervisor
        self._forked = forked
        self._is_alone = False  # whether no process that comes from the script's is left
        self._oom_kills = oom_kills
        self._is_ours = is_ours
        self._cgroup = cgroup
        self._is_child = is_child
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time() if is_new else None
        # wait4 counts what the spawning process held in memory before sh took its place
        self._rss_floor_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._known_script: Identity | None = None
        self._pidfd = -1
        self._is_clean = False
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._ending = Ending(
            host.census, marks=self._marks, is_settled=self._is_settled, supervisor=supervisor
        )
        self._lease = Lease(self._home)
        self._input = ScriptInput(
            self._home, has_ended=self._ended.done, timeout_s=host.send_timeout_s
        )

    @property
    def pid(self) -> int:
        """The script's process id; 0 when it is not known yet."""
        script = self._script()
        return script.pid if script else 0

    async def wait(self) -> Exit:
        """Return the outcome once the script has ended, and what it printed stands in the log."""
        ended = await asyncio.shield(self._ended)
        await self._drain.caught_up()
        return ended

    async def send(self, data: bytes, *, eof: bool = False) -> None:
        """Write to the script's standard input.

        Raises:
            ConflictError: it has none, or it was ended, or the script closed it.
            UnavailableError: the script does not read.
        """
        if not self._task.stdin:
            raise ConflictError("the script was started without a standard input")
        await self._input.send(data, eof=eof)

    def renew(self, until: float) -> bool:
        """Set when the attempt's lease runs out; False if nobody guards it."""
        return not self._is_clean and self._lease.renew(until)

    def watch(self) -> None:
        """Begin to wait for the end; once, before anything else.

        Raises:
            OSError: no descriptor is left.
        """
        if self._task.stdin and self._input.is_half_ended():
            self._input.end()
        if self._forked is not None:
            self._forked.attend(self._told)
        elif self._started_at is None and self._home.outcome() is not None:
            self._supervisor_ended()  # its supervisor may be another attempt's by now
        elif self._supervisor is None or not self._watch(self._supervisor, self._supervisor_ended):
            self._supervisor_ended()

    def forget(self) -> None:
        """Stop watching and leave the attempt alone; who waits for it is cancelled."""
        self._unwatch()
        self._drain.forget()
        self._ended.cancel()

    async def terminate(self, grace_s: float) -> None:
        """End all of it; returns when nothing is left, and after the end when the log is whole.

        Cheap where nothing is: after the end of a short attempt it looks only at the few pids given
        out since its start; after a long one, at a census that all attempts share.

        Raises:
            ExecutionError: something cannot be ended; the text names it.
            UnavailableError: no descriptors are left to do it with.
        """
        if self._is_clean:
            return
        try:
            if not self._nothing_is_left():
                await self._ending.end(grace_s, is_over=self._ended.done())
        except OSError as error:
            raise UnavailableError(f"cannot end the attempt now: {error.strerror}") from error
        if self._ended.done():
            await self._drain.finish()
            self._is_clean = True
            self._lease.release()
            if self._cgroup:
                await asyncio.to_thread(self._cgroup.remove)

    def _nothing_is_left(self) -> bool:
        """Say whether a cheap look proves that the ended attempt left nothing."""
        if self._started_at is None or self._supervisor is None or not self._ended.done():
            return False
        age_s = self._loop.time() - self._started_at
        if self._is_alone and self._known_script is not None:
            pids = window(self._known_script.pid, age_s)
            if pids is not None and not carriers(os.fsencode(self._task.marker), pids):
                return True
        pids = window(self._supervisor.pid, age_s)
        return pids is not None and not members(self._marks(), proc.sweep(pids))

    def _is_settled(self) -> bool:
        """Say whether the script has begun, or never will."""
        return self._ended.done() or self._home.has_begun()

    def _marks(self) -> Marks:
        supervisor = None if self._ended.done() else self._supervisor
        return Marks(
            supervisor=supervisor.pid if supervisor and proc.is_alive(supervisor) else 0,
            session=self._session(),
            marker=os.fsencode(self._task.marker),
            output=self._home.printed_to(),
            cgroup=self._cgroup,
        )

    def _session(self) -> int:
        """Return the script's session if it surely is not somebody else's by now, or 0.

        Its number cannot be used again while the session has a process. So it is good while the
        script lives, and if we saw it live and no other process has that pid now.
        """
        script = self._script()
        if script is None:
            return 0
        now = proc.look(script.pid)
        if now is None:
            return script.pid if self._is_ours else 0
        return script.pid if now.start == script.start else 0

    def _script(self) -> Identity | None:
        """Return who runs the script; kept, since a script may remove the file."""
        if self._known_script is None and self._supervisor is not None:
            beginning = self._home.beginning()
            self._known_script = beginning.script if beginning else None
        return self._known_script

    def _sought(self) -> Identity | None:
        """Look for the script of a supervisor that was killed before it had written who that is."""
        if self._supervisor is None or self._home.has_begun():
            return None
        for process in members(self._marks(), proc.snapshot(proc.all_pids())):
            if process.pid == process.session and process.start >= self._supervisor.start:
                self._known_script = process.identity
                return process.identity
        return None

    def _watch(self, identity: Identity, callback: Callable[[], None]) -> bool:
        pidfd = proc.open_pidfd(identity)
        if pidfd is None:
            return False
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, callback)
        return True

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _told(self, report: Report | None) -> None:
        """Take what a forked supervisor reports; with None, it has ended."""
        if report is None:
            self._supervisor_ended()
            return
        self._is_alone, self._known_script = True, report.script
        self._drain.all_carried()
        usage = self._usage(report.user_s, report.system_s, report.most_kib)
        self._settle(self._exit(report.code, usage, is_told=report.is_signal))

    def _supervisor_ended(self) -> None:
        self._unwatch()
        status, usage = self._reap()
        self._drain.supervisor_ended()
        refusal = self._home.refusal() if self._task.confinement is not None else ""
        if refusal and not self._ended.done():
            self._drain.script_ended()
            self._ended.set_exception(ExecutionError(f"cannot confine the script: {refusal}"))
            return
        outcome = self._outcome(status, usage)
        if outcome is not None:
            self._settle(outcome)
            return
        script = self._script() or self._sought()
        if script is None or not self._watch(script, self._script_ended):
            self._settle(self._unknown(usage))

    def _script_ended(self) -> None:
        self._unwatch()
        self._settle(self._unknown(None))

    def _settle(self, outcome: Exit) -> None:
        if not self._ended.done():
            self._drain.script_ended()
            self._ended.set_result(outcome)

    def _reap(self) -> tuple[int | None, Usage | None]:
        """Return the supervisor's exit code and what all of it used, if it is our child."""
        if not self._is_child or self._supervisor is None:
            return None, None
        try:
            pid, status, used = os.wait4(self._supervisor.pid, os.WNOHANG)
        except ChildProcessError:
            return None, None  # reaped by another who waits for any child
        if not pid:
            return None, None
        usage = self._usage(used.ru_utime, used.ru_stime, used.ru_maxrss)
        return os.waitstatus_to_exitcode(status), usage

    def _usage(self, user_s: float, system_s: float, rss_kib: int) -> Usage:
        rss_kib = rss_kib if rss_kib > self._rss_floor_kib else 0
        return Usage(user_s=user_s, system_s=system_s, max_rss_bytes=rss_kib * 1024)

    def _outcome(self, status: int | None, usage: Usage | None) -> Exit | None:
        """Return how the script ended; ``None`` if nobody wrote it down."""
        written = self._home.outcome()
        if written is not None:
            used = usage or Usage(user_s=written.user_s, system_s=written.system_s)
            return self._exit(written.code, used, is_told=written.is_told)
        if status is not None and status >= 0 and self._home.has_begun():
            # a full disk, or the home is gone: the supervisor's own exit code is the script's
            return self._exit(status, usage or Usage(), is_told=True)
        if status is not None and not self._home.has_begun():
            self._explain(self._home.complaint())
        return None

    def _exit(self, code: int, usage: Usage, *, is_told: bool) -> Exit:
        # Of one that ended in another way before the guard killed it, the outcome is its own.
        is_killed = code == 128 + signal.SIGKILL
        expired = is_killed and self._lease.has_expired
        usage = self._all_used(usage)
        return Exit(
            code=code,
            signal=death_signal(code, is_told=is_told or not self._host.tells_signals),
            usage=usage,
            oom_killed=not expired
            and not self._ending.has_killed
            and self._is_for_memory(code, usage, is_killed=is_killed),
            expired=expired,
            is_alone=self._is_alone,
        )

    def _is_for_memory(self, code: int, usage: Usage, *, is_killed: bool) -> bool:
        """Say whether it failed for want of memory: its group tells, else the machine's count may."""
        if self._cgroup:
            return code != 0 and usage.oom_kills > 0
        return is_killed and self._host.oom.count() > self._oom_kills

    def _all_used(self, usage: Usage) -> Usage:
        """Return what all of it used, by its control group if it has one."""
        if not self._cgroup:
            return usage
        used = self._cgroup.used()
        return replace(
            usage,
            user_s=used.user_s or usage.user_s,
            system_s=used.system_s or usage.system_s,
            memory_bytes=used.memory_bytes,
            oom_kills=used.oom_kills,
            refused_forks=used.refused,
            throttled_s=used.throttled_s,
        )

    def _unknown(self, usage: Usage | None) -> Exit:
        expired = self._lease.has_expired
        used = self._all_used(usage or Usage())
        return Exit(code=None, signal=None, usage=used, known=False, expired=expired)

    def _explain(self, complaint: str) -> None:
        """Put into the log why sh could not start the script; the script itself wrote nothing."""
        if complaint:
            with contextlib.suppress(OSError), self._home.log.open("a") as log:
                log.write(f"rota: the script could not be started: {complaint}\n")


def death_signal(code: int, *, is_told: bool) -> int | None:
    """Return the signal that ended a script of which sh says ``code``; ``None`` if none did.

    128+n alone may as well be a script's own ``exit 137``. dash, bash and busybox tell the two apart
    on standard error, except for SIGINT, SIGPIPE and (some bash) SIGTERM: there the code decides, as
    everywhere under another sh.
    """
    number = code - 128
    if number in _SIGNALS and (is_told or number in _UNTOLD):
        return number
    return None
