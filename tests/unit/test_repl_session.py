"""Lines and scripts of the REPL: what they print, what the shell does with it, how they end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.fake_agent import BUILD, Asked, FakeAgent, Reply, answer, fake_agent, problem
from tests.unit.test_cli_commands import Said

from rota.cli.main import main
from rota.cli.repl.history import MAX_BYTES, history_path, is_kept, prepared

BUILDS = "web/test#7  passed  2m03s  2026-01-02T03:06:04.000000Z  by anna\n"


def respond(asked: Asked) -> Reply:
    if asked.path == "/v1/builds":
        return answer([BUILD])
    if asked.path == "/v1/jobs" and asked.query["match"] == "all":
        return answer([{"name": f"{number:0250}", "description": ""} for number in range(5000)])
    if asked.method == "POST":
        return answer({**BUILD, "state": "queued", "result": None})
    return problem(404, f"no {asked.path}")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    for name in list(os.environ):
        if name.startswith("ROTA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with fake_agent(respond, tmp_path / "rota.sock") as agent:
        yield agent


class Repl:
    """Runs ``rota repl`` in this process."""

    def __init__(self, agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
        self._agent, self._capfd = agent, capfd

    def __call__(self, *words: str) -> Said:
        status = main(["--at", self._agent.url, "repl", *words])
        return Said(status, *self._capfd.readouterr())


@pytest.fixture
def repl(agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> Repl:
    return Repl(agent, capfd)


def test_commands_run_one_after_another(repl: Repl) -> None:
    assert repl("-c", "builds; rota builds; !echo hi  # no more") == (0, BUILDS * 2 + "hi\n", "")
    assert repl("-c", "") == (0, "", "")
    assert repl("-c", "help builds").out.startswith("usage: rota builds ")
    assert repl("-c", "? builds").out == repl("-c", "builds --help").out
    listed = repl("-c", "?").out
    assert "  builds      list builds" in listed
    assert "what comes after | or > is the shell's" in listed
    assert "  agent " not in listed


def test_output_goes_into_the_shell_and_its_status_counts(repl: Repl, tmp_path: Path) -> None:
    assert repl("-c", "builds | tr a-z A-Z | cut -c1-10") == (0, "WEB/TEST#7\n", "")
    assert repl("-c", "builds >x; builds >> x; !wc -l <x") == (0, "2\n", "")
    assert (tmp_path / "x").read_text() == BUILDS * 2
    assert repl("-c", "builds > $(echo y).txt 2>&1; !cat y.txt") == (0, BUILDS, "")
    said = repl("-c", "builds | grep -c failed; builds")
    assert said == (1, "0\n", "note: -c:1: status 1\n")
    assert repl("-c", "!exit 7").status == 7
    assert repl("-c", "!kill -TERM $$").status == 128 + signal.SIGTERM
    said = repl("-c", "builds | no-such-program")
    assert said.status == 127
    assert "no-such-program" in said.err


def test_who_has_read_enough_ends_a_long_output(repl: Repl) -> None:
    assert repl("-c", "jobs all | head -n 1 | cut -c 240-250") == (0, "0" * 11 + "\n", "")


def test_a_command_does_not_run_where_its_file_cannot_be_written(
    repl: Repl, agent: FakeAgent
) -> None:
    said = repl("-c", "run web/test > no/such/file")
    assert said.status not in (0, 1)
    assert "no/such/file" in said.err
    assert agent.asked == []


def test_the_first_command_that_fails_ends_a_script_with_its_status(
    repl: Repl, tmp_path: Path
) -> None:
    script = tmp_path / "nightly.rota"
    script.write_text("# builds, and more\nbuilds -n 1\nshow nosuch\nbuilds\n")
    said = repl(str(script))
    assert said.status == 5
    assert said.out == BUILDS
    assert said.err == "error: no /v1/jobs/nosuch\nnote: %s:3: status 5\n" % script  # noqa: UP031
    said = repl(str(script), "--keep-going")
    assert said.status == 5
    assert said.out == BUILDS * 2
    assert repl("-c", "builds; exit; builds") == (0, BUILDS, "")
    assert repl("-c", "jbos").err.splitlines() == [
        "error: no command 'jbos'", "", "hint: did you mean 'jobs'?", "note: -c:1: status 2",
    ]  # fmt: skip
    assert "error: exit takes no arguments\n" in repl("-c", "exit 3").err


def test_a_script_that_cannot_be_read_changes_nothing(
    repl: Repl, agent: FakeAgent, tmp_path: Path
) -> None:
    script = tmp_path / "x.rota"
    script.write_text("run web/test\n\nrun 'web\n")
    said = repl(str(script))
    assert said.status == 2
    assert said.err == (
        f"error: {script}:3: column 5: the quote ' is never closed\n"
        "  run 'web\n"
        "      ^\n\n"
        "hint: close it; a quote of its own is \"'\" or \\'\n"
    )
    script.write_bytes(b"\xff\xfe")
    assert f"error: {script} is no text: " in repl(str(script)).err
    script.write_bytes(b"#" * (1 << 20) + b"\n")
    assert repl(str(script)).err == (
        f"error: {script} is longer than 1048576 bytes\n\nhint: is it a script for rota?\n"
    )
    assert repl("no.rota").err == "error: cannot read no.rota: No such file or directory\n"
    assert repl("-c", "run x", "no.rota").err == (
        "error: a file and -c do not go together\n\nhint: give one of them\n"
    )
    assert agent.asked == []


def typed(agent: FakeAgent, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rota", "--at", agent.url, "repl", *options]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )


def test_standard_input_is_a_script_and_not_for_its_commands(agent: FakeAgent) -> None:
    done = typed(agent, "builds\nsend web/test#7\n!cat\nbuilds\n", "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, BUILDS * 2, "")
    done = typed(agent, "show 'a\n b'\nbuilds 'x\n", "--keep-going")
    assert done.returncode == 2
    assert "note: <stdin>:1: status 5\n" in done.stderr
    assert "error: <stdin>:3: column 8: the quote ' is never closed\n" in done.stderr


def test_lines_of_a_pipe_run_as_they_come(agent: FakeAgent) -> None:
    command = [sys.executable, "-m", "rota", "--at", agent.url, "repl"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(60, process.kill)
        killer.start()
        for _ in range(2):
            process.stdin.write("builds\n")
            process.stdin.flush()
            assert process.stdout.readline() == BUILDS
        process.stdin.close()
        assert process.wait() == 0
        killer.cancel()


# -- history ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("run web/test", True),
        ("secret", True),
        ("secret set NPM_TOKEN", True),
        ("secret set NPM_TOKEN oops", False),
        ("jobs; rota secret set A oops | cat", False),
        ("send web#7 my password", False),
        ("answer web#7 1234", False),
        (" jobs", False),
        ("", False),
        ("run 'x", True),
        ("!ls", True),
    ],
)
def test_what_may_be_a_secret_is_not_kept(text: str, kept: bool) -> None:
    assert is_kept(text) is kept


def test_the_history_is_the_users_own_and_of_bounded_length(tmp_path: Path) -> None:
    path = history_path({"XDG_STATE_HOME": str(tmp_path)})
    assert path == tmp_path / "rota" / "history"
    assert history_path({}) == Path.home() / ".local" / "state" / "rota" / "history"
    assert prepared(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    entry = "\n# 2026-01-02 03:04:05\n+jobs\n"
    path.write_text(entry * (MAX_BYTES // len(entry) + 10))
    assert prepared(path)
    text = path.read_text()
    assert text.startswith("# 2026")
    assert MAX_BYTES // 3 < len(text) < MAX_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert not prepared(Path("/proc/rota/history"))
