"""The process executor with real processes, under every sh this machine has."""

import asyncio
import contextlib
import os
import resource
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.attempts import PATH, Attempts, kinds, made, own_descriptors, until

from rota.adapters.process import ProcessExecutor, proc
from rota.adapters.process import __file__ as supervise_home
from rota.adapters.process.attempt import death_signal
from rota.adapters.process.home import (
    Beginning,
    Outcome,
    parse_beginning,
    parse_outcome,
)
from rota.adapters.process.kin import Marks, members, window
from rota.adapters.process.oom import OomCounter
from rota.adapters.process.proc import Identity, Process
from rota.errors import ConflictError, ExecutionError, UnavailableError
from rota.ports.executor import Task

SUPERVISE = Path(supervise_home).with_name("supervise.sh")


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


# how a script ends


@pytest.mark.parametrize("code", [0, 1, 42, 126, 137, 255])
async def test_an_exit_code_is_the_scripts_own(attempts: Attempts, code: int) -> None:
    ended, log = await attempts.run(f"exit {code}")
    assert (ended.code, ended.signal, ended.known, ended.oom_killed) == (code, None, True, False)
    assert log == b""


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "QUIT", "HUP", "USR1", "SEGV", "PIPE"])
async def test_a_signal_that_ends_the_script_is_named(attempts: Attempts, name: str) -> None:
    ended, log = await attempts.run(f"ulimit -c 0; kill -{name} $$; sleep 600")
    number = signal.Signals[f"SIG{name}"]
    assert (ended.code, ended.signal, ended.known) == (128 + number, number, True)
    assert log == b""


async def test_a_script_that_kills_its_whole_group_has_an_outcome(attempts: Attempts) -> None:
    ended, _ = await attempts.run("sleep 600 & kill -9 0")
    assert (ended.code, ended.signal) == (137, 9)


async def test_a_script_that_ends_its_group_in_an_exit_trap_has_an_outcome(
    attempts: Attempts,
) -> None:
    ended, log = await attempts.run("trap 'trap - TERM; kill 0' EXIT; sleep 600 & echo done")
    assert (ended.code, ended.signal, log) == (143, 15, b"done\n")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE"])
async def test_the_supervisor_is_not_ended_by_a_signal(attempts: Attempts, name: str) -> None:
    ended, log = await attempts.run(f"kill -{name} $PPID; kill -{name} $PPID; echo on; exit 7")
    assert (ended.code, ended.signal, ended.known, log) == (7, None, True, b"on\n")


async def test_a_grandchild_does_not_hold_up_the_end(attempts: Attempts) -> None:
    task = attempts.task("sleep 600 & exit 5")
    running = await attempts.executor.start(task)
    assert (await attempts.outcome(running)).code == 5


def test_a_code_tells_a_signal_only_where_sh_spoke_of_one() -> None:
    assert death_signal(137, is_told=True) == 9
    assert death_signal(137, is_told=False) is None
    assert death_signal(130, is_told=False) == 2
    assert death_signal(255, is_told=True) is None
    assert death_signal(1, is_told=True) is None
    assert death_signal(128, is_told=True) is None


# what a script finds


async def test_the_environment_is_what_was_given(default: Attempts) -> None:
    env = {"PATH": PATH, "A": "1", "home": "x", "_b": "two\nlines", "C": "ä € \udcff", "EMPTY": ""}
    task = default.task("tr '\\0' '\\n' </proc/$$/environ | sort", env=env)
    await default.outcome(await default.executor.start(task))
    seen = default.log(task).decode("utf-8", "surrogateescape").split("\n")
    wanted = [f"{name}={value}" for name, value in env.items()]
    assert sorted(seen) == sorted([*"\n".join(wanted).split("\n"), ""])


async def test_every_sh_keeps_the_environment_but_its_own_variables(attempts: Attempts) -> None:
    env = {"PATH": PATH, "ENV": "/nowhere", "HOME": "/x", "cwd": "/y", "UID_": "5", "setsid": "z"}
    task = attempts.task("tr '\\0' '\\n' </proc/$$/environ", env=env)
    await attempts.outcome(await attempts.executor.start(task))
    assert set(attempts.log(task).decode().splitlines()) == {f"{k}={v}" for k, v in env.items()}


async def test_a_script_starts_with_nothing_open_ignored_or_blocked(attempts: Attempts) -> None:
    given = {fd for fd in range(3, 1024) if is_inheritable(fd)}  # by who started the tests
    task = attempts.task(
        "import os\n"
        "print(*[fd for fd in range(1024) if os.path.exists(f'/proc/self/fd/{fd}')])\n"
        "status = open('/proc/self/status').read()\n"
        "print(*[int(l[7:], 16) for l in status.splitlines() if l[:6] in ('SigIgn', 'SigBlk')])\n",
        shebang="#!/usr/bin/env -S python3 -IS\n",
    )
    await attempts.outcome(await attempts.executor.start(task))
    descriptors, masks = attempts.log(task).decode().splitlines()
    assert {int(word) for word in descriptors.split()} - given == {0, 1, 2}
    blocked, ignored = (int(word) for word in masks.split())
    # 32 and 33 are the C library's own; Python ignores SIGPIPE and SIGXFSZ by itself
    own = {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}
    assert blocked == 0
    assert {number for number in range(1, 65) if ignored >> number - 1 & 1} <= own


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


async def test_a_script_leads_its_own_session_and_group(attempts: Attempts) -> None:
    task, running = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    assert os.getpgid(running.pid) == os.getsid(running.pid) == running.pid
    assert os.getsid(attempts.supervisor(task)) != running.pid


async def test_a_script_runs_in_its_workspace_and_has_no_input(attempts: Attempts) -> None:
    task = attempts.task('pwd -P; cat; echo "$1|$2"', arguments=["a b", "*"])
    await attempts.outcome(await attempts.executor.start(task))
    assert attempts.log(task).decode() == f"{task.cwd.resolve()}\na b|*\n"


async def test_the_log_is_private(attempts: Attempts) -> None:
    await attempts.run("true")
    assert stat.S_IMODE((attempts.tasks[0].home / "log").stat().st_mode) & 0o077 == 0


async def test_a_script_without_a_shebang_runs_under_sh(attempts: Attempts) -> None:
    task = attempts.task("echo plain; exit 9", shebang="")
    ended = await attempts.outcome(await attempts.executor.start(task))
    assert (ended.code, attempts.log(task)) == (9, b"plain\n")


async def test_undecodable_output_stays_as_it_is(attempts: Attempts) -> None:
    _, log = await attempts.run(r"printf '\377\376\000\200x'")
    assert log == b"\xff\xfe\x00\x80x"


async def test_usage_counts_the_scripts_work_and_its_largest_process(default: Attempts) -> None:
    ended, _ = await default.run(
        "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done;"
        "exec python3 -c 'x = bytearray(400 << 20)'"
    )
    assert ended.usage.user_s + ended.usage.system_s > 0.01
    assert 400 << 20 <= ended.usage.max_rss_bytes < 600 << 20


async def test_memory_that_was_our_own_is_not_reported_as_the_scripts(default: Attempts) -> None:
    ended, _ = await default.run("true")
    assert ended.usage.max_rss_bytes == 0


async def test_nothing_stays_open_after_many_attempts(default: Attempts) -> None:
    await default.run("true")
    before = own_descriptors()
    for _ in range(10):
        await default.run("true")
    assert own_descriptors() == before


# standard input


async def test_input_waits_for_its_end(attempts: Attempts) -> None:
    task = attempts.task("cat; echo end", stdin=True)
    running = await attempts.executor.start(task)
    await running.send(b"one\n")
    await until(lambda: attempts.log(task) == b"one\n")
    await running.send(b"two\n", eof=True)
    assert (await attempts.outcome(running)).code == 0
    assert attempts.log(task) == b"one\ntwo\nend\n"


async def test_input_without_an_end_does_not_hold_up_the_script(attempts: Attempts) -> None:
    task = attempts.task("head -n1; exit 4", stdin=True)
    running = await attempts.executor.start(task)
    await running.send(b"one\n")
    assert (await attempts.outcome(running)).code == 4


async def test_input_is_refused_after_its_end(attempts: Attempts) -> None:
    task = attempts.task("cat; echo end; exec sleep 600", stdin=True)
    running = await attempts.executor.start(task)
    await running.send(b"", eof=True)
    await until(lambda: attempts.log(task) == b"end\n")
    with pytest.raises(ConflictError, match="the standard input was ended before"):
        await running.send(b"more\n")


async def test_input_is_refused_when_the_script_closed_it(attempts: Attempts) -> None:
    task = attempts.task("exec <&-; echo closed; exec sleep 600", stdin=True)
    running = await attempts.executor.start(task)
    await until(lambda: attempts.log(task) == b"closed\n")
    with pytest.raises(ConflictError, match="the script has closed its standard input"):
        await running.send(b"more\n")


async def test_a_script_that_does_not_read_is_not_waited_for_long(attempts: Attempts) -> None:
    task = attempts.task("exec sleep 600", stdin=True)
    running = await attempts.executor.start(task)
    with pytest.raises(UnavailableError, match=r"it took \d+ of 1000000 bytes, and no more"):
        await running.send(b"x" * 1_000_000)


async def test_a_slow_reader_gets_all_of_a_large_input(attempts: Attempts) -> None:
    task = attempts.task("cat | wc -c", stdin=True)
    running = await attempts.executor.start(task)
    await running.send(b"x" * 1_000_000, eof=True)
    await attempts.outcome(running)
    assert attempts.log(task).strip() == b"1000000"


async def test_the_input_of_a_script_is_read_only(attempts: Attempts) -> None:
    task = attempts.task("sed -n 's/^flags:\\t*//p' /proc/$$/fdinfo/0", stdin=True)
    await attempts.outcome(await attempts.executor.start(task))
    assert int(attempts.log(task), 8) & os.O_ACCMODE == os.O_RDONLY


# what cannot start


async def test_a_script_that_is_not_there_is_named(default: Attempts) -> None:
    task = default.task("true")
    Path(task.argv[0]).unlink()
    with pytest.raises(ExecutionError, match=r"the script .*/script does not exist"):
        await default.executor.start(task)


async def test_a_script_that_is_not_executable_is_named(default: Attempts) -> None:
    task = default.task("true")
    Path(task.argv[0]).chmod(0o644)
    with pytest.raises(ExecutionError, match=r"the script .*/script is not executable") as raised:
        await default.executor.start(task)
    assert raised.value.hint == "chmod +x script"


async def test_a_folder_is_no_script(default: Attempts) -> None:
    task = msgspec.structs.replace(default.task("true"), argv=("/usr/bin/",))
    with pytest.raises(ExecutionError, match="the script /usr/bin is not a file"):
        await default.executor.start(task)


async def test_a_program_that_is_not_on_the_path_is_named(default: Attempts) -> None:
    task = msgspec.structs.replace(default.task("true"), argv=("no-such-program",))
    with pytest.raises(ExecutionError, match="'no-such-program' is not on the script's PATH"):
        await default.executor.start(task)


async def test_a_missing_interpreter_is_named(default: Attempts) -> None:
    task = default.task("true", shebang="#!/no/such/sh -e\n")
    with pytest.raises(ExecutionError, match=r"the interpreter '/no/such/sh' of .* does not exist"):
        await default.executor.start(task)


async def test_dos_line_ends_are_named(default: Attempts) -> None:
    task = default.task("true", shebang="#!/bin/sh\r\n")
    with pytest.raises(ExecutionError, match="ends in a carriage return") as raised:
        await default.executor.start(task)
    assert raised.value.hint == "save the script with Unix line ends"


async def test_a_missing_workspace_is_named(default: Attempts) -> None:
    task = msgspec.structs.replace(default.task("true"), cwd=default.root / "gone")
    with pytest.raises(ExecutionError, match=r"the workspace .*/gone is not a folder"):
        await default.executor.start(task)


async def test_a_missing_home_is_named(default: Attempts) -> None:
    task = default.task("true")
    gone = msgspec.structs.replace(task, home=default.root / "gone")
    with pytest.raises(ExecutionError, match=r"the attempt's folder .*/gone does not exist"):
        await default.executor.start(gone)


async def test_no_script_at_all_is_refused(default: Attempts) -> None:
    task = msgspec.structs.replace(default.task("true"), argv=())
    with pytest.raises(ExecutionError, match="there is no script to run"):
        await default.executor.start(task)


@pytest.mark.parametrize("name", ["a-b", "1st", "", "a.b", "ä", "a=b", "a\n"])
async def test_a_name_that_sh_would_drop_is_refused(default: Attempts, name: str) -> None:
    task = default.task("true", env={name: "x"})
    with pytest.raises(ExecutionError, match="cannot be passed on by sh"):
        await default.executor.start(task)


async def test_a_nul_in_the_environment_is_refused(default: Attempts) -> None:
    with pytest.raises(ExecutionError, match=r"cannot start .*: embedded null byte"):
        await default.executor.start(default.task("true", env={"A": "x\0y"}))


async def test_an_environment_too_large_is_refused(default: Attempts) -> None:
    task = default.task("true", env={f"A{i}": "x" * 100_000 for i in range(40)})
    with pytest.raises(ExecutionError, match=r"cannot start .*: Argument list too long"):
        await default.executor.start(task)
    assert not (task.home / "pid").exists()


async def test_without_a_descriptor_left_nothing_is_started(default: Attempts) -> None:
    task = default.task("true")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as held:
        while True:
            held.enter_context(open(os.devnull))
            if own_descriptors() >= 200:
                break
        top = max(int(name) for name in os.listdir("/proc/self/fd"))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(top, 150), hard))
        with pytest.raises(ExecutionError, match=r"cannot start .*: Too many open files"):
            await default.executor.start(task)
    assert not (task.home / "log").exists()


async def test_a_shell_that_is_not_there_is_an_error(default: Attempts) -> None:
    executor = ProcessExecutor(shell=("/no/such/sh",))
    with pytest.raises(ExecutionError, match="No such file or directory"):
        await executor.start(default.task("true"))


async def test_an_unusable_program_says_so_in_the_log(attempts: Attempts) -> None:
    task = attempts.task("true", shebang="")
    Path(task.argv[0]).write_bytes(b"\x7fELF" + bytes(60))
    ended = await attempts.outcome(await attempts.executor.start(task))
    assert ended.code in (2, 126, 127)
    assert b"script" in attempts.log(task)


async def test_a_workspace_that_vanishes_says_so_in_the_log(attempts: Attempts) -> None:
    task = attempts.task("echo never")
    gone = attempts.root / "gone"
    if attempts.forks is not None:
        os.mkfifo(task.home / "output")
        name, words = task.argv[0], task.argv
        supervisor = await attempts.forks.fork(task.home, gone, name, words, task.env, "")
        assert supervisor is not None
        _, status = await asyncio.to_thread(os.waitpid, supervisor.identity.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 127
        assert b"gone" in attempts.log(task)
        return
    supervise = (str(SUPERVISE), str(task.home), str(gone), "setsid", "", "", task.argv[0])
    with (task.home / "log").open("wb") as log:
        code = subprocess.run([*attempts.shell, *supervise], stdout=log, check=False).returncode
    assert code == 126
    assert b"gone" in attempts.log(task)
    assert b"never" not in attempts.log(task)


# records, in memory


@given(cut=st.integers(min_value=0, max_value=160))
@settings(deadline=None, max_examples=100)
def test_a_torn_record_is_no_record(cut: int) -> None:
    own = " ".join(["12", "(sh)", "S", *["0"] * 18, "777", "8"])
    script = " ".join(["13", "(a) b)", "S", *["0"] * 18, "778", "8"])
    beginning = f"b00t-1d 4\n{own}\n{script}\n"
    outcome = "Killed\ncode 137\n0m0.01s 0m0.02s\n1m1.500000s 0m0,25s\nend\n"
    assert parse_beginning(beginning) == Beginning(
        Identity(12, 777), Identity(13, 778), "b00t-1d", 4
    )
    assert parse_outcome(outcome) == Outcome(137, True, 61.5, 0.25)
    assert parse_beginning(beginning[: min(cut, len(beginning) - 1)]) is None
    assert parse_outcome(outcome[: min(cut, len(outcome) - 1)]) is None


@given(text=st.text())
@settings(deadline=None)
def test_no_text_upsets_a_parser(text: str) -> None:
    parse_beginning(text)
    parse_outcome(text)


def process(pid: int, ppid: int, session: int, **more: object) -> Process:
    return Process(pid, 100, "S", ppid, session, session)._replace(**more)  # type: ignore[arg-type]


def test_members_are_known_by_session_marker_log_and_descent() -> None:
    marks = Marks(supervisor=10, session=11, marker=b"ROTA_X=1", output="/h/output")
    ours = [
        process(11, 10, 11),
        process(12, 11, 11),
        process(13, 1, 13, environ=b"A=1\0ROTA_X=1\0"),
        process(14, 13, 14),
        process(15, 14, 15),
        process(16, 1, 16, outputs=("/dev/null", "/h/output")),
    ]
    others = [
        process(10, 1, 10, environ=b"ROTA_X=1\0"),
        process(20, 1, 20, environ=b"ROTA_X=12\0AROTA_X=1\0"),
        process(21, 20, 21, outputs=("/h/log2", "")),
        process(os.getpid(), 1, 22, environ=b"ROTA_X=1\0"),
    ]
    assert members(marks, [*reversed(ours), *others]) == ours
    assert members(Marks(), [*ours, *others]) == []


def test_a_window_of_pids_is_used_only_where_it_is_small_and_did_not_wrap() -> None:
    last = proc.last_pid()
    assert window(last, 0.0) is not None
    assert window(last + 100_000, 0.0) is None
    assert window(-1_000, 0.0) is None
    assert window(last, 1e9) is None


async def test_a_process_is_never_signalled_by_pid_alone() -> None:
    own = proc.look(os.getpid())
    assert own is not None
    stranger = Identity(own.pid, own.start + 1)
    assert proc.is_alive(own.identity)
    assert not proc.is_alive(stranger)
    assert proc.open_pidfd(stranger) is None
    assert not proc.send(stranger, signal.SIGKILL)
    assert not proc.send_group(own._replace(start=own.start + 1), signal.SIGKILL)


def test_kernel_threads_and_torn_lines_are_no_processes() -> None:
    thread = Path("/proc/2/stat")
    assert not thread.exists() or b"(kthreadd)" not in thread.read_bytes() or proc.look(2) is None
    assert proc.parse_stat(b"") is None
    assert proc.parse_stat(b"12 (a) S 1") is None


# out of memory


async def test_a_kill_that_nobody_sent_is_told_as_out_of_memory(tmp_path: Path) -> None:
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 5\noom_kill 3\n")
    attempts = Attempts(tmp_path)
    attempts.executor = ProcessExecutor(oom=OomCounter([counter]))
    task, running = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    counter.write_text("pgfault 9\noom_kill 4\n")
    os.kill(running.pid, signal.SIGKILL)
    ended = await attempts.outcome(running)
    assert (ended.code, ended.oom_killed) == (137, True)
    assert (task.home / "pid").read_text().split("\n")[0].endswith(" 3")
    task, running = await attempts.start("echo up; exec sleep 600", until_log=b"up")
    counter.write_text("pgfault 9\noom_kill 5\n")
    await running.terminate(0)
    assert (await attempts.outcome(running)).oom_killed is False
    await attempts.close()


def test_the_kernels_counter_can_be_read() -> None:
    counter = OomCounter()
    assert counter.count() >= 0
    assert counter.recent() >= 0
    assert OomCounter([Path("/nowhere")]).count() == 0


def test_a_task_needs_nothing_but_its_four_fields(tmp_path: Path) -> None:
    assert Task(home=tmp_path, argv=("x",), cwd=tmp_path, env={}).marker == ""
