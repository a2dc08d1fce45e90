"""Whatever a program makes of a secret on its way to the log: it is not shown, however it is cut."""

from __future__ import annotations

import base64
import codecs
import html
import itertools
import json
import re
import string
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.masks import Masks
from rota.core.workflow import Scanner

#: Of what tokens, passwords and keys are made; two of a kind in a row at most, as chance has it.
LETTERS = string.ascii_letters + string.digits
VALUES = st.text(alphabet=LETTERS + "/+=_-.!@#$%&*'\"\\ é", min_size=12, max_size=60).filter(
    lambda text: len({ch for ch in text if ch in LETTERS}) >= 9 and text == text.strip()
)

#: Letters and digits that may stand for one character: ``%25C3%25A9``.
MOST_FOR_ONE = 10


def wrapped(text: bytes, width: int, end: bytes = b"\n") -> bytes:
    """Break a text into lines, between characters."""
    letters = text.decode()
    return end.join(letters[at : at + width].encode() for at in range(0, len(letters), width))


def spelt(form: Callable[[int], str]) -> Callable[[bytes], bytes]:
    return lambda value: "".join(form(byte) for byte in value).encode()


DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda value: value,
    "base64": base64.b64encode,
    "base64 behind one byte": lambda value: base64.b64encode(b"u" + value)[2:],
    "base64 behind two bytes": lambda value: base64.b64encode(b"u:" + value + b"\n")[3:],
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 in lines of 76": lambda value: wrapped(base64.b64encode(value), 76),
    "base64 in lines of 16": lambda value: wrapped(base64.b64encode(value), 16, b"\r\n"),
    "base64 in JSON": lambda value: (
        json.dumps(wrapped(base64.b64encode(value), 20).decode()).replace("/", "\\/").encode()
    ),
    "base64 twice": lambda value: base64.b64encode(base64.b64encode(value)),
    "base32": base64.b32encode,
    "hex": lambda value: value.hex().encode(),
    "HEX with colons": lambda value: value.hex(":").upper().encode(),
    "hex with spaces": lambda value: value.hex(" ", 2).encode(),
    "hex as in C": spelt(lambda byte: f"0x{byte:02x}, "),
    "hex escapes": spelt(lambda byte: f"\\x{byte:02x}"),
    "octal escapes": spelt(lambda byte: f"\\{byte:03o}"),
    "numbers": lambda value: repr(list(value)).encode(),
    "percent": lambda value: urllib.parse.quote(value, safe="").encode(),
    "percent, form": lambda value: urllib.parse.quote_plus(value).encode(),
    "percent, each": spelt(lambda byte: f"%{byte:02X}"),
    "percent, some": spelt(lambda byte: f"%{byte:02x}" if byte % 3 or byte > 126 else chr(byte)),
    "percent twice": lambda value: urllib.parse.quote(
        urllib.parse.quote(value, safe=""), safe=""
    ).encode(),
    "JSON": lambda value: json.dumps(value.decode()).encode(),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value.decode())).encode(),
    "JSON, each": lambda value: "".join(f"\\u{ord(ch):04x}" for ch in value.decode()).encode(),
    "Python": lambda value: repr(value.decode()).encode(),
    "HTML": lambda value: html.escape(value.decode()).encode(),
    "HTML, numbers": lambda value: "".join(f"&#{ord(ch)};" for ch in value.decode()).encode(),
    "HTML, hex": lambda value: "".join(f"&#x{ord(ch):x};" for ch in value.decode()).encode(),
    "shell, single quotes": lambda value: b"'" + value.replace(b"'", b"'\\''") + b"'",
    "shell, backslashes": lambda value: re.sub(rb"([^A-Za-z0-9\x80-\xff])", rb"\\\1", value),
    "backwards": lambda value: value.decode()[::-1].encode(),
    "capitals": lambda value: value.decode().upper().encode(),
    "letter by letter": lambda value: "\n".join(value.decode()).encode(),
    "with gaps": lambda value: " ".join(value.decode()).encode(),
    "coloured": lambda value: "\x1b[1;31m".join(value.decode()).encode() + b"\x1b[0m",
    "broken by a terminal": lambda value: wrapped(value, 11, b"\r\n"),
    "numbered": lambda value: b"".join(
        b"%6d\t%s\n" % (n, line) for n, line in enumerate(wrapped(value, 9).split(b"\n"), 1)
    )[7:],
    "with times": lambda value: b"\n[12:00:01] ".join(
        wrapped(base64.b64encode(value), 12).split(b"\n")
    ),
    "in a table": lambda value: b" \xe2\x94\x82\n\xe2\x94\x82 ".join(
        wrapped(value, 11).split(b"\n")
    ),
    "with spaces of no width": lambda value: "\u200b".join(value.decode()).encode(),
    "for PowerShell": lambda value: base64.b64encode(value.decode().encode("utf-16-le")),
    "in JSON in base64": lambda value: base64.urlsafe_b64encode(
        json.dumps(value.decode(), ensure_ascii=False).encode()
    )[2:],
    "ROT13": lambda value: codecs.encode(value.decode(), "rot13").encode(),
    "base85": base64.b85encode,
    "Ascii85": base64.a85encode,
    "UTF-16": lambda value: value.decode().encode("utf-16-le"),
}


