"""What queued builds wait for: each of them, the queue as a whole, and the limits.

Everything is read from the indexes that decisions are made from, so that what is said is what is
done. Cost for one build: a look at all agents, and at what stands before it in its queue.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime

from msgspec.structs import replace

from rota.core.agents import Agent
from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.demands import ALL, LIMIT, Demand, Pool, project_of, wish_of
from rota.core.durations import format_duration
from rota.core.labels import Expr, first_refusal, read_labels, satisfies
from rota.core.settings_clouds import Cloud
from rota.core.shares import QueueItem
from rota.core.states import State
from rota.service import messages as m
from rota.service.clouds import prospect
from rota.service.context import Principal, Service
from rota.service.sight import Sees, everything

MAX_HOLDERS = 100
MAX_LINE = 10
NO_CLOUDS: Mapping[str, Cloud] = {}
#: In a sentence; the details have them all.
MAX_NAMED = 3


def queued(
    cluster: Cluster,
    build: Build,
    now: datetime,
    troubles: Mapping[str, str],
    clouds: Mapping[str, Cloud] = NO_CLOUDS,
    sees: Sees = everything,
) -> m.Why:
    """Return what a queued build waits for. Of other builds only those that are seen are named."""
    cluster.look(now)
    if build.not_before is not None and build.not_before > now:
        wait = format_duration((build.not_before - now).total_seconds())
        last = build.former[-1].reason if build.former else ""
        because = f": the last one ended by {last}" if last else ""
        text = f"waits {wait} before attempt {build.attempt + 1}{because}"
        return _why(build, text, "time", until=build.not_before)
    limits = tuple(_wanting(cluster, build, sees))
    texts = [_wanting_text(it, build.ref) for it in limits]
    opens = cluster.queue.opens_at(build)
    is_late = opens is not None and not cluster.queue.rate_room(build, now)
    if is_late and opens is not None:
        texts.append(_rate_text(cluster, build, opens, now))
    if texts:
        place = limits[0].place if limits else None
        kind = "limit" if limits else "rate"
        until = opens if is_late else None
        return _why(build, "; ".join(texts), kind, place=place, until=until, limits=limits)
    why = _for_an_agent(cluster, build, troubles, sees)
    help_ = prospect(cluster, clouds, build, now) if why.waits_for != "throttle" else ""
    return replace(why, text=f"{why.text}; {help_}") if help_ else why


def _why(
    build: Build,
    text: str,
    kind: str,
    *,
    place: int | None = None,
    until: datetime | None = None,
    limits: tuple[m.Wanting, ...] = (),
    busy: tuple[m.Busy, ...] = (),
    refused: tuple[m.Refusal, ...] = (),
) -> m.Why:
    return m.Why(
        build=build.ref,
        state=build.state,
        text=text,
        waits_for=kind,
        place=place,
        until=until,
        limits=limits,
        busy=busy,
        refused=refused,
    )


# -- limits -------------------------------------------------------------------------------------


def _wanting(cluster: Cluster, build: Build, sees: Sees) -> Iterator[m.Wanting]:
    """Yield the limits that have no room for a build."""
    queue = cluster.queue
    for demand in wish_of(build).demands:
        besides = queue.kept_from(build, demand.pool)
        if queue.pools.room(demand, besides):
            continue
        view = _view(cluster, demand.pool, queue.pools.capacity(demand), sees)
        place = _place(_in_line(cluster, demand.pool, sees), build.id)
        yield m.Wanting(limit=view, take=demand.take, place=place)


def _wanting_text(wanting: m.Wanting, ref: str) -> str:
    limit, take = wanting.limit, wanting.take
    name = _limit_name(limit)
    if limit.capacity == 0:
        missing = limit.kind == LIMIT
        return f"waits for {name}: there is none" + (", see settings.toml" if missing else "")
    if take > limit.capacity:
        return f"waits for {name}: it takes {take}, and there are only {limit.capacity}"
    wish = "all" if take == ALL else str(take)
    more = f" and takes {wish}" if wish != "1" else ""
    holders = [f"{it.build} on {it.agent}" for it in limit.holders]
    by = f" by {_some(holders)}" if holders else ""
    place = f", place {wanting.place} in its line" if wanting.place else ""
    is_kept = limit.kept_for not in ("", ref) and limit.used < limit.capacity
    kept = f", the rest is kept for {limit.kept_for}" if is_kept else ""
    return f"waits for {name}{more}: {limit.used} of {limit.capacity} taken{by}{kept}{place}"


def _limit_name(limit: m.LimitView) -> str:
    if limit.kind == LIMIT:
        return f"the limit {limit.name}"
    key = f" for {limit.key!r}" if limit.key else ""
    return f"the concurrency of {limit.name}{key}"


def _view(cluster: Cluster, pool: Pool, capacity: int, sees: Sees = everything) -> m.LimitView:
    use = cluster.queue.pools.use(pool)
    builds = cluster.picture.builds
    known = (builds[id_] for id_ in use.holders)
    holders = sorted((it for it in known if sees(it.job)), key=lambda build: build.fence)
    shown = tuple(
        m.Holder(
            build=build.ref,
            agent=build.agent or "",
            take=use.holders[build.id],
            fence=build.fence,
            since=build.started_at,
        )
        for build in holders[:MAX_HOLDERS]
    )
    line = list(_in_line(cluster, pool, sees))
    kept = cluster.queue.kept(pool)
    kept_for = builds.get(kept.build) if kept is not None else None
    return m.LimitView(
        kind="limit" if pool.kind == LIMIT else "concurrency",
        name=pool.name,
        key=pool.key,
        capacity=capacity,
        used=capacity if use.all else use.used,
        holders=shown,
        waiting=len(line),
        line=tuple(builds[item[2]].ref for item in line[:MAX_LINE]),
        kept_for=_named(kept_for, sees) if kept_for is not None else "",
        kept=kept.take if kept is not None else 0,
    )


def _named(build: Build, sees: Sees) -> str:
    return build.ref if sees(build.job) else "another build"


def _in_line(cluster: Cluster, pool: Pool, sees: Sees = everything) -> Iterator[QueueItem]:
    return _seen(cluster, _in_order(cluster, cluster.queue.at_pool(pool)), sees)


def _seen(cluster: Cluster, items: Iterator[QueueItem], sees: Sees) -> Iterator[QueueItem]:
    """Return those of the builds that are seen: places are counted among these."""
    if sees is everything:
        return items
    builds = cluster.picture.builds
    return (item for item in items if sees(builds[item[2]].job))


def _in_order(cluster: Cluster, items: Iterable[QueueItem]) -> Iterator[QueueItem]:
    """Yield any queued builds in the order in which they would begin if they could."""
    builds = cluster.picture.builds
    queues: dict[str, list[QueueItem]] = {}
    for item in items:
        queues.setdefault(project_of(builds[item[2]].job), []).append(item)
    for queue in queues.values():
        queue.sort()
    return cluster.in_turn(queues, cluster.had(cluster.picture.shares.had))


def _place(items: Iterable[QueueItem], build_id: str) -> int | None:
    return next((place for place, item in enumerate(items, 1) if item[2] == build_id), None)


def _rate_text(cluster: Cluster, build: Build, opens: datetime, now: datetime) -> str:
    rate = build.spec.rate
    assert rate is not None
    text = f"{rate.count}/{format_duration(rate.per_s)}"
    wait = format_duration(max(0.0, (opens - now).total_seconds()))
    return f"waits for the rate of {build.job}, {text}: the next one may begin in {wait}"


# -- agents -------------------------------------------------------------------------------------


def _for_an_agent(cluster: Cluster, build: Build, troubles: Mapping[str, str], sees: Sees) -> m.Why:
    agents = list(cluster.picture.agents.values())
    wanted = read_labels(build.spec.labels)
    refused = tuple(
        m.Refusal(agent=agent.name, because=because)
        for agent in agents
        if (because := _refusal(wanted, agent)) is not None
    )
    out = {it.agent for it in refused}
    fitting = [agent for agent in agents if agent.name not in out]
    if not fitting:
        return _why(build, _nobody(build, agents), "agent", refused=refused)
    full = tuple(
        m.Refusal(agent=agent.name, because=because)
        for agent in fitting
        if (because := _throttled(cluster, build, agent.name)) is not None
    )
    place = _place_in_queue(cluster, build, sees)
    if len(full) == len(fitting):
        text = f"waits for a throttle: {_some([f'{it.agent}: {it.because}' for it in full])}"
        return _why(build, text, "throttle", place=place, refused=(*refused, *full))
    out |= {it.agent for it in full}
    busy = tuple(
        m.Busy(agent=it.name, running=cluster.used_slots(it.name), slots=it.slots)
        for it in fitting
        if it.name not in out
    )
    named = [f"{it.agent} runs {it.running} of {it.slots}" for it in busy]
    trouble = "".join(f"; {text}" for text in troubles.values())
    text = f"waits for a free slot, place {place} in the queue: {_some(named)}{trouble}"
    return _why(build, text, "slot", place=place, busy=busy, refused=(*refused, *full))


def _nobody(build: Build, agents: list[Agent]) -> str:
    if not any(agent.is_up for agent in agents):
        return "waits for an agent: none is up"
    able = [agent for agent in agents if satisfies(build.spec.labels, agent.labels)]
    if not able:
        return f"no agent satisfies {build.spec.labels!r}"
    return "no agent takes it now: " + _some(
        [f"{agent.name} {_refusal(None, agent)}".replace(" it is", " is") for agent in able]
    )


def _refusal(wanted: Expr | None, agent: Agent) -> str | None:
    """Return why an agent would not take the build, the build's own wish first."""
    because = first_refusal(wanted, agent.labels)
    if because is None and not agent.is_up:
        return f"it is {agent.state}"
    if because is None and agent.draining:
        return "it is drained"
    return because


