"""Texts as IRC takes them: short lines, and no sign in them that is a command to a client or a bot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rota.ports.networks import Saying

_COLOURS = {"good": "\x0303", "bad": "\x0304"}
_PLAIN = "\x0f"
#: What mIRC and others take for bold, colours and the like.
_FORMATS = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|\x04(?:[0-9A-Fa-f]{6})?|[\x00-\x1f\x7f-\x9f]")
#: Signs of control are seen and do nothing; what turns the writing around is not even seen.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), 0x2028, 0x2029], 0xFFFD),
    **dict.fromkeys(
        [0x200E, 0x200F, 0x61C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD
    ),
}
#: Bots of others, services among them, take a line that begins so for a command to them.
_ADDRESSES_BOTS = re.compile(r"[!-/:-@\[-`{-~]")
MORE = "… "
CODE = "| "


def plain(text: str) -> str:
    """Return what somebody wrote without colours and other formats."""
    return _FORMATS.sub("", text)


def harmless(text: str) -> str:
    """Return one line of content as it is shown: tabs as spaces, signs of control as pictures."""
    return text.expandtabs(4).translate(_PICTURES).rstrip()


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if text else []


def lines_of(saying: Saying, *, room: int, most: int, has_colours: bool) -> list[str]:
    """Return the lines of a message.

    Args:
        saying: What is said. Of its code the last lines are kept, and what it links to is.
        room: How many bytes one line may have.
        most: How many lines there may be.
        has_colours: Whether colours may be sent.
    """
    words = [line for it in _lines(saying.text) for line in _text_lines(it, room)]
    code = [line for it in _lines(saying.code) for line in _code_lines(it, room)]
    links = list(_text_lines(saying.link.replace("\n", " "), room))
    if len(words) == 1 and not code and links:
        together = list(_text_lines(f"{words[0]}  {links[0]}", room))
        if len(links) == len(together) == 1:
            words, links = together, []  # a line takes a server's patience
    words = _cut(words, max(most - len(links) - min(len(code), most // 2), 1))
    left = max(most - len(words) - len(links), 0)
    if len(code) > left:
        shown = max(left - 1, 0)
        gone = len(code) - shown
        code = [f"{CODE}{MORE}{gone} lines before", *code[gone:]] if left else []
    if words and has_colours and (colour := _COLOURS.get(saying.tone)):
        first, space, rest = words[0].partition(" ")
        words[0] = f"{colour}{first}{_PLAIN}{space}{rest}"
    return [*words, *code, *links]


def _cut(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"]


def _text_lines(text: str, room: int) -> Iterator[str]:
    text = harmless(text)
    if not text:
        return
    if _ADDRESSES_BOTS.match(text):
        text = f" {text}"
    first, *others = pieces(text, room - 12)  # for colours, and an ellipsis at either end
    yield first
    for piece in others:
        yield f"{MORE}{piece}"


def _code_lines(text: str, room: int) -> Iterator[str]:
    for piece in pieces(harmless(text), room - len(CODE)):
        yield f"{CODE}{piece}"


def pieces(text: str, room: int) -> list[str]:
    """Return a text in pieces of at most so many bytes, cut at spaces where there are some.

    No character is cut, nor parted from what combines with it. Of an empty text there is one piece.
    """
    found: list[str] = []
    while len(text.encode(errors="replace")) > room:
        at = _place(text, room)
        found.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*found, text]


def _place(text: str, room: int) -> int:
    """Where to cut: after at most ``room`` bytes, one character at least."""
    at = _fitting(text, room)
    space = text.rfind(" ", at // 2, at + 1)
    if space > 0:
        return space
    while at > 1 and _combines(text[at]):
        at -= 1
    return max(at, 1)


def _fitting(text: str, room: int) -> int:
    """How many characters have at most so many bytes together."""
    size = 0
    for number, sign in enumerate(text):
        size += len(sign.encode(errors="replace"))
        if size > room:
            return number
    return len(text)


def _combines(sign: str) -> bool:
    return sign == "\u200d" or "\ufe00" <= sign <= "\ufe0f" or "\u0300" <= sign <= "\u036f"
