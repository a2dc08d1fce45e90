"""What the REPL takes to be there, and a command in it beside the same from a shell."""

from __future__ import annotations

import os
import pty
import select
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import floor
from bench.agent import ROTA, running
from bench.case import Result, Setting
from bench.figure import Figure

PROMPT = b"rota>"
LAST_JOB = b"web/job-9"
LIMIT_S = 30.0


def run(setting: Setting) -> Result:
    """Open it in a terminal and type commands; run the same from a shell in turn."""
    first, typed, piped, shell, python = [], [], [], [], []
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            for number in range(10):
                connection.put(f"web/job-{number}", "#!/bin/sh\ntrue\n")
        at = [ROTA, "--data", str(agent.data)]
        for _ in range(setting.size(10, 3)):
            python.append(
                floor.timed_ms(lambda: floor.run([sys.executable, "-c", "pass"], _NOWHERE))
            )
            began = time.perf_counter()
            with terminal([*at, "repl"], setting.folder) as seat:
                seat.until(PROMPT)
                first.append((time.perf_counter() - began) * 1000)
                seat.until(b"leads")  # the toolbar: from now on nothing else is under way
                for _ in range(3):
                    typed.append(seat.timed_ms(b"jobs\r", LAST_JOB))
                    seat.until(PROMPT)
            shell.append(floor.timed_ms(lambda: floor.run([*at, "jobs"], _NOWHERE)))
            script = [*at, "repl", "-c", ";".join(["jobs"] * 21)]
            single = [*at, "repl", "-c", "jobs"]
            many_ms = floor.timed_ms(lambda script=script: floor.run(script, _NOWHERE))
            one_ms = floor.timed_ms(lambda single=single: floor.run(single, _NOWHERE))
            piped.append((many_ms - one_ms) / 20)
    base, once = statistics.median(python), statistics.median(shell)
    return Result(
        figures=[
            _figure(
                "rota repl to its prompt, over python", statistics.median(first) - base, 300, base
            ),
            _figure("jobs typed in the REPL", statistics.median(typed), 60, once, "rota jobs"),
            _figure(
                "jobs in a script of the REPL", statistics.median(piped), 30, once, "rota jobs"
            ),
        ],
        notes=[f"`python -c pass` takes {base:.1f} ms, `rota jobs` from a shell {once:.1f} ms"],
        raw={"first": first, "typed": typed, "piped": piped, "shell": shell, "python": python},
    )


_NOWHERE = Path(os.devnull)


def _figure(what: str, value: float, reach: float, base: float, name: str = "python") -> Figure:
    return Figure(what=what, value=value, unit="ms", reach=reach, floor=base, floor_name=name)


class Seat:
    """A terminal with a program in it, as a person has one."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._seen = b""

    def until(self, text: bytes) -> None:
        """Return once a text has come; what came before it is forgotten."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self._seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} did not come, but {self._seen[-300:]!r}")
            if select.select([self._master], [], [], 1.0)[0]:
                data = os.read(self._master, 65536)
                if b"\x1b[6n" in data:  # where is the cursor?
                    os.write(self._master, b"\x1b[1;1R")
                self._seen += data
        self._seen = self._seen[self._seen.index(text) + len(text) :]

    def timed_ms(self, keys: bytes, text: bytes) -> float:
        """Type keys and return how long a text takes to come."""
        began = time.perf_counter()
        os.write(self._master, keys)
        self.until(text)
        return (time.perf_counter() - began) * 1000


@contextmanager
def terminal(command: list[str], state: Path) -> Iterator[Seat]:
    """Give a terminal of 80 by 24 in which a command runs; end it afterwards."""
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(
            TERM="xterm-256color", XDG_STATE_HOME=str(state), COLUMNS="80", LINES="24"
        )
        os.execv(command[0], command)
    try:
        yield Seat(master)
    finally:
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(master)
