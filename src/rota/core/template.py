"""Texts with ``{name}`` in them: no code, no format, only names that are replaced by values.

``{{`` and ``}}`` are braces. A name is a parameter, or a dotted path into what a trigger brought.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PART = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_.-]*)\}|[{}]")


class TemplateError(Exception):
    """A text cannot be filled in; the message goes on after its name."""


def names(text: str) -> tuple[str, ...]:
    """Return the names that a text asks for, each once, in their order.

    Raises:
        TemplateError: a brace is open, or holds no name.
    """
    return tuple(dict.fromkeys(name for _, name in _parts(text) if name))


def fill(text: str, values: Mapping[str, object]) -> str:
    """Return a text with values in place of their names; booleans are true and false.

    Raises:
        TemplateError: a brace is open, or there is no value of a name.
    """
    return "".join(plain if name is None else _value(name, values) for plain, name in _parts(text))


def _value(name: str, values: Mapping[str, object]) -> str:
    if name not in values:
        known = ", ".join(values)
        raise TemplateError(f"asks for {{{name}}}, there is {known or 'no value at all'}")
    value = values[name]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    at = 0
    for found in _PART.finditer(text):
        yield text[at : found.start()], None
        at = found.end()
        if found[1] is not None:
            yield "", found[1]
        elif len(found[0]) == 2:
            yield found[0][0], None
        else:
            raise TemplateError(
                f"has a lone {found[0]!r}; write {found[0] * 2} for the brace itself"
            )
    yield text[at:], None
