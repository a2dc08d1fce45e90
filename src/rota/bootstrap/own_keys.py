"""An agent's own key and certificate: renewed and changed while it runs."""

from __future__ import annotations

from collections.abc import Collection, Coroutine

import msgspec
from msgspec.structs import replace

from rota.adapters.nats import Bus, Engine
from rota.agent.agent import Agent
from rota.agent.certificates import Certificates
from rota.agent.keys import KeyChange
from rota.bootstrap.doors import Doors
from rota.bootstrap.member import Member
from rota.errors import UnavailableError
from rota.ports.credentials import Credentials
from rota.ports.peers import Peer
from rota.service.admission import Renewal
from rota.service.members import known

#: How long a member may take to say which keys it knows.
KEPT_S = 5.0


class OwnKeys:
    """Has an agent's certificate renewed in time, and all that has loaded it load the present one."""

    def __init__(self, member: Member, agent: Agent, doors: Doors, engine: Engine | Bus) -> None:
        self._member, self._agent, self._doors, self._engine = member, agent, doors, engine

    def keep(self) -> Coroutine[None, None, None]:
        """Let the agent's key be changed from now on; return what renews its certificate, for ever."""
        service = self._agent.service
        certificates = Certificates(
            name=self._member.name,
            hosts=lambda: [self._member.host],
            world=service.world,
            keyring=self._member.keyring,
            clock=service.clock,
            ask=self._certified,
            renewed=self._renewed,
        )
        certificates.keys = service.keys = KeyChange(
            name=self._member.name,
            world=service.world,
            journal=service.journal,
            keyring=self._member.keyring,
            clock=service.clock,
            certify=certificates.certify,
            kept_by=self._kept_by,
            switched=self._switched,
        )
        return certificates.run()

    async def _kept_by(self, peer: Peer) -> Collection[str]:
        """Return the pins that another member would know again, and lets in."""
        peers = self._agent.service.peers
        assert peers is not None
        raw = await peers.request(peer, "GET", "/peer/pins", within_s=KEPT_S)
        return msgspec.json.decode(raw, type=list[str])

    def _switched(self, credentials: Credentials) -> None:
        """Let all that has loaded the former key load the present one, and show it from now on."""
        self._member.credentials = credentials
        self._doors.show(credentials)
        if isinstance(self._engine, Engine):
            self._engine.renew(credentials)
        service = self._agent.service
        self._agent.members.keep(replace(service.me, pin=credentials.pin))

    async def _certified(self, request: bytes) -> bytes:
        """Have another member sign a certificate: this one has not the authority's key."""
        service = self._agent.service
        renewal = Renewal(request=request.decode(), hosts=[self._member.host])
        fault = UnavailableError("no other agent is known that could sign a certificate")
        for peer in known(service.world).peers(besides=self._member.name):
            try:
                assert service.peers is not None
                return await service.peers.request(
                    peer, "POST", "/peer/renew", body=msgspec.json.encode(renewal)
                )
            except UnavailableError as error:
                fault = error
        raise fault

    def _renewed(self) -> None:
        """Let all that has loaded the former certificate load the present one."""
        self._doors.show(self._member.credentials)
        if isinstance(self._engine, Engine):
            self._engine.reload()
