"""What stands as code on the pages of docs, and the commands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
#: Pages that another test runs whole, as they would be typed.
RUN = ("docs/tutorial/first-build.md", "docs/pipelines.md", "docs/builders.md", "docs/client.md")
FENCE = re.compile(
    r"^(?P<deep> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=deep)```[ ]*$", re.MULTILINE | re.DOTALL
)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:    [^\n]*\n|\n(?=    ))+", re.MULTILINE)
_MARK = re.compile(r"<!-- not checked: (?P<why>[^\n]+?) -->\s*\Z")
_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\\\n)|(?P<rest>\#[^\n]*)|(?P<here><<-?\s*(?P<quote>['"]?)(?P<end>\w+)(?P=quote))"""
    r"""|(?P<file>\d?(?:[<>]&?|>>)(?:&\d|-)?)|(?P<end_of>[;|&()\n]+)"""
    r"""|(?P<word>(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|\#(?!\A)|[^\s;|&()<>'"\\])+)""",
    re.DOTALL,
)
_BEFORE = {"if", "then", "do", "while", "until", "else", "!", "{", "time", "exec", "sudo", "$"}


class Block(NamedTuple):
    """Something that is set as code. ``info`` is what stands behind the fence, ``indented`` without one."""

    page: str
    line: int
    info: str
    text: str
    unchecked: str = ""  # the reason why nothing can be said about it

    @property
    def language(self) -> str:
        """The first word of what stands behind the fence."""
        return self.info.split()[0] if self.info else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the pages for readers; those under docs/adr tell decisions, and show no commands to type."""
    here = [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md")
    ]
    docs = [it for it in (ROOT / "docs").rglob("*.md") if not {"adr", "reference"} & set(it.parts)]
    return [*here, *sorted(docs)]


def blocks(page: str, text: str) -> list[Block]:
    """Return all blocks of a page, in order."""
    found = []
    for fence in FENCE.finditer(text):
        deep = len(fence["deep"])
        lines = [line[deep:] for line in fence["text"].splitlines(keepends=True)]
        found.append(_block(page, text, fence.start(), fence["info"].strip(), "".join(lines)))
    # What is left keeps its place: fences become empty lines, which begin no indented block.
    left = FENCE.sub(lambda fence: re.sub(r"[^\n]", "-", fence[0]), text)
    for block in _INDENTED.finditer(left):
        lines = [line[4:] for line in block[0].splitlines(keepends=True)]
        found.append(_block(page, text, block.start(), "indented", "".join(lines)))
    return sorted(found, key=lambda block: block.line)


def _block(page: str, text: str, start: int, info: str, code: str) -> Block:
    mark = _MARK.search(text[:start])
    return Block(page, text.count("\n", 0, start) + 1, info, code, mark["why"] if mark else "")


def commands(shell: str) -> Iterator[list[str]]:
    """Yield the words of each command of a text in the shell's language, as they stand there.

    It knows quotes, comments, redirections, here-documents, and what lies between commands.
    What stands within quotes is not looked at.
    """
    at, found, skips, ends = 0, list[str](), False, list[str]()
    while at < len(shell):
        token = _TOKEN.match(shell, at)
        if token is None or (token["rest"] and shell[at - 1 : at].strip(" \t\n;|&(")):
            token = re.compile(
                r"(?P<word>\S)(?P<space>)(?P<rest>)(?P<here>)(?P<file>)(?P<end_of>)"
            ).match(shell, at)
            assert token is not None
        at = token.end()
        if token["here"]:
            ends.append(token["end"])
        elif token["file"]:
            skips = token["file"][-1] not in "0123456789-"
        elif token["end_of"]:
            yield from _command(found)
            found = []
            if "\n" in token["end_of"]:
                for end in ends:
                    body = re.compile(rf"^\s*{end}$\n?", re.MULTILINE).search(shell, at)
                    at = body.end() if body else len(shell)
                ends = []
        elif token["word"]:
            if not skips:
                found.append(_plain(token["word"]))
            skips = False
    yield from _command(found)


def _plain(word: str) -> str:
    try:
        return "".join(shlex.split(word))
    except ValueError:  # a quote that is open: an apostrophe in what is printed
        return word


def _command(words: list[str]) -> Iterator[list[str]]:
    rest = list(words)
    while rest and (rest[0] in _BEFORE or re.match(r"[A-Za-z_]\w*=", rest[0])):
        del rest[0]
    if rest:
        yield rest
