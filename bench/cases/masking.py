"""Masking: how fast a log is looked through for twenty secrets in all their forms.

Held against what a log of that size takes from the script to the engine (the case ``log``), of which
masking is to be at most a tenth, or against 200 MB/s; the floor is zlib.crc32 over the same bytes.
"""

from __future__ import annotations

import base64
import os
import random
import string
import time
import zlib
from collections.abc import Callable

from bench.case import Result, Setting
from bench.cases import text
from bench.figure import Figure
from rota.core.masks import Masks

SECRETS = 20
PIECE = 512 * 1024
#: An ordinary log's piece once a flush.
SMALL = 4096
REACH_MB_S = 200


def run(setting: Setting) -> Result:
    """Measure weaving, texts of several kinds, and the tail that each write is held against."""
    chance = random.Random(1)
    letters = string.ascii_letters + string.digits + "-_/+"
    values = [
        "".join(chance.choices(letters, k=chance.randint(12, 64))).encode() for _ in range(SECRETS)
    ]
    masks = Masks()
    woven = _timed(lambda: _weave(masks, values))
    size = setting.size(100, 10) * 1_000_000
    path = setting.folder / "text"
    text.write(path, size)
    log = path.read_bytes()
    random_text = base64.encodebytes(os.urandom(size * 3 // 4))[:size]
    coloured = log.replace(b"warning", b"\x1b[35mwarning\x1b[0m")
    secret = log.replace(b" warning: ", b" %s: " % values[0])
    figures = [
        Figure(what=f"{SECRETS} secrets made ready", value=woven * 1000, unit="ms", reach=500)
    ]
    for what, data in (
        ("a compiler's output", log),
        ("the same with colours", coloured),
        ("random base64", random_text),
    ):
        figures.append(_figure(what, data, masks, reach=REACH_MB_S))
    figures.append(_figure("a secret in every seventh line", secret, masks))
    tail = log[:SMALL]
    times = 200
    took = _timed(lambda: [masks.open_tail(tail) for _ in range(times)])
    figures.append(
        Figure(
            what="a write: what its end may begin", value=took / times * 1e3, unit="ms", reach=0.5
        )
    )
    return Result(figures=figures, notes=[], raw={})


def _weave(masks: Masks, values: list[bytes]) -> None:
    for value in values:
        masks.add(value)
    masks.apply(b"")


def _figure(what: str, data: bytes, masks: Masks, *, reach: float | None = None) -> Figure:
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    took = min(_timed(lambda: [masks.apply(piece) for piece in pieces]) for _ in range(3))
    bare = min(_timed(lambda: [zlib.crc32(piece) for piece in pieces]) for _ in range(3))
    mb = len(data) / 1e6
    # Seconds, as all figures are better when smaller.
    return Figure(
        what=f"{what}, {mb:.0f} MB ({mb / took:.0f} MB/s)",
        value=took,
        unit="s",
        reach=mb / reach if reach is not None else None,
        floor=bare,
        floor_name="crc32",
    )


def _timed(work: Callable[[], object]) -> float:
    """Return seconds of this process's own time: nothing here waits for anybody."""
    began = time.process_time()
    work()
    return time.process_time() - began
