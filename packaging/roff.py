"""Text as man(7) has it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

#: With what escapes add it stays below 80, which mandoc asks for.
WIDTH = 64


def escaped(text: str) -> str:
    """Return text that roff prints as it is, in the middle of a line."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")


def prose(text: str) -> str:
    """Return a paragraph: lines of a width to read, none of which is taken for a request."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.split("\n"))
    short = (part for line in lines for part in textwrap.wrap(line, WIDTH, break_on_hyphens=False))
    return "\n".join(_guarded(escaped(line)) for line in short)


def bold(text: str) -> str:
    """Return what is typed as it stands here."""
    return f"\\fB{escaped(text)}\\fR"


def slanted(text: str) -> str:
    """Return what stands for something else."""
    return f"\\fI{escaped(text)}\\fR"


def tagged(tag: str, *lines: str) -> list[str]:
    """Return a hanging paragraph: its tag, which is roff already, and its lines."""
    return [".TP", _guarded(tag), *lines]


def verbatim(lines: Iterable[str]) -> list[str]:
    """Return lines that stay as they are: examples."""
    return [".PP", ".RS 4", ".nf", *(_guarded(escaped(line)) for line in lines), ".fi", ".RE"]


def title(name: str, section: int, date: str, source: str) -> list[str]:
    """Return a page's first line. ``date`` is YYYY-MM-DD."""
    return [f'.TH {escaped(name).upper()} {section} {date} "{source}" "rota manual"']


def _guarded(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line
