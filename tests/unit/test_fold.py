"""The fold, one fact a test; what holds for all events is in the properties."""

from __future__ import annotations

from msgspec.structs import replace
from tests.harness.facts import moment

from rota.core.agents import AgentState
from rota.core.build import Artifact, Build, Usage
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    ArtifactKept,
    BuildCancelled,
    BuildFinished,
    BuildReleased,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    LeaderResigned,
    StoreMoved,
    Unknown,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
)
from rota.core.fold import NOTHING, Change, apply
from rota.core.job import Reason, Retry, Spec
from rota.core.retries import retry_delay_s
from rota.core.states import Result, State
from rota.core.voter import Voter


class Story:
    """A cluster to which things happen, one after the other."""

    def __init__(self) -> None:
        self.cluster = Cluster()

    def fold(self, event: Event) -> Change:
        return apply(self.cluster, self.cluster.picture.seq + 1, event)

    def request(self, build: str, job: str = "web", **spec: object) -> None:
        self.fold(
            BuildRequested(at=moment(), by="ann", build=build, job=job, spec=Spec(**spec))  # type: ignore[arg-type]
        )

    def start(self, build: str, attempt: int = 1, agent: str = "p") -> None:
        self.fold(BuildStarted(at=moment(1), agent=agent, build=build, attempt=attempt))

    def finish(
        self, build: str, attempt: int = 1, agent: str = "p", reason: Reason = Reason.SCRIPT
    ) -> None:
        self.fold(
            BuildFinished(
                at=moment(2),
                agent=agent,
                build=build,
                attempt=attempt,
                reason=reason,
                exit_code=1,
                message="why",
                log_bytes=10,
                usage=Usage(user_s=1.0),
            )
        )

    def cancel(self, build: str, by: str = "bob") -> None:
        self.fold(BuildCancelled(at=moment(3), by=by, build=build, why="no need"))

    def retry(self, build: str) -> None:
        record = self[build]
        self.fold(BuildRetried(at=moment(4), by="ann", build=build, record=record))

    def seal(self, through: int | None = None) -> tuple[Build, ...]:
        through = self.cluster.picture.seq if through is None else through
        return self.fold(HistorySealed(at=moment(5), through=through)).sealed

    def __getitem__(self, build: str) -> Build:
        return self.cluster.picture.builds[build]


def test_a_build_goes_from_the_queue_over_an_agent_to_its_result() -> None:
    story = Story()
    story.request("a", labels="linux")
    assert (story["a"].state, story["a"].ref) == (State.QUEUED, "web#1")
    assert story.cluster.queue.ready == {"linux": {"": [(0, 1, "a")]}}
    story.start("a")
    assert (story["a"].state, story["a"].agent, story["a"].attempt) == (State.RUNNING, "p", 1)
    assert story.cluster.queue.ready == {}
    assert story.cluster.running == {"p": {"a": None}}
    story.finish("a")
    assert (story["a"].state, story["a"].result) == (State.FINISHED, Result.FAILED)
    assert (story["a"].started_at, story["a"].finished_at) == (moment(1), moment(2))
    assert story.cluster.running == {}
    assert story.cluster.queue.number() == 0


def test_a_held_build_waits_for_its_release() -> None:
    story = Story()
    story.fold(BuildRequested(at=moment(), build="a", job="web", spec=Spec(), held=("approval",)))
    assert story["a"].state is State.HELD
    story.start("a")
    assert story["a"].state is State.HELD
    story.fold(BuildReleased(at=moment(), build="a"))
    assert (story["a"].state, story["a"].held) == (State.QUEUED, ())


def test_each_job_counts_its_own_builds() -> None:
    story = Story()
    for build, job in (("a", "web"), ("b", "db"), ("c", "web"), ("a", "web")):
        story.request(build, job)
    assert [story[build].ref for build in "abc"] == ["web#1", "db#1", "web#2"]


def test_a_queue_is_sorted_by_priority_then_age() -> None:
    story = Story()
    for build, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        story.request(build, priority=priority)
    assert [item[2] for item in story.cluster.queue.ready[""][""]] == ["b", "e", "a", "c", "d"]