def core(data: bytes) -> str:
    """What is left of a text for eyes: its letters and digits, small."""
    return "".join(ch for ch in data.decode("utf-8", "replace").lower() if ch.isalnum())


@settings(max_examples=100, deadline=None)
@given(VALUES, st.sampled_from(sorted(DISGUISES)), st.lists(st.integers(0, 600), max_size=8))
def test_a_secret_is_hidden_in_any_disguise_and_wherever_the_log_is_cut(
    text: str, name: str, cuts: list[int]
) -> None:
    value = text.encode()
    printed = DISGUISES[name](value)
    log = b"|~~~|" + printed + b"|~~~|\n"
    masks = Masks()
    masks.add(value)
    out = read(log, masks, cuts)
    assert len(out) == len(log)
    assert out.startswith(b"|~~~|"), out
    assert out.endswith(b"|~~~|\n"), out
    left = core(out)
    # What is beside a form may show through: the ends of base64, of an escape, of a colour. And the
    # first two characters, if these were all that there was for a while.
    assert len(left) <= (8 + 2 * MOST_FOR_ONE if cuts else 8), (name, text, out)


def read(log: bytes, masks: Masks, cuts: list[int]) -> bytes:
    """Return what somebody reads who follows the log as it is written."""
    scanner, out, written = Scanner(masks=masks), b"", b""
    places = sorted({min(cut, len(log)) for cut in cuts} | {0, len(log)})
    for start, stop in itertools.pairwise(places):
        scanner.feed(log[start:stop])
        written += log[start:stop]
        out += shown(masks, written, len(out), scanner.safe_end)
    scanner.finish()
    return out + shown(masks, written, len(out), scanner.safe_end)


def shown(masks: Masks, written: bytes, start: int, stop: int) -> bytes:
    first = max(0, start - masks.longest)
    return masks.apply(written[first : stop + masks.longest])[start - first : stop - first]


ORDINARY = b"".join(path.read_bytes() for path in sorted(Path("docs").rglob("*.md")))


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_ordinary_text_is_shown_as_it_is(chance: Random) -> None:
    masks = Masks()
    for _ in range(10):
        value = "".join(chance.choices(LETTERS, k=chance.randint(8, 60)))
        masks.add(value.encode())
    assert masks.apply(ORDINARY) == ORDINARY


@settings(max_examples=40, deadline=None)
@given(VALUES, st.sampled_from(sorted(DISGUISES)), st.integers(0, 400), st.integers(1, 400))
def test_what_is_hidden_does_not_depend_on_where_one_looks(
    text: str, name: str, first: int, length: int
) -> None:
    masks = Masks()
    masks.add(text.encode())
    log = b"x" * 50 + DISGUISES[name](text.encode()) + b" y" * 50
    whole = masks.apply(log)
    start, stop = min(first, len(log)), min(first + length, len(log))
    assert shown(masks, log, start, stop) == whole[start:stop]
