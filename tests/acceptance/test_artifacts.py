"""Artifacts at a shell: many at once, what broke off, folders, odd files, and promotions."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.daemon import Daemon, daemon, wait_until
from tests.harness.joined import script

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def left(agent: Daemon) -> str:
    """A build that left files, in folders."""
    body = (
        "mkdir -p dist/docs; echo one >dist/a.txt; echo two >dist/docs/b.txt; : >empty;"
        "head -c 3000000 /dev/urandom >big; ln -s dist/a.txt link; ln -s /etc/passwd away"
    )
    header = 'artifacts = ["dist/**/*", "empty", "big", "link", "away"]'
    agent.add("web/build", script(header) + body + "\n")
    done = agent.run("run", "web/build", "--wait")
    assert done.returncode == 0, done.stderr
    return "web/build#1"


def get(agent: Daemon, *words: str, cwd: Path) -> str:
    done = agent.run("artifacts", "get", *words, "-o", str(cwd))
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


def files(folder: Path) -> list[str]:
    return sorted(str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file())


def test_many_are_fetched_at_their_own_paths(agent: Daemon, left: str, tmp_path: Path) -> None:
    build = agent.build(left)
    assert build["message"] == "artifacts: nothing matches 'away'", "a link that leads out"
    get(agent, left, cwd=tmp_path / "all")
    assert files(tmp_path / "all") == ["big", "dist/a.txt", "dist/docs/b.txt", "empty", "link"]
    get(agent, left, "dist/*", "empty", cwd=tmp_path / "some")
    assert files(tmp_path / "some") == ["dist/a.txt", "empty"]
    get(agent, left, "dist/", cwd=tmp_path / "folder")
    assert files(tmp_path / "folder") == ["dist/a.txt", "dist/docs/b.txt"]
    assert "there already" in get(agent, left, "dist", cwd=tmp_path / "folder")
    rows = agent.json("artifacts", left)
    assert {it["path"] for it in rows} == {"big", "dist/a.txt", "dist/docs/b.txt", "empty", "link"}
    assert all(it["kept_at"].endswith("Z") for it in rows)


def test_what_broke_off_goes_on_and_what_is_wrong_begins_anew(
    agent: Daemon, left: str, tmp_path: Path
) -> None:
    get(agent, left, "big", cwd=tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    sha256 = next(it["sha256"] for it in agent.json("artifacts", left) if it["path"] == "big")
    part = tmp_path / f".again.{sha256[:12]}.part"
    part.write_bytes(whole[:1_234_567])
    assert "big: goes on after 1.2 MiB" in get(agent, left, "big", cwd=tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == whole
    assert not part.exists()
    part.write_bytes(b"x" * 1000)
    (tmp_path / "again").unlink()
    wrong = agent.run("artifacts", "get", left, "big", "-o", str(tmp_path / "again"))
    assert "big is not what the build kept" in wrong.stderr
    assert not (tmp_path / "again").exists()
    get(agent, left, "big", cwd=tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == whole


def test_nothing_is_written_elsewhere(agent: Daemon, left: str, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/dist").symlink_to(tmp_path / "away")
    done = agent.run("artifacts", "get", left, "dist/**", "-o", str(tmp_path / "here"))
    assert done.returncode == 2
    assert f"'dist/a.txt' leads out of {tmp_path}/here" in done.stderr
    assert files(tmp_path / "away") == []


def test_a_folder_is_kept_file_by_file_or_as_one(agent: Daemon, tmp_path: Path) -> None:
    body = (
        "mkdir -p d/e; echo 1 >d/e/x; chmod 750 d/e/x; ln -s e/x d/link; echo 2 >'d/a b';"
        "rota artifacts put d; rota artifacts put d/ other; rota artifacts put --tar d;"
        "echo piped | rota artifacts put - from/pipe; mkdir none;"
        "rota artifacts put none; rota artifacts put nothing; rota artifacts put /dev/null;"
        "touch \"$(printf 'new\\nline')\"; rota artifacts put \"$(printf 'new\\nline')\"; true"
    )
    agent.add("web/folder", script("").replace("true\n", "") + body + "\n")
    done = agent.run("run", "web/folder", "-f")
    assert "error: none has no files in it" in done.stdout
    assert "error: cannot read nothing: no such file" in done.stdout
    assert "error: cannot keep /dev/null: it is no regular file" in done.stdout
    assert r"error: cannot keep 'new\nline': its name cannot be printed" in done.stdout
    get(agent, "web/folder#1", cwd=tmp_path)
    assert files(tmp_path) == [
        *("d.tar.gz", "d/a b", "d/e/x", "d/link"),
        *("from/pipe", "other/a b", "other/e/x", "other/link"),
    ]
    assert (tmp_path / "from/pipe").read_text() == "piped\n"
    with tarfile.open(tmp_path / "d.tar.gz") as tar:
        assert tar.getmember("d/e/x").mode == 0o750
        assert tar.getmember("d/link").issym()


def test_files_are_kept_from_outside_for_a_build_that_runs(agent: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    agent.add("web/wait", f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\n")
    agent.ok("run", "web/wait")
    agent.until("web/wait#1", "running")
    (tmp_path / "report").write_text("fine")
    agent.ok("artifacts", "put", str(tmp_path / "report"), "--build", "web/wait#1")
    early = agent.run("artifacts", "promote", "web/wait#1", "--to", "early")
    assert "web/wait#1 is running; only what a finished build left is promoted" in early.stderr
    go.touch()
    agent.until("web/wait#1", "finished")
    late = agent.run("artifacts", "put", str(tmp_path / "report"), "--build", "web/wait#1")
    assert "web/wait#1 is finished; only a running build keeps artifacts" in late.stderr


def test_what_is_promoted_stays_under_its_name_whatever_the_rules(
    agent: Daemon, tmp_path: Path
) -> None:
    header = 'artifacts = ["*"]\nkeep = { builds = 1 }'
    agent.add("web/rel", script(header) + "echo $ROTA_NUMBER >app; echo $ROTA_NUMBER >notes\n")
    for _ in range(2):
        assert agent.run("run", "web/rel", "--wait").returncode == 0
    said = agent.ok("artifacts", "promote", "web/rel#1", "app", "--to", "v1.0", "--why", "good")
    assert said == "v1.0: 1 file of web/rel#1, for ever\n"
    agent.ok("artifacts", "promote", "web/rel#1", "app", "--to", "v1.0")
    other = agent.run("artifacts", "promote", "web/rel#2", "--to", "v1.0")
    assert "v1.0 is web/rel#1 already, promoted by " in other.stderr
    [row] = agent.json("artifacts", "--promoted")
    assert (row["name"], row["ref"], row["why"]) == ("v1.0", "web/rel#1", "good")
    assert '"message":"promote web/rel#1 to v1.0: good"' in agent.ok(
        "events", "-n", "500", "--json"
    )

    # A sweep comes at a start of the leader's, and looks at what the history has.
    def sealed() -> bool:
        events = [json.loads(it) for it in agent.ok("events", "-n", "500", "--json").splitlines()]
        finished = max(it["seq"] for it in events if it["kind"] == "build.finished")
        return any(it["kind"] == "history.sealed" and it["through"] >= finished for it in events)

    wait_until("both builds are in the history", sealed)
    agent.ok("stop")
    agent.start()

    def swept() -> bool:
        return any(it.get("removed") for it in agent.json("artifacts", "web/rel#1"))

    wait_until("the older build's files are gone", swept)
    rows = {it["path"]: it for it in agent.json("artifacts", "web/rel#1")}
    assert rows["app"].get("removed", "") == ""
    assert rows["app"]["promoted"] == "v1.0"
    assert "by its job's `keep.builds`" in rows["notes"]["removed"]
    get(agent, "v1.0", cwd=tmp_path)
    assert files(tmp_path) == ["app"]
    assert (tmp_path / "app").read_text() == "1\n"
    gone = agent.run("artifacts", "get", "web/rel#1", "notes", "-o", str(tmp_path / "n"))
    assert "'notes' of web/rel#1 was removed on " in gone.stderr
    agent.ok("artifacts", "demote", "v1.0", "--why", "over")
    assert agent.json("artifacts", "--promoted") == []
    lost = agent.run("artifacts", "get", "web/rel#1", "app", "-o", str(tmp_path / "n"))
    assert "'app' of web/rel#1 was removed on " in lost.stderr
    bad = agent.run("artifacts", "promote", "web/rel#2", "--to", "../x")
    assert "bad name '../x' for a promotion" in bad.stderr
    none = agent.run("artifacts", "demote", "v1.0")
    assert "nothing is promoted as 'v1.0'" in none.stderr
    assert os.listdir(agent.data / "artifacts")


def test_what_an_agent_kept_alone_is_with_all_once_others_join(tmp_path: Path) -> None:
    first, second = Daemon(tmp_path / "a", "--name", "a"), Daemon(tmp_path / "b", "--name", "b")
    said = first.ok("agent", "--name", "a", "--slots", "2", "--daemon", "--invite")
    try:
        first.add("x/one", script('artifacts = ["f"]') + "echo $ROTA_NUMBER >f\n")
        assert first.run("run", "x/one", "--wait").returncode == 0
        assert files(first.data / "artifacts")
        second.ok("join", said.split()[-1], "--name", "b", "--slots", "2")
        got = second.run("artifacts", "get", "x/one#1", "f", "-o", "-")
        assert got.stdout == "1\n", "it is had from where it is"
        wait_until("all is handed over", lambda: not files(first.data / "artifacts"))
        assert all("removed" not in it for it in second.json("artifacts", "x/one#1"))
        cache = 'caches = [ { key = "k", paths = ["d"], shared = true } ]'
        for name in "ab":
            header = f'labels = "agent={name}"\n{cache}'
            second.add(f"x/{name}", script(header) + "cat d; echo made by $ROTA_AGENT >d; true\n")
        assert second.run("run", "x/a", "--wait").returncode == 0
        done = second.run("run", "x/b", "-f")
        assert " come from other agents\n" in done.stdout, done.stderr
        assert done.stdout.endswith("made by a\n")
    finally:
        second.run("stop")
        first.run("stop")
