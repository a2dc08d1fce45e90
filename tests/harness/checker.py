"""Whether the promises held, told from outside: the journal, the stores, the logs, the marks.

:func:`gather` reads; :func:`check` judges, and is a function of what was read alone: it knows
nothing of how the product works but what it writes down. Each violation names the promise, what
happened, and what shows it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness.daemon import wait_until
from tests.harness.lab import Host, heads
from tests.harness.load import Mark, log_of, read_marks
from tests.harness.rest import RefusedError

Event = Mapping[str, Any]
#: What only a leader writes.
DUTIES = {"history.sealed", "agent.lost", "build.queued", "voter.appointed", "voter.dismissed"}
PAGE = 10_000
SETTLE_S = 60.0


@dataclasses.dataclass(frozen=True)
class Ack:
    """A trigger that was answered with success."""

    build: str
    job: str
    number: int
    at: str  # which agent answered


@dataclasses.dataclass(frozen=True)
class LogRead:
    """Bytes of an attempt's log from its first byte on, as one reader got them.

    ``whole`` says that the reader was told that this was all.
    """

    reader: str
    build: str
    attempt: int
    data: bytes
    whole: bool


@dataclasses.dataclass
class Evidence:
    """All that is known when it is over. ``settled``: nothing was under way when it was read."""

    journal: list[Event] = dataclasses.field(default_factory=list)
    journals: dict[str, list[Event]] = dataclasses.field(default_factory=dict)  # agent -> its own
    acks: list[Ack] = dataclasses.field(default_factory=list)
    marks: list[Mark] = dataclasses.field(default_factory=list)
    builds: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # agent -> id
    heads: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)  # agent -> ref
    records: dict[str, list[Any]] = dataclasses.field(default_factory=dict)  # agent -> records
    faults_of_git: dict[str, str] = dataclasses.field(default_factory=dict)  # agent -> fsck's words
    logs: list[LogRead] = dataclasses.field(default_factory=list)
    followed: dict[str, list[int]] = dataclasses.field(default_factory=dict)  # who -> sequences
    settled: bool = True


@dataclasses.dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


def check(evidence: Evidence) -> list[Violation]:
    """Return all that was broken; nothing if all held."""
    return [violation for rule in RULES for violation in rule(evidence)]


# -- the journal --------------------------------------------------------------------------------


@dataclasses.dataclass
class Trial:
    """One attempt as the journal tells of it."""

    attempt: int
    agent: str
    started: int
    ended: int = 0
    end: Event = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Story:
    """One build as the journal tells of it."""

    request: Event
    trials: list[Trial] = dataclasses.field(default_factory=list)
    cancelled: int = 0
    retried: int = 0

    @property
    def last(self) -> Trial | None:
        return self.trials[-1] if self.trials else None

    @property
    def lines(self) -> int:
        return int(self.request["params"].get("lines", 10)) if "params" in self.request else 10


def stories(journal: Iterable[Event]) -> tuple[dict[str, Story], list[Violation]]:
    """Return each build's story, and where the journal's order of attempts is broken."""
    found: dict[str, Story] = {}
    faults: list[Violation] = []
    for event in journal:
        kind, seq = event["kind"], event["seq"]
        if kind == "build.requested":
            if event["build"] in found:
                faults.append(
                    Violation("P1", f"{_name(event)} was requested twice, again at {seq}")
                )
            found.setdefault(event["build"], Story(event))
        elif kind.startswith("build."):
            story = found.get(event["build"])
            if story is None:
                faults.append(Violation("P1", f"event {seq} is of {_name(event)}, never requested"))
            else:
                faults += _told(story, event)
    return found, faults


def _told(story: Story, event: Event) -> Iterator[Violation]:
    """Go on with a build's story by one event."""
    match event["kind"]:
        case "build.started":
            yield from _started(story, event)
        case "build.finished":
            yield from _finished(story, event)
        case "build.cancelled":
            story.cancelled = event["seq"]
        case "build.retried":
            story.retried, story.cancelled = event["seq"], 0
        case _:
            pass


