"""Why a build is where it is, in words."""

from __future__ import annotations

from datetime import datetime

from rota.core.agents import Agent
from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.fold import Cluster
from rota.core.job import Reason
from rota.core.labels import Expr, first_refusal, read_labels, satisfies
from rota.core.states import State
from rota.service.awaited import awaited_by, held_text
from rota.service.messages import Refusal, Why
from rota.service.world import World


def explain(world: World, build: Build, now: datetime) -> Why:
    """Return what ``build`` waits for, or how it ended."""
    if build.state is State.QUEUED:
        return _queued(world.cluster, build, now, world.troubles)
    if build.state is State.HELD:
        awaited = awaited_by(world, build)
        text = held_text(world, build, awaited)
        return Why(build=build.ref, state=build.state, text=text, awaited=awaited)
    return Why(build=build.ref, state=build.state, text=_text(build, now))


def _text(build: Build, now: datetime) -> str:
    if build.state is State.FINISHED:
        return how_it_ended(build)
    since = format_duration((now - (build.started_at or now)).total_seconds())
    text = f"runs on {build.agent} since {since}"
    if build.is_waiting:
        text += ", and waits for builds that it asked for: its slot is free for them"
    if build.cancelled_by is not None:
        text += f"; {build.cancelled_by} cancelled it, and it is being ended"
    return text


def how_it_ended(build: Build) -> str:
    """Return one sentence on a finished build."""
    text = "finished"
    match build.reason:
        case Reason.SCRIPT:
            text = f"{build.result}: the script exited with {build.exit_code}"
        case Reason.SIGNAL:
            text = f"failed: signal {build.signal} ended the script, and the agent did not send it"
        case Reason.OOM_KILLED:
            text = "failed: the kernel ended it because memory ran out"
        case Reason.TIMEOUT:
            limit = format_duration(build.spec.timeout_s or 0)
            text = f"timed out: it ran longer than {limit} (`timeout`)"
        case Reason.NO_OUTPUT:
            limit = format_duration(build.spec.idle_timeout_s or 0)
            text = f"timed out: it printed nothing for {limit} (`idle_timeout`)"
        case Reason.CANCELLED:
            text = f"cancelled by {build.cancelled_by or '?'}"
        case Reason.LOST:
            text = f"lost: {build.agent} no longer knows the outcome"
        case Reason.AGENT_ERROR:
            text = f"errored: {build.agent} could not run it"
        case Reason.UNMET:
            text = "did not run"
        case Reason.SUPERSEDED:
            text = f"superseded by {build.superseded_by}"
        case Reason.GROUP:
            text = str(build.result)
        case None:
            pass
    return f"{text}: {build.message}" if build.message else text


def _queued(cluster: Cluster, build: Build, now: datetime, troubles: dict[str, str]) -> Why:
    agents = list(cluster.picture.agents.values())
    wanted = read_labels(build.spec.labels)
    refused = tuple(
        Refusal(agent=agent.name, because=because)
        for agent in agents
        if (because := _refusal(wanted, agent)) is not None
    )
    labels = build.spec.labels
    ready = cluster.queue.ready.get(labels, {})
    queue = cluster.in_turn(ready, cluster.picture.shares.of(labels))
    place = next((n for n, item in enumerate(queue, 1) if item[2] == build.id), None)
    return Why(
        build=build.ref,
        state=build.state,
        text=_queued_text(cluster, build, now, agents, refused, place, troubles),
        place=place,
        refused=refused,
    )


def _refusal(wanted: Expr | None, agent: Agent) -> str | None:
    """Return why an agent would not take the build, the build's own wish first."""
    because = first_refusal(wanted, agent.labels)
    if because is None and not agent.is_up:
        return f"it is {agent.state}"
    if because is None and agent.draining:
        return "it is drained"
    return because


def _queued_text(
    cluster: Cluster,
    build: Build,
    now: datetime,
    agents: list[Agent],
    refused: tuple[Refusal, ...],
    place: int | None,
    troubles: dict[str, str],
) -> str:
    if build.not_before is not None and build.not_before > now:
        wait = format_duration((build.not_before - now).total_seconds())
        return f"waits {wait} before attempt {build.attempt + 1}"
    if not any(agent.is_up for agent in agents):
        return "waits for an agent: none is up"
    if len(refused) == len(agents):
        able = [agent for agent in agents if satisfies(build.spec.labels, agent.labels)]
        if not able:
            return f"no agent satisfies {build.spec.labels!r}"
        return "no agent takes it now: " + ", ".join(
            f"{agent.name} {_refusal(None, agent)}".replace(" it is", " is") for agent in able
        )
    fitting = [a for a in agents if a.name not in {r.agent for r in refused}]
    busy = [f"{a.name} runs {len(cluster.running.get(a.name, {}))} of {a.slots}" for a in fitting]
    trouble = "".join(f"; {text}" for text in troubles.values())
    return f"waits for a free slot, place {place} in its queue: {', '.join(busy)}{trouble}"
