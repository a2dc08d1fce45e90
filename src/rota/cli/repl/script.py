"""Scripts of commands: a file, standard input, or a word. The first command that fails ends one.

A file, or a word, is read whole before anything of it runs: a fault on its last line changes
nothing. What comes through a pipe runs line by line, since there may be somebody at its other end who
waits for answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rota.cli.line import LineError, Step, steps
from rota.cli.repl.session import Session
from rota.cli.status import INTERRUPTED, exit_status
from rota.errors import InputError

#: No person writes longer ones; the program that does has something else in mind.
MAX_FILE = 1 << 20


class Script:
    """Commands with the name of where they are from."""

    def __init__(self, session: Session, name: str, *, keep_going: bool) -> None:
        self._session, self._name, self._keep_going = session, name, keep_going

    def run_text(self, text: str) -> int:
        """Carry out a whole text; return the status of the first command that failed, or 0.

        Raises:
            InputError: it cannot be read; nothing of it was carried out.
        """
        try:
            return self._run((step, step.line) for step in steps(text))
        except LineError as error:
            raise self._placed(error, 0) from error

    def run_lines(self, stream: TextIO) -> int:
        """Carry out lines as they come; return as :meth:`run_text` does."""
        return self._run(self._steps(stream))

    def _steps(self, stream: TextIO) -> Iterator[tuple[Step, int]]:
        held, first, number = "", 1, 0
        for line in stream:
            number += 1
            first = first if held else number
            held += line
            try:
                found = steps(held)
            except LineError as error:
                if error.is_open:
                    continue  # a quote that goes on in the next line
                raise self._placed(error, first - 1) from error
            held = ""
            yield from ((step, first + step.line - 1) for step in found)
        if held:
            try:
                steps(held)
            except LineError as error:
                raise self._placed(error, first - 1) from error

    def _run(self, found: Iterator[tuple[Step, int]]) -> int:
        failed = 0
        for step, line in found:
            status = self._session.step(step)
            if self._session.is_over:
                break
            if status:
                failed = failed or status
                self._session.screen().note(f"note: {self._name}:{line}: status {status}")
                if status == INTERRUPTED or not self._keep_going:
                    break
        return failed

    def _placed(self, error: LineError, before: int) -> InputError:
        message = f"{self._name}:{before + error.line}: {error.message}"
        return InputError(message, problems=error.problems, hint=error.hint)


def run_file(session: Session, path: str, *, keep_going: bool) -> int:
    """Carry out a file of commands.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: {error}") from error
    if len(data) > MAX_FILE:
        raise InputError(f"{path} is longer than {MAX_FILE} bytes", hint="is it a script for rota?")
    return Script(session, path, keep_going=keep_going).run_text(text)


def run_input(session: Session, *, keep_going: bool) -> int:
    """Carry out standard input, and leave none of it to the commands: it is not for them."""
    script = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8", errors="surrogateescape")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    with script:
        try:
            return Script(session, "<stdin>", keep_going=keep_going).run_lines(script)
        except InputError as error:
            session.screen().error(error)
            return exit_status(error)
