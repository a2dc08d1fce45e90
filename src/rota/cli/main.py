"""The command line: finds the command, runs it, and turns what goes wrong into text and a status.

Nothing is imported before it is needed: a command its own module and the client.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rota import __version__
from rota.cli.status import BROKEN_PIPE, GOOD, INTERRUPTED, exit_status
from rota.errors import RotaError, UnavailableError

if TYPE_CHECKING:
    import argparse

#: What a file says that takes no more of what is printed.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words)
        sys.stdout.flush()
    except RotaError as error:
        return _report(error, words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone, such as `head`: nothing to say, and nothing to flush at exit.
        _drop(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _drop(sys.stdout)
        text = f"what this prints cannot be written: {error.strerror}"
        return _report(UnavailableError(text, hint="print it to where there is room"), words)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return a parser that knows all commands; the reference is made from it."""
    from rota.cli.parser import whole_parser

    return whole_parser()


def _run(words: list[str]) -> int:
    from rota.cli.mouth import leading, perform
    from rota.cli.table import Mouth

    given, rest = leading(words)
    if given.pop("version", None):
        print(f"rota {__version__}")
        return GOOD
    if rest[:1] == ["__complete"]:
        # Before argparse: what is completed may look like an option, and time counts.
        from rota.cli.commands.completion import complete_words

        return complete_words(rest[1:], given)
    from rota.cli.screen import screen_from

    return perform(words, screen_from("auto"), mouth=Mouth.SHELL)


def _report(error: RotaError, words: list[str]) -> int:
    from rota.cli.screen import error_text, look_at

    try:
        sys.stdout.flush()
        look = look_at(sys.stderr, _wanted_color(words), os.environ)
        print(error_text(error, look), file=sys.stderr, flush=True)
    except BrokenPipeError:
        _drop(sys.stderr)
    return exit_status(error)


def _drop(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _wanted_color(words: list[str]) -> str:
    for name, value in zip(words, [*words[1:], ""], strict=True):
        given = value if name == "--color" else name.removeprefix("--color=")
        if name.startswith("--color") and given in ("auto", "always", "never"):
            return given
    return "auto"
