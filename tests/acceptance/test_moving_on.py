"""Three agents, and commands that do not notice more than a pause when theirs is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import ROTA, Daemon, is_alive, wait_until

from rota.client import Client

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.fault]

LINES = 250
LONG = f"""\
# /// script
# [tool.rota]
# labels = "agent=c"
# ///
for i in $(seq {LINES}); do echo line $i; sleep 0.02; done
"""
WHOLE = "".join(f"line {number}\n" for number in range(1, LINES + 1))
PATIENCE_S = 60


class Cluster:
    """Agents ``a``, ``b`` and ``c``, as three machines would be."""

    def __init__(self, folder: Path) -> None:
        self.agents = {name: Daemon(folder / name, "--name", name) for name in "abc"}
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}

    def form(self) -> None:
        """Make them a cluster, with the commands that a person types; return with three voters."""
        first = self.agents["a"]
        said = first.ok("agent", "--name", "a", "--slots", "4", "--daemon", "--invite")
        token = said.split()[-1]
        for name in "bc":
            self.agents[name].ok("join", token, "--name", name, "--slots", "4")
        wait_until("one may fail", lambda: first.json("status")["tolerates"] == 1, PATIENCE_S)

    def start(self, name: str, out: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a command that asks agent ``name``, its output to ``out`` and ``out``.err."""
        env = {**self.env, "ROTA_DATA": str(self.agents[name].data)}
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            return subprocess.Popen([str(ROTA), *words], env=env, stdout=stdout, stderr=stderr)

    def revive(self, name: str, pid: int, how: signal.Signals) -> None:
        """Bring an agent back after a signal, and return once one may fail again."""
        agent = self.agents[name]
        if how is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        else:
            wait_until("it is gone", lambda: not is_alive(pid))
            agent.start()
        wait_until("one may fail", lambda: agent.json("status")["tolerates"] == 1, PATIENCE_S)

    def end(self) -> None:
        with contextlib.ExitStack() as stack:
            for agent in self.agents.values():
                stack.callback(agent.run, "stop")
            for build in json.loads(self.agents["c"].run("ps", "--json").stdout or "[]"):
                self.agents["c"].run("cancel", build["id"])
                self.agents["c"].run("show", build["id"], "--wait", "20")


def sequences(lines: str) -> list[int]:
    return [json.loads(line)["seq"] for line in lines.splitlines()]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.form()
        cluster.agents["a"].add("long", LONG)
        cluster.agents["a"].add("quick", "echo hi\n")
        yield cluster
    finally:
        cluster.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_what_is_followed_goes_on_when_its_agent_is_gone(
    cluster: Cluster, how: signal.Signals, tmp_path: Path
) -> None:
    a, b = cluster.agents["a"], cluster.agents["b"]
    log, done, events = tmp_path / "log", tmp_path / "done", tmp_path / "events"
    pid = a.pid
    following = cluster.start("a", log, "run", "long", "-f")
    waiting = cluster.start("a", done, "run", "long", "--wait", "--json")
    watching = cluster.start(
        "a", events, "events", "-f", "--after", "0", "--json", "--kind", "build.*"
    )
    try:
        wait_until("the log begins", lambda: log.stat().st_size)
        wait_until("the events begin", lambda: events.stat().st_size)
        os.kill(pid, how)
        assert following.wait(PATIENCE_S) == 0
        assert log.read_text() == WHOLE
        told = [it for it in log.with_suffix(".err").read_text().splitlines() if "rota:" in it]
        assert told in (
            ["rota: a does not answer; going on at b"],
            ["rota: a does not answer; going on at c"],
        )
        assert waiting.wait(PATIENCE_S) == 0
        assert json.loads(done.read_text())["result"] == "passed"
        wanted = b.ok("events", "--after", "0", "--kind", "build.*", "-n", "1000", "--json")
        wait_until("all events", lambda: events.stat().st_size >= len(wanted.encode()))
        assert sequences(events.read_text()) == sequences(wanted)
    finally:
        for process in (following, waiting, watching):
            process.kill()
            process.wait()
        cluster.revive("a", pid, how)


def test_triggers_are_taken_once_while_agents_are_killed_one_after_another(
    cluster: Cluster,
) -> None:
    client = Client.find(data=str(cluster.agents["a"].data), env={})
    client.patience_s = PATIENCE_S
    builds = []
    for name in "ab":
        builds += [client.run("quick")["id"] for _ in range(5)]
        pid = cluster.agents[name].pid
        cluster.agents[name].kill()
        builds += [client.run("quick")["id"] for _ in range(5)]
        cluster.revive(name, pid, signal.SIGKILL)
    assert all(client.wait(build)["result"] == "passed" for build in builds)
    assert len(set(builds)) == 20
    assert len(client.call("builds", job="quick", limit=100).json()) == 20
