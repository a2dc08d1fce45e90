"""From a line of text to commands: quotes and backslashes as in ``sh``, and nothing expanded.

:func:`words` reads one command, as somebody writes it in a room. :func:`steps` reads what may stand
in the REPL and in its scripts: commands between ``;`` and line ends, comments from a ``#`` that
begins a word (so ``web#7`` is one), and for the shell what comes after ``|``, ``>`` or a leading
``!``. There are no variables, globs or conditions: who wants these has a shell, and ``rota`` in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rota.cli.render import cells, clean
from rota.errors import InputError

#: Before and behind the place of a fault so much of a long line is shown.
SHOWN = 40
#: What ends a command's words in the REPL; the weak ones only where a word would begin.
_WEAK_ENDS = "#<&"
_STRONG_ENDS = ";\n|>"
_ENDS = _STRONG_ENDS + _WEAK_ENDS
#: What a backslash takes the meaning of inside double quotes; before anything else it stands for itself.
_ESCAPABLE = '\\"$`\n'


class LineError(InputError):
    """A line cannot be read; ``place`` is its character in the text, from 0.

    ``is_open`` says that more text might mend it.
    """

    code = "input.line"

    def __init__(
        self, message: str, text: str, place: int, *, hint: str, is_open: bool = False
    ) -> None:
        start = text.rfind("\n", 0, place) + 1
        end = text.find("\n", place)
        line, column = text[start : end if end >= 0 else None], place - start
        self.line = text.count("\n", 0, place) + 1
        self.place = place
        self.is_open = is_open
        super().__init__(
            f"column {column + 1}: {message}", problems=_pointed(line, column), hint=hint
        )


class Step(NamedTuple):
    """One command of a line. ``tail`` is for the shell: a pipe's other side, or all of it."""

    words: tuple[str, ...] = ()
    tail: str = ""  # begins with | or > where there are words
    line: int = 1


class Typing(NamedTuple):
    """A word that is being typed: what stands before it, it so far, and where it starts."""

    words: tuple[str, ...]
    last: str
    start: int


def words(text: str) -> list[str]:
    """Return the words of one command.

    Raises:
        LineError: a quote is not closed, or a backslash stands at the end.
    """
    reader = _Reader(text)
    return list(reader.words(""))


def steps(text: str) -> list[Step]:
    """Return the commands of a line or a script, in order.

    Raises:
        LineError: it cannot be read; nothing of it is to be run.
    """
    reader = _Reader(text)
    return list(reader.steps())


def typing_at_end(text: str) -> Typing | None:
    """Return the word at the end of a text; ``None`` where that is the shell's, or a comment."""
    return _Reader(text).typing()


