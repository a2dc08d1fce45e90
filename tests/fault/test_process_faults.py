"""Hostile scripts, dying daemons and torn files: what the process executor makes of them."""

import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.harness.attempts import (
    PATIENCE_S,
    Attempts,
    is_running,
    kinds,
    made,
    marked,
    until,
)

from rota.adapters.process import ProcessExecutor, executor, proc
from rota.errors import ConflictError
from rota.homes import pipe
from rota.ports.executor import Task

SUPERVISE = Path(executor.__file__).with_name("supervise.sh")

pytestmark = pytest.mark.fault

#: For a script: wait until its supervisor has written down who it is.
NOTED = 'until [ -s "$ROTA_ATTEMPT/pid" ]; do :; done'


@pytest.fixture(params=kinds().values(), ids=list(kinds()))
async def attempts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Attempts]:
    attempts = await made(tmp_path, request.param)
    yield attempts
    await attempts.close()


@pytest.fixture
async def default(tmp_path: Path) -> AsyncIterator[Attempts]:
    attempts = Attempts(tmp_path)
    yield attempts
    await attempts.close()


# what a script leaves behind


LEFT = {
    "in its group": "sleep 600 & echo left; exit 3",
    "in its own session": "setsid sleep 600 & echo left; exit 3",
    "stopped": "sleep 600 & kill -STOP $!; echo left; exit 3",
    "deaf": "(trap '' TERM HUP INT; sleep 600) & setsid sh -c 'trap \"\" TERM; sleep 600' & "
    "echo left; exit 3",
    "without a log": "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo left; exit 3",
    "without an environment": "env -i setsid sh -c '/bin/sleep 600; true' & sleep 0.1; "
    "echo left; exit 3",
    "orphaned": "setsid sh -c '(setsid sleep 600 &) & exit' & sleep 0.1; echo left; exit 3",
}


@pytest.mark.parametrize("script", LEFT.values(), ids=list(LEFT))
async def test_what_a_script_left_is_ended(default: Attempts, script: str) -> None:
    task = default.task(script)
    running = await default.executor.start(task)
    assert (await default.outcome(running)).code == 3
    await running.terminate(0)
    assert marked(task.marker) == []
    assert holders(task.home / "output") == []


@pytest.mark.parametrize("script", LEFT.values(), ids=list(LEFT))
async def test_what_a_script_left_is_ended_by_a_later_daemon(
    default: Attempts, script: str
) -> None:
    task = default.task(script)
    running = await default.executor.start(task)
    await default.outcome(running)
    adopted = await ProcessExecutor(sweep_interval_s=0.02).adopt(task)
    assert (await default.outcome(adopted)).code == 3
    await adopted.terminate(0.1)
    assert marked(task.marker) == []
    assert holders(task.home / "output") == []


