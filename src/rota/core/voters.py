"""Which agents run the engine's servers, and the one step that leads there from here.

The leader asks :func:`next_step` again and again, and does what it says. Nothing is remembered
between two steps: a leader that dies in the middle leaves a picture from which the next one goes on.

Voters are odd in number, because an even one tolerates no more failures than the odd one below it.
Their number follows the number of members, not of those who are up: a machine that is down for an
hour costs tolerance, not copies. Only who leaves makes the ensemble smaller.

A step is taken only if it leaves a quorum of healthy servers and a whole copy of everything: what
would not is put off, until those that are down are back, or are given up and replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from rota.core.agents import Agent
from rota.core.voter import Voter

#: Why an appointed voter is dismissed that has no server to show.
NEVER_CAME = "its server did not come"


class Seat(msgspec.Struct, frozen=True):
    """One server of the engine, as the group's own leader knows it."""

    server: str
    is_leader: bool = False
    is_current: bool = True  # has all that was decided
    is_offline: bool = False


class Ranks(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a step is chosen.

    ``silent`` has the seconds since each agent was heard of; ``copies`` how many there are of what
    is kept, ``is_whole`` whether all of them are complete; ``damaged`` are servers to be replaced;
    ``absent`` has the seconds since a voter's server was first seen without a seat, or with one
    that is offline or behind; ``failed`` are agents that were appointed lately and did not come.
    """

    voters: Mapping[str, Voter]
    agents: Mapping[str, Agent]
    silent: Mapping[str, float]
    seats: Sequence[Seat]
    copies: int
    is_whole: bool
    damaged: Collection[str] = ()
    absent: Mapping[str, float] = {}
    failed: Collection[str] = ()
    limit: int = 3
    lost_after_s: float = 8.0
    replace_after_s: float = 60.0


class Appoint(msgspec.Struct, frozen=True):
    """Let ``agent`` run a server."""

    agent: str


class Dismiss(msgspec.Struct, frozen=True):
    """Take ``agent`` from the voters: its server is out of the group, or never was in it."""

    agent: str
    server: str
    why: str


class Remove(msgspec.Struct, frozen=True):
    """Take a server out of the group."""

    server: str


class Evacuate(msgspec.Struct, frozen=True):
    """Let a living server hand over what it keeps, then take it out of the group."""

    server: str


class Replicate(msgspec.Struct, frozen=True):
    """Keep so many copies of everything."""

    copies: int


class Wait(msgspec.Struct, frozen=True):
    """Something is under way: look again soon."""

    on: str


Step = Appoint | Dismiss | Remove | Evacuate | Replicate | Wait


def tolerated(seats: Sequence[Seat], copies: int, *, is_whole: bool) -> int:
    """Return how many more servers could fail and all would go on; -1 without a quorum.

    Both count: the servers that are up, and the copies of what is kept, which come after them.
    """
    healthy = sum(seat.is_current and not seat.is_offline for seat in seats)
    by_seats = max(healthy - (len(seats) // 2 + 1), -1)
    by_copies = copies - (copies // 2 + 1)
    return min(by_seats, by_copies if is_whole else max(by_copies - 1, 0))


def next_step(ranks: Ranks) -> Step | None:
    """Return what to do next; ``None`` if all is as it should be, or cannot be better now."""
    if not ranks.voters:
        return Wait("the first server to be known")
    return (
        _strays(ranks)
        or _newcomer(ranks)
        or _burial(ranks)
        or _growth(ranks)
        or _farewell(ranks)
        or _copies(ranks)
    )


def wanted(ranks: Ranks) -> int:
    """Return how many voters there should be."""
    members = sum(not it.leaving and not it.ephemeral for it in ranks.agents.values())
    return _odd(min(ranks.limit, max(members, 1)))


def _odd(number: int) -> int:
    return number if number % 2 else number - 1


def _strays(ranks: Ranks) -> Step | None:
    """A seat that belongs to nobody any more."""
    known = {voter.server for voter in ranks.voters.values()}
    for seat in ranks.seats:
        if seat.server not in known and _is_spare(ranks, seat):
            return Remove(seat.server) if seat.is_offline else Evacuate(seat.server)
    return None


def _newcomer(ranks: Ranks) -> Step | None:
    """One who was appointed and is not there yet: one at a time."""
    seats = {seat.server: seat for seat in ranks.seats}
    for voter in ranks.voters.values():
        seat = seats.get(voter.server)
        if seat is None and len(ranks.voters) > 1:
            if _is_leaving(ranks, voter.agent):
                return Dismiss(voter.agent, voter.server, "it leaves")
            if _missed_s(ranks, voter) > ranks.replace_after_s:
                return Dismiss(voter.agent, voter.server, NEVER_CAME)
        if seat is None:
            return Wait(f"{voter.agent} to start its server")
        is_behind = not seat.is_current and not seat.is_offline
        # Who is no member any more is cut off, and catches up with nothing.
        if (
            is_behind
            and voter.agent in ranks.agents
            and _missed_s(ranks, voter) <= ranks.replace_after_s
        ):
            return Wait(f"{voter.agent} to catch up")
    return None


def _burial(ranks: Ranks) -> Step | None:
    """The dead make way: who was to go anyway, and who can be replaced.

    Or who stands in the way of one that leaves: with a seat that nobody fills, the others are too
    few to let go of one more.
    """
    going = _going(ranks)
    candidates = _candidates(ranks)
    is_blocked = any(_is_healthy(ranks, voter) for voter in going) and not _can_spare_one(ranks)
    for voter in ranks.voters.values():
        missed_s = _missed_s(ranks, voter)
        is_late = missed_s > ranks.lost_after_s or voter.agent not in ranks.agents
        is_dead = missed_s > ranks.replace_after_s
        is_over = voter in going and is_late
        if _is_healthy(ranks, voter) or not (is_over or (is_dead and (candidates or is_blocked))):
            continue
        if _is_kept_elsewhere(ranks):
            return Remove(voter.server)
    return None


def _growth(ranks: Ranks) -> Step | None:
    """One more, while all the others are well; so that no two are new at the same time."""
    candidates = _candidates(ranks)
    if not candidates or _staying(ranks) >= _reach(ranks):
        return None
    if not all(_is_well(seat) for seat in ranks.seats):
        return Wait("all servers to be current") if _going(ranks) else None
    number = len(ranks.seats)
    if number % 2 and ranks.copies != number:
        return Replicate(number)
    if number % 2 and not ranks.is_whole:
        return Wait("all copies to be whole")
    return Appoint(candidates[0])


def _farewell(ranks: Ranks) -> Step | None:
    """One who leaves hands over, and goes; the group gets smaller only by this."""
    going = [voter for voter in _going(ranks) if _is_healthy(ranks, voter)]
    if not going or not _staying(ranks):
        return None  # the last one cannot leave the others without an engine
    if not _can_spare_one(ranks):
        return Wait(f"a quorum without {going[0].agent}")
    first = going[0]
    if first.server in ranks.damaged and ranks.copies >= len(ranks.seats):
        return Remove(first.server)  # nobody is free to take over what it keeps, and it is wrong
    room = min(wanted(ranks), _staying(ranks) + _returning(ranks))
    if ranks.copies > room:
        return Replicate(room)
    if not ranks.is_whole and all(_is_well(seat) for seat in ranks.seats):
        return Wait("all copies to be whole")
    return Evacuate(first.server)


def _copies(ranks: Ranks) -> Step | None:
    number = len(ranks.seats)
    if ranks.copies > number:
        return Replicate(number)
    if ranks.copies < _odd(number) and all(_is_well(seat) for seat in ranks.seats):
        return Replicate(_odd(number))
    return None


def _going(ranks: Ranks) -> list[Voter]:
    """Return the voters that are to go: those that are damaged, that leave, or are too many."""
    voters = ranks.voters.values()
    damaged = [voter for voter in voters if voter.server in ranks.damaged]
    leaving = [v for v in voters if v not in damaged and _is_leaving(ranks, v.agent)]
    staying = [voter for voter in voters if voter not in damaged and voter not in leaving]
    # The sick go first, then the silent, then whoever came last.
    staying.sort(
        key=lambda voter: (
            _is_healthy(ranks, voter),
            _silence(ranks, voter.agent) <= ranks.lost_after_s,
            -_since(ranks, voter.agent),
            voter.agent,
        )
    )
    return [*damaged, *leaving, *staying[: max(len(staying) - wanted(ranks), 0)]]


def _staying(ranks: Ranks) -> int:
    return len(ranks.voters) - len(_going(ranks))


def _returning(ranks: Ranks) -> int:
    """Return how many damaged ones can be appointed again, with a server that begins anew."""
    return sum(
        voter.server in ranks.damaged and _is_fit(ranks, voter.agent)
        for voter in ranks.voters.values()
    )


def _reach(ranks: Ranks) -> int:
    """Return how many voters there can be now, in the end: as many as wanted, and odd."""
    able = _staying(ranks) + len(_candidates(ranks)) + _returning(ranks)
    return min(wanted(ranks), _odd(able))


def _is_leaving(ranks: Ranks, agent: str) -> bool:
    known = ranks.agents.get(agent)
    return known is None or known.leaving


def _is_well(seat: Seat) -> bool:
    return seat.is_current and not seat.is_offline


def _is_healthy(ranks: Ranks, voter: Voter) -> bool:
    """Whether a voter's server is there and has everything.

    That of an agent that is no member any more is cut off from the others, or will be in a moment,
    whatever its seat looks like: who let it hand over something would wait for ever.
    """
    return voter.agent in ranks.agents and any(
        seat.server == voter.server and _is_well(seat) for seat in ranks.seats
    )


def _can_spare_one(ranks: Ranks) -> bool:
    """Whether a quorum is left when one of the healthy is taken out of the group."""
    healthy = sum(map(_is_well, ranks.seats))
    return healthy - 1 >= (len(ranks.seats) - 1) // 2 + 1


def _is_spare(ranks: Ranks, seat: Seat) -> bool:
    return _can_spare_one(ranks) if _is_well(seat) else _is_kept_elsewhere(ranks)


def _is_kept_elsewhere(ranks: Ranks) -> bool:
    """Whether the healthy have all that is kept, and what is not healthy can go without loss."""
    unhealthy = sum(not _is_well(seat) for seat in ranks.seats)
    return ranks.is_whole or ranks.copies > unhealthy


def _missed_s(ranks: Ranks, voter: Voter) -> float:
    return ranks.absent.get(voter.server, 0.0)


def _candidates(ranks: Ranks) -> list[str]:
    """Return agents that could be voters, the best first: on other machines, up for longest."""
    taken = {voter.host for voter in ranks.voters.values()}
    fit = [
        agent
        for agent in ranks.agents.values()
        if agent.name not in ranks.voters and _is_fit(ranks, agent.name)
    ]
    fit.sort(
        key=lambda agent: (
            agent.name in ranks.failed,
            agent.host in taken,
            agent.since,
            agent.name,
        )
    )
    return [agent.name for agent in fit]


def _is_fit(ranks: Ranks, agent: str) -> bool:
    known = ranks.agents.get(agent)
    return (
        known is not None
        and known.is_up
        and bool(known.peer)
        and not known.draining
        and not known.leaving
        and not known.ephemeral
        and _silence(ranks, agent) <= ranks.lost_after_s
    )


def _silence(ranks: Ranks, agent: str) -> float:
    return ranks.silent.get(agent, 0.0)


def _since(ranks: Ranks, agent: str) -> float:
    known = ranks.agents.get(agent)
    return known.since.timestamp() if known is not None else 0.0
