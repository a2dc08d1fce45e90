"""The scanner: cuts do not matter, and nothing that was announced as secret is ever shown."""

from __future__ import annotations

import itertools
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rota.core.disguises import is_canonical
from rota.core.mask_net import ANCHOR
from rota.core.masks import MIN_MASK, Masks
from rota.core.workflow import Scanner

COMMAND = re.compile(rb"::add-mask(?: [^\r\n]*?)?::(.*)", re.DOTALL | re.IGNORECASE)
#: Values that begin alike, contain and overlap each other and themselves; and a few that are short.
VALUES = st.sampled_from(
    [
        b"abab",
        b"ababc",
        b"bab",
        b"aaa",
        b"cabab",
        b"a%25b",
        b"ab%0Acd\xff",
        b"ab",
        b" abc ",
        b"::a",
        b"aabaa",
    ]
)
MASK = st.builds(
    bytes.__add__,
    st.sampled_from([b"::add-mask::", b"::ADD-mask::", b"::add-mask x=y::"]),
    VALUES,
)
TOKENS = st.one_of(
    st.sampled_from([b"\n", b"\n", b"\r\n", b":", b"::", b"::error::", b"::notice file=ab::"]),
    st.sampled_from([b"a", b"b", b"c", b"%", b"cd", b"text", b"\0", b"\xff", b"::add-", b"mask"]),
    MASK.map(lambda mask: b"\n" + mask + b"\n"),
    MASK,
    VALUES,
)
LOGS = st.lists(TOKENS, max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(log: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(log)) for cut in cuts} | {0, len(log)})
    return [log[a:b] for a, b in itertools.pairwise(places)]


def shown(masks: Masks, written: bytes, start: int, stop: int) -> bytes:
    """What a reader of a live log gets, who has just as much before him as is written."""
    if not masks:
        return written[start:stop]
    first = max(0, start - masks.longest)
    return masks.apply(written[first : stop + masks.longest])[start - first : stop - first]


def announced(log: bytes) -> list[tuple[int, int, list[bytes]]]:
    """Of each command that masks: where its value begins, where its line ends, the values."""
    found, offset = [], 0
    for line in log.split(b"\n"):
        bare = line.rstrip(b"\r")
        end = offset + len(line) + 1
        if match := COMMAND.match(bare):
            raw = match[1]
            text = raw.replace(b"%0D", b"\r").replace(b"%0A", b"\n").replace(b"%25", b"%")
            lines = [*raw.splitlines(), *text.splitlines()]
            values = [v.strip() for v in lines if len(v.strip()) >= MIN_MASK]
            found.append((offset + match.start(1), end, values))
        offset = end
    return found


def places(value: bytes, log: bytes, start: int) -> list[int]:
    return [at for at in range(start, len(log)) if log.startswith(value, at)]


@settings(max_examples=60)
@given(LOGS, CUTS, CUTS)
@example(b"::error::" + b"x" * 8183 + b"\n::error::y\n", [5, 8192], [])
@example(b"::error::" + b"x" * 8184 + b"\n::error::y\n", [5, 8192], [])
@example(b"::add-mask::" + b"x" * 16372 + b"\n", [5, 16384], [16385])
@example(b"::add-mask::" + b"x" * 16373 + b"\n", [5, 16384], [16385])
def test_cuts_do_not_matter(log: bytes, some: list[int], others: list[int]) -> None:
    scanners = [Scanner(), Scanner(), Scanner()]
    for scanner, cuts in zip(scanners, (some, others, []), strict=True):
        for piece in pieces(log, cuts):
            scanner.feed(piece)
        assert scanner.end == len(log)
    assert len({scanner.safe_end for scanner in scanners}) == 1
    for scanner in scanners:
        scanner.finish()
        assert scanner.end == scanner.safe_end == len(log)
    one = scanners[0]
    for other in scanners[1:]:
        assert other.annotations == one.annotations
        assert other.shown_annotations() == one.shown_annotations()
        assert other.masks.apply(log) == one.masks.apply(log)
        assert other.masks.longest == one.masks.longest
    for note in one.annotations:
        assert log[note.offset :].lower().startswith(b"::" + note.level.encode())
        assert note.offset == 0 or log[note.offset - 1 : note.offset] == b"\n"


@settings(max_examples=200)
@given(LOGS, CUTS)
@example(b"::add-mask::abab\nxababababx", [19, 21, 24])
@example(b"::add-mask::aabaa\naabaaabaa", [])
@example(b"::ADD-MASK::abab\nx", [14])
@example(b"::add-mask x=y::abab\nx", [18])
@example(b"::add-mask::ab\xff\xfe\xfdcd\nab\xff\xfe\xfdcd", [14])
def test_what_was_announced_is_never_shown(log: bytes, cuts: list[int]) -> None:
    scanner, out, written, ends = Scanner(), b"", b"", [0]
    for piece in pieces(log, cuts):
        scanner.feed(piece)
        written += piece
        out += shown(scanner.masks, written, len(out), scanner.safe_end)
        ends.append(scanner.safe_end)
    if log.endswith(b"\n"):
        # Of a value that a line's end may stand in, as much must be there as is no chance.
        held = log[scanner.safe_end :]
        assert not held or sum(chr(byte).isalnum() for byte in held) >= ANCHOR
    scanner.finish()
    out += shown(scanner.masks, written, len(out), scanner.safe_end)
    assert ends == sorted(ends)
    assert len(out) == len(log)
    for place, end, values in announced(log):
        for value in values:
            assert value not in out[place:end]
            for at in places(value, log, end):
                assert out[at : at + len(value)] == b"*" * len(value)
    assert not scanner.masks.hides_all
    _check_nothing_else_is_hidden(log, out)


def _check_nothing_else_is_hidden(log: bytes, out: bytes) -> None:
    values = {value for _, _, values in announced(log) for value in values}
    if any(map(is_canonical, values)):
        return  # of three letters, all that there is comes to one of its forms
    secret = bytearray(len(log))
    for value in values:
        for at in places(value, log, 0):
            secret[at : at + len(value)] = b"\1" * len(value)
    for at, byte in enumerate(out):
        assert byte == log[at] or (byte == ord("*") and secret[at]), at
