"""``rota repl`` as a person has it: in a terminal of 80 by 24, with a real agent that dies and comes back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import ROTA, Daemon, is_alive, wait_until
from tests.harness.terminal import Terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

TEST = """\
#!/bin/sh
# /// script
# [tool.rota]
# description = "unit tests"
# [tool.rota.params]
# suite = { default = "fast", choices = ["fast", "full"] }
# ///
echo "tests: $suite"
printf 'no line end'
"""
#: Prints a number each time somebody sends it a line.
COUNTS = """\
#!/bin/sh
# /// script
# [tool.rota]
# stdin = true
# ///
n=0
while read line; do n=$((n + 1)); echo "number $n"; done
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("agent") / "data")
    daemon.start()
    daemon.add("web/test", TEST)
    daemon.add("counts", COUNTS)
    yield daemon
    daemon.end()


class Seat:
    """Where a person sits: a terminal, and the agent that its commands ask."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self._folder = folder
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ROTA_")},
            "ROTA_DATA": str(daemon.data),
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": f"{ROTA.parent}:{os.environ['PATH']}",
            "TERM": "screen-256color",
        }

    def terminal(self, **env: str) -> Terminal:
        return Terminal(self._folder, {**self.env, **env})


@pytest.fixture
def seat(daemon: Daemon) -> Iterator[Seat]:
    if not is_alive(daemon.pid):
        daemon.start()
    with tempfile.TemporaryDirectory(prefix="rt") as folder:  # a socket's path is short
        yield Seat(daemon, Path(folder))


def prompted(terminal: Terminal) -> None:
    """Begin, and wait for the prompt with the toolbar below."""
    terminal.run("rota", "repl")
    terminal.until("here · leads · 1 agent · ")


def last_line(terminal: Terminal) -> str:
    """Return the line of the prompt: the last one above the toolbar."""
    lines = [line for line in terminal.screen.splitlines() if line.strip()]
    return lines[-2] if len(lines) > 1 else ""


def ready(terminal: Terminal) -> None:
    """Wait until the prompt is there again, with nothing typed."""
    wait_until("the prompt", lambda: last_line(terminal).rstrip() == "rota>")


def ended(terminal: Terminal) -> None:
    """Wait until it is over."""
    wait_until("it ends", lambda: not terminal.pids())


def pasted(terminal: Terminal, text: str) -> None:
    terminal._tmux("set-buffer", text)
    terminal._tmux("paste-buffer", "-p")


def test_a_person_completes_runs_follows_and_leaves(seat: Seat, daemon: Daemon) -> None:
    with seat.terminal() as terminal:
        prompted(terminal)
        terminal.type("run we")
        terminal.until("web/test  unit tests")  # offered while it is typed
        terminal.type("Tab", " s")
        terminal.until("suite=")
        terminal.type("Tab", "fu")
        terminal.until("suite=full")
        terminal.type("Tab", " -f", "Enter")
        screen = terminal.until("web/test#1 ✓ passed")
        assert "rota> run web/test suite=full -f\n" in screen
        assert "tests: full\nno line end" in screen
        ready(terminal)
        terminal.line("!printf x")  # what leaves a line unfinished does not eat the prompt
        terminal.until("x⏎")
        ready(terminal)

        terminal.line("run counts -f")
        terminal.until("counts#1 ○ queued")
        daemon.until("counts#1", "running")
        daemon.ok("send", "counts#1", "go")
        terminal.until("number 1")
        terminal.type("C-c")
        terminal.until("counts#1 goes on; come back: rota log 'counts#1' -f, end it: rota cancel")
        terminal.until(" · 1 running of 4 · ")
        ready(terminal)
        terminal.line("log counts#1 -f")
        wait_until("it is shown again", lambda: terminal.screen.count("number 1\n") == 2)
        terminal.type("C-c")
        terminal.until("counts#1 goes on; end it: rota cancel 'counts#1'")
        assert daemon.build("counts#1")["state"] == "running"
        ready(terminal)
        terminal.line("rota cancel 'counts#1'; builds counts | tr a-z A-Z")
        terminal.until("COUNTS#1  ")
        terminal.until(" · 0 running of 4 · ")

        ready(terminal)
        terminal.type("never this")
        terminal.until("never this")
        terminal.type("C-c")
        ready(terminal)
        terminal.type("C-d")
        ended(terminal)
    history = (Path(seat.env["XDG_STATE_HOME"]) / "rota" / "history").read_text()
    assert "+run web/test suite=full -f\n" in history
    assert "never this" not in history


def test_the_agent_dies_and_comes_back(seat: Seat, daemon: Daemon) -> None:
    build = daemon.json("run", "counts")
    name = f"counts#{build['number']}"
    daemon.until(name, "running")
    with seat.terminal() as terminal:
        prompted(terminal)
        terminal.line(f"log {name} -f")
        daemon.ok("send", name, "go")
        terminal.until("number 1")
        daemon.kill()
        terminal.until("rota: here does not answer; trying again")
        daemon.start()
        daemon.ok("send", name, "go")
        terminal.until("number 2")
        assert terminal.screen.count("number 1\n") == 1
        assert terminal.screen.count("does not answer") == 1
        terminal.type("C-c")
        ready(terminal)

        daemon.kill()
        terminal.until(" no answer since ")
        terminal.type("drain h")
        # What was known is offered still.
        wait_until("an offer", lambda: re.search(r"\n +here +up", terminal.screen))
        terminal.type("C-c")
        ready(terminal)
        terminal.line("builds counts -n 1")  # waits until somebody answers
        daemon.start()
        terminal.until(f"{name}  ● running")
        terminal.until("here · leads · 1 agent · 1 running of 4")
        terminal.line("exit")
        ended(terminal)
    daemon.ok("cancel", name)


def test_what_is_pasted_or_cannot_be_read_runs_nothing_by_itself(seat: Seat) -> None:
    with seat.terminal() as terminal:
        prompted(terminal)
        pasted(terminal, "!echo on''e\n!echo tw''o\n")
        terminal.until("!echo tw''o")
        assert "\none" not in terminal.screen
        terminal.type("Enter")
        terminal.until("\none\ntwo\n")
        ready(terminal)
        terminal.line("show 'web")
        terminal.until("column 6: the quote ' is never closed; close it;")
        terminal.type("End", "'", "Enter")  # mended where it stands
        terminal.until("error: no job 'web'")
        ready(terminal)
        terminal.line("jbos")
        terminal.until("hint: did you mean 'jobs'?")
        ready(terminal)
        terminal.resize(40, 12)
        terminal.line("!echo 漢字 | wc -m")
        terminal.until("\n3\n")
        wait_until("the toolbar fits", lambda: max(map(len, terminal.screen.splitlines())) <= 40)
        terminal.type("Up", "Up", "Up")
        terminal.until("rota> show 'web'")


def test_ctrl_c_at_any_moment_does_not_end_it(seat: Seat) -> None:
    with seat.terminal() as terminal:
        prompted(terminal)
        for number in range(10):
            terminal.line(f"!echo {number}{number}")
            terminal.type(*["C-c"] * 10)
        terminal.line("!echo still th''ere")
        terminal.until("\nstill there\n")
        assert "Traceback" not in terminal._tmux("capture-pane", "-p", "-S", "-")
        terminal.line("exit")
        ended(terminal)


def test_ctrl_c_forgets_what_was_typed_ahead(seat: Seat) -> None:
    with seat.terminal() as terminal:
        prompted(terminal)
        terminal._tmux("set-buffer", "!echo up; exec cat\nexi")
        terminal._tmux("paste-buffer")  # at once: the prompt reads beyond its line
        terminal.until("\nup\n")
        terminal.type("C-c")
        ready(terminal)
        terminal.line("!echo th''ere")
        terminal.until("\nthere\n")


def test_a_signal_leaves_the_terminal_as_it_was(seat: Seat) -> None:
    with seat.terminal() as terminal:
        prompted(terminal)
        (pid,) = terminal.pids()
        os.kill(pid, signal.SIGTERM)
        wait_until("it is gone", lambda: not is_alive(pid))
        terminal.line("echo status $?; stty -a | tr ' ' '\\n' | grep -x -e echo -e icanon")
        terminal.until("status 143\n")
        terminal.until("icanon\necho\n")


def test_a_terminal_that_can_do_little_has_a_prompt_too(seat: Seat) -> None:
    with seat.terminal() as terminal:
        terminal.line("TERM=dumb rota repl")
        terminal.until("rota>")
        terminal.line("jobs")
        terminal.until("web/test")
        terminal.line("show nosuch")
        terminal.until("error: no job 'nosuch'")
        assert "\x1b" not in terminal._tmux("capture-pane", "-p", "-e").replace("\x1b[39m", "")
        terminal.type("C-d")
        ended(terminal)


def test_without_an_agent_there_is_a_prompt_that_says_so(seat: Seat, tmp_path: Path) -> None:
    with seat.terminal(ROTA_DATA=str(tmp_path / "none")) as terminal:
        terminal.run("rota", "repl")
        terminal.until(" no answer since ")
        terminal.line("jobs")
        terminal.until("error: no agent at")
        terminal.until("hint: start one: rota agent --daemon")
        ready(terminal)


def test_a_script_of_commands_with_its_status(seat: Seat) -> None:
    script = "run web/test --wait --json | grep -c passed\nshow nosuch\njobs\n"
    command = [str(ROTA), "repl"]
    done = subprocess.run(
        command, env=seat.env, input=script, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (5, "1\n")
    assert done.stderr == (
        "error: no job 'nosuch'\n\nhint: see which there are: rota jobs\nnote: <stdin>:2: status 5\n"
    )
