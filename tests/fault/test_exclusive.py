"""Attempts with a lease: nothing of them runs on when nobody renews it any more."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.harness.attempts import Attempts, is_running, marked, shells, until

from rota.adapters.process import ProcessExecutor
from rota.adapters.process.attempt import Attempt
from rota.homes.guard import moment
from rota.ports.executor import Task

pytestmark = pytest.mark.fault

LEASE_S = 1.0
#: More than killing takes, and less than what is left of `lost_after` at a lease's end.
GENEROUS_S = 2.0

MARKS = (
    'mark() { while :; do read -r up rest </proc/uptime; echo "$up" >>"$1"; sleep 0.05; done; }\n'
)
SCRIPTS = {
    "plain": "mark marks",
    "deaf": "trap '' TERM INT HUP QUIT; mark marks",
    "with children in sessions of their own": "trap '' TERM\n"
    'setsid sh -c "$MARKS mark escaped" & setsid sh -c "$MARKS mark orphaned" >/dev/null 2>&1 &\n'
    "mark marks",
    "ended, and left something": 'setsid sh -c "$MARKS mark marks" & until [ -s marks ]; do :; done',
    "without its supervisor": "kill -9 $PPID; mark marks",
    "with its supervisor stopped": "kill -STOP $PPID; mark marks",
}

#: Starts tasks and renews their leases like a daemon that is heard, until something ends it.
DAEMON = """
import asyncio, sys
from pathlib import Path
from rota.adapters.process import ProcessExecutor
from rota.ports.executor import Task
import msgspec

async def main():
    words = msgspec.json.decode(sys.stdin.buffer.read(), type=dict)
    executor = ProcessExecutor(shell=words["shell"])
    running = []
    for task in words["tasks"]:
        task |= dict(home=Path(task["home"]), argv=tuple(task["argv"]), cwd=Path(task["cwd"]))
        task["lease_until"] = executor.moment() + 60
        running.append(await executor.start(Task(**task)))
    while True:
        for each in running:
            each.renew(executor.moment() + words["lease_s"])
        print("renewed", flush=True)
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


@pytest.fixture
async def attempts(tmp_path: Path) -> AsyncIterator[Attempts]:
    attempts = Attempts(tmp_path)
    yield attempts
    await attempts.close()
    await until(lambda: guards(tmp_path) == [])


def guards(root: Path) -> list[int]:
    """Return the guards of attempts under ``root``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "-c" in words and any(word.startswith(f"{root}/") for word in words):
            found.append(int(entry.name))
    return [pid for pid in found if is_running(pid)]


@contextmanager
def daemon(
    *tasks: Task, shell: tuple[str, ...] = ("/bin/sh",), lease_s: float = LEASE_S
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that runs ``tasks`` and has renewed their leases."""
    source = str(Path(__file__).parents[2] / "src")
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:
        assert process.stdin
        assert process.stdout
        plain = [msgspec.structs.asdict(task) for task in tasks]
        words = {"tasks": plain, "shell": shell, "lease_s": lease_s}
        process.stdin.write(msgspec.json.encode(words, enc_hook=str))
        process.stdin.close()
        try:
            assert process.stdout.readline() == b"renewed\n"
            yield process
        finally:
            process.kill()


def marking(attempts: Attempts, script: str) -> Task:
    path = "/usr/local/bin:/usr/bin:/bin"
    task = attempts.task(MARKS + script)
    return replace(task, env={**task.env, "PATH": path, "MARKS": MARKS})


def last_mark(task: Task) -> float:
    """Return the last moment at which something of the attempt ran."""
    marks = [task.home / name for name in ("marks", "escaped", "orphaned")]
    lines = [line for file in marks if file.exists() for line in file.read_text().splitlines()]
    return max(float(line) for line in lines[:-1] or lines)


async def nothing_runs(task: Task) -> None:
    await until(lambda: (task.home / "expired").exists())
    await until(lambda: marked(task.marker) == [])


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_nothing_runs_on_without_its_daemon(
    attempts: Attempts, death: signal.Signals
) -> None:
    tasks = {name: marking(attempts, script) for name, script in SCRIPTS.items()}
    with daemon(*tasks.values()) as process:
        for task in tasks.values():
            await until((task.home / "marks").exists)
        process.send_signal(death)
        good_until = moment() + LEASE_S
        for task in tasks.values():
            await nothing_runs(task)
        last = {name: last_mark(task) - good_until for name, task in tasks.items()}
        assert {name for name, late_s in last.items() if late_s > GENEROUS_S} == set()
        await until(lambda: guards(attempts.root) == [])


