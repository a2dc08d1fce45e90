"""The stage of caches: what a script finds, what is kept of it, and that no cache ends a build."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.adapters.memory import MemoryBlobs
from rota.agent.caching import Caching, digest
from rota.agent.stages import Ending, Left, Underway
from rota.core.build import Build, Trigger, Usage
from rota.core.caches import sweep
from rota.core.cluster import Cluster, Picture
from rota.core.events import CachesDropped, CacheUsed, Event
from rota.core.fold import apply
from rota.core.job import Cache, Reason, Spec
from rota.core.masks import Masks
from rota.core.settings import Caches, Settings
from rota.core.states import State
from rota.errors import UnavailableError
from rota.ports.blobs import Blob
from rota.ports.executor import Exit, Task
from rota.service.context import Service

PASSED = Ending(exit=Exit(code=0, signal=None, usage=Usage()), reason=Reason.SCRIPT, passed=True)
FAILED = Ending(exit=Exit(code=1, signal=None, usage=Usage()), reason=Reason.SCRIPT, passed=False)
NPM = Cache(key="npm-{hash:lock}", paths=("node_modules", "~/.m2/repository"), restore=("npm-",))


class Company:
    """What agents have in common: the journal's picture, and the blobs."""

    def __init__(self) -> None:
        self.blobs, self.cluster = MemoryBlobs(), Cluster(Picture())
        self.world, self.me = self, SimpleNamespace(name="here")
        self.written: list[Event] = []

    async def append(self, event: Event, **_: object) -> int:
        self.written.append(event)
        apply(self.cluster, len(self.written), event)
        return len(self.written)

    write = append


class Agent:
    """The stage of an agent, and its attempts' folders."""

    def __init__(self, root: Path, company: Company | None = None) -> None:
        self.root, self.number, self.company = root, 0, company or Company()
        self.settings = Settings()
        self.home = root / "person"
        (self.home / ".m2").mkdir(parents=True)
        (self.home / ".m2/settings.xml").write_text("settings")
        (self.home / ".ssh").mkdir()
        self.again()

    def again(self) -> None:
        self.caches = CacheFiles(self.root / "caches", SystemClock())
        self.stage = Caching(
            cast("Service", self.company),
            self.caches,
            SystemClock(),
            labels=lambda: {"os": "linux"},
            settings=lambda: self.settings,
        )

    def attempt(
        self, *caches: Cache, data: Mapping[str, str] | None = None, lock: str = "1"
    ) -> Attempt:
        self.number += 1
        home = self.root / str(self.number)
        (home / "work").mkdir(parents=True)
        (home / "work/lock").write_text(lock)
        build = Build(
            id=f"b{self.number}",
            job="web/test",
            number=self.number,
            state=State.RUNNING,
            requested_at=moment(),
            spec=Spec(caches=caches),
            trigger=Trigger(data=dict(data or {})),
        )
        return Attempt(self, Underway(build=build, home=home, masks=Masks()))


class Attempt:
    def __init__(self, agent: Agent, under: Underway) -> None:
        self.agent, self.under = agent, under
        self.task = Task(
            home=under.home,
            argv=("x",),
            cwd=under.work,
            env={"HOME": str(agent.home), "MAVEN_OPTS": "-Xmx1g"},
        )

    async def before(self) -> Attempt:
        self.task = await self.agent.stage.before(self.under, self.task)
        return self

    async def after(self, ending: Ending = PASSED) -> Left:
        return await self.agent.stage.after(self.under, ending)

    @property
    def log(self) -> str:
        return (self.under.home / "log").read_text()

    @property
    def home(self) -> Path:
        return Path(self.task.env["HOME"])

    def write(self, text: str) -> None:
        for folder in (self.under.work / "node_modules", self.home / ".m2/repository"):
            folder.mkdir(exist_ok=True)
            (folder / "x").write_text(text)

    def read(self) -> set[str]:
        folders = (self.under.work / "node_modules", self.home / ".m2/repository")
        return {(it / "x").read_text() if (it / "x").exists() else "" for it in folders}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


async def test_what_one_build_left_the_next_one_finds(agent: Agent) -> None:
    first = await agent.attempt(NPM).before()
    assert first.read() == {""}
    assert "::group::Caches\nnpm-" in first.log
    assert ": nothing is saved under it\n::endgroup::\n" in first.log
    first.write("one")
    assert await first.after() == Left()
    assert " saved\n" in first.log
    agent.again()
    second = await agent.attempt(NPM).before()
    assert second.read() == {"one"}
    assert "into node_modules, ~/.m2/repository, saved by web/test#1" in second.log
    second.write("two")
    await second.after()
    third = await agent.attempt(NPM).before()
    assert third.read() == {"one"}, "what is saved under a key stays as it is"
    assert not (agent.home / ".m2/repository").exists()


