"""An agent, started and stopped as a user does it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import usage
from bench.rest import Connection, RefusedError

ROTA = str(Path(sys.executable).parent / "rota")
SLOTS = 4
#: For the history's last commit, which comes a second after the last build.
SETTLE_S = 2.0


@dataclasses.dataclass(frozen=True)
class Agent:
    """A running agent: its data folder and the ids of its two processes."""

    data: Path
    daemon: int
    engine: int

    def connect(self, *, is_tcp: bool = False) -> Connection:
        """Return a new connection to it."""
        return Connection(self.data, is_tcp=is_tcp)

    def cpu(self) -> usage.Cpu:
        """Return the CPU that all its processes used so far, but for those that still run."""
        return usage.cpu(self.daemon, self.engine)

    def settle(self, waiting: int = 0) -> None:
        """Wait until nothing is under way any more, but for so many builds that nobody can take."""
        with self.connect() as connection:
            while connection.unfinished() > waiting:
                time.sleep(0.02)
        time.sleep(SETTLE_S)


@contextlib.contextmanager
def running(data: Path) -> Iterator[Agent]:
    """Start an agent in ``data``, and stop it, whatever happened meanwhile."""
    start(data)
    agent = found(data)
    try:
        yield agent
    finally:
        stop(agent)


def start(data: Path) -> None:
    """Run the command that starts an agent; it returns when builds are taken."""
    rota("agent", "--data", str(data), "--daemon", "--slots", str(SLOTS))


def found(data: Path) -> Agent:
    """Return the agent that runs in ``data``."""
    engine = json.loads((data / "engine" / "engine.json").read_text())
    return Agent(
        data, int((data / "agent.pid").read_text()), int(engine["own"]["process"]["number"])
    )


def stop(agent: Agent) -> None:
    """End an agent and what it runs; by force if it does not obey."""
    try:
        _cancel_all(agent)
        rota("--data", str(agent.data), "stop")
    except (OSError, RefusedError, subprocess.CalledProcessError) as error:
        print(f"bench: {agent.data} does not stop ({error}): it is killed", file=sys.stderr)
        for pid in (agent.daemon, agent.engine):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _cancel_all(agent: Agent) -> None:
    with agent.connect() as connection:
        while builds := connection.call("GET", "/v1/builds?state=queued&limit=1000"):
            for build in builds:
                with contextlib.suppress(RefusedError):
                    connection.call("POST", f"/v1/builds/{build['id']}/cancel")
        for build in connection.call("GET", "/v1/builds?state=live&limit=1000"):
            with contextlib.suppress(RefusedError):
                connection.call("POST", f"/v1/builds/{build['id']}/cancel")
        while connection.unfinished():
            time.sleep(0.05)


def rota(*arguments: str) -> None:
    """Run the command line; what it prints is shown only if it fails.

    Raises:
        CalledProcessError: it failed.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("ROTA_")}
    done = subprocess.run(
        [ROTA, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        done.check_returncode()
