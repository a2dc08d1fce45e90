"""Jobs that attack the agent they run on: what they cannot do, and what is left of what they can."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.acceptance.test_isolation import set_to
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.joined import script

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
        set_to(running, tmp_path_factory.mktemp("git"), "", '[logs]\nmax_build = "256K"\n')
        yield running


def ran(agent: Daemon, name: str, body: str, header: str = "") -> tuple[Any, str]:
    """Return a build of a job to its end, and its log."""
    agent.add(name, script(header) + body)
    agent.run("run", name, "--wait")
    return agent.build(f"{name}#1"), agent.ok("log", f"{name}#1")


def works(agent: Daemon) -> None:
    """Fail unless the agent still runs what it is given."""
    build, log = ran(agent, f"fine-{len(agent.json('builds'))}", "echo fine")
    assert (build["result"], log) == ("passed", "fine\n")


@pytest.mark.parametrize(
    "flood",
    ["yes", "tr '\\0' x </dev/zero", "yes '::add-mask::hunter 22'", "base64 -w0 /dev/urandom"],
    ids=["lines", "one-line", "commands", "noise"],
)
def test_who_prints_without_end_is_ended(agent: Daemon, flood: str) -> None:
    name = f"flood-{len(agent.json('builds'))}"
    build, _ = ran(agent, name, f"trap '' TERM\n{flood}")
    assert (build["result"], build["reason"]) == ("failed", "too-much-output")
    assert build["log_bytes"] == 256 * 1024  # what it printed while it was ended is no part of it
    assert "printed more than a log may have (`max_build` of [logs]" in agent.ok("why", name)


def test_a_build_is_the_first_to_go_when_memory_runs_out(agent: Daemon) -> None:
    _, log = ran(agent, "badness", "cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn")
    badness, soft, hard = log.split()
    assert int(badness) >= 500
    for pid in (agent.pid, agent.engine_pid):
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) < int(badness)
    # The daemon takes more descriptors for itself; a build has what this process was given.
    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert int(soft) in (given[0], 16_384)
    own = psutil.Process(agent.pid).rlimit(psutil.RLIMIT_NOFILE)[0]
    assert own >= min(16_384, given[1]) or given[1] == resource.RLIM_INFINITY
    assert hard in (str(given[1]), "unlimited")


def test_who_takes_all_descriptors_takes_them_from_itself(agent: Daemon) -> None:
    eat = "exec python3 -c '\nimport os\nn = 0\ntry:\n  while True: os.dup(1); n += 1\nexcept OSError as e: print(e.strerror)'"
    build, log = ran(agent, "descriptors", eat)
    assert (build["result"], log) == ("passed", "Too many open files\n")


def test_who_kills_his_supervisor_is_lost_and_nothing_of_him_is_left(agent: Daemon) -> None:
    build, _ = ran(agent, "orphan", "kill -9 $PPID; sleep 0.1")
    assert build["state"] == "finished"
    assert build["result"] in ("lost", "failed", "errored")
    wait_until("its processes are gone", lambda: not processes_of(build["id"]))


def processes_of(build: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ROTA_BUILD") == build or build in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_who_kills_the_engine_is_recorded_all_the_same(agent: Daemon) -> None:
    engine = agent.engine_pid
    build, log = ran(agent, "engine", f"kill -9 {engine}; echo did it")
    assert (build["result"], log) == ("passed", "did it\n")
    assert agent.engine_pid != engine
    works(agent)


def test_who_kills_the_daemon_is_found_again_by_the_next(agent: Daemon) -> None:
    pid = agent.pid
    agent.add("daemon", script("") + f"kill -9 {pid}; echo did it; sleep 0.2; exit 3")
    agent.run("run", "daemon")
    wait_until("it is gone", lambda: not psutil.pid_exists(pid) or is_zombie(pid))
    agent.start()
    build = agent.until("daemon#1", "finished")
    assert (build["result"], build["exit_code"], build["attempt"]) == ("failed", 3, 1)
    assert agent.ok("log", "daemon#1") == "did it\n"


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


#: What the settings of docs/isolation.md for other people's code say.
STRICT = """\
user = "nobody"
network = "none"
isolation = { no_new_privs = true, private_tmp = true, private_pids = true }
resources = { memory = "128M", pids = 40 }"""

ATTACKS = """\
d=$(dirname "$ROTA_SOCKET")/..
try() { echo "$1: $( (shift; "$@") 2>&1 | tr '\\n' ' ' | cut -c1-300)"; }
try token cat $d/token
try keys ls $d/tls
try store ls $d/store.git
try write sh -c "echo x >$d/jobs"
try script sh -c "echo x >>$d/scripts/*"
try others sh -c "ls $d/builds | grep -v $ROTA_BUILD"
try socket ls $d/rota.sock
try signal sh -c "kill -9 DAEMON ENGINE || echo no"
try trace cat /proc/DAEMON/mem
try host ls /tmp/HIDDEN
try root sh -c "cat /etc/shadow || echo no"
try net sh -c "echo >/dev/tcp/127.0.0.1/PORT || echo no"
(setsid sh -c 'exec env -i sleep 4321' </dev/null >/dev/null 2>&1 &)
bomb() { bomb | bomb & }
bomb 2>/dev/null
python3 -c 'x = bytearray(1 << 30)' 2>/dev/null; echo memory: $?
sleep 0.5
echo over
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only an agent of root runs builds as others")
def test_what_a_confined_build_is_kept_from(agent: Daemon, tmp_path: Path) -> None:
    needed = {"can-set-user", "can-cut-network", "can-private-pids", "can-limit-pids"}
    missing = needed - agent.json("agents")[0]["labels"].keys()
    if missing:
        pytest.skip(f"this machine cannot: {', '.join(sorted(missing))}")
    url = agent.json("agents")[0]["url"]
    body = ATTACKS.replace("DAEMON", str(agent.pid)).replace("ENGINE", str(agent.engine_pid))
    body = body.replace("PORT", url.rpartition(":")[2]).replace("/tmp/HIDDEN", str(tmp_path))
    daemon_pid, engine_pid = agent.pid, agent.engine_pid
    build, log = ran(
        agent, "eve", body.replace('sh -c "echo >/dev/tcp', 'bash -c "echo >/dev/tcp'), STRICT
    )
    said = dict(line.partition(": ")[::2] for line in log.splitlines() if ": " in line)
    assert build["state"] == "finished", log
    for what in ("token", "keys", "store", "socket", "host"):
        assert "No such file or directory" in said[what], log
    for what in ("write", "script", "trace"):
        assert said[what].strip(), log  # in whatever words
        assert (
            "No such file" in said[what]
            or "denied" in said[what]
            or "ermission" in said[what]
            or "Read-only" in said[what]
        ), log
    assert said["others"].strip() == "", log
    for what in ("signal", "root", "net"):
        assert said[what].rstrip().endswith("no"), log
    assert (agent.pid, agent.engine_pid) == (daemon_pid, engine_pid)
    wait_until(
        "nothing is left",
        lambda: (
            not any(
                process.info["cmdline"] == ["sleep", "4321"]
                for process in psutil.process_iter(["cmdline"])
            )
        ),
    )
    works(agent)