async def test_another_key_begins_from_the_newest_one_that_looks_like_it(agent: Agent) -> None:
    for lock in ("1", "2"):
        done = await agent.attempt(NPM, lock=lock).before()
        done.write(lock)
        await done.after()
    third = await agent.attempt(NPM, lock="3").before()
    assert third.read() == {"2"}
    third.write("3")
    await third.after()
    assert len(await agent.caches.all()) == 3
    alone = await agent.attempt(replace(NPM, restore=()), lock="4").before()
    assert alone.read() == {""}
    other = await agent.attempt(replace(NPM, paths=("b",)), lock="3").before()
    assert "nothing is saved" in other.log, "other paths are another cache"


async def test_the_home_folder_is_the_persons_but_for_what_is_cached(agent: Agent) -> None:
    done = await agent.attempt(NPM).before()
    assert done.home.is_relative_to(done.under.home)
    assert (done.home / ".m2/settings.xml").read_text() == "settings"
    assert (done.home / ".ssh").resolve() == agent.home / ".ssh"
    assert done.task.env["MAVEN_OPTS"] == f"-Duser.home={done.home} -Xmx1g"
    resumed = await agent.stage.resume(done.under, Attempt(agent, done.under).task)
    assert resumed == done.task
    plain = await agent.attempt(Cache(key="k", paths=("b",))).before()
    assert plain.task.env["HOME"] == str(agent.home)


async def test_what_is_saved_and_when(agent: Agent) -> None:
    for save, ending, count in [
        ("passed", FAILED, 0),
        ("never", PASSED, 0),
        ("always", FAILED, 1),
        ("always", Ending(exit=None, reason=Reason.TIMEOUT, passed=False), 0),
    ]:
        await agent.caches.bound(0)
        cache = msgspec.convert({"key": "k", "paths": ["node_modules"], "save": save}, Cache)
        done = await agent.attempt(cache).before()
        (done.under.work / "node_modules").mkdir()
        (done.under.work / "node_modules/x").write_text("x")
        await done.after(ending)
        assert len(await agent.caches.all()) == count, (save, ending)


async def test_what_a_fork_saves_is_given_to_its_own_pull_request_alone(agent: Agent) -> None:
    fork = {"fork": "true", "number": "7", "url": "https://a/b"}
    evil = await agent.attempt(NPM, data=fork).before()
    evil.write("evil")
    await evil.after()
    good = await agent.attempt(NPM).before()
    assert good.read() == {""}
    assert (await agent.attempt(NPM, data={**fork, "number": "8"}).before()).read() == {""}
    assert (await agent.attempt(NPM, data=fork).before()).read() == {"evil"}
    good.write("good")
    await good.after()
    assert (await agent.attempt(NPM).before()).read() == {"good"}
    other = await agent.attempt(NPM, data={**fork, "number": "8"}).before()
    assert other.read() == {"good"}


async def test_a_damaged_one_is_left_out_with_a_warning(agent: Agent) -> None:
    first = await agent.attempt(NPM).before()
    first.write("one")
    await first.after()
    for path in (agent.root / "caches").glob("*.zst"):
        path.write_bytes(b"x" * path.stat().st_size)
    second = await agent.attempt(NPM).before()
    assert second.read() == {""}
    assert "::warning title=caches::the cache 'npm-" in second.log
    assert "is left out: the cache 'npm-" in second.log
    assert "is damaged and was dropped" in second.log
    second.write("two")
    await second.after()
    assert (await agent.attempt(NPM).before()).read() == {"two"}


async def test_a_link_that_leads_out_is_neither_written_through_nor_saved(
    agent: Agent, tmp_path: Path
) -> None:
    cache = Cache(key="k", paths=("a/b",))
    first = await agent.attempt(cache).before()
    (first.under.work / "a/b").mkdir(parents=True)
    (first.under.work / "a/b/x").write_text("x")
    await first.after()
    away = tmp_path / "away"
    away.mkdir()
    second = agent.attempt(cache)
    (second.under.work / "a").symlink_to(away)
    await second.before()
    assert list(away.iterdir()) == []
    assert "work/a/b leads out of the build's folder" in second.log
    third = await agent.attempt(replace(cache, key="other")).before()
    (away / "b").mkdir()
    (away / "b/secret").write_text("secret")
    (third.under.work / "a").symlink_to(away)
    left = await third.after()
    assert [remark.message for remark in left.remarks] == [
        "cannot save the cache 'other': work/a/b leads out of the build's folder"
    ]


