"""A cache that somebody made by hand: nothing of it comes to stand outside of its folder."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import stat
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.core.cache_entry import Entry
from rota.errors import ExecutionError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.uid, info.gid = os.geteuid(), os.getegid()
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return member(name, type=kind, linkname=target)


def tarred(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def restored(caches: CacheFiles, packed: bytes, tree: Path) -> str:
    """Restore what was packed as it came from another agent; return what was wrong, if anything."""
    entry = Entry(
        scope="web",
        key=hashlib.sha256(packed).hexdigest(),
        paths=("tree",),
        parts=(len(packed),),
        size=len(packed),
        sha256=hashlib.sha256(packed).hexdigest(),
        saved_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    async def pieces() -> AsyncIterator[bytes]:
        yield packed

    await caches.add(entry, pieces())
    try:
        await caches.restore(entry, [tree])
    except ExecutionError as error:
        return error.message
    return ""


def tricks(away: Path) -> dict[str, tuple[Member, ...]]:
    out = str(away)
    deep = "/".join([".."] * 30)
    return {
        "up": (member("./tree/../../away/got", b"x"),),
        "far up": (member(f"./tree/{deep}{out}/got", b"x"),),
        "absolute": (member(f"{out}/got", b"x"),),
        "through a link": (link("./tree/a", out), member("./tree/a/got", b"x")),
        "through the tree itself": (link("./tree", out), member("./tree/got", b"x")),
        "through a link up": (link("./tree/a", "../../away"), member("./tree/a/got", b"x")),
        "hard link out": (
            link("./tree/a", f"{out}/there", tarfile.LNKTYPE),
            member("./tree/a", b"x"),
        ),
        "link, then file of its name": (link("./tree/a", f"{out}/got"), member("./tree/a", b"x")),
        "two links": (
            link("./tree/a", "."),
            link("./tree/a/b", out),
            member("./tree/a/b/got", b"x"),
        ),
    }


@pytest.mark.parametrize("trick", tricks(Path("/x")))
async def test_nothing_gets_out_of_the_tree(tmp_path: Path, trick: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "there").write_text("as it was")
    tree = tmp_path / "work" / "tree"
    tree.parent.mkdir()
    caches = CacheFiles(tmp_path / "caches", SystemClock())
    packed = zstd.compress(tarred(*tricks(away)[trick]))
    await restored(caches, packed, tree)
    assert sorted(path.name for path in away.iterdir()) == ["there"]
    assert (away / "there").read_text() == "as it was"
    assert (away / "there").stat().st_nlink == 1 or trick == "hard link out"


BROKEN: dict[str, Callable[[], bytes]] = {
    "noise": lambda: os.urandom(1000),
    "cut off": lambda: zstd.compress(tarred(member("./tree/a", b"x" * 5000)))[:-20],
    "no archive": lambda: zstd.compress(b"x" * 5000),
    "a frame within a frame": lambda: zstd.compress(zstd.compress(b"x" * 5000)),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_is_broken_is_told_so(tmp_path: Path, broken: str) -> None:
    caches = CacheFiles(tmp_path / "caches", SystemClock())
    fault = await restored(caches, BROKEN[broken](), tmp_path / "work" / "tree")
    assert fault.startswith("cannot unpack into ")


async def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """150 MB of nothing, a few kilobytes packed, are never held as a whole, here neither."""
    info = tarfile.TarInfo("./tree/a")
    info.size = 150 << 20
    packer = zstd.ZstdCompressor()
    pieces = [packer.compress(info.tobuf())]
    pieces += [packer.compress(bytes(1 << 20)) for _ in range(150)]
    packed = b"".join([*pieces, packer.compress(bytes(1024)), packer.flush()])
    assert len(packed) < 100_000
    caches = CacheFiles(tmp_path / "caches", SystemClock())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await restored(caches, packed, tmp_path / "work" / "tree") == ""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
    assert (tmp_path / "work/tree/a").stat().st_size == 150 << 20


NAMES = [
    "new\nline",
    "\x1b[31mred",
    "‮rtl",
    "x" * 255,
    " ",
    "-rf",
    "*",
    "ü" * 100,
    "a\tb",
    "\\",
    "'\"",
]


async def test_odd_names_come_back_as_they_were(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in NAMES:
        (tree / name).mkdir(parents=True)
        (tree / name / name[:100]).write_text(name)
    caches = CacheFiles(tmp_path / "caches", SystemClock())
    entry = Entry(scope="web", key="k", paths=("tree",), parts=(), size=0, sha256="",
                  saved_at=datetime(2026, 1, 1, tzinfo=UTC))  # fmt: skip
    entry = await caches.save(entry, [tree], limit=1 << 30)
    again = tmp_path / "again" / "tree"
    await caches.restore(entry, [again])
    assert sorted(it.name for it in again.iterdir()) == sorted(NAMES)
    assert all((again / name / name[:100]).read_text() == name for name in NAMES)
    assert not any(it.stat().st_mode & stat.S_ISUID for it in again.rglob("*"))
