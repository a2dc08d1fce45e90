"""What docs/schedules.md shows is what happens."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from rota.core import calendar_file, header_on
from rota.core.cron import cron_fault
from rota.core.definitions import check_file, check_tree
from rota.core.timetable import Timetable
from rota.core.triggers import Dst, Schedule
from rota.core.zones import find_zone

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
BERLIN = find_zone("Europe/Berlin").info


def block(language: str) -> bytes:
    match = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match
    return match[1].encode()


def test_the_header_and_the_calendar_are_taken() -> None:
    tree = {
        "jobs/x": block("sh"),
        "calendars/office.toml": block("toml"),
        "calendars/holidays.toml": b'holidays = "DE-BY"\n',
        "calendars/freeze.toml": b"dates = [2026-12-24]\n",
    }
    found, problems = check_tree(tree)
    assert problems == ()
    assert len(found.jobs["x"].job.on) == 4


def test_every_key_has_its_row() -> None:
    for key in (*header_on._SCHEDULE, *calendar_file._CALENDAR):
        assert re.search(rf"^\|.*`{key}`.*\|", PAGE, re.MULTILINE), key


def test_every_form_of_an_expression_that_is_shown_is_read() -> None:
    table = PAGE.partition("## Cron expressions")[2].partition("* **Two days.**")[0]
    forms = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    assert len(forms) > 25
    for form in forms:
        tried = [form, f"{form} * * * *", f"0 {form} * * *", f"0 0 {form} * *"]
        tried += [f"0 0 1 {form} *", f"0 0 * * {form}"]
        assert any(cron_fault(it) is None for it in tried), form


def test_the_table_of_berlins_changes_is_true() -> None:
    rows = re.findall(
        r"^\| (`[^|]+`)? ?\| (`(?:once|skip|both|shift)`[^|]*) \| (.*) \| (.*) \|$",
        PAGE,
        re.MULTILINE,
    )
    rows = [row for row in rows if "fires" not in row[2]]
    assert len(rows) == 8
    cron = ""
    for expression, policies, spring, autumn in rows:
        cron = expression.strip("`") or cron
        for dst in re.findall(r"`(\w+)`", policies):
            rule = Schedule(cron=cron, tz="Europe/Berlin", dst=cast("Dst", dst))
            assert fired(rule, 29, 3, (1, 15), (3, 45)) == spring, (cron, dst)
            assert fired(rule, 25, 10, (1, 45), (3, 0)) == autumn, (cron, dst)


def fired(
    rule: Schedule, day: int, month: int, after: tuple[int, int], until: tuple[int, int]
) -> str:
    """Return the times of a day as the page writes them."""
    start, end = (
        datetime(2026, month, day, *at, tzinfo=BERLIN).astimezone(UTC) for at in (after, until)
    )
    found = [it.astimezone(BERLIN) for it in Timetable(rule, "x:x", {}).between(start, end)]
    if month == 3:
        return ", ".join(f"{it:%H:%M}" for it in found) or "–"  # noqa: RUF001  # as the page has it
    parts = []
    for season, name in ((2, "summer"), (1, "winter")):
        offset = timedelta(hours=season)
        times = [it for it in found if it.hour < 3 and it.utcoffset() == offset]
        if times:
            parts.append(", ".join(f"{it:%H:%M}" for it in times) + f" ({name})")
    parts += [f"{it:%H:%M}" for it in found if it.hour >= 3]
    return ", ".join(parts)


def test_what_the_page_says_is_refused_is_refused() -> None:
    for on in ('{ cron = "0 25 * * *" }', '{ cron = "0 0 30 2 *" }', '{ every = "5m", tz = "X" }'):
        script = f"# /// script\n# [tool.rota]\n# on = [{on}]\n# ///\n".encode()
        assert check_file("jobs/x", script)
