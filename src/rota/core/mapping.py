"""What a trigger brought, by dotted names: for the ``params`` of a rule, and for its ``where``.

Data from outside is only looked up, never run: there is no way from a name to anything but a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from rota.core.params import MAX_VALUE_BYTES
from rota.core.template import TemplateError, fill

#: So many names are listed to whoever asked for another one.
MAX_LISTED = 12


class Fields(Mapping[str, str]):
    """Nested data as texts: ``data.version`` is ``version`` within ``data``.

    A number is a step into a list, from 0. What is no text is JSON; ``null`` is not there.
    """

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data

    def __getitem__(self, path: str) -> str:
        value: object = self._data
        if path in self._data:
            return _text(self._data[path], path)
        for part in path.split("."):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list | tuple) and part.isascii() and part.isdigit():
                if len(part) > 6 or int(part) >= len(value):
                    raise KeyError(path)
                value = value[int(part)]
            else:
                raise KeyError(path)
        return _text(value, path)

    def __iter__(self) -> Iterator[str]:
        names = list(_names(self._data, ""))
        yield from names[:MAX_LISTED]
        if len(names) > MAX_LISTED:
            yield "…"

    def __len__(self) -> int:
        return sum(1 for _ in self)


def params_of(templates: Mapping[str, str], fields: Fields) -> tuple[dict[str, str], str]:
    """Return the parameters that a rule's templates come to, or what is wrong with one."""
    values = {}
    for name, text in templates.items():
        try:
            values[name] = fill(text, fields)
        except TemplateError as error:
            return {}, f"params.{name} {error}"
        if len(values[name]) > MAX_VALUE_BYTES:
            return {}, f"params.{name} comes to more than {MAX_VALUE_BYTES} characters"
    return values, ""


def _text(value: object, path: str) -> str:
    match value:
        case None:
            raise KeyError(path)
        case str():
            return value
        case _:
            return msgspec.json.encode(value).decode()


def _names(data: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, Mapping) and value and prefix.count(".") < 2:
            yield from _names(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + str(name)
