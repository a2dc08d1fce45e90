"""Steps and finalisers on a real agent, whose daemon is killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("finally") / "data")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()


def script(*lines: str, header: str = "") -> str:
    head = f"# /// script\n# [tool.rota]\n# {header}\n# ///\n" if header else ""
    return "#!/bin/sh\n" + head + "\n".join(lines) + "\n"


def steps(build: Any) -> list[tuple[str, int | None, int]]:
    return [(it["name"], it.get("status"), it.get("depth", 0)) for it in build["steps"]]


def test_steps_have_their_places_in_the_log_their_times_and_their_status(daemon: Daemon) -> None:
    daemon.add(
        "steps",
        script(
            "echo before",
            "rota step 'set up'",
            "echo one",
            "rota step build -- sh -c 'echo ::group::inner; printf two; exit 3' || echo failed $?",
            "rota step last",
            "echo three",
            "exit 1",
        ),
    )
    daemon.run("run", "steps", "--wait")
    build = daemon.build("steps#1")
    assert steps(build) == [
        ("set up", None, 0),
        ("build", 3, 0),
        ("inner", None, 1),
        ("last", None, 0),
    ]
    log = daemon.ok("log", "steps#1").encode()
    for it in build["steps"]:
        assert log[it["offset"] :].startswith(b"::")
        assert it["offset"] < it["end"] <= len(log)
        assert it["started_at"] <= it["ended_at"]
    assert build["step"] == "last"
    assert "in step last" in daemon.ok("why", "steps#1")
    assert daemon.ok("log", "steps#1", "--step", "set up").splitlines()[1:] == ["one"]
    assert "two\n::endstep" in daemon.ok("log", "steps#1", "--step", "build") + "::endstep"
    wrong = daemon.run("log", "steps#1", "--step", "biuld")
    assert wrong.returncode == 5
    assert "steps#1 has no step 'biuld'" in wrong.stderr
    assert "it has set up, build, inner, last" in wrong.stderr
    shown = daemon.ok("show", "steps#1")
    assert "exit code 3" in shown


def test_steps_of_a_running_build_are_shown_and_keep_their_times_over_a_kill(
    daemon: Daemon, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    daemon.add(
        "live",
        script("rota step slow", f"while [ ! -e {go} ]; do sleep 0.05; done", "rota step end"),
    )
    daemon.ok("run", "live")

    def first() -> Any:
        found = daemon.json("steps", "live#1")
        return found[0] if found else None

    before = wait_until("it has a step", first)
    daemon.kill()
    daemon.start()
    assert "slow" in daemon.ok("show", "live#1")
    go.touch()
    build = daemon.until("live#1", "finished")
    assert steps(build) == [("slow", None, 0), ("end", None, 0)]
    assert build["steps"][0]["started_at"] == before["started_at"]


@pytest.mark.parametrize(
    ("name", "body", "header", "result", "told"),
    [
        ("good", "exit 0", "", "passed", "passed script 0"),
        ("bad", "exit 3", "", "failed", "failed script 3"),
        (
            "slow",
            "sleep 60",
            'timeout = "0.3s"\n# grace = "0.1s"\n# ',
            "timed-out",
            "timed-out timeout",
        ),
    ],
)
def test_a_finaliser_runs_after_every_end(
    daemon: Daemon, name: str, body: str, header: str, result: str, told: str
) -> None:
    last = 'finally = "cat mark; echo $ROTA_RESULT $ROTA_REASON $ROTA_EXIT_CODE; exit 4"'
    daemon.add(name, script("echo here >mark", body, header=header + last))
    daemon.run("run", name, "--wait")
    build = daemon.build(f"{name}#1")
    assert build["result"] == result
    assert f"here\n{told}" in daemon.ok("log", f"{name}#1")
    (note,) = build["annotations"]
    assert (note["level"], note["message"]) == ("warning", "it exited with 4")
    assert steps(build)[-1] == ("finally", 4, 0)


def test_script_and_finaliser_cannot_empty_the_log_and_print_in_their_order(daemon: Daemon) -> None:
    left = "(sleep 600; echo never) & echo one; echo two >/dev/stderr; echo three >/dev/stdout"
    daemon.add(
        "ordered",
        script(
            left, header='finally = "echo four >/dev/stderr; echo five >/proc/self/fd/1; echo six"'
        ),
    )
    daemon.run("run", "ordered", "--wait")
    assert daemon.ok("log", "ordered#1") == "one\ntwo\nthree\nfour\nfive\nsix\n"


def test_a_required_finaliser_decides_and_its_time_is_limited(daemon: Daemon) -> None:
    daemon.add(
        "must",
        script("true", header='finally = { run = "sleep 60", timeout = "0.2s", required = true }'),
    )
    daemon.run("run", "must", "--wait")
    build = daemon.build("must#1")
    assert (build["result"], build["reason"]) == ("failed", "finally")
    assert [it["message"] for it in build["annotations"]] == ["it ran longer than 200ms"]
    assert "the script passed, and its `finally` did not" in daemon.ok("why", "must#1")


def test_a_finaliser_runs_after_a_cancel_and_once_though_its_daemon_is_killed(
    daemon: Daemon, tmp_path: Path
) -> None:
    begun, go, ran = tmp_path / "begun", tmp_path / "go", tmp_path / "ran"
    last = f"echo x >>{ran}; while [ ! -e {go} ]; do sleep 0.05; done; echo $ROTA_RESULT done"
    daemon.add(
        "once", script(f"touch {begun}", "sleep 60", header=f'finally = "{last}"\n# grace = "0.1s"')
    )
    daemon.ok("run", "once")
    wait_until("the script runs", begun.exists)
    daemon.ok("cancel", "once#1")
    wait_until("the finaliser runs", ran.exists)
    daemon.kill()
    daemon.start()
    assert daemon.build("once#1")["state"] == "running"
    go.touch()
    build = daemon.until("once#1", "finished")
    assert (build["result"], build["reason"]) == ("cancelled", "cancelled")
    assert ran.read_text() == "x\n"
    assert daemon.ok("log", "once#1").endswith("cancelled done\n")


def test_a_script_whose_daemon_was_killed_is_followed_by_its_finaliser(
    daemon: Daemon, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    daemon.add("away", script(f"touch {begun}", "sleep 1", header='finally = "echo last"'))
    daemon.ok("run", "away")
    wait_until("the script runs", begun.exists)
    daemon.kill()
    daemon.start()
    assert daemon.until("away#1", "finished")["result"] == "passed"
    assert daemon.ok("log", "away#1") == "last\n"


def test_a_finaliser_runs_though_supervisor_and_script_were_killed(
    daemon: Daemon, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    header = 'finally = "echo $ROTA_RESULT $ROTA_REASON [$ROTA_EXIT_CODE]"'
    daemon.add("lost", script(f"touch {begun}", "exec sleep 60", header=header))
    daemon.ok("run", "lost")
    wait_until("the script runs", begun.exists)
    home = daemon.data / "builds" / daemon.build("lost#1")["id"] / "1"
    _, supervisor, running = (home / "pid").read_text().splitlines()
    for line in (supervisor, running):
        os.kill(int(line.split()[0]), signal.SIGKILL)
    build = daemon.until("lost#1", "finished")
    assert (build["result"], build["reason"]) == ("lost", "lost")
    assert daemon.ok("log", "lost#1") == "lost lost []\n"
