"""Time zones: where they come from, when they change, and what an unknown one is told."""

from __future__ import annotations

import random
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.harness.tzif import zone_bytes
from tests.property.zones_oracle import span_faults

from rota.core import zones
from rota.core.zones import Span, UnknownZoneError, find_zone, zone_hint, zone_names


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_utc_has_one_offset_for_ever() -> None:
    assert find_zone("UTC").span(at("2026-07-01T00:00Z")) == Span(-(1 << 62), 1 << 62, 0, 0)


def test_a_span_says_from_when_to_when_and_what_was_before() -> None:
    zone = find_zone("Europe/Berlin")
    spring, autumn = at("2026-03-29T01:00Z"), at("2026-10-25T01:00Z")
    first, last = zone.span(spring), zone.span(autumn - 1)
    assert (first.start, first.before, first.offset, first.gap) == (spring, 3600, 7200, 3600)
    assert (last.offset, last.end) == (7200, autumn)
    assert zone.span(autumn).gap == -3600
    assert zone.span(spring - 1).end == spring
    assert zone.local(spring) == spring + 7200


@pytest.mark.parametrize(
    ("name", "instant", "gap"),
    [
        ("Pacific/Apia", "2011-12-30T10:00Z", 24 * 60),  # the day that Samoa never had
        ("Pacific/Kwajalein", "1993-08-21T12:00Z", 24 * 60),
        ("Australia/Lord_Howe", "2026-10-03T15:30Z", 30),
        ("Australia/Lord_Howe", "2026-04-04T15:00Z", -30),
        ("Asia/Pyongyang", "2018-05-04T15:00Z", 30),  # another standard time
        ("Asia/Pyongyang", "2015-08-14T15:00Z", -30),
        ("America/Caracas", "2016-05-01T07:00Z", 30),
        ("Antarctica/Troll", "2026-03-29T01:00Z", 120),  # double summer time
        ("Europe/London", "1945-04-02T01:00Z", 60),
        ("Europe/Istanbul", "2016-03-27T01:00Z", 60),  # the last one
        ("Africa/Casablanca", "2026-02-15T02:00Z", -60),  # Ramadan
    ],
)
def test_changes_of_all_kinds_are_known(name: str, instant: str, gap: int) -> None:
    span = find_zone(name).span(at(instant))
    assert (span.start, span.gap // 60) == (at(instant), gap)


def test_the_spans_are_those_of_the_files() -> None:
    """``python -m tests.property.zones_oracle`` goes through all zones; here are some by chance."""
    for name in random.Random(2026).sample(sorted(zone_names()), 25):
        assert list(span_faults(name)) == []


def test_a_zone_is_that_of_the_package_whatever_the_machine_has(tmp_path: Path) -> None:
    """Agents on machines with other rules would fire at other instants."""
    (tmp_path / "Asia").mkdir()
    (tmp_path / "Asia" / "Tokyo").write_bytes(zone_bytes("America/Lima"))
    zoneinfo.reset_tzpath([str(tmp_path)])
    find_zone.cache_clear()
    try:
        theirs = datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo.no_cache("Asia/Tokyo"))
        assert theirs.utcoffset() == timedelta(hours=-5)
        assert find_zone("Asia/Tokyo").offset(at("2026-01-01T00:00Z")) == 9 * 3600
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Berlin", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("Europe/Berlun", "did you mean 'Europe/Berlin'?"),
        ("utc", "did you mean 'UTC'?"),
        ("CEST", "an IANA name, such as Europe/Berlin or UTC"),
        ("+02:00", "an IANA name, such as Europe/Berlin or UTC"),
        ("../../etc/passwd", "an IANA name, such as Europe/Berlin or UTC"),
    ],
)
def test_an_unknown_zone_is_told_what_may_have_been_meant(name: str, hint: str) -> None:
    assert zone_hint(name) == hint
    with pytest.raises(UnknownZoneError, match="no time zone is called"):
        find_zone(name)


def test_instants_are_whole_seconds() -> None:
    moment = datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    assert zones.to_instant(moment) == at("2026-01-01T00:00Z")