@pytest.mark.parametrize("shell", shells().values(), ids=list(shells()))
async def test_a_later_daemon_is_told_that_the_lease_ran_out(
    attempts: Attempts, shell: tuple[str, ...]
) -> None:
    task = marking(attempts, "mark marks")
    with daemon(task, shell=shell) as process:
        await until((task.home / "marks").exists)
        process.kill()
    await nothing_runs(task)
    adopted = await attempts.executor.adopt(task)
    ended = await attempts.outcome(adopted)
    assert (ended.code, ended.signal, ended.expired) == (137, 9, True)
    assert not adopted.renew(moment() + 60)
    await adopted.terminate(0)


async def test_a_stopped_daemon_that_goes_on_is_told_too(attempts: Attempts) -> None:
    task, running = await start(attempts, "mark marks")
    await nothing_runs(task)
    ended = await attempts.outcome(running)
    assert (ended.signal, ended.oom_killed, ended.expired) == (9, False, True)


async def test_a_daemon_that_comes_back_in_time_keeps_the_attempt(attempts: Attempts) -> None:
    task = marking(attempts, "until [ -e go ]; do sleep 0.05; done; exit 42")
    with daemon(task, lease_s=3.0) as process:
        process.kill()
    former_end = moment() + 3.0
    adopted = await ProcessExecutor().adopt(task)
    assert adopted.renew(moment() + 60)
    await until(lambda: moment() > former_end + 0.6)
    assert adopted.renew(moment() + 60)
    (task.home / "go").touch()
    ended = await attempts.outcome(adopted)
    await adopted.terminate(0)
    assert (ended.code, ended.expired) == (42, False)


async def test_an_outcome_from_before_the_lease_ran_out_stands(attempts: Attempts) -> None:
    task = marking(attempts, 'setsid sh -c "$MARKS mark marks" & exit 3')
    with daemon(task) as process:
        process.kill()
    await nothing_runs(task)
    ended = await attempts.outcome(await attempts.executor.adopt(task))
    assert (ended.code, ended.expired) == (3, False)


async def start(attempts: Attempts, script: str, for_s: float = LEASE_S) -> tuple[Task, Attempt]:
    task = replace(marking(attempts, script), lease_until=moment() + for_s)
    return task, await attempts.executor.start(task)


async def test_a_fork_bomb_is_ended_by_its_guard(attempts: Attempts) -> None:
    task, running = await start(
        attempts,
        "trap '' TERM; b() { [ $1 -gt 5 ] && exec sleep 600; b $(($1+1)) & b $(($1+1)) & wait; }\n"
        "b 0 & while :; do sleep 0.01 & done",
    )
    await nothing_runs(task)
    assert (await attempts.outcome(running)).expired


async def test_a_script_that_removes_its_home_is_ended_all_the_same(attempts: Attempts) -> None:
    task, running = await start(attempts, 'rm -rf "$ROTA_ATTEMPT"; exec sleep 600')
    await until(lambda: not task.home.exists())
    assert not running.renew(moment() + 60)
    await until(lambda: marked(task.marker) == [])
    await attempts.outcome(running)
    await until(lambda: guards(attempts.root) == [])


async def test_a_killed_guard_is_noticed_at_the_next_renewal(attempts: Attempts) -> None:
    task, running = await start(attempts, "exec sleep 600", for_s=600)
    assert running.renew(moment() + 600)
    for pid in guards(attempts.root):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not running.renew(moment() + 600))
    await running.terminate(0)
    assert (await attempts.outcome(running)).expired is False
    assert marked(task.marker) == []


async def test_a_guard_is_let_go_with_the_attempt(attempts: Attempts) -> None:
    _, running = await start(attempts, "exit 3", for_s=600)
    assert (await attempts.outcome(running)).code == 3
    assert len(guards(attempts.root)) == 1
    await running.terminate(0)
    await until(lambda: guards(attempts.root) == [])


async def test_without_a_lease_there_is_no_guard(attempts: Attempts) -> None:
    task, _ = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    assert guards(attempts.root) == []
    assert not (task.home / "lease").exists()


async def test_a_guard_that_is_asked_to_end_stays(attempts: Attempts) -> None:
    _, running = await start(attempts, "exec sleep 600", for_s=600)
    for pid in guards(attempts.root):
        os.kill(pid, signal.SIGTERM)
    assert running.renew(moment() + LEASE_S)
    assert (await attempts.outcome(running)).expired
