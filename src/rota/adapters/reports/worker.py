"""The program that reads reports: a process of its own, bounded in memory and time.

``read FILE`` takes what is wanted as JSON from standard input, writes all cases to FILE and says what
it found, as JSON. ``cases LIMIT all|bad MATCH`` gives
cases back from such a file's bytes, ``runs`` says of several how their tests ended, for comparing them.

It stops by itself when its time is over, and then says what it has. Exit status 3 is that there was
not enough memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from rota.adapters.reports.casefile import MAX_CASES, CaseFile, read_cases, read_run
from rota.adapters.reports.files import Files
from rota.core.case_history import Read
from rota.core.cases import Case, Failure, Tally, Tallying, failure_of, polished
from rota.core.coverage import format_of, parser_of
from rota.core.junit import JunitParser
from rota.core.masks import Masks
from rota.core.reports import CaseFormat, CaseReports, CoverageReports, Covered
from rota.core.tap import TapParser
from rota.core.workflow import parse_command
from rota.core.xml_reading import ReportError
from rota.ports.reports import Reading, ReportsFound, ReportsWanted

MAX_MEMORY = 1 << 30
#: Of each of tests and coverage; and to look for places in the log.
TIME_S, SEARCH_S = 60, 10
PIECE = 256 * 1024
BATCH = 1000
MAX_REMARKS = 20
#: Of a log, what is searched for the names of tests.
MAX_LOG = 512 * 1024 * 1024
_GLOB = re.compile(r"[*?\[]")
_MASK = re.compile(rb"^::add-mask[^\r\n]*", re.MULTILINE | re.IGNORECASE)
#: On the line that tells of a failed test stands one of these, mostly.
_BAD = re.compile(rb"fail|error|not ok|\xe2\x9c|\xc3\x97|assert", re.IGNORECASE)


class TooLongError(Exception):
    """The time is over."""


class _Parser(Protocol):
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> object: ...


class Remarks:
    """What could not be read, as sentences."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._more = 0

    def add(self, text: str) -> None:
        """Add one; of very many, the others are counted."""
        if len(self.all) < MAX_REMARKS:
            self.all.append(text)
        else:
            self._more += 1

    def shown(self, masked: Callable[[str], str]) -> tuple[str, ...]:
        """Return them as they may be shown."""
        more = [f"and {self._more} more"] if self._more else []
        return tuple(masked(text)[:500] for text in (*self.all, *more))