def test_only_the_next_attempt_can_be_claimed_and_only_once() -> None:
    story = Story()
    story.request("a")
    for attempt in (0, 2, -1):
        story.start("a", attempt)
        assert story["a"].state is State.QUEUED
    story.start("a", 1, "p")
    story.start("a", 2, "q")
    story.start("a", 1, "q")
    assert (story["a"].agent, story["a"].attempt) == ("p", 1)


def test_a_result_of_another_attempt_or_agent_changes_nothing() -> None:
    story = Story()
    story.request("a")
    story.start("a")
    story.finish("a", attempt=2)
    story.finish("a", attempt=0)
    story.finish("a", agent="q")
    assert story["a"].state is State.RUNNING
    story.finish("a", agent="q", reason=Reason.LOST)
    assert story["a"].result is Result.LOST


def test_an_event_that_moves_nothing_is_still_the_last_one_of_its_build() -> None:
    story = Story()
    story.request("a")
    story.start("a", attempt=7)
    assert (story["a"].state, story["a"].last_seq) == (State.QUEUED, 2)
    story.request("a")
    story.retry("a")
    assert (story["a"].state, story["a"].last_seq) == (State.QUEUED, 4)


def test_a_sequence_that_was_folded_changes_nothing() -> None:
    story = Story()
    story.request("a")
    again = BuildStarted(at=moment(), agent="p", build="a", attempt=1)
    assert apply(story.cluster, 1, again) == NOTHING
    assert apply(story.cluster, 0, again) == NOTHING
    assert story["a"].state is State.QUEUED


def test_a_waiting_build_is_cancelled_at_once_and_a_running_one_is_asked() -> None:
    story = Story()
    story.request("a")
    story.cancel("a")
    assert (story["a"].state, story["a"].result) == (State.FINISHED, Result.CANCELLED)
    assert (story["a"].cancelled_by, story["a"].message) == ("bob", "no need")
    story.request("b")
    story.start("b")
    story.cancel("b")
    story.cancel("b", by="eve")
    assert (story["b"].state, story["b"].cancelled_by) == (State.RUNNING, "bob")
    story.finish("b", reason=Reason.CANCELLED)
    assert story["b"].result is Result.CANCELLED


def test_a_policy_tries_again_after_twice_the_time() -> None:
    story = Story()
    story.request("a", retry=Retry(times=2, on=(Reason.SCRIPT,), delay_s=10.0))
    for attempt, wait in ((1, 10), (2, 20)):
        story.start("a", attempt)
        story.finish("a", attempt)
        build = story["a"]
        assert (build.state, build.not_before) == (State.QUEUED, moment(2 + wait))
        assert (build.result, build.exit_code, build.message, build.log_bytes) == (
            None,
            None,
            "",
            0,
        )
        assert story.cluster.queue.delayed == {"a": moment(2 + wait)}
        assert (story.cluster.queue.ready, story.cluster.queue.number()) == ({}, 1)
        assert (build.agent, build.started_at, build.usage) == (None, None, Usage())
    assert [(a.attempt, a.agent, a.exit_code, a.log_bytes) for a in story["a"].former] == [
        (1, "p", 1, 10),
        (2, "p", 1, 10),
    ]
    story.start("a", 3)
    assert story["a"].not_before is None
    assert story.cluster.queue.delayed == {}
    story.finish("a", 3)
    assert story["a"].state is State.FINISHED


def test_a_retrys_delay_is_never_longer_than_an_hour_nor_negative() -> None:
    story = Story()
    story.request("a")
    build = story["a"]
    for delay_s, attempt, wait in (
        (1.0, 1, 1.0),
        (1.0, 12, 2048.0),
        (1.0, 13, 3600.0),
        (1.0, 10**9, 3600.0),
        (1e308, 9, 3600.0),
        (-5.0, 3, 0.0),
        (float("nan"), 1, 0.0),
        (float("inf"), 1, 3600.0),
    ):
        spec = Spec(retry=Retry(delay_s=delay_s))
        assert retry_delay_s(replace(build, spec=spec, attempt=attempt)) == wait


