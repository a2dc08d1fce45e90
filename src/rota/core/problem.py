"""A fault found in what a person wrote, with its place."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One fault in a text: where it is, what is wrong, and what may have been meant.

    ``line`` and ``column`` count from 1; 0 means that the fault has no place of its own.
    """

    path: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __lt__(self, other: Problem) -> bool:
        """Order by place; two of one place may have a hint, or none."""
        return self._order() < other._order()

    def _order(self) -> tuple[str, int, int, str, str]:
        return (self.path, self.line, self.column, self.message, self.hint or "")

    def __str__(self) -> str:
        place = self.path
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        tail = f" ({self.hint})" if self.hint else ""
        return f"{place}: {self.message}{tail}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return a hint naming the known word most like ``word``, or ``None`` if none is alike."""
    import difflib  # few ever write a word wrongly

    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else None
