"""A cluster's surroundings in virtual time: a clock, a network, an engine, and its journal.

The engine keeps the promises of the ports as NATS does, its ugly sides included: an election after
its leader's host is gone takes seconds, an append that got no answer may be written all the same,
and one that was thought lost may arrive a minute late.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from tests.harness.facts import moment

from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.events import (
    LEADER,
    AgentLost,
    BuildFinished,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    VoterAppointed,
    VoterDismissed,
    key_of,
    kind_of,
)
from rota.core.fold import apply
from rota.core.job import Reason
from rota.core.states import State
from rota.core.voters import Seat
from rota.errors import FencedError, StaleError, UnavailableError

#: What ENGINE's servers compile in: how long an election takes after the death of a group's leader.
ELECTION_S = (4.0, 8.0)
DELAY_S = (0.001, 0.03)
#: What only a leader writes.
DUTIES = (HistorySealed, AgentLost, VoterAppointed, VoterDismissed)


class Clock:
    """Virtual time, and what is to happen in it, in one order for one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        """Let ``what`` happen so much later."""
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._numbers), what))

    def soon(self, what: Callable[[], None]) -> None:
        """Let ``what`` happen after a message's way."""
        self.after(self.random.uniform(*DELAY_S), what)

    def run(self, until_s: float) -> None:
        """Let happen what does up to then."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._heap)
            what()
        self.now_s = until_s

    def wall(self, offset_s: float = 0.0) -> datetime:
        """Return the time of day by a clock that is wrong by so much."""
        return moment(self.now_s + offset_s)


class Network:
    """Which hosts are up, and which of them reach each other."""

    def __init__(self) -> None:
        self.side: dict[str, int] = {}
        self.dead: set[str] = set()

    def links(self, one: str, other: str) -> bool:
        """Whether the hosts reach each other; one that is dead reaches nobody."""
        if one in self.dead or other in self.dead:
            return False
        return one == other or self.side.get(one, 0) == self.side.get(other, 0)


class Server:
    """One of the engine's servers."""

    def __init__(self, name: str, host: str) -> None:
        self.name, self.host = name, host
        self.is_up = True
        self.is_current = False


class Engine:
    """Servers that have seats in one group, and which of them keep copies of the journal."""

    def __init__(self, clock: Clock, network: Network, founder: str) -> None:
        self.clock, self.network = clock, network
        first = Server(f"{founder}-0", founder)
        first.is_current = True
        self.servers = {first.name: first}  # with a seat
        self.copies = 1
        self.keepers = [first.name]
        self.leader = first.name
        self.ready_at = 0.0
        self.removed: set[str] = set()
        self.leaving: set[str] = set()

    # -- who reaches whom -----------------------------------------------------------------------

    def _alive(self, name: str) -> bool:
        server = self.servers.get(name)
        return server is not None and server.is_up and server.host not in self.network.dead

    def _linked(self, names: Iterable[str], host: str) -> list[str]:
        return [
            name
            for name in names
            if self._alive(name) and self.network.links(host, self.servers[name].host)
        ]

    def serves(self, host: str) -> bool:
        """Whether a write from ``host`` would be acknowledged now."""
        return self.clock.now_s >= self.ready_at and self._has_quorum(self.keepers, host)

    def _has_quorum(self, names: Iterable[str], host: str) -> bool:
        names = list(names)
        linked = self._linked(names, host)
        return len(linked) * 2 > len(names) and self.leader in linked

    def governs(self, host: str) -> bool:
        """Whether a change of membership from ``host`` would be agreed upon now."""
        linked = self._linked(self.servers, host)
        return len(linked) * 2 > len(self.servers) and self.clock.now_s >= self.ready_at

    def look(self) -> None:
        """Something about hosts or links has changed: elect, let those behind catch up."""
        if not (self._alive(self.leader) and self._leads_a_quorum(self.leader)):
            fit = [
                n for n in self.keepers if self._leads_a_quorum(n) and self.servers[n].is_current
            ]
            if fit:
                self.leader = self.clock.random.choice(sorted(fit))
                self.ready_at = self.clock.now_s + self.clock.random.uniform(*ELECTION_S)
        for name in self.keepers:
            if name not in self._linked(self.keepers, self._leader_host()):
                # Whoever has every acknowledged write stays so as long as no quorum writes more.
                if self._leads_a_quorum(self.leader):
                    self.servers[name].is_current = False
            elif not self.servers[name].is_current:
                wait_s = self.clock.random.uniform(0.2, 2.0)
                self.clock.after(wait_s, functools.partial(self._caught_up, name))

    def _leader_host(self) -> str:
        server = self.servers.get(self.leader)
        return server.host if server is not None else ""

    def _leads_a_quorum(self, name: str) -> bool:
        if not self._alive(name):
            return False
        linked = self._linked(self.keepers, self.servers[name].host)
        return len(linked) * 2 > len(self.keepers)

    def _caught_up(self, name: str) -> None:
        linked = self._linked(self.keepers, self._leader_host())
        if name in linked and self._leads_a_quorum(self.leader):
            self.servers[name].is_current = True

    # -- the ensemble's port --------------------------------------------------------------------

    def seats(self, host: str) -> list[Seat]:
        """See the port; from ``host``."""
        self._need_to_govern(host)
        linked = self._linked(self.servers, host)
        return [
            Seat(
                server=name,
                is_leader=name == self.leader,
                is_current=name in linked,
                is_offline=name not in linked,
            )
            for name in sorted(self.servers)
        ]

    def is_whole(self) -> bool:
        """Whether all copies that are asked for are there and complete."""
        kept = [
            name for name in self.keepers if self._alive(name) and self.servers[name].is_current
        ]
        return len(kept) == self.copies

    def _need_to_govern(self, host: str) -> None:
        if not self.governs(host):
            raise UnavailableError("the group has no leader")

    def replicate(self, host: str, copies: int) -> None:
        """See the port."""
        self._need_to_govern(host)
        if copies > len(self.servers):
            raise UnavailableError("not so many servers")
        self.copies = copies
        while len(self.keepers) > copies:
            behind = [
                n for n in self.keepers if not self._alive(n) or not self.servers[n].is_current
            ]
            self.keepers.remove((behind or [n for n in self.keepers if n != self.leader])[0])
        self._fill()

    def evacuate(self, host: str, server: str) -> None:
        """See the port."""
        self._need_to_govern(host)
        if server in self.keepers:
            others = [name for name in self.servers if name != server and self._alive(name)]
            assert others, f"{server} has the only copy, and nobody takes it"
            self.leaving.add(server)
            self.clock.after(10.0, functools.partial(self._stays, server))
            self._drop(server)

    def _stays(self, server: str) -> None:
        """Who asked a server to hand over did not take it away: it is one like any other."""
        if server in self.servers:
            self.leaving.discard(server)
            self._fill()

    def keeps(self, server: str) -> bool:
        """See the port."""
        return server in self.keepers

    def remove(self, host: str, server: str) -> None:
        """See the port."""
        self._need_to_govern(host)
        if server not in self.servers:
            return
        whole = [n for n in self.keepers if n != server and self.servers[n].is_current]
        assert whole, f"{server} has the last whole copy, and is removed"
        self.leaving.add(server)
        if server in self.keepers:
            self._drop(server)
        del self.servers[server]
        self.removed.add(server)
        self.look()

    def _drop(self, server: str) -> None:
        """Take a copy away; another server gets one, if there is another."""
        self.keepers.remove(server)
        if self.leader == server:
            whole = [n for n in self.keepers if self._alive(n) and self.servers[n].is_current]
            assert whole, f"{server} had the last whole copy"
            self.leader = whole[0]
        self._fill()

    def _fill(self) -> None:
        """Give copies to servers that have none, until there are as many as asked for."""
        without = self.servers.keys() - set(self.keepers) - self.leaving
        spare = sorted(name for name in without if self._alive(name))
        while len(self.keepers) < self.copies and spare:
            self.keepers.append(spare.pop(0))
            self.servers[self.keepers[-1]].is_current = False
        self.look()

    def join(self, name: str, host: str) -> bool:
        """Give a new server its seat, if the group agrees; return whether it has one."""
        if name in self.removed:
            return False
        if name not in self.servers:
            if not self.governs(host):
                return False
            self.servers[name] = Server(name, host)
            self._fill()
        return True


