"""Coverage reports: how many lines and branches there are, and how many were run.

Only the sums are read. Where a format has them ready they are taken, else its lines are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from rota.core.reports import Covered
from rota.core.xml_reading import ReportError, XmlReader, local

#: A report in JSON is read as a whole.
MAX_JSON = 64 * 1024 * 1024
_MAX_LINE = 64 * 1024


class CoverageParser(Protocol):
    """Reads one report."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises ReportError."""
        ...

    def finish(self) -> Covered:
        """Return what the whole report says; raises ReportError."""
        ...


def format_of(head: bytes) -> str:
    """Return the format of a report that begins with ``head``; empty if it is none that is known."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return _xml_format(text)
    if text.startswith("mode:"):
        return "go"
    if re.match(r"(TN:|SF:)", text):
        return "lcov"
    if text.startswith("{"):
        return "json"
    return ""


def _xml_format(text: str) -> str:
    root = re.search(r"<([A-Za-z][\w:.-]*)([^>]*)", re.sub(r"<(!--.*?-->|[!?][^>]*>)", "", text))
    if root is None:
        return ""
    if root[1] == "report":
        return "jacoco"
    if root[1] != "coverage":
        return ""
    return "clover" if re.search(r"\bclover\s*=|\bgenerated\s*=", root[2]) else "cobertura"


def parser_of(format: str) -> CoverageParser:  # noqa: A002 - it is what the header calls it
    """Return a parser of a format."""
    return _PARSERS[format]()


class Cobertura:
    """Cobertura's XML, which coverage.py, gcovr, coverlet and others write as well."""

    def __init__(self) -> None:
        self._reader = XmlReader(self._start, self._end)
        self._root: dict[str, str] | None = None
        self._path: list[str] = []
        self._counted = Covered()
        self._lines = self._of_lines = self._branches = self._of_branches = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._reader.feed(data)

    def finish(self) -> Covered:
        """Return the sums that the report has; else those of the lines of its classes."""
        self._reader.finish()
        root = self._root or {}
        lines, of_lines = _count(root, "lines-covered"), _count(root, "lines-valid")
        if lines is None or of_lines is None:
            return Covered(self._lines, self._of_lines, self._branches, self._of_branches)
        branches, of_branches = _count(root, "branches-covered"), _count(root, "branches-valid")
        return Covered(lines, of_lines, branches or 0, of_branches or 0)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = local(name)
        if self._root is None:
            if tag != "coverage":
                raise ReportError(f"is no Cobertura report: its first element is <{name[:50]}>")
            self._root = attributes
        # The lines of methods stand among those of their class as well.
        if tag == "line" and self._path[-2:] == ["class", "lines"]:
            self._of_lines += 1
            self._lines += attributes.get("hits", "0") not in ("0", "")
            found = re.search(r"\((\d{1,9})/(\d{1,9})\)", attributes.get("condition-coverage", ""))
            if found is not None:
                self._branches += int(found[1])
                self._of_branches += int(found[2])
        if len(self._path) < 100:
            self._path.append(tag)

    def _end(self, name: str) -> None:
        if self._path and self._path[-1] == local(name):
            self._path.pop()


class Jacoco:
    """JaCoCo's XML: counters of the whole, after everything else."""

    def __init__(self) -> None:
        self._reader = XmlReader(self._start, self._end)
        self._depth = 0
        self._counts: dict[str, tuple[int, int]] = {}

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._reader.feed(data)

    def finish(self) -> Covered:
        """Return the counters of the whole."""
        self._reader.finish()
        lines, of_lines = self._counts.get("LINE") or self._counts.get("INSTRUCTION") or (0, 0)
        branches, of_branches = self._counts.get("BRANCH", (0, 0))
        return Covered(lines, of_lines, branches, of_branches)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and local(name) != "report":
            raise ReportError(f"is no JaCoCo report: its first element is <{name[:50]}>")
        if self._depth == 1 and name == "counter":
            covered = _count(attributes, "covered") or 0
            missed = _count(attributes, "missed") or 0
            self._counts[attributes.get("type", "")] = (covered, covered + missed)
        self._depth += 1

    def _end(self, _: str) -> None:
        self._depth -= 1


class Clover:
    """Clover's XML, which PHPUnit and Istanbul write as well: metrics of the project."""

    def __init__(self) -> None:
        self._reader = XmlReader(self._start, self._end)
        self._path: list[str] = []
        self._covered = Covered()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._reader.feed(data)

    def finish(self) -> Covered:
        """Return the metrics of all projects."""
        self._reader.finish()
        return self._covered

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "coverage":
            raise ReportError(f"is no Clover report: its first element is <{name[:50]}>")
        if name == "metrics" and self._path == ["coverage", "project"]:
            self._covered += Covered(
                _count(attributes, "coveredstatements") or 0,
                _count(attributes, "statements") or 0,
                _count(attributes, "coveredconditionals") or 0,
                _count(attributes, "conditionals") or 0,
            )
        if len(self._path) < 100:
            self._path.append(name)

    def _end(self, name: str) -> None:
        if self._path and self._path[-1] == name:
            self._path.pop()


