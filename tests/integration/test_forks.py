"""The fork server: that builds do not wait for it, nor for one that is gone, stopped or too old."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.attempts import Attempts, is_running, marked, until

from rota.adapters.process import forks as module
from rota.adapters.process import proc
from rota.adapters.process import supervisor as line
from rota.adapters.process.forks import Forks


@pytest.fixture
async def forks() -> AsyncIterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()
    await until(lambda: not forks.pid)


@pytest.fixture
async def attempts(tmp_path: Path, forks: Forks) -> AsyncIterator[Attempts]:
    attempts = Attempts(tmp_path, forks=forks)
    yield attempts
    await attempts.close()


def is_forked(supervisor: int) -> bool:
    return any(word.endswith("forkserver.py") for word in proc.arguments(supervisor))


async def test_the_first_build_does_not_wait_for_the_server(attempts: Attempts) -> None:
    task, running = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    assert not is_forked(attempts.supervisor(task))
    assert attempts.forks
    await attempts.forks.ready()
    later, second = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    assert is_forked(attempts.supervisor(later))
    assert os.getppid() != os.getpid() == ppid(attempts.supervisor(later))
    await running.terminate(0)
    await second.terminate(0)


def ppid(pid: int) -> int:
    process = proc.look(pid)
    assert process
    return process.ppid


async def test_what_only_sh_can_do_is_left_to_it(attempts: Attempts, forks: Forks) -> None:
    await forks.ready()
    for task in (
        attempts.task("exec sleep 600", stdin=True),
        attempts.task("exec sleep 600", env={f"A{i}": "x" * 100_000 for i in range(5)}),
    ):
        running = await attempts.executor.start(task)
        await until(lambda: running.pid)  # noqa: B023
        assert not is_forked(attempts.supervisor(task))
        await running.terminate(0)


async def test_attempts_outlive_the_server_and_another_comes(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    task, running = await attempts.start("echo up; until [ -e go ]; do sleep 0.01; done; exit 9")
    first = forks.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: not forks.pid)
    assert (await attempts.run("exit 3"))[0].code == 3
    await forks.ready()
    assert forks.pid != first
    assert (await attempts.run("exit 4"))[0].code == 4
    (task.home / "go").touch()
    assert (await attempts.outcome(running)).code == 9


async def test_a_server_that_does_not_answer_is_ended_and_its_build_runs_once(
    attempts: Attempts, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    await forks.ready()
    stopped = forks.pid
    os.kill(stopped, signal.SIGSTOP)
    ended, log = await attempts.run("echo once; exit 5")
    assert (ended.code, log) == (5, b"once\n")
    await until(lambda: not is_running(stopped))


async def test_a_supervisor_that_was_forked_unheard_is_found(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    task = attempts.task("echo once; until [ -e go ]; do sleep 0.01; done; exit 6")
    starting = asyncio.ensure_future(attempts.executor.start(task))
    await until(lambda: (task.home / "pid").exists())
    # By the loop's next turn the answer is there; it is as if the server had ended before it.
    if not starting.done():
        forks.close()
    running = await starting
    (task.home / "go").touch()
    assert (await attempts.outcome(running)).code == 6
    assert attempts.log(task) == b"once\n"


async def test_a_supervisor_attends_one_attempt_after_the_other(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    seen = []
    for code in (0, 7, 9):
        ended, log = await attempts.run(f"echo $PPID; exit {code}")
        assert (ended.code, ended.signal) == (code, None)
        seen.append(int(log))
    ended, log = await attempts.run("echo $PPID; kill -9 $$")
    assert ended.signal == signal.SIGKILL
    assert {*seen, int(log)} == {seen[0]}
    before = set(os.listdir(f"/proc/{seen[0]}/fd"))
    await attempts.run("true")
    assert set(os.listdir(f"/proc/{seen[0]}/fd")) == before


@pytest.mark.parametrize(
    "leaving",
    [
        "sleep 600 &",
        "(setsid sleep 600 &) >/dev/null 2>&1",
        "env -i setsid sh -c 'sleep 600 & sleep 600' &",
    ],
)
async def test_one_that_left_something_has_no_second_attempt_after_it(
    attempts: Attempts, forks: Forks, leaving: str
) -> None:
    await forks.ready()
    ended, first = await attempts.run(f"echo $PPID; {leaving}\nexit 3")
    assert ended.code == 3
    assert marked(f"ROTA_ATTEMPT={attempts.root}/home0") == []
    ended, second = await attempts.run("echo $PPID")
    assert first != second
    await until(lambda: not is_running(int(first)))


async def test_who_was_orphaned_and_has_ended_is_nothing_that_is_left(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    orphan = "sh -c '(sleep 0.01; echo orphan) &'; until [ \"$(cat ../home0/log | wc -l)\" = 2 ]; do sleep 0.01; done"
    _, log = await attempts.run(f"echo $PPID; {orphan}")
    assert log.endswith(b"orphan\n")
    supervisor = int(log.split()[0])
    assert proc.look(supervisor)
    _, log = await attempts.run("echo $PPID")
    assert int(log) == supervisor


async def test_a_supervisor_that_is_killed_takes_no_other_outcome_along(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    assert (await attempts.run("exit 3"))[0].code == 3
    assert not (await attempts.run("kill -9 $PPID; sleep 0.05"))[0].known
    assert (await attempts.run("exit 4"))[0].code == 4


async def test_an_attempt_is_over_although_its_supervisor_attends_another(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    over, first = await attempts.start("exit 3")
    await first.wait()  # its daemon dies before it has recorded this
    task, second = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    assert attempts.supervisor(over) == attempts.supervisor(task)
    later = await attempts.executor.adopt(over)
    assert (await attempts.outcome(later)).code == 3
    await later.terminate(0)
    assert is_running(second.pid)
    await second.terminate(0)


async def test_an_attempt_outlives_who_asked_its_supervisor(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    assert (await attempts.run("true"))[0].code == 0
    task, _ = await attempts.start("echo up; until [ -e go ]; do sleep 0.01; done; exit 6")
    supervisor = attempts.supervisor(task)
    attempts.executor.close()
    later = await Attempts(attempts.root).executor.adopt(task)
    (task.home / "go").touch()
    assert (await attempts.outcome(later)).code == 6
    await until(lambda: not is_running(supervisor))
    await later.terminate(0)


async def test_a_waiting_supervisor_that_is_stopped_is_ended_and_its_build_runs_once(
    attempts: Attempts, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "ANSWER_S", 0.05)
    await forks.ready()
    _, log = await attempts.run("echo $PPID")
    os.kill(int(log), signal.SIGSTOP)
    ended, said = await attempts.run("echo once; exit 5")
    assert (ended.code, said) == (5, b"once\n")
    await until(lambda: not is_running(int(log)))


async def test_a_waiting_supervisor_that_was_killed_is_not_asked(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    _, log = await attempts.run("echo $PPID")
    os.kill(int(log), signal.SIGKILL)
    ended, said = await attempts.run("echo once; exit 5")
    assert (ended.code, said) == (5, b"once\n")


async def test_supervisors_that_nobody_asks_end_with_the_server(tmp_path: Path) -> None:
    forks = Forks(idle_s=0.2)
    attempts = Attempts(tmp_path, forks=forks)
    await forks.ready()
    _, log = await attempts.run("echo $PPID")
    await until(lambda: not forks.pid)
    await until(lambda: not Path(f"/proc/{int(log)}").exists())
    await attempts.close()


async def test_a_machine_where_it_does_not_work_has_builds_all_the_same(
    attempts: Attempts,
    forks: Forks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_PROGRAM", str(attempts.root / "nothing.py"))
    for _ in range(5):
        assert (await attempts.run("exit 3"))[0].code == 3
        await until(lambda: not forks.pid)
    assert caplog.text.count("the fork server does not work here: builds are started by sh") == 1


async def test_a_server_that_nobody_asks_ends(tmp_path: Path) -> None:
    forks = Forks(idle_s=0.05)
    await forks.ready()
    server = forks.pid
    await until(lambda: not forks.pid)
    assert not is_running(server)


async def test_the_server_ends_with_its_daemon_and_leaves_attempts_alone(
    attempts: Attempts, forks: Forks
) -> None:
    await forks.ready()
    server = forks.pid
    task, running = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    attempts.executor.close()
    await until(lambda: not is_running(server))
    assert is_running(attempts.supervisor(task))
    with pytest.raises(asyncio.CancelledError):
        await running.wait()
