"""The numbers that others watch: `GET /metrics`, in the text format of Prometheus.

**To add one, add a row to** :data:`METERS`: name, type, what it says, and a function that reads it out of a
:class:`Moment`. What happens rather than is, is counted in :mod:`rota.service.counts`.

Two kinds stand on one page. What is folded is the same on every agent: a query takes the ``max`` over
them, never the sum. What an agent says of itself begins with ``rota_agent_`` or ``process_``. How many series
there are does not depend on what users name: jobs, label expressions and targets beyond a bound are ``other``.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from rota.core.events import EPOCH
from rota.core.exposition import OTHER, Histogram, Labels, Sample, family
from rota.core.states import State
from rota.service.agents import certificate_until
from rota.service.chat import chat_troubles
from rota.service.context import Service

#: So many label expressions, clouds, targets have numbers of their own.
MAX_NAMES = 50
MAX_AGENTS = 200


class Moment(NamedTuple):
    """What a meter reads."""

    service: Service
    now: datetime
    oldest: dict[str, datetime]  # by label expression, when its oldest queued build was asked for


class Meter(NamedTuple):
    """A row: its name, its type, what it says, and how it is read."""

    name: str
    kind: str
    help: str
    read: Callable[[Moment], Iterable[Sample]]


def page(service: Service) -> bytes:
    """Return the page. Cost: flat in history and jobs; a look at the queued builds, some 5 ms with 10,000."""
    service.counts.begin()
    moment = Moment(service, service.clock.now(), _oldest(service))
    lines = [line for it in METERS for line in family(it.name, it.kind, it.help, it.read(moment))]
    return "".join(lines).encode("utf-8", "replace")


def _oldest(service: Service) -> dict[str, datetime]:
    """Return since when each label expression's oldest build waits. They stand as they came."""
    cluster, found = service.world.cluster, dict[str, datetime]()
    expected = len(cluster.queue.waiting)
    for build in cluster.picture.builds.values():
        if len(found) == expected:
            break
        if build.state is State.QUEUED and build.spec.labels not in found:
            found[build.spec.labels] = build.requested_at
    return found


def _one(read: Callable[[Moment], float | None]) -> Callable[[Moment], Iterator[Sample]]:
    """Return what reads a metric of one number; none is said where it is not known."""

    def samples(at: Moment) -> Iterator[Sample]:
        value = read(at)
        if value is not None:
            yield Sample(value)

    return samples


def _histogram(read: Callable[[Moment], Histogram]) -> Callable[[Moment], Iterator[Sample]]:
    return lambda at: read(at).samples()


def _by(label: str, values: dict[str, float], limit: int = MAX_NAMES) -> Iterator[Sample]:
    """Yield the largest so many values by name, and the sum of the rest as one."""
    named = heapq.nlargest(limit, values, key=values.__getitem__)
    for name in named:
        yield Sample(values[name], ((label, name),))
    if len(values) > len(named):
        yield Sample(sum(values.values()) - sum(values[it] for it in named), ((label, OTHER),))


# -- what is folded -----------------------------------------------------------------------------


def _queued(at: Moment) -> Iterator[Sample]:
    waiting = at.service.world.cluster.queue.waiting
    return _by("labels", {name: float(count) for name, count in waiting.items()})


def _oldest_s(at: Moment) -> Iterator[Sample]:
    ages = sorted((since, labels) for labels, since in at.oldest.items())
    for since, labels in ages[:MAX_NAMES]:
        yield Sample(max((at.now - since).total_seconds(), 0.0), (("labels", labels),))


def _running(at: Moment) -> Iterator[Sample]:
    cluster = at.service.world.cluster
    runs = {name: float(len(cluster.running.get(name, ()))) for name in cluster.picture.agents}
    return _by("agent", runs, MAX_AGENTS)


def _slots(at: Moment) -> Iterator[Sample]:
    agents = at.service.world.cluster.picture.agents
    slots = {name: float(agent.slots if agent.is_up else 0) for name, agent in agents.items()}
    return _by("agent", slots, MAX_AGENTS)


def _refusals(at: Moment) -> Iterator[Sample]:
    for why, count in at.service.counts.refusals.items():
        yield Sample(count, (("why", why),))


