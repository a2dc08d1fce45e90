"""What a person does at a shell, against a daemon that was started as a person starts it."""

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import is_alive

from rota.core.states import Result, State

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PATIENCE_S = 60
BUILD_FIELDS = [
    "id",
    "job",
    "number",
    "state",
    "result",
    "reason",
    "exit_code",
    "attempt",
    "agent",
    "requested_at",
    "started_at",
    "finished_at",
    "log_bytes",
    "params",
    "trigger",
]
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")

TALK = """\
#!/bin/sh
# /// script
# [tool.rota]
# description = "talks"
# [tool.rota.params]
# lines = { default = 3 }
# code = { default = 0 }
# ///
i=0
while [ $i -lt $lines ]; do i=$((i + 1)); echo "line $i"; sleep 0.01; done
exit $code
"""


class Shell:
    """Runs ``rota`` as a program, at one agent's data folder and with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.home = folder / "home"
        self.home.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ROTA_")}
        bin_folder = str(Path(sys.executable).parent)
        self.env = {
            **kept,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "ROTA_DATA": str(self.data),
            "PATH": f"{bin_folder}:{kept['PATH']}",
            "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"),
            "GIT_TERMINAL_PROMPT": "0",
        }
        (self.home / "gitconfig").write_text("[user]\n\tname = Anna\n\temail = anna@example.org\n")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "rota", *words]

    def run(
        self, *words: str, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*words),
            input=stdin,
            env=self.env | env,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def ok(self, *words: str, stdin: bytes = b"", **env: str) -> str:
        """Run a command that has to succeed, and return what it printed."""
        done = self.run(*words, stdin=stdin, **env)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        # As from a terminal: where tests run in the background, SIGINT is ignored by all they start.
        return subprocess.Popen(
            ["env", "--default-signal=INT", *self.command(*words)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def add(self, name: str, script: str) -> None:
        self.ok("add", name, "-", "--force", stdin=script.encode())

    def until(self, name: str, state: State) -> dict[str, Any]:
        """Wait until the latest build of a job is in a state."""
        deadline = time.monotonic() + PATIENCE_S
        build: dict[str, Any] = {}
        while time.monotonic() < deadline:
            build = next(iter(self.json("builds", name, "-n", "1")), {})
            if build.get("state") == state:
                return build
        raise AssertionError((name, state, build))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    words = ("agent", "--data", str(shell.data), "--daemon", "--name", "a1", "--slots", "4")
    said = shell.ok(*words, "--labels", "blue,size=big")
    assert re.fullmatch(rf"a1 is up: pid \d+, http://\S+:\d+, data in {shell.data}\n", said)
    shell.add("talk", TALK)
    try:
        yield shell
    finally:
        # Builds outlive their agent by design; those of a test that failed must not.
        for build in json.loads(shell.run("ps", "--json").stdout or b"[]"):
            shell.run("cancel", build["id"])
            shell.run("show", build["id"], "--wait", "20")
        shell.run("stop")


def test_an_agent_says_how_it_is(shell: Shell) -> None:
    assert {"rota.sock", "store.git", "builds", "engine", "agent.pid"} <= set(
        os.listdir(shell.data)
    )
    status = shell.json("status")
    assert status["agent"] == "a1"
    assert int((shell.data / "agent.pid").read_text()) == status["pid"]
    assert shell.ok("status").startswith("agent        a1, rota ")
    (agent,) = shell.json("agents")
    assert agent["labels"]["size"] == "big"


def test_a_first_job_is_added_run_and_read(shell: Shell) -> None:
    new = shell.run("new", "bash").stdout
    assert shell.run("add", "hello", "-", stdin=new).returncode == 0
    done = shell.run("run", "hello", "who=Anna", "-f")
    assert done.returncode == 0
    assert done.stdout.endswith(b"hello, Anna\n")
    assert re.fullmatch(rb"hello#1 queued\nhello#1 passed in \S+\n", done.stderr)
    assert shell.run("log", "hello#1").stdout == done.stdout
    assert shell.ok("builds", "hello").startswith("hello#1  passed  ")


def test_a_build_in_json_has_what_programs_rely_on(shell: Shell) -> None:
    done = shell.run("run", "talk", "code=3", "--wait", "--json")
    assert done.returncode == 1
    build = json.loads(done.stdout)
    assert set(BUILD_FIELDS) <= set(build)
    assert (build["state"], build["result"]) == (State.FINISHED, Result.FAILED)
    assert (build["reason"], build["exit_code"], build["log_bytes"]) == ("script", 3, 21)
    for name in ("requested_at", "started_at", "finished_at"):
        assert RFC_3339.fullmatch(build[name])
    assert shell.json("show", f"talk#{build['number']}") == build
    assert shell.json("show", build["id"][:8]) == build
    assert shell.json("builds", "talk", "-n", "1") == [build]


def test_a_log_is_the_bytes_that_the_script_wrote(shell: Shell) -> None:
    shell.add(
        "bytes", "#!/bin/sh\nhead -c 300000 /dev/urandom | tee sum.bin\nsha256sum <sum.bin >&2\n"
    )
    log = shell.run("run", "bytes", "-f").stdout
    wanted = log[300_000:].split()[0].decode()
    assert hashlib.sha256(log[:300_000]).hexdigest() == wanted
    assert shell.run("log", "bytes").stdout == log
    assert (
        shell.run("log", "bytes", "--offset", "299990", "--limit", "5").stdout == log[299990:299995]
    )


def test_parts_of_a_log_are_read(shell: Shell) -> None:
    shell.ok("run", "talk", "lines=30", "--wait")
    assert shell.run("log", "talk", "--tail", "2").stdout == b"line 29\nline 30\n"
    assert shell.run("log", "talk", "--line", "29").stdout == b"line 29\nline 30\n"
    assert shell.run("log", "talk", "--grep", "line 1$").stdout == b"line 1\n"
    assert shell.run("log", "talk", "-f", "--grep", "line 2").stdout.count(b"\n") == 11


def test_a_followed_log_survives_the_death_of_its_agent(shell: Shell) -> None:
    shell.add("long", "#!/bin/sh\nfor i in $(seq 300); do echo line $i; sleep 0.01; done\n")
    following = shell.start("run", "long", "-f")
    shell.until("long", State.RUNNING)
    os.kill(shell.json("status")["pid"], signal.SIGKILL)
    shell.ok("agent", "--daemon", "--name", "a1", "--slots", "4")
    out, err = following.communicate(timeout=PATIENCE_S)
    assert out == b"".join(b"line %d\n" % number for number in range(1, 301))
    assert (following.returncode, err.splitlines()[-1][:14]) == (0, b"long#1 passed ")


def test_ctrl_c_only_stops_watching(shell: Shell) -> None:
    shell.add("wait", "#!/bin/sh\necho begun\nsleep 600\n")
    following = shell.start("run", "wait", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == b"begun\n"
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 130
    assert err.decode().endswith(
        "wait#1 goes on; come back: rota log 'wait#1' -f, end it: rota cancel 'wait#1'\n"
    )
    assert shell.ok("ps", "wait").startswith("wait#1  running  ")
    assert "is being ended" in shell.ok("cancel", "wait#1", "seen", "enough")
    build = json.loads(shell.ok("show", "wait#1", "--wait", "30", "--json"))
    assert build["result"] == Result.CANCELLED
    again = shell.run("cancel", "wait#1")
    assert again.returncode == 6
    assert again.stderr.startswith(b"error: wait#1 is over: cancelled\n\nhint: ")


def test_a_failed_build_is_tried_again(shell: Shell) -> None:
    shell.ok(
        "add", "flaky", "-", stdin=b"#!/bin/sh\necho attempt $ROTA_ATTEMPT\n[ $ROTA_ATTEMPT = 2 ]\n"
    )
    assert shell.run("run", "flaky", "--wait").returncode == 1
    done = shell.run("retry", "flaky", "-f")
    assert (done.returncode, done.stdout) == (0, b"attempt 2\n")
    assert shell.run("log", "flaky", "--attempt", "1").stdout == b"attempt 1\n"


def test_a_script_is_spoken_to(shell: Shell) -> None:
    shell.add(
        "ask", "# /// script\n# [tool.rota]\n# stdin = true\n# ///\nread -r a\ncat\necho got $a\n"
    )
    shell.ok("run", "ask")
    shell.until("ask", State.RUNNING)
    shell.ok("send", "ask", "yes please")
    shell.ok("send", "ask", "--eof", stdin=b"rest\n")
    shell.until("ask", State.FINISHED)
    assert shell.run("log", "ask").stdout == b"rest\ngot yes please\n"


def test_a_build_keeps_files_and_runs_other_jobs(shell: Shell) -> None:
    script = "echo data >a.txt\nrota artifacts put a.txt sub/b.txt\nrota run talk lines=1 --wait --json\n"
    shell.add("parent", "#!/bin/sh\nset -e\n" + script)
    done = shell.run("run", "parent", "-f")
    assert done.returncode == 0, done
    child = json.loads(done.stdout.splitlines()[-1])
    assert child["trigger"]["kind"] == "build"
    assert [it["path"] for it in shell.json("artifacts", "parent")] == ["sub/b.txt"]
    assert shell.run("artifacts", "get", "parent", "sub/b.txt", "-o", "-").stdout == b"data\n"


def test_a_job_is_paused_changed_and_removed(shell: Shell) -> None:
    shell.add("tmp/job", "echo hi\n")
    assert shell.ok("add", "tmp/job", "-", stdin=b"echo hi\n") == "tmp/job is so already\n"
    other = shell.run("add", "tmp/job", "-", stdin=b"echo other\n")
    assert other.returncode == 6
    shell.ok("pause", "tmp/job", "house moves")
    refused = shell.run("run", "tmp/job")
    assert refused.returncode == 6
    assert b"paused by" in refused.stderr
    shell.ok("resume", "tmp/job")
    shell.ok("edit", "tmp/job", "-", stdin=b"echo new\n")
    assert shell.ok("show", "tmp/job", "--script") == "echo new\n"
    shell.ok("rm", "tmp/job", "-m", "done")
    gone = shell.run("show", "tmp/job")
    assert (gone.returncode, gone.stderr[:23]) == (5, b"error: no job 'tmp/job'")


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("run", "tlak"), 5, "error: no job 'tlak'\n\nhint: did you mean 'talk'?\n"),
        (("log", "talk#99999"), 5, "error: no build talk#99999\n"),
        (("show", "talk#x"), 2, "error: bad build 'talk#x'\n"),
        (("run", "talk", "lines=many"), 2, "error: talk cannot take these parameters\n"),
        (
            ("builds", "--state", "runing"),
            2,
            "error: no state 'runing'\n\nhint: did you mean 'running'?\n",
        ),
        (("log", "talk", "--grep", "("), 2, "error: bad regular expression '('"),
        (("send", "talk", "x"), 6, "error: talk#"),
    ],
)
def test_each_refusal_says_what_and_exits_so(
    shell: Shell, words: tuple[str, ...], status: int, error: str
) -> None:
    shell.ok("run", "talk", "lines=1", "--wait")
    done = shell.run(*words)
    assert done.returncode == status
    assert done.stdout == b""
    assert done.stderr.decode().startswith(error)


def test_a_definition_with_a_fault_is_refused_with_its_place(shell: Shell) -> None:
    script = b'# /// script\n# [tool.rota]\n# timeot = "2m"\n# ///\n'
    done = shell.run("add", "bad", "-", stdin=script)
    assert done.returncode == 2
    assert b"jobs/bad:3:3: unknown key timeot (did you mean 'timeout'?)\n" in done.stderr


def test_events_are_followed(shell: Shell) -> None:
    after = str(shell.json("status")["seq"])
    following = shell.start(
        "events", "-f", "--after", after, "--json", "-n", "2", "--kind", "custom*"
    )
    shell.ok("emit", "deploy.done", "version=1.4")
    shell.ok("emit", "deploy.undone", "--data", '{"n": [1]}')
    out, _ = following.communicate(timeout=PATIENCE_S)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["deploy.done", "deploy.undone"]
    assert events[0]["data"] == {"version": "1.4"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_definitions_are_cloned_and_pushed(shell: Shell, tmp_path: Path) -> None:
    clone = tmp_path / "defs"
    shell.ok("clone", str(clone))
    (clone / "jobs" / "pushed").write_text("echo pushed\n")
    for words in (("add", "-A"), ("commit", "-qm", "add pushed"), ("push", "-q")):
        subprocess.run(["git", *words], cwd=clone, env=shell.env, check=True, timeout=PATIENCE_S)
    assert shell.run("run", "pushed", "-f").stdout == b"pushed\n"
    assert "token" not in (clone / ".git" / "config").read_text().lower()


def test_a_login_works_over_tcp(shell: Shell) -> None:
    url = shell.json("status")["url"]
    nobody = shell.run("--at", url, "jobs")
    assert nobody.returncode == 4
    shell.ok("login", url, stdin=(shell.data / "token").read_bytes())
    try:
        assert "talk" in shell.ok("jobs", ROTA_DATA="/nowhere")
    finally:
        shell.ok("login", "--forget")


def test_exec_needs_no_agent(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    script = tmp_path / "talk.sh"
    script.write_text(TALK)
    done = shell.run("exec", str(script), "lines=2", "code=5")
    assert (done.returncode, done.stdout) == (1, b"line 1\nline 2\n")
    assert b"failed" in done.stderr
    script.write_text("#!/bin/sh\necho start; echo oops >/dev/stderr; echo end\n")
    assert shell.run("exec", str(script)).stdout == b"start\noops\nend\n"
    assert not shell.data.exists()


def test_what_a_build_could_not_do_is_recorded_with_what_to_do(tmp_path: Path) -> None:
    shell, script = Shell(tmp_path), tmp_path / "own"
    script.write_text('#!/bin/sh\n# /// script\n# [tool.rota]\n# scm = { git = "." }\n# ///\n')
    said = shell.run("exec", str(script)).stderr.decode()
    assert (
        "it does not stand in a watched one (name the repository, or watch it: rota watch" in said
    )


def test_exec_ends_with_its_reader_and_says_nothing(tmp_path: Path) -> None:
    shell, script, mark = Shell(tmp_path), tmp_path / "long.sh", tmp_path / "ended"
    script.write_text(
        f"#!/bin/sh\ntrap 'touch {mark}; exit 1' TERM\nwhile :; do echo line; sleep 0.05; done\n"
    )
    reading, writing = os.pipe()
    words = shell.command("exec", str(script))
    with subprocess.Popen(words, env=shell.env, stdout=writing, stderr=subprocess.PIPE) as running:
        os.close(writing)
        assert os.read(reading, 5) == b"line\n"
        os.close(reading)
        _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (141, b"")
    assert mark.exists()


def test_a_script_is_executed_here_whatever_agents_its_labels_choose(
    shell: Shell, tmp_path: Path
) -> None:
    script = tmp_path / "elsewhere"
    script.write_text(
        '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "no-such-agent"\n# ///\necho here\n'
    )
    done = shell.run("exec", str(script))
    assert (done.returncode, done.stdout) == (0, b"here\n")


def test_a_terminal_gets_signs_colours_and_a_clean_log(shell: Shell) -> None:
    shell.add(
        "colours",
        "#!/bin/sh\nprintf '::group::G\\n\\033[31mred\\033[0m\\033]0;evil\\007\\033[2J\\n'\n",
    )
    shell.ok("run", "colours", "--wait")
    log = at_a_terminal(shell, "log", "colours")
    assert log == "\x1b[1m▸ G\x1b[0m\r\n\x1b[31mred\x1b[0m\r\n"
    assert "\x1b[32m✓ passed\x1b[0m" in at_a_terminal(shell, "builds", "colours")
    plain = at_a_terminal(shell, "builds", "colours", NO_COLOR="1", LC_ALL="C")
    assert re.match(r"colours#1  \+ passed  +\S+  just now  +by \S+\r\n", plain)


def test_stopping_is_over_when_the_agent_is_gone(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.ok("agent", "--daemon")
    pid = shell.json("status")["pid"]
    second = shell.run("agent", "--daemon")
    assert second.returncode == 6
    assert shell.ok("stop").endswith("stopped\n")
    assert not is_alive(pid)
    gone = shell.run("stop")
    assert gone.returncode == 3
    assert gone.stderr.decode() == (
        f"error: no agent at unix:{shell.data}/rota.sock (from $ROTA_DATA): No such file or directory\n"
        "\nhint: start one: rota agent --daemon\n"
    )


def at_a_terminal(shell: Shell, *words: str, **env: str) -> str:
    """Run a command at a terminal of 80 columns, and return what it printed there."""
    ours, theirs = pty.openpty()
    locale = {"LC_ALL": "C.UTF-8", "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        shell.command(*words),
        env=shell.env | locale | env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # EIO: the last process with the terminal has gone
        pass
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0
    return said.decode()