def _throttled(cluster: Cluster, build: Build, agent: str) -> str | None:
    """Return which throttle lets no more builds like this run on an agent, if one does."""
    throttles = cluster.throttles
    for number in throttles.which(build.spec.labels):
        throttle = throttles.throttles[number]
        of = f"builds with {throttle.labels!r}" if throttle.labels else "builds"
        if throttle.total is not None and throttles.totals[number] >= throttle.total:
            return f"{throttles.totals[number]} of {throttle.total} {of} run in all"
        running = throttles.running[number][agent]
        if throttle.per_agent is not None and running >= throttle.per_agent:
            return f"{running} of {throttle.per_agent} {of} run there"
    return None


def _place_in_queue(cluster: Cluster, build: Build, sees: Sees) -> int | None:
    """Return a build's place among all that some agent could take instead of it, from 1."""
    labels = build.spec.labels
    shares = cluster.picture.shares.had
    both = dict.fromkeys((*cluster.queue.ready, *shares))
    rivals = [it for it in both if it == labels or cluster.compete(labels, it)]
    ready = _ready(cluster, rivals, cluster.queue.behind(build), build.job)
    return _place(_seen(cluster, ready, sees), build.id)


def _ready(
    cluster: Cluster, expressions: Collection[str], more: list[QueueItem], job: str
) -> Iterator[QueueItem]:
    """Yield all builds with these labels that may begin, in their order, and ``more`` of a job's."""
    lists: dict[str, list[list[QueueItem]]] = {project_of(job): [more]} if more else {}
    for labels in expressions:
        for project, items in cluster.queue.ready.get(labels, {}).items():
            lists.setdefault(project, []).append(items)
    queues = {
        project: several[0] if len(several) == 1 else list(heapq.merge(*several))
        for project, several in lists.items()
    }
    return cluster.in_turn(queues, cluster.had(expressions))


