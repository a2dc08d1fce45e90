"""The audit at a real agent: what it lists, and what it finds on a disk that somebody changed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import audited
from tests.harness.daemon import Daemon, daemon, wait_until

from rota.core.records import decode, encode

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("agent") / "data") as running:
        running.add("web/test", "#!/bin/sh\necho some output\n")
        for _ in range(2):
            assert running.run("run", "web/test", "--wait").returncode == 0
        settle(running)
        settle(running)  # whatever commit the builds are in, a later seal names it
        yield running


def settle(agent: Daemon) -> None:
    """Let a deed be made, and return once it is in the history."""
    agent.ok("emit", "all.done")
    seq = agent.json("audit", "--verb", "emit")["deeds"][0]["seq"]
    wait_until("it is in the history", lambda: agent.json("audit", "head")["seq"] > seq)


def flaws(agent: Daemon, *more: str) -> list[dict[str, str]]:
    done = agent.run("audit", "verify", "--json", *more)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    found = [it for it in steps if it["type"] == "flaw"]
    assert done.returncode == (1 if found else 0), done.stderr
    return found


def test_who_did_what_is_listed_and_the_history_verified(agent: Daemon, tmp_path: Path) -> None:
    listed = agent.ok("audit", "--job", "web/*").splitlines()
    assert [line.split()[2:4] for line in listed] == [
        ["commit", "main"],
        ["run", "web/test#1"],
        ["run", "web/test#2"],
    ]
    assert agent.ok("audit", "--user", "nobody") == ""
    head = agent.ok("audit", "head").strip()
    said = agent.ok("audit", "verify", "--head", head)
    assert said.startswith("all as it was: ")
    assert "2 records" in said
    assert "2 logs" in said
    clone = tmp_path / "clone"
    agent.ok("clone", str(clone))
    kept = tmp_path / "heads"
    kept.write_text(head + "\n")
    assert "2 records" in agent.ok("audit", "verify", "--clone", str(clone), "--head", str(kept))
    digest = agent.json("show", "web/test#1")["log_sha256"]
    shown = subprocess.run(
        ["sha256sum"],
        input=agent.ok("log", "web/test#1"),
        text=True,
        capture_output=True,
        check=True,
    )
    assert shown.stdout.split()[0] == digest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit", "all"), "audit: 'all' is none of its forms"),
        (("audit", "verify", "--user", "ann"), "--user is not for audit verify"),
        (("audit", "--no-logs"), "--no-logs is not for audit list"),
        (("audit", "verify", "--head", "nowhere"), "--head nowhere: No such file or directory"),
        (("audit", "verify", "--head", "rota-audit-1 x"), "is no head of a history"),
        (("audit", "verify", "--clone", "/nowhere"), "no folder /nowhere"),
        (("audit", "--after", "yesterday"), "bad after 'yesterday'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    agent: Daemon, words: tuple[str, ...], said: str
) -> None:
    done = agent.run(*words)
    assert done.returncode in (2, 5), done.stderr
    assert said in done.stderr


def test_a_history_that_was_made_anew_is_found_while_the_agent_runs(agent: Daemon) -> None:
    store = agent.data / "store.git"
    commits = audited.line(store)
    path = "builds/web/test/@000/00/2.json"
    raw = audited.git(store, "cat-file", "blob", f"history:{path}").encode()
    build = decode(raw)
    assert build is not None
    forged = encode(build).replace(b'"exit_code": 0', b'"exit_code": 1')
    at = next(
        it
        for it in commits
        if path in audited.git(store, "show", "--name-only", "--format=", it).split()
    )
    audited.rebuilt(store, commits, {at: {path: forged}})
    try:
        found = flaws(agent)
        assert ("record", path) in {(it["what"], it["where"]) for it in found}
        texts = [it["text"] for it in found if it["where"] == path]
        assert "this agent's index has another one: exit_code is 1 here and 0 there" in texts
        assert any("a seal of the journal names it" in it["text"] for it in found)
        # And the agent finds it by itself, as the next seal names what was there.
        assert agent.run("run", "web/test", "--wait").returncode == 0
    finally:
        audited.git(store, "update-ref", "refs/heads/history", commits[-1])


def test_main_that_moved_past_the_journal_is_found(agent: Daemon) -> None:
    store = agent.data / "store.git"
    main = audited.line(store, "main")[-1]
    tree = audited.git(store, "rev-parse", "main^{tree}")
    forged = audited.git(store, "commit-tree", tree, "-p", "main", "-m", "let me in")
    audited.git(store, "update-ref", "refs/heads/main", forged)
    try:
        assert ("main", f"commit {forged}") in [
            (it["what"], it["where"]) for it in flaws(agent, "--no-logs")
        ]
    finally:
        audited.git(store, "update-ref", "refs/heads/main", main)
