"""``rota top``: what keys do, and what the picture is."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.fake_agent import answer
from tests.unit.test_cli_commands import AGENT, Rota, rota

from rota.cli.bars import bar, marks, slots_bar
from rota.cli.render import Look, cells, jobs_table
from rota.cli.sparkline import sparkline
from rota.cli.top.frame import Frame, Seen, frame, shares
from rota.cli.top.view import Cancel, Choice, View, glob_of
from rota.cli.trend_view import results_line, trend_lines, waits_lines

__all__ = ["rota"]

AT = "2026-01-02T03:04:05.000000Z"
NOW = "2026-01-02T03:05:05.000000Z"
RUN: dict[str, Any] = {
    "build": "web/slow#4", "id": "r1", "agent": "a1", "attempt": 1, "started_at": AT,
    "typical_s": 120.0, "waits_for": "",
}  # fmt: skip
WAITING = {
    "place": 1, "build": "web/next#5", "id": "q1", "project": "web", "priority": 0,
    "labels": "linux", "requested_at": AT, "text": "slot",
}  # fmt: skip
FAILURE = {
    "build": "web/bad#6", "id": "f1", "result": "failed", "agent": "a1", "finished_at": AT,
    "ran_s": 1.0, "step": "compile", "message": "no such file",
}  # fmt: skip
OVERVIEW: dict[str, Any] = {
    "seq": 9, "at": NOW, "agent": "a1", "version": "1", "leader": "a1", "leader_since": AT,
    "voters": ["a1", "a2", "a3"], "stale_since": None, "trouble": [], "members": 1, "up": 1,
    "slots": 4, "used": 2, "running": 1, "queued": 1, "held": 2, "oldest_at": AT,
    "agents": [AGENT], "runs": [RUN], "waiting": [WAITING], "failures": [FAILURE],
    "finished": [0] * 28 + [7, 3],
}  # fmt: skip
LOOK = Look(unicode=True, width=80)


def shown(
    view: View | None = None,
    *,
    look: Look = LOOK,
    width: int = 80,
    height: int | None = 24,
    **seen: Any,
) -> Frame:
    return frame(Seen(**{"overview": OVERVIEW, **seen}), view or View(), look, width, height)


def text(drawn: Frame) -> str:
    return "\n".join("".join(cell.text for cell in line).rstrip() for line in drawn.lines)


PICTURE = """\
rota  a1 leads since 1m00s  1 up  voters a1 a2 a3  03:05:05
██░░ 2/4 slots  1 running  1 queued for 1m00s  2 held  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█▄ 1.4/min
AGENTS
 a1     up       ██░░        2/4  leads linux
RUNNING
 web/slow#4   a1   █████░░░░░  1m00s  50%, 1m00s left
QUEUED
 web/next#5    1m00s  waits for a slot  linux
FAILED LATELY
 ✗ web/bad#6    1 min ago   failed  in step compile: no such file"""


def test_the_picture_has_all_that_is_there() -> None:
    assert text(shown(height=None)) == PICTURE


def test_in_a_window_the_keys_stand_below_and_each_line_fits() -> None:
    drawn = shown()
    assert len(drawn.lines) == 24
    assert text(drawn).startswith(PICTURE)
    assert text(drawn).endswith("? help")


def test_where_there_are_no_such_signs_everything_is_ascii() -> None:
    plain = LOOK._replace(unicode=False)
    assert text(shown(look=plain)).isascii()
    assert text(shown(View(has_help=True), look=plain)).isascii()
    assert text(shown(View(log="r1"), look=plain, log=["x"], log_of="r1")).isascii()


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 60), st.booleans())
def test_no_window_is_too_small(width: int, height: int, rows: int, has_log: bool) -> None:
    many = {
        **OVERVIEW,
        "runs": [{**RUN, "id": f"r{n}"} for n in range(rows)],
        "waiting": [{**WAITING, "id": f"q{n}", "build": "ä漢" * n} for n in range(rows)],
    }
    view = View(log="r1" if has_log else "", selected="r1")
    drawn = shown(
        view, overview=many, width=width, height=height, log=["漢" * 90] * 70, log_of="r1"
    )
    assert len(drawn.lines) == height
    assert all(sum(cells(cell.text) for cell in line) <= width for line in drawn.lines)


