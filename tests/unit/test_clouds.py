"""Machines of clouds: what events make of them, what waits for them, and what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.harness.facts import moment

from rota.core.build import Build
from rota.core.cloud_demand import PARALLEL, Want
from rota.core.clouds import (
    SETTLE_S,
    CloudView,
    Drain,
    End,
    Found,
    Gone,
    Joined,
    Late,
    Launch,
    Node,
    steps,
)
from rota.core.cluster import Cluster
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildRequested,
    BuildStarted,
    CloudDraining,
    CloudFailed,
    CloudGone,
    CloudJoined,
    CloudLaunched,
    CloudPaused,
    CloudWanted,
    Event,
    LimitsSet,
)
from rota.core.fold import apply
from rota.core.job import Spec, Take
from rota.core.machines import BACK_OFF_S, MAX_BACK_OFF_S, MachineState
from rota.core.policy import Policy, Throttle
from rota.core.settings_clouds import Cloud

CLOUD = Cloud(provider="ec2", image="i", size="s", labels={"linux": ""}, patience_s=0.0)
CA = "cloud"


class Story:
    """Events of one cluster, a second apart."""

    def __init__(self, **clouds: Cloud) -> None:
        self.cluster = Cluster()
        self.clouds = clouds or {"aws": CLOUD}
        self.seq = 0
        self.listed: dict[str, Sequence[Node]] = dict.fromkeys(self.clouds, ())

    def at(self, later_s: float = 0.0) -> Any:
        return moment(self.seq) + timedelta(seconds=later_s)

    def add(self, kind: Any, **fields: Any) -> None:
        self.seq += 1
        event: Event = kind(at=self.at(), **fields)
        apply(self.cluster, self.seq, event)

    def agent(self, name: str, labels: str = "linux", slots: int = 1, **more: Any) -> None:
        self.add(AgentJoined, agent=name, name=name, pin=name, **more)
        self.add(AgentStarted, agent=name, labels={labels: "", "agent": name}, slots=slots)

    def builds(self, count: int, labels: str = "linux", **spec: Any) -> list[Build]:
        names = [f"b{self.seq + number}" for number in range(count)]
        for name in names:
            self.add(BuildRequested, build=name, job="j", spec=Spec(labels=labels, **spec))
        return [self.cluster.picture.builds[name] for name in names]

    def machine(self, name: str = "aws-1", *, upto: str = "joined", slots: int = 1) -> None:
        labels = {"linux": "", "cloud": "aws"}
        self.add(CloudWanted, cloud="aws", machine=name, labels=labels, slots=slots)
        if upto in ("launched", "joined"):
            self.add(CloudLaunched, cloud="aws", machine=name, node=f"i-{name}")
            self.lists(name)
        if upto == "joined":
            self.agent(name, slots=slots, ephemeral=True)
            self.add(CloudJoined, cloud="aws", machine=name)

    def lists(self, *names: str, over: Sequence[str] = ()) -> None:
        nodes = [Node(f"i-{name}", name, is_over=name in over) for name in names]
        self.listed["aws"] = nodes

    def look(self, later_s: float = 0.0, **view: Any) -> list[Any]:
        known = CloudView(clouds=self.clouds, nodes=self.listed, **view)
        return steps(self.cluster, known, self.at(later_s))

    def wants(self, later_s: float = 0.0) -> list[Want]:
        return [it for it in self.look(later_s) if isinstance(it, Want)]

    def state(self, name: str = "aws-1") -> MachineState | None:
        machine = self.cluster.picture.machines.get(name)
        return machine.state if machine is not None else None


# -- demand -------------------------------------------------------------------------------------


def test_what_waits_and_nobody_has_room_for_is_wanted() -> None:
    story = Story()
    story.agent("a", slots=2)
    story.builds(5)
    assert [it.why for it in story.wants()] == ["j#3", "j#4", "j#5"]


def test_machines_under_way_count() -> None:
    story = Story()
    story.builds(3)
    story.machine("aws-1", upto="wanted")
    story.machine("aws-2", upto="launched")
    assert len(story.wants()) == 1


def test_an_agent_that_is_drained_or_down_takes_nothing() -> None:
    story = Story()
    story.agent("a", slots=2)
    story.builds(2)
    assert story.wants() == []
    story.add(AgentDrained, name="a")
    assert len(story.wants()) == 2
    story.add(AgentDrained, name="a", draining=False)
    assert story.wants() == []
    story.add(AgentStopped, agent="a")
    assert len(story.wants()) == 2


def test_a_machine_takes_as_many_builds_as_it_has_slots() -> None:
    story = Story(aws=Cloud(provider="ec2", image="i", size="s", labels={"linux": ""}, slots=3))
    story.builds(7)
    assert len(story.wants()) == 3


def test_there_are_never_more_than_max_and_no_more_than_ten_at_once() -> None:
    story = Story()
    story.builds(50)
    assert len(story.wants()) == CLOUD.max
    story.clouds = {"aws": Cloud(provider="ec2", image="i", size="s", labels={"linux": ""}, max=99)}
    assert len(story.wants()) == PARALLEL


def test_labels_choose_the_cloud_and_the_first_one_is_preferred() -> None:
    arm = Cloud(provider="ec2", image="i", size="s", labels={"linux": "", "arm": ""})
    story = Story(aws=CLOUD, arm=arm)
    story.builds(1, "arm")
    story.builds(1, "linux")
    story.builds(1, "mac")
    assert sorted(it.cloud for it in story.wants()) == ["arm", "aws"]


def test_what_a_machine_really_carries_is_learned() -> None:
    story = Story()
    story.builds(1, "linux && docker")
    assert not story.wants()
    story.machine()
    story.add(
        AgentStarted, agent="aws-1", labels={"linux": "", "docker": "", "agent": "x"}, slots=0
    )
    assert len(story.wants()) == 1
    story.builds(1, "linux && !docker")
    assert len(story.wants()) == 1  # it would never take it


def test_a_build_that_an_agent_can_take_waits_a_moment_first() -> None:
    story = Story(aws=Cloud(provider="ec2", image="i", size="s", labels={"linux": ""}))
    story.builds(1)
    assert len(story.wants()) == 1  # nobody is there who could
    story.agent("a", slots=0)
    assert not story.wants()
    assert len(story.wants(later_s=11)) == 1


def test_a_build_held_by_a_limit_is_no_demand() -> None:
    story = Story()
    story.add(LimitsSet, policy=Policy(limits={"licence": 2}))
    story.builds(5, limits=(Take("licence"),))
    assert len(story.wants()) == 2


def test_throttles_are_respected() -> None:
    story = Story()
    throttle = Throttle(labels="linux", total=3, per_agent=1)
    story.add(LimitsSet, policy=Policy(throttles=(throttle,)))
    story.builds(5)
    assert len(story.wants()) == 3
    story.agent("a", slots=4)
    assert len(story.wants()) == 2  # one of its slots is of use, as of any machine's


def test_a_minimum_is_kept_without_any_work() -> None:
    warm = Cloud(provider="ec2", image="i", size="s", min=2)
    story = Story(aws=warm)
    assert [it.why for it in story.wants()] == ["min = 2", "min = 2"]
    story.machine()
    assert len(story.wants()) == 1


def test_nothing_is_launched_by_a_cloud_that_is_paused_or_has_not_answered() -> None:
    story = Story()
    story.builds(1)
    story.add(CloudPaused, cloud="aws")
    assert not story.wants()
    story.add(CloudPaused, cloud="aws", paused=False)
    assert len(story.wants()) == 1
    story.listed = {}
    assert not story.wants()


# -- failures -----------------------------------------------------------------------------------


def test_after_a_failure_a_cloud_is_left_alone_and_then_tried_once() -> None:
    story = Story()
    story.builds(4)
    for name in ("aws-1", "aws-2"):
        story.machine(name, upto="wanted")
    for name in ("aws-1", "aws-2"):  # together: one failure
        story.add(CloudFailed, cloud="aws", what="launch", machine=name, error="no", over=True)
    record = story.cluster.picture.clouds["aws"]
    assert (record.failures, record.failed, record.error) == (1, 2, "no")
    assert story.cluster.picture.machines == {}
    assert not story.wants()
    assert len(story.wants(later_s=BACK_OFF_S)) == 1
    story.machine("aws-3", upto="launched")
    assert story.cluster.picture.clouds["aws"].failures == 0
    assert len(story.wants()) == 3


def test_who_lets_a_cloud_go_on_has_it_tried_at_once() -> None:
    story = Story()
    story.builds(1)
    story.add(CloudFailed, cloud="aws", what="launch", error="no such image")
    assert not story.wants()
    story.add(CloudPaused, cloud="aws", paused=False)
    assert len(story.wants()) == 1
    assert story.cluster.picture.clouds["aws"].error == ""


def test_failures_in_a_row_double_the_time_up_to_a_quarter_of_an_hour() -> None:
    story = Story()
    waits = []
    for _ in range(12):
        story.add(CloudFailed, cloud="aws", what="list", error="no")
        waits.append(story.cluster.picture.clouds["aws"].back_off_s)
        story.seq += 1000
    assert waits[:4] == [10.0, 20.0, 40.0, 80.0]
    assert waits[-1] == MAX_BACK_OFF_S


def test_a_machine_that_never_joins_is_a_failure_and_is_ended() -> None:
    story = Story()
    story.machine(upto="launched")
    assert story.look(later_s=500) == []
    (late,) = story.look(later_s=700)
    assert late == Late("aws", "aws-1", "aws-1 did not join within 10m")
    story.add(CloudFailed, cloud="aws", what="join", machine="aws-1", error=late.error)
    assert story.look() == [End("aws", "aws-1", "i-aws-1", late.error)]
    assert story.cluster.picture.clouds["aws"].failures == 1


# -- from intent to end -------------------------------------------------------------------------


def test_who_wrote_the_intent_launches_and_nobody_else() -> None:
    story = Story()
    story.machine(upto="wanted")
    assert story.look(fresh={"aws-1"}) == [Launch("aws", "aws-1")]
    assert story.look(busy={"aws-1"}) == []
    assert story.look() == []
    assert story.look(missing_s={"aws-1": SETTLE_S - 1}) == []
    (gone,) = story.look(missing_s={"aws-1": SETTLE_S})
    assert isinstance(gone, Gone)
    assert "nobody knows whether it was launched" in gone.why


def test_an_agent_that_is_there_is_not_given_up_though_nobody_lists_its_machine() -> None:
    story = Story()
    story.machine(upto="wanted")
    story.agent("aws-1", ephemeral=True)
    story.add(CloudJoined, cloud="aws", machine="aws-1")
    assert story.look(missing_s={"aws-1": 10 * SETTLE_S}) == []
    story.add(CloudDraining, cloud="aws", machine="aws-1", why="idle")
    story.add(AgentLeft, agent="aws-1", name="aws-1")
    assert isinstance(story.look(missing_s={"aws-1": SETTLE_S})[0], Gone)


def test_where_tokens_are_known_the_call_is_repeated() -> None:
    story = Story()
    story.machine(upto="wanted")
    view: dict[str, Any] = {"missing_s": {"aws-1": 1.0}, "knows_tokens": {"aws"}}
    assert story.look(**view) == [Launch("aws", "aws-1")]
    story.lists("aws-1")
    assert story.look(**view) == [Found("aws", "aws-1", "i-aws-1")]


def test_a_machine_is_found_by_its_tag() -> None:
    story = Story()
    story.machine(upto="wanted")
    story.lists("aws-1")
    assert story.look() == [Found("aws", "aws-1", "i-aws-1")]


def test_an_agent_that_is_up_has_joined() -> None:
    story = Story()
    story.machine(upto="launched")
    story.agent("aws-1", ephemeral=True)
    assert story.look() == [Joined("aws", "aws-1")]
    story.add(CloudJoined, cloud="aws", machine="aws-1")
    assert story.state() is MachineState.JOINED
    assert story.cluster.picture.agents["aws-1"].ephemeral


def test_an_idle_machine_is_drained_then_ended_when_its_agent_left() -> None:
    story = Story()
    story.machine()
    assert story.look(idle_s={"aws-1": 599.0}) == []
    assert story.look(idle_s={"aws-1": 600.0}) == [
        Drain("aws", "aws-1", "it had nothing to do for 10m")
    ]
    story.add(CloudDraining, cloud="aws", machine="aws-1", why="idle")
    agent = story.cluster.picture.agents["aws-1"]
    assert agent.draining
    assert agent.leaving
    assert story.look() == []  # it leaves by itself
    story.add(AgentLeft, agent="aws-1", name="aws-1")
    assert story.look() == [End("aws", "aws-1", "i-aws-1", "idle")]
    story.add(CloudGone, cloud="aws", machine="aws-1")
    assert story.cluster.picture.machines == {}


def test_the_minimum_stays_and_who_was_idle_for_longest_goes() -> None:
    story = Story(aws=Cloud(provider="ec2", image="i", size="s", min=1))
    for number in (1, 2, 3):
        story.machine(f"aws-{number}")
    story.lists("aws-1", "aws-2", "aws-3")
    idle = {"aws-1": 700.0, "aws-2": 900.0, "aws-3": 800.0}
    drained = [it.machine for it in story.look(idle_s=idle) if isinstance(it, Drain)]
    assert drained == ["aws-2", "aws-3"]


def test_a_machine_that_the_provider_took_away_is_gone_with_its_agent() -> None:
    story = Story()
    story.machine()
    story.builds(1)
    build = next(iter(story.cluster.picture.builds))
    story.add(BuildStarted, agent="aws-1", build=build, attempt=1)
    story.lists("aws-1", over=["aws-1"])
    (gone,) = story.look()
    assert gone == Gone("aws", "aws-1", "i-aws-1", "the provider has ended it")
    story.add(CloudGone, cloud="aws", machine="aws-1", why=gone.why)
    assert "aws-1" not in story.cluster.picture.agents  # and so its builds are lost at once


def test_one_that_is_missing_is_gone_only_when_its_agent_is_silent_too() -> None:
    story = Story()
    story.machine()
    story.lists()
    missing = {"aws-1": SETTLE_S}
    assert story.look(missing_s=missing) == []
    story.add(AgentLost, agent="x", name="aws-1")
    (gone,) = story.look(missing_s=missing)
    assert isinstance(gone, Gone)


def test_one_whose_agent_is_lost_for_long_is_ended() -> None:
    story = Story()
    story.machine()
    story.add(AgentLost, agent="x", name="aws-1")
    assert story.look(later_s=59) == []
    assert story.look(later_s=61) == [End("aws", "aws-1", "i-aws-1", "its agent is lost")]


def test_orphans_are_ended_but_not_who_is_of_use() -> None:
    story = Story()
    story.listed["aws"] = [Node("i-1", "aws-x"), Node("i-2", "aws-y", is_over=True)]
    assert story.look() == [End("aws", "", "i-1", "aws-x is unknown here")]
    assert story.look(busy={"i-1"}) == []
    story.agent("aws-x", ephemeral=True)
    assert story.look() == []


def test_a_second_node_of_one_machine_is_an_orphan() -> None:
    story = Story()
    story.machine()
    story.listed["aws"] = [Node("i-aws-1", "aws-1"), Node("i-9", "aws-1")]
    assert story.look() == [End("aws", "", "i-9", "aws-1 is unknown here")]


def test_by_hand_a_machine_is_ended_at_once() -> None:
    story = Story()
    story.machine()
    story.add(CloudDraining, cloud="aws", machine="aws-1", why="ann", now=True)
    assert story.look() == [End("aws", "aws-1", "i-aws-1", "ann")]


@pytest.mark.parametrize("kind", [CloudLaunched, CloudJoined, CloudDraining, CloudGone])
def test_what_concerns_no_known_machine_changes_nothing(kind: Any) -> None:
    story = Story()
    more = {"node": "i"} if kind is CloudLaunched else {}
    story.add(kind, cloud="aws", machine="aws-9", **more)
    assert story.cluster.picture.machines == {}
