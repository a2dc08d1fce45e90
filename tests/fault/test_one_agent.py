"""One real agent, and what befalls it: kills, a full disk, hostile scripts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import ROTA, Daemon, daemon, is_alive, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]

#: Prints numbered lines with its process id until the file `go` appears, then exits with 7.
COUNTING = """#!/bin/bash
echo "$$" > "$DIR/pid"
n=0
while [ ! -e "$DIR/go" ]; do n=$((n+1)); echo "line $n of $$"; printf 'line %d of %d\\n' $n $$ >> "$DIR/truth"; sleep 0.01; done
exit 7
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path / "data") as running:
        yield running


def counting_job(here: Daemon, folder: Path) -> None:
    folder.mkdir()
    header = f'# /// script\n# [tool.rota]\n# env = {{ DIR = "{folder}" }}\n# ///\n'
    first, rest = COUNTING.split("\n", 1)
    here.add("count", f"{first}\n{header}{rest}")


def lines_written(folder: Path) -> int:
    truth = folder / "truth"
    return truth.read_text().count("\n") if truth.exists() else 0


@pytest.mark.parametrize("victims", ["daemon", "engine", "both", "daemon twice"])
def test_a_build_outlives_a_kill_with_its_process_log_and_exit_code(
    here: Daemon, tmp_path: Path, victims: str
) -> None:
    folder = tmp_path / "shared"
    counting_job(here, folder)
    here.ok("run", "count")
    wait_until("it prints", lambda: lines_written(folder) > 20)
    pid = int((folder / "pid").read_text())
    before = lines_written(folder)
    for _ in range(2 if "twice" in victims else 1):
        if victims in ("engine", "both"):
            here.kill_engine()
        if victims != "engine":
            here.kill()
            assert is_alive(pid)
            here.start()
    wait_until("it went on", lambda: lines_written(folder) > before + 20)
    assert here.build("count#1")["state"] == "running"
    (folder / "go").touch()
    build = here.until("count#1", "finished")
    assert (build["result"], build["exit_code"], build["attempt"]) == ("failed", 7, 1)
    truth = (folder / "truth").read_text()
    assert {line.split()[-1] for line in truth.splitlines()} == {str(pid)}
    assert here.ok("log", "count#1") == truth
    assert build["log_bytes"] == len(truth)
    assert build["log_sha256"] == hashlib.sha256(truth.encode()).hexdigest()


