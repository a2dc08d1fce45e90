"""``rota shell`` as a person uses it: a terminal, pipes, another agent, and kills in the middle."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import ROTA, Daemon, daemon, is_alive, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

LONG = """#!/bin/sh
# /// script
# [tool.rota]
# labels = "agent=a"
# [tool.rota.params]
# suite = "fast"
# ///
echo left >file
while :; do sleep 600; done
"""
FAILS = LONG.replace("while :; do sleep 600; done", "exit 3")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("a"), "--name", "a", "--slots", "4") as made:
        made.add("long", LONG)
        made.add("fails", FAILS)
        yield made


@pytest.fixture
def build(agent: Daemon) -> Iterator[str]:
    ref = f"long#{agent.json('run', 'long', 'suite=slow')['number']}"
    agent.until(ref, "running")
    wait_until("its script runs", lambda: agent.run("shell", ref, "cat", "file").stdout)
    yield ref
    agent.run("cancel", ref)
    agent.until(ref, "finished")


def environment(at: Daemon) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}
    return {**clean, "ROTA_DATA": str(at.data)}


SLEEPER = (
    """python3 -c 'import time; print("beg" "un", flush=True); time.sleep(600)' 2>/dev/null\n"""
)


class Terminal:
    """A person at a terminal, who typed ``rota shell …``."""

    def __init__(self, at: Daemon, *words: str) -> None:
        self.said = b""
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execve(ROTA, ["rota", "shell", *words], {**environment(at), "TERM": "vt100"})

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> str:
        """Return what was printed up to and with ``text``."""

        def look() -> bool:
            while text.encode() not in self.said and select.select([self._fd], [], [], 0)[0]:
                try:
                    self.said += os.read(self._fd, 65536)
                except OSError:
                    break
            return text.encode() in self.said

        wait_until(f"{text!r} is printed", look)
        before, found, self.said = self.said.partition(text.encode())
        return (before + found).decode()

    def code(self) -> int:
        def look() -> tuple[int, int] | None:
            with contextlib.suppress(OSError):
                if select.select([self._fd], [], [], 0)[0]:
                    self.said += os.read(self._fd, 65536)
            found = os.waitpid(self.pid, os.WNOHANG)
            return found if found[0] else None

        _, status = wait_until("rota shell has ended", look)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


def test_a_shell_at_a_terminal(agent: Daemon, build: str) -> None:
    terminal = Terminal(agent, build)
    terminal.until(f"{build} on a: it runs")
    terminal.resize(33, 99)
    # What it is to print is put together by the shell: what is typed is echoed, too.
    terminal.type("stty size; echo $suite $ROTA_JOB; cat file; echo re''ady\n")
    assert "slow long\r\nleft\r\n" in terminal.until("ready\r\n")
    terminal.resize(44, 88)
    terminal.type("while [ \"$(stty size)\" != '44 88' ]; do :; done; echo re''sized\n")
    terminal.until("resized\r\n")
    # It says so itself, so that by then it is what the terminal interrupts.
    terminal.type(SLEEPER)
    terminal.until("begun\r\n")
    terminal.type("\x03")
    terminal.type("echo co''de $?; exit 7\n")
    terminal.until("code 130\r\n")
    assert terminal.code() == 7


def test_enter_tilde_dot_leaves_and_ends_what_ran(agent: Daemon, build: str) -> None:
    terminal = Terminal(agent, build)
    terminal.type("echo pi''d $$; exec sleep 600\n")
    terminal.until("pid ")
    pid = int(terminal.until("\r\n"))
    terminal.type("\r~.")
    assert terminal.code() == 255
    assert "left; what ran there is ended" in terminal.said.decode()
    wait_until("what ran is gone", lambda: not is_alive(pid))


def test_pipes_carry_any_bytes_and_the_exit_status(
    agent: Daemon, build: str, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "hostile").write_bytes(bytes(range(256)) * 400)
    packed = subprocess.run(
        ["tar", "c", "-C", str(tmp_path), "src"], capture_output=True, check=True
    ).stdout
    shell = [str(ROTA), "shell", build]
    done = subprocess.run(
        [*shell, "tar", "x"], input=packed, env=environment(agent), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    done = subprocess.run(
        [*shell, "sh", "-c", "cat src/hostile; echo bad >&2; exit 9"],
        stdin=subprocess.DEVNULL, env=environment(agent), capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout == (tmp_path / "src" / "hostile").read_bytes()
    assert (done.returncode, done.stderr) == (9, b"bad\n")


def test_a_hundred_megabytes_go_through_both_ways(agent: Daemon, build: str) -> None:
    piece, count = os.urandom(1 << 20), 100
    sent = hashlib.sha256(piece * count).hexdigest()
    feed = f"import sys\nd = sys.stdin.buffer.read()\nfor _ in range({count}): sys.stdout.buffer.write(d)"
    with (
        subprocess.Popen(
            ["python3", "-c", feed], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as source,
        subprocess.Popen(
            [str(ROTA), "shell", build, "cat"],
            stdin=source.stdout, stdout=subprocess.PIPE, env=environment(agent),
        ) as shell,
    ):  # fmt: skip
        assert source.stdin is not None
        assert shell.stdout is not None
        source.stdin.write(piece)
        source.stdin.close()
        found = hashlib.sha256()
        while data := shell.stdout.read(1 << 16):
            found.update(data)
    assert (shell.returncode, found.hexdigest()) == (0, sent)


def sleeper(agent: Daemon, build: str, script: str) -> tuple[subprocess.Popen[str], int]:
    """Start a shell that tells its process, and goes on for ever."""
    shell = subprocess.Popen(
        [str(ROTA), "shell", build, "sh", "-c", f"echo $$; {script}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(agent),
    )  # fmt: skip
    assert shell.stdout is not None
    return shell, int(shell.stdout.readline())


def test_a_killed_client_takes_its_shell_along(agent: Daemon, build: str) -> None:
    shell, pid = sleeper(agent, build, "sleep 600")
    with shell:
        shell.kill()
        wait_until("what it ran is gone", lambda: not is_alive(pid))


def test_a_killed_daemon_ends_shells_and_the_next_finds_what_is_left(
    agent: Daemon, build: str
) -> None:
    # It hears no hang-up: only by its marks is it found.
    shell, pid = sleeper(agent, build, "trap '' HUP; while :; do sleep 600; done")
    agent.kill()
    _, err = shell.communicate(timeout=60)
    assert shell.returncode == 3
    assert "the connection broke, and the shell has ended with it" in err
    agent.start()
    wait_until("what it ran is gone", lambda: not is_alive(pid))
    assert agent.build(build)["state"] == "running"


def test_a_shell_ends_with_its_build_and_the_kept_workspace_can_be_entered(
    agent: Daemon, build: str
) -> None:
    shell, _ = sleeper(agent, build, "sleep 600")
    agent.ok("cancel", build)
    _, err = shell.communicate(timeout=60)
    assert shell.returncode in (137, 143)
    assert f"the script of {build} has ended, and all that ran with it" in err
    agent.until(build, "finished")
    assert (
        wait_until("it is kept", lambda: agent.run("shell", build, "cat", "file").stdout)
        == "left\n"
    )


def failed(agent: Daemon, at: Daemon) -> str:
    """Run a build that fails; return its name once ``at`` lists what is kept of it."""
    build = agent.json("run", "fails", "--keep-on-failure")["id"]

    def look() -> str | None:
        found = at.json("workspaces")["workspaces"]
        return next((it["build"] for it in found if it["id"] == build and it["asked"]), None)

    return wait_until("it is kept", look)


def test_what_is_kept_is_listed_and_goes_when_told(agent: Daemon) -> None:
    build = failed(agent, at=agent)
    assert agent.ok("shell", build, "cat", "file") == "left\n"
    assert agent.ok("workspaces", "rm", build) == f"{build} on a is removed\n"
    refused = agent.run("shell", build, "true")
    assert refused.returncode == 5
    assert refused.stderr == (
        f"error: the workspace of {build} is not kept\n\nhint: to keep the next one: rota run fails"
        ' --keep-on-failure, or in its header workspace = { keep = "on-failure" }\n'
    )
    both = agent.run("run", "fails", "--keep-on-failure", "--keep-workspace", "never")
    assert (both.returncode, both.stderr.splitlines()[0]) == (
        2,
        "error: --keep-on-failure and --keep-workspace never do not go together",
    )


def test_from_another_agent_it_is_the_same(agent: Daemon, build: str, tmp_path: Path) -> None:
    token = agent.ok("token", "create").split()[0]
    other = Daemon(tmp_path / "b", "--name", "b")
    other.ok("join", token, "--name", "b", "--slots", "1")
    try:
        wait_until("b knows the build", lambda: other.run("show", build).returncode == 0)
        terminal = Terminal(other, build)
        terminal.until(f"{build} on a: it runs")
        terminal.type("cat file; echo $ROTA_AGENT; exit 5\n")
        terminal.until("left\r\na\r\n")
        assert terminal.code() == 5
        refused = other.run("shell", "--attempt", "4", build, "true")
        assert (refused.returncode, refused.stderr.splitlines()[0]) == (
            5,
            f"error: {build} has no attempt 4, only 1",
        )
        kept = failed(agent, at=other)
        assert other.ok("shell", kept, "cat", "file") == "left\n"
        assert other.ok("workspaces", "rm", kept) == f"{kept} on a is removed\n"
        refused = other.run("shell", kept, "true")
        assert refused.stderr.splitlines()[0] == f"error: the workspace of {kept} is not kept"
    finally:
        other.end()