def _started(story: Story, event: Event) -> Iterator[Violation]:
    last, attempt, seq = story.last, event["attempt"], event["seq"]
    where = f"{_name(event)} attempt {attempt} started at {seq} on {event['agent']}"
    if last is not None and not last.ended:
        yield Violation("P2", f"{where}, while attempt {last.attempt} ran on {last.agent}")
    if attempt != (last.attempt if last else 0) + 1:
        yield Violation("P2", f"{where}, after attempt {last.attempt if last else 0}")
    if last is not None and _has_passed(last.end) and story.retried < last.ended:
        yield Violation("P2", f"{where}, though attempt {last.attempt} had passed at {last.ended}")
    if story.cancelled > (last.started if last else 0) and story.cancelled < seq:
        yield Violation("P2", f"{where}, though it was cancelled at {story.cancelled}")
    story.trials.append(Trial(attempt, event["agent"], seq))


def _finished(story: Story, event: Event) -> Iterator[Violation]:
    found = [trial for trial in story.trials if trial.attempt == event["attempt"]]
    if not found:
        text = f"{_name(event)} attempt {event['attempt']} ended at {event['seq']}, never started"
        yield Violation("P2", text)
        return
    trial = found[-1]
    if event["agent"] != trial.agent and event["reason"] != "lost":
        text = f"{_name(event)} attempt {trial.attempt} of {trial.agent} was ended by "
        yield Violation("P2", f"{text}{event['agent']} as {event['reason']!r} at {event['seq']}")
        return
    if not trial.ended:  # a second end is of an attempt that was given up: it counts for nothing
        trial.ended, trial.end = event["seq"], event


def _has_passed(end: Event) -> bool:
    return end.get("reason") == "script" and end.get("exit_code") == 0


def _name(event: Event) -> str:
    return f"build {event['build']}"


def order_of_attempts(evidence: Evidence) -> Iterator[Violation]:
    """P2 by the journal: one attempt at a time, each after the former was recorded as over."""
    yield from stories(evidence.journal)[1]


def journal_in_order(evidence: Evidence) -> Iterator[Violation]:
    """Sequences rise, each once, from the first on."""
    seqs = [event["seq"] for event in evidence.journal]
    if seqs and seqs[0] != 1:
        yield Violation("P7", f"the journal as it was read begins at {seqs[0]}")
    for before, after in itertools.pairwise(seqs):
        if after <= before:
            yield Violation("P7", f"the journal as it was read has {after} after {before}")


def one_journal(evidence: Evidence) -> Iterator[Violation]:
    """Every agent tells the same journal."""
    known = {event["seq"]: event for event in evidence.journal}
    for agent, journal in evidence.journals.items():
        for event in journal:
            other = known.get(event["seq"])
            if other is not None and other != event:
                text = f"{agent} says that event {event['seq']} is {event}, others {other}"
                yield Violation("P4", text)
        missing = sorted(known.keys() - {event["seq"] for event in journal})
        inside = [seq for seq in missing if journal and seq > journal[0]["seq"]]
        if inside and evidence.settled:
            yield Violation(
                "P4", f"{agent} does not have event {inside[0]} and {len(inside)} in all"
            )


def triggers_kept(evidence: Evidence) -> Iterator[Violation]:
    """P1: what was acknowledged is in the journal, under its number, and came to an end."""
    found, _ = stories(evidence.journal)
    counts: collections.Counter[str] = collections.Counter()
    numbers: dict[str, int] = {}
    for event in evidence.journal:
        if event["kind"] == "build.requested" and event["build"] not in numbers:
            counts[event["job"]] += 1
            numbers[event["build"]] = counts[event["job"]]
    for ack in evidence.acks:
        name = f"build {ack.build} ({ack.job}#{ack.number}), acknowledged by {ack.at},"
        if ack.build not in found:
            yield Violation("P1", f"{name} is not in the journal")
        elif numbers[ack.build] != ack.number:
            yield Violation("P1", f"{name} is number {numbers[ack.build]} in the journal")
    if evidence.settled:
        for build, story in found.items():
            if not (story.last.ended if story.last else story.cancelled):
                state = f"runs on {story.last.agent}" if story.last else "waits"
                yield Violation("P1", f"build {build} never came to an end: it {state}")


