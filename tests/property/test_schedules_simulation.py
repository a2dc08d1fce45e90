"""Each instant is settled once, whoever leads, hangs, is killed or has a clock that is wrong."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from tests.harness.timeless import START, LoopClock, run_timeless
from tests.property.schedules import HEADER, Host, Story, tell

from rota.core.definitions import check_tree
from rota.core.schedule_proof import Proof
from rota.core.schedules import SCHEDULE


@pytest.mark.parametrize("seed", range(8))
def test_each_instant_is_settled_once_however_many_leaders_are_lost(seed: int) -> None:
    report = tell(seed, 30)
    assert report.findings == ()
    assert report.fired > 20


@pytest.mark.parametrize("seed", [11, 12])
def test_clocks_five_minutes_apart_settle_each_instant_once(seed: int) -> None:
    assert tell(seed, 30, skewed=True).findings == ()


#: 02:30 does not exist in Berlin on that day: clocks go on from 01:00 UTC.
NIGHTLY = '{{ cron = "30 2 * * *", tz = "Europe/Berlin", dst = "{}", misfire = "{}", name = "n" }}'


def over_a_change(dst: str, misfire: str) -> tuple[list[datetime], list[str], Proof]:
    """Let nobody lead from before the change of clocks until hours after it."""

    async def told() -> tuple[list[datetime], list[str], Proof]:
        story = Story(1)
        rule = NIGHTLY.format(dst, misfire)
        story.definitions, problems = check_tree({"jobs/night": (HEADER % rule).encode()})
        assert not problems
        first, second, _ = story.hosts
        first.start()
        await story.elect(first)
        await asyncio.sleep(60.0)
        first.kill()
        await asyncio.sleep(3 * 3600.0)
        second.start()
        await story.elect(second)
        await asyncio.sleep(10.0)
        picture = second.world.cluster.picture
        fired = [it.trigger.at for it in picture.builds.values() if it.trigger.kind == SCHEDULE]
        skipped = [skip.why for note in picture.ledger for skip in note.skips]
        second.kill()
        await asyncio.sleep(1.0)
        return [it for it in fired if it is not None], skipped, await story.judge()

    return run_timeless(told())


@pytest.mark.parametrize(
    ("dst", "fires"),
    [("skip", None), ("once", "01:00"), ("shift", "01:30")],
)
def test_a_leader_that_was_away_over_a_change_of_clocks_makes_up_for_it(
    dst: str, fires: str | None
) -> None:
    fired, skipped, report = over_a_change(dst, "once")
    assert [f"{at:%H:%M}" for at in fired] == ([fires] if fires else [])
    assert skipped == []
    assert report.findings == ()


def test_a_leader_that_was_away_over_a_change_of_clocks_says_what_it_skips() -> None:
    fired, (why,), report = over_a_change("once", "skip")
    assert fired == []
    assert why.startswith("missed, up to 2h56m")
    assert "misfire policy: skip; the present leader was elected at 2026-03-29 03:56:" in why
    assert report.findings == ()


def test_a_clock_that_is_set_back_fires_nothing_again() -> None:
    async def told() -> tuple[int, int]:
        story = Story(1)
        story.definitions, _ = check_tree(
            {"jobs/often": (HEADER % '{ every = "2s", name = "two" }').encode()}
        )
        host = story.hosts[0]
        host.start()
        await story.elect(host)
        await asyncio.sleep(20.0)
        before = _fired(host)
        host.clock.offset_s -= 15.0
        await asyncio.sleep(14.0)
        between = _fired(host) - before
        await asyncio.sleep(10.0)
        after = _fired(host) - before - between
        host.kill()
        await asyncio.sleep(1.0)
        assert (await story.judge()).is_clean
        return between, after

    between, after = run_timeless(told())
    assert between <= 1
    assert after >= 3


def test_a_clock_that_jumps_ahead_is_noticed_within_a_second() -> None:
    async def told() -> float:
        story = Story(1)
        story.definitions, _ = check_tree(
            {"jobs/rare": (HEADER % '{ every = "1h", name = "hourly" }').encode()}
        )
        host = story.hosts[0]
        host.start()
        await story.elect(host)
        await asyncio.sleep(20.0)
        host.clock.offset_s += 3600.0
        began = LoopClock().monotonic()
        while not _fired(host):
            await asyncio.sleep(0.1)
        took_s = LoopClock().monotonic() - began
        host.kill()
        return took_s

    assert run_timeless(told()) < 1.5  # of virtual time


def _fired(host: Host) -> int:
    return len(host.world.cluster.picture.builds)


def test_the_clock_of_stories_begins_right_before_a_change() -> None:
    assert START < datetime.fromisoformat("2026-03-29T01:00:00+00:00") < START + timedelta(hours=1)