def test_what_was_cancelled_or_passed_is_not_tried_again() -> None:
    story = Story()
    policy = Retry(times=9, on=tuple(Reason))
    story.request("a", retry=policy)
    story.start("a")
    story.cancel("a")
    story.finish("a", reason=Reason.LOST)
    assert story["a"].state is State.FINISHED
    story.request("b", retry=policy)
    story.start("b")
    story.fold(
        BuildFinished(
            at=moment(), agent="p", build="b", attempt=1, reason=Reason.SCRIPT, exit_code=0
        )
    )
    assert story["b"].result is Result.PASSED


def test_a_person_may_try_again_what_was_cancelled() -> None:
    story = Story()
    story.request("a")
    story.cancel("a")
    story.retry("a")
    build = story["a"]
    assert (build.state, build.cancelled_by, build.former) == (State.QUEUED, None, ())
    story.start("a")
    story.finish("a")
    story.retry("a")
    story.cancel("a")
    story.retry("a")
    assert [attempt.attempt for attempt in story["a"].former] == [1]


def test_a_seal_takes_the_finished_builds_up_to_its_sequence_oldest_first() -> None:
    story = Story()
    for build in "abc":
        story.request(build)
    story.request("live")
    for build in "cab":
        story.start(build)
        story.finish(build)
    through = story["a"].last_seq
    assert [build.id for build in story.seal(through)] == ["c", "a"]
    assert story.cluster.picture.sealed_through == through
    assert story.cluster.picture.sealed_seq == story.cluster.picture.seq
    assert story.cluster.requests == [2, 4]
    assert [build.id for build in story.seal()] == ["b"]
    assert story.seal() == ()
    assert list(story.cluster.picture.builds) == ["live"]


def test_a_seal_of_what_is_to_come_covers_no_more_than_there_is() -> None:
    story = Story()
    story.request("a")
    story.seal(through=10**9)
    assert story.cluster.picture.sealed_through == 2


def test_a_sealed_build_comes_back_whole_by_a_retry() -> None:
    story = Story()
    story.request("a")
    story.start("a")
    artifact = Artifact("out", 3, "00")
    story.fold(ArtifactKept(at=moment(), build="a", artifact=artifact))
    story.finish("a")
    (record,) = story.seal()
    story.request("b")
    story.fold(BuildRetried(at=moment(), build="a", record=record))
    build = story["a"]
    assert (build.ref, build.state, build.attempt) == ("web#1", State.QUEUED, 1)
    assert (build.requested_seq, build.artifacts) == (1, (replace(artifact, kept_at=moment()),))
    assert [attempt.result for attempt in build.former] == [Result.FAILED]
    story.start("a", 2)
    assert story["a"].attempt == 2


def test_two_retries_of_a_sealed_build_are_one_and_it_can_be_claimed() -> None:
    story = Story()
    story.request("a")
    story.start("a")
    story.finish("a")
    (record,) = story.seal()
    for _ in range(2):
        story.fold(BuildRetried(at=moment(), build="a", record=record))
    assert story["a"].last_seq == story.cluster.picture.seq
    assert len(story["a"].former) == 1


def test_a_record_that_cannot_be_true_does_not_come_back() -> None:
    story = Story()
    story.request("a")
    build = story["a"]
    done = replace(build, id="z", state=State.FINISHED)
    for record in (
        done,  # its number is taken
        replace(done, id="y", number=5),  # of another build
        replace(done, number=5, state=State.RUNNING),
        replace(done, number=2**60),
        replace(done, number=5, attempt=2**60),
    ):
        assert story.fold(BuildRetried(at=moment(), build="z", record=record)) == NOTHING
    assert list(story.cluster.picture.builds) == ["a"]


def test_a_record_from_before_the_journal_was_begun_anew_counts_from_here() -> None:
    story = Story()
    story.request("a")
    record = replace(story["a"], id="z", number=41, state=State.FINISHED, requested_seq=10**6)
    story.fold(BuildRetried(at=moment(), build="z", record=record))
    assert story["z"].requested_seq == 2
    story.request("b")
    assert story["b"].number == 42


def test_an_artifact_of_the_same_path_replaces_the_former() -> None:
    story = Story()
    story.request("a")
    for path, size in (("x", 1), ("y", 2), ("x", 3)):
        story.fold(ArtifactKept(at=moment(), build="a", artifact=Artifact(path, size, "")))
    assert [(a.path, a.size) for a in story["a"].artifacts] == [("y", 2), ("x", 3)]