def duties_of_leaders(evidence: Evidence) -> Iterator[Violation]:
    """P6: what only a leader writes was written by who led then; elections name other tokens."""
    leader, token = "", 0
    found, _ = stories(evidence.journal)
    for event in evidence.journal:
        kind, seq, agent = event["kind"], event["seq"], event.get("agent", "")
        if kind == "leader.elected":
            if seq <= token:
                yield Violation("P6", f"{agent} was elected with token {seq}, after {token}")
            leader, token = agent, seq
        elif kind == "leader.resigned":
            if agent != leader:
                yield Violation("P6", f"{agent} resigned at {seq}, but {leader or 'nobody'} led")
            leader = ""
        elif agent != leader and (kind in DUTIES or _gives_up_another(event, found)):
            led = f"{leader} led by {token}" if leader else "nobody led"
            yield Violation("P6", f"{agent} wrote {kind} at {seq}, but {led}")


def _gives_up_another(event: Event, found: Mapping[str, Story]) -> bool:
    if event["kind"] != "build.finished" or event["reason"] != "lost":
        return False
    story = found.get(event["build"])
    trials = story.trials if story else []
    return event["agent"] not in {t.agent for t in trials if t.attempt == event["attempt"]}


# -- the stores ---------------------------------------------------------------------------------


def equal_stores(evidence: Evidence) -> Iterator[Violation]:
    """P4: every agent's main and history end in the same commit, of whole repositories."""
    for ref in ("main", "history"):
        commits = {agent: refs[ref] for agent, refs in evidence.heads.items()}
        if evidence.settled and len(set(commits.values())) > 1:
            yield Violation("P4", f"{ref} differs: {_listed(commits)}")
    for agent, words in evidence.faults_of_git.items():
        if words:
            yield Violation("P4", f"git fsck on {agent}: {words}")
    moves = [e for e in evidence.journal if e["kind"] == "store.moved"]
    for ref in ("main", "history"):
        last = [event["new"] for event in moves if event["ref"] == ref][-1:]
        for agent, refs in evidence.heads.items():
            if last and evidence.settled and refs[ref] != last[0]:
                text = f"{ref} on {agent} is {refs[ref][:12]}, the journal moved it to "
                yield Violation("P4", f"{text}{last[0][:12]}")
    for before, after in itertools.pairwise(e for e in moves if e["ref"] == "main"):
        if after["old"] != before["new"]:
            text = f"main moved at {after['seq']} from {after['old'][:12]}, "
            yield Violation("P4", f"{text}where it was not since {before['seq']}")


def equal_builds(evidence: Evidence) -> Iterator[Violation]:
    """All agents tell the same of each build, what they tell is what the journal says."""
    found, _ = stories(evidence.journal)
    for build, story in found.items() if evidence.settled else ():
        told = {agent: _gist(builds.get(build)) for agent, builds in evidence.builds.items()}
        if len(set(told.values())) > 1:
            yield Violation("P4", f"build {build} differs: {_listed(told)}")
        for agent, (state, result, attempt) in told.items():
            count = story.last.attempt if story.last else 0
            if state != "finished":
                yield Violation("P1", f"{agent} says that build {build} is {state}")
            elif attempt != count:
                text = f"{agent} says that build {build} had {attempt} attempts, the journal "
                yield Violation("P2", f"{text}{count}")
            elif story.last and (result == "passed") != _has_passed(story.last.end):
                text = f"{agent} says that build {build} {result}, the journal "
                yield Violation("P2", f"{text}{_end_of(story.last.end)}")


