"""Workflow commands: what is understood, what is hidden, and how little is remembered."""

from __future__ import annotations

import msgspec
import pytest

from rota.core import mask_net
from rota.core.build import Annotation
from rota.core.disguises import REACH
from rota.core.masks import MAX_MASKS, MAX_MASKS_BYTES, Masks
from rota.core.workflow import (
    HIDDEN,
    MAX_ANNOTATIONS,
    MAX_COMMAND,
    MAX_MASK,
    MAX_MESSAGE,
    MAX_SAID,
    Command,
    Scanner,
    parse_command,
)
from rota.ports.journal import MAX_EVENT_BYTES

PIECE = 512 * 1024


def scanned(log: bytes) -> Scanner:
    scanner = Scanner()
    scanner.feed(log)
    scanner.finish()
    return scanner


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"::error::boom", Command("error", {}, "boom")),
        (
            b"::error file=a.c,line=3,title=Oh: no::boom",
            Command("error", {"file": "a.c", "line": "3", "title": "Oh: no"}, "boom"),
        ),
        (b"::Warning ::x::y", Command("warning", {}, "x::y")),
        (
            b"::notice file=a%2Cb%3Ac%25::1%0A2%0D3%253A",
            Command("notice", {"file": "a,b:c%"}, "1\n2\r3%3A"),
        ),
        (b"::group::\xff", Command("group", {}, "\ufffd")),
        (b"::error nonsense, a = b ,=::", Command("error", {"a": " b ", "": ""}, "")),
        (b"::error", None),
        (b"::error :boom", None),
        (b":: error::boom", None),
        (b"::1::x", None),
        (b"", None),
        (b"error::x", None),
        (b" ::error::x", None),
    ],
)
def test_a_line_is_a_command_or_not(line: bytes, command: Command | None) -> None:
    assert parse_command(line) == command


def test_annotations_say_where_in_the_log_they_stand() -> None:
    log = b"building\n::error file=a.c,line=3,title=T::boom\r\nx ::error::no\n::debug::no\n::notice::n"
    assert scanned(log).annotations == [
        Annotation(level="error", message="boom", title="T", file="a.c", line=3, offset=9),
        Annotation(level="notice", message="n", offset=log.rindex(b"::notice")),
    ]


@pytest.mark.parametrize("line", [b"", b"x", b"-1", b"1.5", "٣".encode(), b"1234567890123"])
def test_a_line_that_is_no_number_is_none(line: bytes) -> None:
    (note,) = scanned(b"::error line=" + line + b"::x\n").annotations
    assert note.line == 0


def test_annotations_are_limited_in_number_and_size() -> None:
    nasty = b"\x01" * 2000
    line = b"::error file=" + nasty + b",title=" + nasty + b"::" + nasty + b"\n"
    notes = scanned(line * 100).shown_annotations()
    assert len(notes) == MAX_ANNOTATIONS
    assert len(notes[0].message) == MAX_MESSAGE
    assert len(msgspec.json.encode(notes)) < MAX_EVENT_BYTES / 2


def test_a_mask_after_many_annotations_is_still_taken() -> None:
    log = b"::error::x\n" * 2 * MAX_ANNOTATIONS + b"::ADD-mask::hunter2\nhunter2"
    assert scanned(log).masks.apply(b"hunter2") == b"*" * 7


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        (b"::add-mask::hunter2", [b"hunter2"]),
        (b"::ADD-MASK::hunter2\r", [b"hunter2"]),
        (b"::add-mask by=me::hunter2", [b"hunter2"]),
        (b"::add-mask::  hunter2 ", [b"hunter2"]),
        (b"::add-mask::one%0Atwo%25%0D%0Athree", [b"one", b"two%", b"three"]),
        (b"::add-mask::\xff\xfe\xfd", [b"\xff\xfe\xfd"]),
        (b"::add-mask::ab", []),
        (b"::add-mask::   ", []),
        (b"::add-mask::", []),
    ],
)
def test_a_value_is_hidden_from_its_own_line_on(command: bytes, hidden: list[bytes]) -> None:
    masks = scanned(command + b"\n").masks
    for value in hidden:
        assert masks.apply(b"(" + value + b")") == b"(" + b"*" * len(value) + b")"
    value = command.rpartition(b"::")[2].strip()
    if hidden:
        assert masks.apply(command) == command.replace(value, b"*" * len(value))
    else:
        assert not masks
        assert masks.apply(b"ab   cd") == b"ab   cd"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([b"abcd", b"cdef"], b"-******-"),
        ([b"abc", b"abcdef"], b"-******-"),
        ([b"bcd"], b"-a***ef-"),
        ([], b"-abcdef-"),
    ],
)
def test_values_that_overlap_are_hidden_whole(values: list[bytes], shown: bytes) -> None:
    masks = Masks()
    for value in values:
        masks.add(value)
    assert masks.apply(b"-abcdef-") == shown


