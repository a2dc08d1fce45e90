"""The comment block in a script that holds its settings, as found by PEP 723.

It starts with a line ``# /// script`` and ends with ``# ///``; the comment sign may be that of
another language, the same throughout. What only looks like a block is a problem: passing over it
in silence would run a job without the limits its author wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from rota.core.problem import Problem
from rota.core.toml_document import Source

_START = re.compile(r"(?P<sign>#|//|--|;) /// script[ \t]*")
_NEARLY_START = re.compile(r"\s*(?P<sign>#|//|--|;)+\s*/{2,4}\s*script\s*", re.IGNORECASE)
_TABLE = re.compile(r"\s*(?:#|//|--|;)+\s*\[tool\.rota[\].].*")
_COMMENT = re.compile(r"\s*(?:(?:#|//|--|;|/\*|\*).*)?")


class Block(msgspec.Struct, frozen=True):
    """The TOML inside a block, and whether the block ends as it should."""

    source: Source
    closed: bool


def decode_script(data: bytes) -> str:
    """Return ``data`` as text. Never raises.

    Bytes that are not UTF-8 become lone surrogates (PEP 383): a header with one is refused, the
    rest of a script may have what it likes.
    """
    return data.decode("utf-8", "surrogateescape")


def find_block(text: str, path: str) -> tuple[Block | None, tuple[Problem, ...]]:
    """Return the block of a script, if there is one, and the faults of its form. Never raises."""
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if "///" in line and _START.fullmatch(_bare(line))]
    if not starts:
        return None, tuple(_near_misses(lines, path))
    problems = [
        Problem(path, n + 1, 1, "a second header", f"the first is in line {starts[0] + 1}")
        for n in starts[1:]
    ]
    block, faults = _read_block(lines, starts[0], path)
    return block, (*problems, *faults)


def _bare(line: str) -> str:
    return line.removesuffix("\r")


def _read_block(lines: Sequence[str], start: int, path: str) -> tuple[Block, list[Problem]]:
    """Return the block that starts at index ``start``, and the faults of its lines."""
    match = _START.fullmatch(_bare(lines[start]))
    sign = match["sign"] if match else "#"
    problems: list[Problem] = []
    content: list[str] = []
    margins: list[int] = []
    closed = False
    for n in range(start + 1, len(lines)):
        line = _bare(lines[n])
        closed = _is_end(line, sign)
        if closed or _START.fullmatch(line) or not _goes_on(lines, n, sign):
            if line.rstrip() != f"{sign} ///" and closed:
                problems.append(
                    Problem(path, n + 1, 1, "a bad end of the header", f"write {sign} ///")
                )
            break
        problems += _line_faults(line, sign, path, n + 1)
        margin = len(sign) + line.startswith(f"{sign} ")
        content.append(line[margin:] if line.startswith(sign) else "")
        margins.append(margin)
    if not closed:
        hint = f"end it with a line {sign} ///"
        problems.append(Problem(path, start + 1, 1, "the header is not closed", hint))
    source = Source(path, tuple(content), start + 2, tuple(margins))
    return Block(source, closed), problems


def _is_end(line: str, sign: str) -> bool:
    rest = line.removeprefix(sign).strip()
    return line.startswith(sign) and len(rest) > 2 and not rest.strip("/")


def _goes_on(lines: Sequence[str], n: int, sign: str) -> bool:
    """Whether line ``n`` is of the block; so is one that is empty by mistake."""
    if lines[n].startswith(sign):
        return True
    return not lines[n].strip() and n + 1 < len(lines) and lines[n + 1].startswith(sign)


def _line_faults(line: str, sign: str, path: str, number: int) -> Iterator[Problem]:
    if not line.startswith(sign):
        yield Problem(path, number, 1, "an empty line in the header", f"write a bare {sign}")
    elif line[len(sign) :].strip() and line[len(sign)] != " ":
        message = f"a space is missing after {sign}"
        yield Problem(path, number, len(sign) + 1, message, "other readers of the block demand it")


def _near_misses(lines: Sequence[str], path: str) -> Iterator[Problem]:
    """Yield what looks like a block's start before the first line of code."""
    for number, line in enumerate(map(_bare, lines), start=1):
        if not _COMMENT.fullmatch(line):
            return
        if match := _NEARLY_START.fullmatch(line):
            hint = f"write {match['sign']} /// script at the start of the line"
            yield Problem(path, number, 1, "this is nearly a header", hint)
            return
        if _TABLE.fullmatch(line):
            hint = "put a line # /// script before it, and # /// after its last"
            yield Problem(path, number, 1, "[tool.rota] outside of a header", hint)
            return
