"""The store over HTTP, as the stock git client sees it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.harness.git import Client, push, served
from tests.harness.stores import AT, commit

from rota.adapters.git import GitService, GitStore, asking
from rota.errors import StaleError, UnavailableError
from rota.ports.store import Record

BAD = b"# /// script\n# [tool.rota]\n# timout = 3\n# ///\n"


class Site:
    """A store behind a small HTTP server, and what was told of pushes."""

    def __init__(self, store: GitStore, service: GitService, folder: Path) -> None:
        self.store = store
        self.service = service
        self.folder = folder
        self.url = ""
        self.told: list[tuple[str, str, str]] = []

    async def clone(self, name: str = "clone", *args: str) -> Client:
        client = Client(self.folder)
        await client.run("clone", "-q", *args, self.url, name)
        client.folder = self.folder / name
        return client


@contextlib.asynccontextmanager
async def serving(folder: Path, idle_s: float = 30.0) -> AsyncIterator[Site]:
    told: list[tuple[str, str, str]] = []

    async def on_push(old: str, new: str, principal: str) -> None:
        if old != await store.head() or not await store.contains(new, old):
            raise StaleError("main has moved on")
        await store.apply(old, new, store.pack(old, new))
        told.append((old, new, principal))

    async with (
        GitStore(folder / "agent/store.git") as store,
        GitService(store, on_push, idle_s=idle_s) as service,
    ):
        site = Site(store, service, folder)
        site.told = told
        async with served(service) as site.url:
            yield site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def write_history(store: GitStore, builds: int) -> None:
    for number in range(1, builds + 1):
        record = Record(f"builds/web/test/@000/00/{number}.json", b'{"number": %d}\n' % number)
        await store.record([record], covers=number, at=AT)


async def test_a_new_store_can_be_cloned_at_once(site: Site) -> None:
    clone = await site.clone()
    assert sorted(p.name for p in clone.folder.iterdir()) == [".git", "README.md", "settings.toml"]


async def test_what_was_committed_here_is_executable_in_a_clone(site: Site) -> None:
    await commit(site.store, {"jobs/web/test": b"#!/bin/sh\n"}, message="add web/test")
    clone = await site.clone()
    assert os.access(clone.folder / "jobs/web/test", os.X_OK)
    assert not os.access(clone.folder / "README.md", os.X_OK)
    assert "Ada <ada@example.org>" in await clone.run("log", "-1")


async def test_a_good_push_moves_main_keeps_its_author_and_is_told_before_git_ends(
    site: Site,
) -> None:
    old = await site.store.head()
    clone = await site.clone()
    await clone.commit({"jobs/web/test": b"#!/bin/sh\nmake test\n"})
    await clone.run("push", "-q")
    new = (await clone.run("rev-parse", "HEAD")).strip()
    assert site.told == [(old, new, "bob")]
    assert await site.store.head() == new
    tree = await site.store.tree(new)
    assert (await site.store.blobs([tree["jobs/web/test"]]))[tree["jobs/web/test"]].endswith(
        b"make test\n"
    )
    again = await site.clone("again")
    assert "Bob <bob@example.org>" in await again.run("log", "-1")


async def test_every_fault_of_a_push_is_shown_and_nothing_changes(site: Site) -> None:
    old = await site.store.head()
    clone = await site.clone()
    await clone.commit(
        {
            "jobs/web/test": BAD,
            "jobs/bad name": b"echo\n",
            "jobs/binary": b"\x7fELF\0\0",
            "jobs/large": b"#" * (5 << 20),
            "settings.toml": b"[logs]\nmax_age = 3\n",
            "jobs/good": b"echo good\n",
        }
    )
    said = await clone.refused()
    assert "remote: jobs/web/test:3:3: unknown key timout (did you mean 'timeout'?)" in said
    assert "remote: jobs/bad name: bad job name: the segment 'bad name' does not fit" in said
    assert "remote: jobs/binary: a binary file, not a text" in said
    assert "remote: jobs/large: larger than the limit of 1048576 bytes" in said
    assert "remote: settings.toml:2:11: logs.max_age must be a string" in said
    assert "pre-receive hook declined" in said
    assert "jobs/good" not in said
    assert await site.store.head() == old
    assert site.told == []


async def test_a_fault_that_was_there_does_not_stop_the_push_that_mends_another(
    site: Site,
) -> None:
    await commit(site.store, {"jobs/one": BAD, "jobs/two": BAD}, message="past the check")
    clone = await site.clone()
    await clone.commit({"jobs/one": b"echo\n"})
    await clone.run("push", "-q")
    assert len(site.told) == 1


async def test_links_and_submodules_are_no_definitions(site: Site) -> None:
    clone = await site.clone()
    (clone.folder / "jobs").mkdir()
    (clone.folder / "jobs/link").symlink_to("/etc/passwd")
    head = (await clone.run("rev-parse", "HEAD")).strip()
    await clone.run("update-index", "--add", "--cacheinfo", f"160000,{head},jobs/module")
    await clone.run("add", "jobs/link")
    await clone.run("commit", "-q", "-m", "links")
    said = await clone.refused()
    assert "remote: jobs/link: a symbolic link cannot be a definition" in said
    assert "remote: jobs/module: a submodule cannot be a definition" in said


async def test_names_that_differ_only_in_case_and_names_in_no_encoding_are_refused(
    site: Site,
) -> None:
    clone = await site.clone()
    await clone.commit({"jobs/Web": b"echo\n", "jobs/web": b"echo\n", "jobs/caf\udce9": b"\n"})
    said = await clone.refused()
    assert "remote: jobs/Web: there is also jobs/web, which differs only in case" in said
    assert "remote: jobs/caf\\udce9: bad job name" in said


async def test_a_file_in_place_of_the_jobs_folder_is_refused(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"jobs": b"echo\n"})
    assert "remote: jobs: a file where a folder should be" in await clone.refused()


CALENDAR = b'hours = { mon-fri = "09:00-17:00" }\n'
SCHEDULED = b"""#!/bin/sh
# /// script
# [tool.rota]
# on = [ { cron = "0 9 * * *", calendar = "office" } ]
# ///
"""


async def test_a_calendar_comes_with_or_before_its_jobs_and_goes_after_them(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"jobs/a": SCHEDULED, "calendars/ofice.toml": CALENDAR})
    said = await clone.refused()
    assert "remote: jobs/a:4:43: no calendar is called 'office' (did you mean 'ofice'?)" in said
    await clone.run("mv", "calendars/ofice.toml", "calendars/office.toml")
    await clone.commit({"jobs/b": b"true\n"})
    await clone.run("push", "-q")
    await clone.run("rm", "-q", "calendars/office.toml")
    await clone.run("commit", "-q", "-m", "no more hours")
    said = await clone.refused()
    assert "jobs/a:4:43: no calendar is called 'office' (add calendars/office.toml)" in said
    await clone.run("rm", "-q", "jobs/a")
    await clone.run("commit", "-q", "--amend", "-m", "neither hours nor jobs that need them")
    await clone.run("push", "-q")


async def test_a_limit_comes_with_or_before_its_jobs_and_goes_after_them(site: Site) -> None:
    clone = await site.clone()
    taker = b'#!/bin/sh\n# /// script\n# [tool.rota]\n# limits = ["licence"]\n# ///\ntrue\n'
    await clone.commit({"jobs/taker": taker})
    said = await clone.refused()
    assert "remote: jobs/taker:4:13: no limit is called 'licence' (set it in settings.toml" in said
    await clone.commit({"settings.toml": b"[limits]\nlicence = 1\n"})
    await clone.run("push", "origin", "main")
    await clone.commit({"settings.toml": b"[limits]\nlicense = 1\n"})
    said = await clone.refused()
    assert "no limit is called 'licence' (did you mean 'license'?)" in said


async def test_a_push_of_users_is_held_against_those_that_are_there(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"users/ann.toml": b'emails = ["a@b"]\n[chat]\nirc = "ann"\n'})
    await clone.run("push", "origin", "main")
    await clone.commit({"users/bob.toml": b'role = "boss"\n[chat]\nirc = ["bob", "ann"]\n'})
    said = await clone.refused()
    assert "remote: users/bob.toml:1:8: role cannot be 'boss' (known: none, viewer, builder" in said
    await clone.commit({"users/bob.toml": b'[chat]\nirc = ["bob", "ann"]\n'})
    said = await clone.refused()
    assert "remote: users/bob.toml:2:15: ann on irc belongs to ann too (users/ann.toml)" in said
    await clone.commit({"users/ann.toml": b'emails = ["a@b"]\n'})
    await clone.run("push", "origin", "main")


async def test_other_files_are_left_alone(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"docs/logo.png": b"\x89PNG\0\0", "notes/berlin": b"\xff\xfe"})
    (clone.folder / "docs/link").symlink_to("logo.png")
    await clone.run("add", ".")
    await clone.run("commit", "-q", "-m", "link")
    await clone.run("push", "-q")
    assert "docs/link" not in await site.store.tree(await site.store.head())


async def test_only_main_can_be_pushed(site: Site) -> None:
    await write_history(site.store, 1)
    clone = await site.clone()
    await clone.commit({"notes": b"x\n"})
    before = (await site.store.head(), await site.store.head("history"))
    for target in ("history", "refs/heads/other", "refs/rota/x", "refs/tags/v1"):
        name = target if target.startswith("refs/") else f"refs/heads/{target}"
        said = await clone.refused("origin", f"+HEAD:{name}")
        assert f"only refs/heads/main can be pushed, {name} cannot" in said or (
            name == "refs/rota/x" and "hidden ref" in said
        )
    assert (await site.store.head(), await site.store.head("history")) == before


async def test_main_can_neither_be_deleted_nor_rewound(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"notes": b"x\n"})
    await clone.run("push", "-q")
    assert "refs/heads/main cannot be deleted" in await clone.refused("origin", ":main")
    await clone.run("reset", "-q", "--hard", "HEAD~1")
    await clone.commit({"notes": b"y\n"})
    assert "non-fast-forward" in await clone.refused()
    assert "non-fast-forward" in await clone.refused("--force")


async def test_of_two_pushes_at_once_one_wins(site: Site) -> None:
    clones = [await site.clone(name) for name in ("one", "two")]
    for clone in clones:
        await clone.commit({"jobs/web": f"echo {clone.folder.name}\n".encode()})
    ends = await asyncio.gather(*(push(clone) for clone in clones))
    assert sorted(str(code) for code, _ in ends) == ["0", "1"]
    loser = next(said for code, said in ends if code)
    assert any(
        words in loser
        for words in ("failed to update ref", "fetch first", "non-fast-forward", "cannot lock ref")
    )
    assert len(site.told) == 1
    assert site.told[0][1] == await site.store.head()


async def test_a_push_and_a_commit_here_do_not_lose_each_other(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"jobs/pushed": b"echo\n"})
    await commit(site.store, {"jobs/added": b"echo\n"}, message="add")
    assert "fetch first" in await clone.refused()
    await clone.run("pull", "-q", "--rebase")
    await clone.run("push", "-q")
    tree = await site.store.tree(await site.store.head())
    assert {"jobs/pushed", "jobs/added"} <= set(tree)


async def test_a_push_of_several_refs_is_refused_whole(site: Site) -> None:
    before = await site.store.head()
    clone = await site.clone()
    await clone.commit({"notes": b"x\n"})
    for atomic in ([], ["--atomic"]):
        said = await clone.refused(*atomic, "origin", "HEAD:main", "HEAD:refs/heads/other")
        assert "remote: only refs/heads/main can be pushed, refs/heads/other cannot" in said
    assert (await site.store.head(), site.told) == (before, [])
    await clone.run("push", "-q", "--atomic", "origin", "HEAD:main")
    assert len(site.told) == 1


async def test_push_options_are_refused_in_gits_words(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"notes": b"x\n"})
    said = await clone.refused("--push-option", "ci.skip")
    assert "the receiving end does not support push options" in said
    assert site.told == []


async def test_a_push_past_the_agent_is_refused(site: Site) -> None:
    before = await site.store.head()
    clone = await site.clone()
    await clone.commit({"notes": b"x\n"})
    said = await clone.refused(str(site.store.path), "HEAD:main")
    assert "this repository takes a push through its agent only" in said
    assert await site.store.head() == before


async def test_what_the_agent_says_is_what_git_says(tmp_path: Path) -> None:
    async def refuse(old: str, new: str, principal: str) -> None:
        raise UnavailableError(f"no quorum:\nask again, {principal}")

    async with (
        GitStore(tmp_path / "store.git") as store,
        GitService(store, refuse) as service,
        served(service) as url,
    ):
        clone = Client(tmp_path)
        await clone.run("clone", "-q", url, "clone")
        clone.folder = tmp_path / "clone"
        await clone.commit({"notes": b"x\n"})
        before = await store.head()
        said = await clone.refused()
        assert "! [remote rejected] main -> main (no quorum: ask again, bob)" in said
        assert await store.head() == before


async def test_an_agent_that_stops_while_it_decides_says_so(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    hook = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(Path(asking.__file__))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"ROTA_ASK": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    assert hook.stdin is not None
    command = b"%s %s refs/heads/main" % (b"1" * 40, b"2" * 40)
    hook.stdin.write(asking.packet(b"version=1\0atomic") + b"0000")
    hook.stdin.write(asking.packet(command + b"\n") + b"0000")
    await hook.stdin.drain()
    ours.setblocking(False)
    asked = await asyncio.get_running_loop().sock_recv(ours, 1000)
    assert asked == command + b"\n"
    ours.close()
    out, _ = await hook.communicate()
    words = b"ng refs/heads/main " + asking.GONE.encode()
    assert out == asking.packet(b"version=1") + b"0000" + asking.packet(words) + b"0000"


async def test_a_hook_of_a_former_version_is_removed(tmp_path: Path) -> None:
    async with GitStore(tmp_path / "store.git"):
        pass
    former = tmp_path / "store.git/hooks/post-receive"
    former.write_text("#!/bin/sh\nexit 1\n")
    async with GitStore(tmp_path / "store.git"):
        assert not former.exists()


async def test_history_can_be_cloned_fetched_and_read_by_job(site: Site) -> None:
    await write_history(site.store, 3)
    clone = await site.clone()
    log = await clone.run("log", "--oneline", "origin/history", "--", "builds/web/test")
    assert len(log.splitlines()) == 3
    await site.store.record([Record("builds/b/@000/00/1.json", b"{}\n")], covers=9, at=AT)
    await clone.run("fetch", "-q")
    assert len((await clone.run("log", "--oneline", "origin/history")).splitlines()) == 4
    history = await site.clone("history", "--branch", "history")
    assert (history.folder / "builds/web/test/@000/00/2.json").read_bytes() == b'{"number": 2}\n'
    shallow = await site.clone("shallow", "--depth", "1", "--branch", "history")
    assert len((await shallow.run("log", "--oneline")).splitlines()) == 1
    await shallow.run("fsck", "--full")


async def test_a_large_push_and_a_large_clone_go_through_in_pieces(site: Site) -> None:
    clone = await site.clone()
    await clone.commit({"docs/data": os.urandom(8 << 20)})
    await clone.run("push", "-q")
    again = await site.clone("again")
    assert (again.folder / "docs/data").stat().st_size == 8 << 20


async def test_a_compressed_request_is_understood_by_its_bytes(site: Site) -> None:
    head = await site.store.head()
    want = f"want {head}\n".encode()
    plain = b"%04x%s00000009done\n" % (len(want) + 4, want)
    for data in (plain, gzip.compress(plain)):
        reply = await site.service.handle(
            "POST", "/git-upload-pack", "", fetch_fields(), pieces(data), "bob"
        )
        async with aclosing(reply.body) as body:
            answer = b"".join([piece async for piece in body])
        assert reply.status == 200
        assert b"PACK" in answer


def fetch_fields() -> dict[str, str]:
    return {"Content-Type": "application/x-git-upload-pack-request"}


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def test_what_is_not_the_smart_protocol_is_refused_before_git_sees_it(site: Site) -> None:
    async with ClientSession() as session:
        for method, path, status, text in (
            ("GET", "/info/refs", 403, "smart HTTP protocol only"),
            ("GET", "/info/refs?service=git-archive", 403, "smart HTTP protocol only"),
            ("GET", "/HEAD", 404, "no /HEAD"),
            ("GET", "/../config", 404, "no"),
            ("GET", "/git-upload-pack", 405, "GET is not for /git-upload-pack"),
        ):
            async with session.request(method, site.url + path) as response:
                assert response.status == status, path
                if not path.startswith("/.."):
                    assert text in await response.text()


async def test_a_fetch_whose_client_goes_away_leaves_no_process(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await commit(site.store, {"docs/data": os.urandom(4 << 20)}, message="big")
        head = await site.store.head()
        want = f"want {head}\n".encode()
        data = b"%04x%s00000009done\n" % (len(want) + 4, want)
        reply = await site.service.handle(
            "POST", "/git-upload-pack", "", fetch_fields(), pieces(data), "bob"
        )
        async with aclosing(reply.body) as body:
            await anext(body)
            assert not site.store.git.is_idle
        await until_idle(site.store)


async def until_idle(store: GitStore) -> None:
    async with asyncio.timeout(20):
        while not store.git.is_idle:
            await asyncio.sleep(0.01)


async def test_a_client_that_sends_nothing_is_given_up(tmp_path: Path) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"0014"
        await asyncio.Event().wait()

    async with serving(tmp_path, idle_s=0.3) as site:
        reply = await site.service.handle(
            "POST", "/git-upload-pack", "", fetch_fields(), silent(), "bob"
        )
        with pytest.raises(Exception, match=r"nothing moved for 0\.3 s"):
            await anext(reply.body)
        await until_idle(site.store)


async def test_a_client_that_breaks_off_in_a_push_changes_nothing(site: Site) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"00"
        raise ConnectionResetError("gone")

    old = await site.store.head()
    reply = await site.service.handle(
        "POST",
        "/git-receive-pack",
        "",
        {"Content-Type": "application/x-git-receive-pack-request"},
        broken(),
        "bob",
    )
    with pytest.raises(ConnectionResetError):
        await drained(reply.body)
    assert await site.store.head() == old
    await until_idle(site.store)


def packed(count: int, *objects: bytes) -> bytes:
    """A pack that says it has so many objects."""
    body = struct.pack(">4sII", b"PACK", 2, count) + b"".join(objects)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def of_kind(kind: int, size: int, data: bytes, base: bytes = b"") -> bytes:
    """An object of a pack: 1 commit, 2 tree, 3 blob, 7 a delta on ``base``; ``size`` is what it says."""
    first, rest = size & 15, size >> 4
    head = bytearray()
    while True:
        head.append(kind << 4 | first if not head else first)
        if not rest:
            break
        head[-1] |= 0x80
        first, rest = rest & 0x7F, rest >> 7
    return bytes(head) + base + zlib.compress(data)


TREE = b"100644 .git\0" + bytes(20)
BAD_PACKS = {
    "nothing": b"",
    "no pack": b"PUSH" * 30,
    "cut off": packed(2, of_kind(3, 1, b"x"))[:-10],
    "fewer than said": packed(2**31, of_kind(3, 1, b"x")),
    "a size that is a lie": packed(1, of_kind(3, 5, b"x" * 100)),
    "a size beyond all memory": packed(1, of_kind(3, 2**60, b"x")),
    "a bomb that says it is small": packed(1, of_kind(3, 5, bytes(64 << 20))),
    "a delta on nothing": packed(1, of_kind(7, 4, b"\x01\x01\x01x", bytes(20))),
    "a tree with .git in it": packed(1, of_kind(2, len(TREE), TREE)),
    "a commit that is none": packed(1, of_kind(1, 7, b"tree x\n")),
}


@pytest.mark.parametrize("pack", BAD_PACKS.values(), ids=BAD_PACKS)
async def test_a_pack_that_is_none_or_a_trick_is_refused_and_leaves_nothing(
    site: Site, pack: bytes
) -> None:
    old = await site.store.head()
    move = f"{old} {'1' * 40} refs/heads/main\0report-status".encode()
    reply = await site.service.handle(
        "POST",
        "/git-receive-pack",
        "",
        {"Content-Type": "application/x-git-receive-pack-request"},
        pieces(b"%04x%s0000" % (len(move) + 4, move), pack),
        "bob",
    )
    async with asyncio.timeout(30):
        said = await drained(reply.body)
    assert reply.status < 500
    assert b"unpack ok" not in said
    assert await site.store.head() == old
    await until_idle(site.store)
    assert not [*site.store.path.rglob("tmp_pack*"), *site.store.path.rglob("tmp_objdir*")]
    clone = await site.clone()  # it works as before
    await clone.commit({"notes": b"x\n"})
    await clone.run("push", "-q")


async def drained(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in body])


async def test_a_push_that_arrived_whole_counts_and_is_told_though_its_client_is_gone(
    site: Site,
) -> None:
    clone = await site.clone()
    await clone.commit({"jobs/web": b"echo\n"})
    old = await site.store.head()
    new = (await clone.run("rev-parse", "HEAD")).strip()
    data = await push_request(clone, old, new)
    reply = await site.service.handle(
        "POST",
        "/git-receive-pack",
        "",
        {"Content-Type": "application/x-git-receive-pack-request"},
        pieces(data),
        "bob",
    )
    async with aclosing(reply.body):
        pass
    async with asyncio.timeout(20):
        while not site.told:
            await asyncio.sleep(0.01)
    assert site.told == [(old, new, "bob")]


async def push_request(clone: Client, old: str, new: str) -> bytes:
    pack = subprocess.run(
        ["git", "pack-objects", "--revs", "--stdout", "-q"],
        input=f"{new}\n^{old}\n".encode(),
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    command = f"{old} {new} refs/heads/main\0report-status".encode()
    return b"%04x%s0000" % (len(command) + 4, command) + pack
