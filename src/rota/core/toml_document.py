"""A TOML text read with patience: what is wrong is reported and skipped, the rest is read.

The standard library's parser stops at the first fault. Here the statement at fault is blanked and
the text is parsed again, so that a person sees all mistakes at once. Blank lines keep every other
line where it was.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

import msgspec

from rota.core.problem import Problem
from rota.core.toml_places import Place, Places, Statement, locate

#: Each fault costs one more parse; whoever made this many will look again anyway.
MAX_FAULTS = 20


class Source(msgspec.Struct, frozen=True):
    """TOML lines (without their ends) and where they stand in their file.

    The first is line ``first_line`` of the file; ``margins`` has, for each, how many characters
    stand before it in the file (none for lines beyond its end).
    """

    path: str
    lines: tuple[str, ...]
    first_line: int = 1
    margins: tuple[int, ...] = ()

    def problem(self, place: Place, message: str, hint: str | None = None) -> Problem:
        """Return a problem at ``place`` of the TOML text, with its place in the file."""
        line, column = place
        margin = self.margins[line - 1] if line <= len(self.margins) else 0
        return Problem(self.path, self.first_line + line - 1, column + margin, message, hint)


class Document(msgspec.Struct, frozen=True):
    """What could be read of a TOML text, and where its parts stand."""

    source: Source
    table: dict[str, Any]
    places: Places


def read_document(source: Source) -> tuple[Document, tuple[Problem, ...]]:
    """Return what can be read of ``source``, and every fault of its syntax. Never raises.

    Cost: a parse for each fault, of which at most `MAX_FAULTS` are looked for.
    """
    lines = list(source.lines)
    problems = [_not_text(source, lines, n) for n in range(len(lines)) if _ODD.search(lines[n])]
    table: dict[str, Any] = {}
    while len(problems) < MAX_FAULTS:
        places = locate(_text(lines))
        if forbidden := [it for it in places.statements if it.fault]:
            problems += [_forbidden(source, lines, it) for it in forbidden]
            continue
        try:
            table = tomllib.loads(_text(lines))
            break
        except ValueError as error:
            problems.append(_take_out(source, lines, places.statements, str(error)))
        except RecursionError:
            problems.append(source.problem((1, 1), "nested too deep to be read"))
            break
    return Document(source, table, locate(_text(lines))), tuple(problems)


#: What bytes that are not UTF-8 are decoded to (PEP 383), and other halves of characters.
_ODD = re.compile("[\ud800-\udfff]")


def _not_text(source: Source, lines: list[str], index: int) -> Problem:
    """Blank the line at ``index``, which is not UTF-8, and return the problem."""
    odd = _ODD.search(lines[index])
    place = (index + 1, odd.start() + 1 if odd else 1)
    byte = ord(odd[0]) - 0xDC00 if odd else 0
    what = f"byte 0x{byte:02x} is" if 0x80 <= byte <= 0xFF else "half a character is"
    lines[index] = ""
    return source.problem(place, f"{what} not UTF-8", "save the file as UTF-8")


def _text(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _forbidden(source: Source, lines: list[str], statement: Statement) -> Problem:
    place = (statement.first, _indent(lines[statement.first - 1]))
    _blank(lines, statement.first, _last_line(statement, lines))
    return source.problem(place, str(statement.fault))


_MESSAGE = re.compile(r"(.*?)(?: \(at (?:line (\d+), column (\d+)|end of document)\))?", re.DOTALL)


def _take_out(
    source: Source, lines: list[str], statements: Sequence[Statement], error: str
) -> Problem:
    """Blank the statement that ``error`` of the parser is about, and return the problem."""
    match = _MESSAGE.fullmatch(error)
    message = match[1] if match else error
    place = (int(match[2]), int(match[3])) if match and match[2] else (len(lines), 1)
    statement = _blamed(statements, lines, place[0])
    first = statement.first
    is_repeated = message.startswith(("Cannot overwrite", "Cannot declare"))
    if not statement.closed or is_repeated or not first <= place[0] <= statement.last:
        place = (first, _indent(lines[first - 1]))
    if is_repeated:
        key = lines[first - 1].partition("=")[0].strip()
        problem = source.problem(place, f"given twice: {key}")
    else:
        if not statement.closed:
            message = "a bracket or a string is not closed"
        elif r"'\n'" in message:
            message = "a string does not end in its line"
        message = f"not TOML: {message[:1].lower()}{message[1:]}"
        problem = source.problem(place, message, _hint(lines[place[0] - 1]))
    _blank(lines, first, _last_line(statement, lines))
    return problem


def _blamed(statements: Sequence[Statement], lines: Sequence[str], line: int) -> Statement:
    """Return the statement that contains ``line``, or else the one before it."""
    line = min(line, len(lines))
    before = [it for it in statements if it.first <= line]
    if before and (line <= before[-1].last or not lines[line - 1].strip()):
        return before[-1]
    return Statement(line, line)


_STARTS = re.compile(r"""[ \t]*(?:\[+[^\[\],]+\]+[ \t]*(?:\#.*)?|[\w."'-]+[ \t]*=.*)""", re.DOTALL)
_HEAD = re.compile(r"[ \t]*\[")


def _last_line(statement: Statement, lines: Sequence[str]) -> int:
    """Return the last line that goes with ``statement``.

    One that never ends has swallowed all that follows, and is cut where the next seems to start.
    One that is a table's head goes with its keys, which would land in the table before it.
    """
    later = range(statement.first + 1, len(lines) + 1)
    if _HEAD.match(lines[statement.first - 1]):
        return next((n - 1 for n in later if _HEAD.match(lines[n - 1])), len(lines))
    if not statement.closed:
        return next((n - 1 for n in later if _STARTS.fullmatch(lines[n - 1])), len(lines))
    return statement.last


def _blank(lines: list[str], first: int, last: int) -> None:
    lines[first - 1 : last] = [""] * (last - first + 1)


def _indent(line: str) -> int:
    """Return the column, from 1, at which the text of ``line`` starts."""
    return len(line) - len(line.lstrip()) + 1


_UNQUOTED = re.compile(r"""[^=#"']*=\s*([^\s"'\[{#][^#]*?)\s*(?:#.*)?""", re.DOTALL)


def _hint(line: str) -> str | None:
    match = _UNQUOTED.fullmatch(line)
    if match is None:
        return None
    if match[1].lower() in {"true", "false", "yes", "no", "on", "off"}:
        return "write true or false"
    return f'text stands in quotes: "{match[1]}"' if re.search("[A-Za-z]", match[1]) else None
