"""A shell in a build's workspace: this terminal, or these pipes, and one connection."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import termios
import tty
from argparse import Namespace
from collections.abc import Iterator

from rota.cli.commands.connected import connected
from rota.cli.render import clean
from rota.cli.screen import Screen
from rota.client.shell import Ended, Entered, Heard, Output, Shell
from rota.errors import InputError

PIECE = 64 * 1024
_LEFT = 255


def shell(args: Namespace, screen: Screen) -> int:
    """Run a program or a shell in a build's workspace; return its exit status."""
    if args.tty and args.no_tty:
        raise InputError("--tty and --no-tty do not go together", hint="give one of them")
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    wants_tty = args.tty or (is_terminal and not args.no_tty)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    with connected(args).shell(args.build, attempt=args.attempt) as opened:
        rows, columns = _size()
        term = os.environ.get("TERM") or "xterm"
        opened.begin(command, tty=wants_tty, rows=rows, columns=columns, term=term)
        talk = _Talk(opened, screen, is_quiet=bool(command), escapes=wants_tty and is_terminal)
        with _raw() if wants_tty and is_terminal else contextlib.nullcontext():
            ended = talk.run(follows_size=wants_tty)
    if ended is None:
        screen.note("\nleft; what ran there is ended")
        return _LEFT
    if ended.why:
        screen.note(f"rota: {ended.why}")
    return ended.code


class _Talk:
    """Passes on what is typed and what is printed."""

    def __init__(self, opened: Shell, screen: Screen, *, is_quiet: bool, escapes: bool) -> None:
        self._shell, self._screen = opened, screen
        self._is_quiet = is_quiet
        self._escape = Escape() if escapes else None
        self._reads = True

    def run(self, *, follows_size: bool) -> Ended | None:
        """Return how it ended; ``None`` if the person left."""
        with selectors.PollSelector() as selector, _woken(follows_size=follows_size) as woken:
            selector.register(woken, selectors.EVENT_READ, "resized")
            while True:
                self._watch(selector)
                for key, _ in selector.select():
                    if key.data == "resized":
                        os.read(woken, 64)
                        self._shell.resize(*_size())
                    elif key.data == "typed" and not self._typed():
                        return None
                for heard in self._shell.hear():
                    if isinstance(heard, Ended):
                        return heard
                    self._show(heard)
                self._shell.flush()

    def _watch(self, selector: selectors.BaseSelector) -> None:
        events = selectors.EVENT_READ
        if self._shell.is_sending:
            events |= selectors.EVENT_WRITE
        _set(selector, self._shell.fileno(), events, "heard")
        reads = self._reads and not self._shell.is_full
        _set(selector, sys.stdin.fileno(), selectors.EVENT_READ if reads else 0, "typed")

    def _typed(self) -> bool:
        """Pass on what was typed; say whether the person stays."""
        data = os.read(sys.stdin.fileno(), PIECE)
        if not data:
            self._reads = False
            self._shell.end_input()
            return True
        if self._escape is None:
            self._shell.type(data)
            return True
        passed, leaves = self._escape.passed(data)
        self._shell.type(passed)
        return not leaves

    def _show(self, heard: Heard) -> None:
        if isinstance(heard, Output):
            _write(2 if heard.stream == 2 else 1, heard.data)
        elif isinstance(heard, Entered):
            self._greet(heard)

    def _greet(self, entered: Entered) -> None:
        if not self._is_quiet and self._escape is not None:
            state = "it runs" if entered.running else "it has ended; this is what it left"
            attempt = f" attempt {entered.attempt}" if entered.attempt > 1 else ""
            text = f"{entered.build}{attempt} on {entered.agent}: {state}"
            self._screen.note(f"{clean(text)}\r")
        if entered.missing:
            names = ", ".join(entered.missing)
            self._screen.note(f"rota: not set here, as secrets of the script: {clean(names)}\r")


class Escape:
    """Finds ``~.`` at the beginning of a line, by which a person leaves a shell that hangs."""

    def __init__(self) -> None:
        self._is_first, self._is_held = True, False

    def passed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what of the typed bytes is passed on, and whether the person leaves.

        ``~~`` at the beginning of a line passes one on.
        """
        out = bytearray()
        for code in data:
            char = bytes((code,))
            if self._is_held:
                self._is_held = False
                if char == b".":
                    return bytes(out), True
                out += b"~" if char == b"~" else b"~" + char
            elif char == b"~" and self._is_first:
                self._is_held = True
                continue
            else:
                out += char
            self._is_first = char in b"\r\n"
        return bytes(out), False


def _set(selector: selectors.BaseSelector, fd: int, events: int, name: str) -> None:
    """Look for these events of a descriptor from now on; 0 is for none."""
    known = selector.get_map().get(fd)
    if known is None and events:
        selector.register(fd, events, name)
    elif known is not None and not events:
        selector.unregister(fd)
    elif known is not None and known.events != events:
        selector.modify(fd, events, name)


def _size() -> tuple[int, int]:
    """Return the terminal's rows and columns; what terminals once had where there is none."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if rows and columns:
                return rows, columns
    return 24, 80


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Let every key through, Ctrl-C too; the terminal is as it was afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _woken(*, follows_size: bool) -> Iterator[int]:
    """Give a descriptor that is readable once the terminal has another size."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.getsignal(signal.SIGWINCH)

    def note(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"x")

    if follows_size:
        signal.signal(signal.SIGWINCH, note)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
