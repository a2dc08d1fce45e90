"""Workflow commands in a log, such as ``::error file=a,line=3::message``.

The syntax is the one that build tools already print for GitHub Actions (Workflow commands, GitHub
Docs). A :class:`Scanner` reads a log once, piece by piece, in constant memory whatever the lines'
lengths, and says how far the log may be shown: never past something that may turn out a secret.

A masked value is replaced by asterisks of the same length, so that byte offsets stay true.
"""

from __future__ import annotations

import re

import msgspec

from rota.core.build import Annotation

MAX_ANNOTATIONS = 50
MAX_COMMAND = 8192
MAX_MESSAGE = 1000
#: Shorter values would mask every second word and hide nothing.
MIN_MASK = 3
LEVELS = ("error", "warning", "notice")

_COMMAND = re.compile(rb"::([A-Za-z][A-Za-z-]*)(?: ([^\r\n]*?))?::(.*)", re.DOTALL)
_MASK_PREFIX = b"::add-mask::"


class Command(msgspec.Struct, frozen=True):
    """One workflow command, unescaped."""

    name: str
    properties: dict[str, str]
    message: str


def parse_command(line: bytes) -> Command | None:
    """Return the command that a line (without its end) holds, or ``None``; never raises."""
    match = _COMMAND.match(line)
    if match is None:
        return None
    name, properties, message = match.groups()
    pairs = (item.partition(b"=") for item in (properties or b"").split(b","))
    return Command(
        name=name.decode().lower(),
        properties={
            key.strip().decode("utf-8", "replace"): _unescape(value, inside=True)
            for key, equals, value in pairs
            if equals
        },
        message=_unescape(message, inside=False),
    )


def _unescape(raw: bytes, *, inside: bool) -> str:
    text = raw.decode("utf-8", "replace").replace("%0D", "\r").replace("%0A", "\n")
    if inside:
        text = text.replace("%3A", ":").replace("%2C", ",")
    return text.replace("%25", "%")


class Masks:
    """Values that must not be shown."""

    def __init__(self) -> None:
        self._values: set[bytes] = set()
        self._pattern: re.Pattern[bytes] | None = None
        self.longest = 0

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, value: bytes) -> None:
        """Mask ``value`` from now on; each line of it, if it has several."""
        for line in value.splitlines():
            if len(line.strip()) >= MIN_MASK and line not in self._values:
                self._values.add(line)
                self.longest = max(self.longest, len(line))
                ordered = sorted(self._values, key=len, reverse=True)
                self._pattern = re.compile(b"|".join(map(re.escape, ordered)))

    def apply(self, data: bytes) -> bytes:
        """Return ``data`` with all values in it replaced, length kept."""
        if self._pattern is None:
            return data
        return self._pattern.sub(lambda match: b"*" * len(match[0]), data)

    def open_tail(self, data: bytes) -> int:
        """Return how many bytes at the end of ``data`` may be the beginning of a value."""
        reach = min(self.longest - 1, len(data))
        for length in range(reach, 0, -1):
            tail = data[-length:]
            if any(value.startswith(tail) and value != tail for value in self._values):
                return length
        return 0


class Scanner:
    """Reads a log once from its start; knows annotations, masks, and what may be shown.

    ``end`` is how many bytes were fed; ``safe_end`` how many of them may be shown now.
    """

    def __init__(self) -> None:
        self.masks = Masks()
        self.annotations: list[Annotation] = []
        self.end = 0
        self.safe_end = 0
        self._line_start = True
        self._partial: bytearray | None = None  # an unfinished line that starts like a command
        self._recent = b""  # the last bytes, as far back as a masked value may reach

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        start = self.end
        self.end += len(data)
        if self._partial is None and self._line_start is False and b"::" not in data:
            # The common case: no command can begin here. Only the last line's start matters.
            newline = data.rfind(b"\n")
            if newline >= 0:
                self._begin_line(data[newline + 1 : newline + 1 + MAX_COMMAND])
        else:
            self._lines(data, start)
        self._settle(data)

    def finish(self) -> None:
        """The log is whole: an unfinished last line is a line."""
        if self._partial:
            self._command(bytes(self._partial), self.end - len(self._partial))
            self._partial = None
        self.safe_end = self.end

    def _lines(self, data: bytes, start: int) -> None:
        position = 0
        if self._partial is not None:
            newline = data.find(b"\n")
            piece = data if newline < 0 else data[:newline]
            line_at = start - len(self._partial)
            self._partial += piece[: MAX_COMMAND - len(self._partial)]
            if not self._may_be_command() or len(self._partial) >= MAX_COMMAND:
                self._partial, self._line_start = None, False
            if newline < 0:
                return
            if self._partial is not None:
                self._command(bytes(self._partial), line_at)
            self._partial, position = None, newline + 1
        elif not self._line_start:
            newline = data.find(b"\n")
            if newline < 0:
                return
            position = newline + 1
        self._from_line_start(data, start, position)

    def _from_line_start(self, data: bytes, start: int, position: int) -> None:
        while True:
            if data.startswith(b"::", position):
                newline = data.find(b"\n", position)
                if newline < 0:
                    break
                if newline - position <= MAX_COMMAND:
                    self._command(data[position:newline], start + position)
                position = newline + 1
                continue
            following = data.find(b"\n::", position)
            if following < 0:
                position = max(data.rfind(b"\n") + 1, position)
                break
            position = following + 1
        self._begin_line(data[position : position + MAX_COMMAND])

    def _begin_line(self, line: bytes) -> None:
        """Note the unfinished line at the end: empty, the beginning of a command, or text."""
        self._line_start = not line
        self._partial = None
        if line:
            self._partial = bytearray(line)
            if not self._may_be_command() or len(line) >= MAX_COMMAND:
                self._partial = None

    def _may_be_command(self) -> bool:
        return self._partial is not None and bytes(self._partial[:2]) in (b":", b"::")

    def _settle(self, data: bytes) -> None:
        """Work out how far the log may be shown."""
        self.safe_end = self.end
        if self._partial is not None:
            head = bytes(self._partial[: len(_MASK_PREFIX)])
            if _MASK_PREFIX.startswith(head):
                self.safe_end = self.end - len(self._partial)
        if self.masks:
            reach = self.masks.longest
            self._recent = (self._recent + data[-reach:])[-reach:]
            self.safe_end = min(self.safe_end, self.end - self.masks.open_tail(self._recent))

    def _command(self, line: bytes, offset: int) -> None:
        command = parse_command(line.rstrip(b"\r"))
        if command is None:
            return
        if command.name == "add-mask":
            self.masks.add(command.message.encode())
        elif command.name in LEVELS and len(self.annotations) < MAX_ANNOTATIONS:
            place = command.properties
            line_number = place.get("line", "")
            self.annotations.append(
                Annotation(
                    level=command.name,
                    message=command.message[:MAX_MESSAGE],
                    title=place.get("title", "")[:MAX_MESSAGE],
                    file=place.get("file", "")[:MAX_MESSAGE],
                    line=int(line_number[:9])
                    if line_number.isascii() and line_number.isdigit()
                    else 0,
                    offset=offset,
                )
            )
