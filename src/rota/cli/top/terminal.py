"""Draws frames with curses, which sends the terminal no more than what is other than before.

The terminal is put back as it was on every way out: curses' own wrapper does it for exceptions and
Ctrl-C, a signal that ends the process is made an exception, and Ctrl-Z is curses' own affair.
"""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import time

from rota.cli.render import Look
from rota.cli.signals import signals_as_exits
from rota.cli.top.feed import Feed, Wish
from rota.cli.top.frame import Frame, Line, frame
from rota.cli.top.view import View
from rota.errors import InputError

#: How often, at least, it is looked whether something is new; a key is seen at once.
LOOK_MS = 200
#: Escape is followed by nothing, or by the rest of a key's sequence, within this.
ESCAPE_MS = 25
_COLOURS = {
    "red": curses.COLOR_RED,
    "green": curses.COLOR_GREEN,
    "yellow": curses.COLOR_YELLOW,
    "blue": curses.COLOR_BLUE,
    "cyan": curses.COLOR_CYAN,
}
_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    "\n": "enter",
    "\r": "enter",
    "\x1b": "escape",
    "\x7f": "backspace",
    "\b": "backspace",
}


def watch(feed: Feed, view: View, look: Look, delay_s: float) -> None:
    """Show what the feed tells until the person ends it.

    Raises:
        SystemExit: a signal ended it; the terminal is as it was.
        InputError: nobody here knows such a terminal.
    """
    locale.setlocale(locale.LC_ALL, "")
    try:
        curses.setupterm()
    except curses.error as error:
        raise InputError(
            f"no terminal called {os.environ.get('TERM', '')!r} is known here",
            hint="another name: TERM=xterm rota top; or one picture: rota top --once",
        ) from error
    with signals_as_exits():
        curses.wrapper(_run, feed, view, look, delay_s)


def _run(window: curses.window, feed: Feed, view: View, look: Look, delay_s: float) -> None:
    with contextlib.suppress(curses.error):
        curses.curs_set(0)
    curses.set_escdelay(ESCAPE_MS)
    attributes = _attributes(look)
    window.timeout(LOOK_MS)
    drawn_at, is_due = 0.0, True
    while not view.is_over:
        height, width = window.getmaxyx()
        feed.wish(Wish(view.match, view.sort, max(5, min(height, 200)), view.log))
        said = feed.said()
        if said:
            view.said, is_due = said, True
        if is_due or time.monotonic() - drawn_at >= delay_s or feed.is_new():
            drawn_at, is_due = time.monotonic(), False
            shown = frame(feed.seen(), view, look, width, height)
            view.choices = shown.choices
            _draw(window, shown, attributes, look)
        key = _key(window)
        if key == "resize":
            is_due = True
        elif key:
            cancel = view.press(key)
            if cancel is not None:
                feed.cancel(cancel)
                view.said = f"cancels {cancel.build}"
            is_due = True


def _attributes(look: Look) -> dict[str, int]:
    found = {"": curses.A_NORMAL, "bold": curses.A_BOLD, "dim": curses.A_DIM}
    if not look.color or not curses.has_colors():
        return found | dict.fromkeys(_COLOURS, curses.A_NORMAL)
    curses.use_default_colors()
    for number, (name, colour) in enumerate(_COLOURS.items(), 1):
        curses.init_pair(number, colour, -1)
        found[name] = curses.color_pair(number)
    return found


def _draw(window: curses.window, shown: Frame, attributes: dict[str, int], look: Look) -> None:
    window.erase()
    for place, line in enumerate(shown.lines):
        more = curses.A_REVERSE if place == shown.selected else 0
        # The last cell of the last line cannot be written, and a window may have become smaller.
        with contextlib.suppress(curses.error):
            _write(window, place, line if look.unicode else _ascii(line), attributes, more)
            if more:
                window.chgat(place, 0, curses.A_REVERSE)
    window.refresh()


def _ascii(line: Line) -> Line:
    """Return a line for a terminal that has no other signs; names and logs may have some."""
    return tuple(
        cell._replace(text=cell.text.encode("ascii", "replace").decode("ascii")) for cell in line
    )


def _write(
    window: curses.window, place: int, line: Line, attributes: dict[str, int], more: int
) -> None:
    window.move(place, 0)
    for cell in line:
        window.addstr(cell.text, attributes.get(cell.code, 0) | more)


def _key(window: curses.window) -> str:
    """Return the next key's name; empty if there is none for a while, ``resize`` for a new size."""
    try:
        key = window.get_wch()
    except curses.error:
        return ""
    if key == curses.KEY_RESIZE:
        curses.update_lines_cols()
        return "resize"
    if key in _KEYS:
        return _KEYS[key]
    return key if isinstance(key, str) and key.isprintable() else ""