class Journal:
    """The port's promise, and the truth of each moment; what must never stand in it is refused.

    ``runs`` has who claimed each attempt, ``sealed`` the builds in the history.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.last: dict[str, int] = {}
        self.truth = Cluster()
        self.sealed: dict[str, Build] = {}
        self.runs: dict[tuple[str, int], str] = {}

    def append(self, event: Event, *, expect: int | None, fence: int | None) -> int:
        """Write an event, or raise as the port says."""
        key = key_of(event)
        if fence is not None and fence != self.last.get(LEADER, 0):
            raise FencedError("there was an election")
        if expect is not None and expect != self.last.get(key, 0):
            raise StaleError("somebody else wrote first")
        self._watch(event, fence)
        self.events.append(event)
        self.last[key] = seq = len(self.events)
        change = apply(self.truth, seq, event)
        if (
            isinstance(event, BuildStarted)
            and change.build is not None
            and change.build.fence == seq
        ):
            # Not void: a claim beyond a limit is one that nobody runs by.
            assert (event.build, event.attempt) not in self.runs
            self.runs[event.build, event.attempt] = event.agent
        for build in change.sealed:
            before = self.sealed.get(build.id)
            again = before is None or before.last_seq < build.requested_seq or before != build
            assert again, f"{build.id} is sealed twice"
            self.sealed[build.id] = build
        return seq

    def _watch(self, event: Event, fence: int | None) -> None:
        """Fail if this event breaks a promise by being written now."""
        picture = self.truth.picture
        if isinstance(event, DUTIES):
            assert fence is not None, f"{kind_of(event)} without a fence"
            assert event.agent == picture.leader, f"{event.agent} wrote {kind_of(event)} (P6)"
        match event:
            case BuildStarted():
                build = picture.builds[event.build]
                assert build.state is State.QUEUED, f"{event.build} is claimed while {build.state}"
                assert event.attempt == build.attempt + 1
            case BuildFinished(reason=Reason.LOST) if fence is not None:
                assert event.agent == picture.leader, f"{event.agent} gave {event.build} up (P6)"
            case LeaderElected():
                assert event.agent in picture.agents, f"{event.agent} leads, and is no member"
            case _:
                pass


def listed(values: Mapping[str, object]) -> str:
    """Return values by name, in one line."""
    return " ".join(f"{name}={value}" for name, value in values.items())
