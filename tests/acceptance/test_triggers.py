"""Triggers from outside on a real agent: webhooks, a bare repository's hook, chat, and a crash."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness import forges as f
from tests.harness.daemon import ROTA, Daemon, daemon, wait_until

ON = "#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ {} ]\n# ///\necho built\n"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("triggers") / "data") as running:
        yield running


def builds(here: Daemon, job: str, number: int) -> list[Any]:
    def look() -> list[Any] | None:
        found = here.json("builds", job) if here.run("show", job + "#1").returncode == 0 else []
        return found if len(found) >= number else None

    return wait_until(f"{job} has {number} builds", look)


def post(url: str, call: f.Call, secret: str) -> Any:
    headers = call.signed(secret, int(time.time()))
    request = urllib.request.Request(url, call.body, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_a_push_of_a_forge_starts_a_job_that_says_so(here: Daemon) -> None:
    here.add("web", ON.format('{ push = "main" }'))
    hook = here.json("hook", "github", "--repo", "https://github.com/ann/web")
    assert post(hook["url"], f.github_push(), hook["secret"])["refs"] == ["refs/heads/main"]
    (build,) = builds(here, "web", 1)
    shown = here.ok("show", "web#1")
    assert f"push to main at {f.B[:7]} by ann" in shown
    here.until("web#1", "finished")
    here.kill()
    here.start()
    assert post(hook["url"], f.github_push(), hook["secret"])["refs"] == ["refs/heads/main"]
    assert [it["id"] for it in builds(here, "web", 1)] == [build["id"]]
    again = here.json("hook", "github")
    assert (again["secret"], again["changed"]) == (hook["secret"], False)
    files = subprocess.run(
        ["git", "grep", "-l", hook["secret"].removeprefix("whsec_")[:20], "main"],
        cwd=here.data / "store.git",
        capture_output=True,
        text=True,
        check=False,
    )
    assert files.stdout == ""
    found = subprocess.run(
        ["grep", "-rlF", hook["secret"], str(here.data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "", "the secret stands nowhere"


def test_what_was_seen_before_a_crash_is_done_after_it_once(here: Daemon) -> None:
    here.add("late", ON.format('{ event = "go", params = {} }'))
    here.ok("emit", "go")
    here.kill()
    here.start()
    (first,) = builds(here, "late", 1)
    here.ok("emit", "go")
    assert len(builds(here, "late", 2)) == 2
    here.kill()
    here.start()
    here.ok("emit", "other")
    assert [it["id"] for it in builds(here, "late", 2)][-1] == first["id"]
    assert len(here.json("builds", "late")) == 2


def test_a_bare_repository_tells_of_pushes(here: Daemon, tmp_path: Path) -> None:
    bare, work = tmp_path / "web.git", tmp_path / "work"

    def git(*args: str, cwd: Path = work) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GIT_CONFIG_SYSTEM": "/dev/null",
            **{
                f"GIT_{who}_{what}": f"{what.lower()}@x"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        done = subprocess.run(
            ["git", *args], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip() + done.stderr

    work.mkdir()
    git("init", "-q", "--bare", str(bare), cwd=tmp_path)
    hook = bare / "hooks" / "post-receive"
    hook.write_text(here.ok("hook", "bare", "--repo", str(bare), "--post-receive"))
    hook.chmod(0o700)
    here.add("branch", ON.format(f'{{ push = "*", repo = "{bare}" }}'))
    here.add("tag", ON.format(f'{{ tag = "v*", repo = "file://{bare}" }}'))
    git("init", "-q", "-b", "main", ".")
    git("remote", "add", "origin", str(bare))
    git("commit", "-q", "--allow-empty", "-m", "first")
    said = git("push", "-q", "origin", "main")
    assert "rota was not told" not in said
    (build,) = builds(here, "branch", 1)
    commit = git("rev-parse", "HEAD")[:40]
    assert build["trigger"]["data"]["commit"] == commit
    git("tag", "v1")
    git("commit", "-q", "--amend", "--allow-empty", "-m", "another")
    git("push", "-q", "-f", "origin", "main", "v1")
    assert builds(here, "branch", 2)[0]["trigger"]["data"]["before"] == commit
    (tagged,) = builds(here, "tag", 1)
    assert f"tag v1 at {commit[:7]}" in here.ok("show", "tag#1")
    assert tagged["trigger"]["kind"] == "tag"
    hook.write_text(hook.read_text().replace("whsec_", "whsec_x"))
    git("commit", "-q", "--allow-empty", "-m", "third")
    assert "rota was not told of this push" in git("push", "-q", "origin", "main")


def test_a_line_of_chat_and_a_failure_are_shown_to_people(here: Daemon) -> None:
    here.add(
        "deploy",
        "#!/bin/sh\n# /// script\n# [tool.rota]\n"
        '# on = [ { name = "say", chat = "deploy (?P<env>\\\\w+)", params = { env = "{env}" } } ]\n'
        '# [tool.rota.params]\n# env = { choices = ["prod", "test"] }\n# ///\necho $env\n',
    )
    here.ok("emit", "chat.said", "channel=#ops", "who=ann", "text=deploy prod")
    builds(here, "deploy", 1)
    assert "ann said 'deploy prod' in #ops" in here.ok("show", "deploy#1")
    here.ok("emit", "chat.said", "channel=#ops", "who=ann", "text=deploy mars")
    shown = wait_until(
        "the failure is shown",
        lambda: text if "failed" in (text := here.ok("show", "deploy")) else None,
    )
    assert "starts on  chat deploy (?P<env>\\w+)" in shown
    assert "parameter env cannot be 'mars', only 'prod', 'test'" in shown
    assert "trigger.failed" in here.ok("events", "--kind", "trigger.*")
    here.ok("emit", "chat.said", "channel=#ops", "who=ann", "text=deploy test")
    builds(here, "deploy", 2)
    wait_until("it is forgotten", lambda: "cannot be 'mars'" not in here.ok("show", "deploy"))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("hook", "a/b"), "bad webhook name 'a/b'"),
        (("hook", "x", "--repo", "web"), "no repository's URL: 'web'"),
        (("hook", "none", "--post-receive"), "no webhook 'none'"),
        (("hook", "x", "--rm", "--rotate"), "--rm goes with nothing else"),
        (("hook", "none", "--rm"), "no webhook 'none'"),
    ],
)
def test_nonsense_is_told(here: Daemon, args: tuple[str, ...], says: str) -> None:
    done = here.run(*args)
    assert done.returncode != 0
    assert says in done.stderr
    assert ROTA.exists()
