"""Preferences, quiet hours and targets: how they are read, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from rota.core import fields
from rota.core.fields import Field, Spot
from rota.core.preferences import PREFERENCES, JobNotices, Preference, read_channels, read_notify
from rota.core.quiet import Quiet, is_quiet, quiet_until
from rota.core.targets import Target, parse_target
from rota.core.toml_document import Source, read_document
from rota.core.zones import find_zone


def read(text: str, table: Mapping[str, Field]) -> tuple[dict[str, Any], list[str]]:
    source = Source("f.toml", tuple(text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), table)
    return values, [str(problem) for problem in problems]


def test_what_a_users_file_says() -> None:
    text = """[quiet]
from = "22:00"
to = "7:30"
days = ["sun", "sat"]
[[notify]]
jobs = ["web/**", "!web/slow"]
on = ["failed", "fixed"]
to = ["matrix", "mail"]
[[notify]]
whose = "all"
on = "always"
to = "irc:#web"
"""
    values, problems = read(text, PREFERENCES)
    assert not problems
    assert values["quiet"] == Quiet(22 * 60, 7 * 60 + 30, (5, 6))
    assert values["quiet"].text == "22:00-07:30 and on sat, sun"
    first, second = values["preferences"]
    assert first == Preference(
        to=(Target("matrix"), Target("mail")),
        on=("failed", "fixed"),
        jobs=("web/**", "!web/slow"),
    )
    assert first.is_of("web/test/unit")
    assert not first.is_of("web/slow")
    assert not first.is_of("app")
    assert first.text == "failed, fixed of my builds of web/** !web/slow to matrix, mail"
    assert second.is_of("anything/at/all")
    assert second.whose == "all"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[quiet]\nfrom = "22:00"\n', "1:1: quiet needs to as well"),
        ('[quiet]\nfrom = "25:00"\nto = "7:00"\n', "quiet.from is no time of day: '25:00'"),
        ('[quiet]\nfrom = "7:00"\nto = "07:00"\n', "quiet ends when it begins"),
        ('[quiet]\ndays = ["sunday"]\n', "quiet.days[1] cannot be 'sunday'"),
        (
            '[quiet]\ndays = ["mon","tue","wed","thu","fri","sat","sun"]\n',
            "quiet has all days of the week",
        ),
        ('[[notify]]\non = ["fixed"]\n', 'notify[1] needs to (such as to = ["irc:#web"])'),
        ("[[notify]]\nto = []\n", "notify[1].to is empty, so that nobody would be told"),
        ('[[notify]]\nto = ["irc:"]\n', "notify[1].to[1] names nothing after the colon: 'irc:'"),
        ('[[notify]]\nto = ["IRC:#a"]\n', "notify[1].to[1] is no target: 'IRC:#a'"),
        ('[[notify]]\nto = ["mail:ann"]\n', "notify[1].to[1] is no address"),
        ('[[notify]]\nto = "mail:a@b\\r\\nBcc: c@d"\n', "notify[1].to has a room with spaces"),
        ('[[notify]]\nto = "mail"\non = ["fail"]\n', "notify[1].on[1] cannot be 'fail'"),
        ('[[notify]]\nto = "mail"\non = []\n', "notify[1].on is empty"),
        ('[[notify]]\nto = "mail"\njobs = "a\\u0007"\n', "notify[1].jobs is no pattern"),
        ('[[notify]]\nto = "mail"\nwho = "mine"\n', "unknown key notify[1].who (did you mean"),
        ('[[notify]]\nto = "mail"\nwhose = "ours"\n', "notify[1].whose cannot be 'ours'"),
        ("notify = 3\n", "notify must be an array, not an integer"),
    ],
)
def test_what_is_said_of_a_wrong_one(text: str, said: str) -> None:
    _, problems = read(text, PREFERENCES)
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_too_many_are_refused() -> None:
    _, problems = read('[[notify]]\nto = "mail"\n' * 51, PREFERENCES)
    assert "notify has 51 entries, the limit is 50" in problems[0]


def test_channels_of_the_settings_are_of_all_builds() -> None:
    table = {"notify": Field("channels", read_channels, "")}
    values, problems = read('[[notify]]\nto = "irc:#web"\n', table)
    assert not problems
    assert values["channels"][0].whose == "all"
    assert values["channels"][0].on == ("first-failure", "fixed", "asked")
    _, problems = read('[[notify]]\nto = "mail"\n', table)
    assert problems == [
        'f.toml:2:6: notify[1].to is nobody\'s mail (such as "mail:ops@example.org")'
    ]


def test_what_a_header_says() -> None:
    table = {"notify": Field("notify", read_notify, "")}
    values, _ = read('notify = [{ to = "irc:#web", on = "always" }]', table)
    channel = Preference(to=(Target("irc", "#web"),), on=("always",), whose="all")
    assert values["notify"] == JobNotices((channel,))
    assert read("notify = []", table)[0]["notify"] == JobNotices((), committers=False)
    assert read("notify = { committers = false }", table)[0]["notify"] == JobNotices(
        committers=False
    )
    _, problems = read('notify = "irc:#web"', table)
    assert "notify must be an array or a table, not a string" in problems[0]
    _, problems = read('notify = [{ to = "irc:#web", whose = "all" }]', table)
    assert "unknown key notify[1].whose" in problems[0]


def test_targets_are_read_as_they_are_written() -> None:
    for text in (
        "irc:#web",
        "matrix:#web:example.org",
        "irc:@ann",
        "mail:a.b+c@x-y.example",
        "pager",
    ):
        found = parse_target(text)
        assert isinstance(found, Target)
        assert found.text == text
    assert parse_target("irc:@ann").user == "ann"  # type: ignore[union-attr]  # it is one
    assert isinstance(parse_target("mail:a@b,c@d"), str)


def berlin(*moment: int) -> datetime:
    year, month, day, hour, minute = moment
    return datetime(year, month, day, hour, minute, tzinfo=find_zone("Europe/Berlin").info)


def test_a_night_over_which_clocks_go_forward() -> None:
    quiet, zone = Quiet(22 * 60, 2 * 60 + 30), find_zone("Europe/Berlin")
    before = berlin(2026, 3, 28, 23, 0)
    assert is_quiet(quiet, zone, before)
    # There is no 02:30 that night: the clock that shows 03:00 is past it.
    assert quiet_until(quiet, zone, before) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_what_comes_twice_is_quiet_twice() -> None:
    quiet, zone = Quiet(2 * 60, 2 * 60 + 30), find_zone("Europe/Berlin")
    first = datetime(2026, 10, 25, 0, 10, tzinfo=UTC)
    assert quiet_until(quiet, zone, first) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert quiet_until(quiet, zone, second) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_weekend_after_a_night() -> None:
    quiet, zone = Quiet(22 * 60, 7 * 60, (5, 6)), find_zone("Europe/Berlin")
    friday_night = berlin(2026, 5, 8, 23, 0)
    assert quiet_until(quiet, zone, friday_night) == berlin(2026, 5, 11, 7, 0)
    noon = berlin(2026, 5, 8, 12, 0)
    assert quiet_until(quiet, zone, noon) == noon


def test_a_day_that_never_was() -> None:
    # Samoa went from Thursday the 29th to Saturday the 31st of December 2011.
    quiet, zone = Quiet(0, 23 * 60 + 59, (3, 5)), find_zone("Pacific/Apia")
    at = datetime(2011, 12, 29, 20, 0, tzinfo=UTC)
    until = quiet_until(quiet, zone, at)
    assert until is not None
    assert until.astimezone(zone.info).strftime("%a %d %H:%M") == "Sun 01 23:59"
