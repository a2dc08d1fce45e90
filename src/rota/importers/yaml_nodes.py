"""YAML as nodes with their lines, all scalars as text: ``on`` is no truth, ``3.10`` no number.

Read by PyYAML, which is loaded when there is a file to read. Nothing is constructed, so that no tag can run
anything; an alias is the node it stands for, and how often one may be looked at is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rota.errors import InputError

MAX_BYTES = 1 << 20
#: Aliases make a small file large: so many nodes are looked at, not more.
MAX_NODES = 100_000


class Yaml:
    """A node: a mapping, a list or a text. What is asked of another kind is empty."""

    def __init__(self, node: Any, count: list[int], place: str) -> None:
        self._node, self._count, self._place = node, count, place
        count[0] += 1
        if count[0] > MAX_NODES:
            raise InputError(f"{place}: more than {MAX_NODES} values, by aliases")

    @property
    def line(self) -> int:
        """Where it begins."""
        return int(self._node.start_mark.line) + 1 if self._node is not None else 0

    @property
    def text(self) -> str:
        """The text of a scalar."""
        return str(self._node.value) if self.is_text else ""

    @property
    def is_text(self) -> bool:
        """Whether it is a scalar."""
        return self._node is not None and self._node.id == "scalar"

    @property
    def is_map(self) -> bool:
        """Whether it is a mapping."""
        return self._node is not None and self._node.id == "mapping"

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return self._node is not None and self._node.id == "sequence"

    def __bool__(self) -> bool:
        return self._node is not None and bool(self._node.value)

    def items(self) -> Iterator[tuple[str, Yaml]]:
        """Yield the entries of a mapping, by their keys' text."""
        for key, value in self._node.value if self.is_map else ():
            yield str(key.value), Yaml(value, self._count, self._place)

    def nodes(self) -> Iterator[Yaml]:
        """Yield the items of a list; a text is a list of itself."""
        if self.is_text and self.text:
            yield self
        for node in self._node.value if self.is_list else ():
            yield Yaml(node, self._count, self._place)

    def texts(self) -> list[str]:
        """Return the texts of a list, or the one text."""
        return [node.text for node in self.nodes() if node.is_text]

    def get(self, key: str) -> Yaml:
        """Return an entry of a mapping; an empty node if there is none."""
        for name, value in self.items():
            if name == key:
                return value
        return Yaml(None, self._count, self._place)


def read_yaml(text: str, place: str) -> Yaml:
    """Return the document of a file.

    Raises:
        InputError: it is no YAML, or has none or several documents.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise InputError(f"{place}: {len(text)} characters, the limit is {MAX_BYTES}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark is not None else place
        raise InputError(f"{where}: no YAML: {getattr(error, 'problem', None) or error}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{place}: no YAML that can be read: {type(error).__name__}") from error
    if node is None:
        raise InputError(f"{place}: nothing stands in it")
    return Yaml(node, [0], place)