class Cases:
    """Takes cases as parsers give them: counts, masks, writes."""

    def __init__(self, file: CaseFile, masks: Masks, root: str) -> None:
        self._file, self._masks, self._root = file, masks, root
        self.counts = Tallying()
        self._batch: list[Case] = []

    def take(self, case: Case) -> None:
        """Take one case."""
        self._batch.append(case)
        if len(self._batch) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Write what has come so far."""
        batch, self._batch = self._batch, []
        masked = self._masks.text if self._is_to_mask(batch) else _as_it_is
        batch = [
            case if _is_plain(case) and masked is _as_it_is else polished(case, masked, self._root)
            for case in batch
        ]
        for case in batch:
            self.counts.take(case)
        self._file.write(batch)

    def _is_to_mask(self, batch: list[Case]) -> bool:
        if not self._masks:
            return False
        # Most have nothing to hide: all are looked at together, which is a hundred times as fast.
        texts = (f"{it.suite}\0{it.name}\0{it.message}\0{it.details}\0{it.file}" for it in batch)
        data = "\0".join(texts).encode("utf-8", "replace")
        return self._masks.apply(data) != data


def _is_plain(case: Case) -> bool:
    """Whether there is nothing to polish: so most are."""
    return (
        not case.message
        and not case.details
        and not case.outcome.is_bad
        and case.name.isprintable()
        and case.suite.isprintable()
        and 0 < len(case.name) <= 300
        and len(case.suite) <= 300
        and not case.file
    )


def _as_it_is(text: str) -> str:
    return text


def read(wanted: ReportsWanted, out: Path) -> ReportsFound:
    """Read all that is wanted; what cannot be read becomes a remark."""
    remarks = Remarks()
    files = Files(Path(wanted.workspace), wanted.since, remarks.add)
    with open_log(Path(wanted.log)) as log:
        masks = masks_for(wanted, log)
        tally = covered = None
        missing: list[str] = []
        if wanted.tests is not None:
            tally = read_tests(wanted.tests, files, masks, log, out, remarks)
            if tally is None:
                missing.append("tests")
        if wanted.coverage is not None:
            covered = read_coverage(wanted.coverage, files, remarks)
            if covered is None:
                missing.append("coverage")
        return ReportsFound(
            tally=tally,
            coverage=covered,
            remarks=remarks.shown(masks.text),
            missing=tuple(missing),
        )


def read_tests(
    spec: CaseReports, files: Files, masks: Masks, log: Log, out: Path, remarks: Remarks
) -> Tally | None:
    """Read all reports of tests; return what they come to, None if there is none."""
    count, is_partial = 0, False
    # TAP has no suites; tests of several files are told apart by those.
    is_alone = len(spec.files) == 1 and not _GLOB.search(spec.files[0])
    with CaseFile(out) as case_file:
        cases = Cases(case_file, masks, str(files.root))
        try:
            with at_most(TIME_S):
                for path in files.find("tests", spec.files, stale=spec.stale):
                    before = cases.counts.total
                    suite = "" if is_alone else files.name(path)
                    begin = partial(case_parser, spec.format, path, suite, cases)
                    fault = read_file(files, path, begin)
                    cases.settle()
                    if not fault:
                        count += 1
                        continue
                    is_partial = True
                    seen = cases.counts.total - before
                    more = f"; {seen} tests before that are counted" if seen else ""
                    remarks.add(f"tests: {files.name(path)} {fault}{more}")
                    count += bool(seen)
        except TooLongError:
            is_partial = True
            cases.settle()
            remarks.add(
                f"tests: reading took longer than {TIME_S} s; {cases.counts.total} are counted"
            )
        if case_file.is_full:
            remarks.add(f"tests: only the first {MAX_CASES} can be listed, all are counted")
    if not count and not cases.counts.total:
        return None
    if case_file.fault:
        remarks.add(f"tests: the list of them could not be written: {case_file.fault}")
    tally = cases.counts.tally(files=count, partial=is_partial)
    return msgspec.structs.replace(tally, failures=tuple(placed(cases.counts.first, log)))


def placed(failed: list[Case], log: Log) -> list[Failure]:
    """Return what failed in short, with the places in the log that are found in time."""
    found = [failure_of(case) for case in failed]
    try:
        with at_most(SEARCH_S):
            for index, case in enumerate(failed):
                found[index] = failure_of(log.found(case))
    except TooLongError:
        pass  # the log is very long: the others have no place
    return found


def read_coverage(spec: CoverageReports, files: Files, remarks: Remarks) -> Covered | None:
    """Read all reports of coverage; return the sum of them."""
    total = Covered()
    count = 0
    try:
        with at_most(TIME_S):
            for path in files.find("coverage", spec.files, stale=spec.stale):
                found: list[_Parser] = []

                def begin(head: bytes, found: list[_Parser] = found) -> _Parser:
                    kind = format_of(head) if spec.format == "auto" else spec.format
                    if not kind:
                        raise ReportError(
                            "is of no format that is known: cobertura, jacoco, clover, lcov, go,"
                            " coverage.py, istanbul"
                        )
                    found.append(Finished(parser_of(kind)))
                    return found[0]

                fault = read_file(files, path, begin)
                if fault:
                    remarks.add(f"coverage: {files.name(path)} {fault}")
                    continue
                its = found[0].finish() if found else None
                if isinstance(its, Covered) and its.of_lines:
                    total += its
                    count += 1
                else:
                    remarks.add(f"coverage: {files.name(path)} tells of no lines")
    except TooLongError:
        remarks.add(f"coverage: reading took longer than {TIME_S} s")
        return None
    return total if count else None


class Finished:
    """A parser whose answer can be asked for again."""

    def __init__(self, parser: _Parser) -> None:
        self._parser = parser
        self._answer: object = None
        self.feed = parser.feed

    def finish(self) -> object:
        """Return what the parser says at the end."""
        if self._answer is None:
            self._answer = self._parser.finish()
        return self._answer


def case_parser(format_: CaseFormat, path: Path, suite: str, cases: Cases, head: bytes) -> _Parser:
    """Return a parser for a report of tests.

    Raises:
        ReportError: it is none.
    """
    kind = format_
    if kind == "auto":
        start = head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
        is_xml = start.startswith(b"<") and path.suffix.lower() != ".tap"
        kind = "junit" if is_xml else "tap"
        if path.suffix.lower() == ".xml":
            kind = "junit"
    if kind == "junit":
        return JunitParser(cases.take)
    return SomeTap(TapParser(cases.take, suite))


class SomeTap:
    """A parser of TAP that does not take just anything for TAP."""

    def __init__(self, parser: TapParser) -> None:
        self._parser = parser
        self.feed = parser.feed

    def finish(self) -> None:
        """Take note that these were all bytes; raises ReportError."""
        self._parser.finish()
        if not self._parser.is_tap:
            raise ReportError("is no report of tests: neither JUnit's XML nor TAP")


def read_file(files: Files, path: Path, begin: Callable[[bytes], _Parser]) -> str:
    """Read one file; return what is wrong with it, as the end of a sentence."""
    try:
        with os.fdopen(files.open(path), "rb", buffering=0) as file:
            piece = file.read(PIECE)
            if not piece.strip(b"\0 \t\r\n"):
                return "is empty"
            parser = begin(piece)
            while piece:
                parser.feed(piece)
                piece = file.read(PIECE)
            parser.finish()
    except ReportError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""


class Log:
    """The attempt's log, as far as it is searched."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.data, mmap.mmap):
            self.data.close()

    def masks(self) -> Iterator[bytes]:
        """Yield the values that the script asked to be masked."""
        for match in _MASK.finditer(self.data):
            yield match[0].split(b"::", 2)[-1].rstrip(b"\r")
            if (command := parse_command(match[0].rstrip(b"\r"))) is not None:
                yield command.message.encode("utf-8", "replace")

    def found(self, case: Case) -> Case:
        """Return a case with the place in the log where it is told of, if it is."""
        for name in (case.name, case.title):
            needle = name.encode("utf-8", "replace")
            if len(needle) < 4:
                continue
            at = self._best(needle)
            if at is not None:
                return msgspec.structs.replace(case, offset=at)
        return case

    def _best(self, needle: bytes) -> int | None:
        """Return the start of the first line that tells of a failure; else of the first line."""
        first = None
        at = -1
        for _ in range(100):
            at = self.data.find(needle, at + 1)
            if at < 0:
                break
            start = self.data.rfind(b"\n", max(0, at - 4096), at) + 1
            stop = self.data.find(b"\n", at, at + 4096)
            line = self.data[start : stop if stop > 0 else at + len(needle)]
            if _BAD.search(line.replace(needle, b"")):
                return start
            first = start if first is None else first
        return first


