"""Disguises: in what other forms a value that must not be shown may be printed.

Programs print what they are given in forms of their own: percent signs in URLs, backslashes in
JSON, base64 and hex in headers and dumps, colours and line ends in the middle. Each form comes to a
text of letters and digits alone, its canon: whatever stands between these is looked over when it is
searched for, whatever else may stand for one of them is taken for it (:mod:`rota.core.mask_net`).

A value too short for that, or with too few letters and digits, is only looked for as it is written,
each character also encoded.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import json
import quopri
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

import msgspec

#: Shorter canons stand in ordinary text by chance. Of digits alone more are needed: times are digits.
MIN_CANON, MIN_DIGITS = 8, 12
#: Shorter values are not searched for at all.
MIN_EXACT = 3
#: A long canon is searched for in pieces, so that none reaches far.
PIECE, LONG_PIECE = 64, 512
#: No form reaches further, in bytes, all that may stand in it counted.
REACH = 4096
#: From this size on, only the forms that programs give to whole files: base64, hex, line by line.
LONG = 512
#: And of a value of more parts than these, its parts alone with anything between their characters.
MANY = 10
#: Characters that do not count, by their first and last: see counts.
_SIGNS = ((0x2000, 0x207F), (0x2180, 0x21FF), (0x2500, 0x25BF))
#: Lines of a value of several that are no part of a secret: PEM's armour.
_ARMOUR = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]{1,40}-----|[\s{}\[\](),;:'\"]*")

#: The password of a URL; ``NAME=value``, also in YAML; names that tell; what looks like a token.
_PASSWORD = re.compile(rb"://[^/\s:@]*:([^/\s@]{4,})@")
_SAID = re.compile(rb"(?:export\s+)?([\w./:-]+?)(?:\s*=\s*|:\s+)[\"']?(.*?)[\"']?,?")
_TELLING = re.compile(rb"(?i)pass|secret|token|key|cred|auth|pwd|signature")
_TOKEN = re.compile(rb"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_.+/=~-]+")
MIN_TOLD, MIN_TOKEN = 6, 20


class Form(msgspec.Struct, frozen=True):
    """One form, or a piece of it.

    ``canon`` are its letters and digits, small. ``exact`` is how it is written where nothing is
    encoded. ``kind`` says what may stand in it; ``before`` and ``after`` are what is
    of it on each side and does not count; in ``border`` are those that tell something of it and depend on what is
    beside it.
    """

    canon: str
    exact: bytes
    kind: str  # text: encoded in any way; plain: with anything between; dump: with offsets between
    before: bytes = b""
    after: bytes = b""
    border: bool = False


def lines_of(value: bytes) -> Iterator[bytes]:
    """Yield the parts of a value that are secret on their own, without what surrounds them.

    These are its lines, passwords of URLs, and what is said by name in JSON and in lines such as
    ``PASSWORD=…``, if the name or the text looks like a secret's.
    """
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) == 1:
        yield lines[0]
    else:
        yield from (line for line in lines if not _ARMOUR.fullmatch(line))
    for line in lines:
        yield from (found[1] for found in _PASSWORD.finditer(line))
        if len(lines) > 1 and (said := _SAID.fullmatch(line)) and _is_told(said[1], said[2]):
            yield said[2]
    for name, text in _leaves(value):
        if _is_told(name, text):
            found = map(bytes.strip, text.splitlines())
            yield from (line for line in found if not _ARMOUR.fullmatch(line))


def _is_told(name: bytes, text: bytes) -> bool:
    """Whether what is said by a name is a secret: by the name, or by how it looks."""
    if len(text) < MIN_TOLD or text.startswith((b"http://", b"https://")):
        return False
    looks_so = len(text) >= MIN_TOKEN and _TOKEN.fullmatch(text) is not None
    return looks_so or _TELLING.search(name) is not None


def _leaves(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the texts in a JSON object, with their names."""
    if not value.lstrip().startswith((b"{", b"[")):
        return
    try:
        waiting: list[tuple[str, object]] = [("", msgspec.json.decode(value))]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return
    while waiting:
        name, found = waiting.pop()
        if isinstance(found, dict):
            waiting += [(str(key), it) for key, it in found.items()]
        elif isinstance(found, list):
            waiting += [(name, it) for it in found]
        elif isinstance(found, str):
            yield name.encode(), found.encode("utf-8", "surrogatepass")


def canonical(text: str) -> list[tuple[str, int]]:
    """Return the characters of a text that count, small, with the places where they stand."""
    return [(_small(ch), at) for at, ch in enumerate(text) if counts(ch)]


def counts(ch: str) -> bool:
    """Whether a character is a letter or a digit; beyond ASCII all are taken for such but a few.

    Those are the signs of Latin-1, punctuation and spaces (U+2000), arrows, and lines of tables.
    """
    if ch.isascii():
        return ch.isalnum()
    point = ord(ch)
    return point > 0xBF and point != 0xFEFF and not any(a <= point <= b for a, b in _SIGNS)


def is_canonical(value: bytes) -> bool:
    """Whether a value has letters and digits enough to be searched for by these alone."""
    canon = "".join(ch for ch, _ in canonical(_text(value)))
    least = MIN_DIGITS if canon.isdigit() else MIN_CANON
    return len(canon) >= least and len(set(canon)) > 2


