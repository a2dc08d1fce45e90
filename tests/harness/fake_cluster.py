"""Agents of one cluster that say the same, break off where a test wants, and name one another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.harness.fake_agent import BUILD, STATUS, Asked, FakeAgent, Reply, answer, problem

from rota.client.client import Client
from rota.client.place import parse_place

LOG = b"".join(b"line %d \xc3\xa4\n" % number for number in range(6))
LAST_EVENT = 5
ARTIFACT = b"an artifact's bytes\n"
TOKEN = "sesame"

Fate = Callable[[Asked, Reply], Reply | None]
"""What becomes of an agent's answer; ``None`` breaks the connection before its first byte."""


def as_it_is(_: Asked, reply: Reply) -> Reply | None:
    return reply


class Member(FakeAgent):
    """One of the agents. ``fate`` may change or break its answers."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(self._respond)
        self.name = name
        self.fate: Fate = as_it_is
        self._world = world

    def _respond(self, asked: Asked) -> Reply | None:
        return self.fate(asked, self._with_company(self._world.respond(asked)))

    def _with_company(self, reply: Reply) -> Reply:
        others = " ".join(one.url for one in self._world.members if one is not self)
        ours = (("Rota-Agent", self.name), ("Rota-Agents", others), ("Rota-Seq", "41"))
        return reply._replace(headers=(*reply.headers, *ours))


class World:
    """What all of them know: a finished build with its log, events, and triggers by their keys."""

    def __init__(self, log: bytes = LOG) -> None:
        self.members: list[Member] = []
        self.log = log
        self.triggers: dict[str, int] = {}
        self.cancelled = 0

    def client(self, number: int = 0, *, patience_s: float = 10.0) -> tuple[Client, list[str]]:
        """Return a client that begins at one of the agents, and the list of what it notes."""
        notes: list[str] = []
        place = parse_place(self.members[number].url, "--at")._replace(token=TOKEN)
        return Client(place, patience_s=patience_s, note=notes.append), notes

    def respond(self, asked: Asked) -> Reply:
        """Return the whole answer that each of them would give."""
        path = asked.path
        if path == "/v1/status":
            return answer({**STATUS, "seq": 0})
        if path == "/v1/events":
            return self._events(asked)
        if path.endswith("/builds") and asked.method == "POST":
            return self._trigger(asked)
        if path.endswith("/cancel"):
            self.cancelled += 1
            return answer(BUILD)
        if path.endswith("/log"):
            return self._log(asked)
        if "/artifacts/" in path:
            return Reply(ARTIFACT, headers=(("ETag", f'"{sha256(ARTIFACT)}"'),))
        if path.startswith("/v1/builds/"):
            return answer({**BUILD, "log_bytes": len(self.log)})
        return problem(404, f"no {path}")

    def _log(self, asked: Asked) -> Reply:
        start = int(asked.query.get("offset", 0))
        return Reply(self.log[start:], headers=(("Rota-Log-Offset", str(start)),), chunk=7)

    def _events(self, asked: Asked) -> Reply:
        after = int(asked.headers["last-event-id"])
        body = b": rota\n\n"
        for seq in range(after + 1, LAST_EVENT + 1):
            data = json.dumps({"seq": seq, "kind": "custom", "text": "ä\n"})
            body += f"id: {seq}\nevent: custom\ndata: {data}\n\n".encode()
        return Reply(body, headers=(("Content-Type", "text/event-stream"),), chunk=11)

    def _trigger(self, asked: Asked) -> Reply:
        key = asked.headers["idempotency-key"]
        number = self.triggers.setdefault(key, len(self.triggers) + 1)
        return answer({**BUILD, "number": number, "id": f"{number:016x}"}, 201)


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@contextmanager
def fake_cluster(number: int, world: World | None = None) -> Iterator[World]:
    """Give agents ``a``, ``b``, … that are up, and take them down afterwards."""
    world = world or World()
    with ExitStack() as stack:
        for name in "abcde"[:number]:
            member = Member(name, world)
            member.up()
            stack.callback(member.down)
            world.members.append(member)
        yield world
