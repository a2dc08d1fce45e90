"""Where each key and value of a TOML text stands, which the standard library's parser does not say.

A scanner, not a parser: it believes that the text is TOML, and goes on after what is not. It reads
any text, always moves forward, and what it cannot place falls back to the nearest place it knows.
Lines and columns count from 1.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import TypeAlias

import msgspec

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

#: No setting nests deeper. Beyond it the standard library's parser takes quadratic time (dotted
#: keys) or runs out of stack (brackets), so that such statements are kept from it.
MAX_DEPTH = 32
#: Longer numbers are refused by `int` with an error that names no place.
MAX_SCALAR = 400


class Statement(msgspec.Struct, frozen=True):
    """The lines that a table's head or a ``key = value`` takes, first and last included."""

    first: int
    last: int
    closed: bool = True  # every bracket and string of it ends
    fault: str | None = None  # why it must not be parsed


class Value(msgspec.Struct, frozen=True):
    """Where a value starts; ``raw`` is its source if it is a string."""

    place: Place
    raw: str = ""


class Places(msgspec.Struct, frozen=True):
    """Where everything stands, by path: ``("tool", "rota", "artifacts", 2)``."""

    keys: dict[Path, Place]
    values: dict[Path, Value]
    statements: tuple[Statement, ...]

    def key(self, path: Path) -> Place:
        """Return where the key at ``path`` stands; failing that, the key that contains it."""
        for length in range(len(path), 0, -1):
            if (place := self.keys.get(path[:length])) is not None:
                return place
        return (1, 1)

    def value(self, path: Path, offset: int = 0) -> Place:
        """Return where the value at ``path`` starts; failing that, its key.

        With ``offset``, the place of that character (from 1) in a string of one line.
        """
        value = self.values.get(path)
        if value is None:
            return self.key(path)
        line, column = value.place
        if offset and value.raw and value.raw[:3] not in {'"""', "'''"}:
            column += _raw_offset(value.raw, offset)
        return (line, column)


def locate(text: str) -> Places:
    """Return the places of everything in ``text``. Never raises.

    Cost: linear in the text.
    """
    return _Scanner(text).scan()


_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)|.", re.DOTALL)


def _raw_offset(raw: str, offset: int) -> int:
    """Return how far into the source of a string its character ``offset`` stands."""
    if raw[0] == "'":
        return min(offset, len(raw))
    at = 1
    for _ in range(offset - 1):
        match = _ESCAPE.match(raw, at)
        if match is None:
            break
        at = match.end()
    return at


_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5})?'
    r"|'''(?:[^']|'(?!''))*(?:'{3,5})?"
    r'|"(?:[^"\\\n]|\\[^\n])*"?'
    r"|'[^'\n]*'?",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\[\]{}#\n]*")


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._keys: dict[Path, Place] = {}
        self._values: dict[Path, Value] = {}
        self._tables: dict[Path, int] = {}  # arrays of tables: how many so far
        self._closed = True
        self._fault: str | None = None

    def scan(self) -> Places:
        statements: list[Statement] = []
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return Places(self._keys, self._values, tuple(statements))
            first = self._place()[0]
            self._closed, self._fault = True, None
            if self._text[self._at] == "[":
                table = self._head()
            else:
                self._pair(table, 0)
            last = self._place()[0]
            self._skip(_REST)
            statements.append(Statement(first, last, self._closed, self._fault))

    def _head(self) -> Path:
        place = self._place()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path: Path = ()
        keys = self._dotted_key()
        for index, (key, key_place) in enumerate(keys):
            path += (key,)
            self._keys.setdefault(path, key_place)
            if path in self._tables and not (is_array and index == len(keys) - 1):
                path += (self._tables[path] - 1,)
        if is_array:
            self._tables[path] = self._tables.get(path, 0) + 1
            path += (self._tables[path] - 1,)
        self._values.setdefault(path, Value(place))
        return path

    def _pair(self, path: Path, depth: int) -> None:
        for key, place in self._dotted_key():
            path += (key,)
            if len(path) > MAX_DEPTH:
                self._fault = f"nested deeper than {MAX_DEPTH}"
                break
            self._keys.setdefault(path, place)
        if self._text.startswith("=", self._at):
            self._at += 1
            self._skip(_SPACE)
            self._value(path, depth)

    def _dotted_key(self) -> list[tuple[str, Place]]:
        keys: list[tuple[str, Place]] = []
        while True:
            self._skip(_SPACE)
            place = self._place()
            match = _BARE_KEY.match(self._text, self._at) or _STRING.match(self._text, self._at)
            if match is None:
                return keys
            self._at = match.end()
            if len(keys) < MAX_DEPTH:
                keys.append((_unquoted(match[0]), place))
            else:
                self._fault = f"nested deeper than {MAX_DEPTH}"
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: Path, depth: int) -> None:
        place = self._place()
        raw = ""
        if depth > MAX_DEPTH:
            self._fault = f"nested deeper than {MAX_DEPTH}"
        if self._text.startswith(("[", "{"), self._at) and depth <= MAX_DEPTH:
            self._items(path, depth)
        elif match := _STRING.match(self._text, self._at):
            raw = match[0]
            self._at = match.end()
            self._closed &= _is_closed(raw)
        else:
            start = self._at
            self._skip(_SCALAR)
            if self._at - start > MAX_SCALAR:
                self._fault = f"a number of {self._at - start} characters"
        self._values.setdefault(path, Value(place, raw))

    def _items(self, path: Path, depth: int) -> None:
        """Scan an array's or an inline table's items, up to the bracket that closes it."""
        is_array = self._text[self._at] == "["
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                self._closed = False
                return
            char = self._text[self._at]
            start = self._at
            if char in ",]}":
                self._at += 1
                index += char == ","
                if char == ("]" if is_array else "}"):
                    return
            elif is_array:
                self._value((*path, index), depth + 1)
            else:
                self._pair(path, depth + 1)
            self._at = max(self._at, start + 1)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self._text, self._at):
            self._at = match.end()

    def _place(self) -> Place:
        line = bisect.bisect_right(self._starts, self._at)
        return (line, self._at - self._starts[line - 1] + 1)


_REST = re.compile(r"[^\n]*")


def _is_closed(raw: str) -> bool:
    """Whether a string that may go over lines ends; others end with their line at the latest."""
    quotes = raw[:3]
    return quotes not in {'"""', "'''"} or (len(raw) >= 6 and raw.endswith(quotes))


def _unquoted(raw: str) -> str:
    if raw[0] not in "\"'":
        return raw
    if "\\" in raw:
        try:
            return str(tomllib.loads(f"key={raw}")["key"])
        except ValueError:
            pass
    return raw[1:-1]
