"""Source code in builds, by a real agent and real repositories, as a person uses it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.repos import Repo

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SCRIPT = """#!/bin/sh
# /// script
# [tool.rota]
# scm = {scm}
# ///
{body}
"""


@pytest.fixture(scope="module")
def here() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="rota-scm-"))
    try:
        with daemon(folder / "data") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def script(scm: str, body: str = "git log --format=%s -1; env | grep ROTA_ | sort") -> str:
    return SCRIPT.format(scm=scm, body=body)


def test_a_build_has_its_source_and_says_what_changed(here: Daemon, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "web")
    first = repo.commit("first")
    here.add("web", script(f'{{ git = "{repo.url}", branch = "main" }}'))
    here.ok("run", "web", "--wait")
    second = repo.commit("second", who="bob")
    here.ok("run", "web", "--wait")
    log = here.ok("log", "web#2")
    assert log.startswith(f"::group::Check out {repo.url}\n")
    assert f"ROTA_GIT_COMMIT={second}\n" in log
    assert f"ROTA_GIT_PREVIOUS={first}\n" in log
    assert "ROTA_GIT_BRANCH=main\n" in log
    assert "ROTA_TRUSTED=true\n" in log
    shown = here.ok("show", "web#2")
    assert f"{second[:12]} second" in shown
    assert "Bob <bob@example.org>" in shown
    build = here.build("web#2")
    assert [it["message"] for it in build["source"]["changes"]] == ["second"]
    listed = here.ok("changes", "web#2")
    assert f"{second[:12]}  Bob: second (1 file)" in listed
    assert "since the last good build: Bob <bob@example.org>" in listed
    assert here.json("changes", "web#2")["culprits"] == ["Bob <bob@example.org>"]
    assert "it is the first build of this branch" in here.run("changes", "web#1").stderr
    assert "source" in here.ok("show", "web")


def test_a_checkout_that_fails_says_so_and_is_tried_again(here: Daemon, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "lib")
    repo.commit("first")
    text = script(f'{{ git = "{repo.url}", branch = "no" }}\n# retry = {{ times = 1 }}')
    here.add("lib", text)
    assert here.run("run", "lib", "--wait").returncode == 1
    build = here.build("lib#1")
    assert (build["result"], build["reason"], build["attempt"]) == ("errored", "checkout", 2)
    said = f"rota: {repo.url}: fatal: couldn't find remote ref refs/heads/no"
    assert said in here.ok("log", "lib")
    assert "its source code could not be checked out" in here.ok("why", "lib")
    done = here.run("changes", "lib")
    assert done.returncode == 5
    assert "lib#1 has no source code checked out" in done.stderr


class Slow:
    """A server that takes connections and says nothing, until it is closed."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.taken = threading.Event()
        self.held: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"git://127.0.0.1:{self.server.getsockname()[1]}/x"

    def _run(self) -> None:
        while True:
            try:
                self.held.append(self.server.accept()[0])
            except OSError:
                return
            self.taken.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)  # a thread waits in accept
        self.server.close()
        for one in self.held:
            one.close()


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.close()


def test_a_checkout_is_cancelled_at_once(here: Daemon, slow: Slow) -> None:
    here.add("slow", script(f'{{ git = "{slow.url}", branch = "main" }}'))
    here.ok("run", "slow")
    assert slow.taken.wait(30)
    here.ok("cancel", "slow")
    build = here.until("slow#1", "finished")
    assert (build["result"], build["reason"]) == ("cancelled", "cancelled")


def test_a_checkout_counts_for_the_time_limit(here: Daemon, slow: Slow) -> None:
    text = script(f'{{ git = "{slow.url}", branch = "main" }}\n# timeout = "1s"')
    here.add("slower", text)
    here.run("run", "slower", "--wait")
    build = here.build("slower#1")
    assert (build["result"], build["reason"]) == ("timed-out", "timeout")


def test_a_daemon_killed_while_it_fetches_begins_the_checkout_anew(
    here: Daemon, slow: Slow, tmp_path: Path
) -> None:
    repo = Repo(tmp_path / "web")
    repo.commit("first")
    here.add("anew", script(f'{{ git = "{slow.url}", branch = "main" }}', "ls"))
    here.ok("run", "anew")
    assert slow.taken.wait(30)
    here.kill()
    slow.close()  # the next fetch is refused: what counts is that there is one
    here.start()
    build = here.until("anew#1", "finished")
    assert build["reason"] == "checkout"
    log = here.ok("log", "anew")
    assert log.count("::group::Check out") == 2


def test_pushes_are_found_by_looking(here: Daemon, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "polled")
    repo.commit("first")
    here.add("polled", script(f'{{ git = "{repo.url}", branch = "main", poll = "5s" }}'))
    wait_until("it was looked at", lambda: "scm.seen" in here.ok("events", "--kind", "scm.*"))
    pushed = repo.commit("second")
    build = wait_until("it was built", lambda: find(here, "polled"))
    assert build["trigger"]["kind"] == "push"
    assert here.until("polled#1", "finished")["source"]["commit"] == pushed
    gone = Repo(tmp_path / "gone")
    gone.commit("x")
    here.add("gone", script(f'{{ git = "{gone.url}", branch = "main", poll = "5s" }}'))
    shutil.rmtree(gone.folder)
    said = wait_until(
        "it is told", lambda: [it for it in here.json("status")["trouble"] if "pushes" in it]
    )
    assert f"cannot look for pushes: {gone.url}" in said[0]
    here.ok("rm", "gone")
    wait_until("it is over", lambda: not here.json("status")["trouble"])


def find(here: Daemon, job: str) -> Any:
    found = here.json("builds", job)
    return found[0] if found else None
