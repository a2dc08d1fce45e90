"""What every executor promises: real processes, containers of a real engine, and their in-memory twin."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace
from tests.harness import engines

from rota.adapters.docker import session as docker_session
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.process import ProcessExecutor
from rota.adapters.process import session as process_session
from rota.adapters.process.confiner import confiner_of
from rota.adapters.process.forks import Forks
from rota.adapters.scripted import Plan, ScriptedExecutor
from rota.core.confinement import ABILITIES, Confinement
from rota.core.resources import Resources
from rota.errors import ConflictError, ExecutionError
from rota.homes.pipe import reader
from rota.ports.executor import Container, Task
from rota.ports.session import Session, Tty


class Behaviour(NamedTuple):
    """The same story twice: as a script, and as a plan."""

    script: str
    plan: Plan
    mode: int = 0o755


QUIET = Behaviour("true", Plan())
FAILING = Behaviour("printf 'oh\\n'; exit 42", Plan(output=b"oh\n", code=42))
KILLED = Behaviour("kill -9 $$", Plan(code=137, signal=9))
HANGING = Behaviour("printf up; exec sleep 600", Plan(output=b"up", hangs=True))
STUBBORN = Behaviour(
    "trap '' TERM; printf up; while :; do sleep 600; done",
    Plan(output=b"up", hangs=True, ignores_term=True),
)
READING = Behaviour("cat >/dev/null; exit 3", Plan(code=3, hangs=True))
#: What empties a file that is a script's output.
TRUNCATING = Behaviour(
    "echo start; echo err >/dev/stderr; (echo out) >/dev/stdout; echo fd >/proc/self/fd/1; "
    ": >/dev/stdout; echo both >/dev/stdout 2>/dev/stderr; echo more >>/dev/stderr; "
    "sh -c 'exec >/dev/stdout; exec 2>/dev/stderr; echo again >&2'; echo end",
    Plan(output=b"start\nerr\nout\nfd\nboth\nmore\nagain\nend\n"),
)
LARGE = Behaviour("head -c 20000000 /dev/zero; exit 8", Plan(output=bytes(20_000_000), code=8))
LEAVING = Behaviour("(trap '' TERM; sleep 600) & echo up; exit 3", Plan(output=b"up\n", code=3))
WAITING = Behaviour(
    "echo up; while ! [ -e go ]; do sleep 0.01; done; echo end",
    Plan(output=b"up\nend\n", hangs=True),
)
REFUSED = Behaviour("true", Plan(refusal="the script is not executable"), mode=0o644)


class Bench:
    """Starts behaviours on one executor, and ends what is left of them."""

    def __init__(
        self,
        kind: str,
        root: Path,
        container: Container | None,
        engine: Engine,
        forks: Forks | None = None,
    ) -> None:
        self._forks = forks
        self.is_forked = forks is not None
        self._root = root
        self._container = container
        self._engine = engine
        self._confinement: Confinement | None = None
        self._behaviours: dict[Path, Behaviour] = {}
        self._tasks: list[Task] = []
        self.executor = self._made(kind)

    def _made(self, kind: str) -> Any:
        if kind == "scripted":
            return ScriptedExecutor(lambda task: self._behaviours[task.home].plan)
        if kind == "docker":
            return ContainerExecutor(self._engine, self._root / "carried")
        if kind in ("process", "forked"):
            return ProcessExecutor(sweep_interval_s=0.02, forks=self._forks)
        confiner = confiner_of(self._root)
        self._root = self._root / "builds"
        self._root.mkdir()
        self._confinement = all_that_is_possible(
            confiner.labels().keys(), has_pids=kind == "its own pids"
        )
        return ProcessExecutor(sweep_interval_s=0.02, confiner=confiner)

    def task(self, behaviour: Behaviour, *, stdin: bool = False) -> Task:
        home = self._root / str(len(self._tasks))
        home.mkdir()
        script = home / "script"
        script.write_text(f"#!/bin/sh\n{behaviour.script}\n")
        script.chmod(behaviour.mode)
        self._behaviours[home] = behaviour
        marker = f"ROTA_BUILD={home}"
        env = {"PATH": "/usr/bin:/bin", "ROTA_BUILD": str(home)}
        task = Task(
            home=home,
            argv=(str(script),),
            cwd=home,
            env=env,
            stdin=stdin,
            marker=marker,
            confinement=self._confinement,
            container=self._container,
        )
        self._tasks.append(task)
        return task

    async def until_printed(self, task: Task, text: bytes) -> None:
        async with asyncio.timeout(20):
            while not (task.home / "log").exists() or text not in (task.home / "log").read_bytes():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        for task in self._tasks:
            running = await self.executor.adopt(task)
            await running.terminate(0)
            await asyncio.wait_for(running.wait(), 20)
        if isinstance(self.executor, ProcessExecutor):
            self.executor.close()
        if isinstance(self.executor, ContainerExecutor):
            await self.executor.close()
        await self._engine.close()


def all_that_is_possible(labels: Collection[str], *, has_pids: bool) -> Confinement:
    """Return as much confinement as this machine allows, but for the user."""
    can = {name for name, label in ABILITIES.items() if label in labels}
    return Confinement(
        resources=Resources(
            cpus=8.0 * ("cpus" in can),
            memory_bytes=(1 << 30) * ("memory" in can),
            pids=500 * ("pids" in can),
        ),
        network="none" if "network" in can else "host",
        no_new_privs="no_new_privs" in can,
        private_tmp="private_tmp" in can,
        private_pids=has_pids and "private_pids" in can,
    )


@pytest.fixture(params=["process", "forked", "scripted", "confined", "its own pids", "docker"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    container, engine = None, Engine({})
    if request.param == "docker":
        docker: engines.Engine = request.getfixturevalue("docker_engine")
        container = Container(image=docker.busybox(), called="busybox")
        engine = Engine({"DOCKER_HOST": docker.url})
    forks = Forks() if request.param == "forked" else None
    if forks is not None:
        await forks.ready()
    bench = Bench(request.param, tmp_path, container, engine, forks)
    yield bench
    await bench.close()


async def test_a_script_that_says_nothing_passes(bench: Bench) -> None:
    ended = await (await bench.executor.start(bench.task(QUIET))).wait()
    assert (ended.code, ended.signal, ended.known, ended.oom_killed) == (0, None, True, False)


async def test_a_failing_script_gives_its_code_and_its_output(bench: Bench) -> None:
    task = bench.task(FAILING)
    ended = await (await bench.executor.start(task)).wait()
    assert (ended.code, ended.signal, ended.known) == (42, None, True)
    assert (task.home / "log").read_bytes() == b"oh\n"


async def test_a_death_by_signal_is_told_as_a_shell_does(bench: Bench) -> None:
    ended = await (await bench.executor.start(bench.task(KILLED))).wait()
    assert (ended.code, ended.signal, ended.known) == (137, 9, True)


async def test_waiting_twice_gives_the_same_outcome(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(FAILING))
    assert await running.wait() == await running.wait()


async def test_a_cancelled_wait_leaves_the_attempt_alone(bench: Bench) -> None:
    task = bench.task(HANGING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.wait(), 0.01)
    await running.terminate(20)
    assert (await running.wait()).signal == 15


async def test_terminate_asks_first(bench: Bench) -> None:
    task = bench.task(HANGING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    assert running.pid > 0
    await running.terminate(20)
    ended = await running.wait()
    assert (ended.code, ended.signal) == (143, 15)


async def test_terminate_kills_one_that_ignores_the_asking(bench: Bench) -> None:
    task = bench.task(STUBBORN)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    await running.terminate(0.05)
    ended = await running.wait()
    assert (ended.code, ended.signal, ended.oom_killed) == (137, 9, False)


async def test_terminate_without_grace_kills_at_once(bench: Bench) -> None:
    task = bench.task(HANGING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    await running.terminate(0)
    assert (await running.wait()).signal == 9


async def test_terminate_is_safe_twice_and_after_the_end(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(FAILING))
    ended = await running.wait()
    await running.terminate(5)
    await running.terminate(0)
    assert await running.wait() == ended


async def test_what_cannot_start_says_why(bench: Bench) -> None:
    with pytest.raises(ExecutionError, match="is not executable"):
        await bench.executor.start(bench.task(REFUSED))


async def test_input_reaches_the_script_until_its_end(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(READING, stdin=True))
    await running.send(b"one\n")
    await running.send(b"two\n", eof=True)
    with pytest.raises(ConflictError, match=r"ended before|has ended"):
        await running.send(b"three\n")
    assert (await running.wait()).code == 3


async def test_input_is_refused_where_there_is_none(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(QUIET))
    with pytest.raises(ConflictError, match="started without a standard input"):
        await running.send(b"hello\n")
    await running.wait()


async def test_input_is_refused_after_the_end(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(QUIET, stdin=True))
    await running.wait()
    with pytest.raises(ConflictError, match="the script has ended and reads no more"):
        await running.send(b"hello\n")


async def test_a_live_attempt_is_adopted_with_its_pid(bench: Bench) -> None:
    task = bench.task(HANGING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    adopted = await bench.executor.adopt(task)
    assert adopted.pid == running.pid
    await adopted.terminate(20)
    assert (await adopted.wait()).code == 143
    assert (await running.wait()).code == 143


async def test_an_ended_attempt_is_adopted_with_its_outcome(bench: Bench) -> None:
    task = bench.task(FAILING)
    await (await bench.executor.start(task)).wait()
    ended = await (await bench.executor.adopt(task)).wait()
    assert (ended.code, ended.signal, ended.known) == (42, None, True)


async def test_an_attempt_that_never_started_is_unknown(bench: Bench) -> None:
    running = await bench.executor.adopt(bench.task(QUIET))
    ended = await running.wait()
    assert (ended.code, ended.known, running.pid) == (None, False, 0)
    await running.terminate(0)


# output


async def test_a_script_cannot_empty_its_log(bench: Bench) -> None:
    task = bench.task(TRUNCATING)
    running = await bench.executor.start(task)
    assert (await running.wait()).code == 0
    assert (task.home / "log").read_bytes() == TRUNCATING.plan.output


async def test_all_of_much_output_is_in_the_log(bench: Bench) -> None:
    task = bench.task(LARGE)
    running = await bench.executor.start(task)
    assert (await running.wait()).code == 8
    await running.terminate(0)
    assert (task.home / "log").read_bytes() == LARGE.plan.output


async def test_what_keeps_the_output_open_keeps_nobody_waiting(bench: Bench) -> None:
    task = bench.task(LEAVING)
    running = await bench.executor.start(task)
    assert (await asyncio.wait_for(running.wait(), 20)).code == 3
    assert (task.home / "log").read_bytes() == b"up\n"
    await running.terminate(0)
    assert reader(task.home / "output") is None


async def test_output_goes_on_when_what_carries_it_was_killed(bench: Bench) -> None:
    if isinstance(bench.executor, ScriptedExecutor):
        pytest.skip("a plan's output is not carried")
    if bench.is_forked:
        pytest.skip("who carries is who waits for the script: see the faults of processes")
    task = bench.task(WAITING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    kill_reader(task.home / "output")
    (task.home / "go").touch()
    assert (await asyncio.wait_for(running.wait(), 20)).code == 0
    await running.terminate(0)
    first, note, *rest = (task.home / "log").read_text().splitlines(keepends=True)[1:]
    assert (first, rest) == ("\n", ["end\n"])
    assert note == (
        "rota: output is missing here, 128 KiB at most: signal 9 ended what carries it to this log\n"
    )


async def test_output_is_whole_though_the_daemon_died_before(bench: Bench) -> None:
    if isinstance(bench.executor, ScriptedExecutor):
        pytest.skip("a plan's output is not carried")
    if bench.is_forked:
        pytest.skip("who carries is who waits for the script: see the faults of processes")
    task = bench.task(WAITING)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    running.forget()
    (task.home / "go").touch()
    await bench.until_printed(task, b"end")
    adopted = await bench.executor.adopt(task)
    assert (await adopted.wait()).code == 0
    await adopted.terminate(0)
    assert (task.home / "log").read_bytes() == b"up\nend\n"
    assert reader(task.home / "output") is None


def kill_reader(fifo: Path) -> None:
    found = reader(fifo)
    assert found
    signal.pidfd_send_signal(found[1], signal.SIGKILL)
    os.close(found[1])


# leases


FOREVER = float("inf")


def lent(bench: Bench, behaviour: Behaviour, for_s: float) -> Task:
    return replace(bench.task(behaviour), lease_until=bench.executor.moment() + for_s)


async def test_a_lease_that_runs_out_ends_the_attempt_and_that_is_told(bench: Bench) -> None:
    task = lent(bench, STUBBORN, FOREVER)
    running = await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    assert running.renew(bench.executor.moment() + 0.2)
    ended = await asyncio.wait_for(running.wait(), 20)
    assert (ended.code, ended.signal, ended.expired) == (137, 9, True)
    assert not running.renew(FOREVER)
    await running.terminate(0)


async def test_a_renewed_lease_keeps_the_attempt(bench: Bench) -> None:
    running = await bench.executor.start(lent(bench, HANGING, FOREVER))
    end = bench.executor.moment() + 2.0
    assert running.renew(end)
    assert running.renew(FOREVER)
    while bench.executor.moment() < end + 1.0:
        await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.wait(), 0.01)
    await running.terminate(20)
    ended = await running.wait()
    assert (ended.signal, ended.expired) == (15, False)


async def test_a_lease_can_be_cut_short(bench: Bench) -> None:
    running = await bench.executor.start(lent(bench, HANGING, FOREVER))
    assert running.renew(bench.executor.moment())
    assert (await asyncio.wait_for(running.wait(), 20)).expired


async def test_a_lease_that_had_run_out_before_lets_nothing_begin(bench: Bench) -> None:
    task = lent(bench, FAILING, -1.0)
    running = await bench.executor.start(task)
    ended = await asyncio.wait_for(running.wait(), 20)
    assert (ended.code, ended.expired) == (None, True)
    await running.terminate(0)
    assert not (task.home / "log").exists() or not (task.home / "log").read_bytes()


async def test_an_attempt_that_ends_within_its_lease_ends_as_ever(bench: Bench) -> None:
    task = lent(bench, FAILING, 60.0)
    running = await bench.executor.start(task)
    ended = await running.wait()
    assert (ended.code, ended.signal, ended.expired) == (42, None, False)
    await running.terminate(0)
    assert not running.renew(FOREVER)


async def test_without_a_lease_there_is_none_to_renew(bench: Bench) -> None:
    running = await bench.executor.start(bench.task(HANGING))
    assert not running.renew(FOREVER)
    await running.terminate(0)


async def test_an_adopted_attempt_keeps_its_lease(bench: Bench) -> None:
    task = lent(bench, HANGING, FOREVER)
    await bench.executor.start(task)
    await bench.until_printed(task, b"up")
    adopted = await bench.executor.adopt(task)
    assert adopted.renew(bench.executor.moment() + 0.1)
    assert (await asyncio.wait_for(adopted.wait(), 20)).expired


# -- sessions -----------------------------------------------------------------------------------------


async def _all(session: Session) -> bytes:
    said = b""
    async with asyncio.timeout(20):
        while (piece := await session.read()) is not None:
            said += piece[1]
    return said


@pytest.mark.parametrize("tty", [None, Tty(30, 100, "xterm")])
async def test_a_session_prints_and_ends_with_its_code(bench: Bench, tty: Tty | None) -> None:
    task = bench.task(FAILING)
    session = await bench.executor.enter(task, ["sh", "-c", "printf 'oh\\n'; exit 42"], tty)
    assert (await _all(session)).replace(b"\r", b"") == b"oh\n"
    assert session.code == 42
    assert await session.read() is None
    await session.end()
    await session.end()
    assert session.code == 42


async def test_a_session_is_given_input_until_there_is_no_more(bench: Bench) -> None:
    session = await bench.executor.enter(bench.task(READING), ["sh", "-c", "cat; exit 3"], None)
    await session.write(b"one ")
    await session.write(b"two")
    await session.close_input()
    await session.close_input()
    assert await _all(session) == b"one two"
    assert session.code == 3
    await session.end()


async def test_a_session_that_hangs_is_hung_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sessions in (docker_session, process_session):
        # A loaded machine takes longer, and what is not over by then is killed instead.
        monkeypatch.setattr(sessions, "GRACE_S", 30.0)
    session = await bench.executor.enter(bench.task(READING), ["sleep", "600"], None)
    session.resize(10, 10)
    assert session.code is None
    await session.end()
    assert await session.read() is None
    assert session.code == 129