def _held(at: Moment) -> float:
    cluster = at.service.world.cluster
    running = sum(map(len, cluster.running.values()))
    others = running + cluster.queue.number() + len(cluster.unsealed)
    return len(cluster.picture.builds) - others


def _results(at: Moment) -> Iterator[Sample]:
    for result, count in at.service.counts.totals.items():
        yield Sample(count, (("result", result),))


def _job_results(at: Moment) -> Iterator[Sample]:
    for (job, result), count in at.service.counts.results.items():
        yield Sample(count, (("job_name", job), ("result", result)))


def _runs(at: Moment) -> Iterator[Sample]:
    for job, histogram in at.service.counts.runs.items():
        yield from histogram.samples((("job_name", job),))


def _reasons(at: Moment) -> Iterator[Sample]:
    for reason, count in at.service.counts.reasons.items():
        yield Sample(count, (("reason", reason),))


def _agents(at: Moment) -> Iterator[Sample]:
    counts = {"up": 0, "stopped": 0, "lost": 0, "joined": 0}
    for agent in at.service.world.cluster.picture.agents.values():
        counts[agent.state] += 1
    for state, count in counts.items():
        yield Sample(count, (("state", state),))


def _leader(at: Moment) -> Iterator[Sample]:
    picture = at.service.world.cluster.picture
    if picture.leader:
        yield Sample(1, (("agent", picture.leader),))


def _led_s(at: Moment) -> float | None:
    picture = at.service.world.cluster.picture
    is_led = picture.leader and picture.leader_since != EPOCH
    return (at.now - picture.leader_since).total_seconds() if is_led else None


def _stale_s(at: Moment) -> float:
    since = at.service.world.stale_since
    return (at.now - since).total_seconds() if since is not None else 0.0


def _schedules_late_s(at: Moment) -> float:
    top = at.service.world.agenda.next_due()
    return max((at.now - top[0]).total_seconds(), 0.0) if top is not None else 0.0


def _owed(at: Moment) -> Iterator[Sample]:
    queues = at.service.world.cluster.picture.outbox.queues
    yield from _by("target", {name: float(len(it.notices)) for name, it in queues.items()})


def _oldest_owed_s(at: Moment) -> float:
    queues = at.service.world.cluster.picture.outbox.queues.values()
    since = [it.notices[0].since_when for it in queues if it.notices]
    return max((at.now - min(since)).total_seconds(), 0.0) if since else 0.0


def _machines(at: Moment) -> Iterator[Sample]:
    counts: dict[Labels, int] = {}
    for machine in at.service.world.cluster.picture.machines.values():
        labels: Labels = (("cloud", machine.cloud), ("state", machine.state))
        counts[labels] = counts.get(labels, 0) + 1
    for labels, count in sorted(counts.items()):
        yield Sample(count, labels)


def _cloud_failures(at: Moment) -> Iterator[Sample]:
    for name, cloud in sorted(at.service.world.cluster.picture.clouds.items()):
        yield Sample(cloud.failed, (("cloud", name),))


def _launches(at: Moment) -> Iterator[Sample]:
    for name, cloud in sorted(at.service.world.cluster.picture.clouds.items()):
        yield Sample(cloud.launched, (("cloud", name),))


# -- of this agent ------------------------------------------------------------------------------


def _info(at: Moment) -> Iterator[Sample]:
    me = at.service.me
    yield Sample(1, (("agent", me.name), ("version", me.version)))


def _troubles(at: Moment) -> Iterator[Sample]:
    world = at.service.world
    for what in ("disk", "engine"):
        yield Sample(what in world.troubles, (("what", what),))
    others = [what for what in world.troubles if what not in ("disk", "engine")]
    yield Sample(bool(others or chat_troubles(world)), (("what", OTHER),))


def _disk(at: Moment) -> Iterator[Sample]:
    disk = os.statvfs(at.service.me.data)
    yield Sample(disk.f_bavail * disk.f_frsize, (("what", "free"),))
    yield Sample(disk.f_blocks * disk.f_frsize, (("what", "size"),))


