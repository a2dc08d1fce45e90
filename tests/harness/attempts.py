"""Attempts of real processes for tests: started from a script's text, and none left behind."""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rota.adapters.process import ProcessExecutor
from rota.adapters.process.attempt import Attempt
from rota.adapters.process.forks import Forks
from rota.ports.executor import Exit, Task

PATH = "/usr/local/bin:/usr/bin:/bin"
PATIENCE_S = 30.0
#: What stands for supervisors that are forked, among the words by which a sh is started.
FORKED = ("forked",)


def shells() -> dict[str, tuple[str, ...]]:
    """Every sh of this machine that a supervisor may run under."""
    found = {name: shutil.which(name) for name in ("dash", "bash", "busybox")}
    words = {"busybox": ("sh",)}
    return {name: (path, *words.get(name, ())) for name, path in found.items() if path}


def kinds() -> dict[str, tuple[str, ...]]:
    """Every kind of supervisor: each sh of this machine, and one that is forked."""
    return {**shells(), FORKED[0]: FORKED}


async def made(root: Path, kind: Sequence[str]) -> "Attempts":
    """Return attempts whose supervisors are of a kind."""
    if tuple(kind) != FORKED:
        return Attempts(root, kind)
    forks = Forks()
    await forks.ready()
    return Attempts(root, kind, forks)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a state, bounded."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Say whether ``pid`` is a process that runs, and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def marked(marker: str) -> list[int]:
    """Return all processes that carry ``marker`` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_marked = marker.encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if is_marked and is_running(int(entry.name)):
            found.append(int(entry.name))
    return found


class Attempts:
    """Starts scripts on one executor; ``close`` ends all of them and what they left."""

    def __init__(
        self, root: Path, shell: Sequence[str] = ("/bin/sh",), forks: Forks | None = None
    ) -> None:
        self.root = root
        self.shell = tuple(shell)
        self.forks = forks
        self.executor = ProcessExecutor(
            shell=("/bin/sh",) if forks else shell,
            send_timeout_s=0.3,
            sweep_interval_s=0.02,
            forks=forks,
        )
        self.tasks: list[Task] = []

    def task(
        self,
        script: str,
        *,
        shebang: str = "#!/bin/sh\n",
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        arguments: Sequence[str] = (),
    ) -> Task:
        home = self.root / f"home{len(self.tasks)}"
        home.mkdir()
        file = home / "script"
        file.write_text(shebang + script + "\n")
        file.chmod(0o755)
        task = Task(
            home=home,
            argv=(str(file), *arguments),
            cwd=home,
            env={"PATH": PATH, "ROTA_ATTEMPT": str(home)} if env is None else env,
            stdin=stdin,
            marker=f"ROTA_ATTEMPT={home}",
        )
        self.tasks.append(task)
        return task

    async def run(self, script: str) -> tuple[Exit, bytes]:
        """Run ``script`` to its end; return that, and its log."""
        task = self.task(script)
        running = await self.executor.start(task)
        ended = await self.outcome(running)
        await running.terminate(0)
        return ended, self.log(task)

    async def start(self, script: str, *, until_log: bytes = b"") -> tuple[Task, Attempt]:
        """Start ``script``; return once ``until_log`` stands in its log."""
        task = self.task(script)
        running = await self.executor.start(task)
        await until(lambda: until_log in self.log(task) and running.pid)
        return task, running

    async def outcome(self, running: Attempt) -> Exit:
        return await asyncio.wait_for(running.wait(), PATIENCE_S)

    def log(self, task: Task) -> bytes:
        log = task.home / "log"
        return log.read_bytes() if log.exists() else b""

    def supervisor(self, task: Task) -> int:
        return int((task.home / "pid").read_text().split("\n")[1].split()[0])

    async def close(self) -> None:
        for task in self.tasks:
            running = await self.executor.adopt(task)
            await running.terminate(0)
            await asyncio.wait([asyncio.ensure_future(running.wait())], timeout=PATIENCE_S)
        self.executor.close()
        for task in self.tasks:
            assert marked(task.marker) == []


def own_descriptors() -> int:
    """Return how many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))
