"""What the agent that is asked looks at for all: members, voters, clocks, versions, what is stuck."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import timedelta

from rota.core.levels import LEVEL, just_gone
from rota.core.rights import Role
from rota.core.states import State
from rota.errors import UnavailableError
from rota.service.chat import chat_troubles
from rota.service.clouds import clouds
from rota.service.context import Principal
from rota.service.doctor.check import Check, Look, finding
from rota.service.explain import explain
from rota.service.messages import Finding, Nothing
from rota.service.quorum import tolerates
from rota.service.schedules import late_schedules

#: Clocks are compared with certificates, schedules and each other: so much is no matter.
MAX_AWAY_S = 2.0
ASK_S = 5.0
#: So many queued builds are asked why they wait; those behind them wait for the same, mostly.
LOOKED_AT = 200
#: A token that is in use is told of so long before its end, or in the last part of its life.
TOKEN_NOTICE, TOKEN_PART = timedelta(days=14), 6
#: One that nobody showed for so long is missed by nobody.
TOKEN_IDLE = timedelta(days=30)
NAMED = 5


async def _members(look: Look) -> AsyncIterator[Finding]:
    """Look at who is lost, who does not answer, and whether anybody leads."""
    service = look.service
    picture = service.world.cluster.picture
    for name, agent in sorted(picture.agents.items()):
        if agent.state == "lost":
            yield finding(
                "members",
                name,
                f"nobody has heard of it since {agent.since:%Y-%m-%d %H:%M} UTC",
                f"start it; one that is gone for good: rota agents --forget {name}",
            )
    for name, why in sorted(look.unreached.items()):
        yield finding(
            "members",
            name,
            f"it did not answer: {why}",
            "ask it itself: rota doctor --at URL, or `rota doctor` on its machine",
        )
    for name in look.older:
        yield finding(
            "members",
            name,
            "its rota is an older one without `doctor`: nothing was asked of it",
            "install the new one there: docs/upgrade.md; until then look after its machine yourself",
            is_warning=True,
        )
    if not picture.leader:
        yield finding(
            "members", "", "no agent leads", "one stands within seconds where there is a quorum"
        )


async def _quorum(look: Look) -> AsyncIterator[Finding]:
    """Look at the voters: is there a quorum, has each its seat, are all copies whole."""
    service = look.service
    world, ensemble = service.world, service.ensemble
    if world.stale_since is not None:
        yield finding(
            "quorum",
            "",
            f"no quorum of the voters was heard of since {world.stale_since:%H:%M:%S} UTC",
            "start those that are down; if most are gone for ever: rota recover",
        )
    if ensemble is None:
        return
    picture = world.cluster.picture
    tolerated = await tolerates(service)
    up = [it for it in picture.agents.values() if it.is_up and not it.ephemeral]
    if tolerated == 0 and len(up) >= 3:
        yield finding(
            "quorum",
            "",
            "no failure of a voter is tolerated now",
            "it heals by itself within a minute or two if the voters are up; `rota agents` shows them",
        )
    try:
        async with asyncio.timeout(ASK_S):
            seats, (copies, is_whole) = await ensemble.seats(), await ensemble.copies()
            damaged = await ensemble.damaged()
    except (UnavailableError, TimeoutError):
        if tolerated == -1 and world.stale_since is None:
            yield finding(
                "quorum", "", "the engine's servers have no leader", "they elect one within 10 s"
            )
        return
    agent_of = {voter.server: voter.agent for voter in picture.voters.values()}
    for seat in seats:
        name = agent_of.get(seat.server, "")
        if seat.is_offline or not seat.is_current:
            yield finding(
                "quorum",
                name,
                f"its engine's server is {'offline' if seat.is_offline else 'behind the others'}",
                "start its agent; it is replaced by another after `agents.replace_after`"
                if name in picture.agents
                else "it is no member any more: the leader takes its seat away within a minute",
            )
        if picture.voters and not name:
            yield finding(
                "quorum",
                "",
                f"a server has a seat and is no voter's: {seat.server}",
                "it is removed within a minute by the leader",
            )
    for server in damaged:
        yield finding(
            "quorum",
            agent_of.get(server, server),
            "its disk has lost a part of what it keeps",
            "the leader replaces its server; look at the disk: smartctl -a",
        )
    if not is_whole:
        yield finding(
            "quorum",
            "",
            f"of {copies} copies of the journal, logs and artifacts not all are whole",
            "they catch up by themselves; if it lasts: are disks slow or full?",
            is_warning=True,
        )


async def _clocks(look: Look) -> AsyncIterator[Finding]:
    """Look at the agents' clocks: how far each is from the others."""
    away = {it.name: it.away_s for it in look.examined}
    if len(away) < 2:
        return
    middle = sorted(away.values())[len(away) // 2]
    for it in look.examined:
        far = it.away_s - middle
        if abs(far) > MAX_AWAY_S + it.unsure_s:
            yield finding(
                "clocks",
                it.name,
                f"its clock is {abs(far):.1f} s {'ahead of' if far > 0 else 'behind'} the others'",
                "keep it by NTP: timedatectl set-ntp true; schedules and certificates go by it",
            )


async def _versions(look: Look) -> AsyncIterator[Finding]:
    """Look at versions: is the cluster at the newest level, and whose rota keeps it from that."""
    world = look.service.world
    picture = world.cluster.picture
    versions = Counter(it.version for it in picture.agents.values() if it.version)
    if picture.level < LEVEL:
        old = sorted(it.name for it in picture.agents.values() if world.level_of(it) < LEVEL)
        away = just_gone(picture.agents.values(), look.now)
        yield finding(
            "versions",
            "",
            f"the cluster is at level {picture.level} of {LEVEL}: "
            + (
                f"{', '.join(old)} run{'s' if len(old) == 1 else ''} an older rota"
                if old
                else f"it waits for {', '.join(away) or 'the leader'}"
            ),
            "install the new one there and restart its agent; builds go on meanwhile"
            if old
            else "it is raised once those are up again, or were away for ten minutes",
            is_warning=True,
        )
    elif len(versions) > 1:
        said = ", ".join(f"{version} on {number}" for version, number in versions.most_common())
        yield finding(
            "versions",
            "",
            f"agents run different versions: {said}",
            "that works for two neighbours; go on with the upgrade",
            is_warning=True,
        )


async def _stores(look: Look) -> AsyncIterator[Finding]:
    """Look whether all agents have the same definitions and, up to the same event, history."""
    wanted = look.service.world.cluster.picture.refs.get("main", "")
    for it in look.examined:
        if wanted and it.main and it.main != wanted:
            yield finding(
                "stores",
                it.name,
                f"its definitions are at {it.main[:12]}, the cluster's are at {wanted[:12]}",
                "it follows within seconds; if it lasts, its agent.log says why",
            )
    by_covered = defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
    for it in look.examined:
        if it.history:
            by_covered[it.covered][it.history].append(it.name)
    for covered, found in by_covered.items():
        if len(found) > 1:
            groups = "; ".join(
                f"{', '.join(sorted(names))}: {commit[:12]}" for commit, names in found.items()
            )
            yield finding(
                "stores",
                "",
                f"the history up to event {covered} is not the same everywhere ({groups})",
                "stop the agents in the minority, remove their store.git, start them: they fetch it",
            )


async def _stuck(look: Look) -> AsyncIterator[Finding]:
    """Look at what waits for nothing that will come: builds, schedules, notices, clouds, chats."""
    service = look.service
    world = service.world
    nobody: dict[str, list[str]] = defaultdict(list)
    queued = (it for it in world.cluster.picture.builds.values() if it.state is State.QUEUED)
    for build in list(itertools.islice(queued, LOOKED_AT)):
        why = explain(world, build, look.now)
        if why.waits_for == "agent":
            nobody[why.text].append(build.ref)
    for text, refs in nobody.items():
        more = f" and {len(refs) - NAMED} more" if len(refs) > NAMED else ""
        yield finding(
            "stuck",
            "",
            f"{', '.join(refs[:NAMED])}{more}: {text}",
            "start an agent that can, or change the job's `labels`; rota cancel BUILD",
        )
    if (late := late_schedules(world, look.now)) is not None:
        yield finding("stuck", "", late, "rota schedule shows them; is there a leader, a quorum?")
    for text in chat_troubles(world):
        yield finding("stuck", "", text, "rota chat shows the networks")
    for target, queue in sorted(world.cluster.picture.outbox.queues.items()):
        trouble = world.troubles.get(f"notices {target}", "")
        if trouble and queue.notices:
            yield finding(
                "stuck",
                "",
                f"{len(queue.notices)} notices wait for {target}: {trouble}",
                f"rota notices; try it: rota notify --try {target}",
            )
    me = Principal(name=service.me.name, role=Role.ADMIN)
    for cloud in await clouds(service, Nothing(), me):
        if cloud.state == "failing":
            yield finding(
                "stuck",
                "",
                f"cloud {cloud.name} launches nothing: {cloud.error}",
                "rota clouds; its keys, quota, image and region stand in [cloud] of the settings",
            )


async def _keys(look: Look) -> AsyncIterator[Finding]:
    """Look at changes of keys that do not come to their end."""
    for name, agent in sorted(look.service.world.cluster.picture.agents.items()):
        if agent.coming:
            yield finding(
                "keys",
                name,
                "its new key is announced and not used yet",
                "all members have to say that they know it: start those that are down, or have them"
                " forgotten",
                is_warning=True,
            )


async def _tokens(look: Look) -> AsyncIterator[Finding]:
    """Look at users' tokens that are in use and end soon, or ended lately: programs show those."""
    for it in look.service.world.cluster.picture.tokens.by_digest.values():
        if it.until is None or it.used_at is None or it.login or it.revoked_at is not None:
            continue
        notice = min(TOKEN_NOTICE, (it.until - it.made_at) / TOKEN_PART)
        if it.until - look.now > notice or it.until - it.used_at > TOKEN_IDLE:
            continue
        ends = "ends" if it.until > look.now else "ended"
        note = f" ({it.note})" if it.note else ""
        yield finding(
            "tokens",
            "",
            f"{it.user}'s token {it.id}{note} {ends} at {it.until:%Y-%m-%d %H:%M} UTC and is used:"
            f" last about {it.used_at:%Y-%m-%d %H:%M}",
            f"rota token create --for {it.user} makes another for whatever shows it; then:"
            f" rota token revoke {it.id}",
            is_warning=True,
        )


CHECKS = (
    Check("members", "who is lost, who does not answer, whether anybody leads", _members),
    Check("quorum", "whether there is one, each voter's server, whether copies are whole", _quorum),
    Check("clocks", "how far each agent's is from the others'", _clocks),
    Check("versions", "which rota runs where, and the cluster's level", _versions),
    Check("stores", "whether definitions and history are the same everywhere", _stores),
    Check("keys", "changes of keys that do not come to their end", _keys),
    Check("tokens", "users' tokens that are in use and end soon", _tokens),
    Check("stuck", "builds nobody can take, late schedules, notices, clouds, chats", _stuck),
)
