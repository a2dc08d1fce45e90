"""Users' tokens on two agents: the command line, git and streams, until they are revoked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from tests.harness.daemon import ROTA, Daemon, daemon

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SETTINGS = """\
[[access]]
jobs = "web/**"
who = "cho"
role = "maintainer"
"""


class Two(NamedTuple):
    """Agents of one cluster."""

    a: Daemon
    b: Daemon

    def url(self, of: Daemon) -> str:
        return str(of.json("status")["url"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    with daemon(folder / "a", "--name", "a") as a:
        b = Daemon(folder / "b", "--name", "b")
        try:
            b.ok("join", a.ok("token", "create").strip(), "--name", "b", "--slots", "4")
            yield Two(a, b)
        finally:
            b.end()


class Person:
    """Somebody with a token, and no agent on his machine."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder, self.token = folder, token
        folder.mkdir(exist_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ROTA_", "GIT_"))}
        who = {"NAME": "Cho", "EMAIL": "cho@example.org"}
        git = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in who.items()
        }
        self.env = {
            **clean, **git, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip

    def rota(self, *words: str, stdin: str = "") -> Any:
        return subprocess.run(
            [str(ROTA), *words], env=self.env, cwd=self.folder, input=stdin, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip

    def git(self, *words: str) -> Any:
        return subprocess.run(
            ["git", *words], env=self.env, cwd=self.folder, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip


def last_event(agent: Daemon, kind: str) -> Any:
    return json.loads(agent.ok("events", "--kind", kind, "--json").splitlines()[-1])


def commit(person: Person, path: str, text: str) -> str:
    """Commit a file on what is there now, push it, and return what git said."""
    for words in (("fetch", "-q"), ("reset", "-q", "--hard", "origin/main")):
        assert person.git("-C", "clone", *words).returncode == 0
    file = person.folder / "clone" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert person.git("-C", "clone", "add", ".").returncode == 0
    assert person.git("-C", "clone", "commit", "-qm", f"change {path}").returncode == 0
    done = person.git("-C", "clone", "push", "-q", "origin", "HEAD:main")
    return "ok" if done.returncode == 0 else str(done.stderr)


def clone(person: Person, url: str) -> Any:
    with_token = url.replace("://", f"://cho:{quote(person.token)}@")
    return person.git("clone", "-q", f"{with_token}/store.git", "clone")


def test_a_token_made_at_one_agent_is_taken_by_the_other_until_it_is_revoked(
    two: Two, tmp_path: Path
) -> None:
    two.a.ok("user", "set", "ann", "--role", "builder")
    two.a.add("web/a", "#!/bin/sh\necho hello\n")
    made = json.loads(two.a.ok("token", "create", "--for", "ann", "--json"))
    ann = Person(tmp_path / "ann", made["token"])
    done = ann.rota("login", two.url(two.b), stdin=made["token"] + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    done = ann.rota("run", "web/a", "--wait", "--json")
    assert json.loads(done.stdout)["trigger"]["by"] == "ann", done.stderr
    told = last_event(two.b, "build.requested")
    assert (told["by"], told["token"]) == ("ann", made["id"])
    assert made["token"] not in two.a.ok("events", "--json", "-n", "1000")
    two.a.ok("emit", "a.word")
    following = subprocess.Popen(
        [str(ROTA), "events", "-f", "--kind", "custom.*", "--after", "0", "--json"], env=ann.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    assert "a.word" in following.stdout.readline()
    two.a.ok("token", "revoke", made["id"])
    _, said = following.communicate(timeout=60)
    assert following.returncode == 4
    assert f"the token {made['id']} was revoked by" in said
    for agent in (two.a, two.b):
        done = ann.rota("jobs", "--at", two.url(agent))
        assert done.returncode == 4, done.stderr
    done = ann.rota("jobs")
    assert f"error: the token {made['id']} was revoked by " in done.stderr


def test_who_maintains_some_jobs_pushes_these_alone(two: Two, tmp_path: Path) -> None:
    two.a.ok("user", "set", "cho", "--role", "viewer")
    admin = Person(tmp_path / "root", (two.a.data / "token").read_text().strip())
    assert clone(admin, two.url(two.a)).returncode == 0
    assert commit(admin, "settings.toml", SETTINGS) == "ok"
    token = two.a.ok("token", "create", "--for", "cho").strip()
    cho = Person(tmp_path / "cho", token)
    assert clone(cho, two.url(two.b)).returncode == 0
    assert commit(cho, "jobs/web/mine", "#!/bin/sh\n") == "ok"
    assert last_event(two.b, "store.moved")["by"] == "cho"
    for path, text, needs in (
        ("users/cho.toml", 'role = "admin"\n', "an admin of everything"),
        ("jobs/db/theirs", "#!/bin/sh\n", "a maintainer of db/theirs"),
    ):
        said = commit(cho, path, text)
        assert f"cho may not: {path} needs {needs}" in said, said
    assert "cho  viewer" in two.a.ok("user")
    # What is broken is said before who may is looked at, in all folders alike.
    said = commit(admin, "hooks/bad.toml", "nonsense = 1\n")
    assert "hooks/bad.toml:1:1: unknown key nonsense" in said, said
    # Kept to some jobs nobody clones what has all of them.
    two.b.ok("user", "set", "cho", "--role", "none")
    done = cho.git("-C", "clone", "fetch", "-q")
    assert done.returncode != 0
    assert (
        "remote: cho is without a role but for some jobs; `git clone`, which gives all jobs and their "
        "history, needs a viewer\n"
        "remote: what you may see: rota jobs, rota show JOB --script; rota edit JOB changes it\n"
    ) in done.stderr
    # What that says is typed as it stands.
    assert cho.rota("login", two.url(two.b), stdin=f"{token}\n").returncode == 0
    assert "web/mine" in cho.rota("jobs").stdout.split()
    done = cho.rota("show", "web/mine", "--script")
    assert (done.returncode, done.stdout) == (0, "#!/bin/sh\n")
    (cho.folder / "mine.sh").write_text("#!/bin/sh\necho changed\n")
    done = cho.rota("edit", "web/mine", "mine.sh")
    assert (done.returncode, last_event(two.b, "store.moved")["by"]) == (0, "cho"), done.stderr
