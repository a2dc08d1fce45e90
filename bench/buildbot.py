"""A Buildbot beside which rota is measured: master and worker on this machine, from PyPI, in a venv of its own.

Its configuration is the one of its own tutorial, but for what would be unfair to it: requests are not merged, so
each trigger is a build; four builds run at a time, as with rota; there is no source step and no polling. Its
database is SQLite, which is its default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import usage

VERSION = "4.3.0"
PACKAGES = [f"buildbot[bundle]=={VERSION}", f"buildbot-worker=={VERSION}"]
SLOTS = 4
PATIENCE_S = 900.0
#: On a busy machine it ends a connection in the middle of an answer now and then.
READS = 5

_CONFIG = """
from buildbot.plugins import schedulers, steps, util, worker
jobs = {jobs!r}
c = BuildmasterConfig = {{
    "workers": [worker.Worker("here", "pass", max_builds={slots})],
    "protocols": {{"pb": {{"port": "tcp:{pb}:interface=127.0.0.1"}}}},
    "schedulers": [schedulers.ForceScheduler(name=name, builderNames=[name]) for name in jobs],
    "builders": [
        util.BuilderConfig(
            name=name,
            workernames=["here"],
            factory=util.BuildFactory([steps.ShellCommand(command=[script])]),
            collapseRequests=False,
        )
        for name, script in jobs.items()
    ],
    "www": {{"port": "tcp:{www}:interface=127.0.0.1"}},
    "db": {{"db_url": "sqlite:///state.sqlite"}},
    "buildbotNetUsageData": None,
    "title": "bench", "titleURL": "http://127.0.0.1/", "buildbotURL": "http://127.0.0.1:{www}/",
}}
"""


def installed() -> Path:
    """Return the folder of its programs; installed on first use, which takes a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    venv = cache / "rota-bench" / f"buildbot-{VERSION}"
    if not (venv / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "-q", *PACKAGES], check=True)
        (venv / "complete").touch()
    return venv / "bin"


@dataclasses.dataclass(frozen=True)
class Buildbot:
    """A running master with its worker."""

    port: int
    master: int
    worker: int

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer's JSON.

        Raises:
            RuntimeError: it was refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(
                method, f"/api/v2/{path}", data, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"buildbot: {method} {path}: {answer.status} {text[:200]!r}")
        return json.loads(text)

    def run(self, job: str) -> int:
        """Trigger a build; return the number of what was asked for."""
        body = {"jsonrpc": "2.0", "method": "force", "id": 1, "params": {}}
        return int(self.call("POST", f"forceschedulers/{job}", body)["result"][0])

    def wait(self, request: int) -> None:
        """Return once what was asked for has passed.

        Raises:
            RuntimeError: it did not.
        """
        while True:
            (found,) = self.call("GET", f"buildsets/{request}")["buildsets"]
            if found["complete"]:
                break
            time.sleep(0.005)
        if found["results"] != 0:
            raise RuntimeError(f"buildbot: {found}")

    def unfinished(self) -> int:
        """Return how much of what was asked for is not complete."""
        answer = self.call("GET", "buildsets?complete=false&field=bsid&field=complete")
        return len(answer["buildsets"])

    def cpu_ms(self) -> float:
        """Return what both used so far, with their ended children."""
        return usage.whole_cpu(self.master) + usage.whole_cpu(self.worker)

    def pss_mb(self) -> float:
        """Return the memory of both."""
        return usage.pss_mb(self.master) + usage.pss_mb(self.worker)


@contextlib.contextmanager
def running(folder: Path, jobs: dict[str, str]) -> Iterator[tuple[Buildbot, float]]:
    """Start one whose builders run scripts, by their paths; yield it, and the seconds until it was ready."""
    programs = installed()
    folder.mkdir()
    www, pb = _free_port(), _free_port()
    _run(programs / "buildbot", "create-master", "-r", str(folder / "master"))
    config = _CONFIG.format(jobs=jobs, slots=SLOTS, www=www, pb=pb)
    (folder / "master/master.cfg").write_text(config)
    worker = [str(folder / "worker"), f"127.0.0.1:{pb}", "here", "pass"]
    _run(programs / "buildbot-worker", "create-worker", "--maxdelay=1", *worker)
    began = time.perf_counter()
    try:
        _run(programs / "buildbot", "start", "--start_timeout=300", str(folder / "master"))
        # It may say that it waited for too long: whether it is there is asked of the master.
        words = [str(programs / "buildbot-worker"), "start", str(folder / "worker")]
        subprocess.run(words, capture_output=True, check=False)
        found = Buildbot(www, _pid(folder / "master"), _pid(folder / "worker"))
        while not any(w["connected_to"] for w in found.call("GET", "workers")["workers"]):
            time.sleep(0.02)
        yield found, time.perf_counter() - began
    finally:
        for name in ("worker", "master"):
            _end(folder / name)


def _pid(folder: Path) -> int:
    return int((folder / "twistd.pid").read_text())


def _end(folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        pid = _pid(folder)
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def _run(*words: object) -> None:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
