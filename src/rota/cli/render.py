"""Text for people: tables, colours, times. Pure: what is known of the terminal is a :class:`Look`.

On a terminal columns are aligned and cut to its width. In a room, where letters have whatever width
they like, each row is a short line with nothing aligned and nothing for what is empty. In a pipe each row is one line, fields two
spaces apart, nothing cut, times as the agent wrote them, an absent field as ``-``: so that
programs may split it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple


class Look(NamedTuple):
    """What the output is shown on. ``width`` is ``None`` in a pipe."""

    color: bool = False
    unicode: bool = True
    width: int | None = None
    now: datetime | None = None  # by the agent's clock, as its answer said
    aligned: bool = True  # whether a column of text is one to the eye

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self.width is not None

    @property
    def is_room(self) -> bool:
        """Whether people read it in a room: few short lines, and no pictures."""
        return not self.aligned


class Cell(NamedTuple):
    """A field of a row: its text, and how it is coloured on a terminal.

    Of several colours, ``parts`` are what the text is made of.
    """

    text: str
    code: str = ""
    right: bool = False
    parts: tuple[tuple[str, str], ...] = ()  # text and colour


PLAIN = Look()
#: What people read in a room: short plain lines, of about what networks take in one message.
ROOM = Look(width=350, aligned=False)
CODES = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}
#: (sign, its ASCII form, colour) of each state and result.
SIGNS = {
    "passed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "timed-out": ("✗", "x", "red"),
    "errored": ("!", "!", "red"),
    "lost": ("?", "?", "red"),
    "cancelled": ("-", "-", "yellow"),
    "running": ("●", "*", "blue"),
    "queued": ("○", ".", "cyan"),
    "held": ("○", ".", "dim"),
}
_UNSAFE = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"


def paint(look: Look, name: str, text: str) -> str:
    """Return ``text`` in a colour, or as it is where there are none."""
    return f"\x1b[{CODES[name]}m{text}\x1b[0m" if look.color and name and text else text


def clean(text: object) -> str:
    """Return ``text`` on one line, control characters written out: nobody's text drives a terminal."""
    said = str(text)
    if said.isprintable():
        return said
    return re.sub(_UNSAFE, lambda match: repr(match[0])[1:-1], said)


def cells(text: str) -> int:
    """Return how many columns ``text`` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def cut(look: Look, text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` columns, its end replaced by dots if it is longer."""
    if cells(text) <= width:
        return text
    dots = "…" if look.unicode else "..."
    if width <= len(dots):
        return dots[:width]
    while text and cells(text) > width - len(dots):
        text = text[:-1]
    return text + dots


def table(rows: Sequence[Sequence[Cell]], look: Look, shrink: Sequence[int] = ()) -> list[str]:
    """Return a line for each row.

    ``shrink`` names the columns that are cut where a row would not fit, most willing first; what
    is still too long is cut at its end.
    """
    rows = [[cell._replace(text=clean(cell.text)) for cell in row] for row in rows]
    if look.width is None:
        return ["  ".join(cell.text or "-" for cell in row) for row in rows]
    if not look.aligned:
        told = ("  ".join(cell.text for cell in row if cell.text).strip() for row in rows)
        return [cut(look, line, look.width) for line in told]
    if not rows:
        return []
    widths = [max(cells(row[n].text) for row in rows) for n in range(len(rows[0]))]
    _fit(widths, look.width, shrink)
    return [_row(row, widths, look) for row in rows]


def duration(seconds: float) -> str:
    """Return a span in at most six characters: ``0.4s``, ``12s``, ``2m03s``, ``1h02m``, ``3d04h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def ago(look: Look, at: str | None) -> str:
    """Return how long ago a time was, for a person; the time itself in a pipe."""
    if not at or not look.is_terminal or look.now is None:
        return at or ""
    seconds = (look.now - datetime.fromisoformat(at)).total_seconds()
    if seconds < 5:
        return "just now"
    for unit, size, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400)):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    days = int(seconds // 86400)
    return f"{days} d ago" if days < 60 else at[:10]


def size(count: int) -> str:
    """Return a number of bytes: ``12 B``, ``3.4 KiB``, ``1.0 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError(count)


def ref(build: dict[str, Any]) -> str:
    """Return the name people use for a build: ``web/test#7``."""
    return f"{build['job']}#{build['number']}"


