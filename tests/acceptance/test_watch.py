"""A watched repository's own jobs, by a real agent: pushed, forced, branched, broken and removed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import forges as f
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.repos import Repo

pytestmark = [pytest.mark.nats, pytest.mark.slow]

BUILD = "#!/bin/sh\necho built {}; cat say 2>/dev/null; git log --format=%s -1\n"
TEST = """#!/bin/sh
# /// script
# [tool.rota]
# needs = ["build"]
# on = [{ push = "main", files = ["src/**"] }]
# ///
echo tested
"""


@pytest.fixture(scope="module")
def github() -> Iterator[Path]:
    """A folder that this machine's git takes for github.com."""
    folder = Path(tempfile.mkdtemp(prefix="rota-github-"))
    (folder / ".gitconfig").write_text(
        f'[url "file://{folder}/"]\n\tinsteadOf = https://github.com/\n'
    )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def here(github: Path) -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="rota-watch-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(github))
        try:
            with daemon(folder / "data") as running:
                yield running
        finally:
            shutil.rmtree(folder)


def jobs(here: Daemon, watch: str) -> list[str]:
    return [it["name"] for it in here.json("jobs", f"{watch}/*")]


def builds(here: Daemon, job: str) -> list[Any]:
    done = here.run("builds", job, "--json")
    return [] if done.returncode else [*json.loads(done.stdout)]


def test_a_repository_brings_its_own_jobs(here: Daemon, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "web")
    repo.commit("first", {".rota/jobs/build": BUILD.format(1), ".rota/jobs/test": TEST})
    here.ok("watch", repo.url, "--branches", "main feature/*", "--poll", "5s")
    wait_until("adopted", lambda: jobs(here, "web") == ["web/main/build", "web/main/test"])
    assert here.json("jobs", "web/*")[0].get("last") is None, "what was there starts nothing"
    assert "web/main" in here.ok("watches")

    # A push: the job as it is there then, of that commit.
    second = repo.commit("second", {".rota/jobs/build": BUILD.format(2)})
    wait_until("built", lambda: builds(here, "web/main/build"))
    build = here.until("web/main/build#1", "finished")
    assert build["source"]["commit"] == second
    assert build["trigger"]["kind"] == "push"
    assert "built 2\nsecond\n" in here.ok("log", "web/main/build#1")
    assert not builds(here, "web/main/test"), "no file that it waits for has changed"

    # Files that a job waits for; and what it needs is of its own folder.
    repo.commit("third", {"src/a": "a"})
    wait_until("tested", lambda: builds(here, "web/main/test"))
    assert here.until("web/main/test#1", "finished")["result"] == "passed"
    assert {it["number"] for it in builds(here, "web/main/build")} == {1, 2}

    # A branch is made: its jobs come, and are started by the push that made it.
    repo.git("checkout", "-q", "-b", "feature/x")
    repo.commit("on a branch", {".rota/jobs/build": BUILD.format(3)})
    wait_until("branched", lambda: builds(here, "web/feature-x/build"))
    assert "built 3" in log_of(here, "web/feature-x/build#1")
    assert "web/feature-x/test" in jobs(here, "web")

    # A bad header keeps the last good version, and is told with its place.
    repo.commit("broken", {".rota/jobs/test": TEST.replace("needs", "neds")})
    wait_until("told", lambda: "unknown key neds" in here.ok("watches"))
    assert ".rota/jobs/test:4:" in here.ok("watches")
    assert "needs" in here.ok("show", "web/feature-x/test", "--script")

    # Forced: the jobs follow, the history stays.
    repo.git("reset", "-q", "--hard", "main")
    repo.git("rm", "-q", ".rota/jobs/test")
    forced = repo.commit("forced")
    wait_until("forced", lambda: jobs_of(here, "web/feature-x") == ["web/feature-x/build"])
    wait_until(
        "built",
        lambda: [
            it
            for it in builds(here, "web/feature-x/build")
            if it["trigger"]["data"]["commit"] == forced
        ],
    )

    # The branch goes, and its jobs with it.
    repo.git("checkout", "-q", "main")
    repo.git("branch", "-q", "-D", "feature/x")
    wait_until("gone", lambda: not jobs_of(here, "web/feature-x"))
    assert here.build("web/feature-x/build#1")["result"] == "passed"

    # A new leader has nothing to do again.
    before = {it["id"] for it in here.json("builds", "-n", "100")}
    here.kill()
    here.start()
    fourth = repo.commit("fourth")
    wait_until(
        "built once more",
        lambda: [
            it for it in builds(here, "web/main/build") if it["trigger"]["data"]["commit"] == fourth
        ],
    )
    after = {it["id"] for it in here.json("builds", "-n", "100")}
    assert len(after - before) == 1

    here.ok("unwatch", "web")
    wait_until("unwatched", lambda: not jobs(here, "web"))
    assert here.run("unwatch", "web").returncode == 5