def holders(output: Path) -> list[int]:
    """Return who has ``output`` as standard output."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "fd/1").readlink() == output and is_running(int(entry.name)):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


async def test_a_short_attempt_that_left_nothing_is_not_searched_for(default: Attempts) -> None:
    running = await default.executor.start(default.task("true"))
    await default.outcome(running)
    taken = default.executor._host.census._begun
    await running.terminate(0)
    assert default.executor._host.census._begun == taken


async def test_terminate_ends_script_children_and_escaped_at_once(attempts: Attempts) -> None:
    task, running = await attempts.start(
        "setsid sleep 600 & sleep 600 & (env -i setsid /bin/sleep 600) & echo up; wait",
        until_log=b"up",
    )
    await running.terminate(20)
    assert (await attempts.outcome(running)).signal == 15
    assert marked(task.marker) == []


async def test_one_that_leaves_the_group_while_it_is_told_is_told_too(default: Attempts) -> None:
    _, running = await default.start(
        "setsid sh -c 'echo $$; exec sleep 600' & wait", until_log=b"\n"
    )
    left = int(default.log(default.tasks[0]))
    members = [proc.look(running.pid), proc.look(left)]
    # as they were seen a moment earlier
    seen = [p._replace(group=running.pid, session=running.pid) for p in members if p]
    running._ending._tell(seen)
    await until(lambda: not is_running(left))
    assert (await default.outcome(running)).signal == 15


async def test_a_script_may_tidy_up_within_its_grace(attempts: Attempts) -> None:
    task, running = await attempts.start(
        "trap 'echo tidy; exit 6' TERM; echo up; while :; do sleep 0.05; done", until_log=b"up"
    )
    await running.terminate(20)
    assert (await attempts.outcome(running)).code == 6
    assert attempts.log(task).endswith(b"tidy\n")


async def test_a_deaf_script_without_output_is_killed(attempts: Attempts) -> None:
    task, running = await attempts.start(
        "trap '' TERM INT HUP QUIT; echo up; exec >/dev/null 2>&1; while :; do sleep 600; done",
        until_log=b"up",
    )
    await running.terminate(0.05)
    assert (await attempts.outcome(running)).signal == 9
    assert marked(task.marker) == []


async def test_a_stopped_script_hears_the_asking(attempts: Attempts) -> None:
    _, running = await attempts.start("echo up; kill -STOP $$; echo on", until_log=b"up")
    await until(lambda: state(running.pid) == "T")
    await running.terminate(20)
    assert (await attempts.outcome(running)).signal == 15


async def test_a_stopped_supervisor_is_set_going_again(attempts: Attempts) -> None:
    task, running = await attempts.start(f"{NOTED}; kill -STOP $PPID; exec sleep 600")
    await until(lambda: state(attempts.supervisor(task)) == "T")
    await running.terminate(0)
    assert (await attempts.outcome(running)).signal == 9


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


async def test_terminate_right_after_the_start_leaves_nothing(attempts: Attempts) -> None:
    for grace_s in (0, 20):
        task = attempts.task("sleep 600 & setsid sleep 600")
        running = await attempts.executor.start(task)
        await running.terminate(grace_s)
        assert (await attempts.outcome(running)).code != 0
        assert marked(task.marker) == []


async def test_an_impatient_terminate_overtakes_a_patient_one(default: Attempts) -> None:
    _, running = await default.start("trap '' TERM; echo up; sleep 600 & wait", until_log=b"up")
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE_S):
        patient = group.create_task(running.terminate(600))
        await asyncio.sleep(0)
        await running.terminate(0)
        await patient
    assert (await default.outcome(running)).signal == 9


async def test_a_cancelled_terminate_leaves_nobody_stopped(default: Attempts) -> None:
    task, running = await default.start(
        "trap '' TERM; echo up; while :; do :; done", until_log=b"up"
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.terminate(600), 0.05)
    assert is_running(running.pid)
    assert state(running.pid) != "T"
    assert marked(task.marker)


async def test_a_fork_bomb_is_ended(default: Attempts) -> None:
    task, running = await default.start(
        "trap '' TERM; b() { [ $1 -gt 7 ] && exec sleep 600; b $(($1+1)) & b $(($1+1)) & wait; }\n"
        "b 0 & echo up; while :; do sleep 0.01 & done",
        until_log=b"up",
    )
    await running.terminate(0)
    assert marked(task.marker) == []
    assert (await default.outcome(running)).signal == 9


async def test_one_that_forks_into_a_new_session_and_ends_all_the_time_is_caught(
    default: Attempts,
) -> None:
    hop = (
        "import os, time\n"
        "print('up', flush=True)\n"
        "end = time.monotonic() + 20  # it must not haunt a machine whose test was killed\n"
        "while time.monotonic() < end:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "    time.sleep(0.001)\n"
    )
    task = default.task(hop, shebang="#!/usr/bin/env -S python3 -IS\n")
    running = await default.executor.start(task)
    await until(lambda: b"up" in default.log(task))
    assert (await default.outcome(running)).code == 0
    await running.terminate(0.05)
    assert marked(task.marker) == []


async def test_a_neighbour_is_left_alone(default: Attempts) -> None:
    task, running = await default.start("setsid sleep 600 & echo up; wait", until_log=b"up")
    other, neighbour = await default.start("setsid sleep 600 & echo up; wait", until_log=b"up")
    await running.terminate(0)
    assert marked(task.marker) == []
    assert len(marked(other.marker)) == 3  # the supervisor, the script, and what escaped
    await neighbour.terminate(20)


# output


async def test_two_hundred_megabytes_that_nobody_reads_do_no_harm(attempts: Attempts) -> None:
    task = attempts.task("head -c 200000000 /dev/zero; exit 8")
    ended = await attempts.outcome(await attempts.executor.start(task))
    assert (ended.code, (task.home / "log").stat().st_size) == (8, 200_000_000)
    (task.home / "log").unlink()


async def test_a_script_that_closes_its_output_still_ends(attempts: Attempts) -> None:
    ended, log = await attempts.run("exec >&- 2>&- <&-; sleep 0.05; exit 11")
    assert (ended.code, log) == (11, b"")


async def test_who_a_script_becomes_may_print_where_it_prints(default: Attempts) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes somebody else unasked")
    say = "id -un >/dev/stdout; echo err >/dev/stderr"
    ended, log = await default.run(f"echo start; su -s /bin/sh nobody -c '{say}' </dev/null")
    assert (ended.code, log) == (0, b"start\nnobody\nerr\n")


async def test_what_a_script_prints_without_its_supervisor_is_in_the_log(
    attempts: Attempts,
) -> None:
    task = attempts.task("kill -9 $PPID; echo up; head -c 3000000 /dev/zero; echo end")
    running = await attempts.executor.start(task)
    assert (await attempts.outcome(running)).known is False
    await running.terminate(0)
    assert attempts.log(task) == b"up\n" + bytes(3_000_000) + b"end\n"


async def test_a_flood_that_outlives_its_script_keeps_nobody_waiting(attempts: Attempts) -> None:
    task = attempts.task("setsid yes & sleep 0.05; exit 4")
    running = await attempts.executor.start(task)
    assert (await attempts.outcome(running)).code == 4
    await running.terminate(0)
    assert pipe.reader(task.home / "output") is None
    assert set(attempts.log(task)) == set(b"y\n")
    (task.home / "log").unlink()


async def test_what_hides_with_the_output_open_is_cut_off(attempts: Attempts) -> None:
    hide = "env -i setsid sh -c 'exec 5>&1 >/dev/null 2>&1; /bin/sleep 600 5>&5; true' & echo up"
    task = attempts.task(f"(({hide}) &); sleep 0.1; exit 4")
    running = await attempts.executor.start(task)
    assert (await attempts.outcome(running)).code == 4
    hidden = holders_of_any(task.home / "output")
    await running.terminate(0)
    assert pipe.reader(task.home / "output") is None
    assert attempts.log(task) == b"up\n"
    assert hidden
    for pid in hidden:
        os.kill(pid, signal.SIGKILL)


def holders_of_any(output: Path) -> list[int]:
    """Return who has ``output`` open as descriptor 5."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "fd/5").readlink() == output and is_running(int(entry.name)):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