class _Lines:
    """Reads a report of lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.line(line.rstrip(b"\r"))
        self._rest = rest[:_MAX_LINE]

    def _finish(self) -> None:
        if self._rest:
            self.line(self._rest.rstrip(b"\r"))

    def line(self, line: bytes) -> None:
        """Take one line."""
        raise NotImplementedError


class Lcov(_Lines):
    """lcov's tracefile: sums of each file, or else its lines."""

    def __init__(self) -> None:
        super().__init__()
        self._all = Covered()
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[bytes, int] = {}
        self._counted = [0, 0, 0, 0]

    def line(self, line: bytes) -> None:
        """Take one line."""
        key, _, value = line.partition(b":")
        match key:
            case b"LF" | b"LH" | b"BRF" | b"BRH":
                self._sums[key] = _number(value)
            case b"DA":
                self._counted[0] += value.split(b",")[1:2] not in ([b"0"], [])
                self._counted[1] += 1
            case b"BRDA":
                self._counted[2] += value.split(b",")[3:4] not in ([b"0"], [b"-"], [])
                self._counted[3] += 1
            case b"end_of_record":
                self._end()
            case _:
                pass

    def finish(self) -> Covered:
        """Return the sums of all files."""
        self._finish()
        self._end()
        return self._all

    def _end(self) -> None:
        sums, counted = self._sums, self._counted
        self._all += Covered(
            sums.get(b"LH", counted[0]),
            sums.get(b"LF", counted[1]),
            sums.get(b"BRH", counted[2]),
            sums.get(b"BRF", counted[3]),
        )
        self._begin()


class GoProfile(_Lines):
    """Go's cover profile: blocks of statements, which a run of several packages repeats."""

    #: More blocks than this are not told apart any more.
    _MAX_BLOCKS = 2_000_000

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[bytes, tuple[int, bool]] = {}

    def line(self, line: bytes) -> None:
        """Take one line: ``file.go:1.2,3.4 statements count``."""
        if line.startswith(b"mode:") or not line.strip():
            return
        block, _, rest = line.partition(b" ")
        numbers = rest.split()
        if len(numbers) != 2 or b":" not in block:
            raise ReportError(f"is no Go cover profile: {line[:60].decode(errors='replace')!r}")
        known = self._blocks.get(block)
        was_run = numbers[1] != b"0" or (known is not None and known[1])
        if known is None and len(self._blocks) >= self._MAX_BLOCKS:
            raise ReportError(f"has more than {self._MAX_BLOCKS} blocks")
        self._blocks[block] = (_number(numbers[0]), was_run)

    def finish(self) -> Covered:
        """Return the statements of all blocks."""
        self._finish()
        run = sum(count for count, was_run in self._blocks.values() if was_run)
        return Covered(run, sum(count for count, _ in self._blocks.values()))


class _Totals(msgspec.Struct):
    covered_lines: int | None = None
    num_statements: int = 0
    covered_branches: int = 0
    num_branches: int = 0


class _Summed(msgspec.Struct):
    total: int = 0
    covered: int = 0


class _Total(msgspec.Struct):
    lines: _Summed = msgspec.field(default_factory=_Summed)
    branches: _Summed = msgspec.field(default_factory=_Summed)


class _Json(msgspec.Struct):
    totals: _Totals | None = None  # of coverage.py
    total: _Total | None = None  # of Istanbul's summary


class JsonReport:
    """What ``coverage json`` writes, and Istanbul's ``coverage-summary.json``."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        if self._size > MAX_JSON:
            raise ReportError(f"has more than {MAX_JSON >> 20} MiB, the limit of reports in JSON")
        self._pieces.append(data)

    def finish(self) -> Covered:
        """Return the totals."""
        try:
            found = msgspec.json.decode(b"".join(self._pieces), type=_Json)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ReportError(f"is no coverage report in JSON: {error}") from None
        if found.totals is not None and found.totals.covered_lines is not None:
            its = found.totals
            return Covered(
                found.totals.covered_lines,
                its.num_statements,
                its.covered_branches,
                its.num_branches,
            )
        if found.total is not None:
            lines, branches = found.total.lines, found.total.branches
            return Covered(lines.covered, lines.total, branches.covered, branches.total)
        raise ReportError(
            "is no coverage report in JSON: it has neither the totals of coverage.py nor the total"
            " of Istanbul's summary"
        )


_PARSERS: dict[str, Callable[[], CoverageParser]] = {
    "cobertura": Cobertura,
    "jacoco": Jacoco,
    "clover": Clover,
    "lcov": Lcov,
    "go": GoProfile,
    "coverage.py": JsonReport,
    "istanbul": JsonReport,
    "json": JsonReport,
}


def _count(attributes: dict[str, str], key: str) -> int | None:
    text = attributes.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _number(text: bytes) -> int:
    text = text.strip()
    return int(text) if text.isdigit() and len(text) < 16 else 0
