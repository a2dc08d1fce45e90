"""Launches never exceed what waits, and nothing is left behind, wherever leaders die."""

from __future__ import annotations

import dataclasses

import pytest
from tests.property.clouds import CLOUD, Ways, kills, random_ways, tell

from rota.core.cloud_demand import PARALLEL

CALM = Ways(timeout=0.0, nothing=0.0, refused=0.0, list_fails=0.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_hundred_builds_launch_no_more_machines_whatever_happens(seed: int) -> None:
    story = tell(seed, 100, random_ways(seed), kill_at=kills(seed, 10, 250))
    assert story.kills >= 8  # a point that comes while nobody leads kills nobody
    assert len(story.sky.instances) >= 10


@pytest.mark.parametrize("knows_tokens", [False, True])
def test_a_leader_may_die_at_any_point_of_what_it_does(knows_tokens: bool) -> None:
    ways = dataclasses.replace(CALM, knows_tokens=knows_tokens)
    whole = tell(1, 3, ways)
    assert whole.points > 30
    for point in range(1, whole.points + 1):
        story = tell(1, 3, ways, kill_at=[point])
        assert story.kills <= 1
        assert 1 <= len(story.sky.instances) <= 3


def test_calls_that_time_out_after_they_were_carried_out_launch_nothing_twice() -> None:
    ways = dataclasses.replace(CALM, timeout=1.0)
    story = tell(3, 20, ways)
    assert story.sky.calls == len(story.sky.instances) <= 20


def test_what_a_provider_hides_for_longer_than_anybody_waits_is_ended_as_an_orphan() -> None:
    ways = dataclasses.replace(CALM, timeout=0.7, lag_s=250.0)
    story = tell(2, 20, ways, kill_at=[30, 60, 90])
    assert story.orphans > 0


def test_without_any_trouble_machines_are_called_for_at_once_and_many_together() -> None:
    story = tell(5, 40, CALM)
    assert story.sky.first_call_s is not None
    assert story.sky.first_call_s - story.asked_s < 1.5
    assert len(story.sky.instances) > PARALLEL


def test_an_agent_that_is_there_spares_machines() -> None:
    assert len(tell(7, 5, CALM, slots=5).sky.instances) == 0
    assert len(tell(7, 8, CALM, slots=5).sky.instances) <= 3


def test_there_are_never_more_than_max() -> None:
    from msgspec.structs import replace

    story = tell(9, 30, CALM, cloud=replace(CLOUD, max=4))
    born = [(it.born_s, it.over_s or 0.0) for it in story.sky.instances.values()]
    assert all(sum(b <= at < o for b, o in born) <= 4 for at, _ in born)
