"""XML from builds and other systems, read as it comes: nobody vouches for it.

Entities of its own are refused (a few of them can stand for gigabytes), external ones are never
looked at. Bytes that the encoding does not have, and characters that XML does not allow, are common
in the reports of tests that print such things: they are read as ``?``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from xml.parsers import expat

MAX_DEPTH = 500
MAX_TAG = 8 * 1024 * 1024
_HEAD = 200
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
#: Among Python's codecs are some that make something else than text of bytes.
_ENCODINGS = re.compile(r"(?i)(iso-?8859|latin|windows|cp|koi8|mac|shift_?jis|euc|gb|big5)[\w-]*")
_FORBIDDEN = bytes(byte for byte in range(32) if byte not in b"\t\n\r")
_MENDED = bytes.maketrans(_FORBIDDEN, b"?" * len(_FORBIDDEN))
_REFERENCE = re.compile(rb"&#(x[0-9A-Fa-f]{1,8}|[0-9]{1,10});")
_NO_CHARACTERS = re.compile(rb"\xef\xbf[\xbe\xbf]")


class ReportError(Exception):
    """It cannot be read, or not to its end; the message goes on after its name."""


class XmlReader:
    """Reads XML piece by piece, in constant memory but for single tags.

    ``start`` gets each element's name and attributes, ``end`` its name. Text goes to ``text`` as long
    as that is set; a text may come in pieces. ``depth`` is how deep elements may lie in one another.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        *,
        depth: int = MAX_DEPTH,
    ) -> None:
        self._most = depth
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        self._begin_element, self._end_element = start, end
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.EntityDeclHandler = _refuse_entities
        self._decoder: codecs.IncrementalDecoder | None = None
        self._head = b""
        self._depth = 0
        self._fed = 0
        self._held = b""  # what may be the beginning of a reference to a character

    @property
    def line(self) -> int:
        """The line of what was read last, from 1."""
        return self._parser.CurrentLineNumber

    def listen(self, text: Callable[[str], None] | None) -> None:
        """Give text to ``text`` from here on, or to nobody."""
        self._parser.CharacterDataHandler = text

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ReportError: it is no XML from here on.
        """
        if self._decoder is None:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data = self._begin()
        self._parse(data, final=False)

    def finish(self) -> None:
        """Take note that these were all bytes.

        Raises:
            ReportError: it is no XML, or not all of it.
        """
        data = self._begin() if self._decoder is None else b""
        self._parse(data, final=True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._most:
            raise ReportError(f"has elements in elements, more than {self._most} deep")
        self._begin_element(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._end_element(name)

    def _begin(self) -> bytes:
        head, self._head = self._head, b""
        if not head.strip():
            raise ReportError("is empty")
        self._decoder = codecs.getincrementaldecoder(_encoding(head))("replace")
        return head

    def _parse(self, data: bytes, *, final: bool) -> None:
        assert self._decoder is not None
        text = self._decoder.decode(data, final)
        data = self._held + text.encode("utf-8", "replace").translate(_MENDED)
        self._held = b""
        if b"\xef\xbf" in data:
            data = _NO_CHARACTERS.sub(b"?", data)
        if not final and (at := data.rfind(b"&", -12)) >= 0 and b";" not in data[at:]:
            data, self._held = data[:at], data[at:]
        if b"&#" in data:
            data = _REFERENCE.sub(_character, data)
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            what = expat.errors.messages.get(error.code, "no XML")
            raise ReportError(
                f"is broken in line {error.lineno}, column {error.offset + 1}: {what}"
            ) from None
        # What has no end yet is looked at again with each piece: without a limit, for ever.
        self._fed += len(data)
        if self._fed - self._parser.CurrentByteIndex > MAX_TAG and not final:
            raise ReportError(f"has a tag or a comment of more than {MAX_TAG >> 20} MiB")


def local(name: str) -> str:
    """Return an element's name without the prefix of its namespace."""
    return name.rpartition(":")[2]


def _encoding(head: bytes) -> str:
    """Return the encoding that a document claims, if there is such a one; else UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = _DECLARED.match(head.removeprefix(codecs.BOM_UTF8).lstrip())
    name = declared[1].decode() if declared else "utf-8"
    if not _ENCODINGS.fullmatch(name):
        return "utf-8-sig"
    try:
        codecs.lookup(name)
    except LookupError:
        return "utf-8-sig"
    return name


def _character(match: re.Match[bytes]) -> bytes:
    number = match[1]
    code = int(number[1:], 16) if number.startswith(b"x") else int(number)
    is_good = code in (9, 10, 13) or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE
    return match[0] if is_good or 0x10000 <= code <= 0x10FFFF else b"?"


def _refuse_entities(*_: object) -> None:
    raise ReportError("declares entities of its own: it is not read")