def _requests(at: Moment) -> Iterator[Sample]:
    for (verb, status), count in sorted(at.service.counts.requests.items()):
        yield Sample(count, (("verb", verb), ("status", str(status))))


def _request_s(at: Moment) -> Iterator[Sample]:
    for verb, histogram in sorted(at.service.counts.request_s.items()):
        yield from histogram.samples((("verb", verb),))


def _streams(at: Moment) -> Iterator[Sample]:
    for kind, count in sorted(at.service.counts.streams.items()):
        yield Sample(count, (("verb", kind),))


def _spans(at: Moment) -> Iterator[Sample]:
    counts = at.service.counts
    yield Sample(counts.spans_sent, (("what", "sent"),))
    yield Sample(counts.spans_dropped, (("what", "dropped"),))


def _certificate_left_s(at: Moment) -> float | None:
    until = certificate_until(at.service)
    return (until - at.now).total_seconds() if until is not None else None


def _pss(at: Moment) -> float | None:
    """Return the daemon's own memory, with its part of what it shares. Cost: about 1 ms, the kernel's."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            line = next((it for it in file if it.startswith("Pss:")), None)
    except OSError:
        return None
    return int(line.split()[1]) * 1024 if line is not None else None


def _open_fds(at: Moment) -> float:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no paths are wanted


def _collections(at: Moment) -> float:
    return float(sum(it["collections"] for it in gc.get_stats()))


METERS = (
    Meter("rota_info", "gauge", "The agent that answers, and its version.", _info),
    # -- the cluster, as it is folded
    Meter("rota_builds_queued", "gauge", "Queued builds by label expression.", _queued),
    Meter(
        "rota_queue_oldest_seconds",
        "gauge",
        "How long the oldest queued build of a label expression has waited.",
        _oldest_s,
    ),
    Meter("rota_builds_running", "gauge", "Running builds by agent.", _running),
    Meter("rota_slots", "gauge", "Slots by agent; 0 for one that is not up.", _slots),
    Meter("rota_builds_held", "gauge", "Held builds.", _one(_held)),
    Meter("rota_builds_total", "counter", "Finished builds by result.", _results),
    Meter(
        "rota_job_builds_total",
        "counter",
        "Finished builds by job and result; jobs beyond [metrics] jobs are other.",
        _job_results,
    ),
    Meter(
        "rota_build_duration_seconds",
        "histogram",
        "How long builds ran, their last attempt, by job.",
        _runs,
    ),
    Meter(
        "rota_build_wait_seconds",
        "histogram",
        "How long builds waited: from their request, or the end of a former attempt, to their start.",
        _histogram(lambda at: at.service.counts.waits),
    ),
    Meter("rota_attempts_total", "counter", "Ended attempts by reason.", _reasons),
    Meter(
        "rota_retries_total",
        "counter",
        "Attempts that were tried again.",
        _one(lambda at: at.service.counts.retries),
    ),
    Meter(
        "rota_log_bytes_total",
        "counter",
        "What ended attempts printed.",
        _one(lambda at: at.service.counts.log_bytes),
    ),
    Meter("rota_agents", "gauge", "Agents by state.", _agents),
    Meter(
        "rota_agents_lost_total",
        "counter",
        "Agents that were given up.",
        _one(lambda at: at.service.counts.agents_lost),
    ),
    Meter("rota_leader", "gauge", "Who leads.", _leader),
    Meter("rota_leader_seconds", "gauge", "How long it has led.", _one(_led_s)),
    Meter(
        "rota_elections_total",
        "counter",
        "Elections of a leader.",
        _one(lambda at: at.service.counts.elections),
    ),
    Meter(
        "rota_voters",
        "gauge",
        "Agents that run a server of the engine.",
        _one(lambda at: len(at.service.world.cluster.picture.voters)),
    ),
    Meter(
        "rota_jobs",
        "gauge",
        "Jobs on main.",
        _one(lambda at: len(at.service.world.definitions.jobs)),
    ),
    Meter(
        "rota_schedules",
        "gauge",
        "Schedules that are kept.",
        _one(lambda at: len(at.service.world.cluster.picture.schedules)),
    ),
    Meter(
        "rota_schedules_overdue_seconds",
        "gauge",
        "How long the most overdue instant of a schedule has waited to be settled.",
        _one(_schedules_late_s),
    ),
    Meter(
        "rota_schedule_lateness_seconds",
        "histogram",
        "How long after its instant a schedule fired.",
        _histogram(lambda at: at.service.counts.lateness),
    ),
    Meter(
        "rota_schedule_fires_total",
        "counter",
        "Instants of schedules that fired.",
        _one(lambda at: at.service.counts.fired),
    ),
    Meter(
        "rota_schedule_skips_total",
        "counter",
        "Instants of schedules that did not fire, on record.",
        _one(lambda at: at.service.counts.skipped),
    ),
    Meter("rota_notices_owed", "gauge", "Notices that are owed, by target.", _owed),
    Meter(
        "rota_notice_oldest_seconds",
        "gauge",
        "How long the oldest notice has been owed.",
        _one(_oldest_owed_s),
    ),
    Meter("rota_cloud_machines", "gauge", "Machines by cloud and state.", _machines),
    Meter("rota_cloud_launches_total", "counter", "Machines launched by cloud.", _launches),
    Meter("rota_cloud_failures_total", "counter", "Failed launches by cloud.", _cloud_failures),
    # -- this agent
    Meter(
        "rota_agent_seq",
        "gauge",
        "The sequence of the last event folded.",
        _one(lambda at: at.service.world.seq),
    ),
    Meter(
        "rota_agent_events_total",
        "counter",
        "Events folded.",
        _one(lambda at: at.service.counts.events),
    ),
    Meter(
        "rota_agent_fold_lag_seconds",
        "histogram",
        "From an event's time, by its writer's clock, until it was folded here.",
        _histogram(lambda at: at.service.counts.lag),
    ),
    Meter(
        "rota_agent_append_seconds",
        "histogram",
        "How long the journal took to have an event on disk.",
        _histogram(lambda at: at.service.counts.appends),
    ),
    Meter(
        "rota_agent_append_failures_total",
        "counter",
        "Events that the journal did not confirm; refused ones are none of them.",
        _one(lambda at: at.service.counts.failed_appends),
    ),
    Meter(
        "rota_agent_stale_seconds",
        "gauge",
        "How long no quorum of the voters was heard of; 0 while one is.",
        _one(_stale_s),
    ),
    Meter("rota_agent_trouble", "gauge", "Whether something is wrong, by what it is.", _troubles),
    Meter(
        "rota_agent_certificate_left_seconds",
        "gauge",
        "How long the agent's certificate holds; it is renewed with a third of its life left.",
        _one(_certificate_left_s),
    ),
    Meter("rota_agent_disk_bytes", "gauge", "The disk of the data folder.", _disk),
    Meter(
        "rota_agent_engine_restarts_total",
        "counter",
        "How often the agent's own server of the engine was started anew.",
        _one(lambda at: at.service.counts.engine_restarts()),
    ),
    Meter("rota_agent_requests_total", "counter", "Requests by verb and status.", _requests),
    Meter(
        "rota_agent_request_seconds",
        "histogram",
        "How long requests took, to the end of their answers; streams are counted elsewhere.",
        _request_s,
    ),
    Meter(
        "rota_agent_refused_total",
        "counter",
        "Connections and requests that a limit of REST refused.",
        _refusals,
    ),
    Meter("rota_agent_streams", "gauge", "Answers that go on, by verb.", _streams),
    Meter(
        "rota_agent_spans_total",
        "counter",
        "Spans that a collector was told of, and ended builds that were not told for want of room.",
        _spans,
    ),
    Meter(
        "rota_agent_tasks",
        "gauge",
        "Tasks of the daemon's loop.",
        _one(lambda at: len(asyncio.all_tasks())),
    ),
    Meter("rota_agent_pss_bytes", "gauge", "Memory of the daemon, engine excluded.", _one(_pss)),
    Meter(
        "rota_agent_gc_collections_total",
        "counter",
        "Garbage collections of all generations.",
        _one(_collections),
    ),
    Meter(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the daemon.",
        _one(lambda at: time.process_time()),
    ),
    Meter("process_open_fds", "gauge", "Open files of the daemon.", _one(_open_fds)),
)