def word(build: dict[str, Any]) -> str:
    """Return a build's result, or its state while it has none."""
    return str(build.get("result") or build["state"])


def sign(look: Look, what: str) -> str:
    """Return a state or result with its sign, ``✓ passed``; the word alone in a pipe or a room."""
    if not look.is_terminal or look.is_room or what not in SIGNS:
        return what
    return f"{SIGNS[what][0 if look.unicode else 1]} {what}"


def colour_of(what: str) -> str:
    """Return the colour of a state or result."""
    return SIGNS[what][2] if what in SIGNS else ""


def ran(look: Look, build: dict[str, Any]) -> str:
    """Return how long a build's attempt ran, or runs by now; empty if it did not."""
    start, end = build.get("started_at"), build.get("finished_at")
    if not start:
        return ""
    until = datetime.fromisoformat(end) if end else look.now
    if until is None:
        return ""
    return duration((until - datetime.fromisoformat(start)).total_seconds())


def asks(build: dict[str, Any]) -> str:
    """Return what a build waits for that only a person can give; empty if it waits for none."""
    if build["state"] == "held" and "approval" in (build.get("held") or ()):
        return "to approve"
    attempt = build["attempt"]
    is_open = build["state"] == "running" and any(
        it["attempt"] == attempt and it.get("answer") is None and not it.get("timed_out")
        for it in build.get("questions") or ()
    )
    return "asks" if is_open else ""


def asker(build: dict[str, Any]) -> str:
    """Return who or what asked for a build: ``by anna``, ``push to main at 1a2b3c4 by anna``."""
    trigger = build.get("trigger") or {}
    by, data = trigger.get("by") or "", trigger.get("data") or {}
    commit = f" at {data['commit'][:7]}" if data.get("commit") else ""
    said = f" by {by}" if by else ""
    match trigger.get("kind"):
        case "push":
            return f"push to {data.get('branch')}{commit}{said}"
        case "tag":
            return f"tag {data.get('tag')}{commit}{said}"
        case "pull-request":
            return f"pull request {data.get('number')} into {data.get('base')}{commit}{said}"
        case "after":
            return f"after {data.get('build')} {data.get('result')}"
        case "event":
            about = f" of {data['build']}" if data.get("build") else ""
            return f"event {data.get('type')}{about}{said}"
        case "hook":
            return " ".join(("webhook", data.get("hook", ""), data.get("event", ""))).strip()
        case "chat":
            where = f" in {data['channel']}" if data.get("channel") else ""
            return f"{by} said {data.get('text', '')!r}{where}"
        case "need" if data.get("needed_by"):
            return f"needed by {data['needed_by']}"
        case "matrix":
            return f"a cell, {cell_text(build.get('cell') or {})}"
        case _ if trigger.get("source"):
            return f"from {trigger['source']}"
        case _:
            return said.strip()


def cell_text(cell: Mapping[str, Any]) -> str:
    """Return what tells a cell from the others: ``os=linux python=3.12``."""
    return " ".join(f"{key}={_plain(value)}" for key, value in cell.items())


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def builds_table(
    builds: Sequence[dict[str, Any]], look: Look, stems: Sequence[str] = ()
) -> list[str]:
    """Return a line for each build; ``stems`` are what to draw before their names."""
    rows = []
    for stem, build in zip(stems or [""] * len(builds), builds, strict=True):
        what = word(build)
        when = build.get("finished_at") or build.get("started_at") or build.get("requested_at")
        rows.append(
            (
                Cell(stem + ref(build), "bold"),
                Cell(sign(look, what) + _remark(look, build), colour_of(what)),
                Cell(ran(look, build), right=True),
                Cell(ago(look, when), "dim"),
                Cell(asker(build), "dim"),
            )
        )
    return table(rows, look, shrink=(4, 0))


def _remark(look: Look, build: dict[str, Any]) -> str:
    if not look.is_terminal:
        return ""
    waits = asks(build)
    tally = build.get("tests")
    told = ""
    if tally:
        bad = tally.get("failed", 0) + tally.get("errored", 0)
        total = bad + tally.get("passed", 0) + tally.get("skipped", 0)
        told = f"{bad} of {total} tests" if bad else f"{total} test{'' if total == 1 else 's'}"
    return "".join(f", {text}" for text in (waits, told) if text)


