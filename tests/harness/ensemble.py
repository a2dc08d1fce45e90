"""A model of the engine's group, and of agents that come, go, fail and leave, second by second.

What an agent's leader does is carried out on it, by halves too; every change is checked at once
against what must never happen. Nothing here is random: the test says what happens when.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tests.harness.facts import moment

from rota.core.agents import Agent
from rota.core.cluster import Cluster
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentStarted,
    Event,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
)
from rota.core.fold import apply
from rota.core.voter import Voter
from rota.core.voters import (
    NEVER_CAME,
    Appoint,
    Dismiss,
    Evacuate,
    Ranks,
    Remove,
    Replicate,
    Seat,
    Step,
    Wait,
    next_step,
    wanted,
)

#: Seconds that a server needs to have what was decided, and a copy to be whole.
CATCH_UP_S = 2
REPLACE_S = 20.0
LOST_S = 8.0


@dataclasses.dataclass
class Server:
    """One engine server with its place in the group."""

    name: str
    owner: str
    is_up: bool = True
    behind_s: int = CATCH_UP_S
    was_current: bool = False

    @property
    def is_healthy(self) -> bool:
        return self.is_up and self.behind_s == 0


@dataclasses.dataclass
class Leader:
    """What whoever leads remembers, and the next one does not."""

    name: str
    since: int
    absent: dict[str, int]
    failed: set[str]


class Group:
    """The whole: agents, their servers, copies, and what the journal says of them."""

    def __init__(self, *, counts_peers: bool = True) -> None:
        self.cluster = Cluster()
        self.now = 0
        self.limit = 3
        self.counts_peers = counts_peers
        self.alive: dict[str, bool] = {}
        self.died_at: dict[str, int] = {}
        self.broken: set[str] = set()
        self.damaged: set[str] = set()
        self.servers: dict[str, Server] = {}
        self.replicas = 1
        #: Server that keeps a copy -> seconds until that is whole.
        self.holders: dict[str, int] = {}
        self.leader: Leader | None = None
        self.count = 0
        #: What the leader still does of its next step: it is killed after its "begin" or "act".
        self.half = ""
        self.steps: list[Step | None] = []
        self.join()
        founder = Server("s0", "a0", behind_s=0, was_current=True)
        self.servers["s0"], self.holders["s0"] = founder, 0
        self.listen(founder)

    # -- what happens to it -----------------------------------------------------------------------

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self.cluster.picture.agents

    @property
    def voters(self) -> Mapping[str, Voter]:
        return self.cluster.picture.voters

    def write(self, event: Event) -> None:
        apply(self.cluster, self.cluster.picture.seq + 1, event)

    def join(self) -> str:
        name = f"a{self.count}"
        self.count += 1
        self.alive[name] = True
        self.write(AgentJoined(at=moment(self.now), name=name, pin=name))
        self.write(AgentStarted(at=moment(self.now), agent=name, peer=f"https://{name}:1"))
        return name

    def die(self, agent: str) -> None:
        self.alive[agent] = False
        self.died_at[agent] = self.now
        for server in self.servers.values():
            if server.owner == agent:
                self.stop(server)

    def come_back(self, agent: str) -> None:
        self.alive[agent] = True
        self.write(AgentStarted(at=moment(self.now), agent=agent, peer=f"https://{agent}:1"))
        for server in self.servers.values():
            if server.owner == agent and self._is_appointed(server):
                server.is_up = True

    def stop(self, server: Server) -> None:
        server.is_up = False

    def leave(self, agent: str) -> None:
        self.write(AgentDrained(at=moment(self.now), name=agent, leaving=True))

    def forget(self, agent: str) -> None:
        self.write(AgentLeft(at=moment(self.now), name=agent))

    def listen(self, server: Server) -> None:
        self.write(
            VoterListening(
                at=moment(self.now),
                agent=server.owner,
                server=server.name,
                host=server.owner,
                client=1,
                route=2,
            )
        )

    def _is_appointed(self, server: Server) -> bool:
        voter = self.voters.get(server.owner)
        return voter is not None and voter.server == server.name

    def _others_hold(self, server: str) -> bool:
        return any(
            whole_s == 0 and name != server and self.servers[name].is_healthy
            for name, whole_s in self.holders.items()
        )

    # -- how it goes on ---------------------------------------------------------------------------

    @property
    def healthy(self) -> list[Server]:
        return [server for server in self.servers.values() if server.is_healthy]

    @property
    def has_quorum(self) -> bool:
        """Whether the group decides, and the journal takes events."""
        up = [server.name for server in self.servers.values() if server.is_up]
        keep = [name for name in self.holders if name in up]
        is_led = len(up) > len(self.servers) // 2 and len(self.healthy) > 0
        return is_led and len(keep) > len(self.holders) // 2 and self._others_hold("")

    @property
    def is_safe(self) -> bool:
        """Whether those who have all that was decided are a quorum by themselves."""
        return len(self.healthy) > len(self.servers) // 2

    def second(self) -> None:
        """Let a second pass: agents follow the journal, servers catch up, the leader looks."""
        self.now += 1
        for agent in sorted(self.alive):
            if self.alive[agent]:
                self._follow(agent)
        if not self.has_quorum:
            self.leader = None
            return
        self._heal()
        if self.leader is None or not self.alive[self.leader.name]:
            self.elect(0)
        self._look()

    def elect(self, pick: int) -> None:
        """Let another agent lead: it knows nothing but what is written."""
        alive = [name for name in self.agents if self.alive[name]]
        self.leader = Leader(alive[pick % len(alive)], self.now, {}, set()) if alive else None

    def _follow(self, agent: str) -> None:
        voter = self.voters.get(agent)
        mine = [server for server in self.servers.values() if server.owner == agent]
        for server in mine:
            if voter is None or voter.server != server.name:
                self.stop(server)
        if self.has_quorum and agent in self.agents and self.agents[agent].leaving and not voter:
            self.forget(agent)
        if voter is None or voter.server in self.broken or not self.has_quorum:
            return
        if not voter.is_listening and voter.server not in self.servers:
            server = Server(voter.server, agent)
            self.servers[server.name] = server
            self.listen(server)

    def _heal(self) -> None:
        for server in self.servers.values():
            if not server.is_up:  # it misses what is decided meanwhile
                server.behind_s = CATCH_UP_S
                if server.name in self.holders:
                    self.holders[server.name] = CATCH_UP_S
            elif server.name not in self.broken:
                server.behind_s = max(server.behind_s - 1, 0)
                server.was_current |= server.behind_s == 0
        for name, whole_s in self.holders.items():
            if self.servers[name].is_healthy:
                self.holders[name] = max(whole_s - 1, 0)
        free = [server.name for server in self.healthy if server.name not in self.holders]
        for name in free[: max(self.replicas - len(self.holders), 0)]:
            self.holders[name] = CATCH_UP_S

    # -- what the leader does ---------------------------------------------------------------------

    def ranks(self) -> Ranks:
        assert self.leader is not None
        absent = self.leader.absent
        for voter in self.voters.values():
            server = self.servers.get(voter.server)
            if server is not None and server.is_healthy:
                absent.pop(voter.server, None)
            else:
                absent.setdefault(voter.server, self.now)
        copies = len(self.holders) if self.counts_peers else self.replicas
        keep = [name for name, whole_s in self.holders.items() if whole_s == 0]
        is_whole = len(keep) == copies and all(self.servers[name].is_healthy for name in keep)
        silent = {
            name: float(self.now - max(self.died_at[name], self.leader.since))
            for name in self.agents
            if not self.alive[name]
        }
        return Ranks(
            voters=self.voters,
            agents=self.agents,
            silent=silent,
            seats=[
                Seat(s.name, is_current=s.behind_s == 0, is_offline=not s.is_up)
                for s in self.servers.values()
            ],
            copies=copies,
            is_whole=is_whole,
            damaged=frozenset(self.damaged),
            absent={name: float(self.now - since) for name, since in absent.items()},
            failed=self.leader.failed,
            limit=self.limit,
            lost_after_s=LOST_S,
            replace_after_s=REPLACE_S,
        )

    def _look(self) -> None:
        ranks = self.ranks()
        step = next_step(ranks)
        self.steps.append(step)
        half, self.half = self.half, ""
        was_safe = self.is_safe
        self._do(step, half, ranks)
        assert self.voters, f"{step} leaves no voter"
        assert was_safe <= self.is_safe, f"{step} takes the quorum"
        assert self._others_hold(""), f"{step} loses what was kept"
        fresh = [
            voter.server
            for voter in self.voters.values()
            if voter.server not in self.servers or not self.servers[voter.server].was_current
        ]
        was = [server for server in fresh if server in {v.server for v in ranks.voters.values()}]
        assert len(fresh) <= 1 or fresh == was, f"{step} makes two newcomers: {fresh}"

    def _do(self, step: Step | None, half: str, ranks: Ranks) -> None:
        match step:
            case Appoint():
                self._check_appointed(step.agent, ranks)
                server = f"s{self.cluster.picture.seq}"
                if half != "act":
                    self.write(VoterAppointed(at=moment(self.now), name=step.agent, server=server))
            case Dismiss():
                assert step.server not in self.servers
                if half != "act":
                    self._dismiss(step)
            case Remove(server=name) | Evacuate(server=name):
                self._check_parting(name, ranks)
                if isinstance(step, Evacuate):
                    self._evacuate(name)
                if half != "begin":
                    self._take_out(name, half)
            case Replicate():
                assert 1 <= step.copies <= len(self.servers)
                self._replicate(step.copies)
            case Wait() | None:
                pass

    def _check_appointed(self, agent: str, ranks: Ranks) -> None:
        assert agent not in self.voters
        assert agent in self.agents
        assert not self.agents[agent].leaving
        assert ranks.silent.get(agent, 0.0) <= LOST_S
        assert len(self.healthy) == len(self.servers), "a newcomer beside one that is down"

    def _check_parting(self, name: str, ranks: Ranks) -> None:
        server = self.servers[name]
        voter = self.voters.get(server.owner)
        if voter is None or voter.server != name:
            return  # a stray
        member = self.agents.get(server.owner)
        staying = [a for a in self.voters if a in self.agents and not self.agents[a].leaving]
        may_go = (
            member is None
            or member.leaving
            or name in self.damaged
            or len(staying) > wanted(ranks)
            or not server.is_healthy
        )
        assert may_go, f"{name} was a good voter"

    def _evacuate(self, name: str) -> None:
        assert self.servers[name].is_healthy, "who is down hands over nothing"
        if name not in self.holders:
            return
        free = [s.name for s in self.healthy if s.name not in self.holders and s.name != name]
        whole = [n for n, s in self.holders.items() if s == 0 and self.servers[n].is_healthy]
        assert free or (len(self.holders) > 1 and set(whole) - {name}), "nobody can take it over"
        if free:
            self.holders[free[0]] = 0
        del self.holders[name]

    def _take_out(self, name: str, half: str) -> None:
        owner = self.servers[name].owner
        voter = self.voters.get(owner)
        is_owner = voter is not None and voter.server == name
        del self.servers[name]
        self.holders.pop(name, None)
        self.damaged.discard(name)
        if half != "act" and is_owner:
            self._dismiss(Dismiss(owner, name, ""))

    def _dismiss(self, step: Dismiss) -> None:
        assert self.leader is not None
        if step.why == NEVER_CAME:
            self.leader.failed.add(step.agent)
        at = moment(self.now)
        self.write(VoterDismissed(at=at, name=step.agent, server=step.server, why=step.why))

    def _replicate(self, copies: int) -> None:
        self.replicas = copies
        # The engine keeps the copy of the stream's leader, and that one is healthy and whole.
        best = sorted(self.holders, key=lambda n: (not self.servers[n].is_healthy, self.holders[n]))
        self.holders = {name: self.holders[name] for name in best[:copies]}
