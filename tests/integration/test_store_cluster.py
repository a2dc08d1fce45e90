"""The store on several agents: one journal, a repository each, and the same commits in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from tests.harness.git import Client, push, served
from tests.harness.stores import ADA, AT

from rota.adapters.clocks import SystemClock
from rota.adapters.git import GitService, GitStore
from rota.adapters.git.process import Git
from rota.adapters.memory import MemoryBlobs, MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent.definitions import Follower
from rota.agent.historian import Historian
from rota.agent.mover import Fetch, Mover
from rota.agent.rebuild import restore
from rota.core.events import (
    AgentStarted,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    HistorySealed,
    StoreMoved,
)
from rota.core.job import Reason, Spec
from rota.errors import NotFoundError, StaleError, UnavailableError
from rota.ports.store import HISTORY, Source
from rota.service.world import World

PATIENCE_S = 30.0


class Shared:
    """What the agents of a cluster have in common; an acknowledgement can get lost on its way."""

    def __init__(self, first: int = 1) -> None:
        self.journal = MemoryJournal(first)
        self.blobs = MemoryBlobs()

    async def event(self, event: Event) -> int:
        return await self.journal.append(event)

    async def build(self, name: str, job: str = "web/test") -> None:
        """Let a build be requested, run and finish."""
        for event in (
            BuildRequested(at=AT, agent="a", build=name, job=job, spec=Spec()),
            BuildStarted(at=AT, agent="a", build=name, attempt=1),
            BuildFinished(
                at=AT, agent="a", build=name, attempt=1, reason=Reason.SCRIPT, exit_code=0
            ),
        ):
            await self.event(event)

    async def seal(self) -> None:
        _, last = await self.journal.bounds()
        await self.event(HistorySealed(at=AT, agent="a", through=last))

    async def moves(self) -> list[StoreMoved]:
        return [e.event async for e in self.journal.read() if isinstance(e.event, StoreMoved)]


class Node:
    """An agent, as far as the store is concerned. A dead one keeps its disk."""

    def __init__(self, name: str, folder: Path, shared: Shared) -> None:
        self.name, self.shared = name, shared
        self.path = folder / name / "store.git"
        self.index = MemoryIndex()
        self.fetch: Fetch = alone
        self.given = b""
        self.loses_answers = 0
        self.refuses = ""
        self.world: World
        self.store: GitStore
        self.mover: Mover
        self.historian: Historian
        self.url = ""

    async def main(self) -> str:
        return await self.store.head()

    async def history(self) -> str:
        return await self.store.head(HISTORY)

    async def add(self, changes: Mapping[str, bytes | None], base: str | None = None) -> str:
        return await self.mover.commit(
            changes,
            base=self.world.commit if base is None else base,
            author=ADA,
            message="a change",
            by="ada",
        )

    async def append(self, event: Event, *, expect: int) -> int:
        if self.refuses:
            raise UnavailableError(self.refuses)
        seq = await self.shared.journal.append(event, expect=expect)
        if self.loses_answers:
            self.loses_answers -= 1
            raise UnavailableError("not confirmed")
        return seq

    async def clone(self, folder: Path, name: str) -> Client:
        client = Client(folder)
        await client.run("clone", "-q", self.url, name)
        client.folder = folder / name
        return client

    async def caught_up(self) -> None:
        """Wait until all that is in the journal now is in the store here."""
        _, last = await self.shared.journal.bounds()
        await self.world.reached(last, PATIENCE_S)
        await until(lambda: self.world.commit == self.world.cluster.picture.refs["main"])
        await until(lambda: not self.mover.is_behind)
        async with asyncio.timeout(PATIENCE_S):
            await self.historian.settled()

    @contextlib.asynccontextmanager
    async def up(self, store: type[GitStore] = GitStore) -> AsyncIterator[Node]:
        """Run it; leaving the block kills it."""
        shared = self.shared
        async with store(self.path) as self.store:
            bounds = await shared.journal.bounds()
            self.world = await restore(
                shared.journal, self.store, self.index, self.given, bounds=bounds
            )
            follower = Follower(self.world, self.store)
            self.historian = Historian(self.world, self.store, self.index, SystemClock())
            self.mover = Mover(
                name=self.name,
                world=self.world,
                store=self.store,
                journal=shared.journal,
                blobs=shared.blobs,
                clock=SystemClock(),
                append=self.append,
                follow=follower.follow,
                journal_first=lambda: bounds[0],
                fetch=self.fetch,
            )
            await self.historian.begin()
            async with (
                going(self.fold(), self.mover.run(), self.historian.run()),
                GitService(self.store, self.mover.pushed) as service,
                served(service, f"{self.name}-user") as self.url,
            ):
                await self.world.reached(bounds[1], PATIENCE_S)
                await self.mover.begin()
                yield self

    async def fold(self) -> None:
        entries = self.shared.journal.read(after=self.world.seq, follow=True)
        async with contextlib.aclosing(entries):
            async for entry in entries:
                change = self.world.fold(entry)
                if isinstance(entry.event, HistorySealed):
                    self.historian.seal(entry.event, change)
                self.mover.folded(entry)


async def alone(*, force: bool) -> None:
    raise UnavailableError("no other agent is there to fetch the store from")


@contextlib.asynccontextmanager
async def going(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def cluster(folder: Path, *names: str) -> AsyncIterator[list[Node]]:
    shared = Shared()
    nodes = [Node(name, folder, shared) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.up())
            await shared.event(AgentStarted(at=AT, agent=node.name))
        yield nodes


async def heads(nodes: list[Node]) -> set[tuple[str, str]]:
    for node in nodes:
        await node.caught_up()
    return {(await node.main(), await node.history()) for node in nodes}


# -- moves --------------------------------------------------------------------------------------


async def test_the_first_agent_says_where_main_is_and_the_next_finds_itself_there(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a", "b") as (a, b):
        (first,) = await a.shared.moves()
        assert (first.old, first.new, first.agent) == ("", await b.main(), "a")
        assert first.message == "a new store"
        assert (first.pack, first.blob) == (b"", "")
        assert len(await heads([a, b])) == 1


async def test_a_change_at_one_agent_is_at_all_with_its_objects(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b", "c") as nodes:
        a, b, c = nodes
        new = await a.add({"jobs/web/test": b"echo a\n"})
        assert a.world.definitions.jobs.keys() == {"web/test"}
        await b.caught_up()
        assert b.world.commit == new
        await b.add({"jobs/web/deploy": b"echo b\n"})
        await c.caught_up()
        await c.add({"jobs/web/test": None})
        assert len(await heads(nodes)) == 1
        assert {name for node in nodes for name in node.world.definitions.jobs} == {"web/deploy"}
        last = (await a.shared.moves())[-1]
        assert (last.by, last.agent, last.message) == ("ada", "c", "a change")
        assert 0 < len(last.pack) < 1000


async def test_of_two_changes_at_once_one_wins_and_the_other_sees_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        await heads(nodes)
        ends = await asyncio.gather(
            *(node.add({f"jobs/{node.name}": b"x\n"}) for node in nodes), return_exceptions=True
        )
        winner, loser = sorted(ends, key=lambda end: isinstance(end, Exception))
        assert isinstance(loser, StaleError)
        assert {node.world.commit for node in nodes if await node.main() == winner} == {winner}
        beaten = nodes[ends.index(loser)]
        assert beaten.world.commit == winner  # it has followed before it said so
        await beaten.add({f"jobs/{beaten.name}": b"x\n"})
        assert len(await heads(nodes)) == 1
        assert beaten.world.definitions.jobs.keys() == {"a", "b"}


async def test_a_change_on_an_old_base_is_stale(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a") as (a,):
        base = a.world.commit
        await a.add({"jobs/a": b"x\n"})
        with pytest.raises(StaleError, match=f"main is at {a.world.commit}, not at {base}"):
            await a.add({"jobs/a": b"y\n"}, base)


async def test_a_large_pack_travels_as_a_blob(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(700_000)
    async with cluster(tmp_path, "a", "b") as nodes:
        a, b = nodes
        new = await a.add({"docs/data": noise})
        last = (await a.shared.moves())[-1]
        assert (last.pack, last.blob) == (b"", f"store/{new}")
        assert len(await heads(nodes)) == 1
        tree = await b.store.tree(new)
        assert (await b.store.blobs([tree["docs/data"]]))[tree["docs/data"]] == noise


async def test_a_folder_of_hundreds_of_jobs_does_not_travel_with_each_of_them(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        a, _ = nodes
        await a.add({f"jobs/job-{number}": b"echo %d\n" % number for number in range(1500)})
        await a.add({"jobs/one-more": b"echo\n"})
        assert len((await a.shared.moves())[-1].pack) < 1000
        assert len(await heads(nodes)) == 1


async def test_large_packs_are_dropped_with_the_part_of_the_journal_that_names_them(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a") as (a,):
        for number in range(2):
            noise = random.Random(number).randbytes(400_000)
            await a.add({f"docs/{number}": noise})
        entries = [e async for e in a.shared.journal.read() if isinstance(e.event, StoreMoved)]
        one, two = (e.event.blob for e in entries[1:] if isinstance(e.event, StoreMoved))
        await a.mover.forget(entries[2].seq)
        with pytest.raises(NotFoundError):
            await anext(a.shared.blobs.get(one))
        assert await anext(a.shared.blobs.get(two))


async def test_a_move_follows_one_that_another_agent_trimmed(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        a, b = nodes
        await a.add({"jobs/one": b"echo\n"})
        await heads(nodes)
        await a.shared.event(AgentStarted(at=AT, agent="a"))
        await a.shared.journal.trim(before=(await a.shared.journal.bounds())[1])
        await b.add({"jobs/two": b"echo\n"})
        await heads(nodes)
        await a.add({"jobs/three": b"echo\n"})
        assert len(await heads(nodes)) == 1


async def test_a_write_that_was_not_confirmed_is_found_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        a, b = nodes
        await heads(nodes)
        a.loses_answers = 1
        clone = await a.clone(tmp_path, "clone")
        await clone.commit({"jobs/pushed": b"echo\n"})
        head = (await clone.run("rev-parse", "HEAD")).strip()
        said = await clone.refused()
        assert "[remote rejected] main -> main (not confirmed)" in said
        assert len(await heads([a, b])) == 1
        assert await b.main() == head  # it was taken all the same
        await clone.run("push", "-q")  # git sees that there is nothing to do


async def test_the_same_move_by_two_agents_is_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        await heads(nodes)
        clones = [await node.clone(tmp_path, f"clone-{node.name}") for node in nodes]
        await clones[0].commit({"jobs/pushed": b"echo\n"})
        await clones[1].run("pull", "-q", str(clones[0].folder), "HEAD:main")
        ends = await asyncio.gather(*(push(clone) for clone in clones))
        assert [code for code, _ in ends] == [0, 0]
        assert len(await nodes[0].shared.moves()) == 2


async def test_what_the_journal_does_not_take_moves_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a") as (a,):
        before = await a.main()
        a.refuses = "no quorum of the voters was heard of"
        with pytest.raises(UnavailableError, match="no quorum"):
            await a.add({"jobs/a": b"x\n"})
        clone = await a.clone(tmp_path, "clone")
        await clone.commit({"jobs/b": b"x\n"})
        said = await clone.refused()
        assert "! [remote rejected] main -> main (no quorum of the voters was heard of)" in said
        assert await a.main() == before
        a.refuses = ""
        await clone.run("push", "-q")
        assert (await a.shared.moves())[-1].by == "a-user"


# -- pushes -------------------------------------------------------------------------------------


async def test_of_two_pushes_at_two_agents_one_wins_and_the_loser_gets_gits_words(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        await heads(nodes)
        for number in range(4):
            clones = [await n.clone(tmp_path, f"{n.name}-{number}") for n in nodes]
            for clone in clones:
                await clone.commit({f"jobs/{clone.folder.name}": b"echo\n"})
            ends = await asyncio.gather(*(push(clone) for clone in clones))
            assert sorted(code or 0 for code, _ in ends) == [0, 1]
            loser = next(said for code, said in ends if code)
            assert "(non-fast-forward)" in loser or "(fetch first)" in loser
            assert len(await heads(nodes)) == 1
            won = clones[0] if ends[0][0] == 0 else clones[1]
            assert await nodes[0].main() == (await won.run("rev-parse", "HEAD")).strip()
        assert len(await nodes[0].shared.moves()) == 1 + 4


async def test_a_pusher_that_lost_pulls_and_pushes_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        a, b = nodes
        await heads(nodes)
        clone = await b.clone(tmp_path, "clone")
        await clone.commit({"jobs/pushed": b"echo\n"})
        await a.add({"jobs/added": b"echo\n"})
        await b.caught_up()
        assert "rejected" in await clone.refused()
        await clone.run("pull", "-q", "--rebase")
        await clone.run("push", "-q")
        assert b.world.definitions.jobs.keys() == {"added", "pushed"}  # before git says so
        assert len(await heads(nodes)) == 1
        last = (await a.shared.moves())[-1]
        assert (last.by, last.agent, last.message) == ("b-user", "b", "a change")


async def test_a_large_push_travels_as_a_blob(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a", "b") as nodes:
        a, b = nodes
        await heads(nodes)
        clone = await a.clone(tmp_path, "clone")
        await clone.commit({"docs/data": random.Random(2).randbytes(3_000_000)})
        await clone.run("push", "-q")
        assert (await a.shared.moves())[-1].blob
        await b.caught_up()
        assert await b.main() == await a.main()


# -- deaths -------------------------------------------------------------------------------------


class Stuck(GitStore):
    """A store of an agent that dies before it can apply anything."""

    async def apply(self, *_: object) -> None:
        await asyncio.Event().wait()


async def test_an_agent_that_dies_between_journal_and_store_applies_it_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a") as (a,):
        b = Node("b", tmp_path, a.shared)
        async with b.up():
            await b.caught_up()
        async with b.up(Stuck):
            writing = asyncio.ensure_future(b.add({"jobs/late": b"echo\n"}))
            await until(lambda: "late" in a.world.definitions.jobs)
            assert not writing.done()
            writing.cancel()
        async with b.up():
            await b.caught_up()
            assert await b.main() == await a.main()
            assert "late" in b.world.definitions.jobs


async def test_an_agent_that_was_away_applies_what_it_missed_in_order(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a") as (a,):
        b = Node("b", tmp_path, a.shared)
        async with b.up():
            await b.caught_up()
            b.historian.snapshot()
        for number in range(5):
            await a.add({f"jobs/{number}": b"echo\n"})
        async with b.up():
            assert len(await heads([a, b])) == 1
            assert len(b.world.definitions.jobs) == 5


async def test_a_store_that_was_lost_is_made_again_from_the_journal(tmp_path: Path) -> None:
    async with cluster(tmp_path, "a") as (a,):
        b = Node("b", tmp_path, a.shared)
        async with b.up():
            for number in range(3):
                await a.add({f"jobs/{number}": b"echo\n"})
            await b.caught_up()
            b.historian.snapshot()
        b.path.rename(tmp_path / "gone")
        async with b.up():
            await b.caught_up()
            assert await b.main() == await a.main()


async def test_a_lone_agent_announces_what_its_journal_lost(tmp_path: Path) -> None:
    a = Node("a", tmp_path, Shared())
    async with a.up():
        first = a.world.commit
        await a.add({"jobs/kept": b"echo\n"})
        head = await a.main()
    a.shared = Shared()
    await a.shared.event(StoreMoved(at=AT, agent="a", ref="main", old="", new=first))
    a.index = MemoryIndex()
    async with a.up():
        await a.caught_up()
        assert [(m.old, m.new) for m in await a.shared.moves()] == [("", first), (first, head)]
        assert (await a.shared.moves())[1].pack


async def test_any_agents_commits_and_pushes_and_restarts_end_in_equal_hashes(
    tmp_path: Path,
) -> None:
    rng = random.Random(3)
    shared = Shared()
    nodes = [Node(name, tmp_path, shared) for name in "abc"]

    async def live(node: Node, rng: random.Random) -> None:
        for life in range(3):
            async with node.up():
                await shared.event(AgentStarted(at=AT, agent=node.name))
                clone = await node.clone(tmp_path, f"clone-{node.name}-{life}")
                for turn in range(rng.randint(2, 4)):
                    name = f"{node.name}-{life}-{turn}"
                    with contextlib.suppress(StaleError):
                        if rng.random() < 0.6:
                            await node.add({f"jobs/{name}": rng.randbytes(200).hex().encode()})
                        else:
                            await clone.run("pull", "-q", "--rebase")
                            await clone.commit({f"docs/{name}": rng.randbytes(300_000)})
                            await push(clone)
                    await shared.build(name)
                    if rng.random() < 0.5:
                        await shared.seal()
                if rng.random() < 0.5:
                    node.historian.snapshot()

    async with nodes[0].up():
        pass  # somebody is first
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(live(node, random.Random(rng.random())))
    await shared.seal()
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.up())
        assert len(await heads(nodes)) == 1
        main = await nodes[0].main()
        moves = await shared.moves()
        assert [move.old for move in moves[1:]] == [move.new for move in moves[:-1]]
        assert moves[-1].new == main
        for node in nodes:
            records = [record async for record in node.store.records()]
            assert len(records) == node.world.last_number("web/test")
    for node in nodes:
        await Git(node.path).run("fsck", "--strict", "--no-dangling")


# -- what cannot be had -------------------------------------------------------------------------


class NoBlobs(MemoryBlobs):
    """Blobs that were lost."""

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        if name:
            raise NotFoundError(f"nothing is stored as {name!r}")
        yield b""


async def test_a_pack_that_cannot_be_had_is_a_trouble_and_is_fetched_from_a_peer(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a") as (a,):
        b = Node("b", tmp_path, a.shared)
        peer_is_up = False

        async def fetch(*, force: bool) -> None:
            if not peer_is_up:
                raise UnavailableError("no other agent answers")
            await b.store.fetch(Source(str(a.path)), force=force)

        b.fetch = fetch
        async with b.up():
            await b.caught_up()
            a.shared.blobs, b.mover._blobs = NoBlobs(), NoBlobs()
            await a.add({"docs/data": random.Random(1).randbytes(700_000)})
            await a.add({"jobs/after": b"echo\n"})
            await until(lambda: "store" in b.world.troubles)
            assert b.world.troubles["store"] == (
                f"main cannot follow: nothing is stored as 'store/{(await a.shared.moves())[1].new}'"
                "; no other agent answers"
            )
            assert "after" not in b.world.definitions.jobs
            peer_is_up = True
            await b.caught_up()
            assert await b.main() == await a.main()
            assert b.world.troubles == {}


async def test_an_agent_with_a_main_of_its_own_goes_where_the_journal_is_and_keeps_it_aside(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "a") as (a,):
        other = Node("b", tmp_path, Shared())
        async with other.up():
            await other.add({"jobs/lost": b"echo\n"})
            lost = await other.main()
        await a.add({"jobs/won": b"echo\n"})
        b = Node("b", tmp_path, a.shared)

        async def fetch(*, force: bool) -> None:
            await b.store.fetch(Source(a.url), force=force)

        b.fetch = fetch
        async with b.up():
            await b.caught_up()
            assert await b.main() == await a.main()
            assert (b.path / "refs/rota/was" / lost).read_text() == lost + "\n"


# -- joiners ------------------------------------------------------------------------------------


async def test_a_joiner_fetches_the_store_and_ends_in_the_same_commits(tmp_path: Path) -> None:
    shared = Shared()
    a = Node("a", tmp_path, shared)
    async with a.up():
        await shared.event(AgentStarted(at=AT, agent="a"))
        for number in range(3):
            await a.add({f"jobs/{number}": b"echo\n"})
            await shared.build(f"old-{number}")
            await shared.seal()
        await shared.build("live")
        await a.caught_up()
        given = await a.historian.state()
        await shared.journal.trim(before=a.world.seq + 1)
        # What happens between the two halves of a join is in the store, and comes again.
        await shared.build("between")
        await shared.seal()
        await a.add({"jobs/between": b"echo\n"})
        await a.caught_up()
        b = Node("b", tmp_path, shared)
        b.given = given
        async with GitStore(b.path) as store:
            await store.fetch(Source(a.url), force=True)
        async with b.up():
            assert b.world.last_number("web/test") == 5
            await shared.build("new")
            await shared.seal()
            await b.add({"jobs/new": b"echo\n"})
            assert len(await heads([a, b])) == 1
            numbers = [b.world.find_number("web/test", n) for n in range(1, 7)]
            assert [build.id for build in numbers if build is not None] == [
                *("old-0", "old-1", "old-2", "live", "between", "new")
            ]
        b.given = b""
        async with b.up():  # it has a snapshot of its own by now
            assert len(await heads([a, b])) == 1
            assert b.world.last_number("web/test") == 6
