"""Who may begin, in which order: limits, rates, throttles, shares between projects."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.harness.facts import moment

from rota.core.build import Build
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.decide import Claim, View, decide
from rota.core.demands import ALL, JOB, LIMIT, Pool, wish_of
from rota.core.events import (
    AgentStarted,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    LimitsSet,
)
from rota.core.fold import apply
from rota.core.job import Rate, Reason, Retry, Spec, Take
from rota.core.policy import Policy, Throttle
from rota.core.states import State

LICENCE = (Take("licence"),)


class Story:
    """One agent with many slots, unless a test says otherwise, and a clock that stands."""

    def __init__(self, slots: int = 100, **policy: Any) -> None:
        self.cluster = Cluster()
        self.second = 0.0
        self.seq = 0
        self.count = 0
        self.slots = slots
        self.labels = {"linux": "", "docker": ""}
        self.fold(AgentStarted(at=moment(), agent="p", labels=self.labels, slots=slots))
        self.set(**policy)

    def set(self, **policy: Any) -> None:
        self.fold(LimitsSet(at=moment(), policy=Policy(**policy)))

    def fold(self, event: Event) -> None:
        self.seq += 1
        apply(self.cluster, self.seq, event)

    def request(self, build: str = "", job: str = "x", params: Any = None, **spec: Any) -> str:
        self.count += 1
        build = build or f"b{self.count}"
        self.fold(
            BuildRequested(
                at=moment(self.second), build=build, job=job, spec=Spec(**spec), params=params or {}
            )
        )
        return build

    def claims(self) -> list[str]:
        view = View(name="p", labels=self.labels, slots=self.slots)
        effects = decide(self.cluster, view, moment(self.second)).effects
        return [effect.build for effect in effects if isinstance(effect, Claim)]

    def start(self, build: str, agent: str = "p") -> bool:
        attempt = self[build].attempt + 1
        at = moment(self.second)
        self.fold(BuildStarted(at=at, agent=agent, build=build, attempt=attempt))
        return self[build].state is State.RUNNING

    def go(self) -> list[str]:
        """Let all begin that may."""
        begun = self.claims()
        assert all(self.start(build) for build in begun)
        return begun

    def finish(self, build: str, reason: Reason = Reason.SCRIPT) -> None:
        found = self[build]
        self.fold(
            BuildFinished(
                at=moment(self.second),
                agent=found.agent or "",
                build=build,
                attempt=found.attempt,
                reason=reason,
                exit_code=0,
            )
        )

    def __getitem__(self, build: str) -> Build:
        return self.cluster.picture.builds[build]


# -- limits -------------------------------------------------------------------------------------


def test_no_more_builds_begin_than_a_limit_has_and_the_next_one_does_when_one_ends() -> None:
    story = Story(limits={"licence": 2})
    for build in "abcd":
        story.request(build, limits=LICENCE)
    assert story.go() == ["a", "b"]
    assert story.go() == []
    story.finish("a")
    assert story.go() == ["c"]


def test_a_claim_beyond_a_limit_is_void_and_its_build_waits_on() -> None:
    story = Story(limits={"licence": 1})
    for build in "ab":
        story.request(build, limits=LICENCE)
    assert story.start("a")
    assert not story.start("b")
    assert (story["b"].state, story["b"].attempt, story["b"].last_seq) == ("queued", 0, story.seq)
    story.finish("a", Reason.LOST)
    assert story.start("b")


def test_the_token_is_the_sequence_of_the_claim_and_later_holders_have_larger_ones() -> None:
    story = Story(limits={"licence": 1})
    tokens = []
    for build in "abc":
        story.request(build, limits=LICENCE, retry=Retry(times=1))
        story.start(build)
        assert story[build].fence == story.seq
        tokens.append(story[build].fence)
        story.finish(build, Reason.LOST)
        assert story.start(build)
        tokens.append(story[build].fence)
        story.finish(build)
    assert tokens == sorted(set(tokens))


def test_a_limit_that_no_settings_name_lets_nobody_begin() -> None:
    story = Story()
    story.request("a", limits=LICENCE)
    assert story.go() == []
    assert not story.start("a")
    story.set(limits={"licence": 1})
    assert story.go() == ["a"]


def test_a_limit_that_is_lowered_takes_nothing_away_and_counts_from_the_next_claim() -> None:
    story = Story(limits={"licence": 3})
    for build in "abcde":
        story.request(build, limits=LICENCE)
    assert story.go() == ["a", "b", "c"]
    story.set(limits={"licence": 1})
    story.finish("a")
    story.finish("b")
    assert story.go() == []
    story.finish("c")
    assert story.go() == ["d"]
    story.set(limits={"licence": 2})
    assert story.go() == ["e"]


def test_several_limits_are_granted_together_or_not_at_all() -> None:
    story = Story(limits={"licence": 1, "db": 1})
    story.request("a", limits=(Take("licence"),))
    story.request("both", limits=(Take("db"), Take("licence")))
    assert story.go() == ["a"]
    pools = story.cluster.queue.pools
    assert list(pools.uses) == [Pool(LIMIT, "licence")]
    story.finish("a")
    assert story.go() == ["both"]


def test_a_job_runs_as_often_as_it_says_for_each_key() -> None:
    story = Story()
    for n, env in enumerate(["prod", "dev", "prod", "dev", "test"]):
        story.request(
            f"b{n}", params={"env": env}, concurrency=1, concurrency_key="{env}", labels="linux"
        )
    story.request("other", job="y", params={"env": "prod"}, concurrency=1, concurrency_key="{env}")
    assert story.go() == ["b0", "b1", "b4", "other"]
    story.finish("b0")
    assert story.go() == ["b2"]


def test_a_key_that_names_what_is_not_there_is_one_place_for_all() -> None:
    story = Story()
    pools = set()
    for build in "ab":
        story.request(build, concurrency=1, concurrency_key="{env}-{flag}", params={"flag": True})
        pools.add(wish_of(story[build]).demands[0].pool)
    assert pools == {Pool(JOB, "x", "-true")}


def test_all_of_a_limit_is_for_one_alone_however_it_is_raised() -> None:
    story = Story(limits={"db": 2})
    story.request("reads", limits=(Take("db"),))
    assert story.go() == ["reads"]
    story.request("writes", limits=(Take("db", ALL),))
    story.request("later", limits=(Take("db"),))
    assert story.go() == [], "who writes is first in line: nobody passes it"
    story.finish("reads")
    assert story.go() == ["writes"]
    story.set(limits={"db": 50})
    assert story.go() == []
    story.finish("writes")
    assert story.go() == ["later"]


def test_who_takes_much_is_not_starved_by_many_who_take_little() -> None:
    story = Story(limits={"db": 3})
    for build in "ab":
        story.request(build, limits=(Take("db"),))
    story.go()
    story.request("big", limits=(Take("db", 3),))
    small = [story.request(limits=(Take("db"),)) for _ in range(5)]
    assert story.go() == [], "one is free, and kept for the first in line"
    story.finish("a")
    assert story.go() == []
    story.finish("b")
    assert story.go() == ["big"]
    story.finish("big")
    assert story.go() == small[:3]


def test_who_needs_two_limits_is_not_starved_by_those_who_need_one() -> None:
    story = Story(limits={"db": 1, "licence": 1})
    story.request("db-0", limits=(Take("db"),))
    story.request("licence-0", limits=LICENCE)
    story.go()
    story.request("both", limits=(Take("db"), *LICENCE))
    story.request("db-1", limits=(Take("db"),))
    story.request("licence-1", limits=LICENCE)
    story.finish("db-0")
    assert story.go() == [], "the database is kept for who waits for the licence as well"
    story.finish("licence-0")
    assert story.go() == ["both"]


def test_nothing_is_kept_for_who_no_agent_can_run() -> None:
    story = Story(limits={"db": 2})
    story.request("a", limits=(Take("db"),))
    story.go()
    story.request("never", limits=(Take("db", 2),), labels="windows")
    story.request("b", limits=(Take("db"),))
    assert story.go() == ["b"]


def test_what_waits_for_a_limit_stands_in_nobodys_way() -> None:
    story = Story(slots=2, limits={"licence": 0})
    for _ in range(100):
        story.request(limits=LICENCE, priority=50)
    story.request("free")
    assert story.go() == ["free"]
    assert story.cluster.queue.ready == {}
    assert story.cluster.queue.number() == 100


def test_a_cancelled_build_leaves_its_line() -> None:
    story = Story(limits={"licence": 1})
    for build in "abc":
        story.request(build, limits=LICENCE)
    story.go()
    story.fold(BuildCancelled(at=moment(), build="b"))
    story.finish("a")
    assert story.go() == ["c"]
    assert story.cluster.queue.lines == {}


def test_claims_on_their_way_count_as_held() -> None:
    story = Story(limits={"licence": 2})
    for build in "abc":
        story.request(build, limits=LICENCE)
    view = View(name="p", labels=story.labels, slots=9, claiming=frozenset("a"))
    effects = decide(story.cluster, view, moment()).effects
    assert [effect.build for effect in effects if isinstance(effect, Claim)] == ["b"]


def test_who_holds_what_is_in_the_snapshot() -> None:
    story = Story(limits={"licence": 1})
    for build in "ab":
        story.request(build, limits=LICENCE)
    story.go()
    again = decode_picture(encode_picture(story.cluster))
    assert again is not None
    story.cluster = again
    assert story.go() == []
    story.finish("a")
    assert story.go() == ["b"]


# -- rates --------------------------------------------------------------------------------------


def test_a_rate_lets_so_many_begin_at_once_and_then_one_after_the_other() -> None:
    story = Story()
    builds = [story.request(rate=Rate(3, 60.0)) for _ in range(6)]
    assert story.go() == builds[:3]
    assert story.go() == []
    view = View(name="p", labels=story.labels, slots=100)
    assert decide(story.cluster, view, moment()).wake_at == moment(20)
    story.second = 19.9
    assert story.go() == []
    story.second = 20.0
    assert story.go() == [builds[3]]
    story.second = 60.0
    assert story.go() == builds[4:]


def test_a_claim_before_its_time_is_void() -> None:
    story = Story()
    for build in "ab":
        story.request(build, rate=Rate(1, 60.0))
    assert story.start("a")
    story.second = 59.0
    assert not story.start("b")
    story.second = 60.0
    assert story.start("b")


def test_what_a_wrong_clock_used_up_ends_with_the_next_request() -> None:
    story = Story()
    story.request("a", rate=Rate(1, 60.0))
    story.second = 1e8
    assert story.start("a")
    story.second = 10.0
    story.request("b", rate=Rate(1, 60.0))
    assert story.go() == []
    story.second = 70.0
    assert story.go() == ["b"]


# -- throttles ----------------------------------------------------------------------------------


def test_a_throttle_counts_builds_that_ask_for_its_labels_on_each_agent_and_in_all() -> None:
    story = Story(throttles=(Throttle("docker", total=3, per_agent=2),))
    story.fold(AgentStarted(at=moment(), agent="q", labels=story.labels, slots=9))
    for build in "abcde":
        story.request(build, labels="docker && linux")
    story.request("or", labels="docker || mac")
    story.request("plain", labels="linux")
    assert story.go() == ["a", "b", "or", "plain"]
    assert not story.start("c"), "two run on p"
    assert story.start("c", agent="q")
    assert not story.start("d", agent="q"), "three run in all"
    story.finish("a")
    assert story.go() == ["d"]


# -- order --------------------------------------------------------------------------------------


def test_in_a_project_priority_goes_first_then_age() -> None:
    story = Story(slots=1)
    for build, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        story.request(build, priority=priority)
    order = []
    while begun := story.go():
        order += begun
        story.finish(begun[0])
    assert order == ["b", "e", "a", "c", "d"]


def test_a_burst_is_sorted_by_priority_however_long_it_is() -> None:
    story = Story(slots=1)
    for n in range(500):
        story.request(f"low{n}")
    story.request("high", priority=1)
    assert story.claims() == ["high"]


def test_a_build_of_low_priority_has_its_turn_once_enough_others_have_begun() -> None:
    story = Story(slots=1, ageing=5)
    story.request("low", priority=-2)
    begun = []
    for n in range(20):
        story.request(f"high{n}")
        begun += story.go()
        story.finish(begun[-1])
    assert begun.index("low") == 10


def test_without_ageing_priority_alone_decides() -> None:
    story = Story(slots=1, ageing=0)
    story.request("low", priority=-1)
    for n in range(200):
        story.request(f"high{n}")
        (begun,) = story.go()
        assert begun == f"high{n}"
        story.finish(begun)


@pytest.mark.parametrize("share", [{}, {"web": 3}, {"web": 2, "db": 5}])
def test_shares_follow_the_weights_while_all_have_work(share: dict[str, int]) -> None:
    story = Story(slots=1, share=share)
    backlog: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    for n in range(600):
        for project in ("web", "db", "doc"):
            while backlog[project] < 3:
                story.request(f"{project}-{n}-{backlog[project]}", job=f"{project}/j")
                backlog[project] += 1
        (build,) = story.go()
        story.finish(build)
        project = build.partition("-")[0]
        backlog[project] -= 1
        begun[project] += 1
    weights = {project: share.get(project, 1) for project in begun}
    for project, weight in weights.items():
        assert abs(begun[project] / 600 - weight / sum(weights.values())) < 0.03


def test_one_project_with_a_long_queue_does_not_keep_another_waiting() -> None:
    story = Story(slots=1)
    for n in range(300):
        story.request(f"big{n}", job="big/j", priority=100)
    for _ in range(100):
        story.finish(story.go()[0])
    story.request("small", job="small/j", priority=-100)
    assert story.claims() == ["small"]


def test_a_project_that_rested_does_not_shut_the_others_out_when_it_is_back() -> None:
    story = Story(slots=1)
    for n in range(1000):
        story.request(f"big{n}", job="big/j")
        story.finish(story.go()[0])
    for n in range(300):
        story.request(f"big-late{n}", job="big/j")
        story.request(f"back{n}", job="back/j")
    begun = []
    for _ in range(200):
        begun += story.go()
        story.finish(begun[-1])
    assert 80 <= sum(build.startswith("back") for build in begun) <= 150


def test_what_runs_elsewhere_takes_no_turn_away_here() -> None:
    story = Story(slots=1)
    for n in range(100):
        story.request(f"m{n}", job="web/j", labels="mac")
        story.start(f"m{n}", agent="q")
    story.request("web", job="web/j", labels="linux")
    story.request("db", job="db/j", labels="linux")
    assert story.claims() == ["web"]


def test_what_shares_are_kept_is_forgotten_when_it_counts_for_nothing() -> None:
    story = Story(slots=1)
    story.request("a", job="old/j")
    story.finish(story.go()[0])
    for n in range(600):
        story.request(f"b{n}", job="new/j")
        story.finish(story.go()[0])
    story.cluster.picture.shares.forget()
    assert list(story.cluster.picture.shares.of("")) == ["new"]


def test_what_was_had_stays_in_proportion_however_long_it_goes_on() -> None:
    story = Story(slots=1)
    shares = story.cluster.picture.shares
    for _ in range(50_000):
        shares.begin("", "web", 1)
    shares.begin("", "db", 1)
    assert shares.grain < 1e101
    assert shares.of("")["web"] / shares.of("")["db"] == pytest.approx(63, rel=0.05)
