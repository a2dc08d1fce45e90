"""Cron expressions: what they mean, by the examples of those who made them, and what bad ones are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rota.core.cron import CronError, cron_fault, parse_cron

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def times(expression: str, after: str, count: int = 3, seed: str = "") -> list[str]:
    """Return the next times as ``2026-01-31 12:00``, with seconds if they have some."""
    cron = parse_cron(expression, seed)
    at = int((datetime.fromisoformat(after + "+00:00") - EPOCH).total_seconds())
    found: list[str] = []
    while len(found) < count and (following := cron.next(at)) is not None:
        at = following
        text = (EPOCH + timedelta(seconds=at)).strftime("%Y-%m-%d %H:%M:%S")
        found.append(text.removesuffix(":00"))
    return found


#: The examples of crontab(5), and the rule of the two days that it explains.
VIXIE = [
    ("5 0 * * *", "2026-01-01 00:05", ["2026-01-02 00:05", "2026-01-03 00:05"]),
    ("15 14 1 * *", "2026-01-01 15:00", ["2026-02-01 14:15", "2026-03-01 14:15"]),
    ("0 22 * * 1-5", "2026-01-01 23:00", ["2026-01-02 22:00", "2026-01-05 22:00"]),
    ("23 0-23/2 * * *", "2026-01-01 00:30", ["2026-01-01 02:23", "2026-01-01 04:23"]),
    ("5 4 * * sun", "2026-01-01 00:00", ["2026-01-04 04:05", "2026-01-11 04:05"]),
    ("30 4 1,15 * 5", "2026-01-01 00:00", ["2026-01-01 04:30", "2026-01-02 04:30", "2026-01-09 04:30", "2026-01-15 04:30", "2026-01-16 04:30"]),
    ("0 4 8-14 * *", "2026-01-10 05:00", ["2026-01-11 04:00", "2026-01-12 04:00"]),
    # A star at the beginning of either day: both must fit.
    ("0 0 */2 * sun", "2026-01-01 00:00", ["2026-01-11 00:00", "2026-01-25 00:00", "2026-02-01 00:00"]),
    ("0 0 1-31/2 * sun", "2026-01-01 00:00", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-05 00:00"]),
    ("0 0 13 * */3", "2026-01-01 00:00", ["2026-05-13 00:00", "2026-06-13 00:00"]),
    ("0 0 * * 0", "2026-01-01 00:00", ["2026-01-04 00:00"]),
    ("0 0 * * 7", "2026-01-01 00:00", ["2026-01-04 00:00"]),
    ("0 0 * * 5-7", "2026-01-01 00:00", ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00"]),
    ("@yearly", "2026-01-01 00:00", ["2027-01-01 00:00"]),
    ("@annually", "2026-01-01 00:00", ["2027-01-01 00:00"]),
    ("@monthly", "2026-01-01 00:00", ["2026-02-01 00:00"]),
    ("@weekly", "2026-01-01 00:00", ["2026-01-04 00:00"]),
    ("@daily", "2026-01-01 00:00", ["2026-01-02 00:00"]),
    ("@midnight", "2026-01-01 00:00", ["2026-01-02 00:00"]),
    ("@hourly", "2026-01-01 00:00", ["2026-01-01 01:00"]),
]  # fmt: skip

#: The examples of Quartz's tutorial, with days of the week by their names.
QUARTZ = [
    ("0 0 12 * * ?", "2026-01-01 00:00", ["2026-01-01 12:00", "2026-01-02 12:00"]),
    ("0 15 10 ? * *", "2026-01-01 00:00", ["2026-01-01 10:15", "2026-01-02 10:15"]),
    ("0 15 10 * * ? *", "2026-01-01 00:00", ["2026-01-01 10:15", "2026-01-02 10:15"]),
    ("0 15 10 * * ? 2005", "2005-12-30 11:00", ["2005-12-31 10:15"]),
    ("0 * 14 * * ?", "2026-01-01 14:58:30", ["2026-01-01 14:59", "2026-01-02 14:00"]),
    ("0 0/5 14 * * ?", "2026-01-01 14:51", ["2026-01-01 14:55", "2026-01-02 14:00"]),
    ("0 0/5 14,18 * * ?", "2026-01-01 14:51", ["2026-01-01 14:55", "2026-01-01 18:00"]),
    ("0 0-5 14 * * ?", "2026-01-01 14:04", ["2026-01-01 14:05", "2026-01-02 14:00"]),
    ("0 10,44 14 ? 3 WED", "2026-01-01 00:00", ["2026-03-04 14:10", "2026-03-04 14:44", "2026-03-11 14:10"]),
    ("0 15 10 ? * MON-FRI", "2026-01-02 11:00", ["2026-01-05 10:15", "2026-01-06 10:15"]),
    ("0 15 10 15 * ?", "2026-01-16 00:00", ["2026-02-15 10:15", "2026-03-15 10:15"]),
    ("0 15 10 L * ?", "2026-01-31 11:00", ["2026-02-28 10:15", "2026-03-31 10:15"]),
    ("0 15 10 L-2 * ?", "2026-01-30 11:00", ["2026-02-26 10:15", "2026-03-29 10:15"]),
    ("0 15 10 ? * FRIL", "2026-01-31 00:00", ["2026-02-27 10:15", "2026-03-27 10:15"]),
    ("0 15 10 ? * FRIL 2002-2005", "2005-11-26 00:00", ["2005-12-30 10:15"]),
    ("0 15 10 ? * FRI#3", "2026-01-17 00:00", ["2026-02-20 10:15", "2026-03-20 10:15"]),
    ("0 0 12 1/5 * ?", "2026-01-26 13:00", ["2026-01-31 12:00", "2026-02-01 12:00", "2026-02-06 12:00"]),
    ("0 11 11 11 11 ?", "2026-01-01 00:00", ["2026-11-11 11:11", "2027-11-11 11:11"]),
    # The working day nearest to the 15th: a Saturday's is the Friday before, a Sunday's the Monday after.
    ("0 0 0 15W * ?", "2026-02-01 00:00", ["2026-02-16 00:00", "2026-03-16 00:00", "2026-04-15 00:00", "2026-05-15 00:00", "2026-06-15 00:00", "2026-07-15 00:00", "2026-08-14 00:00"]),
    # It stays in its month: the first, a Saturday, goes on to Monday the third.
    ("0 0 0 1W * ?", "2026-07-02 00:00", ["2026-08-03 00:00"]),
    ("0 0 0 LW * ?", "2026-01-01 00:00", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-31 00:00"]),
    ("0 0 0 31W * ?", "2026-04-01 00:00", ["2026-05-29 00:00"]),
    ("0 0 22-2 * * ?", "2026-01-01 23:00", ["2026-01-02 00:00", "2026-01-02 01:00", "2026-01-02 02:00", "2026-01-02 22:00"]),
    ("*/30 * * * * *", "2026-01-01 00:00", ["2026-01-01 00:00:30", "2026-01-01 00:01"]),
]  # fmt: skip

#: The examples of croniter's documentation, where the last Friday is written `L5`, ours is `5L`.
CRONITER = [
    ("*/5 * * * *", "2010-01-25 04:46", ["2010-01-25 04:50", "2010-01-25 04:55", "2010-01-25 05:00"]),
    ("2 4 * * mon,fri", "2010-01-26 04:46", ["2010-01-29 04:02", "2010-02-01 04:02"]),
    ("2 4 1 * wed", "2010-01-25 04:46", ["2010-01-27 04:02", "2010-02-01 04:02", "2010-02-03 04:02"]),
    ("0 0 * * sat#1,sun#2", "2010-01-25 04:46", ["2010-02-06 00:00", "2010-02-14 00:00"]),
    ("0 0 * * 5#3,5L", "2010-01-25 04:46", ["2010-01-29 00:00", "2010-02-19 00:00", "2010-02-26 00:00"]),
    ("0 0 31 * *", "2010-01-31 00:00", ["2010-03-31 00:00", "2010-05-31 00:00"]),
    ("0 0 29 2 *", "2096-02-29 00:00", ["2104-02-29 00:00"]),
    ("0 0 * feb fri#5", "2026-01-01 00:00", ["2036-02-29 00:00"]),
    ("0 0 1 jan-jan *", "2026-01-01 00:00", ["2027-01-01 00:00"]),
    ("0 22-6/3 * * *", "2026-01-01 00:00", ["2026-01-01 01:00", "2026-01-01 04:00", "2026-01-01 22:00"]),
    ("0 0 1 nov-feb *", "2026-01-01 00:00", ["2026-02-01 00:00", "2026-11-01 00:00", "2026-12-01 00:00"]),
    ("0 0 * * sat-mon", "2026-01-01 00:00", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-05 00:00"]),
    ("59/15 * * * *", "2026-01-01 00:00", ["2026-01-01 00:59", "2026-01-01 01:59"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "after", "expected"), [*VIXIE, *QUARTZ, *CRONITER])
def test_an_expression_means_what_its_makers_say(
    expression: str, after: str, expected: list[str]
) -> None:
    assert times(expression, after, len(expected)) == expected


def test_a_last_year_ends_it() -> None:
    assert times("0 0 0 1 1 ? 2027", "2026-01-01 00:00") == ["2027-01-01 00:00"]
    assert times("0 0 0 1 1 ? 2020", "2026-01-01 00:00") == []


@pytest.mark.parametrize(
    ("expression", "message", "hint", "offset"),
    [
        ("", "is empty", "minute hour day month weekday", 0),
        ("* * * *", "has 4 fields", "minute hour day month weekday", 0),
        ("0 0 0 1 1 ? 2027 9", "has 8 fields", "minute hour", 18),
        ("61 * * * *", "is no cron expression: minute cannot be '61'", "minute is 0 to 59", 1),
        ("0 24 * * *", "is no cron expression: hour cannot be '24'", "hour is 0 to 23", 3),
        ("0 0 0 * *", "is no cron expression: day of month cannot be '0'", "1 to 31", 5),
        ("0 0 * 13 *", "is no cron expression: month cannot be '13'", "1 to 12, or JAN to DEC", 7),
        (
            "0 0 * * 8",
            "is no cron expression: day of week cannot be '8'",
            "0 to 7, or SUN to SAT",
            9,
        ),
        (
            "0 0 * * MOM",
            "is no cron expression: day of week cannot be 'MOM'",
            "did you mean 'MON'?",
            9,
        ),
        (
            "0 0 * * mon,tus",
            "is no cron expression: day of week cannot be 'tus'",
            "did you mean 'TUE'?",
            13,
        ),
        ("1,2,x * * * *", "is no cron expression: minute cannot be 'x'", "0 to 59", 5),
        ("1,,2 * * * *", "is no cron expression: minute cannot be ''", "0 to 59", 3),
        ("1- * * * *", "is no cron expression: minute cannot be '1-'", "0 to 59", 1),
        ("-1 * * * *", "is no cron expression: minute cannot be '-1'", "0 to 59", 1),
        ("*-5 * * * *", "is no cron expression: minute cannot be '*-5'", "a star has no end", 1),
        ("*/0 * * * *", "is no cron expression: minute '*/0' has a step of 0", "1 to 60", 1),
        (
            "*/90 * * * *",
            "is no cron expression: minute '*/90' has a step of 90",
            'write every = "',
            1,
        ),
        ("? * * * *", "is no cron expression: minute cannot be '?'", "0 to 59", 1),
        ("٣ * * * *", "is no cron expression: minute cannot be '٣'", "0 to 59", 1),
        ("0 0 32W * *", "is no cron expression: day of month cannot be '32'", "1 to 31", 5),
        ("0 0 L-31 * *", "is no cron expression: day of month L-31 goes back too far", "L-30", 5),
        ("0 0 * * L", "is no cron expression: day of week L does not say which", "FRIL", 9),
        (
            "0 0 * * MON#6",
            "is no cron expression: day of week MON#6 has no such week",
            "#1 to #5",
            9,
        ),
        (
            "0 0 * * MON#0",
            "is no cron expression: day of week MON#0 has no such week",
            "#1 to #5",
            9,
        ),
        ("0 0 * * 15W", "is no cron expression: day of week cannot be '15W'", "0 to 7", 9),
        ("H(0-99) * * * *", "is no cron expression: minute cannot be '99'", "0 to 59", 1),
        (
            "H(9-3) * * * *",
            "is no cron expression: minute 'H(9-3)' ends before it begins",
            "0 to 59",
            1,
        ),
        ("Hx * * * *", "is no cron expression: minute cannot be 'Hx'", "H(0-29)", 1),
        ("H/61 * * * *", "is no cron expression: minute 'H/61' has a step of 61", "1 to 60", 1),
        (
            "0 0 0 1 1 ? H",
            "is no cron expression: year cannot be spread by H",
            "name the years",
            13,
        ),
        ("0 0 0 1 1 ? 1960", "is no cron expression: year cannot be '1960'", "1970 to 2199", 13),
        (
            "0 0 0 1 1 ? 2030-2029",
            "is no cron expression: year '2030-2029' ends before it begins",
            "do not wrap",
            13,
        ),
        ("0 0 31 2 *", "never comes", "no FEB has such a day", 5),
        ("0 0 31 4,6,9,11 *", "never comes", "no APR, JUN, SEP, NOV has such a day", 5),
        ("0 0 30W 2 ?", "never comes", "no FEB has such a day", 5),
        ("0 0 0 29 2 ? 2027", "never comes", "no FEB of these years has such a day", 7),
        ("@dayly", "cannot be '@dayly'", "did you mean '@daily'?", 1),
        ("@every 5m", "cannot be '@every 5m'", 'write every = "5m"', 1),
        ("@reboot", "cannot be '@reboot'", "no machine's start is a schedule", 1),
        # Seconds last, as some other crons have them.
        (
            "0 2 1 1 MON 30",
            "is no cron expression: month cannot be 'MON'",
            "seconds stand first: 30 0 2 1 1 MON",
            9,
        ),
        # The same number is another day to Quartz.
        ("0 15 10 ? * 6L", "has a number for the day of week: '6L'", "write SUN to SAT", 13),
        (
            "0 15 10 ? * 2-6",
            "has a number for the day of week: '2-6'",
            "Quartz counts from SUN = 1",
            13,
        ),
    ],
)
def test_a_bad_expression_is_told_where_and_what_is_allowed(
    expression: str, message: str, hint: str, offset: int
) -> None:
    fault = cron_fault(expression)
    assert fault is not None
    assert fault[0] == message
    assert hint in fault[1]
    assert fault[2] == offset


def test_an_endless_text_is_not_read() -> None:
    assert cron_fault("1," * 600 + "1 * * * *") == ("has 1209 characters", "at most 1000", 0)


def test_h_is_a_value_of_its_own_for_each_schedule_and_stays_so() -> None:
    texts = {seed: parse_cron("H H * * *", seed).text for seed in ("a:x", "b:x", "c:x")}
    assert texts == {"a:x": "30 6 * * *", "b:x": "58 17 * * *", "c:x": "7 20 * * *"}
    minutes = [int(parse_cron("H * * * *", f"job{n}:x").text.split()[0]) for n in range(6000)]
    counts = [minutes.count(minute) for minute in range(60)]
    assert min(counts) > 60
    assert max(counts) < 150
    for seed in map(str, range(200)):
        assert 10 <= int(parse_cron("H(10-19) * * * *", seed).text.split()[0]) <= 19
        assert int(parse_cron("0 0 H * *", seed).text.split()[2]) <= 28


def test_h_is_of_any_day_of_the_week_too() -> None:
    days = {parse_cron("0 0 2 ? * H", f"job{n}:x").text.split()[-1] for n in range(60)}
    assert days == set("0123456")


def test_h_with_a_step_is_spread_as_well() -> None:
    cron = parse_cron("H/15 H(0-7)/4 * * *", "a:x")
    minute, hour = cron.text.split()[:2]
    assert int(minute.removesuffix("/15")) < 15
    assert hour.endswith("-7/4")
    assert len(cron.in_hour) == 4
    assert len(cron.hours) == 2


@pytest.mark.parametrize(
    ("expression", "is_rhythm"),
    [
        ("0 * * * *", True),
        ("*/5 */2 * * *", True),
        ("0 0/2 * * *", True),
        ("0 H/2 * * *", True),
        ("0 0-23 * * *", True),
        ("* 2 * * *", False),
        ("0 H * * *", False),
        ("0 0-22 * * *", False),
        ("0 0,12 * * *", False),
    ],
)
def test_an_hour_with_a_star_or_an_open_step_is_a_rhythm(expression: str, is_rhythm: bool) -> None:
    assert parse_cron(expression).is_rhythm is is_rhythm


def test_equal_expressions_share_what_was_compiled() -> None:
    assert parse_cron("5 4 * * *") is parse_cron("5  4 * * *")
    assert parse_cron("5 4 * * MON").days is parse_cron("9 1 * * MON").days


def test_an_error_says_all_in_its_text() -> None:
    with pytest.raises(CronError, match="minute cannot be 'x'"):
        parse_cron("x * * * *")