class _Reader:
    """Reads a text from its beginning to its end, once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> Iterator[Step]:
        while self._at < len(self._text):
            line = self._text.count("\n", 0, self._at) + 1
            self._skip(" \t\r")
            if self._next == "!":
                start = self._at + 1
                self._to_line_end()
                yield Step(tail=self._text[start : self._at].strip(), line=line)
                continue
            found = tuple(self.words(_ENDS))
            tail = self._shell() if self._next in ("|", ">") else ""
            self._check(found, tail)
            if self._next in ("<", "&"):
                self._refuse()
            if self._next == "#":
                self._to_line_end()
            self._at += 1  # what ended it
            if found:
                yield Step(found, tail, line)

    def words(self, ends: str) -> Iterator[str]:
        """Yield words up to the text's end, or to one of ``ends`` that is not quoted.

        The weak ones end only where a word would begin.
        """
        while True:
            self._skip_space(ends)
            if not self._next or self._next in ends:
                return
            yield self._word("".join(sign for sign in ends if sign not in _WEAK_ENDS))

    def typing(self) -> Typing | None:
        """Return the word at the end of the text, perhaps an empty one."""
        while True:
            self._skip(" \t\r")
            found: list[str] = []
            while True:
                self._skip_space(_ENDS)
                start = self._at
                if not self._next:
                    return Typing(tuple(found), "", start)
                if self._next in _ENDS or (self._next == "!" and not found):
                    break
                try:
                    word = self._word(_STRONG_ENDS)
                except LineError:  # a quote that is open yet
                    word = _bare(self._text[start:])
                    return Typing(tuple(found), word, start)
                if not self._next:
                    return Typing(tuple(found), word, start)
                found.append(word)
            if not self._passed():
                return None
            self._at += 1

    def _passed(self) -> bool:
        """Pass what is no word of a command; whether something stands behind it."""
        if self._next in ("!", "#"):
            self._to_line_end()
        elif self._next in ("|", ">"):
            try:
                self._shell()
            except LineError:
                return False
        return bool(self._next)

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    @property
    def _is_space(self) -> bool:
        """Whether a word cannot begin here: a line that goes on is one."""
        return self._next.isspace() or self._text.startswith("\\\n", self._at)

    def _skip_space(self, ends: str) -> None:
        while self._is_space and self._next not in ends:
            self._at += 1 if self._next.isspace() else 2

    def _skip(self, chars: str) -> None:
        while self._next and self._next in chars:
            self._at += 1

    def _to_line_end(self) -> None:
        while self._next and self._next != "\n":
            self._at += 1

    def _word(self, ends: str) -> str:
        found = ""
        while self._next and not self._next.isspace() and self._next not in ends:
            found += self._part()
        return found

    def _part(self) -> str:
        """Return a character, or what quotes hold."""
        char, start = self._next, self._at
        self._at += 1
        if char == "\\":
            if not self._next:
                raise LineError(
                    "nothing stands behind this backslash",
                    self._text,
                    start,
                    hint=r"a backslash of its own is \\ or '\'",
                    is_open=True,
                )
            self._at += 1
            return "" if self._text[start + 1] == "\n" else self._text[start + 1]
        if char not in ("'", '"'):
            return char
        return self._quoted(char, start)

    def _quoted(self, quote: str, start: int) -> str:
        found = ""
        while self._next and self._next != quote:
            char = self._next
            self._at += 1
            if char == "\\" and quote == '"' and self._next and self._next in _ESCAPABLE:
                char = "" if self._next == "\n" else self._next
                self._at += 1
            found += char
        if not self._next:
            hint = "close it; a quote of its own is " + ("\"'\" or \\'" if quote == "'" else "'\"'")
            raise LineError(
                f"the quote {quote} is never closed", self._text, start, hint=hint, is_open=True
            )
        self._at += 1
        return found

    def _shell(self) -> str:
        """Return what is the shell's, as it stands there: up to the line's end, or an open ``;``."""
        start = self._at
        while self._next and self._next not in ";\n":
            self._part()
        return self._text[start : self._at].strip()

    def _check(self, found: tuple[str, ...], tail: str) -> None:
        place = self._at - 1 if not tail else self._text.rfind(tail, 0, self._at)
        if tail and not found:
            raise LineError(
                f"no command stands before {tail[0]}",
                self._text,
                place,
                hint="a command of the shell's begins with !, such as !ls | wc -l",
            )
        if tail.startswith("||"):
            raise LineError(
                "there is no || here",
                self._text,
                place,
                hint="a script stops at the first command that fails; conditions are the shell's",
            )
        if tail and not tail.strip("|> \t&"):
            what = "command" if tail[0] == "|" else "file"
            raise LineError(
                f"no {what} stands behind {tail}",
                self._text,
                place,
                hint="such as: builds web | grep failed, or: log web > log.txt",
            )

    def _refuse(self) -> None:
        hints = {
            "&": "there is no && and no & here: put ; between commands; as a word write '&'",
            "<": "a command of the shell's reads files: !rota send web < FILE; as a word write '<'",
        }
        sign = self._next
        raise LineError(f"{sign} has no meaning here", self._text, self._at, hint=hints[sign])


def _pointed(line: str, column: int) -> tuple[str, str]:
    """Return a line, or what is around a column of it, and below it what points there."""
    first = max(0, column - SHOWN)
    before, behind = clean(line[first:column]), clean(line[column : column + SHOWN])
    before = ("..." if first else "") + before
    behind += "..." if column + SHOWN < len(line) else ""
    return f"  {before}{behind}", "  " + " " * cells(before) + "^"


def _bare(text: str) -> str:
    return text.translate({ord(sign): None for sign in "'\"\\"})
