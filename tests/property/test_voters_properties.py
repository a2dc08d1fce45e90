"""The choice of voters, through whatever may happen to agents, servers and leaders meanwhile."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.ensemble import REPLACE_S, Group

from rota.core.voters import wanted

#: Enough for every agent there is to be given up and replaced, one after the other.
LONG_S = 12 * int(REPLACE_S)

EVENTS = st.tuples(
    st.sampled_from(
        [
            "join",
            "join",
            "join",
            "die",
            "come back",
            "come back",
            "leave",
            "forget",
            "break",
            "mend",
            "damage",
            "elect",
            "lose the event",
            "lose the rest",
            "limit",
        ]
    ),
    st.integers(0, 7),
    st.sampled_from([0, 1, 1, 3, 10, 30]),
)

HAPPENINGS = st.lists(EVENTS, max_size=30)


def happen(group: Group, what: str, pick: int) -> None:
    """Let something happen, if it can."""
    alive = [name for name in group.agents if group.alive[name]]
    down = [name for name in group.agents if not group.alive[name]]
    servers = sorted(group.servers)
    match what:
        case "join" if len(group.agents) < 8 and group.has_quorum:
            group.join()
        case "die" if alive and (pick == 0 or can_lose(group, alive[pick % len(alive)])):
            group.die(alive[pick % len(alive)])
        case "come back" if down:
            group.come_back(down[pick % len(down)])
        case "leave" if len(alive) > 1 and group.has_quorum:
            group.leave(alive[pick % len(alive)])
        case "forget" if down and group.has_quorum:
            group.forget(down[pick % len(down)])
        case "break" if can_lose(group, group.servers[servers[pick % len(servers)]].owner):
            group.broken.add(servers[pick % len(servers)])
            group.stop(group.servers[servers[pick % len(servers)]])
        case "mend":
            mend(group)
        case "damage" if len(group.holders) > 2 and not group.damaged:
            group.damaged.add(sorted(group.holders)[pick % len(group.holders)])
        case "elect" if group.leader is not None:
            group.elect(pick)
        case "lose the event":
            group.half = "act"
        case "lose the rest":
            group.half = "begin"
        case "limit":
            group.limit = (1, 3, 5)[pick % 3]
        case _:
            pass  # it cannot happen now


def can_lose(group: Group, agent: str) -> bool:
    """Whether what is left without an agent's servers still decides."""
    left = [server for server in group.healthy if server.owner != agent]
    keep = [server for server in left if server.name in group.holders]
    return len(left) > len(group.servers) // 2 and len(keep) > len(group.holders) // 2


def mend(group: Group) -> None:
    """Let servers run again that failed beside a living agent."""
    group.broken.clear()
    for server in group.servers.values():
        voter = group.voters.get(server.owner)
        if voter is not None and voter.server == server.name:
            server.is_up = group.alive[server.owner]


@settings(max_examples=300)
@given(st.booleans(), st.sampled_from([1, 3, 5]), st.integers(0, 6), HAPPENINGS)
def test_whatever_happens_the_voters_become_what_they_should_be(
    counts_peers: bool, limit: int, others: int, events: list[tuple[str, int, int]]
) -> None:
    group = settled(counts_peers, limit, others)
    for what, pick, seconds in events:
        happen(group, what, pick)
        for _ in range(seconds):
            group.second()
    group.half = ""
    mend(group)
    for _ in range(LONG_S):
        group.second()
    if not group.has_quorum:  # nothing can be decided before those are back that are needed
        for agent in [name for name in group.agents if not group.alive[name]]:
            group.come_back(agent)
        for _ in range(LONG_S):
            group.second()
    assert group.has_quorum
    for _ in range(10):
        group.second()
        assert group.steps[-1] is None
    check_calm(group)


def settled(counts_peers: bool, limit: int, others: int) -> Group:
    group = Group(counts_peers=counts_peers)
    group.limit = limit
    for _ in range(others):
        group.join()
    for _ in range(5 * others):
        group.second()
    return group


def check_calm(group: Group) -> None:
    able = [name for name, agent in group.agents.items() if group.alive[name] and not agent.leaving]
    number = wanted(group.ranks())
    servers = {voter.server for voter in group.voters.values()}
    assert servers == set(group.servers)
    assert len(servers) <= max(number, 1) or not able
    if able:
        assert not [name for name in group.voters if name not in able and group.alive.get(name)]
    if len(able) < number:
        return
    assert len(servers) == number
    assert len(group.healthy) == number
    assert not servers & group.damaged
    assert sorted(group.holders) == sorted(servers)
    assert set(group.holders.values()) == {0}
    assert group.counts_peers or group.replicas == number