# -- all of it ----------------------------------------------------------------------------------


async def queue(service: Service, request: m.QueueRequest, who: Principal) -> m.QueueView:
    """Show the queue: who may begin, in order; then who waits for a limit; then for a time."""
    cluster, now = service.world.cluster, service.clock.now()
    if who.sees_all:
        number = cluster.queue.number()
        return m.QueueView(queued=number, builds=first_queued(cluster, now, request.limit))
    seen = (
        build.state is State.QUEUED and who.sees(build.job)
        for build in cluster.picture.builds.values()
    )
    shown = first_queued(cluster, now, request.limit, sees=who.sees)
    return m.QueueView(queued=sum(seen), builds=shown)


def first_queued(
    cluster: Cluster,
    now: datetime,
    limit: int,
    wanted: Callable[[str], object] = bool,
    sees: Sees = everything,
) -> tuple[m.Queued, ...]:
    """Return the first builds of the queue, of the jobs that ``wanted`` says yes to.

    Places are counted among the builds that are seen.

    Cost: looks at all that stand before the last one returned.
    """
    cluster.look(now)
    builds = cluster.picture.builds
    shown: list[m.Queued] = []
    everybody = _seen(cluster, _everybody(cluster), sees) if limit else ()
    for place, item in enumerate(everybody, 1):
        build = builds[item[2]]
        if not wanted(build.job):
            continue
        shown.append(
            m.Queued(
                place=place,
                build=build.ref,
                id=build.id,
                project=project_of(build.job),
                priority=build.spec.priority,
                labels=build.spec.labels,
                requested_at=build.requested_at,
                text=_in_short(cluster, build, now),
            )
        )
        if len(shown) == limit:
            break
    return tuple(shown)


