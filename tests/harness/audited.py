"""A store with a history as agents make it, and ways to change what is in it behind their backs."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rota.adapters.git.inspection import Inspection
from rota.adapters.git.store import GitStore
from rota.core.audit import Flaw, Head, Summary
from rota.core.build import Build
from rota.core.chain import START, Anchor, anchor_lines, link
from rota.core.deeds import Deed, deed_line
from rota.core.records import encode, record_path
from rota.core.states import Result, State
from rota.ports.store import HISTORY, Author, Record

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
ANN = Author("ann", "ann@example.org")
SEALS = 4


def build(number: int, job: str = "web/test") -> Build:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return Build(
        id=f"{number:026}",
        job=job,
        number=number,
        state=State.FINISHED,
        result=Result.PASSED,
        requested_at=AT,
        finished_at=AT + timedelta(seconds=number),
        attempt=1,
        agent="p",
        log_bytes=3,
        log_sha256=digest,
        last_seq=number * 3,
        seq=number * 3,
        message="why it ended, in so many words",
    )


async def make(path: Path, seals: int = SEALS) -> Head:
    """Make a store with a commit of ``main`` and some records for each seal; return its head."""
    seq, chain, former = 0, START, ""
    async with GitStore(path) as store:
        main = await store.head()
        for number in range(1, seals + 1):
            change: Mapping[str, bytes | None] = {
                f"jobs/j{number}": b"#!/bin/sh\necho %d\n" % number
            }
            made = await store.prepare(
                change, base=main, author=ANN, message=f"add j{number}", at=AT
            )
            await store.apply(main, made.commit, _pieces(made.pack))
            main = made.commit
            covers, seq = seq + 8, seq + 9
            chain = link(chain, seq, hashlib.sha256(b"%d" % seq).digest())
            deed = Deed(
                seq=covers - 1,
                at=AT,
                by="ann",
                kind="store.moved",
                on=("main",),
                to=main,
                agent="p",
            )
            anchor = Anchor(seq=seq, chain=chain, main=main, former=former)
            builds = [build(number * 2), build(number * 2 + 1, "app/x")]
            former = await store.record(
                [Record(record_path(it), encode(it)) for it in builds],
                covers=covers,
                at=AT + timedelta(seconds=number),
                told=[deed_line(deed), *anchor_lines(anchor)],
            )
    return Head(seq, chain, former)


async def _pieces(data: bytes) -> AsyncGenerator[bytes]:
    yield data


def flaws(
    path: Path, *heads: Head, known: Callable[[str], Build | None] | None = None
) -> list[Flaw]:
    """Return what is wrong with a store."""
    return [it for it in Inspection(path, heads, known).run() if isinstance(it, Flaw)]


def summary(path: Path) -> Summary:
    """Return what an inspection looked at."""
    (found,) = (it for it in Inspection(path).run() if isinstance(it, Summary))
    return found


def git(path: Path, *args: str, data: bytes | None = None) -> str:
    """Run git on a store; return what it prints."""
    env = {**os.environ, "GIT_DIR": str(path), "GIT_CONFIG_GLOBAL": "/dev/null"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "mallory", f"GIT_{who}_EMAIL": "m@example.org"}
    done = subprocess.run(
        ["git", *args], env=env, input=data, check=True, capture_output=True, cwd=path
    )
    return done.stdout.decode().strip()


def line(path: Path, branch: str = HISTORY) -> list[str]:
    """Return the commits of a branch, the first one first."""
    return git(path, "rev-list", "--reverse", branch).split()


def rebuilt(path: Path, order: list[str], edits: Mapping[str, Mapping[str, bytes]] = {}) -> str:
    """Make ``history`` anew from these commits, one after the other, with all hashes right.

    ``edits`` have, for a commit, files that it and all after it have in place of their own.
    Each commit is otherwise as it was: its message, its time and what it adds.
    """
    parent = ""
    kept: dict[str, str] = {}
    for commit in order:
        for name, data in edits.get(commit, {}).items():
            kept[name] = git(path, "hash-object", "-w", "--stdin", data=data)
        index = {"GIT_INDEX_FILE": str(path / "mallorys")}
        tree = _tree(path, parent, commit, kept, index)
        raw = git(path, "cat-file", "commit", commit) + "\n"
        head, _, message = raw.partition("\n\n")
        lines = [it for it in head.split("\n") if not it.startswith(("tree ", "parent "))]
        made = "\n".join([f"tree {tree}", *([f"parent {parent}"] if parent else []), *lines])
        parent = git(
            path,
            "hash-object",
            "-w",
            "-t",
            "commit",
            "--stdin",
            data=f"{made}\n\n{message}".encode(),
        )
    git(path, "update-ref", f"refs/heads/{HISTORY}", parent)
    return parent


def _tree(
    path: Path, parent: str, commit: str, kept: Mapping[str, str], index: Mapping[str, str]
) -> str:
    """Return a tree with what the parent has, what a commit adds, and what is kept."""
    os.environ.update(index)
    try:
        git(path, "read-tree", parent or "--empty")
        added = git(
            path, "diff-tree", "-r", "--root", "--no-commit-id", "--no-renames", commit
        ).split("\n")
        for entry in filter(None, added):
            about, _, name = entry.partition("\t")
            _add(path, about.split()[3], name)
        for name, blob in kept.items():
            _add(path, blob, name)
        return git(path, "write-tree")
    finally:
        for name in index:
            os.environ.pop(name, None)
        (path / "mallorys").unlink(missing_ok=True)


def _add(path: Path, blob: str, name: str) -> None:
    git(path, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")


def objects(path: Path) -> list[Path]:
    """Return the files in which git has its objects, sorted."""
    return sorted(
        it
        for it in (path / "objects").rglob("*")
        if it.is_file() and it.suffix not in (".rev", ".keep") and it.parent.name != "info"
    )


def flip(file: Path, at: int, bit: int = 0) -> bytes:
    """Change one bit of a file; return the file as it was."""
    before = file.read_bytes()
    data = bytearray(before)
    data[at % len(data)] ^= 1 << bit
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    return before


def some_byte(path: Path, seed: int) -> tuple[Path, int, int]:
    """Return a file of objects, a byte of it, and a bit of that: each byte is as likely."""
    files = objects(path)
    sizes = [it.stat().st_size for it in files]
    at = random.Random(seed).randrange(sum(sizes))
    for file, size in zip(files, sizes, strict=True):
        if at < size:
            return file, at, seed % 8
        at -= size
    raise AssertionError("there are bytes")
