"""The fold: total, deterministic, and never more than the table of transitions allows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.harness.facts import facts, moment
from tests.harness.folding import derived, fold, indexes

from rota.core.build import Artifact, Build
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.codec import decode, encode
from rota.core.events import (
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
    Unknown,
)
from rota.core.job import Reason, Retry, Spec
from rota.core.states import State

IDS = st.sampled_from(["a", "b", "c"])
AGENTS = st.sampled_from(["p", "q"])
JOBS = st.sampled_from(["x", "y/z"])
COUNTS = st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1)
#: So few values that events meet: most of them are about a build that another one made.
SMALL = {
    "build": IDS,
    "id": IDS,
    "agent": AGENTS,
    "job": JOBS,
    "attempt": COUNTS,
    "number": COUNTS,
    "requested_seq": COUNTS,
    "last_seq": COUNTS,
    "through": COUNTS,
    "times": COUNTS,
    "labels": st.sampled_from(["", "linux", "&& bad"]),
    "priority": COUNTS,
    "pipeline": st.sampled_from(["", "a"]),
    "parent": st.sampled_from(["", "a", "b"]),
    "lane": st.sampled_from(["", "main"]),
}
EVENTS = facts(SMALL) | st.binary(max_size=5).map(lambda raw: Unknown(kind="?", raw=raw))
STEPS = st.lists(st.tuples(st.integers(-1, 3), EVENTS), max_size=25)


def folded(steps: list[tuple[int, Event]]) -> Cluster:
    cluster = Cluster()
    for step, event in steps:
        fold(cluster, cluster.picture.seq + step, event)
    return cluster


@settings(max_examples=100)
@given(STEPS)
def test_any_events_in_any_order_are_folded_alike(steps: list[tuple[int, Event]]) -> None:
    one, other = folded(steps), folded([(step, decode(encode(event))) for step, event in steps])
    assert one.picture == other.picture
    assert encode_picture(one) == encode_picture(other)


@settings(max_examples=100)
@given(STEPS, STEPS)
def test_a_snapshot_and_the_tail_make_the_whole(
    head: list[tuple[int, Event]], tail: list[tuple[int, Event]]
) -> None:
    whole = folded(head)
    restored = decode_picture(encode_picture(whole))
    assert restored is not None
    assert restored.picture == whole.picture
    assert indexes(restored) == indexes(whole)
    for step, event in tail:
        seq = whole.picture.seq + step
        assert fold(restored, seq, event) == fold(whole, seq, event)
    assert restored.picture == whole.picture
    assert indexes(restored) == indexes(whole)


class Life(RuleBasedStateMachine):
    """Builds of a few jobs, through all that can happen to them, with a history that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.entries: list[tuple[int, Event]] = []
        self.requested: dict[str, list[str]] = {}
        self.sealed: dict[str, Build] = {}
        self.ended: dict[str, list[int]] = {}

    def write(self, event: Event) -> None:
        """Fold what comes next, as a journal with gaps would give it."""
        seq = self.cluster.picture.seq + 1 + (len(self.entries) % 7 == 0)
        self.entries.append((seq, event))
        running = {id_ for ids in self.cluster.running.values() for id_ in ids}
        change = fold(self.cluster, seq, event)
        build = change.build
        if build is not None and build.id in running and build.state is not State.RUNNING:
            self.ended[build.id].append(build.attempt)
        for done in change.sealed:
            self.sealed[done.id] = done

    def pick(self, data: st.DataObject, *states: State) -> Build | None:
        live = [b for b in self.cluster.picture.builds.values() if b.state in states]
        return data.draw(st.sampled_from(live)) if live else None

    @rule(
        job=JOBS,
        held=st.booleans(),
        priority=st.integers(-1, 1),
        labels=st.sampled_from(["", "linux"]),
        retry=st.builds(
            Retry,
            times=st.integers(0, 3),
            on=st.sampled_from([(Reason.LOST,), (Reason.SCRIPT, Reason.CANCELLED)]),
            delay_s=st.sampled_from([0.0, 1.5, 3000.0, 1e300, -1.0]),
        ),
    )
    def request(self, job: str, held: bool, priority: int, labels: str, retry: Retry) -> None:
        build = f"{job}{len(self.entries)}"
        spec = Spec(labels=labels, priority=priority, retry=retry)
        waits = ("approval",) if held else ()
        self.requested.setdefault(job, []).append(build)
        self.ended[build] = []
        self.write(BuildRequested(at=moment(), build=build, job=job, spec=spec, held=waits))

    @rule(data=st.data())
    def request_again(self, data: st.DataObject) -> None:
        if known := self.pick(data, *State):
            self.write(BuildRequested(at=moment(), build=known.id, job="x", spec=Spec()))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if build := self.pick(data, *State):
            self.write(BuildReleased(at=moment(), build=build.id))

    @rule(data=st.data(), agent=AGENTS, off=st.sampled_from([0, 0, 0, 1, -1]))
    def claim(self, data: st.DataObject, agent: str, off: int) -> None:
        if build := self.pick(data, State.QUEUED, State.RUNNING):
            attempt = build.attempt + 1 + off
            self.write(BuildStarted(at=moment(), agent=agent, build=build.id, attempt=attempt))
            after = self.cluster.picture.builds[build.id]
            if build.state is State.QUEUED and off == 0:
                assert (after.state, after.agent) == (State.RUNNING, agent)

    @rule(
        data=st.data(),
        reason=st.sampled_from([Reason.SCRIPT, Reason.LOST, Reason.CANCELLED]),
        code=st.sampled_from([0, 1]),
        off=st.sampled_from([0, 0, 0, 1, -1]),
        foreign=st.booleans(),
    )
    def finish(
        self, data: st.DataObject, reason: Reason, code: int, off: int, foreign: bool
    ) -> None:
        if build := self.pick(data, State.RUNNING) or self.pick(data, *State):
            event = BuildFinished(
                at=moment(len(self.entries)),
                agent="elsewhere" if foreign else build.agent or "",
                build=build.id,
                attempt=build.attempt + off,
                reason=reason,
                exit_code=code,
            )
            self.write(event)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if build := self.pick(data, *State):
            self.write(BuildCancelled(at=moment(), by="ann", build=build.id))
            after = self.cluster.picture.builds[build.id]
            assert after.state in (State.RUNNING, State.FINISHED)

    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        if build := self.pick(data, *State):
            artifact = Artifact(data.draw(st.sampled_from(["one", "two"])), 1, "00")
            self.write(ArtifactKept(at=moment(), build=build.id, artifact=artifact))

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        if build := self.pick(data, *State):
            self.write(BuildRetried(at=moment(), build=build.id, record=build))

    @precondition(lambda self: self.sealed)
    @rule(data=st.data())
    def retry_a_sealed_one(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(sorted(self.sealed.values(), key=lambda b: b.id)))
        is_live = record.id in self.cluster.picture.builds
        self.write(BuildRetried(at=moment(), build=record.id, record=record))
        if not is_live:
            after = self.cluster.picture.builds[record.id]
            state = State.HELD if record.held else State.QUEUED
            assert (after.state, after.ref) == (state, record.ref)
            assert (after.params, after.spec) == (record.params, record.spec)
            assert after.requested_seq == record.requested_seq
            assert after.attempt == record.attempt

    @rule(back=st.integers(-2, 6))
    def seal(self, back: int) -> None:
        self.write(HistorySealed(at=moment(), through=self.cluster.picture.seq - back))

    @rule(agent=AGENTS, leads=st.booleans())
    def come_and_go(self, agent: str, leads: bool) -> None:
        self.write(AgentStarted(at=moment(), agent=agent, slots=2))
        self.write(
            LeaderElected(at=moment(), agent=agent)
            if leads
            else AgentStopped(at=moment(), agent=agent)
        )

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def hear_it_again(self, data: st.DataObject) -> None:
        seq, event = data.draw(st.sampled_from(self.entries))
        fold(self.cluster, seq, event)

    @rule()
    def restart(self) -> None:
        restored = decode_picture(encode_picture(self.cluster))
        assert restored is not None
        assert restored.picture == self.cluster.picture
        assert indexes(restored) == derived(self.cluster)
        self.cluster = restored

    @invariant()
    def numbers_are_without_gaps_in_order_of_requests(self) -> None:
        everywhere = {**self.sealed, **self.cluster.picture.builds}
        for builds in self.requested.values():
            assert [everywhere[id_].number for id_ in builds] == list(range(1, len(builds) + 1))

    @invariant()
    def each_ended_attempt_is_kept_once(self) -> None:
        for build in self.cluster.picture.builds.values():
            former = [attempt.attempt for attempt in build.former]
            now = [build.attempt] if build.attempt not in former else []
            ended = build.state is not State.RUNNING
            assert former + (now if ended and build.attempt else []) == self.ended[build.id]

    def teardown(self) -> None:
        again = Cluster()
        for seq, event in self.entries:
            fold(again, seq, event)
        assert again.picture == self.cluster.picture
        assert indexes(again) == indexes(self.cluster)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=300, stateful_step_count=40)