def _everybody(cluster: Cluster) -> Iterator[QueueItem]:
    queue, builds = cluster.queue, cluster.picture.builds
    both = dict.fromkeys((*queue.ready, *cluster.picture.shares.had))
    yield from _ready(cluster, both, [], "")
    behind = (it for line in queue.lines.values() for it in line.items[line.offered :])
    yield from _in_order(cluster, behind)
    for build_id in sorted(queue.delayed, key=queue.delayed.__getitem__):
        yield queue.item(builds[build_id])


def _in_short(cluster: Cluster, build: Build, now: datetime) -> str:
    """Return in few words what a build waits for, without looking at what is before it."""
    if build.not_before is not None and build.not_before > now:
        return f"attempt {build.attempt + 1} in {_until(build.not_before, now)}"
    queue = cluster.queue
    full = [it for it in wish_of(build).demands if not _has_room(cluster, build, it)]
    if full:
        return "limit: " + ", ".join(_pool_name(it.pool) for it in full)
    opens = queue.opens_at(build)
    if opens is not None and not queue.rate_room(build, now):
        return f"rate: in {_until(opens, now)}"
    fitting = cluster.fitting(build.spec.labels)
    if not fitting:
        return "no agent"
    if all(_throttled(cluster, build, agent) for agent in fitting):
        return "throttle"
    return "slot"


def _has_room(cluster: Cluster, build: Build, demand: Demand) -> bool:
    besides = cluster.queue.kept_from(build, demand.pool)
    return cluster.queue.pools.room(demand, besides) > 0


def _pool_name(pool: Pool) -> str:
    if pool.kind == LIMIT:
        return pool.name
    return f"concurrency {pool.key}".rstrip()


def _until(at: datetime, now: datetime) -> str:
    return format_duration(max(0.0, (at - now).total_seconds()))


async def limits(service: Service, request: m.Nothing, who: Principal) -> list[m.LimitView]:
    """List all limits of the settings, the jobs' own that are in use, and the throttles."""
    cluster = service.world.cluster
    cluster.look(service.clock.now())
    pools = cluster.queue.pools
    named = {Pool(LIMIT, name): capacity for name, capacity in pools.limits.items()}
    used: dict[Pool, int] = {}
    for pool in (*pools.uses, *cluster.queue.pools_waited_at()):
        used.setdefault(pool, named.get(pool, _own_capacity(cluster, pool)))
    both = {**named, **used}
    sees = everything if who.sees_all else who.sees
    shown = [it for it in both if it.kind == LIMIT or sees(it.name)]
    views = [_view(cluster, pool, both[pool], sees) for pool in sorted(shown, key=_by_kind)]
    return [*views, *_throttle_views(cluster)]


def _by_kind(pool: Pool) -> tuple[bool, Pool]:
    return pool.kind != LIMIT, pool


def _own_capacity(cluster: Cluster, pool: Pool) -> int:
    """Return what the newest build at a job's own limit says that there is."""
    if pool.kind == LIMIT:
        return 0
    waiting = [item[2] for item in cluster.queue.at_pool(pool, blocked=False)]
    ids = [*cluster.queue.pools.use(pool).holders, *waiting]
    newest = max((cluster.picture.builds[it] for it in ids), key=lambda it: it.requested_seq)
    return newest.spec.concurrency


def _throttle_views(cluster: Cluster) -> Iterator[m.LimitView]:
    throttles = cluster.throttles
    for number, throttle in enumerate(throttles.throttles):
        if throttle.total is not None:
            yield m.LimitView(
                kind="throttle",
                name=throttle.labels,
                capacity=throttle.total,
                used=throttles.totals[number],
            )
        if throttle.per_agent is not None:
            fitting = set(cluster.fitting(throttle.labels)) | throttles.running[number].keys()
            for agent in sorted(fitting):
                yield m.LimitView(
                    kind="throttle",
                    name=throttle.labels,
                    agent=agent,
                    capacity=throttle.per_agent,
                    used=throttles.running[number][agent],
                )


def _some(names: Iterable[str]) -> str:
    """Return the first few of several, and how many more there are."""
    names = list(names)
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