def _gist(build: Any) -> tuple[str, str, int]:
    if build is None:
        return ("unknown", "", 0)
    return (str(build["state"]), str(build["result"]), int(build["attempt"]))


def _end_of(end: Event) -> str:
    return f"{end.get('reason')} with exit code {end.get('exit_code')}"


def one_record_each(evidence: Evidence) -> Iterator[Violation]:
    """The history holds each finished build once, as it ended."""
    found, _ = stories(evidence.journal)
    for agent, records in evidence.records.items() if evidence.settled else ():
        counted = collections.Counter(record["id"] for record in records)
        for build in found:
            if counted[build] != 1:
                yield Violation("P4", f"{agent}'s history has build {build} {counted[build]} times")
        for record in records:
            known = evidence.builds.get(agent, {}).get(record["id"])
            if known is not None and _gist(record) != _gist(known):
                text = f"{agent}'s history says {_gist(record)} of build {record['id']}, "
                yield Violation("P4", f"{text}the agent {_gist(known)}")


#: What a log says where bytes of it were lost.
GAP = b"\nrota: output is missing here"

# -- logs, followers, scripts -------------------------------------------------------------------


def true_logs(evidence: Evidence) -> Iterator[Violation]:
    """P5: what anybody read is what the script wrote, or its beginning."""
    found, _ = stories(evidence.journal)
    for read in evidence.logs:
        story = found.get(read.build)
        if story is None:
            continue
        truth = log_of(read.build, read.attempt, story.lines)
        name = f"the log of build {read.build} attempt {read.attempt}, read at {read.reader},"
        ends = [trial.end for trial in story.trials if trial.attempt == read.attempt]
        if not _is_true(read.data, truth, ends):
            yield Violation("P5", f"{name} {_difference(read.data, truth)}")
            continue
        if not read.whole or not ends or not ends[0]:
            continue
        if ends[0]["reason"] == "script" and read.data != truth:
            yield Violation("P5", f"{name} ends at byte {len(read.data)} of {len(truth)}")
        said = ends[0].get("log_bytes", 0)
        if ends[0]["reason"] != "lost" and said != len(read.data):
            yield Violation("P5", f"{name} has {len(read.data)} bytes, the journal says {said}")


def _is_true(read: bytes, truth: bytes, ends: Sequence[Event]) -> bool:
    """Whether a log has the script's bytes, in order, but for what it says is missing.

    That may stand only where the machine went, and with it what carried the output (ADR 38).
    """
    if not ends or ends[0].get("reason") != "lost":
        return truth.startswith(read)
    first, *more = read.split(GAP)
    at = len(first) if truth.startswith(first) else -1
    for piece in more:
        _, _, printed = piece.partition(b"\n")
        at = truth.find(printed, at) + len(printed) if at >= 0 and printed in truth[at:] else -1
    return at >= 0


def _difference(read: bytes, truth: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(read, truth, strict=False)) if a != b), len(truth))
    return f"is wrong from byte {at} on: {read[at : at + 40]!r} for {truth[at : at + 40]!r}"


def followed_without_a_seam(evidence: Evidence) -> Iterator[Violation]:
    """P7: who follows events sees each once, in order, none left out."""
    seqs = [event["seq"] for event in evidence.journal]
    for who, seen in evidence.followed.items():
        if not seen:
            continue
        for before, after in itertools.pairwise(seen):
            if after <= before:
                yield Violation("P7", f"{who} saw event {after} after {before}")
        expected = [seq for seq in seqs if seen[0] <= seq <= seen[-1]]
        missed = sorted(set(expected) - set(seen))
        invented = sorted(set(seen) - set(expected))
        if missed:
            yield Violation("P7", f"{who} missed {len(missed)} events, the first is {missed[0]}")
        if invented:
            yield Violation("P7", f"{who} saw event {invented[0]}, which is not in the journal")


