"""The audit: what the chain adds to an event, what deeds add to the history, how long a proof takes.

A proof is held against ``git fsck`` of the same repository, which is the part of it that hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bench import past
from bench.case import Result, Setting
from bench.figure import Figure
from rota.adapters.git import GitStore
from rota.adapters.git.inspection import Inspection
from rota.core.audit import Flaw, Summary
from rota.core.chain import START, Anchor, anchor_lines, link
from rota.core.deeds import Deed, deed_line, read_deed
from rota.core.records import encode, record_path
from rota.ports.store import HISTORY, Record

EVENT = b"x" * 400
ROUNDS = 100_000
#: Builds that one seal takes along: half a second of a busy cluster.
SEALED = 100


def run(setting: Setting) -> Result:
    """Time links, fill stores with and without deeds, and prove one of them."""
    link_us = min(_links() for _ in range(5)) / ROUNDS * 1e6
    hash_us = min(_hashes() for _ in range(5)) / ROUNDS * 1e6
    few, many = setting.size(20_000, 2_000), setting.size(1_000_000, 10_000)
    sizes = {}
    for name, is_told in (("without", False), ("with", True)):
        path = setting.data()
        asyncio.run(fill(path, few, SEALED, is_told=is_told))
        _git(path, "repack", "-a", "-d", "-f", "-q")
        sizes[name] = sum(it.stat().st_size for it in path.rglob("*") if it.is_file()) / few
    path = setting.data()
    asyncio.run(fill(path, many, past.BATCH, is_told=True))
    began = time.perf_counter()
    _git(path, "fsck", "--full", "--no-dangling", "--no-progress")
    fsck_s = time.perf_counter() - began
    began = time.perf_counter()
    found = list(Inspection(path).run())
    proof_s = time.perf_counter() - began
    wrong = [it for it in found if isinstance(it, Flaw)]
    (summary,) = (it for it in found if isinstance(it, Summary))
    if wrong or summary.records != many:
        raise ValueError(f"{summary.records} records of {many}, {wrong[:3]}")
    listed_s = asyncio.run(_listed(path))
    return Result(
        figures=[
            Figure(
                what="one link of the chain",
                value=link_us,
                unit="us",
                reach=2,
                floor=hash_us,
                floor_name="sha256",
            ),
            Figure(
                what="a build in the history, deeds and anchors over none",
                value=sizes["with"] / sizes["without"],
                unit="x",
                reach=1.25,
            ),
            Figure(
                what=f"a proof of {many} builds",
                value=proof_s,
                unit="s",
                reach=300,
                floor=fsck_s,
                floor_name="fsck",
            ),
            Figure(
                what=f"all deeds of {many} builds looked through",
                value=listed_s,
                unit="s",
                reach=30,
            ),
        ],
        notes=[
            f"a build takes {sizes['with']:.0f} bytes of a packed history, {sizes['without']:.0f} without deeds"
        ],
        raw={"link_us": link_us, "sizes": sizes, "proof_s": proof_s, "fsck_s": fsck_s},
    )


def _links() -> float:
    chain = START
    began = time.process_time()
    for seq in range(ROUNDS):
        chain = link(chain, seq, hashlib.sha256(EVENT).digest())
    return time.process_time() - began


def _hashes() -> float:
    began = time.process_time()
    for _ in range(ROUNDS):
        hashlib.sha256(EVENT).digest()
    return time.process_time() - began


async def fill(path: Path, count: int, sealed: int, *, is_told: bool) -> None:
    """Make a store with ``count`` records, so many a seal, each build asked for by somebody."""
    chain = START
    async with GitStore(path) as store:
        main = await store.head()
        for start in range(0, count, sealed):
            builds = [past.build(i) for i in range(start, min(start + sealed, count))]
            covers = builds[-1].last_seq
            seq = covers + 1
            chain = link(chain, seq, hashlib.sha256(b"%d" % seq).digest())
            anchor = Anchor(seq, chain, main, await store.head(HISTORY))
            deeds = (
                Deed(
                    seq=it.requested_seq,
                    at=it.requested_at + timedelta(microseconds=it.requested_seq * 7919 % 10**6),
                    by=f"user-{it.number % 17}",
                    kind="build.requested",
                    on=(it.ref,),
                    agent="bench",
                )
                for it in builds
            )
            await store.record(
                [Record(record_path(build), encode(build)) for build in builds],
                covers=covers,
                at=past.BEGAN + timedelta(seconds=start + sealed),
                told=[*map(deed_line, deeds), *anchor_lines(anchor)] if is_told else (),
            )


async def _listed(path: Path) -> float:
    began = time.perf_counter()
    async with GitStore(path) as store:
        count = 0
        async for logged in store.log("Deed: "):
            count += sum(1 for _ in _told(logged.message))
    return time.perf_counter() - began


def _told(message: str) -> Iterator[Deed]:
    for line in message.split("\n"):
        if (deed := read_deed(line)) is not None:
            yield deed


def _git(path: Path, *args: str) -> None:
    subprocess.run(["git", "--git-dir", path, *args], check=True, capture_output=True)
