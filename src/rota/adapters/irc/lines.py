"""Lines of IRC: read from bytes that may be anything, and written so that nothing in them ends them.

Message tags as of IRCv3; see https://modern.ircdocs.horse and https://ircv3.net/specs/extensions/message-tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

#: What one line of ours may have at most, with its end and without its tags: bytes (RFC 1459).
MAX_BYTES = 512
#: What a server may send in one line, with tags (8,191) and with room for servers that err.
MAX_READ = 32_768
_ESCAPES = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_NOT_IN_LINES = dict.fromkeys(map(ord, "\r\n\0"))
_ESCAPED = {value: f"\\{key}" for key, value in _ESCAPES.items()}


class Source(NamedTuple):
    """Who sent a line: a person, or a server, whose name stands as ``nick``."""

    nick: str
    user: str = ""
    host: str = ""

    def __str__(self) -> str:
        """Return ``nick!user@host``, or the server's name."""
        return f"{self.nick}!{self.user}@{self.host}" if self.user or self.host else self.nick


class Line(msgspec.Struct, frozen=True):
    """One line; ``params`` has what follows the colon as its last."""

    command: str  # capital letters, or three digits
    params: tuple[str, ...] = ()
    source: Source = Source("")
    tags: Mapping[str, str] = {}

    def param(self, number: int) -> str:
        """Return one of the parameters; those that are not there are empty."""
        return self.params[number] if -len(self.params) <= number < len(self.params) else ""

    @property
    def text(self) -> str:
        """What people are told: the last parameter."""
        return self.param(-1)

    def __bytes__(self) -> bytes:
        """Return it as it is sent, with its end.

        Raises:
            ValueError: something in it would end it, or be read as something else.
        """
        words = [self.command, *self.params]
        if any(not word or " " in word or word[0] == ":" for word in words[:-1]):
            raise ValueError(f"no such line can be sent: {words}")
        if self.params and (not words[-1] or " " in words[-1] or words[-1][0] == ":"):
            words[-1] = f":{words[-1]}"
        if self.tags:
            tags = (f"{key}={_escaped(value)}" for key, value in self.tags.items())
            words.insert(0, f"@{';'.join(tags)}")
        text = " ".join(words)
        if any(sign in text for sign in "\r\n\0"):
            raise ValueError(f"no such line can be sent: {words}")
        return f"{text}\r\n".encode(errors="replace")


def line_of(command: str, *params: str, tags: Mapping[str, str] | None = None) -> Line:
    """Return a line to be sent."""
    return Line(command, params, tags=tags or {})


def parse(raw: bytes) -> Line | None:
    """Return the line that these bytes are, or ``None`` if they are none.

    What is not UTF-8 is taken for Latin-1, as clients of old send it.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.translate(_NOT_IN_LINES).lstrip(" ")
    tags: dict[str, str] = {}
    if text.startswith("@"):
        head, _, text = text[1:].partition(" ")
        for tag in head.split(";"):
            key, _, value = tag.partition("=")
            if key:
                tags[key] = _unescaped(value)
        text = text.lstrip(" ")
    source = Source("")
    if text.startswith(":"):
        head, _, text = text[1:].partition(" ")
        source = source_of(head)
        text = text.lstrip(" ")
    start, colon, last = text.partition(" :")
    words = [word for word in start.split(" ") if word]
    if not words:
        return None
    params = [*words[1:], last] if colon else words[1:]
    return Line(words[0].upper(), tuple(params), source, tags)


def source_of(text: str) -> Source:
    """Return whom ``nick!user@host`` names."""
    rest, _, host = text.partition("@")
    nick, _, user = rest.partition("!")
    return Source(nick, user, host)


def _escaped(value: str) -> str:
    return "".join(_ESCAPED.get(sign, sign) for sign in value)


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    found: list[str] = []
    signs = iter(value)
    for sign in signs:
        if sign == "\\":
            after = next(signs, "")
            found.append(_ESCAPES.get(after, after))
        else:
            found.append(sign)
    return "".join(found)


# -- names -----------------------------------------------------------------------------------------

_RFC1459 = str.maketrans("[]\\~", "{}|^")
_STRICT = str.maketrans("[]\\", "{}|")


class Folding:
    """When two names are the same: as the server says by ``CASEMAPPING``."""

    def __init__(self) -> None:
        self._signs: dict[int, int] | None = _RFC1459

    def settle(self, mapping: str) -> None:
        """Go by what the server says; of what is unknown letters alone are folded."""
        known = {"rfc1459": _RFC1459, "rfc1459-strict": _STRICT, "strict-rfc1459": _STRICT}
        self._signs = known.get(mapping.lower())

    def __call__(self, name: str) -> str:
        """Return the name in the form in which names are compared."""
        low = name.lower()
        return low.translate(self._signs) if self._signs else low
