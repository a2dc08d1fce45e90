"""Starting in the background, and the systemd unit: with stand-ins for the daemon itself."""

import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from tests.harness.fake_agent import STATUS, answer, fake_agent

from rota.cli.commands import daemon
from rota.cli.commands.systemd import quoted, unit_text
from rota.cli.main import main
from rota.cli.render import PLAIN
from rota.cli.screen import Screen

NOTHING = {
    "data_folder": None, "name": None, "listen": None, "labels": None, "slots": None, "join": None, "from_clone": None, "invite": False,
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
    assert "\nRestart=always\n" in text
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
