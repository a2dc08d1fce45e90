"""Starts attempts under a supervisor, and adopts them from their homes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from msgspec.structs import replace

from rota.adapters.process import proc
from rota.adapters.process.attempt import Attempt, Host
from rota.adapters.process.census import Census
from rota.adapters.process.cgroup import NO_CGROUP
from rota.adapters.process.command import check, program
from rota.adapters.process.confiner import Confiner, Launch, handed
from rota.adapters.process.forks import Forks
from rota.adapters.process.home import Home, start_line
from rota.adapters.process.oom import OomCounter
from rota.adapters.process.proc import Identity
from rota.adapters.process.reserve import keep_back
from rota.adapters.process.session import ProcessSession, new_marker
from rota.adapters.process.supervisor import Supervisor
from rota.core.confinement import Confinement
from rota.errors import ExecutionError, UnavailableError
from rota.homes import pipe
from rota.homes.drain import Drain
from rota.homes.guard import moment
from rota.homes.lease import Lease
from rota.homes.stdin import ScriptInput
from rota.ports.executor import Task
from rota.ports.session import Tty

_SUPERVISE = str(Path(__file__).with_name("supervise.sh"))
_GUARD = "rota.adapters.process.guard"
_TELLING = {"dash", "ash", "bash", "busybox"}
_ADDED = ("PWD", "OLDPWD", "SHLVL")
_Action: TypeAlias = tuple[Any, ...]  # of posix_spawn
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class ProcessExecutor:
    """Implements :class:`rota.ports.executor.Executor` with processes of this machine.

    The script's environment is what the task says, to the letter, but for variables that belong to
    sh: IFS, LINENO, OPTIND, PPID, PS1, PS4, and, if given, PWD, OLDPWD and SHLVL have sh's values.

    Args:
        shell: What runs the supervisor; dash is the quickest.
        send_timeout_s: How long a script may go without reading its standard input.
        sweep_interval_s: Between two looks at all processes; with 300 of them one costs 10 ms.
        oom: Reads how often the kernel ran out of memory.
        confiner: Confines what is to be confined; without it, that is an error.
        forks: Has supervisors of plain attempts forked; without it, or where it cannot, sh starts as one.

    Cost of a start, besides the script: forked, 0.3 ms here and 0.8 there; about 0.8 ms here and 3 ms in sh,
    setsid and cat otherwise. One with a lease waits for its guard besides: 30 ms, of which 20 are CPU.
    """

    def __init__(
        self,
        *,
        shell: Sequence[str] = ("/bin/sh",),
        send_timeout_s: float = 5.0,
        sweep_interval_s: float = 0.2,
        oom: OomCounter | None = None,
        confiner: Confiner | None = None,
        forks: Forks | None = None,
    ) -> None:
        self._shell = tuple(shell)
        self._confiner = confiner
        self._forks = forks
        self._setsid = shutil.which("setsid")
        self._host = Host(
            census=Census(sweep_interval_s),
            oom=oom or OomCounter(),
            boot=proc.boot_id(),
            tells_signals=Path(shell[0]).resolve().name in _TELLING,
            send_timeout_s=send_timeout_s,
        )
        self._attempts: weakref.WeakSet[Attempt] = weakref.WeakSet()

    def moment(self) -> float:
        """Return the seconds since boot; they go on while the machine sleeps."""
        return moment()

    def close(self) -> None:
        """Stop watching all attempts and leave them alone; who waits for one is cancelled."""
        for attempt in list(self._attempts):
            attempt.forget()
        if self._forks is not None:
            self._forks.close()

    async def start(self, task: Task) -> Attempt:
        """Start ``task`` under a supervisor.

        Raises:
            ExecutionError: home, folder, script, interpreter or environment is not as it must be,
                or the machine has no room for a process. Nothing of it runs.
        """
        oom_kills = self._host.oom.recent()
        launch = Launch(task.argv, task.env, None, NO_CGROUP)
        drain = Drain(Home(task.home))
        pid, forked = 0, None
        try:
            check(task)
            if task.confinement is not None:
                launch = await self._confined(task, task.confinement)
            if task.stdin:
                ScriptInput.create(Home(task.home))
            with _room(descriptors=2):
                # Before the guard: where there is no pipe, it takes who writes the log for the script.
                drain.make()
                if self._forks is not None and _is_plain(task):
                    pid, forked = await self._forked(self._forks, task, oom_kills)
                if not pid:
                    drain.carry()
            if task.lease_until is not None:
                words = (str(task.home.absolute()), task.marker)
                await Lease(Home(task.home)).begin(_GUARD, *words, until=task.lease_until)
            if not pid:
                with _room(descriptors=2):
                    pid = self._spawn(task, launch, oom_kills)
        except BaseException as error:
            drain.drop()
            Lease(Home(task.home)).release()
            launch.cgroup.remove()
            if not isinstance(error, OSError | ValueError):
                raise
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ExecutionError(f"cannot start {task.argv[0]}: {reason}") from error
        if forked is None:
            process = proc.look(pid)  # our child: a zombie at worst, never a stranger
            supervisor = Identity(pid, process.start if process else 0)
        else:
            supervisor = forked.identity
        attempt = Attempt(
            self._host,
            task,
            drain,
            supervisor=supervisor,
            forked=forked,
            oom_kills=oom_kills,
            is_ours=True,
            is_child=True,
            is_new=True,
            cgroup=launch.cgroup,
        )
        return self._watch(attempt)

    async def adopt(self, task: Task) -> Attempt:
        """Take over an attempt from its home; a stranger that has a pid of it now is left alone."""
        supervisor: Identity | None
        script: Identity | None
        beginning = Home(task.home).beginning()
        if beginning is not None and beginning.boot == self._host.boot:
            supervisor, script = beginning.supervisor, beginning.script
            oom_kills = beginning.oom_kills
        else:
            supervisor, script = self._found(task.home), None
            oom_kills = self._host.oom.count()
        process = proc.look(supervisor.pid) if supervisor else None
        is_supervised = process is not None and process.identity == supervisor
        drain = Drain(Home(task.home))
        try:
            drain.adopt(supervisor.pid if supervisor is not None and is_supervised else 0)
        except OSError as error:
            raise UnavailableError(f"cannot take over the output: {error.strerror}") from error
        attempt = Attempt(
            self._host,
            task,
            drain,
            supervisor=supervisor,
            oom_kills=oom_kills,
            is_ours=is_supervised or (script is not None and proc.is_alive(script)),
            is_child=is_supervised and process is not None and process.ppid == os.getpid(),
            cgroup=Home(task.home).group(),
        )
        return self._watch(attempt)

    async def enter(self, task: Task, argv: Sequence[str], tty: Tty | None) -> ProcessSession:
        """Start a program in the task's folder, with its environment.

        Raises:
            ExecutionError: the folder is gone, or there is no room for it. Nothing of it runs.
        """
        if not task.cwd.is_dir():
            raise ExecutionError(f"the workspace {task.cwd} is not a folder, or does not exist")
        name, _, value = (marker := new_marker()).partition("=")
        env = {**task.env, name: value, **({"TERM": tty.term} if tty is not None else {})}
        entering = replace(task, argv=tuple(argv), env=env)
        launch, told = Launch(tuple(argv), env, None, NO_CGROUP), None
        if task.confinement is not None:
            if self._confiner is None:
                raise ExecutionError("this agent cannot confine builds")
            told = task.home / f"shell-{value}"
            begin = partial(self._confiner.enter, entering, task.confinement, _added(env))
            launch = await asyncio.to_thread(begin, told=told, marks={name: value})
        return ProcessSession.start(
            self._host.census, launch, cwd=task.cwd.absolute(), marker=marker, tty=tty, told=told
        )

    def _watch(self, attempt: Attempt) -> Attempt:
        try:
            attempt.watch()
        except OSError as error:
            raise UnavailableError(f"cannot watch the attempt: {error.strerror}") from error
        self._attempts.add(attempt)
        return attempt

    def _found(self, home: Path) -> Identity | None:
        """Return the supervisor that had not come to write who it is: by what it reads, or its command line."""
        carrier = pipe.reader(Home(home).output)
        if carrier is not None:
            pid, pidfd = carrier
            os.close(pidfd)
            if any(word.endswith("/forkserver.py") for word in proc.arguments(pid)):
                process = proc.look(pid)
                return process.identity if process else None
        for pid in proc.all_pids():
            words = proc.arguments(pid)
            if _SUPERVISE in words and str(home.absolute()) in words:
                process = proc.look(pid)
                return process.identity if process else None
        return None

    async def _confined(self, task: Task, asked: Confinement) -> Launch:
        """Make what a confined task needs; return how it is started."""
        if self._confiner is None:
            raise ExecutionError("this agent cannot confine builds")
        return await asyncio.to_thread(self._confiner.prepare, task, asked, _added(task.env))

    async def _forked(
        self, forks: Forks, task: Task, oom_kills: int
    ) -> tuple[int, Supervisor | None]:
        """Return pid and line of a forked supervisor; 0 if sh has to be one, no line if it is not known."""
        start = start_line(self._host.boot, oom_kills)
        name = task.argv[0]
        found_at = name if "/" in name else str(program(task))
        home, cwd = task.home.absolute(), task.cwd.absolute()
        try:
            forked = await forks.fork(home, cwd, found_at, task.argv, task.env, start)
        except TimeoutError:
            found = pipe.reader(Home(home).output)
            if found is None:
                return 0, None
            os.close(found[1])
            return found[0], None
        return (forked.identity.pid, forked) if forked is not None else (0, None)

    def _spawn(self, task: Task, launch: Launch, oom_kills: int) -> int:
        """Return the supervisor's pid.

        posix_spawn and not asyncio's subprocess: no second thread or pipe, and a tenth of the cost.
        Descriptors of this process are close-on-exec; ignored and blocked signals are set back.
        """
        if self._setsid is None:
            raise ExecutionError("setsid is not on PATH", hint="install util-linux")
        home, cwd = task.home.absolute(), task.cwd.absolute()
        start = start_line(self._host.boot, oom_kills)
        words = [str(home), str(cwd), self._setsid, _added(launch.env), start, *launch.words]
        with handed(launch.secret_env) as given:
            return self._start(home, words, launch.env, given)

    def _start(
        self, home: Path, words: Sequence[str], env: Mapping[str, str], given: Sequence[_Action]
    ) -> int:
        output = Home(home).output
        pid = os.posix_spawn(
            self._shell[0],
            [*self._shell, _SUPERVISE, *words],
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_OPEN, 6, output, os.O_RDWR, 0),
                *given,
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_RESET,
        )
        keep_back(pid)
        return pid


def _is_plain(task: Task) -> bool:
    """Say whether a supervisor has nothing to do but to wait and to carry."""
    return task.confinement is None and task.lease_until is None and not task.stdin


def _added(env: Mapping[str, str]) -> str:
    """Return the variables that sh adds to an environment."""
    return " ".join(name for name in _ADDED if name not in env)


@contextlib.contextmanager
def _room(*, descriptors: int) -> Iterator[None]:
    """Hold descriptors that are needed afterwards: better refused than started and not watched."""
    with contextlib.ExitStack() as held:
        for _ in range(descriptors):
            held.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
