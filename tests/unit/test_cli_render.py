"""Tables, times and colours, at 80 columns and in a pipe."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.fake_agent import BUILD, STATUS

from rota.cli.commands.agent import labels_text, status_lines
from rota.cli.commands.cluster import agents_table
from rota.cli.commands.events import event_text
from rota.cli.commands.jobs import build_lines, job_lines
from rota.cli.commands.usage import usage_table
from rota.cli.render import (
    Cell,
    Look,
    ago,
    asker,
    builds_table,
    cells,
    clean,
    cut,
    duration,
    facts,
    jobs_table,
    result_line,
    size,
    table,
)
from rota.cli.screen import answered_at

NOW = datetime(2026, 1, 2, 3, 9, 5, tzinfo=UTC)
TERMINAL = Look(color=False, unicode=True, width=80, now=NOW)
COLOURS = TERMINAL._replace(color=True)
ASCII = TERMINAL._replace(unicode=False)
PIPE = Look()


def build(**more: Any) -> dict[str, Any]:
    return {**BUILD, **more}


RUNNING = build(number=8, state="running", result=None, finished_at=None)
BUILDS = [
    RUNNING,
    build(),
    build(job="deploy", number=123, result="failed", trigger={"source": "web/test#7"}),
]


def test_builds_on_a_terminal_are_aligned() -> None:
    assert builds_table(BUILDS, TERMINAL) == [
        "web/test#8  ● running  5m04s  5 min ago  by anna",
        "web/test#7  ✓ passed   2m03s  3 min ago  by anna",
        "deploy#123  ✗ failed   2m03s  3 min ago  from web/test#7",
    ]


def test_signs_are_ascii_where_the_locale_is_not_utf_8() -> None:
    assert builds_table(BUILDS[:2], ASCII) == [
        "web/test#8  * running  5m04s  5 min ago  by anna",
        "web/test#7  + passed   2m03s  3 min ago  by anna",
    ]


def test_builds_in_a_pipe_are_plain_and_whole() -> None:
    long = build(job="a" * 150, trigger={})
    assert builds_table([build(), long], PIPE) == [
        "web/test#7  passed  2m03s  2026-01-02T03:06:04.000000Z  by anna",
        f"{'a' * 150}#7  passed  2m03s  2026-01-02T03:06:04.000000Z  -",
    ]


def test_colours_change_nothing_but_colours() -> None:
    coloured = builds_table(BUILDS, COLOURS)
    assert coloured[1].startswith("\x1b[1mweb/test#7\x1b[0m  \x1b[32m✓ passed\x1b[0m ")
    assert [_without_colours(line) for line in coloured] == builds_table(BUILDS, TERMINAL)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.text(max_size=60), st.text(max_size=60), st.text(max_size=9)), max_size=5
    ),
    st.integers(1, 120),
    st.booleans(),
)
def test_no_row_is_wider_than_the_terminal(
    rows: list[tuple[str, str, str]], width: int, unicode: bool
) -> None:
    look = Look(unicode=unicode, width=width)
    lines = table([tuple(map(Cell, row)) for row in rows], look, shrink=(1, 0))
    assert len(lines) == len(rows)
    assert all(cells(line) <= width for line in lines)
    assert not any(re.search(r"[\x00-\x1f\x7f-\x9f]", line) for line in lines)


def test_wide_characters_count_twice_and_marks_not_at_all() -> None:
    assert [cells("ab"), cells("日本"), cells("e\u0301")] == [2, 4, 1]
    assert cut(TERMINAL, "日本語", 5) == "日本…"
    assert cut(ASCII, "abcdefgh", 6) == "abc..."


def test_nobodys_text_drives_the_terminal() -> None:
    assert clean("a\x1b[2J\nb\x9b\t") == r"a\x1b[2J\nb\x9b\t"
    evil = build(trigger={"by": "\x1b]0;x\x07"}, message="\x1b[2J")
    for look in (TERMINAL, PIPE):
        for line in (
            *builds_table([evil], look),
            result_line(evil, look),
            *build_lines(evil, look),
        ):
            assert "\x1b" not in line
            assert "\x07" not in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"), (0.44, "0.4s"), (12, "12s"), (59.9, "59s"), (123, "2m03s"),
        (3600, "1h00m"), (86399, "23h59m"), (273600, "3d04h"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("2026-01-02T03:09:04Z", "just now"), ("2026-01-02T04:00:00Z", "just now"),
        ("2026-01-02T03:08:53.500000Z", "11 s ago"), ("2026-01-02T03:04:05Z", "5 min ago"),
        ("2026-01-02T00:09:05Z", "3 h ago"), ("2025-12-30T03:09:05Z", "3 d ago"),
        ("2024-12-30T03:09:05Z", "2024-12-30"),
    ],
)  # fmt: skip
def test_ages_are_told_roughly(at: str, text: str) -> None:
    assert ago(TERMINAL, at) == text
    assert ago(PIPE, at) == at


def test_without_the_agents_clock_a_time_is_told_as_it_is() -> None:
    assert ago(TERMINAL._replace(now=None), "2026-01-02T03:09:04Z") == "2026-01-02T03:09:04Z"


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_agents_clock_is_read_from_the_date_of_its_answer(at: datetime) -> None:
    assert answered_at({"Date": format_datetime(at, usegmt=True)}) == at.replace(microsecond=0)


@pytest.mark.parametrize("date", ["", "now", "Sat, 28 Nox 2026 18:58:02 GMT", "a 28 Nov b c d"])
def test_an_answer_of_no_time_has_none(date: str) -> None:
    assert answered_at({"date": date}) is None


def test_sizes_have_units() -> None:
    assert [size(0), size(1023), size(1536), size(5 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]


def test_jobs_tell_their_last_build_or_that_they_are_paused() -> None:
    last = {
        "number": 7,
        "state": "finished",
        "result": "failed",
        "finished_at": "2026-01-02T03:06:04Z",
    }
    jobs: list[dict[str, Any]] = [
        {"name": "web/test", "description": "unit tests", "paused": None, "last": last},
        {"name": "deploy", "description": "", "paused": "", "last": None},
    ]
    assert jobs_table(jobs, TERMINAL) == [
        "web/test  ✗ failed  #7 3 min ago  unit tests",
        "deploy    = paused",
    ]
    assert jobs_table(jobs, PIPE) == ["web/test  failed  #7  unit tests", "deploy  paused  -  -"]


def test_a_status_fits_eighty_columns() -> None:
    lines = status_lines(STATUS, TERMINAL)
    assert lines[:9] == [
        "agent       a1, rota 0.1.0, pid 4242",
        "up          5 min ago",
        "leader      itself, 5 min ago, a2 stopped",
        "cluster     3 agents, voters: a1, a2, a3, level 2",
        "quorum      yes; 1 failure is tolerated now",
        "url         http://127.0.0.1:7070",
        "peer        https://10.0.0.1:7071",
        "data        /var/lib/rota, 11.5 GiB free",
        "engine      ok",
    ]
    assert "builds      2 running of 4 slots, 3 queued, 0 held" in lines
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tolerates": 0}, "quorum      yes; no failure is tolerated now"),
        ({"tolerates": 2}, "quorum      yes; 2 failures are tolerated now"),
        ({"tolerates": None}, "quorum      the engine is run by others"),
        ({"tolerates": -1}, "quorum      none: builds that run go on, nothing can be written"),
        ({"stale_since": "2026-01-02T03:08:05.000000Z"}, "quorum      none since 1 min ago: builds that run go on, nothing can be written"),
        ({"leader": ""}, "leader      none, 5 min ago, a2 stopped"),
        ({"leader": "a2", "leader_since": None, "leader_why": ""}, "leader      a2"),
        ({"members": 1, "voters": []}, "cluster     1 agent"),
        ({"draining": True}, "builds      2 running of 4 slots, takes no more, 3 queued, 0 held"),
    ],
)  # fmt: skip
def test_a_status_says_who_leads_and_what_may_fail(changes: dict[str, Any], line: str) -> None:
    lines = status_lines({**STATUS, **changes}, TERMINAL)
    assert line in lines or line in " ".join(it.strip() for it in lines)


#: As a machine with many tools says of itself.
LABELS = {
    "linux": "", "arch": "x86_64", "can-limit-cpus": "", "can-drop-privs": "", "can-set-user": "",
    "podman": "4", "git": "2.39", "java": "17", "node": "20", "python": "3.11", "terraform": "",
}  # fmt: skip
AGENT: dict[str, Any] = {
    "state": "up", "leaving": False, "draining": False, "running": 1, "slots": 4, "is_leader": True,
    "is_voter": True, "url": "http://ci-1.example:7070", "since": "2026-01-02T03:04:05.000000Z",
}  # fmt: skip
NARROW = [
    TERMINAL._replace(width=width, color=color) for width in (80, 60) for color in (True, False)
]


def seen(lines: list[str], look: Look) -> list[str]:
    """Return lines as they are seen, and that they have colours if there are to be some."""
    assert any("\x1b" in line for line in lines) == look.color
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert [line for line in shown if cells(line) > (look.width or 0)] == []
    return shown


@pytest.mark.parametrize("look", NARROW)
def test_many_labels_fit_a_narrow_terminal(look: Look) -> None:
    trouble = "the disk of /var/lib/rota is full: 3 MB free, builds need 256 MB, and take none"
    status = {**STATUS, "labels": LABELS, "trouble": [trouble]}
    said = seen(status_lines(status, look), look)
    words = " ".join(it[12:].strip() for it in said)
    assert labels_text(LABELS) in words, "no label is taken to pieces at a line's end"
    agents = [
        {**AGENT, "name": name, "labels": {"agent": name, **LABELS, "docker": "", **own}}
        for name, own in (("build-one", {"zone": "a"}), ("b", {"zone": "b", "gpu": ""}))
    ]
    one, two = seen(agents_table(agents, look), look)
    assert "zone=a" in one, "what tells them apart comes first"
    assert "zone=b" in two
    usages = [
        {"agent": "build-one", "what": "kept workspaces", "bytes": 5 << 30, "is_least": True,
         "bound": 20 << 30, "rule": "workspaces.max_bytes, .max_count, .max_age", "next": "web/test#7"},
    ]  # fmt: skip
    [row] = seen(usage_table(usages, look), look)
    assert row.startswith("build-one  kept workspaces  5.0 GiB+  of 20.0 GiB  next: we")


def test_a_wide_terminal_says_what_bounds_it_as_well() -> None:
    usage = {"agent": "", "what": "logs", "bytes": 5, "is_least": False, "bound": None,
             "rule": "logs.max_bytes", "next": ""}  # fmt: skip
    assert usage_table([usage], TERMINAL._replace(width=120)) == ["all  logs  5 B  logs.max_bytes"]
    assert usage_table([usage], PIPE) == ["all  logs  5 B  -  logs.max_bytes  -"]


def test_long_facts_are_wrapped_on_a_terminal_alone() -> None:
    text = "word " * 30
    assert facts([("name", text.strip())], TERMINAL)[1].startswith("      word")
    assert facts([("name", text.strip())], PIPE) == [f"name  {text.strip()}"]


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (build(), "web/test#7 passed in 2m03s"),
        (build(result="failed", exit_code=3), "web/test#7 failed in 2m03s, exit code 3"),
        (build(result="timed-out", reason="timeout"), "web/test#7 timed-out in 2m03s (timeout)"),
        (build(result="lost", reason="lost", message="a1 is gone"), "web/test#7 lost in 2m03s (lost): a1 is gone"),
        (build(result="cancelled", reason="cancelled", started_at=None), "web/test#7 cancelled"),
        (RUNNING, "web/test#8 running"),
    ],
)  # fmt: skip
def test_one_line_says_how_a_build_is(build: dict[str, Any], line: str) -> None:
    assert result_line(build, PIPE) == line


def test_a_build_is_shown_with_its_remarks_and_files() -> None:
    shown = build_lines(
        build(
            annotations=[{"level": "error", "message": "bad", "file": "a.py", "line": 3}],
            artifacts=[{"path": "dist/a", "size": 2048, "sha256": "0"}],
            params={"suite": "full"},
        ),
        TERMINAL,
    )
    assert "error       a.py:3: bad" in shown
    assert "artifact    dist/a, 2.0 KiB" in shown
    assert "parameters  suite=full" in shown
    assert "asked for   5 min ago by anna" in shown


def test_a_job_is_shown_with_its_parameters() -> None:
    job = {
        "name": "web/test",
        "description": "unit tests",
        "paused": "house moves",
        "etag": "abc",
        "last": None,
        "params": {"suite": {"default": "fast", "choices": ["fast", "full"]}, "who": {"description": "whom"}},
        "spec": {"labels": "linux", "timeout_s": 1200.0, "retry": {"times": 2}, "env": {"A": "b"}},
    }  # fmt: skip
    assert job_lines(job, PIPE) == [
        "job          web/test",
        "description  unit tests",
        "paused       house moves",
        "labels       linux",
        "timeout      20m00s",
        "retries      2",
        "environment  A=b",
        "etag         abc",
        "",
        "parameters:",
        "  suite=fast  one of fast, full",
        "  who (required)  whom",
    ]


def test_an_event_is_one_line() -> None:
    event = {
        "seq": 5, "kind": "build.started", "at": "2026-01-02T03:04:05.000000Z", "by": "a1",
        "agent": "a1", "build": "0123456789abcdef", "attempt": 1, "v": 1, "empty": "",
    }  # fmt: skip
    assert event_text(event, PIPE) == (
        "5  2026-01-02T03:04:05.000000Z  build.started  build=0123456789abcdef attempt=1 by=a1"
    )
    line = event_text({**event, "x": "y" * 200}, TERMINAL)
    assert line.startswith("     5  ")
    assert len(line) == 80
    custom = {
        "seq": 6,
        "kind": "custom",
        "at": event["at"],
        "type": "deploy.done",
        "data": {"a": 1},
    }
    assert event_text(custom, PIPE).endswith('  deploy.done  data={"a":1}')


def _without_colours(line: str) -> str:
    return re.sub(r"\x1b\[[0-9]*m", "", line)


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        ({"kind": "need", "source": "x", "data": {"needed_by": "web/ship"}}, "needed by web/ship"),
        ({"kind": "matrix", "source": "x"}, "a cell, os=linux fast=true"),
        ({"kind": "schedule", "source": "web/test:nightly"}, "from web/test:nightly"),
        ({"kind": "manual", "by": "anna"}, "by anna"),
    ],
)
def test_who_asked_for_a_build_is_told_in_words(trigger: dict[str, Any], text: str) -> None:
    assert asker({"trigger": trigger, "cell": {"os": "linux", "fast": True}}) == text
