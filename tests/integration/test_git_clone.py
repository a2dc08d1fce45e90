"""A store from a clone, from another agent over TLS, and what is wrong with each."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import daemon, wait_until
from tests.harness.engine import PATIENCE_S, Authority, running
from tests.harness.git import Client, served
from tests.harness.stores import AT, commit
from tests.integration.test_store_cluster import Node, Shared, heads

from rota.adapters.git import GitService, GitStore
from rota.adapters.git.fetching import from_clone
from rota.adapters.nats.journal import NatsJournal
from rota.core.events import AgentStarted
from rota.errors import ConflictError, InputError, StaleError, UnavailableError
from rota.ports.store import HISTORY, Record, Source


async def nothing(*_: str) -> None:
    pass


@contextlib.asynccontextmanager
async def filled(path: Path) -> AsyncIterator[GitStore]:
    """A store in which something ran."""
    async with GitStore(path) as store:
        await commit(store, {"jobs/web/test": b"echo\n"})
        for number in (1, 2):
            record = Record(f"builds/web/test/@000/00/{number}.json", b"%d\n" % number)
            await store.record([record], covers=number, at=AT)
        yield store


async def ends(path: Path) -> tuple[str, str]:
    async with GitStore(path) as store:
        return await store.head(), await store.head(HISTORY)


# -- from a clone -------------------------------------------------------------------------------


async def test_a_new_cluster_has_the_jobs_numbers_and_history_of_the_clone(tmp_path: Path) -> None:
    old = Node("old", tmp_path, Shared())
    async with old.up():
        await old.shared.event(AgentStarted(at=AT, agent="old"))
        await old.add({"jobs/web/test": b"echo\n", "jobs/web/other": b"echo\n"})
        for number in (1, 2, 3):
            await old.shared.build(f"old-{number}")
        await old.shared.build("old-other", "web/other")
        await old.shared.seal()
        await old.caught_up()
        ended = (await old.main(), await old.history())
        clone = await old.clone(tmp_path, "clone")
    path = tmp_path / "new/store.git"
    await from_clone(clone.folder, path)
    assert await ends(path) == ended
    async with GitStore(path) as store:
        shared = Shared(await store.covered() + 1)
    new = Node("new", tmp_path, shared)
    async with new.up():
        await shared.event(AgentStarted(at=AT, agent="new"))
        await new.caught_up()
        assert (await new.main(), await new.history()) == ended
        assert new.world.definitions.jobs.keys() == {"web/test", "web/other"}
        assert new.world.last_number("web/test") == 3
        await shared.build("new-4")
        await shared.seal()
        await new.add({"jobs/web/third": b"echo\n"})
        await shared.build("new-5")
        await shared.seal()
        await new.caught_up()
        found = new.index.latest()
        assert [build.id for build in found] == [
            *("new-5", "new-4", "old-other", "old-3", "old-2", "old-1")
        ]
        assert [build.number for build in found if build.job == "web/test"] == [5, 4, 3, 2, 1]
        assert await new.store.contains(await new.history(), ended[1])
        assert len([record async for record in new.store.records()]) == 6
        given = await new.historian.state()
        joiner = Node("joiner", tmp_path, shared)
        joiner.given = given
        async with GitStore(joiner.path) as store:
            await store.fetch(Source(new.url), force=True)
        async with joiner.up():
            assert len(await heads([new, joiner])) == 1
            assert joiner.world.last_number("web/test") == 5


@pytest.mark.parametrize("kind", ["plain", "bare", "mirror", "worktree"])
async def test_any_whole_clone_will_do(tmp_path: Path, kind: str) -> None:
    async with filled(tmp_path / "store.git") as store, GitService(store, nothing) as service:
        async with served(service) as url:
            client = Client(tmp_path)
            args = {"bare": ["--bare"], "mirror": ["--mirror"]}.get(kind, [])
            await client.run("clone", "-q", *args, url, "clone")
            folder = tmp_path / "clone"
            if kind == "worktree":
                client.folder, folder = folder, tmp_path / "tree"
                await client.run("worktree", "add", "-q", "--detach", str(folder))
        wanted = (await store.head(), await store.head(HISTORY))
    await from_clone(folder, tmp_path / "new/store.git")
    assert await ends(tmp_path / "new/store.git") == wanted


async def test_a_branch_is_taken_from_where_it_is_further(tmp_path: Path) -> None:
    client = Client(tmp_path)
    async with (
        filled(tmp_path / "store.git") as store,
        GitService(store, nothing) as service,
        served(service) as url,
    ):
        await client.run("clone", "-q", url, "clone")
        client.folder = tmp_path / "clone"
        await client.run("branch", "-q", "history", "origin/history")
        await client.commit({"jobs/unpushed": b"echo\n"})
        await store.record([], covers=9, at=AT)
        await client.run("fetch", "-q")
        history = await store.head(HISTORY)
        head = (await client.run("rev-parse", "HEAD")).strip()
    await from_clone(client.folder, tmp_path / "new/store.git")
    assert await ends(tmp_path / "new/store.git") == (head, history)


async def test_what_is_wrong_with_a_clone_is_said(tmp_path: Path) -> None:
    client = Client(tmp_path)
    async with (
        filled(tmp_path / "store.git") as store,
        GitService(store, nothing) as service,
        served(service) as url,
    ):
        await client.run("clone", "-q", "--depth", "1", "--no-single-branch", url, "shallow")
        await client.run("clone", "-q", "--single-branch", url, "single")
        await client.run("clone", "-q", url, "parted")
    client.folder = tmp_path / "parted"
    await client.run("commit", "-q", "--amend", "-m", "mine")
    client.folder = tmp_path
    await client.run("init", "-q", "-b", "main", "other")
    client.folder = tmp_path / "other"
    await client.commit({"README": b"x\n"})
    await client.run("branch", "history")
    (tmp_path / "empty").mkdir()
    for name, words in {
        "nowhere": "there is no folder .*/nowhere",
        "empty": "empty is no git clone: .*not a git repository",
        "shallow": "shallow is a shallow clone: a part of the history is missing",
        "single": "single has no branch history",
        "parted": "in .*/parted, refs/heads/main and refs/remotes/origin/main have parted",
        "other": "other is no clone of a store: its history names no Journal-Seq",
    }.items():
        with pytest.raises(InputError, match=words):
            await from_clone(tmp_path / name, tmp_path / "new/store.git")
        assert not (tmp_path / "new/store.git").exists()
    with pytest.raises(ConflictError, match=r"there is a store in .*/store\.git already"):
        await from_clone(tmp_path / "single", tmp_path / "store.git")


async def test_a_damaged_clone_makes_no_store(tmp_path: Path) -> None:
    async with filled(tmp_path / "store.git"):
        pass
    await Client(tmp_path).run("clone", "-q", "--mirror", "store.git", "clone")
    packs = sorted((tmp_path / "clone/objects/pack").glob("*.pack"))
    for number, pack in enumerate(packs):
        pack.rename(tmp_path / "away")
        with pytest.raises((InputError, UnavailableError), match="/clone"):
            await from_clone(tmp_path / "clone", tmp_path / f"{number}/store.git")
        assert not (tmp_path / f"{number}/store.git").exists()
        (tmp_path / "away").rename(pack)


# -- from another agent -------------------------------------------------------------------------


async def test_a_fresh_store_is_replaced_by_the_clusters(tmp_path: Path) -> None:
    async with filled(tmp_path / "a") as a, GitStore(tmp_path / "b") as b:
        await b.fetch(Source(str(a.path)), force=True)
        assert (await b.head(), await b.head(HISTORY)) == (await a.head(), await a.head(HISTORY))
        assert await b.covered() == 2
        await commit(a, {"jobs/more": b"echo\n"})
        await a.record([], covers=5, at=AT)
        await b.fetch(Source(str(a.path)))
        assert (await b.head(), await b.head(HISTORY)) == (await a.head(), await a.head(HISTORY))


async def test_a_branch_that_is_ahead_stays_where_it_is(tmp_path: Path) -> None:
    async with filled(tmp_path / "a") as a, GitStore(tmp_path / "b") as b:
        await b.fetch(Source(str(a.path)))
        ahead = await b.record([], covers=9, at=AT)
        new = await commit(b, {"jobs/more": b"echo\n"})
        for force in (False, True):
            await b.fetch(Source(str(a.path)), force=force)
            assert (await b.head(), await b.head(HISTORY)) == (new, ahead)


async def test_branches_that_parted_are_forced_only_where_that_is_asked(tmp_path: Path) -> None:
    async with filled(tmp_path / "a") as a, GitStore(tmp_path / "b") as b:
        mine = await commit(b, {"jobs/mine": b"echo\n"})
        with pytest.raises(StaleError, match=f"main is at {mine} here and at .* they parted"):
            await b.fetch(Source(str(a.path)))
        assert await b.head() == mine
        for _ in range(2):
            await b.fetch(Source(str(a.path)), force=True)
        assert await b.head() == await a.head()
        assert (b.path / f"refs/rota/was/{mine}").exists()
        assert "jobs/mine" in await b.tree(mine)


async def test_a_fetch_while_records_are_written_loses_none(tmp_path: Path) -> None:
    async with filled(tmp_path / "a") as a, GitStore(tmp_path / "b") as b:
        await b.fetch(Source(str(a.path)), force=True)

        async def write(store: GitStore) -> None:
            for number in range(3, 13):
                await store.record([Record(f"builds/a/{number}.json", b"x")], covers=number, at=AT)

        async with asyncio.TaskGroup() as group:
            group.create_task(write(a))
            group.create_task(write(b))
            for _ in range(3):
                await b.fetch(Source(str(a.path)))
        assert await b.head(HISTORY) == await a.head(HISTORY)


async def test_an_agent_that_does_not_answer_is_named(tmp_path: Path) -> None:
    async with GitStore(tmp_path / "b") as b:
        before = await b.head()
        with pytest.raises(
            UnavailableError, match=r"cannot fetch from http://127\.0\.0\.1:1/git: "
        ):
            await b.fetch(Source("http://127.0.0.1:1/git"))
        assert await b.head() == before


async def test_both_sides_of_a_fetch_are_known_by_their_keys(tmp_path: Path) -> None:
    ours, others = Authority(), Authority()
    server = ours.credentials(tmp_path / "server", ["127.0.0.1"])
    me = ours.credentials(tmp_path / "me")
    stranger = others.credentials(tmp_path / "stranger")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.ca)
    tls.load_cert_chain(server.cert, server.key)
    tls.verify_mode = ssl.CERT_REQUIRED
    async with (
        filled(tmp_path / "a") as a,
        GitService(a, nothing) as service,
        served(service, tls=tls) as url,
        GitStore(tmp_path / "b") as b,
    ):
        before = await b.head()
        mine: dict[str, Any] = {"cert": str(me.cert), "key": str(me.key)}
        for wrong in (
            Source(url, pins=(server.pin,)),  # no certificate is shown
            Source(url, cert=str(stranger.cert), key=str(stranger.key), pins=(server.pin,)),
            Source(url, **mine, pins=(me.pin,)),  # somebody else answers
            Source(url, **mine, ca=str(stranger.ca)),
            Source(url, **mine),
        ):
            with pytest.raises(UnavailableError, match="cannot fetch from https://"):
                await b.fetch(wrong, force=True)
            assert await b.head() == before
        # A machine's address changes; its key does not.
        await b.fetch(Source(url.replace("127.0.0.1", "localhost"), **mine, pins=(server.pin,)))
        assert await b.head() == await a.head()
        await commit(a, {"jobs/more": b"echo\n"})
        await b.fetch(Source(url, **mine, ca=str(server.ca)))
        assert await b.head() == await a.head()


# -- the journal of a cluster that begins with a history ------------------------------------------


@pytest.mark.nats
async def test_the_engines_journal_begins_where_the_history_ends(tmp_path: Path) -> None:
    async with running(tmp_path / "engine") as engine, engine.connect() as client:
        await client.connected(PATIENCE_S)
        journal = NatsJournal(client)
        await journal.open(first=41)
        assert await journal.bounds() == (41, 40)
        assert [entry async for entry in journal.read()] == []
        event = AgentStarted(at=AT, agent="a")
        assert await journal.append(event, expect=0) == 41
        with pytest.raises(StaleError):
            await journal.append(event, expect=0)
        assert await journal.append(event, expect=41) == 42
        for first in (1, 41, 99):  # it is there: where it would begin is no question any more
            await journal.open(first=first)
        assert [entry.seq async for entry in journal.read()] == [41, 42]
        assert [entry.seq async for entry in journal.read(after=41)] == [42]
        await journal.trim(before=42)
        assert await journal.bounds() == (42, 42)
        await engine.stop()


def test_an_agent_started_from_a_clone_goes_on_where_the_old_cluster_was(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    with daemon(tmp_path / "old") as old:
        old.add("web/test", "#!/bin/sh\necho hi\n")
        for _ in range(3):
            old.ok("run", "web/test", "--wait")
        wait_until("all is in the history", lambda: recorded(old.data / "store.git") == 3)
        ran = old.json("builds")
        git("clone", "-q", str(old.data / "store.git"), str(clone))
    with daemon(tmp_path / "new", "--from-clone", str(clone)) as new:
        store = new.data / "store.git"
        for branch in ("main", "history"):
            # What the new cluster does itself is deeds of its own, and follows.
            of_clone = git("-C", str(clone), "rev-parse", f"origin/{branch}").strip()
            assert git("--git-dir", str(store), "merge-base", of_clone, branch).strip() == of_clone
        assert new.json("builds") == ran
        assert new.json("show", "web/test#3")["id"] == ran[0]["id"]
        new.ok("run", "web/test", "--wait")
        assert [build["number"] for build in new.json("builds")] == [4, 3, 2, 1]
        new.ok("retry", "web/test#2")
        wait_until("it is in the history", lambda: recorded(store) == 4)
        new.until("web/test#2", "finished")
        assert new.build("web/test#2")["attempt"] == 2
    said = new.run("agent", "--from-clone", str(clone))
    assert said.returncode != 0
    assert f"there is a store in {store} already" in said.stderr


def recorded(store: Path) -> int:
    """Return how many builds the history of a store has."""
    if not (store / "refs/heads/history").exists():
        return 0
    return len(git("--git-dir", str(store), "ls-tree", "-r", "history").splitlines())


def git(*args: str) -> str:
    done = subprocess.run(["git", *args], capture_output=True, check=True, text=True)
    return done.stdout.strip()
