"""The prompt on a terminal: prompt_toolkit's editing, with completion, history and the toolbar.

The prompt is there while a line is typed and gone while a command runs, so that a command has the
terminal as if the shell had started it, Ctrl-C included.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from rota.cli.render import Look
from rota.cli.repl.bar import bar
from rota.cli.repl.history import history_path, is_kept, prepared
from rota.cli.repl.offers import Memory, Offers
from rota.cli.repl.pulse import Pulse
from rota.cli.repl.session import Session
from rota.cli.repl.typed import Colours, Readable
from rota.cli.signals import signals_as_exits
from rota.cli.status import INTERRUPTED

PROMPT = "rota> "
#: So many lines are kept free for what is offered, of a terminal that has 24.
MENU_LINES = 6
_STYLE = {
    "prompt": "bold",
    "command": "ansigreen",
    "option": "ansicyan",
    "quoted": "ansiyellow",
    "shell": "ansimagenta",
    "comment": "ansibrightblack",
    "bottom-toolbar": "noreverse",
    "bar.red": "bold ansired",
    "bar.yellow": "ansiyellow",
    "bar.cyan": "ansicyan",
    "bar.blue": "ansiblue",
    "bar.bold": "bold",
}


def converse(session: Session) -> int:
    """Read lines and carry them out until the person ends it; return 0.

    Raises:
        SystemExit: a signal ended it; the terminal is as it was.
    """

    def changed() -> None:
        prompt.app.invalidate()

    pulse = Pulse(session.client, changed)
    prompt = _prompt(session, pulse)

    def forget() -> None:
        clear_typeahead(prompt.app.input)

    with signals_as_exits(), _keys(forget, KeyboardInterrupt), pulse:
        while not session.is_over:
            # Ctrl-C forgets the line, or ends the command; pressed twice it is no more than that.
            with suppress(KeyboardInterrupt):
                try:
                    pulse.look(seen=True)
                    # As a signal it would break into what sets the prompt up; as a key it is there after.
                    with _keys(forget):
                        text = prompt.prompt(handle_sigint=False)
                except EOFError:
                    break
                finally:
                    pulse.look(seen=False)
                if session.run(text) == INTERRUPTED:
                    print()
                _begin_line(session.screen().out)
    return 0


def _prompt(session: Session, pulse: Pulse) -> PromptSession[str]:
    look = session.screen().out
    memory = Memory(session.client)
    memory.fill()

    def toolbar() -> StyleAndTextTuples:
        look = session.screen().out
        return [(f"class:bar.{code}" if code else "", text) for code, text in bar(pulse.beat, look)]

    return PromptSession(
        [("class:prompt", PROMPT)],
        bottom_toolbar=toolbar,
        color_depth=None if look.color else ColorDepth.DEPTH_1_BIT,
        complete_in_thread=True,
        complete_while_typing=True,
        completer=Offers(memory),
        enable_suspend=True,
        history=_history(session),
        lexer=Colours() if look.color else None,
        reserve_space_for_menu=MENU_LINES,
        style=Style.from_dict(_STYLE) if look.color else None,
        validate_while_typing=False,
        validator=Readable(),
    )


class _File(FileHistory):
    """Keeps in the file what is for it, the rest as long as this runs."""

    def store_string(self, string: str) -> None:
        if is_kept(string):
            try:
                super().store_string(string)
            except OSError:
                return  # a disk that is full is no reason to take no commands


def _history(session: Session) -> History:
    path = history_path(os.environ)
    if prepared(path):
        return _File(str(path))
    session.screen().note(f"note: {path} cannot be written: this session's lines are not kept")
    return InMemoryHistory()


def _begin_line(look: Look) -> None:
    """Begin a line of the terminal's own: what a command printed last may have left one unfinished.

    A sign and as many spaces as the terminal is wide end up in the next line only if something
    stands in this one; there or here, they are taken away again.
    """
    sign = "⏎" if look.unicode else "%"
    width = shutil.get_terminal_size().columns
    sign = f"\x1b[7m{sign}\x1b[0m" if look.color else sign
    sys.stdout.write(f"{sign}{' ' * (width - 1)}\r\x1b[K")
    sys.stdout.flush()


@contextmanager
def _keys(
    forget: Callable[[], None], error: type[KeyboardInterrupt] | None = None
) -> Iterator[None]:
    """Have Ctrl-C forget what was typed ahead, and raise ``error``.

    The terminal forgets what nobody has read yet, before it sends the signal; a line of which the
    prompt had read the first half would stay as half a line, to which the next one is added.
    """

    def heard(_number: int, _frame: FrameType | None) -> None:
        forget()
        if error is not None:
            raise error

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
