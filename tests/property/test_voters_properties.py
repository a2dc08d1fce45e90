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
            "lose the act",
            "limit",
        ]
    ),
    st.integers(0, 7),
    st.sampled_from([0, 1, 1, 3, 10, 30]),
)


def happen(group: Group, what: str, pick: int) -> None:
    """Let something happen, if it can."""
    alive = [name for name in group.agents if group.alive[name]]
    down = [name for name in group.agents if not group.alive[name]]
    servers = sorted(group.servers)
    match what:
        case "join" if len(group.agents) < 8 and group.has_quorum:
            group.join()
        case "die" if alive:
            group.die(alive[pick % len(alive)])
        case "come back" if down:
            group.come_back(down[pick % len(down)])
        case "leave" if len(alive) > 1 and group.has_quorum:
            group.leave(alive[pick % len(alive)])
        case "forget" if down and group.has_quorum:
            group.forget(down[pick % len(down)])
        case "break" if servers:
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
        case "lose the act":
            group.half = "event"
        case "limit":
            group.limit = (1, 3, 5)[pick % 3]


def mend(group: Group) -> None:
    """Let servers run again that failed beside a living agent."""
    group.broken.clear()
    for server in group.servers.values():
        voter = group.voters.get(server.owner)
        if voter is not None and voter.server == server.name:
            server.is_up = group.alive[server.owner]


@settings(max_examples=1500)
@given(st.booleans(), st.lists(EVENTS, max_size=30))
def test_whatever_happens_the_voters_become_what_they_should_be(
    counts_peers: bool, events: list[tuple[str, int, int]]
) -> None:
    group = Group(counts_peers=counts_peers)
    for what, pick, seconds in events:
        happen(group, what, pick)
        for _ in range(seconds):
            group.second()
    group.half = ""
    mend(group)
    for _ in range(LONG_S):
        group.second()
    if not group.has_quorum:
        return  # what is needed to decide anything is down, for ever
    for _ in range(10):
        group.second()
        assert group.steps[-1] is None
    check_calm(group)


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
    assert group.replicas == number
