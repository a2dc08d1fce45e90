"""A line while it is typed: its colours, and why it is not taken."""

from __future__ import annotations

import re
from collections.abc import Callable

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.validation import ValidationError, Validator

from rota.cli.line import LineError, steps
from rota.cli.repl.session import LEAVING
from rota.cli.table import COMMANDS, Mouth

#: A word with its quotes, what ends a command, or what is between.
_PIECE = re.compile(
    r"""(?:[^\s;|>'"\\]|\\.|'[^']*'?|"(?:\\.|[^"\\])*"?|\\$)+|[;|>]|\s+""", re.DOTALL
)
_KNOWN = frozenset(it.name for it in COMMANDS if Mouth.REPL in it.mouths and not it.is_hidden) | {
    "rota",
    "help",
    "?",
    *LEAVING,
}


class Colours(Lexer):
    """Commands, options, quotes, comments and what is the shell's, each in its colour."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return what gives the coloured pieces of a line."""
        lines = document.lines

        def line(number: int) -> StyleAndTextTuples:
            return coloured(lines[number]) if number < len(lines) else []

        return line


def coloured(text: str) -> StyleAndTextTuples:
    """Return the pieces of a line with the class of their colour."""
    found: StyleAndTextTuples = []
    is_first, is_shell = True, False
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece.startswith("#") and not is_shell:
            return [*found, ("class:comment", text[match.start() :])]
        if piece.startswith("!") and is_first:
            return [*found, ("class:shell", text[match.start() :])]
        code = ""
        if piece == ";":
            is_first, is_shell = True, False
        elif piece in ("|", ">"):
            is_shell, code = True, "class:shell"
        elif piece.isspace():
            pass
        elif is_shell:
            code = "class:shell"
        elif is_first:
            code = "class:command" if piece in _KNOWN else ""
            is_first = piece == "rota"
        elif piece.startswith("-"):
            code = "class:option"
        elif piece[:1] in "'\"":
            code = "class:quoted"
        found.append((code, piece))
    return found


class Readable(Validator):
    """Refuses a line that cannot be read, with the cursor at the place, so that it can be mended."""

    def validate(self, document: Document) -> None:
        """Take a line or say why not.

        Raises:
            ValidationError: it cannot be read.
        """
        try:
            steps(document.text)
        except LineError as error:
            raise ValidationError(error.place, f"{error.message}; {error.hint}") from error