async def test_a_full_disk_makes_a_script_wait_and_the_log_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount a tmpfs")
    try:
        attempts = Attempts(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(512 * 1024))
        task = attempts.task("echo up; yes full | head -c 600000; echo end")
        running = await attempts.executor.start(task)
        await until(lambda: os.statvfs(disk).f_bavail == 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.wait(), 0.2)
        ballast.unlink()
        ended = await attempts.outcome(running)
        await attempts.close()
        log = attempts.log(task)
        assert (ended.code, log[:8], log[-4:]) == (0, b"up\nfull\n", b"end\n")
        assert (
            log.count(b"\nrota: output is missing here, 128 KiB at most: the disk did not take")
            == 1
        )
        assert 600_000 - 128 * 1024 <= log.count(b"full") * 5 <= 600_000
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# daemons that die


DAEMON = """
import asyncio, sys
from pathlib import Path
from rota.adapters.process import ProcessExecutor, proc
from rota.adapters.process.forks import Forks
from rota.ports.executor import Task
import msgspec

async def main():
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=dict)
    shell, forks = task.pop("shell"), None
    if shell == ["forked"]:
        forks = Forks()
        await forks.ready()
    executor = ProcessExecutor(shell=["/bin/sh"] if forks else shell, forks=forks)
    running = await executor.start(Task(
        home=Path(task["home"]), argv=tuple(task["argv"]), cwd=Path(task["cwd"]),
        env=task["env"], stdin=task["stdin"], marker=task["marker"]))
    while not running.pid:
        await asyncio.sleep(0.005)
    print(running.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def start_and_die(task: Task, shell: tuple[str, ...]) -> int:
    """Start ``task`` in another process and SIGKILL that; return the script's pid."""
    source = str(Path(__file__).parents[2] / "src")
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as daemon:
        assert daemon.stdin
        assert daemon.stdout
        words = msgspec.structs.asdict(task) | {"shell": shell}
        daemon.stdin.write(msgspec.json.encode(words, enc_hook=str))
        daemon.stdin.close()
        pid = int(daemon.stdout.readline())
        daemon.kill()
    return pid


