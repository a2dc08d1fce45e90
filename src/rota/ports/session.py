"""A session: a program that a person runs where a script runs, or ran."""

from __future__ import annotations

from typing import Protocol

import msgspec

STDOUT, STDERR = 1, 2


class Tty(msgspec.Struct, frozen=True):
    """The terminal that the person sits at: its size, and what ``$TERM`` is to say."""

    rows: int = 24
    columns: int = 80
    term: str = "xterm"


class Session(Protocol):
    """A program with its input and output. One reader and one writer; the rest from anywhere.

    It does not outlive this process for long: its terminal or its pipes are gone with it.
    """

    async def read(self) -> tuple[int, bytes] | None:
        """Return what it printed next, and to which of :data:`STDOUT` and :data:`STDERR`.

        ``None`` once the program has ended and all that it printed was read; what it left running
        is not waited for. On a terminal all is standard output. Who does not read holds it up.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Give it input; return once it was taken. What nobody reads any more is dropped."""
        ...

    async def close_input(self) -> None:
        """Say that there is no more input; on a terminal, as Ctrl-D does. Safe to call twice."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Say how large the terminal is now; nothing without one."""
        ...

    @property
    def code(self) -> int | None:
        """Its exit code as a shell would say it; ``None`` while it runs."""
        ...

    async def end(self) -> None:
        """Hang up, then kill it and all that it left running. Safe to call twice, and at its end."""
        ...
