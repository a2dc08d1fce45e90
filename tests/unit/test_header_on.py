"""The `on` list of a header: what each kind reads to, and what bad entries are told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from rota.core.header import parse_header
from rota.core.job import Job
from rota.core.triggers import (
    After,
    Chat,
    Hook,
    On,
    OnEvent,
    PullRequest,
    Push,
    Schedule,
    rule_id,
    rule_text,
)


def header(on: str) -> str:
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [{on}]\n# ///\n"


def read(on: str) -> tuple[On, ...]:
    job, problems = parse_header(header(on), name="x", path="jobs/x")
    assert job is not None, [str(problem) for problem in problems]
    return job.on


def faults(on: str) -> list[str]:
    job, problems = parse_header(header(on), name="x", path="jobs/x")
    assert job is None
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{ cron = "H 2 * * *" }', Schedule(cron="H 2 * * *")),
        (
            '{ cron = "0 2 * * *", tz = "Europe/Berlin", dst = "shift", overlap = "skip" }',
            Schedule(cron="0 2 * * *", tz="Europe/Berlin", dst="shift", overlap="skip"),
        ),
        (
            '{ every = "5m", misfire = "10m", jitter = "30s" }',
            Schedule(every_s=300, misfire="within", within_s=600, jitter_s=30),
        ),
        (
            '{ at = "2026-12-24T18:00:00+01:00", calendar = "a", except = ["b", "c"] }',
            Schedule(
                at=(datetime(2026, 12, 24, 17, tzinfo=UTC),), calendars=("a",), excepts=("b", "c")
            ),
        ),
        ('{ after = "web/build" }', After(job="web/build")),
        (
            '{ after = "web/*", result = ["failed", "lost"], name = "sad" }',
            After(job="web/*", results=("failed", "lost"), name="sad"),
        ),
        ('{ push = "main" }', Push(branches=("main",))),
        ('{ push = true, files = "src/**" }', Push(branches=("*",), files=("src/**",))),
        ('{ tag = "v*" }', Push(tags=("v*",))),
        ("{ pull_request = true }", PullRequest()),
        (
            '{ event = "release.*", where = { "data.beta" = false }, params = { v = "{data.v}" } }',
            OnEvent(type="release.*", where={"data.beta": "false"}, params={"v": "{data.v}"}),
        ),
        ('{ hook = "deploys", priority = 5 }', Hook(hook="deploys", priority=5)),
        ('{ chat = "deploy (?P<env>.*)" }', Chat(chat="deploy (?P<env>.*)")),
    ],
)
def test_each_kind_is_read(text: str, rule: On) -> None:
    assert read(text) == (rule,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("5", "on[1] must be a table, not an integer (such as { cron = "),
        ('{ chron = "x" }', "on[1] says not what it waits for (did you mean 'cron'?)"),
        ('{ event = "a", hook = "b" }', "on[1] has both event and hook (make two entries of it)"),
        ('{ cron = "* * * * *", every = "5m" }', "on[1] has more than one of cron, every and at"),
        ("{ every = 5 }", "on[1].every must be a string, not an integer"),
        ('{ after = "x", frob = 1 }', "unknown key on[1].frob"),
        ('{ after = "a b" }', "on[1].after is no job's name: the segment 'a b' does not fit"),
        ('{ after = "x", result = "fine" }', "on[1].result[1] cannot be 'fine'"),
        ('{ cron = "* * * * *", misfire = "never" }', "on[1].misfire cannot be 'never' (skip, "),
        ("{ at = 2026-12-24 }", "on[1].at[1] must say the time of day as well"),
        ("{ at = 2026-12-24T18:00:00 }", "on[1].at[1] must say its zone"),
        ('{ chat = "(" }', "on[1].chat is no regular expression"),
        ("{ push = [] }", "on[1].push is empty, so that nothing would match"),
        (
            '{ every = "1h", start = 2026-01-02T00:00:00Z, end = 2026-01-01T00:00:00Z }',
            "on[1].end is not after start",
        ),
        ('{ push = "a" }, { push = "a" }', "on[2] has the same as on[1]"),
        (
            '{ push = "a", name = "n" }, { push = "b", name = "n" }',
            "on[2] has the name 'n' as on[1]",
        ),
    ],
)
def test_a_bad_entry_is_named(text: str, fault: str) -> None:
    (found,) = faults(text)
    assert found.startswith("jobs/x:4:")
    assert fault in found


def test_a_rules_id_is_its_own_wherever_it_stands() -> None:
    one, two = read('{ push = "a" }, { push = "b" }')
    other, same = read('{ push = "b" }, { push = "a" }')
    assert rule_id("x", one) == rule_id("x", same) != rule_id("x", two) == rule_id("x", other)
    (named,) = read('{ push = "c", name = "n" }')
    assert rule_id("x", named) == "x:n"


def test_a_job_with_rules_survives_the_codec() -> None:
    job, _ = parse_header(header('{ every = "5m" }, { push = "a" }'), name="x", path="jobs/x")
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job


@pytest.mark.parametrize(
    ("on", "problem"),
    [
        (
            '{ cron = "0 25 * * *" }',
            "jobs/x:4:21: on[1].cron is no cron expression: hour cannot be '25' (hour is 0 to 23)",
        ),
        (
            '{ push = "main" }, { cron = "0 0 31 2 *" }',
            "jobs/x:4:42: on[2].cron never comes (no FEB has such a day)",
        ),
        (
            '{ cron = "0 0 * * *", tz = "Berlin" }',
            "jobs/x:4:36: on[1].tz is no time zone: 'Berlin' (did you mean 'Europe/Berlin'?)",
        ),
        (
            '{ cron = "0 0 * * *", calendar = ["a", "b/c"] }',
            (
                "jobs/x:4:48: on[1].calendar[2] cannot be 'b/c' (the name of a file in calendars/, "
                "without .toml or .ics)"
            ),
        ),
        (
            '{ every = "1m", jitter = "2m" }',
            "jobs/x:4:34: on[1].jitter is longer than every (at most the interval itself)",
        ),
        (
            '{ cron = "0 0 * * *", start = "2026-01-01" }',
            "jobs/x:4:39: on[1].start must say its zone (2026-01-01T00:00:00Z, or +01:00)",
        ),
    ],
)
def test_a_bad_schedule_is_told_where(on: str, problem: str) -> None:
    assert faults(on) == [problem]


def test_the_header_that_the_docs_show_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "triggers.md").read_text()
    script = text.split("```bash\n")[1].split("```")[0]
    job, problems = parse_header(script, name="a", path="jobs/a")
    assert problems == ()
    assert job is not None
    assert [rule_text(rule) for rule in job.on] == [
        "push to main, files src/** !**/*.md",
        "pull request into main",
        "after web/build failed or timed-out",
        "event release.* data.channel=stable",
        "webhook deploys",
        r"chat deploy (?P<what>\w+) in #ops",
    ]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('{ chat = "deploy (" }', "on[1].chat is no regular expression: missing ): deploy ("),
        ('{ chat = "(?=x)" }', "on[1].chat is no regular expression: "),
        ('{ event = "x", params = { a = "{" } }', "on[1].params.a has a lone '{'; write {{ for"),
        ('{ event = "x", params = { a = "{a!r}" } }', "on[1].params.a has a lone '{'"),
    ],
)
def test_what_no_trigger_could_fill_in_is_refused_with_the_header(rule: str, says: str) -> None:
    script = f"#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ {rule} ]\n# ///\n"
    _, (problem,) = parse_header(script, name="a", path="jobs/a")
    assert problem.line == 4
    assert problem.message.startswith(says)