def one_process_each(evidence: Evidence) -> Iterator[Violation]:
    """P2 and P8 by the scripts' own marks: an attempt runs once, where and as the journal says."""
    found, _ = stories(evidence.journal)
    by_trial: dict[tuple[str, int], list[Mark]] = collections.defaultdict(list)
    for mark in evidence.marks:
        by_trial[mark.build, mark.attempt].append(mark)
        if mark.what == "overlap":
            text = (
                f"build {mark.build} attempt {mark.attempt} began on {mark.agent} (pid {mark.pid}"
            )
            yield Violation("P2", f"{text}) while another script of it lived")
    for (build, attempt), marks in by_trial.items():
        name = f"build {build} attempt {attempt}"
        begun = [mark for mark in marks if mark.what == "begin"]
        if len(begun) > 1:
            where = ", ".join(f"{mark.agent} (pid {mark.pid}, up {mark.up_s})" for mark in begun)
            yield Violation("P2", f"{name} began {len(begun)} times: {where}")
        trials = [
            t for t in (found[build].trials if build in found else []) if t.attempt == attempt
        ]
        if not trials:
            yield Violation("P2", f"{name} ran on {marks[0].agent}, and was never claimed")
        elif begun and begun[0].agent != trials[-1].agent:
            yield Violation("P2", f"{name} ran on {begun[0].agent}, claimed by {trials[-1].agent}")
    for build, story in found.items():
        for trial in story.trials:
            yield from _told_truly(build, trial, by_trial.get((build, trial.attempt), []))


def _told_truly(build: str, trial: Trial, marks: Sequence[Mark]) -> Iterator[Violation]:
    """P8: a script that came to its end is not recorded otherwise, nor the reverse."""
    has_ended = any(mark.what == "end" for mark in marks)
    reason = trial.end.get("reason")
    name = f"build {build} attempt {trial.attempt} on {trial.agent}"
    if reason == "script" and not has_ended:
        yield Violation("P8", f"{name} is recorded as ended by itself, its script never did")
    if has_ended and reason in ("signal", "oom-killed", "agent-error"):
        yield Violation("P8", f"{name} came to its end, and is recorded as {reason!r}")


RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    journal_in_order,
    one_journal,
    triggers_kept,
    order_of_attempts,
    duties_of_leaders,
    equal_stores,
    equal_builds,
    one_record_each,
    true_logs,
    followed_without_a_seam,
    one_process_each,
)


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{agent} {value}" for agent, value in sorted(values.items()))


# -- reading ------------------------------------------------------------------------------------


def read_journal(host: Host, after: int = 0) -> list[Event]:
    """Return the journal's events above ``after``, as one agent tells them."""
    events: list[Event] = []
    with host.rest(60.0) as rest:
        while page := rest.call("GET", f"/v1/events?after={after}&limit={PAGE}"):
            events += page
            after = page[-1]["seq"]
    return events


def settle(hosts: Sequence[Host], patience_s: float = SETTLE_S) -> bool:
    """Wait until all hosts have the same heads, and nothing is under way; whether it came to that.

    It is given up when builds have become no fewer for ``patience_s``: a long queue is no fault.
    """
    fewest, since = None, time.monotonic()
    while fewest != 0:
        left = _under_way(hosts)
        if left is not None and (fewest is None or left < fewest):
            fewest, since = left, time.monotonic()
        elif time.monotonic() - since > patience_s:
            return False
        time.sleep(0.1)
    with contextlib.suppress(AssertionError):
        wait_until("all stores are equal", lambda: _have_equal_stores(hosts), patience_s)
        return True
    return False


