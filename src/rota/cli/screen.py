"""Standard output and error of a command: data on the one, everything else on the other.

A command prints on its screen and nowhere else, so that it may run in a shell, in the REPL, or in
a thread of the process that speaks on chat networks.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TextIO

from rota.cli.render import PLAIN, Look, clean, paint
from rota.client.answer import Answer, ClosedError
from rota.errors import InputError, RotaError

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Screen:
    """Where a command prints; ``out`` and ``err`` say what each is shown on.

    Args:
        out: What ``stdout`` is shown on.
        err: What ``stderr`` is shown on.
        stdout: Text streams; those of the process by default. Bytes go to a stream's ``buffer``
            if it has one, else they are decoded as UTF-8.
        stderr: The same.
        has_files: Whether the caller has files here, and a standard input; nobody in a room has.
    """

    def __init__(
        self,
        out: Look,
        err: Look,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        has_files: bool = True,
    ) -> None:
        self.out = out
        self.err = err
        self.has_files = has_files
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2)]
        self._on_close: list[Callable[[], None]] = []
        self._is_closed = False

    # -- printing -------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """Print one line of data."""
        self._write(text + "\n")

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines of data."""
        for line in lines:
            self._write(line + "\n")

    def note(self, text: str) -> None:
        """Say something that is not data."""
        self._stdout.flush()
        self.text(text + "\n", on_error=True)

    def error(self, error: RotaError) -> None:
        """Say what went wrong, and what to do next."""
        self.note(error_text(error, self.err))

    def json(self, answer: Answer) -> None:
        """Print what REST gave, as it gave it."""
        self.raw(answer.body if answer.body.endswith(b"\n") else answer.body + b"\n")

    def raw(self, data: bytes, *, on_error: bool = False) -> None:
        """Print bytes, at once."""
        stream = self._stderr if on_error else self._stdout
        buffer = getattr(stream, "buffer", None)
        if buffer is None:
            self.text(self._decoders[on_error].decode(data), on_error=on_error)
            return
        self._check_open()
        stream.flush()
        buffer.write(data)
        buffer.flush()

    def text(self, text: str, *, on_error: bool = False) -> None:
        """Print text that brings its own line ends, at once."""
        self._write(text, on_error=on_error)
        (self._stderr if on_error else self._stdout).flush()

    def _write(self, text: str, *, on_error: bool = False) -> None:
        self._check_open()
        (self._stderr if on_error else self._stdout).write(text)

    # -- what it is -----------------------------------------------------------------------------

    def at(self, answer: Answer) -> Look:
        """Return what standard output is shown on, at the time of an answer."""
        return self.out._replace(now=answered_at(answer.headers))

    def colour(self, when: str) -> None:
        """Have colours ``always`` or ``never``; ``auto`` leaves them as they are."""
        if when != "auto":
            self.out = self.out._replace(color=when == "always")
            self.err = self.err._replace(color=when == "always")

    def input(self) -> TextIO:
        """Return what the caller gives to be read.

        Raises:
            InputError: nobody gives anything here.
        """
        if not self.has_files:
            raise InputError(
                "there is nothing to read here: a room has no standard input",
                hint="write it on the line, or use a shell",
            )
        return sys.stdin

    # -- its end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End the command that prints here, soon; may be called from any thread, and twice.

        Whatever it asks or follows ends, and what it would print is an error, ``ClosedError``.
        """
        self._is_closed = True
        for end in self._on_close:
            end()

    def on_close(self, end: Callable[[], None]) -> None:
        """Have ``end`` called by :meth:`close`; at once if that was before."""
        self._on_close.append(end)
        if self._is_closed:
            end()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("ended")


def screen_from(color: str, env: Mapping[str, str] = os.environ) -> Screen:
    """Return the screen that this process has; ``color`` is ``auto``, ``always`` or ``never``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return Screen(look_at(sys.stdout, color, env), look_at(sys.stderr, color, env))


def look_at(stream: TextIO, color: str, env: Mapping[str, str]) -> Look:
    """Return what a stream is shown on. ``--color`` is stronger than ``NO_COLOR``, that than auto."""
    is_terminal = stream.isatty()
    if color == "auto":
        has_color = is_terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
    else:
        has_color = color == "always"
    return Look(
        color=has_color,
        unicode=is_unicode(stream, env),
        width=_width(stream, env) if is_terminal else None,
    )


def is_unicode(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether signs beyond ASCII will be seen as such: both Python and the locale say UTF-8."""
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    wanted = "utf8" in locale.lower().replace("-", "")
    return wanted and (getattr(stream, "encoding", None) or "").lower() in ("utf-8", "utf8")


def answered_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when an agent answered, by its own clock: ages are right though ours be wrong."""
    date = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        # As HTTP has it: Sun, 06 Nov 1994 08:49:37 GMT. `email.utils` is 6 ms of a command's 40.
        _, day, month, year, time, _ = date.split(" ")
        return datetime.fromisoformat(f"{year}-{_MONTHS.index(month) + 1:02}-{day}T{time}+00:00")
    except ValueError:
        return None


def error_text(error: RotaError, look: Look = PLAIN) -> str:
    """Return an error, all its problems, and what to do next, without a line end."""
    lines = [f"{paint(look, 'red', 'error')}: {clean(error.message)}"]
    problems: Any = getattr(error, "problems", ())
    lines += [clean(problem) for problem in problems]
    if error.hint:
        lines += ["", f"{paint(look, 'cyan', 'hint')}: {clean(error.hint)}"]
    return "\n".join(lines)


def no_files(what: str) -> InputError:
    """Return the error of a command that is about files, where the caller has none."""
    return InputError(
        f"{what} is about files of yours, and a room has none", hint=f"from a shell: rota {what}"
    )


def _width(stream: TextIO, env: Mapping[str, str]) -> int:
    if env.get("COLUMNS", "").isdigit() and int(env["COLUMNS"]) > 0:
        return int(env["COLUMNS"])
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
