"""Standard output and error of a command: data on the one, everything else on the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TextIO

from rota.cli.render import PLAIN, Look, clean, paint
from rota.client.answer import Answer
from rota.errors import RotaError


class Screen:
    """Where a command prints; ``out`` and ``err`` say what each is shown on."""

    def __init__(self, out: Look, err: Look) -> None:
        self.out = out
        self.err = err

    def line(self, text: str = "") -> None:
        """Print one line of data."""
        print(text)

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines of data."""
        for line in lines:
            print(line)

    def note(self, text: str) -> None:
        """Say something that is not data."""
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)

    def json(self, answer: Answer) -> None:
        """Print what REST gave, as it gave it."""
        self.raw(answer.body if answer.body.endswith(b"\n") else answer.body + b"\n")

    def raw(self, data: bytes, *, on_error: bool = False) -> None:
        """Print bytes, at once."""
        stream = sys.stderr if on_error else sys.stdout
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()

    def text(self, text: str, *, on_error: bool = False) -> None:
        """Print text that brings its own line ends, at once."""
        stream = sys.stderr if on_error else sys.stdout
        stream.write(text)
        stream.flush()

    def at(self, answer: Answer) -> Look:
        """Return what standard output is shown on, at the time of an answer."""
        return self.out._replace(now=answered_at(answer.headers))


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
    from email.utils import parsedate_to_datetime

    date = next((value for name, value in headers.items() if name.lower() == "date"), None)
    try:
        return parsedate_to_datetime(date) if date else None
    except ValueError:
        return None


def print_error(error: RotaError, look: Look = PLAIN) -> None:
    """Print an error, all its problems, and what to do next."""
    lines = [f"{paint(look, 'red', 'error')}: {clean(error.message)}"]
    problems: Any = getattr(error, "problems", ())
    lines += [clean(problem) for problem in problems]
    if error.hint:
        lines += ["", f"{paint(look, 'cyan', 'hint')}: {clean(error.hint)}"]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _width(stream: TextIO, env: Mapping[str, str]) -> int:
    if env.get("COLUMNS", "").isdigit() and int(env["COLUMNS"]) > 0:
        return int(env["COLUMNS"])
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
