"""Schedules at a shell: listed, asked about, proved from a clone, and rehearsed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.test_cli import Shell
from tests.harness.daemon import wait_until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

JOB = """\
#!/bin/sh
# /// script
# [tool.rota]
# labels = "linux"
# on = [ { every = "1s", name = "each" }, { cron = "30 2 * * *", tz = "Europe/Berlin", name = "n" } ]
# ///
echo done
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("schedules"))
    shell.ok("agent", "--data", str(shell.data), "--daemon", "--name", "a1")
    shell.add("web/test", JOB)
    wait_until("three ran", lambda: len(shell.json("builds", "-n", "9")) >= 3, 30)
    yield shell
    shell.ok("stop")


def test_what_comes_next_is_printed_one_a_line(shell: Shell) -> None:
    lines = shell.ok("schedule", "-n", "3", "--from", "2027-03-27").splitlines()
    assert lines[0].startswith("2027-03-27T00:00:00Z")
    assert "web/test:each  every 1s" in lines[0]
    assert len(lines) == 3
    assert shell.json("schedule", "other")["next"] == []


def test_why_not_says_it_of_each_schedule(shell: Shell) -> None:
    said = shell.ok("why-not", "web/test", "2057-06-01T02:30")
    assert "web/test:each (every 1s) at 2057-06-01T02:30:00Z:\n  not yet" in said
    assert "web/test:n (30 2 * * * Europe/Berlin) at 2057-06-01T00:30:00Z:\n  not yet" in said


def test_the_history_proves_it_also_from_a_clone_without_an_agent(
    shell: Shell, tmp_path: Path
) -> None:
    found = shell.json("schedule", "verify")
    assert (found["findings"], found["schedules"]) == ([], 2)
    clone = tmp_path / "clone"
    shell.ok("clone", str(clone))
    words = ("schedule", "verify", "web/test", "--clone", str(clone))
    done = shell.run(*words, ROTA_DATA=str(tmp_path / "nothing"), HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"were skipped with a reason, each once" in done.stdout


def test_a_history_that_lacks_a_fire_is_found_out(shell: Shell, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    git = ["git", "-C", str(bare)]
    store = str(shell.data / "store.git")
    subprocess.run(["git", "clone", "-q", "-b", "history", store, str(bare)], check=True)
    files = sorted(bare.glob("schedules/*/*/*.jsonl"), key=lambda it: int(it.stem))
    # Not the one that tells of the schedule itself: without that nothing is due.
    victim = next(
        it for it in files if b'"fires"' in it.read_bytes() and b'"set"' not in it.read_bytes()
    )
    victim.unlink()
    user = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, *user, "commit", "-qam", "less"], check=True)
    subprocess.run([*git, "update-ref", "refs/remotes/origin/history", "HEAD"], check=True)
    done = shell.run("schedule", "verify", "--clone", str(bare), "--json")
    assert done.returncode == 1
    found = {it["what"] for it in json.loads(done.stdout)["findings"]}
    assert found == {"lost", "unexplained"}  # the instant, and the build that nobody explains


def test_a_year_is_rehearsed_by_hour_and_label(shell: Shell) -> None:
    shell.add("web/rare", JOB.replace("1s", "10s"))
    one = ("simulate", "--job", "web/rare", "--days", "1", "--from", "2027-03-28")
    said = shell.ok(*one, "--losses", "3")
    assert said.startswith("1 days from 2027-03-28 00:00 UTC: 8641 builds\n")
    assert "linux: 8641 builds, by hour (UTC):" in said
    assert len([line for line in said.splitlines() if "at once, at most" in line]) == 24
    out = shell.json(*one, "--outage", "2027-03-28T00:30+2h")
    assert out["skips"] == {"misfire policy: once": 714}
    shell.ok("rm", "web/rare")


def test_nonsense_is_refused_with_what_to_do(shell: Shell) -> None:
    for words, said in (
        (("schedule", "a", "b"), "neither one job nor verify"),
        (("schedule", "verify", "--clone", "/nowhere"), "no folder /nowhere"),
        (("simulate", "--days", "0"), "--days must be from 1 to 3660, not 0"),
        (("simulate", "--outage", "2027-03-28"), "is not a duration"),
        (("simulate", "--job", "nix"), "no job 'nix'"),
        (("backfill", "web/test"), "missing: --from"),
        (("why-not", "web/test", "noon"), "'noon' is no date and time"),
    ):
        done = shell.run(*words)
        assert done.returncode != 0
        assert said in done.stderr.decode(), (words, done.stderr)
