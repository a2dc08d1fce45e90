"""Settings checked by a table: for each key where its value goes, and how it is read.

A *reader* takes a raw value and the spot where it stands, and returns the value as the program
wants it; what does not fit it raises as `FieldError`, and the checker reports it at that spot. A
faulty value is left out, so that its default stands and the rest is checked as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from rota.core.durations import format_duration, parse_duration
from rota.core.problem import Problem, nearest
from rota.core.sizes import parse_size
from rota.core.toml_document import Document
from rota.core.toml_places import Path

T = TypeVar("T")


class FieldError(Exception):
    """A value does not fit; the message goes on after its name: "must be a string".

    An empty message says that its parts have been reported. ``offset`` is the character, from 1,
    of a string at which the fault is.
    """

    def __init__(self, message: str = "", hint: str | None = None, *, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.offset = offset


class Spot(msgspec.Struct, frozen=True):
    """Where a value stands in a document, and the list its faults go to.

    The first ``hidden`` keys of the path are not worth saying: ``tool.rota`` in a header.
    """

    document: Document
    problems: list[Problem]
    path: Path = ()
    hidden: int = 0

    @property
    def name(self) -> str:
        """How to call the value: ``params.suite.choices[2]``; indices count from 1."""
        name = ""
        for part in self.path[self.hidden :]:
            name += f"[{part + 1}]" if isinstance(part, int) else f".{printed_key(part)}"
        return name.removeprefix(".")

    def at(self, key: str | int) -> Spot:
        """Return the spot of a value inside this one."""
        return Spot(self.document, self.problems, (*self.path, key), self.hidden)

    def fault(self, message: str, hint: str | None = None, *, offset: int = 0) -> None:
        """Report a fault of the value."""
        place = self.document.places.value(self.path, offset)
        self.problems.append(self.document.source.problem(place, message, hint))

    def key_fault(self, message: str, hint: str | None = None) -> None:
        """Report a fault of the key."""
        place = self.document.places.key(self.path)
        self.problems.append(self.document.source.problem(place, message, hint))


Reader: TypeAlias = Callable[[Any, Spot], T]


class Field(msgspec.Struct, frozen=True):
    """One setting: the attribute it becomes, its reader, and a good example for hints."""

    into: str
    read: Reader[Any]
    example: str


def read_table(
    raw: Mapping[str, Any],
    spot: Spot,
    fields: Mapping[str, Field],
    *,
    unsupported: Collection[str] = (),
) -> dict[str, Any]:
    """Return the good values of ``raw`` by attribute, and report the others at their places.

    ``unsupported`` keys are known to other versions of the program.
    """
    values = {}
    for key, value in raw.items():
        here = spot.at(key)
        field = fields.get(key)
        if field is not None:
            good, result = attempt(field.read, value, here, f"such as {field.example}")
            if good:
                values[field.into] = result
        elif key in unsupported:
            here.key_fault(f"{here.name} is not supported by this version", "remove it for now")
        else:
            here.key_fault(f"unknown key {here.name}", nearest(key, fields) or one_of_hint(fields))
    return values


def attempt(
    read: Reader[T], value: Any, spot: Spot, hint: str | None = None
) -> tuple[bool, T | None]:
    """Return whether ``value`` could be read, and as what; report at ``spot`` if not."""
    try:
        return True, read(value, spot)
    except FieldError as error:
        if error.message:
            message = f"{spot.name} {error.message}"
            spot.fault(message, error.hint or hint, offset=error.offset)
        return False, None


def one_of_hint(words: Iterable[object]) -> str:
    """Return a hint that lists what is known."""
    return "known: " + ", ".join(str(word) for word in words)


_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def printed_key(key: str) -> str:
    """Return ``key`` as it may stand in a message: quoted unless it is plain, and not too long."""
    if len(key) > 60:
        key = key[:59] + "…"
    return key if _PLAIN_KEY.fullmatch(key) else repr(key)


def printed_value(value: object) -> str:
    """Return a string, number or boolean as it may stand in a message, and not too long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and len(value) > 60:
        value = value[:59] + "…"
    return repr(value)


_TYPES: dict[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
    type(None): "null",
}


def type_name(value: object) -> str:
    """Return what ``value`` is, in TOML's words: "an integer"."""
    return _TYPES.get(type(value), "a date or time")


