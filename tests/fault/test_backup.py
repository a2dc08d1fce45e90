"""A cluster is backed up while it works, dies, and goes on elsewhere from the file alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]

KEEPS = """#!/bin/sh
# /// script
# [tool.rota]
# on = [ { cron = "0 3 1 1 *" } ]
# secrets = ["deploy"]
# ///
seq 2000
test "$deploy" = s3cret && echo fits > fits.txt && rota artifacts put fits.txt
"""
LONG = "#!/bin/sh\necho begun\nsleep 600\n"


class Other(Daemon):
    """A daemon that is begun from a back-up."""

    def restore(self, file: Path, *more: str) -> None:
        options = ("--name", "other", "--slots", "1")
        done = self.run("restore", str(file), "--data", str(self.data), *options, *more)
        assert done.returncode == 0, done.stderr


def test_a_cluster_goes_on_from_a_back_up_that_was_made_while_builds_ran(tmp_path: Path) -> None:
    file = tmp_path / "rota.tar"
    with daemon(tmp_path / "old", "--slots", "2") as old:
        old.ok("secret", "set", "deploy", stdin="s3cret")
        old.add("keeps", KEEPS)
        old.add("long", LONG)
        old.ok("run", "keeps", "--wait")
        for _ in range(3):
            old.ok("run", "long")
        for number in (1, 2):
            old.until(f"long#{number}", "running")
        _identity_is_asked_for(old, tmp_path)
        said = old.ok("backup", str(file))
        assert "whole and good: event " in said
        assert (file.stat().st_mode & 0o777) == 0o600
        log, commits = old.ok("log", "keeps#1"), _history(old)
        _refuses_a_folder_that_is_used(old, file)
    shutil.rmtree(tmp_path / "old")

    new = Other(tmp_path / "new")
    try:
        new.restore(file)
        assert _history(new)[-len(commits) :] == commits
        assert [it["result"] for it in new.json("builds", "keeps")] == ["passed"]
        assert wait_until("the log is back", lambda: new.run("log", "keeps#1").stdout) == log
        new.ok("artifacts", "get", "keeps#1", "fits.txt", "-o", str(tmp_path))
        assert (tmp_path / "fits.txt").read_text() == "fits\n"
        for number in (1, 2):
            assert new.until(f"long#{number}", "finished")["result"] == "lost"
        assert new.until("long#3", "running")["agent"] == "other", "what was owed is done"
        new.ok("cancel", "long#3")
        new.ok("run", "keeps", "--wait")
        assert new.build("keeps#2")["result"] == "passed", "the secret can be read"
        assert "each once" in new.ok("schedule", "verify")
        new.ok("stop")
        new.ok("agent", "--data", str(new.data), "--name", "other", "--slots", "1", "--daemon")
        assert new.build("keeps#2")["number"] == 2
    finally:
        new.end()


def _history(host: Daemon) -> list[str]:
    return [it["id"] for it in host.json("builds", "-n", "50") if it["state"] == "finished"]


def _identity_is_asked_for(old: Daemon, folder: Path) -> None:
    recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    sealed = folder / "sealed.tar"
    old.ok("backup", str(sealed), "--recipient", recipient, "--no-logs", "--no-artifacts")
    assert b"PRIVATE KEY" not in sealed.read_bytes()
    refused = old.run("restore", str(sealed), "--data", str(folder / "none"), "--beside")
    assert f"are encrypted for {recipient}" in refused.stderr
    assert not (folder / "none").exists()


def _refuses_a_folder_that_is_used(old: Daemon, file: Path) -> None:
    refused = old.run("restore", str(file), "--data", str(old.data))
    assert refused.returncode != 0
    assert "has an agent in it" in refused.stderr
