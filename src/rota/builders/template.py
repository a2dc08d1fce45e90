"""A template: a job's script in which some lines stand under a condition, and some texts are open.

A line that ends in ``#: WORDS`` is kept where all its words hold: ``word``, ``!word`` for its
opposite, ``one|other`` for either. ``@name@`` is replaced by a value: as TOML between quotes in the
header, as one word of the shell in the script. ``["@name@"]`` is a list, which commas separate in
the value.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Set

_MARK = re.compile(r"[ \t]*#: (?P<words>[a-z0-9_!| ]+)$")
_LIST = re.compile(r'"@([a-z][a-z0-9_]*)@"(?=\])')
_OPEN = re.compile(r"@([a-z][a-z0-9_]*)@")
_DESCRIPTION = re.compile(r'^[#/;-]+ description = "(.*)"$', re.MULTILINE)
_PROJECT = re.compile(r"^@project@: ")


def rendered(text: str, words: Set[str], values: Mapping[str, str]) -> str:
    """Return the script that a template comes to.

    Raises:
        KeyError: a kept line asks for a value that is not there.
    """
    found: list[str] = []
    in_header = False
    for line in text.splitlines():
        match = _MARK.search(line)
        kept = line if match is None else line[: match.start()]
        if match is not None and not _holds(match["words"], words):
            continue
        if kept == "# ///":
            in_header = False
        line = _filled(kept, values, in_header=in_header).rstrip()
        found.append("" if line == "#" and not in_header else line)
        if kept == "# /// script":
            in_header = True
    return "\n".join(_without_gaps(found)) + "\n"


def words_of(text: str) -> frozenset[str]:
    """Return all words that the conditions of a template ask for."""
    marks = (match["words"] for line in text.splitlines() if (match := _MARK.search(line)))
    return frozenset(
        word.lstrip("!") for mark in marks for either in mark.split() for word in either.split("|")
    )


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of all values that a template asks for, each once, in their order."""
    return tuple(dict.fromkeys(match[1] for match in _OPEN.finditer(text)))


def description_of(text: str) -> str:
    """Return what a template says that it is."""
    match = _DESCRIPTION.search(text)
    return _PROJECT.sub("", match[1]) if match else ""


def _holds(mark: str, words: Set[str]) -> bool:
    return all(
        any((word.lstrip("!") in words) != word.startswith("!") for word in either.split("|"))
        for either in mark.split()
    )


def _filled(line: str, values: Mapping[str, str], *, in_header: bool) -> str:
    if in_header:
        line = _LIST.sub(lambda it: ", ".join(map(_toml, _items(_printable(values[it[1]])))), line)
        return _OPEN.sub(lambda it: _toml(values[it[1]])[1:-1], line)
    if line.startswith("#"):
        return _OPEN.sub(lambda it: _printable(values[it[1]]), line)
    return _OPEN.sub(lambda it: shlex.quote(_printable(values[it[1]])), line)


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _toml(value: str) -> str:
    """Return a text as a basic string of TOML; JSON's escapes are among TOML's."""
    return json.dumps(_printable(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(value: str) -> str:
    """Return a value as one line: a folder may be called anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in value)


def _without_gaps(lines: list[str]) -> list[str]:
    """Return lines; of several empty ones one after another, or at an end, one and none."""
    found: list[str] = []
    for line in lines:
        if line in ("", "#") and (not found or found[-1] == line):
            continue
        if line == "# ///" and found and found[-1] == "#":
            found.pop()
        found.append(line)
    while found and not found[-1]:
        found.pop()
    return found
