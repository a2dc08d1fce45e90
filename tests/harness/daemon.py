"""A real daemon in a folder of its own, driven as a user would: by commands and signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROTA = Path(sys.executable).parent / "rota"
#: Machines that run tests are slow and shared: waits are bounded generously, and end early.
PATIENCE_S = 30.0


def wait_until(what: str, look: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """Return what ``look`` returns once it is true."""
    deadline = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s} s: {what}")
        time.sleep(0.02)


class Daemon:
    """``rota agent --daemon`` in ``data``."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self._options = ("--name", "here", "--slots", "4", *options)

    @property
    def pid(self) -> int:
        return int((self.data / "agent.pid").read_text())

    @property
    def engine_pid(self) -> int:
        """The server's process id; 0 while there is none."""
        state = json.loads((self.data / "engine" / "engine.json").read_text())
        process = (state.get("own") or {}).get("process")
        return int(process["number"]) if process else 0

    def start(self) -> None:
        done = self.run("agent", *self._options, "--daemon")
        assert done.returncode == 0, done.stderr

    def run(self, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> Any:
        """Run a command; return the finished process with text output."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ROTA_")}
        return subprocess.run(
            [str(ROTA), *args],
            input=stdin,
            env={**clean, "ROTA_DATA": str(self.data), **(env or {})},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def ok(self, *args: str, stdin: str = "") -> str:
        """Run a command that must succeed; return its standard output."""
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, f"rota {' '.join(args)}: {done.stderr}"
        return str(done.stdout)

    def json(self, *args: str) -> Any:
        return json.loads(self.ok(*args, "--json"))

    def add(self, name: str, script: str) -> None:
        self.ok("add", name, "-", stdin=script)

    def build(self, ref: str) -> Any:
        return self.json("show", ref)

    def until(self, ref: str, state: str) -> Any:
        def look() -> Any:
            build = self.build(ref)
            return build if build["state"] == state else None

        return wait_until(f"{ref} is {state}", look)

    def kill(self) -> None:
        """SIGKILL the daemon alone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until("the daemon is gone", lambda: not is_alive(pid))

    def kill_engine(self) -> None:
        pid = wait_until("there is an engine", lambda: self.engine_pid)
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop it if it runs, cancel what it runs, and leave no process behind."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if not is_alive(self.pid):
                self.start()
        for build in json.loads(self.run("ps", "--json").stdout or "[]"):
            self.run("cancel", build["id"])
            with contextlib.suppress(AssertionError):
                self.until(build["id"], "finished")
        self.run("stop")
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            wait_until(
                "the engine is gone", lambda: not self.engine_pid or not is_alive(self.engine_pid)
            )


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def daemon(data: Path, *options: str) -> Iterator[Daemon]:
    """A started daemon, ended afterwards in any case."""
    running = Daemon(data, *options)
    running.start()
    try:
        yield running
    finally:
        running.end()
