"""The executor: runs one attempt of a build, and finds it again after the daemon died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.build import Usage
from rota.core.confinement import Confinement
from rota.core.resources import Resources
from rota.ports.session import Session, Tty


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of the agent that a script finds somewhere else.

    ``target`` is absolute, or ``~/…`` in the home folder of whoever the script runs as.
    """

    source: Path
    target: str
    writable: bool = True


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt runs in.

    ``image`` is there already, under that name or id; ``called`` is how people call it. ``network`` is
    ``none``, ``host``, ``bridge``, or the name of one. ``labels`` are what it is found by. The task's
    variables stand above the image's own. Its home is seen at its own path.
    """

    image: str
    called: str
    labels: Mapping[str, str] = {}
    network: str = "bridge"
    aliases: tuple[str, ...] = ()
    user: str = ""  # of the image; empty is the image's default
    resources: Resources = Resources()
    mounts: tuple[Mount, ...] = ()  # besides the task's
    tmpfs: tuple[str, ...] = ()
    shm_bytes: int = 0
    entrypoint: tuple[str, ...] = ()  # what starts the script
    capabilities: tuple[str, ...] = ()
    no_new_privs: bool = True
    privileged: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to run.

    ``home`` is the attempt's own folder; it exists, is empty but for what the caller put there,
    and belongs to the executor while the attempt lives. The log is ``home/log``, out of the script's
    reach: it prints into a pipe.
    """

    home: Path
    argv: tuple[str, ...]  # the script and its arguments; the script is executable
    cwd: Path
    env: Mapping[str, str]  # all of it: nothing is inherited
    stdin: bool = False  # keep a standard input open that `send` writes to; otherwise /dev/null
    lease_until: float | None = None  # a moment; then all of it is killed, whoever lives: see renew
    mounts: tuple[Mount, ...] = ()  # a plain script finds things where they are, and sees these
    confinement: Confinement | None = None  # what a plain script is kept to
    marker: str = ""  # "ROTA_…=…" as it stands in env: by it, processes that escaped are found
    container: Container | None = None  # where it is not to run as processes of the machine


class Exit(msgspec.Struct, frozen=True):
    """How the script ended: ``code`` as a shell would say it; ``signal`` if one ended it.

    ``known`` is False when supervisor and script vanished without a trace of the outcome.
    ``expired`` is True when it was killed because its lease ran out. ``note`` says what more is
    known of an end that was not the script's own doing. ``is_alone`` is True when it is proved that no
    process that comes from the script is left.
    """

    code: int | None
    signal: int | None
    usage: Usage
    oom_killed: bool = False
    known: bool = True
    expired: bool = False
    note: str = ""
    is_alone: bool = False


class Running(Protocol):
    """A live attempt. One waiter; signals may come from anywhere at any time."""

    @property
    def pid(self) -> int:
        """The script's process id; 0 when it is not known yet."""
        ...

    async def wait(self) -> Exit:
        """Return once the script has ended, its outcome is known, and what it printed is in the log.

        Raises:
            ExecutionError: it could not be confined as it should, so that its script never began.

        Cancelling leaves the attempt alone. What the script left running in its group, its session
        or elsewhere is not waited for; :meth:`terminate` ends it.
        """
        ...

    async def terminate(self, grace_s: float) -> None:
        """End all of it: SIGTERM to the group and to what escaped it, ``grace_s``, then SIGKILL.

        Returns when nothing of the attempt is left, sooner than ``grace_s`` if all obey; after the
        script's end also when its log is whole. The supervisor lives on to write down the outcome. Safe to call twice, and after the end.
        """
        ...

    async def send(self, data: bytes, *, eof: bool = False) -> None:
        """Write to the script's standard input, then close it if ``eof``.

        Raises:
            ConflictError: it has none (``stdin`` was false), or it was closed.
        """
        ...

    def renew(self, until: float) -> bool:
        """Set the moment when the attempt's lease runs out, sooner or later than it was.

        ``inf`` is a moment too. An attempt whose lease has run out is killed within a second, with
        all that escaped it, even if this process is dead, stopped or hung by then.

        Returns:
            False if nobody is there to end the attempt in time: it has ended, or its lease has run
            out, or it was started without one, or who guarded it was killed.
        """
        ...


class Executor(Protocol):
    """Starts attempts, and adopts those that a former daemon started."""

    def moment(self) -> float:
        """Return now in seconds, by the clock that leases run by.

        It never runs backwards, and goes on while the machine sleeps.
        """
        ...

    async def start(self, task: Task) -> Running:
        """Start ``task`` under a supervisor that outlives this process.

        Raises:
            ExecutionError: it could not be started; nothing of it runs.
        """
        ...

    async def adopt(self, task: Task) -> Running:
        """Take over an attempt from its ``home``, whether it still runs or ended meanwhile.

        If it never started, or all trace is lost, ``wait`` returns at once with ``known=False``.
        """
        ...

    async def enter(self, task: Task, argv: Sequence[str], tty: Tty | None) -> Session:
        """Start a program where ``task`` runs, or where it ran: its folder, user and environment.

        It is found by the task's marker, so that what ends the attempt ends it too.

        Args:
            task: Of an attempt that runs, or that has ended and whose home is still there.
            argv: The program, looked for by the task's PATH, and its arguments.
            tty: The terminal it is to have; ``None`` for pipes.

        Raises:
            ExecutionError: it could not be started; nothing of it runs.
        """
        ...
