"""The file that has all cases of an attempt: lines of JSON, packed by zstd.

The first line is a head. Those that somebody has to look at come first, so that who wants only them
need not read the others.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from rota.core.case_history import Read, level_of
from rota.core.cases import Case

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

VERSION = 1
LEVEL = 3
#: Beyond these the others are only counted.
MAX_CASES = 1_000_000
#: Bytes of messages and details, before packing.
MAX_TEXT = 64 * 1024 * 1024
MAX_SLOWEST = 50
#: Tests of one attempt that are followed from build to build; those that failed come first.
MAX_RUN = 20_000
#: What is read back of one line; a longer one is none of ours.
_MAX_LINE = 256 * 1024
_PIECE = 256 * 1024


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line; ``bad`` lines after it are of those that failed or are flaky."""

    v: int
    bad: int = 0
    total: int = 0
    slowest: list[Case] = []


class CaseFile:
    """Writes one file, in constant memory; it is there when the context is left.

    ``is_full`` says that some cases were only counted; ``fault`` why the file is not there at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = [path.with_name(f"{path.name}.{name}") for name in ("bad", "other")]
        self._files: list[BinaryIO] = []
        self._packers = [zstd.ZstdCompressor(LEVEL) for _ in self._parts]
        self._counts = [0, 0]
        self._room = MAX_TEXT
        self._slowest: list[tuple[float, int, Case]] = []
        self._encoder = msgspec.json.Encoder()
        self.is_full = False
        self.fault = ""

    def __enter__(self) -> Self:
        try:
            for part in self._parts:
                self._files.append(part.open("w+b"))
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self.fault:
                self._finish()
        except OSError as fault:
            self._give_up(fault)
        finally:
            self._close()

    def _give_up(self, error: OSError) -> None:
        """Go on without a file: what the disk does not take is still counted."""
        self.fault = error.strerror or str(error)
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                file.close()  # what was not written yet may find no room either
        self._files = []
        for part in self._parts:
            part.unlink(missing_ok=True)

    def write(self, cases: list[Case]) -> None:
        """Add cases."""
        if self.fault:
            return
        lines: tuple[list[bytes], list[bytes]] = ([], [])
        for case in cases:
            number = sum(self._counts)
            if number >= MAX_CASES:
                self.is_full = True
                break
            is_bad = case.outcome.is_bad or case.flaky
            if case.message or case.details:
                case = self._fitted(case)
            lines[0 if is_bad else 1].append(self._encoder.encode(case))
            self._counts[0 if is_bad else 1] += 1
            self._rank(case, number)
        try:
            for index, some in enumerate(lines):
                if some:
                    some.append(b"")
                    self._files[index].write(self._packers[index].compress(b"\n".join(some)))
        except OSError as error:
            self._give_up(error)

    def _fitted(self, case: Case) -> Case:
        """Return a case with the texts that there is still room for."""
        size = len(case.message) + len(case.details)
        if size > self._room:
            return msgspec.structs.replace(case, message=case.message[:100], details="")
        self._room -= size
        return case

    def _rank(self, case: Case, number: int) -> None:
        entry = (case.duration_s, -number, case)
        if len(self._slowest) < MAX_SLOWEST:
            heapq.heappush(self._slowest, entry)
        elif case.duration_s > self._slowest[0][0]:
            heapq.heappushpop(self._slowest, entry)

    def _finish(self) -> None:
        slowest = [
            msgspec.structs.replace(case, message="", details="")
            for duration_s, _, case in sorted(self._slowest, reverse=True)
            if duration_s > 0
        ]
        head = Head(VERSION, self._counts[0], sum(self._counts), slowest)
        with self._path.open("wb") as whole:
            whole.write(zstd.compress(self._encoder.encode(head) + b"\n", LEVEL))
            for file, packer in zip(self._files, self._packers, strict=True):
                file.write(packer.flush(zstd.ZstdCompressor.FLUSH_FRAME))
                file.seek(0)
                shutil.copyfileobj(file, whole)


def read_cases(
    packed: bytes, wanted: Callable[[Case], bool], *, bad: bool, limit: int
) -> tuple[Head, list[Case], int]:
    """Return the head, up to ``limit`` cases that are wanted, and how many of these there are.

    Raises:
        ValueError: it is no such file.
    """
    lines = _lines(packed)
    decoder = msgspec.json.Decoder(Case)
    try:
        head = msgspec.json.decode(next(lines, b""), type=Head)
        if head.v != VERSION:
            raise ValueError(f"version {head.v}, not {VERSION}")  # noqa: TRY301 - as of other faults of the file
        found: list[Case] = []
        total = 0
        for index, line in enumerate(lines):
            if (bad and index >= head.bad) or index >= MAX_CASES:
                break
            case = decoder.decode(line)
            if wanted(case):
                total += 1
                if len(found) < limit:
                    found.append(case)
    except (msgspec.MsgspecError, ValueError, RecursionError, EOFError, zstd.ZstdError) as error:
        raise ValueError(str(error)) from error
    return head, found, total


def read_run(packed: bytes) -> Read:
    """Return how the tests ended; one of several times the same title as the worst of them.

    Raises:
        ValueError: it is no such file.
    """
    letters: dict[str, str] = {}
    spans: dict[str, float] = {}

    def take(case: Case) -> bool:
        title = case.title
        if title not in letters and len(letters) >= MAX_RUN:
            return False
        letter = "F" if case.flaky and not case.outcome.is_bad else case.outcome[0]
        # Of a failed one and a passed one the failed one counts: `e`, `f`, then the others.
        worst = min(letters.get(title, letter), letter, key="efFps".index)
        letters[title] = worst
        spans[title] = spans.get(title, 0.0) + case.duration_s
        return False

    read_cases(packed, take, bad=False, limit=0)
    return Read(
        list(letters), "".join(letters.values()), bytes(level_of(it) for it in spans.values())
    )


def _lines(packed: bytes) -> Iterator[bytes]:
    rest = b""
    with zstd.open(io.BytesIO(packed), "rb") as file:
        while piece := file.read(_PIECE):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > _MAX_LINE:
                raise ValueError("a line is too long")
    if rest:
        yield rest