def test_a_build_that_ends_while_the_daemon_is_dead_has_its_true_outcome(
    here: Daemon, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    counting_job(here, folder)
    here.ok("run", "count")
    wait_until("it prints", lambda: lines_written(folder) > 5)
    pid = int((folder / "pid").read_text())
    here.kill()
    (folder / "go").touch()
    wait_until("the script is gone", lambda: not is_alive(pid))
    here.start()
    build = here.until("count#1", "finished")
    assert (build["result"], build["reason"], build["exit_code"]) == ("failed", "script", 7)
    assert here.ok("log", "count#1") == (folder / "truth").read_text()


def test_a_build_whose_supervisor_and_script_were_killed_is_lost_and_retried_if_asked(
    here: Daemon, tmp_path: Path
) -> None:
    header = '# /// script\n# [tool.rota]\n# retry = { times = 1, on = ["lost"] }\n# ///\n'
    here.add("gone", f'#!/bin/sh\n{header}[ "$ROTA_ATTEMPT" = 2 ] || exec sleep 600\necho again\n')
    here.ok("run", "gone")
    build = here.until("gone#1", "running")
    home = here.data / "builds" / build["id"] / "1"
    wait_until("it is spawned", lambda: (home / "pid").exists())
    here.kill()
    for pid in processes_of(build["id"]):
        os.kill(pid, signal.SIGKILL)
    wait_until("nothing of it is left", lambda: not processes_of(build["id"]))
    here.start()
    build = here.until("gone#1", "finished")
    assert (build["result"], build["attempt"]) == ("passed", 2)
    assert [former["result"] for former in build["former"]] == ["lost"]


def processes_of(build_id: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if build_id.encode() in text:
                found.append(int(folder.name))
    return found


def test_acknowledged_triggers_survive_the_kill_of_everything(here: Daemon) -> None:
    here.add("quick", "#!/bin/sh\ntrue\n")
    ids = {json.loads(here.ok("run", "quick", "--json"))["id"] for _ in range(5)}
    here.kill_engine()
    here.kill()
    here.start()
    for build_id in ids:
        assert here.until(build_id, "finished")["result"] == "passed"
    assert len(here.json("builds", "quick")) == 5
    assert {build["number"] for build in here.json("builds", "quick")} == {1, 2, 3, 4, 5}


def test_the_index_is_made_again_and_numbers_go_on(here: Daemon) -> None:
    here.add("quick", "#!/bin/sh\ntrue\n")
    for _ in range(3):
        here.ok("run", "quick", "--wait")
    wait_until("the history has them", lambda: history_count(here) == 3)
    before = here.json("builds")
    here.ok("stop")
    wait_until("it is down", lambda: not (here.data / "rota.sock").exists())
    for path in here.data.glob("index.db*"):
        path.unlink()
    here.start()
    assert here.json("builds") == before
    assert json.loads(here.ok("run", "quick", "--json"))["number"] == 4


def history_count(here: Daemon) -> int:
    done = subprocess.run(
        ["git", "-C", str(here.data / "store.git"), "ls-tree", "-r", "--name-only", "history"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.count(".json")


def test_every_finished_build_is_in_the_history_once_through_kills(here: Daemon) -> None:
    here.add("quick", "#!/bin/sh\ntrue\n")
    for round_ in range(4):
        for _ in range(5):
            here.ok("run", "quick")
        if round_ % 2:
            here.kill_engine()
        here.kill()
        here.start()
    wait_until("all are finished", lambda: not here.json("ps"))
    wait_until("all are in the history", lambda: history_count(here) == 20)
    fsck = subprocess.run(
        ["git", "-C", str(here.data / "store.git"), "fsck", "--no-dangling"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert fsck.returncode == 0, fsck.stderr
    verified = here.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout
    assert "20 records" in verified.stdout
    assert [b["number"] for b in here.json("builds", "-n", "20")] == list(range(20, 0, -1))


def test_a_hung_engine_is_replaced_and_the_build_is_recorded(here: Daemon) -> None:
    here.add("quick", "#!/bin/sh\necho done\n")
    hung = here.engine_pid
    os.kill(hung, signal.SIGSTOP)
    wait_until("the engine is replaced", lambda: here.engine_pid not in (0, hung), 60)
    wait_until("triggers are taken", lambda: here.run("run", "quick").returncode == 0)
    here.until("quick#1", "finished")
    assert here.ok("log", "quick#1") == "done\n"


def test_a_script_that_forks_away_leaves_nothing_running(here: Daemon) -> None:
    here.add(
        "fork", "#!/bin/bash\nsetsid sleep 611 >/dev/null 2>&1 &\nsleep 612 &\ndisown\nexit 0\n"
    )
    here.ok("run", "fork", "--wait")
    wait_until("the strays are ended", lambda: not commands("sleep\0611", "sleep\0612"))


def commands(*texts: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_alive(int(folder.name)):
            try:
                line = (folder / "cmdline").read_bytes().decode("latin-1")
            except OSError:
                continue
            if any(text in line for text in texts):
                found.append(int(folder.name))
    return found


def test_a_timeout_ends_a_script_that_ignores_sigterm(here: Daemon) -> None:
    header = '# /// script\n# [tool.rota]\n# timeout = "1s"\n# grace = "500ms"\n# ///\n'
    here.add("deaf", f"#!/bin/bash\n{header}trap '' TERM\necho here\nwhile :; do sleep 0.1; done\n")
    done = here.run("run", "deaf", "--wait")
    assert done.returncode == 1
    build = here.build("deaf#1")
    assert (build["result"], build["reason"]) == ("timed-out", "timeout")
    assert "ran longer than 1s" in here.ok("why", "deaf#1")
    assert here.ok("log", "deaf#1") == "here\n"


def test_a_script_that_prints_nothing_is_ended_for_it(here: Daemon) -> None:
    header = '# /// script\n# [tool.rota]\n# idle_timeout = "1s"\n# ///\n'
    here.add(
        "mute",
        f"#!/bin/bash\n{header}for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done; sleep 60\n",
    )
    assert here.run("run", "mute", "--wait").returncode == 1
    build = here.build("mute#1")
    assert (build["result"], build["reason"]) == ("timed-out", "no-output")
    assert here.ok("log", "mute#1") == "1\n2\n3\n4\n5\n6\n"


def test_a_script_that_closes_its_output_is_still_waited_for(here: Daemon) -> None:
    here.add("closed", "#!/bin/sh\necho before\nexec >&- 2>&-\nsleep 0.3\nexit 4\n")
    assert here.run("run", "closed", "--wait").returncode == 1
    assert here.build("closed#1")["exit_code"] == 4
    assert here.ok("log", "closed#1") == "before\n"


@pytest.mark.parametrize(
    ("name", "command", "size"),
    [
        ("nuls", "head -c 300000000 /dev/zero", 300_000_000),
        ("one-line", "head -c 10000000 /dev/zero | tr '\\0' x", 10_000_000),
        ("bytes", 'head -c 3000000 /dev/urandom | tee "$0.copy"', 3_000_000),
    ],
)
def test_large_and_odd_logs_arrive_byte_for_byte(
    here: Daemon, name: str, command: str, size: int
) -> None:
    here.add(
        name,
        # waited for: what a script leaves running is ended
        f"#!/bin/bash\n{command} | tee >(sha256sum > $SUM)\nuntil [ -s $SUM ]; do sleep 0.01; done\n".replace(
            "$SUM", str(here.data.parent / "sum")
        ),
    )
    here.ok("run", name, "--wait")
    build = here.build(f"{name}#1")
    assert build["log_bytes"] == size
    wait_until("the sum is there", lambda: (here.data.parent / "sum").read_text().strip())
    expected = (here.data.parent / "sum").read_text().split()[0]
    assert sha256_of_log(here, f"{name}#1") == expected


def sha256_of_log(here: Daemon, ref: str) -> str:
    digest = hashlib.sha256()
    with subprocess.Popen(
        [str(ROTA), "log", ref],
        stdout=subprocess.PIPE,
        env={**os.environ, "ROTA_DATA": str(here.data)},
    ) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(1 << 20):
            digest.update(piece)
    assert process.returncode == 0
    return digest.hexdigest()


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(small)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow to mount")
    try:
        with daemon(small / "data") as here:
            here.add("quick", "#!/bin/sh\necho fine\n")
            here.ok("run", "quick", "--wait")
            filler = small / "filler"
            with filler.open("wb") as file:
                for _ in range(200):
                    try:
                        file.write(b"\1" * (1 << 20))
                        file.flush()
                    except OSError:
                        break

            def refused() -> str | None:
                done = here.run("run", "quick")
                return done.stderr if done.returncode == 3 else None

            text = wait_until("triggers are refused", refused)
            assert "is full" in text
            assert "free some space" in text
            filler.unlink()
            wait_until("triggers are taken", lambda: here.run("run", "quick").returncode == 0, 60)
            wait_until("all have finished", lambda: not here.json("ps"), 60)
            builds = here.json("builds")
            assert builds[0]["result"] == "passed"
            # What ran in the moments before the disk was found full could not write its log, and
            # failed for it: `echo` says so to nobody. But all that was taken has a result.
            assert {build["state"] for build in builds} == {"finished"}
            assert len(builds) == builds[0]["number"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