COUNTING = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 0.2; exit 42"


async def test_an_attempt_outlives_its_daemon(attempts: Attempts) -> None:
    task = attempts.task(COUNTING)
    pid = await asyncio.to_thread(start_and_die, task, attempts.shell)
    assert is_running(pid)
    adopted = await attempts.executor.adopt(task)
    assert adopted.pid == pid
    ended = await attempts.outcome(adopted)
    assert (ended.code, ended.signal, ended.known) == (42, None, True)
    wanted = "".join(f"line {i}\n" for i in range(3000)).encode()
    assert hashlib.sha256(attempts.log(task)).digest() == hashlib.sha256(wanted).digest()


async def test_output_that_comes_when_there_is_no_daemon_is_in_the_log(attempts: Attempts) -> None:
    script = (
        "while ! [ -e go ]; do sleep 0.01; done; echo start >/dev/stderr; head -c 3000000 /dev/zero"
    )
    task = attempts.task(f"{script}; echo end >/dev/stdout")
    await asyncio.to_thread(start_and_die, task, attempts.shell)
    (task.cwd / "go").touch()
    await until(lambda: (task.home / "exit").read_text().endswith("end\n"))
    adopted = await attempts.executor.adopt(task)
    assert (await attempts.outcome(adopted)).code == 0
    await adopted.terminate(0)
    assert attempts.log(task) == b"start\n" + bytes(3_000_000) + b"end\n"
    assert pipe.reader(task.home / "output") is None


async def test_a_gap_is_told_by_a_later_daemon_too(default: Attempts) -> None:
    task = default.task("echo up; while ! [ -e go ]; do sleep 0.01; done; echo end")
    await asyncio.to_thread(start_and_die, task, default.shell)
    await until(lambda: default.log(task) == b"up\n")
    adopted = await default.executor.adopt(task)
    found = pipe.reader(task.home / "output")
    assert found
    signal.pidfd_send_signal(found[1], signal.SIGKILL)
    os.close(found[1])
    await until(lambda: b"128 KiB at most: something ended what carries it" in default.log(task))
    (task.cwd / "go").touch()
    assert (await default.outcome(adopted)).code == 0
    assert default.log(task).endswith(b"\nend\n")


async def test_an_attempt_of_a_version_without_a_pipe_is_adopted(default: Attempts) -> None:
    task = default.task("env -i setsid /bin/sleep 600 & echo up; exit 6")
    words = (str(SUPERVISE), str(task.home), str(task.cwd), "setsid", "", f"{proc.boot_id()} 0")
    with (task.home / "log").open("ab") as log:
        subprocess.run(
            [*default.shell, *words, *task.argv], stdout=log, env=dict(task.env), check=False
        )
    adopted = await default.executor.adopt(task)
    assert (await default.outcome(adopted)).code == 6
    assert len(holders(task.home / "log")) == 1
    await adopted.terminate(0)
    assert holders(task.home / "log") == []
    assert default.log(task) == b"up\n"