def _expect(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise FieldError(f"must be {_TYPES[kind]}, not {type_name(value)}")
    return value


def text(value: Any, _: Spot) -> str:
    """Read a string."""
    found = _expect(str, value)
    if "\0" in found:
        raise FieldError("has a NUL character", "no program could be given it")
    return found


def boolean(value: Any, _: Spot) -> bool:
    """Read a boolean."""
    return _expect(bool, value)


def integer(low: int, high: int) -> Reader[int]:
    """Return a reader of integers from ``low`` to ``high``, both included."""

    def read(value: Any, _: Spot) -> int:
        number = _expect(int, value)
        if not low <= number <= high:
            raise FieldError(f"must be between {low} and {high}, not {_cut(number)}")
        return number

    return read


def _cut(number: int) -> str:
    return str(number) if abs(number) < 10**20 else "a number of more than 20 digits"


def duration(low_s: float, high_s: float) -> Reader[float]:
    """Return a reader of durations, in seconds, from ``low_s`` to ``high_s``."""

    def read(value: Any, _: Spot) -> float:
        seconds = parse_duration(_expect(str, value))
        if isinstance(seconds, str):
            raise FieldError(f"cannot be read: {seconds}")
        if seconds < low_s:
            raise FieldError(f"must be at least {format_duration(low_s)}, not {value!r}")
        if seconds > high_s:
            raise FieldError(f"must be at most {format_duration(high_s)}, not {value!r}")
        return seconds

    return read


def size(low: int, high: int) -> Reader[int]:
    """Return a reader of sizes in bytes, as an integer or a text such as ``20G``."""

    def read(value: Any, _: Spot) -> int:
        if type(value) is not int and type(value) is not str:
            raise FieldError(f"must be a string or an integer, not {type_name(value)}")
        found = parse_size(value) if isinstance(value, str) else value
        if found is None:
            raise FieldError(f"must be a size, not {printed_value(value)}")
        if not low <= found <= high:
            raise FieldError(f"must be between {low} and {high} bytes, not {_cut(found)}")
        return found

    return read


def one_of(choices: Collection[str]) -> Reader[str]:
    """Return a reader of one of ``choices``."""

    def read(value: Any, _: Spot) -> str:
        word = _expect(str, value)
        if word not in choices:
            hint = nearest(word, choices) or one_of_hint(choices)
            raise FieldError(f"cannot be {printed_value(word)}", hint)
        return word

    return read


def list_of(read_item: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of arrays, each item of which ``read_item`` reads."""

    def read(value: Any, spot: Spot) -> tuple[T, ...]:
        results = [
            attempt(read_item, item, spot.at(index))
            for index, item in enumerate(_expect(list, value))
        ]
        if not all(good for good, _ in results):
            raise FieldError
        return tuple(result for _, result in results)  # type: ignore[misc]  # good ones are no None

    return read


def one_or_more(read_item: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of what ``read_item`` reads, or an array of that."""

    def read(value: Any, spot: Spot) -> tuple[T, ...]:
        if isinstance(value, list):
            return list_of(read_item)(value, spot)
        return (read_item(value, spot),)

    return read


def table_of(
    name_fault: Callable[[str], str | None], read_value: Reader[T]
) -> Reader[dict[str, T]]:
    """Return a reader of tables with free names, about which ``name_fault`` says what is wrong."""

    def read(value: Any, spot: Spot) -> dict[str, T]:
        results: dict[str, Any] = {}
        bad = False
        for key, item in _expect(dict, value).items():
            here = spot.at(key)
            if (fault := name_fault(key)) is not None:
                here.key_fault(f"{here.name} {fault}")
                bad = True
            good, results[key] = attempt(read_value, item, here)
            bad |= not good
        if bad:
            raise FieldError
        return results

    return read


def table(
    fields: Mapping[str, Field], make: Callable[..., T], *, required: Collection[str] = ()
) -> Reader[T]:
    """Return a reader of tables with these ``fields``, which ``make`` is called with."""

    def read(value: Any, spot: Spot) -> T:
        raw = _expect(dict, value)
        values = read_table(raw, spot, fields)
        for key in required:
            if key not in raw:
                spot.fault(f"{spot.name} needs {key}", f"such as {fields[key].example}")
        return make(**values)

    return read
