"""``rota user`` and ``rota notify`` against a real agent."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon

pytestmark = [pytest.mark.nats, pytest.mark.slow]
ME = getpass.getuser()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("users") / "data")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()


SETTINGS = """\
[mail]
server = "smtp://127.0.0.1:9"
from = "rota@example.org"
[chat.irc]
kind = "bridge"
server = "unix:/nowhere"
nick = "bot"
"""


def push(daemon: Daemon, folder: Path, files: dict[str, str]) -> None:
    """Put files on main, by git."""
    clone = folder / "clone"
    daemon.ok("clone", str(clone))
    for path, text in files.items():
        (clone / path).write_text(text)
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["add", "."], [*who, "commit", "-qm", "settings"], ["push", "-q"]):
        env = {**os.environ, "ROTA_DATA": str(daemon.data)}
        subprocess.run(["git", "-C", str(clone), *words], check=True, env=env)


def refused(daemon: Daemon, *words: str) -> str:
    done = daemon.run(*words)
    assert done.returncode != 0
    return str(done.stderr).partition("\n")[0].removeprefix("error: ")


def test_users_are_made_shown_changed_and_removed(daemon: Daemon) -> None:
    said = daemon.ok("user", "set", "ann", "--role", "maintainer", "--email", "a@b, c@d")
    assert said == "ann is now a maintainer, a@b, c@d\n"
    assert daemon.ok("user", "set", "ann").startswith("ann was already a maintainer")
    assert daemon.ok("user") == "ann  maintainer  a@b c@d  linked nowhere\n"
    assert daemon.ok("user", "show", "ann").splitlines() == [
        "ann, maintainer",
        "e-mail  a@b, c@d",
    ]
    daemon.ok("user", "set", "ann", "--email", "", "--timezone", "Europe/Berlin")
    assert daemon.json("user", "show", "ann")["emails"] == []
    assert daemon.ok("user", "rm", "ann") == "ann is no user any more\n"
    assert daemon.json("user") == []
    assert refused(daemon, "user", "rm", "ann") == "no user 'ann'"


def test_what_is_none_of_the_forms_is_told_as_such(daemon: Daemon) -> None:
    assert refused(daemon, "user", "make") == "user: 'make' is none of its forms"
    assert refused(daemon, "user", "link", "a", "b") == "user: 'link a b' is none of its forms"
    assert refused(daemon, "user", "rm", "ann", "--role", "viewer") == (
        "--role goes not with rota user rm"
    )
    assert refused(daemon, "notify", "less") == "notify: 'less' is none of its forms"
    assert refused(daemon, "notify", "rm", "two") == "'two' is no number of a rule"
    assert refused(daemon, "notify", "add") == "where to is not said"
    assert refused(daemon, "notify", "quiet") == "when is not said"
    assert refused(daemon, "notify") == f"you are '{ME}' here, and no user is called so"


def test_what_is_told_is_told_in_words(daemon: Daemon, tmp_path: Path) -> None:
    daemon.ok("user", "set", ME, "--role", "viewer")
    nowhere = f"{ME} is told nothing: nothing that is set up for notices knows {ME}\n"
    assert daemon.ok("notify") == nowhere
    assert refused(daemon, "user", "link") == "there is no chat network to link to"
    push(daemon, tmp_path, {"settings.toml": SETTINGS})
    assert daemon.ok("notify") == nowhere
    code, where = daemon.ok("user", "link").splitlines()
    assert code.endswith(f" makes whoever says it first {ME} there")
    assert where == f"on irc (unix:/nowhere), to bot alone:  link {code.split()[0]}"
    # Who may use the socket is an admin, whatever the file says.
    daemon.ok("user", "set", ME, "--email", "me@example.org")
    assert daemon.ok("notify").splitlines() == [
        f"{ME} is told what is usual:",
        "  1  first-failure, fixed, asked of my builds to mail",
    ]
    words = ("--jobs", "web/**", "--whose", "all", "--on", "failed,fixed", "--to", "irc:#web")
    assert daemon.ok("notify", "add", *words).splitlines()[1:] == [
        "  1  first-failure, fixed, asked of my builds to mail",
        "  2  failed, fixed of all builds of web/** to irc:#web",
    ]
    daemon.ok("notify", "rm", "1")
    assert refused(daemon, "notify", "rm", "2") == f"{ME} has no rule 2"
    assert daemon.ok("notify", "quiet", "22:00-07:00", "--days", "sat,sun").splitlines()[1:] == [
        "  1  failed, fixed of all builds of web/** to irc:#web",
        "quiet 22:00-07:00 and on sat, sun (UTC); what came meanwhile comes after",
    ]
    assert "quiet" not in daemon.ok("notify", "quiet", "off")
    assert "(not now: bob is not known on irc)" in daemon.ok("notify", "add", "--to", "irc:@bob")
    assert refused(daemon, "notify", "add", "--to", "matrix").startswith(
        "nothing is set up as matrix"
    )
    assert daemon.ok("notify", "none") == f"{ME} is told nothing: by choice\n"
    assert "what is usual" in daemon.ok("notify", "usual")
    daemon.ok("user", "set", "bob", "--email", "b@b")
    assert daemon.ok("notify", "--user", "bob").startswith("bob is told what is usual:")


def test_a_clone_is_checked_with_the_users_beside(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "ann.toml").write_text('emails = "a@b"\n')
    bob = folder / "bob.toml"
    bob.write_text('emails = ["x@y", "A@B"]\nrol = "viewer"\n')
    done = daemon.run("check", str(bob))
    assert (done.returncode, done.stdout.splitlines()) == (
        2,
        [f"{bob}:2:1: unknown key rol (did you mean 'role'?)"],
    )
    bob.write_text('emails = ["x@y", "A@B"]\n')
    done = daemon.run("check", str(bob))
    assert done.stdout.startswith(f"{bob}:1:18: A@B belongs to ann too (users/ann.toml)")
    bob.write_text("")
    assert daemon.ok("check", str(bob), str(folder / "ann.toml")) == ""
    job = folder / "import"
    job.write_text("#!/bin/sh\n# /// script\n# [tool.rota]\n# rol = 1\n# ///\n")
    assert "unknown key rol" in daemon.run("check", str(job)).stdout
    job.write_text("#!/bin/sh\n")
    assert daemon.ok("check", str(job)) == ""