async def test_an_attempt_that_ended_without_a_daemon_has_its_outcome(attempts: Attempts) -> None:
    task = attempts.task("i=0; while [ $i -lt 90000 ]; do i=$((i+1)); done; kill -9 $$")
    await asyncio.to_thread(start_and_die, task, attempts.shell)
    await until(lambda: (task.home / "exit").read_text().endswith("end\n"))
    await until(lambda: marked(task.marker) == [])
    ended = await attempts.outcome(await attempts.executor.adopt(task))
    assert (ended.code, ended.signal, ended.known) == (137, 9, True)
    assert ended.usage.user_s > 0


async def test_an_adopted_attempt_can_be_terminated(attempts: Attempts) -> None:
    task = attempts.task("setsid sleep 600 & exec sleep 600")
    pid = await asyncio.to_thread(start_and_die, task, attempts.shell)
    adopted = await attempts.executor.adopt(task)
    await adopted.terminate(20)
    assert (await attempts.outcome(adopted)).signal == 15
    assert not is_running(pid)
    assert marked(task.marker) == []


async def test_input_outlives_the_daemon(attempts: Attempts) -> None:
    task = attempts.task("cat; exit 5", stdin=True)
    await asyncio.to_thread(start_and_die, task, attempts.shell)
    adopted = await attempts.executor.adopt(task)
    await adopted.send(b"one\n")
    await adopted.send(b"two\n", eof=True)
    assert (await attempts.outcome(adopted)).code == 5
    assert attempts.log(task) == b"one\ntwo\n"


async def test_an_end_of_input_that_a_daemon_left_half_done_is_completed(
    attempts: Attempts,
) -> None:
    task = attempts.task("cat; exit 5", stdin=True)
    await asyncio.to_thread(start_and_die, task, attempts.shell)
    (task.home / "stdin").unlink()
    adopted = await attempts.executor.adopt(task)
    assert (await attempts.outcome(adopted)).code == 5
    with pytest.raises(ConflictError):
        await adopted.send(b"more\n")


async def test_a_daemon_that_died_before_anything_was_written_is_no_loss(
    attempts: Attempts,
) -> None:
    task = attempts.task("sleep 0.3; exit 12")
    await asyncio.to_thread(start_and_die, task, attempts.shell)
    (task.home / "pid").rename(task.home / "kept")
    adopted = await attempts.executor.adopt(task)
    assert adopted.pid == 0
    (task.home / "kept").rename(task.home / "pid")
    assert adopted.pid > 0
    assert (await attempts.outcome(adopted)).code == 12


# supervisors that die


async def test_a_killed_supervisor_takes_the_outcome_along(attempts: Attempts) -> None:
    task, running = await attempts.start(
        "echo up; read x </dev/null; sleep 0.2; exit 3", until_log=b"up"
    )
    os.kill(attempts.supervisor(task), signal.SIGKILL)
    ended = await attempts.outcome(running)
    assert (ended.code, ended.known) == (None, False)
    assert not is_running(running.pid)


async def test_a_script_that_kills_its_supervisor_is_waited_for_and_ended(
    attempts: Attempts,
) -> None:
    script = f"{NOTED}; kill -9 $PPID; echo up; exec sleep 600"
    task, running = await attempts.start(script, until_log=b"up")
    await until(lambda: not is_running(attempts.supervisor(task)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.wait(), 0.05)
    await running.terminate(20)
    assert (await attempts.outcome(running)).known is False
    assert marked(task.marker) == []


async def test_a_script_without_its_supervisor_is_adopted(attempts: Attempts) -> None:
    task = attempts.task("exec sleep 600")
    pid = await asyncio.to_thread(start_and_die, task, attempts.shell)
    supervisor = attempts.supervisor(task)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: not is_running(supervisor))
    adopted = await attempts.executor.adopt(task)
    assert adopted.pid == pid
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(adopted.wait(), 0.05)
    os.kill(pid, signal.SIGTERM)
    ended = await attempts.outcome(adopted)
    assert (ended.code, ended.known) == (None, False)


async def test_a_killed_supervisor_ends_the_input_too(attempts: Attempts) -> None:
    task = attempts.task("echo up; cat; echo end", stdin=True)
    running = await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    os.kill(attempts.supervisor(task), signal.SIGKILL)
    assert (await attempts.outcome(running)).known is False
    assert attempts.log(task) == b"up\nend\n"