def open_log(path: Path) -> Log:
    """Return the log; an empty one if there is none."""
    try:
        with path.open("rb") as file:
            size = min(os.fstat(file.fileno()).st_size, MAX_LOG)
            if size:
                return Log(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
    except OSError:
        pass
    return Log(b"")


def masks_for(wanted: ReportsWanted, log: Log) -> Masks:
    """Return what must not be shown: what the agent knows, and what the script said since."""
    masks = Masks()
    masks.hides_all = wanted.hides_all
    for value in (*wanted.masks, *log.masks()):
        masks.add(value)
    return masks


def cases(packed: bytes, limit: int, match: str, *, bad: bool) -> Reading:
    """Give cases back."""
    needle = match.casefold()
    head, found, total = read_cases(
        packed,
        lambda case: needle in case.title.casefold() if needle else True,
        bad=bad,
        limit=limit,
    )
    return Reading(cases=found, total=total, slowest=head.slowest)


def runs(packed: list[bytes]) -> list[Read | None]:
    """Say how the tests ended, of each."""
    found: list[Read | None] = []
    for data in packed:
        try:
            found.append(read_run(data))
        except ValueError:
            found.append(None)
    return found


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLongError within the context when its time is over."""
    former = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _stop(*_: object) -> None:
    raise TooLongError


def main(words: list[str]) -> int:
    """Do what the words say; return the exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_S * 3, TIME_S * 3))
    answer: object
    try:
        if words[0] == "read":
            wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=ReportsWanted)
            answer = read(wanted, Path(words[1]))
        elif words[0] == "runs":
            answer = runs(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[bytes]))
        else:
            data = sys.stdin.buffer.read()
            answer = cases(data, int(words[1]), words[3], bad=words[2] == "bad")
    except MemoryError:
        return 3
    except ValueError:
        return 4
    encode = msgspec.msgpack.encode if words[0] == "runs" else msgspec.json.encode
    sys.stdout.buffer.write(encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