def test_a_build_that_is_late_says_by_how_much_and_one_without_a_past_no_share() -> None:
    late = {**OVERVIEW, "runs": [{**RUN, "typical_s": 20.0}]}
    assert "██████████  1m00s, 40s over" in text(shown(overview=late))
    new = {**OVERVIEW, "runs": [{**RUN, "typical_s": None}]}
    line = next(it for it in text(shown(overview=new)).splitlines() if "web/slow" in it)
    assert "%" not in line
    assert line.endswith("1m00s")


def test_labels_that_all_agents_have_are_left_out() -> None:
    found = {"linux": "", "arch": "x86_64", "can-set-user": ""}
    agents = [
        {**AGENT, "labels": {"agent": "a1", **found, "gpu": ""}},
        {**AGENT, "name": "a2", "labels": {"agent": "a2", **found, "java": "17"}},
    ]
    lines = text(shown(overview={**OVERVIEW, "agents": agents})).splitlines()
    assert [line.split("leads ")[1] for line in lines if line.startswith(" a")] == [
        "gpu",
        "java=17",
    ]
    alone = text(shown(overview={**OVERVIEW, "agents": agents[:1]}))
    assert "leads gpu arch=x86_64 linux\n" in alone


def test_time_goes_on_between_two_answers() -> None:
    assert "75%, 30s left" in text(shown(age_s=30.0))


def test_what_is_wrong_stands_at_the_top() -> None:
    bad = {**OVERVIEW, "stale_since": AT, "trouble": ["the disk is full"], "leader": ""}
    lines = text(shown(overview=bad, silent_s=4.0, trouble="b is away")).splitlines()
    assert "nobody leads" in lines[0]
    assert lines[2:5] == [
        "no answer for 4.0s, this is how it was: b is away",
        "stale: no quorum of the voters is heard since 03:04:05",
        "the disk is full",
    ]
    assert text(shown(note="rota: c answers now")).splitlines()[2] == "c answers now"


def test_nobodys_text_drives_the_terminal() -> None:
    evil = {**OVERVIEW, "failures": [{**FAILURE, "build": "a\x1b[2J", "message": "b\x07\n\u2028"}]}
    drawn = text(shown(overview=evil))
    assert "\x1b" not in drawn
    assert "\x07" not in drawn
    assert len(drawn.splitlines()) == 24


def test_a_section_says_how_many_it_does_not_show() -> None:
    many = {**OVERVIEW, "members": 1000, "agents": [{**AGENT, "name": f"a{n}"} for n in range(30)]}
    assert "AGENTS 14 of 1000" in text(shown(overview=many))


@given(st.lists(st.integers(0, 50), max_size=5), st.integers(0, 60))
def test_rows_are_shared_whole_and_nobody_is_given_what_it_does_not_need(
    needs: list[int], room: int
) -> None:
    given_ = shares(needs, room)
    assert all(had <= need for had, need in zip(given_, needs, strict=True))
    assert sum(given_) == min(room, sum(needs))
    hungry = [had for had, need in zip(given_, needs, strict=True) if had < need]
    if hungry:
        assert max(given_) - min(hungry) <= 1 or max(given_) <= min(hungry) + len(needs)


# -- keys ---------------------------------------------------------------------------------------

CHOICES = (
    Choice("r1", "web/slow#4", can_cancel=True),
    Choice("f1", "web/bad#6", can_cancel=False),
)


def pressed(*keys: str, view: View | None = None) -> View:
    view = view or View(choices=CHOICES)
    for key in keys:
        view.press(key)
    return view


def test_arrows_select_and_stay_within_what_is_shown() -> None:
    assert pressed("down").selected == "r1"
    assert pressed("j", "j", "j").selected == "f1"
    assert pressed("k").selected == "f1"
    assert pressed("down", "up", "up").selected == "r1"
    assert pressed("down", view=View()).selected == ""


def test_enter_shows_the_log_of_what_is_selected_and_moves_on_with_it() -> None:
    assert pressed("enter").said.startswith("select a build first")
    view = pressed("down", "enter")
    assert view.log == "r1"
    assert pressed("down", view=view).log == "f1"
    assert pressed("enter", view=view).log == ""