def jobs_table(jobs: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Return a line for each job."""
    return table(
        [_job_row(job, look) for job in jobs], look, shrink=(4, 0) if look.is_terminal else ()
    )


def facts(rows: Sequence[tuple[str, str]], look: Look) -> list[str]:
    """Return lines of a name and what is to be said of it; empty ones are left out."""
    rows = [(name, text) for name, text in rows if text]
    if not look.aligned:
        return [f"{name}: {text}" for name, text in rows]
    width = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, text in rows:
        first, *more = _wrapped(text, (look.width or 0) - width - 2)
        lines.append(f"{paint(look, 'dim', name.ljust(width))}  {first}")
        lines += [" " * (width + 2) + line for line in more]
    return lines


def result_line(build: dict[str, Any], look: Look) -> str:
    """Return one line on where a build is: ``web/test#7 passed in 2m03s``."""
    what = word(build)
    line = f"{ref(build)} {paint(look, colour_of(what), sign(look, what))}"
    if build["state"] == "finished" and build.get("started_at"):
        line += f" in {ran(look, build)}"
    if what == "failed" and build.get("reason") == "script":
        line += f", exit code {build.get('exit_code')}"
        if build.get("step"):
            line += f", in step {clean(build['step'])}"
    elif build.get("reason") not in (None, "script", "cancelled"):
        line += f" ({build['reason']})"
    return line + (f": {clean(build['message'])}" if build.get("message") else "")


def tally_text(tally: dict[str, Any], look: Look) -> str:
    """Return the counts of a tally in words, what is bad in red."""
    bad = tally.get("failed", 0) + tally.get("errored", 0)
    total = bad + tally.get("passed", 0) + tally.get("skipped", 0)
    words = [f"{total} test{'' if total == 1 else 's'}"]
    if bad:
        words.append(paint(look, "red", f"{bad} failed"))
    words += [
        paint(look, "yellow", f"{tally[key]} {key}")
        for key in ("skipped", "flaky")
        if tally.get(key)
    ]
    text = ", ".join(words)
    if tally.get("duration_s", 0) >= 0.05:
        text += f", in {duration(tally['duration_s'])}"
    return text + (", and more that could not be read" if tally.get("partial") else "")


def _wrapped(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of ``width``; as it is in a pipe, and where it has colours."""
    if width < 20 or cells(text) <= width or "\x1b" in text:
        return [text]
    import textwrap

    # A label such as can-limit-cpus, or a path, is one word.
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [text]


def _job_row(job: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    last = job.get("last") or {}
    what = str(last.get("result") or last.get("state") or "")
    if job.get("paused") is not None:
        is_drawn = look.is_terminal and not look.is_room
        state = Cell("= paused" if is_drawn else "paused", "yellow")
    else:
        told = "never ran" if look.is_room and not what else sign(look, what)
        state = Cell(told, colour_of(what))
    number = f"#{last['number']}" if last else ""
    when = ago(look, last.get("finished_at"))
    signs = [SIGNS[it] for it in job.get("recent") or () if it in SIGNS] if look.is_terminal else []
    parts = tuple((it[0 if look.unicode else 1], it[2]) for it in signs)
    row = (
        Cell(job["name"], "bold"),
        state,
        Cell(f"{number} {when}".strip() if look.is_terminal else number, "dim"),
        Cell(job.get("description") or ""),
    )
    # In a pipe the columns are those that programs know.
    marks = Cell("".join(sign for sign, _ in parts), right=True, parts=parts)
    return (*row[:2], marks, *row[2:]) if look.is_terminal else row


def _fit(widths: list[int], width: int, shrink: Sequence[int]) -> None:
    for column in shrink:
        over = sum(widths) + 2 * (len(widths) - 1) - width
        if over > 0:
            widths[column] = max(widths[column] - over, min(widths[column], 8))


def _row(row: Sequence[Cell], widths: Sequence[int], look: Look) -> str:
    line, used = "", 0
    for cell, width in zip(row, widths, strict=True):
        if width == 0:
            continue  # a column that is empty in all rows
        gap = 2 if used else 0
        room = min(width, (look.width or 0) - used - gap)
        if room <= 0:
            break
        text = cut(look, cell.text, room)
        pad = " " * (room - cells(text))
        is_whole = bool(cell.parts) and text == cell.text
        parts = cell.parts if is_whole else ((text, cell.code),)
        painted = "".join(paint(look, code, part) for part, code in parts)
        line += " " * gap + (pad + painted if cell.right else painted + pad)
        used += gap + room
    return line.rstrip()