def test_a_value_that_overlaps_itself_is_hidden_wherever_it_begins() -> None:
    masks = Masks()
    masks.add(b"abab")
    assert masks.apply(b"xababababx") == b"x********x"
    assert masks.apply(b"abaab abab aba") == b"abaab **** aba"
    masks.add(b"aabaa")
    assert masks.apply(b"-aabaabaa-") == b"-********-"


def test_an_open_tail_is_what_may_become_a_value() -> None:
    masks = Masks()
    masks.add(b"secret")
    masks.add(b"rest")
    for tail, length in (
        (b"a secre", 5),
        (b"a secr", 4),
        (b"s", 1),
        (b"secret", 0),
        (b"secretr", 1),
        (b"ssecs", 1),
        (b"secre\n", 0),
        (b"\nse", 2),
        (b"se\rse", 2),
        (b"", 0),
    ):
        assert masks.open_tail(tail) == length, tail


def test_an_unfinished_mask_is_not_shown() -> None:
    scanner = Scanner()
    for data, safe in (
        (b"text\n", 5),
        (b":", 5),
        (b":Add", 5),
        (b"-mask", 5),
        (b" x::hunter2", 5),
        (b"\nhunt", 27),
        (b"ing ::add-mask::x", 48),
        (b"\n::add-masx", 59),
    ):
        scanner.feed(data)
        assert scanner.safe_end == safe, data
    assert scanner.end == 59


def test_annotations_are_shown_masked_also_where_they_are_cut() -> None:
    log = (
        b"::add-mask::hunter2\n::error file=hunter2,title=a hunter2::"
        + b"x" * (MAX_MESSAGE - 3)
        + b"hunter2\n::notice::swordfish\n::add-mask::swordfish\n"
    )
    error, notice = scanned(log).shown_annotations()
    assert (error.file, error.title) == ("*******", "a *******")
    assert error.message == "x" * (MAX_MESSAGE - 3) + "***"
    assert notice.message == "*********"


@pytest.mark.parametrize(
    "log",
    [
        b"::add-mask::" + b"s" * MAX_MASK + b"\n",
        b"::add-mask::" + b"s" * MAX_MASK,
        b"".join(b"::add-mask::value%d\n" % number for number in range(MAX_MASKS + 1)),
        b"".join(b"::add-mask::value%d\n" % number for number in range(MAX_SAID + 1)),
        b"".join(b"::add-mask::%02d" % n + b"s" * 15_000 + b"\n" for n in range(72)),
    ],
)
def test_more_than_can_be_masked_hides_the_whole_log_and_says_so(log: bytes) -> None:
    scanner = scanned(b"::error::boom\n" + log)
    assert scanner.masks
    assert scanner.masks.apply(b"any\r\nthing") == b"***\r\n*****"
    error, warning = scanner.shown_annotations()
    assert error.message == "****"
    assert (warning.level, warning.message) == ("warning", HIDDEN)
    assert warning.offset >= 14


def test_a_command_of_too_many_bytes_is_text() -> None:
    exact = b"::error::" + b"x" * (MAX_COMMAND - 9)
    assert len(scanned(exact + b"\n").annotations) == 1
    assert scanned(exact + b"x\n").annotations == []
    assert not scanned(exact + b"x\n").masks


@pytest.mark.parametrize(
    "begin", [b"", b"\n", b"::error::", b"::add-mask::", b":", b"::add-mask::hunter2\n"]
)
@pytest.mark.parametrize("fill", [b"\0", b"x", b":", b"\r", b"hunter", b"y\n", b"::\n", b"\n::e"])
def test_what_is_remembered_does_not_grow_with_the_log(begin: bytes, fill: bytes) -> None:
    scanner = Scanner()
    scanner.feed(begin)
    piece = fill * (PIECE // len(fill))
    for _ in range(20):
        scanner.feed(piece)
        assert len(scanner._line or b"") <= MAX_MASK + 1
        assert len(scanner._recent) <= REACH
        assert scanner.masks._size <= MAX_MASKS_BYTES + MAX_MASK
        assert scanner.end - scanner.safe_end <= MAX_MASK + 1
    assert scanner.end == len(begin) + 20 * len(piece)


def test_byte_by_byte_is_not_slower_than_its_length() -> None:
    scanner = Scanner()
    for _ in range(MAX_COMMAND + 10):
        scanner.feed(b":")
    assert scanner._line is None
    assert scanner.safe_end == scanner.end


def test_the_period_of_a_value_is_the_least_shift_that_agrees() -> None:
    for value, period in (
        (b"aaaa", 1),
        (b"abab", 2),
        (b"aba", 2),
        (b"abc", 3),
        (b"aabaa", 3),
        (b"abaabaab", 3),
        (b"abcabd", 6),
    ):
        assert mask_net._period_of(value) == period
        assert value.startswith(value[period:])