def test_agents_leader_and_refs_are_known() -> None:
    story = Story()
    story.fold(AgentStarted(at=moment(), agent="p", labels={"linux": ""}, slots=3, url="u"))
    story.fold(LeaderElected(at=moment(1), agent="p"))
    story.fold(StoreMoved(at=moment(), ref="main", old="0", new="1"))
    story.fold(AgentStopped(at=moment(2), agent="p"))
    story.fold(AgentStopped(at=moment(2), agent="never seen"))
    story.fold(Unknown(kind="?", raw=b""))
    picture = story.cluster.picture
    assert (picture.agents["p"].slots, picture.agents["p"].is_up) == (3, False)
    assert (picture.leader, picture.leader_seq, picture.leader_since) == ("p", 2, moment(1))
    assert (picture.refs, list(picture.agents), picture.seq) == ({"main": "1"}, ["p"], 6)


def test_a_build_of_a_lost_agent_is_tried_elsewhere_if_its_policy_says_so() -> None:
    story = Story()
    for build, on in (("a", (Reason.LOST,)), ("b", (Reason.SCRIPT,))):
        story.request(build, retry=Retry(times=1, on=on))
        story.start(build)
        story.finish(build, agent="leader", reason=Reason.LOST)
    assert (story["a"].state, story["a"].agent) == (State.QUEUED, None)
    assert [(one.agent, one.result) for one in story["a"].former] == [("p", Result.LOST)]
    assert (story["b"].state, story["b"].result) == (State.FINISHED, Result.LOST)
    story.start("a", 2, agent="q")
    assert (story["a"].attempt, story["a"].agent) == (2, "q")


def test_what_a_lost_agent_brings_later_is_superseded() -> None:
    story = Story()
    story.request("a", retry=Retry(times=1, on=(Reason.LOST,)))
    story.start("a")
    story.finish("a", agent="leader", reason=Reason.LOST)
    story.finish("a")
    assert story["a"].state is State.QUEUED
    story.start("a", 2, agent="q")
    story.finish("a", 1)
    assert (story["a"].state, story["a"].agent) == (State.RUNNING, "q")


def test_a_build_that_was_cancelled_and_then_lost_is_cancelled() -> None:
    story = Story()
    story.request("a", retry=Retry(times=9, on=tuple(Reason)))
    story.start("a")
    story.cancel("a")
    story.finish("a", agent="leader", reason=Reason.LOST)
    build = story["a"]
    assert (build.state, build.result, build.reason) == (
        State.FINISHED,
        Result.CANCELLED,
        Reason.CANCELLED,
    )
    assert build.cancelled_by == "bob"


def test_the_builds_of_an_agent_that_left_stay_until_somebody_ends_them() -> None:
    story = Story()
    story.fold(AgentStarted(at=moment(), agent="p"))
    story.request("a")
    story.start("a")
    story.fold(AgentLeft(at=moment(), name="p"))
    assert (story["a"].state, story.cluster.running) == (State.RUNNING, {"p": {"a": None}})


def test_an_agents_life() -> None:
    story = Story()
    agents = story.cluster.picture.agents
    story.fold(AgentJoined(at=moment(1), name="p", pin="f00d"))
    assert (agents["p"].state, agents["p"].pin) == (AgentState.JOINED, "f00d")
    story.fold(AgentStarted(at=moment(2), agent="p", labels={"linux": ""}, slots=2))
    assert (agents["p"].state, agents["p"].since, agents["p"].pin) == (
        AgentState.UP,
        moment(2),
        "f00d",
    )
    story.fold(AgentLost(at=moment(3), agent="leader", name="p", silent_s=9.0))
    assert (agents["p"].state, agents["p"].since) == (AgentState.LOST, moment(3))
    story.fold(AgentStarted(at=moment(4), agent="p"))
    story.fold(AgentStopped(at=moment(5), agent="p"))
    assert (agents["p"].state, agents["p"].since) == (AgentState.STOPPED, moment(5))
    story.fold(AgentLeft(at=moment(6), name="p"))
    assert agents == {}