async def test_what_cannot_be_kept_is_a_warning(agent: Agent) -> None:
    agent.settings = Settings(caches=Caches(max_bytes=10))
    cache = Cache(key="k-{v}", paths=("a",))
    done = await agent.attempt(cache, Cache(key="k", paths=("b", "c"))).before()
    assert "::warning title=caches::the cache 'k-{v}' has no key: it asks for {v}" in done.log
    left = await done.after()
    assert left == Left()
    assert "cache k: nothing to save, there is no b and no c\n" in done.log
    (done.under.work / "b").write_text("x")
    left = await done.after()
    assert left.remarks[0].message == (
        "cannot save the cache 'k': it takes more than the 10 B that caches may have"
    )


def test_a_hash_is_of_names_and_bytes_of_what_matches(tmp_path: Path) -> None:
    (tmp_path / "a/.git").mkdir(parents=True)
    (tmp_path / "a/.git/pom.xml").write_text("git")
    for name in ("pom.xml", "a/pom.xml", "a/other.xml"):
        (tmp_path / name).write_text(name)
    every = digest(tmp_path, ("**/pom.xml",))
    assert len(every) == 20
    assert digest(tmp_path, ("pom.xml", "a/pom.xml")) == every
    assert digest(tmp_path, ("./pom.xml", "a/*.xml")) != every
    assert digest(tmp_path, ("none", "*.lock")) == "none"
    (tmp_path / "a/pom.xml").rename(tmp_path / "a/moved.xml")
    assert digest(tmp_path, ("**/pom.xml",)) != every
    (tmp_path / "lock").symlink_to("/etc/passwd")
    assert digest(tmp_path, ("lock",)) == "none", "what is outside is not hashed"


SHARED = replace(NPM, shared=True)


async def test_a_shared_one_is_given_to_all_agents(tmp_path: Path) -> None:
    company = Company()
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    one, two = Agent(tmp_path / "one", company), Agent(tmp_path / "two", company)
    first = await one.attempt(SHARED).before()
    first.write("one")
    await first.after()
    assert ": all agents have it\n" in first.log
    second = await two.attempt(SHARED).before()
    assert second.read() == {"one"}
    assert " come from other agents\n" in second.log
    assert len(await two.caches.all()) == 1
    await second.after()
    assert len(company.written) == 1, "nothing is told twice"
    assert (await two.attempt(NPM).before()).read() == {"one"}
    # One that went wrong in the store is passed by.
    name = next(iter(company.blobs._blobs))
    company.blobs._blobs[name] = b"x" * len(company.blobs._blobs[name])
    three = Agent(tmp_path / "three", company)
    third = await three.attempt(SHARED).before()
    assert third.read() == {""}
    assert "came damaged" in third.log


async def test_who_shares_a_key_second_leaves_nothing_behind(tmp_path: Path) -> None:
    company = Company()
    agents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        agents.append(await Agent(tmp_path / name, company).attempt(SHARED).before())
    for attempt in agents:
        attempt.write(str(attempt.agent.root))
    for attempt in agents:
        assert await attempt.after() == Left()
    assert len(company.blobs._blobs) == 1
    [shared] = company.cluster.picture.caches.values()
    assert shared.entry.build == "web/test#1"


async def test_use_is_told_once_a_day_and_what_goes_is_gone(tmp_path: Path) -> None:
    company = Company()
    (tmp_path / "one").mkdir()
    one = Agent(tmp_path / "one", company)
    first = await one.attempt(SHARED).before()
    first.write("one")
    await first.after()
    [(name, shared)] = company.cluster.picture.caches.items()
    for _ in range(2):
        await one.attempt(SHARED).before()
    assert len(company.written) == 1
    aged = replace(shared, used_at=shared.used_at - timedelta(days=2))
    company.cluster.picture.caches[name] = aged
    for _ in range(2):
        await one.attempt(SHARED).before()
    assert [type(event) for event in company.written[1:]] == [CacheUsed]
    assert company.cluster.picture.caches[name].used_at > shared.used_at
    gone = sweep({name: aged}, aged.used_at, max_age_s=60, max_bytes=10)
    assert gone == {"caches.max_age": [], "caches.shared_bytes": [name]}
    gone = sweep({name: aged}, shared.used_at, max_age_s=60, max_bytes=1 << 30)
    assert gone == {"caches.max_age": [name], "caches.shared_bytes": []}
    await company.append(CachesDropped(at=moment(), caches=(name, "none")))
    assert company.cluster.picture.caches == {}


async def test_a_store_that_is_away_is_a_warning(tmp_path: Path) -> None:
    class Away(MemoryBlobs):
        async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
            raise UnavailableError("the store is away")

    company = Company()
    company.blobs = Away()
    (tmp_path / "one").mkdir()
    first = await Agent(tmp_path / "one", company).attempt(SHARED).before()
    first.write("one")
    left = await first.after()
    assert left.remarks[0].message.endswith(": the store is away")
    assert company.written == []
