"""Records: where they lie, what stands in them, what the commit says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core import records
from rota.core.build import Annotation, Attempt, Build, Trigger, Usage
from rota.core.ids import job_name_fault
from rota.core.job import Reason, Retry, Spec
from rota.core.states import Result, State

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def make(number: int = 12, **fields: Any) -> Build:
    defaults: dict[str, Any] = {
        "id": "0123456789abcdef",
        "job": "web/test",
        "number": number,
        "state": State.FINISHED,
        "result": Result.PASSED,
        "requested_at": AT,
    }
    return Build(**(defaults | fields))


def test_a_record_lies_in_a_folder_of_at_most_a_hundred() -> None:
    assert records.record_path(make(12)) == "builds/web/test/@000/00/12.json"
    assert records.record_path(make(99)) == "builds/web/test/@000/00/99.json"
    assert records.record_path(make(100)) == "builds/web/test/@000/01/100.json"
    assert records.record_path(make(1_234_567)) == "builds/web/test/@123/45/1234567.json"
    assert records.record_path(make(10**8)) == "builds/web/test/@10000/00/100000000.json"


def test_a_folder_of_numbers_is_no_jobs_name() -> None:
    assert job_name_fault("web/test/@000") is not None


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_two_builds_never_share_a_path(one: int, two: int) -> None:
    paths = {records.record_path(make(n)) for n in (one, two)}
    assert len(paths) == len({one, two})


def test_the_bytes_are_for_people_sorted_and_one_field_a_line() -> None:
    data = records.encode(make(params={"b": 1, "a": "x"}))
    lines = data.decode().splitlines()
    assert lines[0] == "{"
    assert '  "number": 12,' in lines
    assert list(json.loads(data)) == sorted(json.loads(data))
    assert data.index(b'"a"') < data.index(b'"b"')
    assert data.endswith(b"}\n")


def test_one_changed_field_is_one_changed_line() -> None:
    old = records.encode(make()).splitlines()
    new = records.encode(make(result=Result.FAILED)).splitlines()
    assert [line for line in new if line not in old] == [b'  "result": "failed",']


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    TEXT, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, width=64)
).filter(lambda value: value not in {float("inf"), float("-inf")})
BUILDS = st.builds(
    make,
    st.integers(0, 10**9),
    job=TEXT,
    message=TEXT,
    exit_code=st.none() | st.integers(0, 255),
    started_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    params=st.dictionaries(TEXT, VALUES, max_size=3),
    trigger=st.builds(Trigger, by=TEXT, key=TEXT),
    spec=st.builds(Spec, env=st.dictionaries(TEXT, TEXT, max_size=2), retry=st.builds(Retry)),
    usage=st.builds(Usage, user_s=st.floats(0, 1e9)),
    annotations=st.tuples(st.builds(Annotation, level=TEXT, message=TEXT)),
    former=st.tuples(
        st.builds(
            Attempt,
            attempt=st.just(1),
            agent=TEXT,
            result=st.sampled_from(Result),
            reason=st.sampled_from(Reason),
        )
    ),
)


@settings(deadline=None)
@given(BUILDS)
def test_a_record_decodes_to_an_equal_build(build: Build) -> None:
    assert records.decode(records.encode(build)) == build


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_decoding_never_raises(data: bytes) -> None:
    assert records.decode(data) is None or data


def test_what_is_no_record_decodes_to_nothing() -> None:
    for data in (b"", b"{}", b"null", b"\xff", b"[" * 100_000, records.encode(make())[:-9]):
        assert records.decode(data) is None


def test_the_message_names_the_builds_and_the_journals_sequence() -> None:
    builds = [make(12), make(13, result=Result.TIMED_OUT)]
    text = records.message([records.encode(build) for build in builds], 77)
    assert text == (
        "history: 2 builds\n\nweb/test#12 passed\nweb/test#13 timed-out\n\nJournal-Seq: 77\n"
    )
    assert records.covered(text) == 77


def test_a_long_message_is_cut_and_an_empty_one_still_covers() -> None:
    text = records.message([records.encode(make(n)) for n in range(25)], 5)
    assert text.count("web/test#") == 20
    assert "\nand 5 more\n" in text
    assert records.message([], 6) == "history: 0 builds\n\nJournal-Seq: 6\n"
    assert "history: 1 build\n" in records.message([b"?"], 7)
    assert "a record of another version" in records.message([b"?"], 7)


def test_a_message_without_the_trailer_covers_nothing() -> None:
    for text in (
        "",
        "history: 1 build\n",
        "Journal-Seq: x\n",
        "Journal-Seq: \n",
        "Journal-Seq:5\n",
    ):
        assert records.covered(text) == 0


def test_only_the_last_trailer_counts() -> None:
    assert records.covered("Journal-Seq: 1\n\nJournal-Seq: 2\n") == 2