def test_who_leads_is_who_was_elected_last_and_did_not_resign() -> None:
    story = Story()
    picture = story.cluster.picture
    story.fold(LeaderElected(at=moment(1), agent="p", why="nobody led"))
    story.fold(LeaderElected(at=moment(2), agent="q", why="p was silent"))
    assert (picture.leader, picture.leader_seq, picture.leader_why) == ("q", 2, "p was silent")
    # Somebody else's: it says nothing, but it is the last event of the key.
    story.fold(LeaderResigned(at=moment(3), agent="p", why="late"))
    assert (picture.leader, picture.leader_seq, picture.leader_since) == ("q", 3, moment(2))
    story.fold(LeaderResigned(at=moment(4), agent="q", why="q was stopped"))
    assert (picture.leader, picture.leader_seq) == ("", 4)
    assert (picture.leader_since, picture.leader_why) == (moment(4), "q was stopped")


def listening(agent: str, server: str, client: int = 4222) -> VoterListening:
    return VoterListening(
        at=moment(), agent=agent, server=server, host=agent, client=client, route=6222
    )


def test_the_first_voter_appoints_itself_and_all_others_are_appointed() -> None:
    story = Story()
    voters = story.cluster.picture.voters
    story.fold(listening("p", "s1"))
    assert voters == {"p": Voter("p", "s1", "p", 4222, 6222)}
    story.fold(listening("q", "s2"))
    assert list(voters) == ["p"]
    story.fold(VoterAppointed(at=moment(), agent="p", name="q", server="s2"))
    assert voters["q"] == Voter("q", "s2")
    story.fold(listening("q", "s9"))
    story.fold(listening("q", "s2"))
    assert voters["q"].is_listening
    story.fold(listening("q", "s2", client=4333))
    assert voters["q"].client == 4333


def test_a_voter_is_dismissed_by_its_servers_name() -> None:
    story = Story()
    voters = story.cluster.picture.voters
    story.fold(listening("p", "s1"))
    story.fold(VoterAppointed(at=moment(), agent="p", name="q", server="s2"))
    story.fold(VoterDismissed(at=moment(), agent="p", name="q", server="s1"))
    story.fold(VoterDismissed(at=moment(), agent="p", name="nobody", server="s2"))
    assert list(voters) == ["p", "q"]
    story.fold(VoterDismissed(at=moment(), agent="p", name="q", server="s2"))
    assert list(voters) == ["p"]
    story.fold(listening("q", "s2"))
    assert list(voters) == ["p"]
    story.fold(VoterAppointed(at=moment(), agent="p", name="q", server="s3"))
    assert voters["q"] == Voter("q", "s3")


def test_agents_leader_and_voters_are_in_the_snapshot() -> None:
    story = Story()
    story.fold(AgentJoined(at=moment(1), name="p", pin="f00d"))
    story.fold(AgentStarted(at=moment(2), agent="p", labels={"linux": ""}, token="t"))
    story.fold(AgentLabelled(at=moment(3), name="p", labels={"big": "", "linux": None}))
    story.fold(AgentDrained(at=moment(3), name="p"))
    story.fold(LeaderElected(at=moment(4), agent="p", why="nobody led"))
    story.fold(listening("p", "s1"))
    restored = decode_picture(encode_picture(story.cluster))
    assert restored is not None
    assert restored.picture == story.cluster.picture
    assert decode_picture(encode_picture(Cluster(Picture()))) is not None


def test_events_of_builds_that_nobody_knows_change_nothing() -> None:
    story = Story()
    for event in (
        BuildReleased(at=moment(), build="a"),
        BuildStarted(at=moment(), build="a", attempt=1),
        BuildFinished(at=moment(), build="a", attempt=1, reason=Reason.LOST),
        BuildCancelled(at=moment(), build="a"),
        ArtifactKept(at=moment(), build="a", artifact=Artifact("x", 1, "")),
    ):
        assert story.fold(event) == NOTHING
    assert story.cluster.picture.builds == {}
    assert story.cluster.picture.seq == 5


def test_a_snapshot_that_cannot_be_read_is_none() -> None:
    for raw in (b"", b"{", b"[]", b'{"seq":"x"}', b'{"builds":{"a":{}}}', b"[" * 100_000, b"\xff"):
        assert decode_picture(raw) is None