# files that lie


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def bystander() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], start_new_session=True)


def claim(task: Task, pid: int, *, boot: str, earlier: int) -> None:
    """Write into the attempt's home that supervisor and script were ``pid``."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    start = stat.rpartition(") ")[2].split()[19]
    shifted = stat.replace(f" {start} ", f" {int(start) - earlier} ")
    (task.home / "pid").write_text(f"{boot} 0\n{shifted}{shifted}")
    (task.home / "exit").unlink()


async def test_a_stranger_with_the_supervisors_pid_is_left_alone(default: Attempts) -> None:
    await default.run("exit 3")
    task = default.tasks[0]
    boot = (task.home / "pid").read_text().split()[0]
    with await bystander() as stranger:
        claim(task, stranger.pid, boot=boot, earlier=1)
        adopted = await default.executor.adopt(task)
        lost = await default.outcome(adopted)
        assert (lost.code, lost.known) == (None, False)
        await adopted.terminate(0)
        assert stranger.poll() is None
        stranger.kill()


async def test_another_boots_pids_mean_nothing(default: Attempts) -> None:
    await default.run("true")
    task = default.tasks[0]
    with await bystander() as stranger:
        claim(task, stranger.pid, boot="another-boot", earlier=0)
        adopted = await default.executor.adopt(task)
        assert ((await default.outcome(adopted)).known, adopted.pid) == (False, 0)
        await adopted.terminate(0)
        assert stranger.poll() is None
        stranger.kill()


async def test_a_torn_outcome_is_no_outcome(default: Attempts) -> None:
    await default.run("exit 3")
    task = default.tasks[0]
    edit(task.home / "exit", "end\n", "en")
    assert (await default.outcome(await default.executor.adopt(task))).known is False


async def test_an_outcome_that_could_not_be_written_is_known_to_the_parent(
    attempts: Attempts,
) -> None:
    task = attempts.task('rm -f "$ROTA_ATTEMPT/exit"; exit 13')
    ended = await attempts.outcome(await attempts.executor.start(task))
    assert (ended.code, ended.known) == (13, True)


async def test_a_script_that_removes_its_home_has_an_outcome(attempts: Attempts) -> None:
    task = attempts.task('rm -rf "$ROTA_ATTEMPT"; exit 14')
    running = await attempts.executor.start(task)
    ended = await attempts.outcome(running)
    await running.terminate(0)
    assert (ended.code, ended.known) == (14, True)


async def test_a_sh_that_cannot_start_the_script_is_quoted_in_the_log(default: Attempts) -> None:
    shell = default.root / "sh"
    shell.write_text('#!/bin/sh\necho "sh: 0: Cannot fork" >"$2/exit"; exit 2\n')
    shell.chmod(0o755)
    task = default.task("echo never")
    ended = await default.outcome(await ProcessExecutor(shell=(str(shell),)).start(task))
    assert (ended.code, ended.known) == (None, False)
    assert default.log(task) == b"rota: the script could not be started: sh: 0: Cannot fork\n"


async def test_closing_the_executor_leaves_attempts_alone(default: Attempts) -> None:
    task, running = await default.start("echo up; exec sleep 600", until_log=b"up")
    executor = ProcessExecutor()
    adopted = await executor.adopt(task)
    executor.close()
    with pytest.raises(asyncio.CancelledError):
        await adopted.wait()
    assert is_running(running.pid)


# many at a time


async def test_two_hundred_attempts_four_at_a_time(default: Attempts) -> None:
    tasks = iter([default.task("true") for _ in range(200)])

    async def work() -> None:
        for task in tasks:
            running = await default.executor.start(task)
            assert (await default.outcome(running)).code == 0
            await running.terminate(0)

    before, began = cpu_s(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(work())
    took_s = time.monotonic() - began
    own, children = (after - was for after, was in zip(cpu_s(), before, strict=True))
    print(f"\n{200 / took_s:.0f}/s; CPU ms each: self {own * 5:.2f}, children {children * 5:.2f}")
    default.tasks.clear()


def cpu_s() -> tuple[float, float]:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime
