"""Plain builds that are confined, with real control groups, users and namespaces."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.harness.attempts import PATIENCE_S, Attempts, is_running, marked, until
from tests.harness.ordinary import as_ordinary

from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import Confiner, confiner_of
from rota.adapters.process.hierarchy import HierarchyV1, find_hierarchy
from rota.adapters.process.toolbox import Toolbox
from rota.core.confinement import ABILITIES, Confinement
from rota.core.resources import Resources
from rota.errors import ExecutionError
from rota.ports.executor import Exit, Mount, Task
from rota.ports.session import Session, Tty

MIB = 1 << 20
NOBODY = "nobody"
ROOT = os.geteuid() == 0
#: A buffer of 512 MiB, written to.
EAT = "exec dd if=/dev/zero of=/dev/null bs=512M count=1"


@pytest.fixture
def data() -> Iterator[Path]:
    # Not of pytest: its folders are closed to other users, above the agent's own.
    folder = Path(tempfile.mkdtemp(prefix="rota-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Confined(Attempts):
    """Attempts of an agent whose data folder is ``data``, each with a confinement."""

    def __init__(self, data: Path, confiner: Confiner) -> None:
        super().__init__(data / "builds")
        self.root.mkdir()
        for name in ("scripts", "bin", "run"):
            (data / name).mkdir(mode=0o700)
        (data / "token").write_text("secret")
        self.data, self.confiner = data, confiner
        self.executor = ProcessExecutor(sweep_interval_s=0.02, confiner=confiner)

    def confined(self, script: str, asked: Confinement | None, **env: str) -> Task:
        number = len(self.tasks)
        home = self.root / f"b{number}" / "1"
        for name in ("work", "tmp"):
            (home / name).mkdir(parents=True)
        home.chmod(0o700)
        file = self.data / "scripts" / str(number) / "script"
        file.parent.mkdir(mode=0o700)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        task = Task(
            home=home,
            argv=(str(file),),
            cwd=home / "work",
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "ROTA_ATTEMPT": str(home), **env},
            marker=f"ROTA_ATTEMPT={home}",
            confinement=asked,
        )
        self.tasks.append(task)
        return task

    async def ran(self, script: str, asked: Confinement, **env: str) -> tuple[Exit, str]:
        """Run a script to its end, and all of it; return that, and what it printed."""
        task = self.confined(script, asked, **env)
        running = await self.executor.start(task)
        ended = await self.outcome(running)
        await running.terminate(0)
        return ended, self.log(task).decode()

    def groups(self) -> list[str]:
        """The attempts that have a control group."""
        hierarchy = self.confiner._hierarchy
        return [name for name, _ in hierarchy.left()] if hierarchy is not None else []


@pytest.fixture
async def attempts(data: Path) -> AsyncIterator[Confined]:
    attempts = Confined(data, confiner_of(data))
    yield attempts
    await attempts.close()
    assert attempts.groups() == []


def needs(attempts: Confined, *abilities: str) -> None:
    """Skip where this machine does not let it be tried."""
    missing = {ABILITIES[each] for each in abilities} - attempts.confiner.labels().keys()
    if missing:
        pytest.skip(f"this machine cannot: {', '.join(sorted(missing))}")


# -- control groups -----------------------------------------------------------------------------


async def test_who_eats_memory_is_ended_and_that_is_told(attempts: Confined) -> None:
    needs(attempts, "memory")
    asked = Confinement(resources=Resources(memory_bytes=64 * MIB))
    ended, _ = await attempts.ran(EAT, asked)
    assert (ended.code, ended.oom_killed, ended.usage.oom_kills) == (137, True, 1)
    assert 32 * MIB < ended.usage.memory_bytes <= 64 * MIB


async def test_a_script_that_fails_since_its_child_ate_memory_failed_for_that(
    attempts: Confined,
) -> None:
    needs(attempts, "memory")
    asked = Confinement(resources=Resources(memory_bytes=64 * MIB))
    ended, _ = await attempts.ran(f"({EAT}) || exit 2", asked)
    assert (ended.code, ended.signal, ended.oom_killed) == (2, None, True)
    ended, log = await attempts.ran(f"({EAT}) || echo anyway", asked)
    assert (ended.code, ended.oom_killed, ended.usage.oom_kills) == (0, False, 1)
    assert "anyway" in log


async def test_a_neighbour_that_eats_memory_is_not_ones_own_fault(attempts: Confined) -> None:
    needs(attempts, "memory")
    small = Confinement(resources=Resources(memory_bytes=32 * MIB))
    task = attempts.confined("printf up; read -r _ <fifo; kill -9 $$", small)
    os.mkfifo(task.cwd / "fifo")
    running = await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    eater, _ = await attempts.ran(EAT, small)
    assert eater.oom_killed
    (task.cwd / "fifo").write_text("go\n")
    ended = await attempts.outcome(running)
    assert (ended.signal, ended.oom_killed) == (9, False)


FORK_BOMB = "bomb() { bomb | bomb & }; bomb; wait; sleep 600"


async def test_a_fork_bomb_is_held_and_ended(attempts: Confined) -> None:
    needs(attempts, "pids")
    asked = Confinement(resources=Resources(pids=30))
    task = attempts.confined(FORK_BOMB, asked)
    running = await attempts.executor.start(task)
    group = (task.home / "cgroup").read_text().split()[-1]
    counter = next(path for path in Path(group).glob("pids.events"))
    await until(lambda: "max 0" not in counter.read_text())
    await running.terminate(0)
    ended = await attempts.outcome(running)
    assert ended.usage.refused_forks > 0
    assert marked(task.marker) == []


async def test_who_left_everything_behind_is_ended_with_the_attempt(attempts: Confined) -> None:
    needs(attempts, "pids")
    asked = Confinement(resources=Resources(pids=30))
    daemon = "env -i setsid -f sh -c 'echo $$ >pid; exec sleep 600' >/dev/null 2>&1 </dev/null"
    task = attempts.confined(f"{daemon}; until test -s pid; do :; done; cat pid", asked)
    running = await attempts.executor.start(task)
    await attempts.outcome(running)
    escaped = int(attempts.log(task))
    assert is_running(escaped)
    await running.terminate(0)
    await until(lambda: not is_running(escaped))


async def test_a_processor_is_shared_out(attempts: Confined) -> None:
    needs(attempts, "cpus")
    asked = Confinement(resources=Resources(cpus=0.1))
    loop = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    ended, _ = await attempts.ran(loop, asked)
    assert ended.usage.throttled_s > 0
    assert ended.usage.user_s + ended.usage.system_s > 0


async def test_a_later_daemon_reads_the_same_group(attempts: Confined) -> None:
    needs(attempts, "memory", "pids")
    asked = Confinement(resources=Resources(memory_bytes=64 * MIB, pids=30))
    task = attempts.confined("printf up; read -r _ <fifo; " + EAT, asked)
    os.mkfifo(task.cwd / "fifo")
    await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    attempts.executor.close()
    attempts.executor = ProcessExecutor(sweep_interval_s=0.02, confiner=confiner_of(attempts.data))
    adopted = await attempts.executor.adopt(replace(task, confinement=None))
    (task.cwd / "fifo").write_text("go\n")
    ended = await attempts.outcome(adopted)
    assert (ended.oom_killed, ended.usage.oom_kills) == (True, 1)
    await adopted.terminate(0)
    assert attempts.groups() == []


async def test_groups_without_a_folder_are_swept(attempts: Confined) -> None:
    needs(attempts, "pids")
    task = attempts.confined("printf up; sleep 600", Confinement(resources=Resources(pids=30)))
    running = await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    attempts.confiner.sweep()
    assert attempts.groups() == ["b0.1"]
    assert is_running(running.pid)
    shutil.rmtree(task.home)
    confiner_of(attempts.data).sweep()
    assert attempts.groups() == []
    await until(lambda: not is_running(running.pid))


# -- who, and what it may -----------------------------------------------------------------------


async def test_a_build_runs_as_another_user_in_a_folder_of_its_own(attempts: Confined) -> None:
    needs(attempts, "user")
    script = """id -un; pwd; touch here; stat -c %U here . "$PWD/../tmp"; echo "$WORDS"
        cat ../../../token; ls ..; ls ../../..; echo x >../out; kill -0 $PPID
        echo err >/dev/stderr; echo end >/dev/stdout"""
    words = 'it\'s $HOME `x`\n"two" \\lines'
    other = attempts.confined("true", Confinement(user=NOBODY))
    (other.cwd / "theirs").touch()
    ended, log = await attempts.ran(script, Confinement(user=NOBODY), WORDS=words)
    lines = log.split("\n")
    assert lines[:2] == [NOBODY, str(attempts.tasks[-1].cwd)]
    assert lines[2:5] == [NOBODY] * 3
    assert words in log
    assert "secret" not in log
    assert log.count("Permission denied") + log.count("No such file") == 3
    assert "Operation not permitted" in log
    assert "b0" not in log
    assert log.endswith("err\nend\n")
    assert ended.code == 0


async def test_what_runs_as_root_before_has_nothing_of_the_builds_environment(
    attempts: Confined,
) -> None:
    needs(attempts, "user")
    evil = attempts.data / "evil"
    env = {"LD_PRELOAD": "/nonexistent.so", "ENV": str(evil), "BASH_ENV": str(evil)}
    evil.write_text("echo was root >&2")
    ended, log = await attempts.ran("echo $LD_PRELOAD", Confinement(user=NOBODY), **env)
    assert ended.code == 0
    # The loader's complaint comes from the script's own programs alone, which is none here but sh.
    assert log.count("cannot be preloaded") <= 1
    assert "/nonexistent.so" in log
    assert "was root" not in log


async def test_no_new_privileges_are_gained(attempts: Confined) -> None:
    needs(attempts, "no_new_privs", "user")
    su = "su -s /bin/sh root -c id </dev/null; grep NoNewPrivs /proc/self/status"
    _, log = await attempts.ran(su, Confinement(user=NOBODY, no_new_privs=True))
    assert "uid=0" not in log
    assert "NoNewPrivs:\t1" in log


async def test_temporary_files_of_others_are_not_seen(attempts: Confined, data: Path) -> None:
    needs(attempts, "private_tmp")
    mark = Path(tempfile.gettempdir()) / f"{data.name}-mark"
    mark.touch()
    try:
        asked = Confinement(private_tmp=True)
        script = f"ls -A {mark.parent} /var/tmp /dev/shm; : >{mark.parent}/mine && : >/dev/shm/mine; ls ../tmp"
        ended, log = await attempts.ran(script, asked)
    finally:
        mark.unlink()
    assert ended.code == 0
    assert mark.name not in log
    assert "mine" in log
    assert not (mark.parent / "mine").exists()
    assert "token" not in log


async def test_other_processes_are_neither_seen_nor_signalled(attempts: Confined) -> None:
    needs(attempts, "private_pids")
    script = f"kill -0 {os.getpid()}; ls -d /proc/[0-9]*; echo $$; setsid sleep 600 & echo end"
    ended, log = await attempts.ran(script, Confinement(private_pids=True))
    assert ended.code == 0
    assert "No such process" in log
    assert f"/proc/{os.getpid()}\n" not in log
    assert 2 <= log.count("/proc/") <= 5
    # What a script leaves behind ends with the first process of its namespace.
    assert marked(attempts.tasks[-1].marker) == []


async def test_the_network_is_cut_but_for_the_loopback(attempts: Confined) -> None:
    needs(attempts, "network")
    script = "ls /proc/sys/net/ipv4/conf; cat /proc/net/route; ip -o -4 addr show lo"
    ended, log = await attempts.ran(script, Confinement(network="none"))
    assert ended.code == 0
    assert "eth" not in log
    assert "127.0.0.1" in log


@pytest.mark.parametrize("has_pids", [False, True])
async def test_all_of_it_together_and_a_signal_is_the_scripts_own(
    attempts: Confined, has_pids: bool
) -> None:
    needs(attempts, *ABILITIES)
    asked = Confinement(
        resources=Resources(cpus=1, memory_bytes=256 * MIB, pids=100),
        user=NOBODY,
        network="none",
        no_new_privs=True,
        private_tmp=True,
        private_pids=has_pids,
    )
    ended, _ = await attempts.ran("kill -TERM $$", asked)
    assert (ended.code, ended.signal) == (143, 15)
    task = attempts.confined("trap 'echo bye; exit 7' TERM; printf up; sleep 600 & wait", asked)
    running = await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    await running.terminate(PATIENCE_S)
    ended = await attempts.outcome(running)
    assert (ended.code, b"bye" in attempts.log(task)) == (7, True)


async def test_secret_files_are_seen_where_others_memory_is_not(attempts: Confined) -> None:
    needs(attempts, "private_tmp")
    folder = Path(tempfile.mkdtemp(prefix="rota-test-", dir="/dev/shm"))
    try:
        (folder / "key").write_text("the key")
        (folder.parent / f"{folder.name}-other").touch()
        mount = Mount(source=folder, target=str(folder), writable=False)
        task = attempts.confined(
            f"cat {folder}/key; ls {folder.parent}", Confinement(private_tmp=True)
        )
        running = await attempts.executor.start(replace(task, mounts=(mount,)))
        ended = await attempts.outcome(running)
        await running.terminate(0)
    finally:
        (folder.parent / f"{folder.name}-other").unlink()
        shutil.rmtree(folder)
    assert (ended.code, attempts.log(task).decode()) == (0, f"the key{folder.name}\n")


async def test_a_lease_that_runs_out_ends_what_escaped_as_well(attempts: Confined) -> None:
    needs(attempts, "pids")
    daemon = "env -i setsid -f sh -c 'echo $$ >pid; exec sleep 600' >/dev/null 2>&1 </dev/null"
    script = f"{daemon}; until test -s pid; do :; done; cat pid; exec sleep 600"
    task = attempts.confined(script, Confinement(resources=Resources(pids=30)))
    lent = replace(task, lease_until=attempts.executor.moment() + 60)
    running = await attempts.executor.start(lent)
    await until(lambda: attempts.log(task).endswith(b"\n"))
    escaped = int(attempts.log(task))
    assert running.renew(attempts.executor.moment() - 1)
    ended = await attempts.outcome(running)
    assert ended.expired
    await until(lambda: not is_running(escaped))


# -- what cannot be -----------------------------------------------------------------------------


def test_an_ordinary_users_agent_and_root_both_say_what_they_can(data: Path) -> None:
    labels = confiner_of(data).labels()
    programs = {"bwrap", "setpriv", "unshare", "systemd-run"}
    assert labels.keys() <= {"cgroup", *programs, *ABILITIES.values()}
    assert (ABILITIES["user"] in labels) <= ROOT


async def test_a_limit_without_a_control_group_is_an_error(data: Path) -> None:
    attempts = Confined(data, Confiner(data, Toolbox(), None))
    task = attempts.confined("true", Confinement(resources=Resources(cpus=1, pids=9)))
    with pytest.raises(ExecutionError) as caught:
        await attempts.executor.start(task)
    assert str(caught.value) == (
        "this agent cannot limit cpus, pids: it has no control group of its own for that"
    )
    assert (caught.value.hint or "").startswith("run it as root, or by systemd")
    await attempts.close()


async def test_missing_tools_are_named(data: Path) -> None:
    attempts = Confined(data, Confiner(data, Toolbox(), None))
    asked = Confinement(network="none", no_new_privs=True, private_tmp=True)
    with pytest.raises(ExecutionError) as caught:
        await attempts.executor.start(attempts.confined("true", asked))
    assert str(caught.value) == (
        "this agent cannot confine a build so: setpriv, unshare, mount, umount, ip not found"
    )
    await attempts.close()


async def test_a_tool_that_fails_is_an_error_of_the_agent(data: Path) -> None:
    tools = Toolbox(unshare="/bin/false", ip="/bin/false", setpriv="/bin/false")
    broken = data / "unshare"
    broken.write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    attempts = Confined(data, Confiner(data, tools._replace(unshare=str(broken)), None))
    task = attempts.confined("echo never", Confinement(network="none"))
    running = await attempts.executor.start(task)
    with pytest.raises(ExecutionError) as caught:
        await attempts.outcome(running)
    assert str(caught.value) == (
        "cannot confine the script: unshare: unshare failed: Operation not permitted"
    )
    assert attempts.log(task) == b""
    await running.terminate(0)
    attempts.executor.close()


@pytest.mark.skipif(not ROOT, reason="only root is refused for the user alone")
@pytest.mark.parametrize(
    ("user", "fault"),
    [
        ("no-such-user", "there is no user 'no-such-user' on this machine"),
        ("4123456", "there is no user '4123456' on this machine"),
        (f"{NOBODY}:no-such-group", "there is no group 'no-such-group' on this machine"),
    ],
)
async def test_a_user_that_is_not_there_is_named(attempts: Confined, user: str, fault: str) -> None:
    task = attempts.confined("true", Confinement(user=user, resources=Resources(pids=9)))
    with pytest.raises(ExecutionError) as caught:
        await attempts.executor.start(task)
    assert str(caught.value) == fault
    assert attempts.groups() == []


async def test_ones_own_user_needs_no_rights(attempts: Confined) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    ended, log = await attempts.ran("id -un", Confinement(user=own))
    assert (ended.code, log) == (0, f"{own}\n")


# -- shells ----------------------------------------------------------------------------------------


ALL = Confinement(
    resources=Resources(pids=20),
    user=NOBODY,
    network="none",
    no_new_privs=True,
    private_tmp=True,
)
LOOK = (
    "id -un; pwd; cat /proc/self/status | grep NoNewPrivs; ls /sys/class/net /proc/self/net/dev"
    " | head -1; cat /tmp/shared file; echo written >/tmp/back; ls / >/dev/null; echo $WORD"
)


async def _said(session: Session) -> str:
    said = b""
    while (piece := await session.read()) is not None:
        said += piece[1]
    await session.end()
    return said.decode().replace("\r", "")


@pytest.mark.parametrize("tty", [None, Tty()])
async def test_a_shell_is_confined_as_its_attempt_is(attempts: Confined, tty: Tty | None) -> None:
    if not ROOT:
        pytest.skip("another user is for an agent of root")
    needs(attempts, "pids", "user", "network", "no_new_privs", "private_tmp")
    script = "echo tmp >/tmp/shared; echo work >file; printf up; sleep 600"
    task = attempts.confined(script, ALL, WORD="of the build")
    running = await attempts.executor.start(task)
    await until(lambda: b"up" in attempts.log(task))
    look = f"{LOOK}; cat /proc/self/cgroup; cat {attempts.data}/token; wc -l </proc/net/dev"
    session = await attempts.executor.enter(task, ["sh", "-c", look], tty)
    said = await _said(session)
    assert said.startswith(f"nobody\n{task.cwd}\nNoNewPrivs:\t1\n")
    assert "tmp\nwork\n" in said
    assert "of the build\n" in said
    assert f"cat: {attempts.data}/token: No such file" in said
    assert said.splitlines()[-1].strip() == "3"  # two lines of head, and the loopback
    assert (task.home / "tmp" / "back").read_text() == "written\n"
    (name,) = attempts.groups()
    assert name in said  # it counts against what the attempt may have
    assert not list(task.home.glob("shell-*"))
    # What ends the attempt ends it, too.
    session = await attempts.executor.enter(task, ["sleep", "601"], tty)
    await running.terminate(0)
    assert await _said(session) == ""
    assert session.code in (129, 137)
    # And afterwards, where it is kept, it is confined all the same.
    session = await attempts.executor.enter(
        task, ["sh", "-c", f"{LOOK}; cat /proc/self/cgroup"], tty
    )
    assert len(attempts.groups()) == 1
    said = await _said(session)
    assert said.startswith(f"nobody\n{task.cwd}\n")
    assert ".shell-" in said
    assert attempts.groups() == []


async def test_a_shell_that_cannot_be_confined_says_so_and_nothing_runs(
    attempts: Confined,
) -> None:
    if not ROOT:
        pytest.skip("another user is for an agent of root")
    needs(attempts, "user")
    task = attempts.confined("true", Confinement(user=NOBODY))
    (attempts.data / "bin").rmdir()  # a folder that is to be shown
    bad = replace(task, env={**task.env, "A-B": "no name of a variable"})
    session = await attempts.executor.enter(bad, ["touch", "ran"], None)
    assert "rota: it could not be confined: " in await _said(session)
    assert session.code == 126 or session.code == 2
    assert not (task.cwd / "ran").exists()
    with pytest.raises(ExecutionError, match="this agent cannot confine builds"):
        await ProcessExecutor().enter(task, ["true"], None)


# -- an ordinary user's agent -------------------------------------------------------------------

ORDINARY = """
import asyncio, json, sys
from pathlib import Path
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import confiner_of
from rota.core.confinement import Confinement
from rota.core.resources import Resources
from rota.errors import ExecutionError
from rota.ports.executor import Task

data, script = Path(sys.argv[1]), sys.argv[2]
asked = eval(sys.argv[3])
home = data / "builds" / "b" / "1"
for name in ("work", "tmp"):
    (home / name).mkdir(parents=True)
file = data / "script"
file.write_text("#!/bin/sh\\n" + script)
file.chmod(0o755)
env = {"PATH": "/usr/bin:/bin", "ROTA_X": str(home)}
task = Task(home=home, argv=(str(file),), cwd=home / "work", env=env, marker=f"ROTA_X={home}", confinement=asked)

async def main():
    confiner = confiner_of(data)
    executor = ProcessExecutor(confiner=confiner)
    try:
        running = await executor.start(task)
        ended = await running.wait()
        await running.terminate(0)
    except ExecutionError as error:
        return [0, str(error), sorted(confiner.labels())]
    return [ended.code, (home / "log").read_text(), sorted(confiner.labels())]

print(json.dumps(asyncio.run(main())))
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of an ordinary user's."""
    folder = Path(tempfile.mkdtemp(prefix="rota-test-"))
    if ROOT:
        shutil.chown(folder, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def as_their_agent(data: Path, script: str, asked: str) -> tuple[int, str, set[str]]:
    code, log, labels = json.loads(as_ordinary(ORDINARY, str(data), script, asked))
    return code, log, set(labels)


def test_an_ordinary_users_agent_confines_by_a_user_namespace(theirs: Path) -> None:
    script = "id -un; ls -A /tmp ../../..; umount /tmp; ls /proc/sys/net/ipv4/conf; exit 7"
    asked = "Confinement(private_tmp=True, private_pids=True, network='none', no_new_privs=True)"
    (theirs / "token").touch()
    code, log, labels = as_their_agent(theirs, script, asked)
    needed = {ABILITIES["private_pids"], ABILITIES["network"], ABILITIES["no_new_privs"]}
    if not needed <= labels:
        pytest.skip("this machine has no user namespaces for ordinary users")
    assert (code, log.startswith(f"{NOBODY}\n")) == (7, True), log
    assert "token" not in log
    assert "must be superuser to unmount" in log
    assert "eth" not in log


def test_an_ordinary_users_agent_says_what_it_cannot(theirs: Path) -> None:
    _, said, labels = as_their_agent(theirs, "true", "Confinement(user='root')")
    assert said == f"this agent runs as {NOBODY}, and cannot run a build as root"
    assert ABILITIES["user"] not in labels


def test_an_ordinary_users_agent_limits_what_was_handed_over_to_it(
    theirs: Path, tmp_path: Path
) -> None:
    hierarchy = find_hierarchy("test")
    if not ROOT or not isinstance(hierarchy, HierarchyV1) or not hierarchy.limits:
        pytest.skip("only root hands groups over; and only of version 1 are there any here")
    owned = hierarchy.make("handed-over", Resources(cpus=4))
    before = {folder: Path(folder).parent / "cgroup.procs" for folder in owned.folders}
    script = "cat /proc/self/cgroup; dd if=/dev/zero of=/dev/null bs=512M count=1"
    try:
        for folder in owned.folders:
            for path in (Path(folder), *Path(folder).iterdir()):
                shutil.chown(path, NOBODY)
            (Path(folder) / "cgroup.procs").write_text(str(os.getpid()))
        asked = f"Confinement(resources=Resources(memory_bytes={64 * MIB}, pids=50, cpus=1))"
        code, log, labels = as_their_agent(theirs, script, asked)
    finally:
        for procs in before.values():
            procs.write_text(str(os.getpid()))
        owned.remove()
    assert {ABILITIES[it] for it in ("cpus", "memory", "pids")} <= labels
    assert code == 137, log
    assert "b.1" in log
    assert list(hierarchy.left()) == []