def test_a_cancel_asks_first_and_takes_yes_alone() -> None:
    view = pressed("down", "c")
    assert text(shown(view)).endswith("cancel web/slow#4? y or n")
    assert view.press("x") is None
    assert view.said == "nothing was cancelled"
    view.press("c")
    assert view.press("y") == Cancel("r1", "web/slow#4")
    assert pressed("c").said.startswith("select a build first")
    assert pressed("k", "c").said == "web/bad#6 is over"


def test_a_filter_is_typed_mended_taken_or_given_up() -> None:
    view = pressed("/", "q", "x", "backspace")
    assert (view.is_over, view.typing, view.filter) == (False, "q", "")
    assert "jobs: q" in text(shown(view))
    assert pressed("enter", view=view).match == "*q*"
    assert pressed("/", "z", "escape", view=view).match == "*q*"
    assert pressed("escape", view=view).match == "*"
    assert [glob_of(it) for it in ("", "web", "web/*")] == ["*", "*web*", "web/*"]


def test_escape_closes_the_last_thing_first() -> None:
    view = pressed("down", "enter", "?")
    states = []
    for _ in range(3):
        pressed("escape", view=view)
        states.append((view.has_help, view.log, view.selected))
    assert states == [(False, "r1", "r1"), (False, "", "r1"), (False, "", "")]


def test_help_tells_all_keys_and_any_key_closes_it() -> None:
    view = pressed("?")
    assert "filter" not in text(shown(view)) or "cancel the selected build" in text(shown(view))
    assert not pressed("j", view=view).has_help
    assert pressed("q").is_over


def test_sorting_goes_round() -> None:
    view = View()
    seen = [pressed("s", view=view).sort for _ in range(4)]
    assert seen == ["newest", "job", "agent", "longest"]
    assert view.said == "running builds: longest first"


@given(
    st.lists(st.sampled_from([*"qjkcs/?yn*w", "up", "down", "enter", "escape", "backspace", "é"]))
)
def test_no_keys_break_it(keys: list[str]) -> None:
    view = View(choices=CHOICES)
    for key in keys:
        cancel = view.press(key)
        assert cancel is None or cancel.id == "r1"
        shown(view)


# -- bars ---------------------------------------------------------------------------------------


def test_a_bar_shows_that_it_began_and_is_full_only_at_the_end() -> None:
    assert [bar(LOOK, share, 4) for share in (0, 0.01, 0.5, 0.99, 1, 7)] == [
        "░░░░", "█░░░", "██░░", "███░", "████", "████",
    ]  # fmt: skip
    assert slots_bar(LOOK, 1, 2) == "█░"
    assert slots_bar(LOOK, 0, 0) == ""
    assert bar(LOOK._replace(unicode=False), 0.5, 2) == "#."


def test_marks_are_a_sign_each() -> None:
    assert marks(LOOK, ["passed", "failed", "lost", "odd"]) == "✓✗?·"
    assert marks(Look(color=True), ["passed"]) == "\x1b[32m✓\x1b[0m"


# -- the command --------------------------------------------------------------------------------


def test_in_a_pipe_one_picture_is_printed(rota: Rota) -> None:
    rota.routes["GET /v1/overview"] = answer(OVERVIEW)
    said = rota("top", "web")
    assert said.out.splitlines()[0].startswith("rota  a1 leads")
    assert "jobs *web*" in said.out
    assert rota.last.query["match"] == "*web*"
    assert said.status == 0


def test_programs_get_what_rest_said(rota: Rota) -> None:
    rota.routes["GET /v1/overview"] = answer(OVERVIEW)
    assert json.loads(rota("top", "--json").out) == OVERVIEW


def test_a_delay_that_is_none_is_refused(rota: Rota) -> None:
    said = rota("top", "-d", "0")
    assert (said.status, said.out) == (2, "")
    assert "--delay 0.0: from 0.1 to 3600 seconds" in said.err
    assert rota("top", "-d", "nan").status == 2
    assert rota.agent.asked == []


# -- trends -------------------------------------------------------------------------------------