def _under_way(hosts: Sequence[Host]) -> int | None:
    """Return how many builds are not over, as the agent says that knows of most; ``None``: unknown."""
    most = 0
    for host in hosts:
        try:
            with host.rest(5.0) as rest:
                most = max(most, len(rest.call("GET", "/v1/builds?state=live&limit=1000")))
        except (OSError, RefusedError):
            return None
    return most


def _have_equal_stores(hosts: Sequence[Host]) -> bool:
    with contextlib.suppress(OSError):
        total = len(read_builds(hosts[0]))
        found = [heads(host) for host in hosts]
        if all(refs == found[0] for refs in found):
            return all(len(read_records(host)) >= total for host in hosts)
    time.sleep(0.2)
    return False


def read_builds(host: Host) -> dict[str, Any]:
    """Return all builds that an agent knows, by id."""
    found: dict[str, Any] = {}
    before = ""
    with host.rest(60.0) as rest:
        while page := rest.call("GET", f"/v1/builds?limit=1000{before}"):
            new = {build["id"]: build for build in page if build["id"] not in found}
            if not new:
                break
            found |= new
            before = f"&before={min(build['requested_seq'] for build in page)}"
    return found


def read_records(host: Host) -> list[Any]:
    """Return what stands on ``history`` in a host's store, a record for each file."""
    store = str(host.data / "store.git")
    listed = _git(store, "ls-tree", "-r", "history").decode().splitlines()
    blobs = [line.split()[2] for line in listed if line.endswith(".json")]
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    raw = _git(store, "cat-file", "--batch", stdin=asked)
    records, at = [], 0
    for _ in blobs:
        start = raw.index(b"\n", at) + 1
        size = int(raw[at : start - 1].split()[2])
        records.append(json.loads(raw[start : start + size]))
        at = start + size + 1
    return records


def _git(store: str, *words: str, stdin: bytes = b"") -> bytes:
    command = ["git", "-C", store, *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False).stdout


def _fsck(host: Host) -> str:
    """Return what git finds wrong with a host's store; nothing if it is whole."""
    command = ["git", "-C", str(host.data / "store.git"), "fsck", "--no-dangling", "--no-progress"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).strip() if done.returncode else ""


def read_logs(host: Host, builds: Iterable[Any]) -> Iterator[LogRead]:
    """Read every attempt's log of some builds at one agent."""
    with host.rest(60.0) as rest:
        for build in builds:
            for attempt in range(1, build["attempt"] + 1):
                data = rest.get_bytes(f"/v1/builds/{build['id']}/log?attempt={attempt}")
                yield LogRead(host.name, build["id"], attempt, data, whole=True)


def gather(
    hosts: Sequence[Host],
    *,
    acks: Sequence[Ack] = (),
    marks: Path | None = None,
    logs: Sequence[LogRead] = (),
    followed: Mapping[str, list[int]] | None = None,
    kept: Sequence[Event] = (),
    patience_s: float = SETTLE_S,
) -> Evidence:
    """Wait until the hosts are at rest, and read all there is to read.

    ``kept`` is what a follower kept of the journal: its beginning may be trimmed by now.
    """
    settled = settle(hosts, patience_s)
    # Before the journals: what a script did by now, the journal had allowed by then.
    seen = read_marks(marks) if marks is not None else []
    journals = {host.name: read_journal(host) for host in hosts}
    first = max((journal[0]["seq"] for journal in journals.values() if journal), default=1)
    evidence = Evidence(
        journal=[e for e in kept if e["seq"] < first],
        journals=journals,
        acks=list(acks),
        marks=seen,
        logs=list(logs),
        followed=dict(followed or {}),
        settled=settled,
    )
    evidence.journal += [e for e in journals[hosts[0].name] if e["seq"] >= first]
    for host in hosts:
        evidence.builds[host.name] = read_builds(host)
        evidence.heads[host.name] = heads(host)
        evidence.records[host.name] = read_records(host)
        evidence.faults_of_git[host.name] = _fsck(host)
        evidence.logs += read_logs(host, evidence.builds[host.name].values())
    return evidence
