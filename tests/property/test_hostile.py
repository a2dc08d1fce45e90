"""Any bytes, and bytes that are nearly right, at all that reads what outsiders send: see tests/fuzz/."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import TARGETS

#: What made a target fail once, or is of a kind that did.
FOUND: dict[str, tuple[bytes, ...]] = {
    # A subtest less deep than the very first test took the only level away.
    "tap": (b"TAP version 13\n 1..2\nok \x08 ePvok ", b" ok 1\nok 2\n"),
    # A line that names no property leaves an error without a name.
    "definition": (
        (
            b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTART\x852:20260101T000000Z\r\n"
            b"DTEND:20260101T010000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        ),
    ),
    "payload": (
        b'{"ref":"refs/heads/a","repository":{"clone_url":"https://[git/web.git","full_name":"a/b"}}',
    ),
    "small": (b"~\xcf\x00\x00\x01p", b"unix:a\x00b"),
    "irc": (b":s 317 rota ann 1 " + b"9" * 5000,),
}
#: Python reads no number of more digits than 4300, zeros or not.
NUMBERS = (b"9" * 5000, b"0" * 5000, b"-" + b"1" * 400, b"1e999", b"NaN", "²٣".encode())


def nearly(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """A seed in which something was cut out, put in, or put in its place."""
    odd = st.binary(max_size=8) | st.sampled_from(
        (*NUMBERS, b"\0", b"\n", b"\x1b[", b'"', b"{" * 200, b"[" * 2000, b"<" * 50, b"a" * 5000)
    )
    places = st.floats(0, 1)

    def cut(seed: bytes, here: float, there: float, put: bytes) -> bytes:
        start, stop = sorted((round(here * len(seed)), round(there * len(seed))))
        return seed[:start] + put + seed[stop:]

    return st.builds(cut, st.sampled_from(seeds), places, places, odd)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_read_breaks_its_reader(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.seeds, *FOUND.get(name, ()), *NUMBERS, b"", b"\0", b"\xff" * 40):
        target.run(data)

    @settings(
        max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(nearly(target.seeds) | st.binary(max_size=300))
    def throw(data: bytes) -> None:
        target.run(data)

    throw()
