"""Carries out lines of the REPL: commands of the table, some of them piped into the shell.

One client serves all of them, so what it has learnt of the cluster (where it is, which agents there
are, what has happened) holds from one command to the next, and it goes on at another agent when its
own is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

from rota.cli.line import LineError, Step, steps
from rota.cli.mouth import perform
from rota.cli.render import PLAIN
from rota.cli.screen import Screen, screen_from
from rota.cli.status import BROKEN_PIPE, INTERRUPTED, exit_status
from rota.cli.table import Mouth
from rota.client.client import Client
from rota.errors import InputError, RotaError

LEAVING = ("exit", "quit")
#: What writing to the other side of a pipe is answered with once it has read enough: the second
#: where it left something unread.
GONE = (BrokenPipeError, ConnectionResetError)


class Session:
    """Lines, one after another. ``is_over`` once one of them said so."""

    def __init__(self, client: Client, color: str = "auto") -> None:
        self.client = client
        self.is_over = False
        self._color = color

    def run(self, text: str) -> int:
        """Carry out a line and return its status; its first command that fails ends it."""
        try:
            found = steps(text)
        except LineError as error:
            self.screen().error(error)
            return exit_status(error)
        for step in found:
            status = self.step(step)
            if status or self.is_over:
                return status
        return 0

    def step(self, step: Step) -> int:
        """Carry out one command and return its status. Errors are printed."""
        if not step.words:
            return _shell(step.tail)
        words = list(step.words)
        if words[0] in LEAVING and not step.tail:
            return self._leave(words)
        if words[0] == "?":
            words[0] = "help"
        if step.tail:
            return self._piped(words, step.tail)
        return self._performed(words, self.screen())

    def screen(self) -> Screen:
        """Return the terminal, or whatever standard output and error are, as it is now."""
        return screen_from(self._color)

    def _leave(self, words: list[str]) -> int:
        if len(words) > 1:
            error = InputError(f"{words[0]} takes no arguments")
            self.screen().error(error)
            return exit_status(error)
        self.is_over = True
        return 0

    def _performed(self, words: list[str], screen: Screen) -> int:
        try:
            return perform(words, screen, mouth=Mouth.REPL, client=self.client)
        except RotaError as error:
            with contextlib.suppress(*GONE):
                screen.error(error)
            return exit_status(error)
        except GONE:
            return BROKEN_PIPE
        except KeyboardInterrupt:
            return INTERRUPTED

    def _piped(self, words: list[str], tail: str) -> int:
        """Run a command into what the shell does with its output.

        The status is the other side's, as in a shell; or the command's where the other side is
        content and the command is not. If a file cannot be written, the command does not run.
        """
        sys.stdout.flush()
        ours, theirs = socket.socketpair()
        with ours:
            into = _begun(tail, theirs)
            theirs.close()
            status = 0
            try:
                if tail.startswith("|") or ours.recv(1):
                    status = self._poured(words, ours)
            finally:
                # Whoever reads it sees the end now; a pager is waited for.
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_WR)
                ended = _waited(into)
        if status == BROKEN_PIPE:
            status = 0  # it had enough, such as head: what it makes of that counts
        return ended or status

    def _poured(self, words: list[str], into: socket.socket) -> int:
        stream = os.fdopen(os.dup(into.fileno()), "w", encoding="utf-8", errors="backslashreplace")
        try:
            return self._performed(words, Screen(PLAIN, self.screen().err, stdout=stream))
        finally:
            with contextlib.suppress(*GONE):
                stream.close()


def _begun(tail: str, given: socket.socket) -> subprocess.Popen[bytes]:
    """Start the other side. One that writes files says a line first, once they are open."""
    command = tail[1:] if tail.startswith("|") else f"{{ echo >&0; exec cat; }} {tail}"
    return subprocess.Popen(["sh", "-c", command], stdin=given.fileno())


def _shell(command: str) -> int:
    """Run a command of the shell's; without one, a shell."""
    sys.stdout.flush()
    words = ["sh", "-c", command] if command else [os.environ.get("SHELL") or "sh"]
    try:
        return _waited(subprocess.Popen(words))
    except OSError as error:
        print(f"error: cannot run {words[0]}: {error.strerror}", file=sys.stderr)
        return 127


def _waited(process: subprocess.Popen[bytes]) -> int:
    """Return how it ended. Ctrl-C is its own: a pager goes on, others end by it."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            status = process.wait()
            return 128 - status if status < 0 else status
