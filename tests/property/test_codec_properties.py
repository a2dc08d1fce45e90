"""The codec: whatever was written is read back, and nothing that is read can raise."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import JSON, facts

from rota.core.codec import VERSION, decode, encode
from rota.core.events import Known, Unknown, kind_of

#: A JSON object that may look like an event.
ALIKE = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["build.started", "build.finished", "custom", "later"]) | JSON,
        "at": st.sampled_from(["2027-01-01T00:00:00Z", "2027-01-01T00:00:00"]) | JSON,
        "v": st.integers(-2, 3) | JSON,
        "build": st.text() | JSON,
        "attempt": st.integers(-(2**63), 2**64 - 1) | JSON,
        "record": JSON,
        "data": JSON,
        "type": JSON,
        "reason": st.just("script") | JSON,
    },
)


@given(facts())
def test_an_event_is_read_as_it_was_written(event: Known) -> None:
    raw = encode(event)
    again = decode(raw)
    assert again == event
    assert type(again) is type(event)
    assert encode(again) == raw
    assert b"\n" not in raw


@given(facts(), st.integers(VERSION + 1, 2**62))
def test_a_newer_version_is_kept_byte_for_byte(event: Known, version: int) -> None:
    raw = encode(msgspec.structs.replace(event, v=version))
    again = decode(raw)
    assert isinstance(again, Unknown)
    assert encode(again) == raw
    assert (again.kind, again.at, again.by) == (kind_of(event), event.at, event.by)


@given(ALIKE)
def test_what_is_almost_an_event_is_read_or_kept(value: Any) -> None:
    raw = msgspec.json.encode(value)
    event = decode(raw)
    assert encode(event) == raw or decode(encode(event)) == event


@given(st.binary())
def test_any_bytes_are_kept(raw: bytes) -> None:
    assert encode(decode(raw)) == raw


@given(facts(), st.data())
def test_a_damaged_event_never_raises(event: Known, data: st.DataObject) -> None:
    raw = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[at] = data.draw(st.integers(0, 255))
        else:
            raw[at:at] = data.draw(st.sampled_from([b"[", b"{", b'"', b"9" * 25, b"\\u", b"1e999"]))
    again = decode(bytes(raw))
    assert decode(encode(again)) == again
