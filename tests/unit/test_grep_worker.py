"""Where a search finds its lines: the same as by the book, however the log is cut into pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.service import grep_worker
from rota.service.grep_worker import PLACE, Places


def found(places: Places, pieces: list[bytes]) -> list[tuple[int, int, bytes]]:
    raw = b"".join(map(places.feed, pieces)) + places.finish()
    matches, at = [], 0
    while at < len(raw):
        line, offset, size = PLACE.unpack_from(raw, at)
        at += PLACE.size
        matches.append((line, offset, raw[at : at + size]))
        at += size
    return matches


def by_the_book(log: bytes, pattern: re.Pattern[bytes]) -> list[tuple[int, int, bytes]]:
    matches, offset = [], 0
    lines = log.split(b"\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        if pattern.search(line[: grep_worker.MAX_LINE]):
            matches.append((number, offset, line[: grep_worker.MAX_LINE]))
        offset += len(line) + 1
    return matches


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(st.text("ab\n x", max_size=40).map(str.encode), max_size=8), max_size=3),
    st.sampled_from([b"a", b"ab", b"^b", b"x$", b"", b"a.*b", b"a b", b"zzz"]),
    st.integers(1, 12),
)
def test_every_match_has_its_place_in_one_log_after_another(
    logs: list[list[bytes]], pattern: bytes, longest: int
) -> None:
    compiled = re.compile(pattern)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grep_worker, "MAX_LINE", longest)
        places = Places(compiled, 10**6)
        for pieces in logs:
            assert found(places, pieces) == by_the_book(b"".join(pieces), compiled)


def test_it_ends_at_so_many_matches() -> None:
    places = Places(re.compile(b"a"), 3)
    assert len(found(places, [b"a\na\n"])) == 2
    assert found(places, [b"b\na\na\n"]) == [(2, 2, b"a")]
