"""Starting in the background, and the systemd unit: with stand-ins for the daemon itself."""

import io
import itertools
import os
import socket
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from tests.harness.fake_agent import STATUS, Asked, Reply, answer, fake_agent

from rota.cli.commands import daemon
from rota.cli.commands.systemd import quoted, unit_text
from rota.cli.main import main
from rota.cli.render import PLAIN
from rota.cli.screen import Screen
from rota.daemon.notify import Starting
from rota.errors import InputError

NOTHING = {
    "data_folder": None, "name": None, "listen": None, "labels": None, "slots": None, "join": None,
    "from_clone": None, "log_level": None, "log_format": None, "invite": False, "ephemeral": False,
    "bus": None, "json": False, "install": None,
}  # fmt: skip


def args(data: Path, **more: object) -> Namespace:
    return Namespace(**{**NOTHING, "data_folder": str(data), **more})


def started(
    monkeypatch: pytest.MonkeyPatch, data: Path, script: str, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(daemon, "agent_command", lambda *_: [sys.executable, "-c", script])
    status = daemon.start(args(data), Screen(PLAIN, PLAIN))
    out, err = capfd.readouterr()
    return status, out, err


def test_a_daemon_that_dies_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.log").write_text("an older line\n")
    script = "print('error: the port is taken'); raise SystemExit(6)"
    log = tmp_path / "agent.log"
    assert started(monkeypatch, tmp_path, script, capfd) == (
        1,
        "",
        (
            "error: the port is taken\nerror: the agent ended with status 6\n\n"
            f"hint: the lines above are the end of {log}\n"
        ),
    )
    assert log.read_text() == "an older line\nerror: the port is taken\n"


def test_a_daemon_that_is_never_ready_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemon, "READY_S", 0.2)
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    status, _, err = started(monkeypatch, tmp_path, script, capfd)
    assert status == 1
    assert "error: the agent was not ready after 0 s, and was ended\n" in err
    pid = int((tmp_path / "agent.log").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_daemon_that_says_it_is_at_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 6.0)
    words = iter([b"starting\n", b"starting\nstar", b"ting\n", b"starting\n", b"rea", b"dy\n"])
    monkeypatch.setattr("rota.cli.commands.daemon.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("rota.cli.commands.daemon.select.select", lambda *_: ([0], [], []))
    monkeypatch.setattr("rota.cli.commands.daemon.os.read", lambda *_: next(words))

    class Alive:
        def poll(self) -> None:
            return None

    assert daemon._is_ready(0, Alive(), 10.0)  # type: ignore[arg-type]


def test_who_waits_is_told_that_a_start_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Starting(theirs, every_s=0.0).still()
        Starting(theirs, every_s=600.0).still()
        assert systemd.recv(200) == b"EXTEND_TIMEOUT_USEC=60000000\nSTATUS=reading the history"
    os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        assert said.read() == b"starting\n"


def test_a_daemon_without_a_quorum_is_up_and_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemon, "_refuse_second", lambda _: None)
    engine = "no quorum: 2 of the engine's 3 servers are needed, 1 can be reached"
    status = {**STATUS, "stale_since": "2026-01-02T03:04:05Z", "engine": engine}
    script = "import os, sys; os.write(int(sys.argv[-1]), b'ready\\n')"
    with fake_agent(lambda _: answer(status), tmp_path / "rota.sock"):
        code, out, err = started(monkeypatch, tmp_path, script, capfd)
    assert code == 0
    assert out.startswith("a1 is up: pid 4242, ")
    assert err == (
        f"a1 waits for a quorum of the voters ({engine}): it answers as of what it last knew; "
        "builds begin by themselves when enough of them are up\n"
    )


def test_a_second_agent_on_one_folder_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with fake_agent(lambda _: answer(STATUS), tmp_path / "rota.sock"):
        assert main(["agent", "--daemon", "--data", str(tmp_path)]) == 6
    assert capfd.readouterr().err == (
        f"error: a1 (pid 4242) runs already with {tmp_path}\n\n"
        "hint: stop it: rota stop, or give another --data\n"
    )


def test_the_unit_runs_the_agent_with_the_same_options(tmp_path: Path) -> None:
    text = unit_text(args(tmp_path, labels="docker,a=b c", slots=3), is_system=True)
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert line.endswith(f' agent --data {tmp_path} --labels "docker,a=b c" --slots 3')
    assert line.removeprefix("ExecStart=").startswith("/")
    assert "\nType=notify\n" in text
    assert "\nRestart=on-failure\n" in text
    assert "\nKillMode=process\n" in text
    assert text.endswith("WantedBy=multi-user.target\n")
    assert unit_text(args(tmp_path), is_system=False).endswith("WantedBy=default.target\n")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("a", "a"),
        ("", '""'),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$x", "$$x"),
        ('"', r'"\""'),
        ("\\", r"\\"),
    ],
)
def test_words_of_a_unit_are_quoted_as_systemd_reads_them(word: str, text: str) -> None:
    assert quoted(word) == text


def test_the_unit_can_be_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--install", "-", "--data", str(tmp_path)]) == 0
    assert capfd.readouterr().out.startswith("[Unit]\nDescription=rota agent")
    assert main(["agent", "--install", "x", "--data", str(tmp_path)]) == 2
    assert capfd.readouterr().err.startswith("error: --install takes '-' or nothing\n")


def test_a_join_token_is_no_argument_that_everybody_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print(sys.argv[1:], sys.stdin.readline().strip()); sys.exit(3)"
    monkeypatch.setattr(daemon, "agent_command", lambda *_: [sys.executable, "-c", script])
    assert daemon.start(args(tmp_path, join="rota1.secret"), Screen(PLAIN, PLAIN)) == 1
    assert capfd.readouterr().err.startswith("['--join', '-', '--ready-fd', ")
    assert (tmp_path / "agent.log").read_text().endswith("] rota1.secret\n")


def test_a_join_token_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("rota1.x\nmore"))
    assert daemon.join_token(args(Path("/d"), join="-")) == "rota1.x"
    assert daemon.join_token(args(Path("/d"))) is None


def test_an_invitation_is_printed_once_the_agent_is_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def respond(asked: Asked) -> Reply:
        return answer({"token": "rota1.x"} if asked.path == "/v1/tokens" else STATUS)

    script = "import os, sys; os.write(int(sys.argv[2]), b'ready\\n')"
    monkeypatch.setattr(daemon, "agent_command", lambda *_: [sys.executable, "-c", script])
    monkeypatch.setattr(daemon, "_refuse_second", lambda _: None)
    with fake_agent(respond, tmp_path / "rota.sock"):
        assert daemon.start(args(tmp_path, invite=True), Screen(PLAIN, PLAIN)) == 0
    assert capfd.readouterr().out.splitlines() == [
        "a1 is up: pid 4242, http://127.0.0.1:7070, data in /var/lib/rota",
        "others join with: rota join rota1.x",
    ]


def test_a_clone_to_begin_from_is_passed_on(tmp_path: Path) -> None:
    command = daemon.agent_command(args(tmp_path, from_clone="defs"), tmp_path)
    assert command[-2:] == ["--from-clone", str(Path("defs").absolute())]


def test_an_agent_that_comes_and_goes_is_one_of_others(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        daemon.join_token(args(tmp_path, ephemeral=True))
    assert caught.value.message == "--ephemeral needs --join"
    command = daemon.agent_command(args(tmp_path, join="x", ephemeral=True), tmp_path)
    assert "--ephemeral" in command
