"""Schedules: how late instants fire, and what a hundred thousand of them cost.

An instant has fired when a follower of the journal has its event: by then it is on disk. The builds
are left out: no agent has the label that they ask for. The floor is what the disk takes to sync once.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from tests.harness.lab import leader

from bench.agent import Agent, found, rota, start
from bench.case import Result, Setting
from bench.figure import Figure
from bench.group import cluster
from bench.usage import pss_mb, rss_peak_mb
from rota.core.agenda import Agenda
from rota.core.schedules import Scheduled
from rota.core.timetable import Timetable
from rota.core.triggers import Schedule

HEADER = '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "nowhere"\n# on = [\n{}# ]\n# ///\n'
A_JOB = 250
#: The agent is given so long to take the definitions over before the first instant.
LEAD_S = 6.0


@contextlib.contextmanager
def leading(setting: Setting) -> Iterator[Agent]:
    """The leader of three agents, each with a copy of all; what is queued there stays so."""
    with cluster(setting) as lab:
        yield found(leader(lab.hosts).data)


@contextlib.contextmanager
def alone(setting: Setting) -> Iterator[Agent]:
    """Start an agent and stop it."""
    data = setting.data()
    start(data)
    try:
        yield found(data)
    finally:
        rota("stop", "--data", str(data))


class Follower:
    """Notes when each instant's event came, by its schedule and instant."""

    def __init__(self, agent: Agent) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        self._agent = agent
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError, HTTPException), self._agent.connect() as connection:
            left = b""
            for piece in connection.follow("/v1/events?follow=true&kind=schedules.fired"):
                now = time.time()
                left += piece
                *events, left = left.split(b"\n\n")
                for event in events:
                    if data := re.search(rb"^data: ?(\{.*\})$", event, re.MULTILINE):
                        self.came.append((now, json.loads(data[1])))

    def fires(self) -> list[tuple[float, str, float]]:
        """Return (when it came, schedule, instant) of all that fired."""
        return [
            (now, fire["schedule"], datetime.fromisoformat(fire["at"]).timestamp())
            for now, event in self.came
            for fire in event.get("fires", ())
        ]

    def until(self, count: int, patience_s: float) -> None:
        """Return when so many have fired, or after a while."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and len(self.fires()) < count:
            time.sleep(0.05)


def put(agent: Agent, rules: list[str]) -> None:
    """Add jobs that have so many rules."""
    with agent.connect() as connection:
        for number in range(0, len(rules), A_JOB):
            lines = "".join(f"#   {rule},\n" for rule in rules[number : number + A_JOB])
            connection.put(f"s{number // A_JOB}", HEADER.format(lines))


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _late_ms(fires: list[tuple[float, str, float]]) -> list[float]:
    return sorted((came - at) * 1000 for came, _, at in fires)


def steady(setting: Setting) -> Result:
    """1,000 schedules every 5 s, spread over them: where dkron falls over."""
    count, every_s = setting.size(1000, 200), 5.0
    rounds = setting.size(12, 3)
    with leading(setting) as agent:
        first = datetime.now(UTC) + timedelta(seconds=LEAD_S)
        starts = (first + timedelta(seconds=every_s * n / count) for n in range(count))
        rules = [f'{{ every = "5s", start = {_text(at)} }}' for at in starts]
        follower = Follower(agent)
        put(agent, rules)
        time.sleep(max(0.0, first.timestamp() - time.time()))
        before, began = agent.cpu(), time.monotonic()
        time.sleep(every_s * rounds)
        used = agent.cpu().since(before).all / (time.monotonic() - began) / 10
        time.sleep(1.0)
        end = first.timestamp() + every_s * rounds
        fires = [it for it in follower.fires() if it[2] < end - 0.001]
        late = _late_ms(fires)
    keys = Counter((schedule, at) for _, schedule, at in fires)
    doubled = sum(it > 1 for it in keys.values())
    return Result(
        figures=[
            *_lateness(f"{count} schedules every 5 s", late, 100, setting),
            Figure(what="of them lost", value=count * rounds - len(keys), unit="", reach=0),
            Figure(what="of them doubled", value=doubled, unit="", reach=0),
            Figure(what="the leader's daemon and engine meanwhile", value=used, unit="% of a core"),
        ],
        raw={"late_ms": late},
    )


def instant(setting: Setting) -> Result:
    """200, and 5,000, on one instant."""
    result = Result()
    for count, reach in ((200, 50), (setting.size(5000, 500), None)):
        with leading(setting) as agent:
            follower = Follower(agent)
            at = datetime.now(UTC) + timedelta(seconds=LEAD_S + count / 400)
            at = at.replace(microsecond=0)
            rules = [
                f'{{ at = {_text(at)}, name = "n{n}", priority = {n % 10} }}' for n in range(count)
            ]
            put(agent, rules)
            assert time.time() < at.timestamp(), "the definitions took too long"
            follower.until(count, 60)
            fires = follower.fires()
        late = _late_ms(fires)
        what = f"{count} schedules on one instant"
        result.figures += _lateness(what, late, reach, setting)
        lost = Figure(what="of them lost or doubled", value=_wrong(fires, count), unit="", reach=0)
        result.figures.append(lost)
        order = [int(schedule.rpartition("n")[2]) % 10 for _, schedule, _ in fires]
        if order != sorted(order, reverse=True):
            result.notes.append(f"{what}: not in the order of their priorities")
    return result


def _wrong(fires: list[tuple[float, str, float]], count: int) -> int:
    keys = Counter(schedule for _, schedule, _ in fires)
    return abs(count - len(keys)) + sum(it - 1 for it in keys.values())


def _lateness(what: str, late: list[float], reach: float | None, setting: Setting) -> list[Figure]:
    figures = []
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        figures.append(
            Figure(
                what=f"{what}: {name}",
                value=late[int(len(late) * share)] if late else float("inf"),
                unit="ms",
                reach=reach if name == "p99" else None,
                floor=setting.sync_ms,
                floor_name="sync",
            )
        )
    return figures


def many(setting: Setting) -> Result:
    """100,000 schedules: a tick of the agenda, and the leader's memory."""
    count = setting.size(100_000, 10_000)
    figures = [*_ticks(1000), *_ticks(count)]
    with alone(setting) as agent:
        idle_mb = pss_mb(agent.daemon)
        began = time.monotonic()
        minutes = [
            f'{{ cron = "{n % 60} {n // 60 % 24} {n // 1440 % 28 + 1} 1 *", name = "n{n}" }}'
            for n in range(count)
        ]
        put(agent, minutes)
        with agent.connect() as connection:
            while True:
                found_ = connection.call(
                    "GET", f"/v1/schedules?limit=1&match=s{(count - 1) // A_JOB}"
                )
                if found_["next"]:
                    break
                time.sleep(0.2)
        took_s = time.monotonic() - began
        time.sleep(12.0)  # until a snapshot has been taken
        before = agent.cpu()
        time.sleep(10.0)
        idle = agent.cpu().since(before).all / 10 / 10
        figures += [
            Figure(
                what=f"{count} schedules: daemon's PSS",
                value=pss_mb(agent.daemon),
                unit="MB",
                reach=300,
            ),
            Figure(what="the same, empty", value=idle_mb, unit="MB"),
            Figure(what="its peak", value=rss_peak_mb(agent.daemon), unit="MB"),
            Figure(what="added over REST and set within", value=took_s, unit="s"),
            Figure(what="CPU with nothing due", value=idle, unit="% of a core"),
        ]
    return Result(figures=figures)


def _ticks(count: int) -> list[Figure]:
    """Return how long one tick takes of which one schedule of many is due."""
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    known = {
        f"s:n{n}": Scheduled(
            job="s", rule=Schedule(every_s=86_400.0, start=noon + timedelta(seconds=n)), since=noon
        )
        for n in range(count)
    }
    agenda = Agenda(lambda: known, lambda id_, it: Timetable(it.rule, id_, {}))
    while agenda.work():
        pass
    ticks = 500
    began = time.perf_counter()
    for n in range(ticks):
        due = agenda.due(noon + timedelta(seconds=n + 1.5), lambda _: ())
        for fire in due.fires:
            known[fire.schedule] = Scheduled(
                job="s", rule=known[fire.schedule].rule, since=noon, cursor=fire.at
            )
        agenda.look(due.schedules)
        agenda.work()
    each_us = (time.perf_counter() - began) / ticks * 1e6
    return [Figure(what=f"a tick that fires one of {count}", value=each_us, unit="µs")]
