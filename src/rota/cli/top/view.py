"""What a person chose at ``rota top``, and what a key does to it. Pure.

Keys are called by what they print, or ``up``, ``down``, ``enter``, ``escape``, ``backspace``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SORTS = ("longest", "newest", "job", "agent")
#: What may stand in a filter; more is not typed by people.
MAX_FILTER = 200


class Cancel(NamedTuple):
    """A person wants a build cancelled, and said so twice."""

    id: str
    build: str


class Choice(NamedTuple):
    """A build that can be selected."""

    id: str
    build: str
    can_cancel: bool


@dataclass
class View:
    """What is chosen. ``choices`` are the builds that the last picture showed, in its order."""

    filter: str = ""
    sort: str = SORTS[0]
    selected: str = ""
    log: str = ""  # the id of the build whose log is shown
    has_help: bool = False
    typing: str | None = None  # a filter that is being typed
    asking: Choice | None = None  # whether this one is to be cancelled
    said: str = ""
    is_over: bool = False
    choices: Sequence[Choice] = ()

    @property
    def match(self) -> str:
        """The filter as a glob: a word is looked for anywhere in a job's name."""
        return glob_of(self.filter)

    @property
    def chosen(self) -> Choice | None:
        """The build that is selected, if it is still there."""
        return next((it for it in self.choices if it.id == self.selected), None)

    def press(self, key: str) -> Cancel | None:
        """Take a key; return what is to be done in the cluster, if anything."""
        self.said = ""
        if self.typing is not None:
            self._type(key)
            return None
        if self.asking is not None:
            return self._answer(key)
        self._do(key)
        return None

    def _do(self, key: str) -> None:
        match key:
            case "q":
                self.is_over = True
            case "escape":
                self._step_back()
            case _ if self.has_help:
                self.has_help = False
            case "down" | "j":
                self._move(1)
            case "up" | "k":
                self._move(-1)
            case "enter":
                self._open()
            case "c":
                self._ask()
            case "/":
                self.typing = self.filter
            case "s":
                self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
                self.said = f"running builds: {self.sort}" + (
                    " first" if self.sort in SORTS[:2] else ""
                )
            case "?" | "h":
                self.has_help = True
            case _:
                pass

    def _step_back(self) -> None:
        """Close what was opened last; with nothing open, forget selection and filter."""
        if self.has_help:
            self.has_help = False
        elif self.log:
            self.log = ""
        elif self.selected:
            self.selected = ""
        else:
            self.filter = ""

    def _move(self, by: int) -> None:
        ids = [it.id for it in self.choices]
        if not ids:
            return
        if self.selected in ids:
            place = min(max(ids.index(self.selected) + by, 0), len(ids) - 1)
        else:
            place = 0 if by > 0 else len(ids) - 1
        self.selected = ids[place]
        if self.log:
            self.log = self.selected

    def _open(self) -> None:
        if self.log:
            self.log = ""
        elif self.chosen is not None:
            self.log = self.selected
        else:
            self.said = "select a build first: arrows, or j and k"

    def _ask(self) -> None:
        chosen = self.chosen
        if chosen is None:
            self.said = "select a build first: arrows, or j and k"
        elif not chosen.can_cancel:
            self.said = f"{chosen.build} is over"
        else:
            self.asking = chosen

    def _answer(self, key: str) -> Cancel | None:
        asked, self.asking = self.asking, None
        if key in ("y", "Y") and asked is not None:
            return Cancel(asked.id, asked.build)
        self.said = "nothing was cancelled"
        return None

    def _type(self, key: str) -> None:
        typed = self.typing or ""
        match key:
            case "enter":
                self.filter, self.typing = typed.strip(), None
            case "escape":
                self.typing = None
            case "backspace":
                self.typing = typed[:-1]
            case _ if len(key) == 1 and key.isprintable() and len(typed) < MAX_FILTER:
                self.typing = typed + key


def glob_of(text: str) -> str:
    """Return a filter as a glob: one as it is, a word as what contains it, nothing as everything."""
    if not text:
        return "*"
    return text if any(char in text for char in "*?[") else f"*{text}*"
