"""Who breaks a build by a commit is told, as people would live it: git, a daemon, a mail server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, wait_until
from tests.harness.mail_server import MailServer, mail_server_aside
from tests.harness.repos import Repo

SETTINGS = """
url = "https://ci.example"
[mail]
server = "smtp+plain://127.0.0.1:{port}"
from = "rota@ci.example"
"""
JOB = """#!/bin/sh
# /// script
# [tool.rota]
# scm = {{ git = "{repo}", branch = "main" }}
# tests = "*.xml"
# ///
rota step compile
echo compiling
rota step "unit tests"
cat > r.xml <<END
<testsuite name="shop"><testcase classname="shop.cart" name="test_total">
$(cat result)</testcase></testsuite>
END
echo "ran the tests"
! grep -q failure result
"""
FAILS = '<failure message="assert 3 == 4">no</failure>'


pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server_aside() as found:
        yield found


def test_from_a_commit_that_breaks_to_one_that_mends(tmp_path: Path, server: MailServer) -> None:
    repo = Repo(tmp_path / "repo")
    repo.commit("All is well", {"result": ""}, who="ann")
    here = Daemon(tmp_path / "data")
    here.start()
    try:
        clone = tmp_path / "store"
        here.ok("clone", str(clone))
        (clone / "settings.toml").write_text(SETTINGS.format(port=server.port))
        who = ["-c", "user.name=root", "-c", "user.email=root@ci.example"]
        for words in (["add", "."], [*who, "commit", "-qm", "mail"], ["push", "-q"]):
            subprocess.run(["git", "-C", str(clone), *words], check=True, capture_output=True)
        for name in ("ann", "bob"):
            here.ok("user", "set", name, "--email", f"{name}@example.org")
        assert "bob: nothing" not in here.ok("notify", "--user", "bob")
        here.add("web", JOB.format(repo=repo.url))

        here.ok("run", "web", "--wait")
        repo.commit("Add a cart", {"result": FAILS}, who="ann")
        assert here.run("run", "web", "--wait").returncode == 1
        wait_until("ann is told", lambda: len(server.taken) >= 1)
        [mail] = server.taken
        assert mail["To"] == "ann@example.org"
        said = str(mail.get_content()).replace("\r\n", "\n").split("\n")
        assert said[0].startswith("web#2 failed: exit code 1, in step unit tests")
        assert said[1].startswith("of main, ")
        assert said[2] == "commits since the build before:"
        assert said[3].endswith(" Ann: Add a cart")
        assert said[4:7] == [
            "tests that failed:",
            "- shop.cart.test_total: assert 3 == 4",
            "again: rota retry web#2",
        ]
        assert said[8] == "    ran the tests"

        repo.commit("Try harder", {"result": FAILS}, who="ann")
        repo.commit("Me too", {"result": FAILS}, who="bob")
        assert here.run("run", "web", "--wait").returncode == 1
        wait_until("bob is told", lambda: len(server.taken) >= 2)
        assert server.taken[1]["To"] == "bob@example.org", "ann knows"
        assert "web#3 failed again, since web#2" in server.taken[1]["Subject"]

        repo.commit("Mend it", {"result": ""}, who="bob")
        here.ok("run", "web", "--wait")
        wait_until("both are told", lambda: len(server.taken) >= 4)
        assert {(it["To"], it["Subject"]) for it in server.taken[2:]} == {
            ("ann@example.org", "web#4 is fixed: web#2 had failed"),
            ("bob@example.org", "web#4 is fixed: web#2 had failed"),
        }
        wait_until("nothing is owed", lambda: not here.json("notices"))
        assert "told mail:@ann" in here.ok("why", "web#2")
        assert len(here.json("notices", "--all")) == len(server.taken) == 4
    finally:
        here.end()