TREND: dict[str, Any] = {
    "job": "web/test",
    "marks": [
        {"number": n, "id": f"b{n}", "state": "finished" if r else "running", "result": r, "waited_s": 0.1, "ran_s": ran}
        for n, (r, ran) in enumerate([("passed", 60.0), ("failed", 2.0), ("failed", 2.0), (None, None)], 4)
    ],
    "passed": 1, "finished": 3, "typical_s": 60.0, "broken": 2, "broken_since": "web/test#5",
    "broken_at": AT, "last_passed": "web/test#4",
}  # fmt: skip
TREND_TEXT = """\
results  ✓✗✗●  1 of 3 passed, 33%
ran      █▁▁  2.0s to 1m00s, 1m00s where it passed
waited   ████  0.1s
broken   since web/test#5, 5 min ago: 2 builds, web/test#4 passed"""


def test_a_trend_is_a_few_lines_of_pictures() -> None:
    look = LOOK._replace(now=datetime.fromisoformat("2026-01-02T03:09:05Z"))
    assert "\n".join(trend_lines(TREND, look)) == TREND_TEXT
    assert "\n".join(trend_lines(TREND, look._replace(unicode=False))).isascii()
    assert trend_lines({**TREND, "marks": []}, look) == []
    whole = {**TREND, "broken_since": None, "passed": 3}
    assert len(trend_lines(whole, look)) == 3


def test_results_of_a_list_are_drawn_from_the_oldest_to_the_newest() -> None:
    builds: list[dict[str, Any]] = [
        {"state": "running", "result": None},
        {"state": "finished", "result": "failed"},
        {"state": "finished", "result": "cancelled"},
        {"state": "finished", "result": "passed"},
    ]
    assert results_line(builds, LOOK) == "✓-✗●  1 of 2 passed, 50%"
    assert results_line(builds[:1], LOOK) == "●"


def test_show_trend_prints_it_also_in_a_pipe(rota: Rota, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C")
    rota.routes["GET /v1/jobs/web/test/trend"] = answer(TREND)
    said = rota("show", "web/test", "--trend")
    assert said.out.splitlines()[0] == "results  +xx*  1 of 3 passed, 33%"
    assert json.loads(rota("show", "web/test", "--trend", "--json").out) == TREND
    rota.routes["GET /v1/jobs/web/test/trend"] = answer({**TREND, "marks": []})
    assert rota("show", "web/test", "--trend").err == "web/test has no builds yet\n"


def test_how_long_builds_waited_is_drawn_for_those_that_waited_once() -> None:
    def waited(seconds: int, **more: Any) -> dict[str, Any]:
        started = f"2026-01-02T03:04:{seconds:02}Z"
        return {"requested_at": "2026-01-02T03:04:00Z", "started_at": started, "attempt": 1, **more}

    builds = [waited(8), waited(59, attempt=2), waited(0, started_at=None), waited(0)]
    assert waits_lines(builds, LOOK) == ["", "the last 2 waited  ▁█  0.0s to 8.0s"]
    assert waits_lines(builds[:3], LOOK) == []


def test_jobs_and_agents_have_pictures_on_a_terminal_alone() -> None:
    job = {
        "name": "web/test", "description": "d", "paused": None, "recent": ["passed", "failed"],
        "last": {"number": 2, "state": "finished", "result": "failed", "finished_at": AT},
    }  # fmt: skip
    assert jobs_table([job], Look()) == ["web/test  failed  #2  d"]
    assert jobs_table([job], LOOK) == ["web/test  ✗ failed  ✓✗  #2 2026-01-02T03:04:05.000000Z  d"]
    coloured = jobs_table([job], LOOK._replace(color=True))[0]
    assert "\x1b[32m✓\x1b[0m\x1b[31m✗\x1b[0m" in coloured


def test_bars_that_begin_at_zero_show_small_differences_as_small() -> None:
    assert sparkline([20.0, 20.1], LOOK) == "▁█"
    assert sparkline([20.0, 20.1, 10.0, 0.0], LOOK, low=0.0) == "██▄▁"
    assert sparkline([0.0, 0.0], LOOK, low=0.0) == "▁▁"
