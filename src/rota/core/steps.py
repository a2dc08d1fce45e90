"""Steps: the named parts of an attempt, as its log tells them.

``::group::NAME`` begins a group, which ends with ``::endgroup::`` or the next one. ``rota step NAME``
prints ``::step::NAME``, which lasts until the next one or the end; around a command it prints
``::step id=ID::NAME`` before and ``::endstep id=ID,status=N::`` after it, and what that prints may have
steps of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec.structs import replace

from rota.core.instant import Instant
from rota.core.job import Int

#: With what else an attempt leaves, all of them must fit into one event.
MAX_STEPS = 200
MAX_DEPTH = 20
MAX_NAME = 100
COMMANDS = ("group", "endgroup", "step", "endstep")


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step: from where to where in the log, from when to when, and how its command ended.

    ``end`` and ``ended_at`` are there once it has ended; ``status`` only for one around a command.
    ``depth`` is how many others it is in.
    """

    name: str
    offset: Int
    started_at: Instant
    end: Int | None = None
    ended_at: Instant | None = None
    status: Int | None = None
    depth: Int = 0


class _Open(msgspec.Struct):
    index: int  # in the list of steps; -1 for one beyond the limit
    kind: str
    id: str = ""


class Steps:
    """The steps of one log, taken in its order.

    Args:
        time: When what begins or ends at a byte of the log did so.
    """

    def __init__(self, time: Callable[[int], datetime]) -> None:
        self._time = time
        self._open: list[_Open] = []
        self.all: list[Step] = []

    @property
    def is_full(self) -> bool:
        """Whether no further step is taken, and none is open that could end."""
        return len(self.all) >= MAX_STEPS and not self._open

    def take(self, command: str, properties: dict[str, str], name: str, offset: int) -> None:
        """Take one workflow command, whose line begins at ``offset``."""
        match command:
            case "group":
                self._close(offset, lambda it: it.kind == "group")
                self._begin(_Open(0, "group"), name, offset)
            case "endgroup":
                self._close(offset, lambda it: it.kind == "group")
            case "step" if properties.get("id"):
                self._close(offset, lambda it: it.kind == "step")
                self._begin(_Open(0, "command", properties["id"]), name, offset)
            case "step":
                self._close(offset, lambda it: it.kind != "command", all_of_them=True)
                self._begin(_Open(0, "step"), name, offset)
            case "endstep":
                self._end_command(properties, offset)
            case _:
                pass

    def finish(self, offset: int) -> None:
        """The log ends here, and with it all steps."""
        self._close(offset, lambda _: True, all_of_them=True)

    def failed(self) -> str:
        """Return the name of the step in which a script failed that fails here; empty if in none.

        The innermost one that is open, or else the last one, if its command failed.
        """
        for it in reversed(self._open):
            if it.index >= 0:
                return self.all[it.index].name
        last = self.all[-1] if self.all else None
        return last.name if last is not None and last.status not in (None, 0) else ""

    def _begin(self, new: _Open, name: str, offset: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            return
        new.index = len(self.all) if len(self.all) < MAX_STEPS else -1
        if new.index >= 0:
            self.all.append(
                Step(
                    name=" ".join(name.split())[:MAX_NAME] or "?",
                    offset=offset,
                    started_at=self._time(offset),
                    depth=len(self._open),
                )
            )
        self._open.append(new)

    def _close(
        self, offset: int, may: Callable[[_Open], bool], *, all_of_them: bool = False
    ) -> None:
        """End the innermost step if it is such a one; or all such ones, from the innermost on."""
        while self._open and may(self._open[-1]):
            self._end(self._open.pop(), offset, None)
            if not all_of_them:
                return

    def _end_command(self, properties: dict[str, str], offset: int) -> None:
        number = properties.get("status", "")
        status = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else None
        if not any(it.kind == "command" and it.id == properties.get("id") for it in self._open):
            return
        while True:
            last = self._open.pop()
            is_it = last.kind == "command" and last.id == properties.get("id")
            self._end(last, offset, status if is_it else None)
            if is_it:
                return

    def _end(self, it: _Open, offset: int, status: int | None) -> None:
        if it.index >= 0:
            step = self.all[it.index]
            self.all[it.index] = replace(
                step, end=offset, ended_at=self._time(offset), status=status
            )