def forms(value: bytes) -> Iterator[Form]:
    """Yield all forms in which a value is searched for by its canon."""
    parts = list(lines_of(value))
    # Of a key of fifty lines each may stand in a log, and hardly one in an encoding of its own.
    is_text = len(parts) <= MANY and b"\0" not in value
    for line in parts:
        if is_canonical(line):
            yield from _pieces(line, "text" if is_text else "plain")
            if is_text and len(line) <= LONG:
                yield from _pieces(_reversed(line), "plain")
                for text in _otherwise_encoded(line):
                    yield from _pieces(text, "plain")
    bare = value.strip(b"\r\n")
    is_short = len(bare) <= LONG
    for text in _base64s(bare):
        yield from _pieces(text, "text" if is_short else "plain", border=True)
    yield from _pieces(bare.hex().encode(), "dump")
    # Where a dump's line ends within the first bytes, the others are found without them.
    yield from _pieces(bare[2:].hex().encode(), "dump")
    if not is_short:
        return
    for inner in (*_base64s(bare), *_rewritten(bare)):
        for text in _base64s(inner):
            yield from _pieces(text, "plain", border=True)
    for rare in (
        _bytes(codecs.encode(_text(bare), "rot13")),
        _uu(bare).encode(),
        base64.b85encode(bare),
        base64.a85encode(bare),
        quopri.encodestring(bare),
    ):
        yield from _pieces(rare, "plain")
    for text in _base32s(bare):
        yield from _pieces(text, "plain", border=True)
    for swapped in _swapped(bare):
        yield from _pieces(swapped, "dump")
    yield from _pieces("".join(map(str, bare)).encode(), "dump")
    yield from _pieces("".join(f"{byte:03o}" for byte in bare).encode(), "dump")


def exacts(value: bytes) -> Iterator[bytes]:
    """Yield what is searched for as it is written: lines of a value that have too short a canon."""
    for line in lines_of(value):
        if not is_canonical(line):
            yield line
            for text in (*_base64s(line), line.hex().encode(), line.hex().upper().encode()):
                if len(text) >= 5 and not is_canonical(text):
                    yield text


def _pieces(text: bytes, kind: str, *, border: bool = False) -> Iterator[Form]:
    written = _text(text)
    found = canonical(written)
    canon = "".join(ch for ch, _ in found)
    least = MIN_DIGITS if canon.isdigit() else MIN_CANON
    if len(canon) < least:
        return
    size = PIECE if len(text) <= 2 * LONG else LONG_PIECE
    count = max(1, len(found) // size)
    for index in range(count):
        first = index * size
        last = len(found) if index == count - 1 else first + size
        begin, end = found[first][1], found[last - 1][1] + 1
        before = written[found[first - 1][1] + 1 if first else 0 : begin]
        until = found[last][1] if last < len(found) else len(written)
        yield Form(
            canon=canon[first:last],
            exact=_bytes(written[begin:end]),
            kind=kind,
            before=_bytes(before),
            after=_bytes(written[end:until]),
            border=border,
        )


def _base64s(value: bytes) -> Iterator[bytes]:
    """Yield the parts of base64 that are the value's alone, for each of its three alignments."""
    yield from _encoded(value, base64.b64encode, 3, 6)


def _base32s(value: bytes) -> Iterator[bytes]:
    yield from _encoded(value, base64.b32encode, 5, 5)


def _encoded(value: bytes, encode: object, block: int, bits: int) -> Iterator[bytes]:
    assert callable(encode)
    for shift in range(block):
        text: bytes = encode(bytes(shift) + value)
        first = -(-shift * 8 // bits)
        yield text[first : (shift + len(value)) * 8 // bits]


def _swapped(value: bytes) -> Iterator[bytes]:
    """Yield how dumps of words show it, two or four bytes turned round, for all alignments."""
    for size in (2, 4):
        for start in range(size):
            rest = value[start : len(value) - (len(value) - start) % size]
            words = (rest[i : i + size][::-1].hex() for i in range(0, len(rest), size))
            yield "".join(words).encode()


def _otherwise_encoded(value: bytes) -> Iterator[bytes]:
    """Yield a text that is not ASCII alone in encodings in which it is other bytes."""
    text = _text(value)
    if text.isascii():
        return
    for encoding in ("latin-1", "utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeError):
            yield text.encode(encoding)


def _rewritten(value: bytes) -> Iterator[bytes]:
    """Yield how a value stands in what is then turned into base64, where that is another text."""
    text = _text(value)
    with contextlib.suppress(UnicodeError):
        yield text.encode("utf-16-le")  # as PowerShell has its commands
        quoted = json.dumps(text)[1:-1]
        for other in {quoted, json.dumps(text, ensure_ascii=False)[1:-1], quote(value, safe="")}:
            if other != text:
                yield other.encode()


def _uu(value: bytes) -> str:
    return "".join(
        binascii.b2a_uu(value[at : at + 45]).decode("ascii")[1:] for at in range(0, len(value), 45)
    )


def _reversed(value: bytes) -> bytes:
    return _bytes(_text(value)[::-1])


def _small(ch: str) -> str:
    small = ch.lower()
    return small if len(small) == 1 else ch


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def all_forms(values: Iterable[bytes]) -> list[Form]:
    """Return the forms of all values, each once."""
    return list(dict.fromkeys(form for value in values for form in forms(value)))


def all_exacts(values: Iterable[bytes]) -> list[bytes]:
    """Return what is searched for as it is written of all values, each once."""
    found = dict.fromkeys(text for value in values for text in exacts(value))
    return [text for text in found if len(text) >= MIN_EXACT]
