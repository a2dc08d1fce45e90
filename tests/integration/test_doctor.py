"""`rota doctor`: each check finds what is broken for it, names it, and says what to do."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import zoneinfo
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from tests.harness.agent import Here
from tests.harness.facts import moment

from rota.adapters.git.health import examine
from rota.adapters.pki import TlsKeyring
from rota.bootstrap import cold
from rota.bootstrap.probes import certificate_of
from rota.core.certificate import Certificate
from rota.core.events import AgentJoined, AgentKeyMade, AgentLost, AgentStarted, Event
from rota.core.growth import Growth, Sample
from rota.core.tokens import AccessToken
from rota.core.voter import Voter
from rota.core.voters import Seat
from rota.errors import OlderError, RotaError, UnavailableError
from rota.ports.peers import Peer
from rota.ports.probes import ServerHealth, StoreHealth
from rota.service.doctor import machine, member, processes, whole
from rota.service.doctor.check import Check, Examined, Look
from rota.service.doctor.verb import _run
from rota.service.messages import Finding

NOW = moment()


class FakeProbes:
    """A machine on which all is well, until a test says otherwise."""

    def __init__(self) -> None:
        self.said = Certificate(
            pin="",
            since=NOW - timedelta(days=1),
            until=NOW + timedelta(days=80),
            hosts=frozenset({"127.0.0.1"}),
        )
        self.found = StoreHealth(version=(2, 39, 2), packs=3, loose=10)
        self.own: ServerHealth | None = ServerHealth(name="s1", memory_bytes=30 << 20)
        self.seq = 0
        self.grown = Growth()
        self.root = replace(self.said, until=NOW + timedelta(days=18_000))
        self.fault: UnavailableError | None = None

    async def store(self) -> StoreHealth:
        if self.fault is not None:
            raise self.fault
        return self.found

    async def server(self) -> ServerHealth | None:
        return self.own

    def snapshot_seq(self) -> int:
        return self.seq

    def growth(self) -> Growth:
        return self.grown

    def authority(self) -> Certificate:
        return self.root

    def certificate(self) -> Certificate:
        if self.fault is not None:
            raise self.fault
        return self.said


class FakeEnsemble:
    """Three servers of which all is well."""

    def __init__(self) -> None:
        self.group = [Seat("s1", is_leader=True), Seat("s2"), Seat("s3")]
        self.kept = (3, True)
        self.broken: list[str] = []

    async def seats(self) -> Sequence[Seat]:
        return self.group

    async def copies(self) -> tuple[int, bool]:
        return self.kept

    async def damaged(self) -> Sequence[str]:
        return self.broken


class FakePeers:
    """Peers that answer, but for those of which a test says why not."""

    def __init__(self) -> None:
        self.faults: dict[str, RotaError] = {}

    async def request(self, peer: Peer, *_: object, **__: object) -> bytes:
        if peer.name in self.faults:
            raise self.faults[peer.name]
        return b"{}"


class Sick:
    """An agent among three, its machine, and what its doctor says."""

    def __init__(self, here: Here) -> None:
        self.here, self.service = here, here.service
        self.probes, self.ensemble, self.peers = FakeProbes(), FakeEnsemble(), FakePeers()
        self.service.probes, self.service.ensemble = self.probes, self.ensemble  # type: ignore[assignment]
        self.service.peers = self.peers  # type: ignore[assignment]
        self.examined: tuple[Examined, ...] = ()
        self.unreached: dict[str, str] = {}
        self.older: tuple[str, ...] = ()

    async def tell(self, *events: Event) -> None:
        for event in events:
            seq = await self.here.journal.append(event)
        await self.here.until(lambda: self.service.world.seq >= seq)

    @property
    def picture(self) -> Any:
        return self.service.world.cluster.picture

    async def found(self, name: str) -> list[Finding]:
        checks = {it.name: it for it in (*member.CHECKS, *whole.CHECKS)}
        return await self.run(checks[name])

    async def run(self, *checks: Check) -> list[Finding]:
        look = Look(
            service=self.service,
            now=NOW,
            examined=self.examined,
            unreached=self.unreached,
            older=self.older,
        )
        return await _run(checks, look)

    async def one(self, name: str) -> tuple[str, str]:
        """Return agent and text of the only thing that a check finds; it says what to do."""
        [it] = await self.found(name)
        assert it.check == name
        assert it.hint
        return it.agent, it.what


@pytest.fixture
async def sick(here: Here) -> AsyncIterator[Sick]:
    made = Sick(here)
    await made.tell(
        *(
            event
            for name in ("b", "c")
            for event in (
                AgentJoined(at=NOW, agent="here", name=name, pin=name * 64, level=2),
                AgentStarted(at=NOW, agent=name, peer=f"https://{name}:1", version="0", level=2),
            )
        )
    )
    for number, name in enumerate(("here", "b", "c"), 1):
        made.picture.voters[name] = Voter(name, f"s{number}", "127.0.0.1", 1, 2)
    yield made
    made.service.peers = None


async def test_where_nothing_is_wrong_nothing_is_found(sick: Sick) -> None:
    assert await sick.run(*member.CHECKS, *whole.CHECKS) == []


# -- one agent ----------------------------------------------------------------------------------


async def test_disk(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sick.service.me.data
    full = SimpleNamespace(f_bavail=10, f_frsize=4096, f_blocks=1 << 28, f_files=1000, f_favail=900)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert await sick.one("disk") == ("here", f"the disk of {data} has 0 MiB left of 1048576")
    full.f_bavail, full.f_favail = 1 << 27, 3
    assert await sick.one("disk") == ("here", f"the disk of {data} has 3 inodes left of 1000")
    full.f_favail = 900
    monkeypatch.setattr(machine, "sync_s", lambda _: 0.2)
    assert (await sick.one("disk"))[1].endswith("takes 200 ms until something is on it")
    monkeypatch.setattr(machine, "sync_s", _broken)
    wrong = f"nothing can be written to the disk of {data}: Input/output error"
    assert await sick.one("disk") == ("here", wrong)
    monkeypatch.setattr(os, "statvfs", _broken)
    assert (await sick.one("disk"))[1] == "it could not be looked at: [Errno 5] Input/output error"


async def test_how_the_disk_fills(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sick.service.me.data
    room = SimpleNamespace(f_bavail=1 << 22, f_frsize=4096, f_blocks=1 << 28, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    monkeypatch.setattr(machine, "sync_s", lambda _: 0.0)
    hour, gib = 3600.0, 1 << 30
    # 16 GiB are left, and in a day 4 GiB went.
    sick.probes.grown = Growth(1, tuple(Sample(n * hour, n * gib // 6) for n in range(25)))
    assert await sick.one("disk") == (
        "here",
        f"the disk of {data} is full in 4 days, if it goes on as it does: 4.0 GiB a day",
    )
    sick.probes.grown = Growth(1, tuple(Sample(n * hour, n * gib) for n in range(25)))
    assert "is full in 16 hours, if" in (await sick.one("disk"))[1]
    sick.probes.grown = Growth(1, tuple(Sample(n * hour, n << 20) for n in range(25)))
    assert await sick.found("disk") == [], "it will do for longer than anybody looks ahead"


def _broken(_: object) -> None:
    raise OSError(5, "Input/output error")


async def test_limits(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    sick.service.me = replace(sick.service.me, slots=2)
    found = [it.what for it in await sick.found("limits")]
    assert found[0] == (
        "the agent may open 256 files (the hard limit as well); with 2 slots it should be 1024"
    )
    sick.service.me = replace(sick.service.me, slots=100)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert (await sick.found("limits"))[0].what == (
        "the agent may open 1024 files; with 100 slots it should be 1856"
    )
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4096))
    assert "files open, and may open 4" in (await sick.found("limits"))[1].what


async def test_limits_of_processes(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    limits = {resource.RLIMIT_NOFILE: free, resource.RLIMIT_NPROC: (200, 200)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(processes, "tasks_of", lambda _: 150)
    monkeypatch.setattr(processes, "bounded_groups", lambda: iter([("/x", 120, 30)]))
    sick.service.me = replace(sick.service.me, slots=2)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [it.what for it in await sick.found("limits")] == [
        "the agent's user may start 50 more processes (of 200): builds in 2 slots may want 128",
        "the control group /x has room for 90 more processes (of 120): builds in 2 slots may want 128",
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert len(await sick.found("limits")) == 1, "root is not held to the limit of its user"
    sick.service.me = replace(sick.service.me, slots=1)
    assert await sick.found("limits") == []


def test_control_groups_that_bound_processes_are_found(tmp_path: Path) -> None:
    for version, line, base in ((1, "8:pids:/a/b\n3:cpu:/a", "pids"), (2, "0::/a/b\n", "")):
        proc, mounted = tmp_path / f"proc{version}", tmp_path / f"mounted{version}"
        inner = mounted / base / "a" / "b"
        inner.mkdir(parents=True)
        (proc / "self").mkdir(parents=True)
        (proc / "self" / "cgroup").write_text(line)
        for folder, most in ((inner, "max"), (inner.parent, "500")):
            (folder / "pids.max").write_text(f"{most}\n")
            (folder / "pids.current").write_text("70\n")
        found = list(processes.bounded_groups(proc, mounted))
        assert found == [(str(inner.parent), 500, 70)]
    assert list(processes.bounded_groups(tmp_path, tmp_path)) == []


def test_a_users_threads_are_counted() -> None:
    assert processes.tasks_of(os.geteuid()) >= 1
    assert processes.tasks_of(4_000_000_000) == 0


async def test_a_file_with_which_the_agent_would_not_start(sick: Sick) -> None:
    path = sick.service.me.data / "agent.toml"
    path.write_text('slots = 4\n[log]\nlevel = "loud"\n')
    agent, text = await sick.one("options")
    assert agent == "here"
    assert text.startswith(f"an agent would not start here: {path}:3:9: ")
    assert text in (await texts(path.parent))["options"], "and so without an agent"
    path.write_bytes(b"slots = \xff")
    assert (await sick.one("options"))[1].startswith(f"{path} cannot be read: ")
    path.write_text("slots = 4\n")
    assert await sick.found("options") == []


async def test_zones(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "available_timezones", lambda: {"Asia/Tokyo"})
    assert await sick.one("zones") == (
        "here",
        "time zone data lacks America/New_York, Europe/Berlin",
    )


async def test_permissions(sick: Sick) -> None:
    tls = sick.service.me.data / "tls"
    tls.mkdir(mode=0o700)
    (tls / "agent.key").write_text("x")
    (tls / "agent.key").chmod(0o600)
    assert await sick.found("permissions") == []
    (tls / "agent.key").chmod(0o640)
    agent, text = await sick.one("permissions")
    assert (agent, text) == ("here", f"{tls / 'agent.key'} can be read by others (640)")
    (tls / "agent.key").chmod(0o600)
    tls.chmod(0o755)
    assert (await sick.one("permissions"))[1] == f"{tls} can be read by others (755)"
    if os.geteuid() == 0:
        tls.chmod(0o700)
        os.chown(tls / "agent.key", 12345, -1)
        assert "belongs to user 12345" in (await sick.one("permissions"))[1]


async def test_certificate(sick: Sick) -> None:
    good = sick.probes.said
    for changed, words in (
        (replace(good, until=NOW + timedelta(days=3)), "the certificate ends at"),
        (replace(good, until=NOW - timedelta(days=3)), "the certificate ended at"),
        (replace(good, since=NOW + timedelta(days=1)), "the certificate holds from"),
        (replace(good, hosts=frozenset({"10.0.0.1"})), "the certificate is not for 127.0.0.1"),
    ):
        sick.probes.said = changed
        agent, text = await sick.one("certificate")
        assert agent == "here"
        assert text.startswith(words)
    sick.probes.said = good
    sick.probes.root = replace(good, until=NOW + timedelta(days=300))
    assert (await sick.one("certificate"))[1].startswith("the cluster's own authority ends at")
    sick.probes.root = replace(good, until=NOW + timedelta(days=400))
    sick.service.me = replace(sick.service.me, pin="f00d")
    assert await sick.one("certificate") == (
        "here",
        "the key in tls/ is another one than the agent shows",
    )
    sick.probes.fault = UnavailableError("agent.crt has no certificate in it")
    assert (await sick.one("certificate"))[1] == "agent.crt has no certificate in it"


async def test_a_certificate_beside_another_key_is_found(tmp_path: Path) -> None:
    ring = TlsKeyring(tmp_path / "a", sick_clock())
    ring.found("a", [])
    assert certificate_of(ring).pin
    TlsKeyring(tmp_path / "b", sick_clock()).found("b", [])
    (tmp_path / "a" / "agent.key").write_bytes((tmp_path / "b" / "agent.key").read_bytes())
    with pytest.raises(UnavailableError, match=r"agent.crt is not for .*agent.key: "):
        certificate_of(ring)


def sick_clock() -> Any:
    return SimpleNamespace(now=lambda: NOW, monotonic=lambda: 0.0)


async def test_git(sick: Sick) -> None:
    sick.probes.found = StoreHealth(version=(2, 20, 1))
    assert await sick.one("git") == ("here", "git is 2.20.1")
    sick.probes.found = StoreHealth(version=(2, 39), faults=("missing blob 1234",))
    assert await sick.one("git") == ("here", "the store is damaged: missing blob 1234")
    sick.probes.found = StoreHealth(version=(2, 39), packs=500)
    assert await sick.one("git") == ("here", "the store has 500 packs and 0 loose objects")
    sick.probes.fault = UnavailableError("git fsck took longer than 30 s")
    assert await sick.one("git") == ("here", "git fsck took longer than 30 s")


async def test_a_repository_that_lost_an_object_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.git"

    def git(*args: str, data: bytes = b"") -> str:
        env = {**os.environ, "GIT_DIR": str(path)}
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *who, *args], input=data, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    git("init", "-q", "--bare", "-b", "main")
    blob = git("hash-object", "-w", "--stdin", data=b"echo\n")
    tree = git("mktree", data=f"100644 blob {blob}\ta\n".encode())
    commit = git("commit-tree", tree, "-m", "x")
    git("update-ref", "refs/heads/main", commit)
    young = await examine(path)
    assert young.faults == (), "before level 2 there is no history before the first build"
    git("update-ref", "refs/heads/history", commit)
    well = await examine(path)
    assert (well.faults, well.loose, well.version[0]) == ((), 3, 2)
    (path / "objects" / blob[:2] / blob[2:]).unlink()
    assert any(blob in text for text in (await examine(path)).faults)


async def test_engine(sick: Sick) -> None:
    sick.service.world.troubles["engine"] = "its server hangs"
    assert await sick.one("engine") == ("here", "its server hangs")
    del sick.service.world.troubles["engine"]
    sick.probes.own = ServerHealth(name="s1", memory_bytes=3 << 30)
    assert await sick.one("engine") == ("here", "the engine's server holds 3072 MiB in memory")
    sick.probes.own = ServerHealth(name="s1", slow_consumers=999)
    assert "gave up 999 readers" in (await sick.one("engine"))[1]
    sick.probes.own = None
    assert await sick.found("engine") == []


async def test_snapshot(sick: Sick) -> None:
    sick.probes.seq = sick.service.world.seq - 300_000
    assert await sick.one("snapshot") == (
        "here",
        "the last snapshot is 300000 events old: a start would fold all of them",
    )


async def test_ways(sick: Sick) -> None:
    sick.peers.faults["c"] = UnavailableError("cannot reach agent c at https://c:1: refused")
    assert await sick.one("ways") == ("here", "cannot reach agent c at https://c:1: refused")


async def test_secrets(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    world = sick.service.world
    monkeypatch.setattr(world, "definitions", replace(world.definitions, recipient="age1x"))
    sick.service.secrets = SimpleNamespace(safe=SimpleNamespace(recipients=lambda: ("age1y",)))
    agent, text = await sick.one("secrets")
    assert (agent, text[:40]) == ("here", "this agent has not the key of the secret")


async def test_troubles(sick: Sick) -> None:
    sick.service.world.troubles["journal"] = "the journal has parted"
    assert await sick.one("troubles") == ("here", "the journal has parted")


# -- all of them --------------------------------------------------------------------------------


async def test_members(sick: Sick) -> None:
    await sick.tell(AgentLost(at=NOW, agent="here", name="c", silent_s=9.0))
    assert (await sick.one("members"))[0] == "c"
    await sick.tell(AgentStarted(at=NOW, agent="c", peer="https://c:1", version="0", level=2))
    sick.unreached = {"b": "it does not answer within 60 s"}
    assert await sick.one("members") == ("b", "it did not answer: it does not answer within 60 s")
    sick.unreached, sick.older = {}, ("b",)
    assert await sick.one("members") == (
        "b",
        "its rota is an older one without `doctor`: nothing was asked of it",
    )
    sick.older = ()
    sick.picture.leader = ""
    assert await sick.one("members") == ("", "no agent leads")


async def test_quorum(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    good = sick.ensemble.group
    sick.ensemble.group = [*good[:2], Seat("s3", is_offline=True)]
    found = {(it.agent, it.what) for it in await sick.found("quorum")}
    assert ("c", "its engine's server is offline") in found
    assert ("", "no failure of a voter is tolerated now") in found
    sick.ensemble.group = [*good[:2], Seat("s3", is_current=False)]
    assert ("c", "its engine's server is behind the others") in {
        (it.agent, it.what) for it in await sick.found("quorum")
    }
    sick.ensemble.group = [*good, Seat("s9")]
    assert ("", "a server has a seat and is no voter's: s9") in {
        (it.agent, it.what) for it in await sick.found("quorum")
    }
    sick.ensemble.group, sick.ensemble.broken = good, ["s2"]
    assert await sick.one("quorum") == ("b", "its disk has lost a part of what it keeps")
    sick.ensemble.broken, sick.ensemble.kept = [], (3, False)
    assert any("not all are whole" in it.what for it in await sick.found("quorum"))
    sick.ensemble.kept = (3, True)

    async def nobody() -> Sequence[Seat]:
        raise UnavailableError("no leader")

    monkeypatch.setattr(sick.ensemble, "seats", nobody)
    assert await sick.one("quorum") == ("", "the engine's servers have no leader")


async def test_clocks(sick: Sick) -> None:
    def at(name: str, away_s: float, unsure_s: float = 0.01) -> Examined:
        return Examined(name=name, away_s=away_s, unsure_s=unsure_s)

    sick.examined = (at("here", 0.0), at("b", 0.3), at("c", -1.0))
    assert await sick.found("clocks") == []
    sick.examined = (at("here", 0.0), at("b", 0.2), at("c", 61.5))
    assert await sick.one("clocks") == ("c", "its clock is 61.3 s ahead of the others'")
    # The one that is asked may be the one that is wrong.
    sick.examined = (at("here", 0.0), at("b", 60.0), at("c", 60.2))
    assert await sick.one("clocks") == ("here", "its clock is 60.0 s behind the others'")
    # What the way there does not let tell is not said.
    sick.examined = (at("here", 0.0), at("b", 0.0), at("c", 4.0, unsure_s=5.0))
    assert await sick.found("clocks") == []


async def test_versions(sick: Sick) -> None:
    await sick.tell(AgentStarted(at=NOW, agent="c", peer="https://c:1", version="9", level=2))
    agent, text = await sick.one("versions")
    assert (agent, text) == ("", "agents run different versions: 0 on 2, 9 on 1")
    sick.picture.level = 1
    assert (await sick.one("versions"))[1].startswith("the cluster is at level 1 of ")


async def test_stores(sick: Sick) -> None:
    head = sick.picture.refs.setdefault("main", "a" * 40)
    well = Examined(name="b", main=head, history="d" * 40, covered=7)
    sick.examined = (well, replace(well, name="here"))
    assert await sick.found("stores") == []
    sick.examined = (well, replace(well, name="c", main="b" * 40))
    assert await sick.one("stores") == (
        "c",
        f"its definitions are at bbbbbbbbbbbb, the cluster's are at {head[:12]}",
    )
    sick.examined = (well, replace(well, name="c", history="e" * 40))
    assert await sick.one("stores") == (
        "",
        "the history up to event 7 is not the same everywhere (b: dddddddddddd; c: eeeeeeeeeeee)",
    )
    # One that has not come so far yet is only late.
    sick.examined = (well, replace(well, name="c", history="e" * 40, covered=6))
    assert await sick.found("stores") == []


async def test_keys(sick: Sick) -> None:
    await sick.tell(AgentKeyMade(at=NOW, agent="c", pin="d" * 64))
    assert await sick.one("keys") == ("c", "its new key is announced and not used yet")


async def test_tokens(sick: Sick) -> None:
    days = timedelta(days=1)
    made = AccessToken(
        id="abc", user="ann", made_at=NOW - 80 * days, until=NOW + 10 * days, used_at=NOW, note="ci"
    )
    known = sick.picture.tokens.by_digest
    known["d"] = made
    agent, text = await sick.one("tokens")
    assert agent == ""
    assert text.startswith("ann's token abc (ci) ends at ")
    assert " and is used: last about " in text
    known["d"] = replace(made, until=NOW - days, used_at=NOW - days)
    assert (await sick.one("tokens"))[1].startswith("ann's token abc (ci) ended at ")
    for quiet in (
        replace(made, until=NOW + 30 * days),
        replace(made, until=None),
        replace(made, used_at=None),
        replace(made, used_at=NOW - 40 * days),
        replace(made, login=True),
        replace(made, revoked_at=NOW),
        replace(made, made_at=NOW - days),  # of a short life much is left
    ):
        known["d"] = quiet
        assert await sick.found("tokens") == []


async def test_stuck(sick: Sick) -> None:
    await sick.here.put("a", "#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = 'gpu'\n# ///\n")
    for _ in range(2):
        await sick.here.run("a")
    agent, text = await sick.one("stuck")
    assert agent == ""
    assert text.startswith("a#1, a#2: ")
    assert "gpu" in text


# -- the verb -----------------------------------------------------------------------------------


async def test_the_verb_examines_who_answers_and_names_who_does_not(sick: Sick) -> None:
    sick.peers.faults["b"] = UnavailableError("cannot reach agent b")
    answer = await sick.here.ask("GET", "/v1/doctor")
    assert answer.status == 200, answer.text
    found = answer.json()
    assert found["agents"] == ["here"]  # c answers what nobody understands
    texts = {(it["agent"], it["what"]) for it in found["findings"] if it["check"] == "members"}
    assert ("b", "it did not answer: cannot reach agent b") in texts
    assert any(name == "c" and "another version" in text for name, text in texts)
    assert {it["name"] for it in found["checks"]} == {
        it.name for it in (*member.CHECKS, *whole.CHECKS)
    }
    sick.peers.faults["c"] = OlderError("it runs an older rota")
    again = (await sick.here.ask("GET", "/v1/doctor")).json()["findings"]
    assert [it["severity"] for it in again if it["what"].startswith("its rota is an older")] == [
        "warning"
    ]
    own = (await sick.here.ask("GET", "/v1/doctor?own=true")).json()
    assert {it["name"] for it in own["checks"]} == {it.name for it in member.CHECKS}


# -- without an agent ---------------------------------------------------------------------------


async def texts(data: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for it in await cold.examine_folder(data):
        assert it.hint
        found.setdefault(it.check, []).append(it.what)
    return found


async def test_a_folder_is_looked_at_without_an_agent(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert await texts(data) == {"folder": [f"there is no folder {data}"]}
    data.mkdir()
    assert (await texts(data))["folder"] == [f"no agent was ever started in {data}"]
    (data / "agent.pid").write_text("")
    assert (await texts(data))["folder"] == [f"no agent runs in {data}"]
    # A process holds it, and does not answer.
    script = f"exec 9>>{data}/agent.pid; flock 9; echo 4711 >{data}/agent.pid; echo; exec cat"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as it:
        assert it.stdout is not None
        it.stdout.readline()
        said = (await texts(data))["folder"]
        assert said == [f"process 4711 holds {data} and does not answer: it starts still, or hangs"]
        it.terminate()


async def test_what_would_keep_an_agent_from_starting_is_found(tmp_path: Path) -> None:
    import socket

    (tmp_path / "agent.pid").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "listen").write_text(f"127.0.0.1:{port}\n")
        assert (
            f"it cannot listen on 127.0.0.1:{port}: Address already in use"
            in (await texts(tmp_path))["folder"]
        )
    (tmp_path / "listen").unlink()
    (tmp_path / "cluster.json").write_text("nonsense")
    assert any("cluster.json: it is damaged" in it for it in (await texts(tmp_path))["folder"])
    (tmp_path / "index.db").write_bytes(b"nonsense" * 1000)
    assert "is damaged: file is not a database" in (await texts(tmp_path))["index"][0]
    with contextlib.closing(sqlite3.connect(tmp_path / "whole.db")) as opened:
        opened.execute("create table t (x)")
    (tmp_path / "whole.db").replace(tmp_path / "index.db")
    assert "index" not in await texts(tmp_path)
    (tmp_path / "engine" / "js").mkdir(parents=True, mode=0o700)
    (tmp_path / "engine").chmod(0o700)
    assert "has lost its name" in (await texts(tmp_path))["engine"][0]
    (tmp_path / "agent.log").write_text("all is well\nrota: error: the disk is full\nbye\n")
    assert (await texts(tmp_path))["log"] == ["it last complained: rota: error: the disk is full"]


async def test_an_ephemeral_agents_certificate_that_is_over_is_found(tmp_path: Path) -> None:
    (tmp_path / "agent.pid").write_text("")
    clock = SimpleNamespace(now=lambda: NOW - timedelta(days=1000), monotonic=lambda: 0.0)
    TlsKeyring(tmp_path / "tls", clock).found("a", [])
    assert "certificate" not in await texts(tmp_path)  # it is signed anew at the start
    (tmp_path / "tls" / "ca.key").unlink()
    [text] = (await texts(tmp_path))["certificate"]
    assert text.endswith("and this agent cannot sign")