def jobs_of(here: Daemon, folder: str) -> list[str]:
    return jobs(here, folder)


def log_of(here: Daemon, build: str) -> str:
    here.until(build, "finished")
    return here.ok("log", build)


def test_names_are_made_fit_and_told_apart(here: Daemon, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "odd")
    repo.commit("first", {".rota/jobs/a": BUILD, ".rota/jobs/b c": BUILD, ".rota/jobs/d/e": BUILD})
    for name in ("a/b", "a-b", "ü"):
        repo.git("branch", name)
    here.ok("watch", repo.url, "--poll", "5s")
    found = wait_until("adopted", lambda: jobs(here, "odd"))
    folders = {name.split("/")[1] for name in found}
    assert len(folders) == 4
    assert {"main", "a-b"} < folders
    assert {name.split("/", 2)[2] for name in found} == {"a", "d/e"}
    assert ".rota/jobs/b c: bad job name" in here.ok("watches")
    here.ok("unwatch", "odd")


def test_what_is_wrong_with_a_watch_is_said(here: Daemon, tmp_path: Path) -> None:
    done = here.run("watch", "--", "--upload-pack=x")
    assert done.returncode == 2
    done = here.run("watch", "https://ann:pw@git.example/x.git")
    assert (done.returncode, "has a password" in done.stderr) == (2, True)
    assert "pw@" not in done.stderr
    here.add("taken/a", "#!/bin/sh\n")
    done = here.run("watch", f"file://{tmp_path}/taken")
    assert "there are jobs below taken already" in done.stderr
    done = here.run("watch", f"file://{tmp_path}/x", "--poll", "1")
    assert done.returncode == 2
    here.ok("watch", f"file://{tmp_path}/none", "--poll", "5s")
    wait_until("told", lambda: [it for it in here.json("status")["trouble"] if "none" in it])
    here.ok("unwatch", "none")
    assert "no repository is watched" in here.run("watches").stderr


def post(here: Daemon, call: f.Call) -> Any:
    hook = here.json("hook", "forge")
    headers = call.signed(hook["secret"], int(time.time()))
    request = urllib.request.Request(hook["url"], call.body, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_a_fork_waits_for_somebody_s_word_and_is_not_trusted(here: Daemon, github: Path) -> None:
    script = "#!/bin/sh\necho trusted=$ROTA_TRUSTED $ROTA_PULL_REQUEST into $ROTA_GIT_BASE; ls\n"
    repo = Repo(github / "ann" / "web.git")
    repo.commit("first", {".rota/jobs/a": script})
    url = "https://github.com/ann/web.git"
    here.ok("watch", url, "--name", "lib", "--branches", "main", "--pull-requests")
    wait_until("adopted", lambda: jobs(here, "lib"))
    fork = Repo(github / "eve" / "web.git")
    fork.git("pull", "-q", repo.url, "main")
    fork.git("checkout", "-q", "-b", "more")
    head = fork.commit("forked", {"theirs": "x"}, who="bob")
    repo.commit("meanwhile")
    post(here, f.github_pull("opened", head, "eve/web"))
    wait_until("its jobs are here", lambda: builds(here, "lib/pull-7/a"))
    build = here.build("lib/pull-7/a#1")
    assert (build["state"], build["held"]) == ("held", ["approval"])
    assert "somebody must approve it" in here.ok("why", "lib/pull-7/a#1")
    here.ok("approve", "lib/pull-7/a#1")
    build = here.until("lib/pull-7/a#1", "finished")
    assert build["result"] == "passed", here.ok("log", "lib/pull-7/a#1")
    log = here.ok("log", "lib/pull-7/a#1")
    assert "trusted=false 7 into main\n" in log
    assert {"theirs", "meanwhile"} <= set(log.split())
    assert f"pull request 7, {head[:12]} into main" in here.ok("show", "lib/pull-7/a#1")

    # It conflicts: that is the build's end, in words.
    head = fork.commit("conflict", {"one": "theirs"}, who="bob")
    repo.commit("other", {"one": "ours"})
    post(here, f.github_pull("synchronize", head, "eve/web"))
    wait_until("again", lambda: len(builds(here, "lib/pull-7/a")) == 2)
    here.ok("approve", "lib/pull-7/a#2")
    build = here.until("lib/pull-7/a#2", "finished")
    assert (build["result"], build["reason"]) == ("errored", "checkout")
    assert "conflicts in one" in build["message"]

    # One of the repository's own people needs no word.
    repo.git("checkout", "-q", "-b", "fix")
    own = repo.commit("own")
    repo.git("checkout", "-q", "main")
    post(here, f.github_pull("synchronize", own))
    wait_until("own", lambda: len(builds(here, "lib/pull-7/a")) == 3)
    assert here.until("lib/pull-7/a#3", "finished")["result"] == "passed"
    post(here, f.github_pull("closed", own))
    wait_until("closed", lambda: jobs(here, "lib") == ["lib/main/a"])
    here.ok("unwatch", "lib")
