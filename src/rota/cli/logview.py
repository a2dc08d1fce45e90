"""A log for the eyes: workflow commands drawn, colours kept, everything else that drives a terminal out.

A log is written by whatever a script runs, so nothing in it may move the cursor, set a title, ask
the terminal to answer, or reach its clipboard. Of all control characters only line end, tab and
carriage return pass (progress bars need it), of all sequences only SGR, the colours. A line
end closes any sequence, so that a hostile or torn one hides at most the rest of its line.

Memory is constant: what is held back is a line that begins like a workflow command, up to
:data:`MAX_COMMAND` characters, and the parameters of a sequence, up to :data:`MAX_SGR`. The output
does not depend on how the input is cut into pieces.
"""

from __future__ import annotations

import codecs
import re

MAX_COMMAND = 8192
MAX_SGR = 64
RESET = "\x1b[0m"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COMMAND = re.compile(r"::([A-Za-z][A-Za-z-]*)(?: ([^\r\n]*?))?::(.*)", re.DOTALL)
_SGR = re.compile(r"[0-9;:]*")
_STRINGS = frozenset("PX]^_")
_C1 = {"\x90": "P", "\x98": "X", "\x9b": "[", "\x9d": "]", "\x9e": "^", "\x9f": "_"}
_LEVELS = {"error": "31", "warning": "33", "notice": "36"}

_TEXT, _ESCAPE, _CHARSET, _CSI, _STRING, _STRING_ESCAPE = range(6)


class Sanitizer:
    """Lets text and colours through; see the module's text for what it does not."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._state = _TEXT
        self._parameters = ""
        self.is_coloured = False  # a colour is on

    def feed(self, text: str) -> str:
        """Return what may be shown of ``text``, which may end anywhere."""
        if self._state == _TEXT and not _CONTROL.search(text):
            return text
        out: list[str] = []
        place = 0
        while place < len(text):
            if self._state == _TEXT:
                match = _CONTROL.search(text, place)
                end = match.start() if match else len(text)
                out.append(text[place:end])
                place = end
                if match:
                    place += 1
                    self._begin(match[0], out)
            else:
                self._step(text[place], out)
                place += 1
        return "".join(out)

    def _begin(self, control: str, out: list[str]) -> None:
        if control == "\r":
            out.append(control)
        elif control == "\x1b":
            self._state = _ESCAPE
        elif control in _C1:
            self._open(_C1[control])

    def _open(self, introducer: str) -> None:
        if introducer == "[":
            self._state, self._parameters = _CSI, ""
        elif introducer in _STRINGS:
            self._state = _STRING
        elif " " <= introducer <= "/":
            self._state = _CHARSET
        else:
            self._state = _TEXT

    def _step(self, char: str, out: list[str]) -> None:
        """Take one character inside a sequence."""
        if char == "\n":
            self._state = _TEXT
            out.append(char)
        elif char in "\x18\x1a":
            self._state = _TEXT
        elif self._state in (_STRING, _STRING_ESCAPE):
            self._in_string(char)
        elif char == "\x1b":
            self._state = _ESCAPE
        elif self._state == _ESCAPE:
            self._open(char)
        elif self._state == _CHARSET:
            if not " " <= char <= "/":
                self._state = _TEXT
        else:
            self._in_csi(char, out)

    def _in_string(self, char: str) -> None:
        if char in "\x07\x9c" or (self._state == _STRING_ESCAPE and char == "\\"):
            self._state = _TEXT
        else:
            self._state = _STRING_ESCAPE if char == "\x1b" else _STRING

    def _in_csi(self, char: str, out: list[str]) -> None:
        if "@" <= char <= "~":
            self._state = _TEXT
            whole = len(self._parameters) <= MAX_SGR and _SGR.fullmatch(self._parameters)
            if char == "m" and whole and self._color:
                out.append(f"\x1b[{self._parameters}m")
                self.is_coloured = self._parameters.strip("0;") != ""
        elif len(self._parameters) <= MAX_SGR:
            self._parameters += char


class LogView:
    """Turns a log's bytes, in pieces of any size, into text for a terminal."""

    def __init__(self, *, color: bool, mark: str = ">") -> None:
        self._color = color
        self._mark = mark
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sanitizer = Sanitizer(color=color)
        self._held: str | None = ""  # a line that may be a command yet; None inside another line

    def feed(self, data: bytes) -> str:
        """Return what is to be shown of the next bytes."""
        return self._lines(self._decoder.decode(data))

    def finish(self) -> str:
        """Return what was held back, and the end of any colour: no more bytes will come."""
        last = self._lines(self._decoder.decode(b"", final=True))
        if self._held:
            last += self._line(self._held)
        self._held = ""
        return last + self._plain()

    def _lines(self, text: str) -> str:
        out = []
        start = 0
        while start < len(text):
            end = text.find("\n", start) + 1 or len(text)
            out.append(self._part(text[start:end]))
            start = end
        return "".join(out)

    def _part(self, part: str) -> str:
        """Take a line or a part of one; only its last character may be a line end."""
        if self._held is None:
            if part.endswith("\n"):
                self._held = ""
            return self._sanitizer.feed(part)
        line = self._held + part
        if line.endswith("\n"):
            self._held = ""
            return self._line(line)
        if len(line) <= MAX_COMMAND and (line == ":" or line.startswith("::")):
            self._held = line
            return ""
        self._held = None
        return self._sanitizer.feed(line)

    def _line(self, line: str) -> str:
        text = line.rstrip("\r\n")
        match = _COMMAND.match(text) if len(line) <= MAX_COMMAND else None
        drawn = self._drawn(match) if match else None
        return self._sanitizer.feed(line) if drawn is None else self._plain() + drawn

    def _drawn(self, command: re.Match[str]) -> str | None:
        """Return how a workflow command looks; ``None`` for one that we do not know."""
        name = command[1].lower()
        if name in ("endgroup", "endstep", "add-mask"):
            return ""
        message = _unescaped(command[3])
        if name in ("group", "step"):
            return self._styled("1", f"{self._mark} {message}")
        if name == "debug":
            return self._styled("2", f"debug: {message}")
        if name in _LEVELS:
            return self._styled(_LEVELS[name], f"{name}: {_place(command[2] or '')}{message}")
        return None

    def _styled(self, code: str, text: str) -> str:
        clean = Sanitizer(color=False).feed(text)
        return f"\x1b[{code}m{clean}{RESET}\n" if self._color else f"{clean}\n"

    def _plain(self) -> str:
        was_coloured, self._sanitizer.is_coloured = self._sanitizer.is_coloured, False
        return RESET if was_coloured else ""


def _place(properties: str) -> str:
    """Return ``file:line: title: `` as far as a command has these."""
    pairs = {
        key.strip(): _unescaped(value).replace("%3A", ":").replace("%2C", ",")
        for key, equals, value in (item.partition("=") for item in properties.split(","))
        if equals
    }
    place = pairs.get("file", "")
    if place and pairs.get("line"):
        place += f":{pairs['line']}"
    return "".join(f"{part}: " for part in (place, pairs.get("title", "")) if part)


def _unescaped(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
