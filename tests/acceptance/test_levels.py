"""One agent that announces a lower level: what older ones could not read is not taken, by any way."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, wait_until

pytestmark = [pytest.mark.nats]

ACCESS = '[[access]]\njobs = "web/**"\nwho = ["ann"]\nrole = "builder"\n'


@pytest.fixture
def low(tmp_path: Path) -> Any:
    """An agent of level 1."""
    made = Daemon(tmp_path / "data")
    done = made.run("agent", "--name", "here", "--daemon", env={"ROTA_LEVEL": "1"})
    assert done.returncode == 0, done.stderr
    yield made
    made.end()


def push(agent: Daemon, folder: Path, text: str) -> Any:
    """Push other settings, and return what git said."""
    if not folder.exists():
        assert agent.run("clone", str(folder)).returncode == 0
    (folder / "settings.toml").write_text(text)
    git = ("git", "-C", str(folder), "-c", "user.name=ann", "-c", "user.email=ann@example.org")
    for words in (("add", "."), ("commit", "-qm", "other settings")):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "push", "-q"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        subprocess.run([*git, "reset", "-q", "--hard", "HEAD~"], check=True)
    return done


def test_settings_that_older_agents_cannot_read_wait_for_the_level(
    low: Daemon, tmp_path: Path
) -> None:
    low.ok("user", "set", "ann", "--role", "builder")
    folder = tmp_path / "clone"
    refused = push(low, folder, ACCESS)
    assert refused.returncode != 0
    assert (
        "settings.toml: `access` needs level 2, and the cluster is at 1; it waits for agents whose "
        "rota does not know it: here (rota "
    ) in refused.stderr
    assert push(low, folder, "voters = 3\n").returncode == 0
    refused = low.run("user", "set", "ann", "--role", "none")
    assert refused.returncode == 6
    assert "hint: it can be done once they run a newer one: docs/upgrade.md" in refused.stderr
    assert "ann  builder" in low.ok("user")
    low.ok("stop")
    low.start()
    wait_until("the cluster is raised", lambda: '"level":2' in low.ok("status", "--json"), 60)
    done = push(low, folder, ACCESS)
    assert done.returncode == 0, done.stderr
    low.ok("user", "set", "ann", "--role", "none")
