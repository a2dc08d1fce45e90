"""What a queued build is said to wait for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from tests.harness.facts import moment
from tests.unit.test_queue import LICENCE, Story

from rota.core.demands import ALL
from rota.core.events import (
    AgentDrained,
    AgentLost,
    AgentStarted,
    CloudFailed,
    CloudLaunched,
    CloudPaused,
    CloudWanted,
)
from rota.core.job import Rate, Reason, Retry, Take
from rota.core.policy import Throttle
from rota.core.settings_clouds import Cloud
from rota.service import messages as m
from rota.service.context import Principal
from rota.service.queueing import limits, queue, queued
from rota.service.verbs import Role

ANN = Principal(name="ann", role=Role.ADMIN)


def why(story: Story, build: str, troubles: Any = None, **clouds: Cloud) -> m.Why:
    return queued(story.cluster, story[build], moment(story.second), troubles or {}, clouds)


def service(story: Story) -> Any:
    clock = SimpleNamespace(now=lambda: moment(story.second))
    return SimpleNamespace(world=SimpleNamespace(cluster=story.cluster), clock=clock)


def test_a_limit_names_its_holders_with_tokens_and_the_place_in_line() -> None:
    story = Story(limits={"licence": 1})
    for build in "abc":
        story.request(build, limits=LICENCE)
    story.go()
    told = why(story, "c")
    text = "waits for the limit licence: 1 of 1 taken by x#1 on p, place 2 in its line"
    assert (told.text, told.waits_for, told.place) == (text, "limit", 2)
    (wanting,) = told.limits
    assert (wanting.take, wanting.place) == (1, 2)
    (holder,) = wanting.limit.holders
    assert (holder.build, holder.agent, holder.take) == ("x#1", "p", 1)
    assert (holder.fence, holder.since) == (story["a"].fence, moment())


def test_each_limit_that_is_missing_is_told() -> None:
    story = Story(limits={"licence": 1, "db": 2})
    story.request("a", limits=(Take("db"), *LICENCE))
    story.request("b", job="y", concurrency=1, limits=(Take("db", ALL), *LICENCE))
    story.go()
    assert why(story, "b").text == (
        "waits for the limit db and takes all: 1 of 2 taken by x#1 on p, place 1 in its line;"
        " waits for the limit licence: 1 of 1 taken by x#1 on p, place 1 in its line"
    )
    story.request("c", limits=(Take("db"),))
    assert why(story, "c").text == (
        "waits for the limit db: 1 of 2 taken by x#1 on p, the rest is kept for y#1,"
        " place 2 in its line"
    )


@pytest.mark.parametrize(
    ("policy", "spec", "text"),
    [
        (
            {},
            {"limits": LICENCE},
            "waits for the limit licence: there is none, see settings.toml",
        ),
        (
            {"limits": {"db": 2}},
            {"limits": (Take("db", 3),)},
            "waits for the limit db: it takes 3, and there are only 2",
        ),
        ({}, {"labels": "windows"}, "no agent satisfies 'windows'"),
    ],
)
def test_what_can_never_begin_is_told(policy: Any, spec: Any, text: str) -> None:
    story = Story(**policy)
    story.request("a", **spec)
    assert why(story, "a").text == text


def test_concurrency_is_told_with_its_key() -> None:
    story = Story()
    for build in "ab":
        story.request(build, params={"env": "prod"}, concurrency=1, concurrency_key="{env}")
    story.go()
    text = (
        "waits for the concurrency of x for 'prod': 1 of 1 taken by x#1 on p, place 1 in its line"
    )
    assert why(story, "b").text == text


def test_a_rate_is_told_with_its_time() -> None:
    story = Story()
    for build in "ab":
        story.request(build, rate=Rate(1, 3600.0))
    story.go()
    story.second = 60.0
    told = why(story, "b")
    text = "waits for the rate of x, 1/1h: the next one may begin in 59m"
    assert (told.text, told.waits_for, told.until) == (text, "rate", moment(3600))


def test_a_retry_is_told_with_its_time_and_its_reason() -> None:
    story = Story()
    story.request("a", retry=Retry(times=1, on=(Reason.SCRIPT,), delay_s=30.0))
    story.start("a")
    story.finish("a", Reason.LOST)
    assert story["a"].state == "finished"
    story.request("b", retry=Retry(times=1, delay_s=30.0))
    story.start("b")
    story.finish("b", Reason.LOST)
    told = why(story, "b")
    text = "waits 30s before attempt 2: the last one ended by lost"
    assert (told.text, told.waits_for, told.until) == (text, "time", moment(30))


def test_a_throttle_is_told_for_each_agent() -> None:
    story = Story(throttles=(Throttle("docker", per_agent=1),))
    for build in "ab":
        story.request(build, labels="docker")
    story.go()
    told = why(story, "b")
    text = "waits for a throttle: p: 1 of 1 builds with 'docker' run there"
    assert (told.text, told.waits_for, told.place) == (text, "throttle", 1)


def test_each_agent_that_refuses_says_the_first_label() -> None:
    story = Story()
    story.fold(AgentStarted(at=moment(), agent="q", labels={"mac": ""}, slots=1))
    story.fold(AgentStarted(at=moment(), agent="r", labels=story.labels, slots=1))
    story.fold(AgentDrained(at=moment(), name="r"))
    story.fold(AgentStarted(at=moment(), agent="s", labels=story.labels, slots=1))
    story.fold(AgentLost(at=moment(), name="s"))
    story.request("a", labels="linux && gpu")
    told = why(story, "a")
    assert {it.agent: it.because for it in told.refused} == {
        "p": "gpu",
        "q": "linux",
        "r": "gpu",
        "s": "gpu",
    }
    story.request("b", labels="linux")
    story.fold(AgentDrained(at=moment(), name="p"))
    told = why(story, "b")
    text = "no agent takes it now: p is drained, r is drained, s is lost"
    assert (told.text, told.waits_for) == (text, "agent")


def test_a_place_in_the_queue_counts_rivals_of_other_projects_and_labels() -> None:
    story = Story(slots=1)
    story.request("runs", job="web/j")
    story.go()
    story.request("a", job="web/j", labels="linux")
    story.request("b", job="web/j", labels="docker")
    story.request("c", job="db/j", labels="docker && linux")
    story.request("mac", job="db/j", labels="mac", priority=100)
    told = [why(story, build) for build in "abc"]
    assert [it.place for it in told] == [2, 3, 1]
    assert told[0].text == "waits for a free slot, place 2 in the queue: p runs 1 of 1"
    assert told[0].busy == (m.Busy(agent="p", running=1, slots=1),)
    assert why(story, "a", {"disk": "the disk is full"}).text.endswith("; the disk is full")


def test_who_stands_behind_others_of_the_same_kind_has_a_place_as_well() -> None:
    story = Story(slots=1)
    story.request("runs")
    story.go()
    for build in "abc":
        story.request(build, job="y", concurrency=1)
    assert [why(story, build).place for build in "abc"] == [1, 2, 3]


async def test_the_queue_is_listed_in_order_with_what_each_waits_for() -> None:
    story = Story(slots=1, limits={"licence": 1})
    story.request("runs", limits=LICENCE)
    story.go()
    story.request("limited", limits=LICENCE)
    story.request("plain", priority=3)
    story.request("late", job="y", retry=Retry(times=1, delay_s=5.0))
    story.start("late", agent="q")
    story.finish("late", Reason.LOST)
    told = await queue(service(story), m.QueueRequest(), ANN)
    assert told.queued == 3
    assert [(it.place, it.build, it.text) for it in told.builds] == [
        (1, "x#3", "slot"),
        (2, "x#2", "limit: licence"),
        (3, "y#1", "attempt 2 in 5s"),
    ]
    short = await queue(service(story), m.QueueRequest(limit=1), ANN)
    assert (short.queued, len(short.builds)) == (3, 1)


async def test_limits_are_listed_with_holders_lines_and_what_is_kept() -> None:
    story = Story(limits={"licence": 2, "db": 3}, throttles=(Throttle("docker", 5, 1),))
    story.request("a", limits=(Take("db"),))
    story.request("c", job="web/d", params={"env": "e"}, concurrency=1, concurrency_key="{env}")
    story.go()
    story.request("big", limits=(Take("db", 3),))
    story.request("small", limits=(Take("db"),))
    told = await limits(service(story), m.Nothing(), ANN)
    shown = [(it.kind, it.name, it.key, it.agent, it.used, it.capacity, it.waiting) for it in told]
    assert shown == [
        ("limit", "db", "", "", 1, 3, 2),
        ("limit", "licence", "", "", 0, 2, 0),
        ("concurrency", "web/d", "e", "", 1, 1, 0),
        ("throttle", "docker", "", "", 0, 5, 0),
        ("throttle", "docker", "", "p", 0, 1, 0),
    ]
    assert (told[0].line, told[0].kept_for, told[0].kept) == (("x#2", "x#3"), "x#2", 3)
    assert [it.build for it in told[0].holders] == ["x#1"]


AWS = Cloud(provider="ec2", image="i", size="s", labels={"arm": ""}, max=2)


def test_what_a_cloud_does_for_a_build_is_said() -> None:
    story = Story()
    story.request("a", labels="arm")
    story.request("b", labels="arm")
    nobody = "no agent satisfies 'arm'"
    assert why(story, "a").text == nobody

    def text(build: str = "a", **more: Any) -> str:
        said = why(story, build, aws=replace(AWS, **more)).text
        assert said.startswith(f"{nobody}; ") or said == nobody
        return said.removeprefix(f"{nobody}; ")

    assert text(labels={"mac": ""}) == nobody  # it could not help
    assert text() == "cloud aws could launch a machine (0 of max 2)"
    labels = {"arm": "", "cloud": "aws"}
    story.fold(CloudWanted(at=moment(), cloud="aws", machine="aws-1", labels=labels, why="x#1"))
    assert text() == ("cloud aws launches a machine for it (1 of max 2): aws-1 is wanted")
    assert text("b") == "cloud aws launches a machine (1 of max 2)"
    story.fold(CloudWanted(at=moment(), cloud="aws", machine="aws-2", labels=labels, why="x#2"))
    story.fold(CloudLaunched(at=moment(), cloud="aws", machine="aws-2", node="i-2"))
    assert text("b") == "cloud aws launches a machine for it (2 of max 2): aws-2 is launched"


def test_what_keeps_a_cloud_from_helping_is_said() -> None:
    story = Story()
    story.request("a", labels="arm")
    assert why(story, "a", aws=replace(AWS, max=0)).text.endswith(
        "cloud aws has 0 of max 0 machines"
    )
    story.fold(CloudFailed(at=moment(), cloud="aws", what="launch", error="no such image"))
    assert why(story, "a", aws=AWS).text.endswith(
        "cloud aws failed, and is tried again in 10s: no such image"
    )
    story.fold(CloudPaused(at=moment(), cloud="aws"))
    assert why(story, "a", aws=AWS).text.endswith("cloud aws is paused: rota clouds --resume aws")
