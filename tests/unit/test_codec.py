"""The codec: what stands in the journal, and what happens to that which should not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.harness.facts import moment

from rota.core.codec import decode, encode
from rota.core.events import (
    EPOCH,
    AgentDrained,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildFinished,
    BuildRequested,
    ClusterRaised,
    Emitted,
    HistorySealed,
    LeaderElected,
    LeaderResigned,
    StoreMoved,
    Unknown,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
    key_of,
    kind_of,
)
from rota.core.job import Reason, Spec

HEAD = b'"at":"2027-01-15T08:00:00Z"'


def test_an_event_is_one_readable_line_without_its_defaults() -> None:
    event = BuildRequested(at=moment(), by="ann", build="b", job="web", spec=Spec(priority=3))
    assert encode(event) == (
        b'{"kind":"build.requested",' + HEAD + b',"by":"ann","build":"b","job":"web",'
        b'"spec":{"priority":3}}'
    )


def test_fields_of_a_later_day_are_ignored() -> None:
    raw = b'{"kind":"history.sealed",' + HEAD + b',"through":7,"colour":"blue"}'
    assert decode(raw) == HistorySealed(at=moment(), through=7)


def test_of_a_key_given_twice_the_last_one_counts() -> None:
    raw = b'{"kind":"history.sealed",' + HEAD + b',"through":7,"through":8}'
    assert decode(raw) == HistorySealed(at=moment(), through=8)


def test_an_unknown_kind_says_what_it_can() -> None:
    raw = b' {"kind":"build.dreamt", ' + HEAD + b',"by":"ann","agent":"p", "depth":[3]}\n'
    event = decode(raw)
    assert event == Unknown(kind="build.dreamt", raw=raw, at=moment(), by="ann", agent="p")
    assert encode(event) == raw
    assert (kind_of(event), key_of(event)) == ("build.dreamt", "unknown")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"\xff",
        b'{"kind":null}',
        b'{"kind":5}',
        b'{"kind":"\xff"}',
        b'{"kind":"\\ud800"}',
        b'{"kind":' + b"[" * 200_000,
        b'{"kind":"custom",' + HEAD + b',"type":"x","data":' + b'{"a":' * 200_000,
        b'{"kind":"x","at":' + b"9" * 5000 + b"}",
        b'{"kind":"x","at":NaN}',
    ],
)
def test_what_is_no_event_is_kept_without_a_name(raw: bytes) -> None:
    event = decode(raw)
    assert event == Unknown(kind="?", raw=raw)
    assert encode(event) is raw


@pytest.mark.parametrize(
    "time",
    [
        b'"2027-01-15T08:00:00"',  # in no zone
        b'"1969-12-31T23:59:59Z"',
        b'"9999-12-31T23:59:59Z"',
        b'"0001-01-01T00:00:00+10:00"',
        b'"9999-12-31T23:59:59-10:00"',
        b"1800000000",
        b"null",
        b'"yesterday"',
    ],
)
def test_a_time_that_is_none_makes_no_event(time: bytes) -> None:
    raw = b'{"kind":"leader.elected","agent":"p","at":' + time + b"}"
    assert decode(raw) == Unknown(kind="leader.elected", raw=raw, at=EPOCH, agent="p")


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    raw = b'{"kind":"leader.elected","at":"2027-01-15T09:00:00.5+01:00"}'
    event = decode(raw)
    assert event.at == datetime(2027, 1, 15, 8, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "rest",
    [
        b'"kind":"build.started","build":"b","attempt":9223372036854775808',
        b'"kind":"custom","type":"x","data":{"n":1e999}',
        b'"kind":"build.requested","build":"b","job":"j","spec":{"priority":' + b"9" * 30 + b"}",
        b'"kind":"build.requested","build":"b","job":"j","spec":{},"params":{"n":'
        + b"9" * 30
        + b"}",
    ],
)
def test_a_number_that_does_not_fit_makes_no_event(rest: bytes) -> None:
    raw = b"{" + HEAD + b"," + rest + b"}"
    event = decode(raw)
    assert isinstance(event, Unknown)
    assert encode(event) == raw


def test_data_of_the_users_own_may_have_any_number() -> None:
    event = Emitted(at=moment(), type="x", data={"n": [10**30, -(10**30), 0.5]})
    assert decode(encode(event)) == event


def test_a_wrong_type_makes_no_event() -> None:
    for rest in (
        b'"attempt":"1"',
        b'"attempt":1.5',
        b'"attempt":true',
        b'"attempt":null',
        b'"x":1',
    ):
        raw = b'{"kind":"build.started","build":"b",' + HEAD + b"," + rest + b"}"
        assert isinstance(decode(raw), Unknown)


def test_a_reason_of_a_later_day_makes_no_event() -> None:
    event = BuildFinished(at=moment(), build="b", attempt=1, reason=Reason.SCRIPT)
    raw = encode(event)
    assert decode(raw) == event
    assert isinstance(decode(raw.replace(b'"script"', b'"boredom"')), Unknown)


def test_events_of_one_thing_share_a_key() -> None:
    at = moment()
    assert key_of(BuildFinished(at=at, build="b", attempt=1, reason=Reason.LOST)) == "build.b"
    assert key_of(LeaderElected(at=at, agent="p")) == "leader"
    assert key_of(LeaderResigned(at=at, agent="p")) == "leader"
    for event in (
        AgentJoined(at=at, agent="x", name="p", pin="00"),
        AgentStarted(at=at, agent="p"),
        AgentStopped(at=at, agent="p"),
        AgentLost(at=at, agent="x", name="p"),
        AgentDrained(at=at, agent="x", name="p"),
        AgentLabelled(at=at, agent="x", name="p"),
        AgentLeft(at=at, agent="x", name="p"),
    ):
        assert key_of(event) == "agent.p"
    for voting in (
        VoterAppointed(at=at, name="p", server="s"),
        VoterListening(at=at, agent="p", server="s", host="h", client=1, route=2),
        VoterDismissed(at=at, name="p", server="s"),
    ):
        assert key_of(voting) == "voters"
    assert key_of(StoreMoved(at=at, ref="main", old="", new="1")) == "store.main"
    assert key_of(HistorySealed(at=at, through=1)) == "history"
    assert key_of(Emitted(at=at, type="x")) == "custom"
    assert key_of(ClusterRaised(at=at, level=2)) == "cluster"


def test_a_pack_travels_in_the_event() -> None:
    event = StoreMoved(at=moment(), ref="main", old="0", new="1", pack=b"PACK\x00\xff")
    assert b'"pack":"UEFDSwD/"' in encode(event)
    assert decode(encode(event)) == event


def test_a_label_that_is_taken_away_is_null() -> None:
    event = AgentLabelled(at=moment(), name="p", labels={"big": "", "old": None})
    assert b'"labels":{"big":"","old":null}' in encode(event)
    assert decode(encode(event)) == event
