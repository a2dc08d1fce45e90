"""What was found in a folder: one project of one kind, and what its job's template is to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rota.builders.folder import Folder


@dataclass(frozen=True)
class Finding:
    """A project that a template builds.

    ``path`` is its folder, from the top of the repository. ``seen`` are the reasons, for people;
    ``words`` and ``values`` are what the template asks for; ``notes`` say what a person should see to.
    """

    template: str
    path: str = ""
    seen: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    values: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Draft:
    """A project in the making."""

    def __init__(self, template: str, folder: Folder) -> None:
        self._template = template
        self._folder = folder
        self.seen: list[str] = []
        self.words: set[str] = set()
        self.values: dict[str, str] = {}
        self.notes: list[str] = []

    def see(self, text: str) -> None:
        """Add a reason, unless it is empty or known."""
        if text and text not in self.seen:
            self.seen.append(text)

    def word(self, word: str, holds: object = True) -> bool:
        """Add a word, if it holds; return whether it does."""
        if holds:
            self.words.add(word)
        return bool(holds)

    def made(self) -> Finding:
        """Return the project."""
        return Finding(
            self._template,
            self._folder.path,
            tuple(self.seen),
            frozenset(self.words),
            dict(self.values),
            tuple(self.notes),
        )


Kind = Callable[[Folder], Finding | None]
"""Looks at one folder: the project of a kind that is there."""
