"""Caches on a real agent: from one build to the next, and over the death of the daemon."""

from __future__ import annotations

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


def test_a_cache_is_found_by_the_next_build_also_if_the_daemon_died_meanwhile(
    agent: Daemon, tmp_path: Path
) -> None:
    header = 'params = { v = "1" }\ncaches = [ { key = "k-{v}", paths = ["deps", "~/.tool"], restore = ["k-"] } ]'
    go = tmp_path / "go"
    body = f"cat deps/x ~/.tool/y; mkdir -p deps ~/.tool; echo $v >deps/x; echo home >~/.tool/y; while [ ! -e {go} ]; do sleep 0.05; done"
    agent.add("web/test", script(header) + body + "\n")
    agent.ok("run", "web/test")
    agent.until("web/test#1", "running")
    wait_until("it has begun", lambda: "deps/x" in agent.ok("log", "web/test#1"))
    agent.kill()
    agent.start()
    go.touch()
    first = agent.until("web/test#1", "finished")
    assert (first["result"], first.get("annotations", [])) == ("passed", [])
    assert "cache k-1: " in agent.ok("log", "web/test#1")
    done = agent.run("run", "web/test", "v=2", "-f")
    assert done.returncode == 0
    assert "into deps, ~/.tool, saved by web/test#1\n::endgroup::\n1\nhome\n" in done.stdout
    assert done.stdout.endswith(" saved\n")
    assert (agent.data / "caches").is_dir()


def test_caches_are_listed_and_forgotten(agent: Daemon) -> None:
    header = (
        'caches = [ { key = "s", paths = ["a"], shared = true }, { key = "l", paths = ["b"] } ]'
    )
    agent.add("other/test", script(header) + "echo $(cat a b); echo x >a; echo y >b\n")
    assert agent.run("run", "other/test", "--wait").returncode == 0
    found = {it["key"]: it for it in agent.json("caches") if it["scope"] == "other"}
    assert found["s"]["shared"] is True
    assert (found["l"].get("shared", False), found["l"]["agent"]) == (False, "here")
    assert "x y" in agent.run("run", "other/test", "-f").stdout
    said = agent.ok("caches", "rm", "?", "--project", "other").splitlines()
    assert sorted(said) == ["other: l is forgotten", "other: s is forgotten"]
    assert [it for it in agent.json("caches") if it["scope"] == "other"] == []
    assert "x y" not in agent.run("run", "other/test", "-f").stdout
    none = agent.run("caches", "rm", "nothing")
    assert "no cache's key matches 'nothing'" in none.stderr
    assert "caches: 'list' is not rm KEY" in agent.run("caches", "list").stderr
