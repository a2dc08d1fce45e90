"""Admission: how a machine that shows a join token becomes a member."""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

import msgspec

from rota.core.address import Address, parse_address
from rota.core.certificate import certificates, read_certificate
from rota.core.events import AgentJoined
from rota.core.ids import parse_agent_name
from rota.core.join_token import MAX_ADDRESSES as TOKEN_ADDRESSES
from rota.core.join_token import JoinToken
from rota.core.levels import FIRST
from rota.core.machines import Machine, MachineState
from rota.core.user_data import machine_secret
from rota.errors import ConflictError, DeniedError, UnavailableError
from rota.ports.keyring import Keyring
from rota.ports.safe import Safe
from rota.service import messages as m
from rota.service.context import Service
from rota.service.join_tokens import JoinTokens, KeptToken
from rota.service.members import Known, known, member_of

#: So many wrong secrets an address may show within a second; then it has to wait for the next.
WRONG_SECRETS = 3
MAX_ADDRESSES = 256


class Application(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a machine shows: the token's secret, its name, a certificate request, its hosts."""

    secret: str
    name: str
    request: str
    hosts: list[str] = []
    ephemeral: bool = False


class Renewal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member shows that wants a certificate: a request for its key, and its hosts."""

    request: str
    hosts: list[str] = []


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What a new member gets: its certificate, the CA with its key (all PEM), and who is there.

    One that is ephemeral does not get the key. ``agent`` admitted it; ``remark`` says what a person
    may not expect, and is empty if nothing. ``secrets`` are the identities that secrets are
    encrypted for.
    """

    name: str
    agent: str
    cert: str
    ca: str
    ca_key: str
    known: Known
    remark: str = ""
    secrets: str = ""


class Admission(msgspec.Struct, frozen=True):
    """By what right a machine comes: ``by`` let it in, with a token that is kept, or its cloud's."""

    by: str
    ephemeral: bool
    token: KeptToken | None = None


class Gate:
    """Admits machines to the cluster. Any agent can; each knows the tokens that it made itself.

    ``reachable`` makes this agent listen where other machines reach it, and returns where that is;
    ``kept`` returns the pins that it would know again after a restart, and lets in.
    """

    def __init__(
        self,
        service: Service,
        keyring: Keyring,
        tokens: JoinTokens,
        reachable: Callable[[], Awaitable[Sequence[Address]]],
        *,
        bus: str = "",
        safe: Safe | None = None,
        kept: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._service, self._keyring, self._tokens = service, keyring, tokens
        self._reachable, self._bus, self._safe = reachable, bus, safe
        self._kept = kept
        self._limit = Limit(service.clock.monotonic)

    async def invite(self, by: str, expires_s: float, uses: int) -> m.JoinTokenView:
        """Make a token, valid for so many seconds and machines; 0 is any number of those.

        Raises:
            InputError: a number is beyond its limit.
            ConflictError: this agent is ephemeral, and lets nobody in.
            UnavailableError: other machines cannot reach this agent, or the disk takes nothing.
        """
        me = self._service.me.name
        myself = self._service.world.cluster.picture.agents.get(me)
        if myself is not None and myself.ephemeral:
            raise ConflictError(
                f"{me} comes and goes, and lets nobody join",
                hint="make the token on another agent: rota --at URL token create",
            )
        addresses = await self._reachable()
        ca = self._keyring.fingerprint()
        kept, token = self._tokens.create(
            by=by, ca=ca, addresses=addresses, valid_s=expires_s, uses=uses
        )
        return kept.view(str(token))

    async def machine_token(self, machine: str) -> JoinToken:
        """Return the token of a machine of a cloud. It is not kept: every member can make it.

        Raises:
            UnavailableError: other machines cannot reach this agent, or it has not the CA's key.
        """
        addresses = list(await self._reachable())
        addresses += (
            parse_address(agent.peer.partition("://")[2])
            for agent in self._service.world.cluster.picture.agents.values()
            if agent.is_up and agent.peer and not agent.ephemeral
        )
        secret = machine_secret(self._keyring.ca_key(), machine)
        first = tuple(dict.fromkeys(addresses))[:TOKEN_ADDRESSES]
        return JoinToken(self._keyring.fingerprint(), secret, first)

    async def invitations(self) -> list[m.JoinTokenView]:
        """Return the tokens that still admit somebody, without their secrets."""
        return [kept.view() for kept in self._tokens.list()]

    async def revoke(self, id_: str) -> m.JoinTokenView:
        """Forget a token; who joined with it stays a member.

        Raises:
            NotFoundError: this agent keeps none of that id.
        """
        return self._tokens.revoke(id_).view()

    def ca(self) -> bytes:
        """Return the CA's certificate (PEM): for everybody; the token says whether it is right."""
        return self._keyring.ca()

    def identities(self) -> str:
        """Return the identities that secrets are encrypted for: for members alone."""
        return self._safe.identities() if self._safe is not None else ""

    def keep_identities(self, text: str) -> None:
        """Keep identities that another member hands over.

        Raises:
            InputError: the text holds none.
        """
        if self._safe is not None:
            self._safe.keep(text)

    def clock(self) -> m.ClockView:
        """Return what this agent's clock says."""
        return m.ClockView(now=self._service.clock.now())

    def kept_pins(self) -> list[str]:
        """Return the pins of members that this agent has written down."""
        return sorted(self._kept())

    async def renew(self, name: str, renewal: Renewal) -> bytes:
        """Return a certificate (PEM) for a member that has not the CA's key itself.

        Raises:
            InputError: a host or the certificate request is wrong.
        """
        return await asyncio.to_thread(
            self._keyring.sign, renewal.request.encode(), name, renewal.hosts, self._life
        )

    @property
    def _life(self) -> timedelta:
        return timedelta(seconds=self._service.world.definitions.settings.certificates.life_s)

    def hold(self, *, is_on: bool) -> None:
        """Write nothing for now, or write again: another agent recovers the cluster."""
        hold = self._service.world.hold
        if hold is not None and is_on:
            hold.begin()
        elif hold is not None:
            hold.end()

    def known(self) -> Known:
        """Return what this agent knows of all members and voters."""
        return known(self._service.world, self._bus)

    async def admit(self, application: Application, address: str, level: int = FIRST) -> Admitted:
        """Admit a machine that knows ``level``, and return once this agent has folded that.

        Whoever was admitted before gets a new certificate, and no event is written.

        Raises:
            DeniedError: the secret is wrong, or its token holds no more; nothing was changed.
            InputError: the name, a host or the certificate request is wrong.
            ConflictError: another machine has the name and is up, or this one is a member already; or it
                knows less than the cluster does.
            UnavailableError: too many wrong secrets came from ``address``; or there is no quorum.
        """
        self._limit.refuse_too_many(address)
        try:
            admission = self._admission(application)
        except DeniedError:
            self._limit.count(address)
            raise
        name = parse_agent_name(application.name)
        self._refuse_outdated(level)
        cert = await asyncio.to_thread(
            self._keyring.sign,
            application.request.encode(),
            name,
            application.hosts,
            self._life,
        )
        pin = read_certificate(certificates(cert)[0]).pin
        async with self._service.turn("admission"):
            admission = self._admission(application, pin)
            remark = self._remark(name, pin)
            if member_of(self._service.world, pin) is None:
                # Before it is one: a crash between the two may cost a use, and never gives one.
                if admission.token is not None:
                    self._tokens.used(admission.token, pin)
                await self._join(name, pin, admission, level)
        return Admitted(
            name=name,
            agent=self._service.me.name,
            cert=cert.decode(),
            ca=self._keyring.ca().decode(),
            ca_key="" if admission.ephemeral else self._keyring.ca_key().decode(),
            known=self.known(),
            remark=remark,
            secrets=self._safe.identities() if self._safe is not None else "",
        )

    def _admission(self, application: Application, pin: str | None = None) -> Admission:
        """Return by what right a machine comes, with that key or any.

        Raises:
            DeniedError: it has none.
        """
        machine = self._machine(application)
        if machine is None:
            token = self._tokens.check(application.secret, pin)
            return Admission(token.by, ephemeral=application.ephemeral, token=token)
        fault, member = "", self._service.world.cluster.picture.agents.get(machine.name)
        if machine.state is MachineState.DRAINING:
            fault = "is of a machine that is to be ended"
        elif member is not None and pin is not None and not member.has_key(pin):
            fault = "has been used by another machine"
        if fault:
            raise DeniedError(
                f"the join token {fault}", known=True, hint="see what became of it: rota clouds"
            )
        return Admission(f"cloud {machine.cloud}", ephemeral=True)

    def _machine(self, application: Application) -> Machine | None:
        """Return the machine of a cloud whose own token this is."""
        machine = self._service.world.cluster.picture.machines.get(application.name)
        if machine is None:
            return None
        secret = machine_secret(self._keyring.ca_key(), machine.name)
        shown = application.secret.encode("utf-8", "surrogatepass")
        return machine if hmac.compare_digest(secret.encode(), shown) else None

    def _remark(self, name: str, pin: str) -> str:
        """Say whom this machine replaces, if anybody.

        Raises:
            ConflictError: it cannot have the name.
        """
        world = self._service.world
        other = member_of(world, pin)
        if other is not None and other != name:
            raise ConflictError(
                f"this machine is a member already, named {other}",
                hint=f"start it by that name: --name {other}; or have it forgotten first",
            )
        present = world.cluster.picture.agents.get(name)
        if present is None or present.has_key(pin):
            return ""
        if present.is_up or name == self._service.me.name:
            raise ConflictError(
                f"an agent named {name} is a member and up",
                hint="give this one another name: --name NAME",
            )
        return (
            f"an agent named {name} was a member and is {present.state}; this machine has taken"
            " its place, and the former one is no member any more"
        )

    def _refuse_outdated(self, level: int) -> None:
        needed, version = self._service.world.cluster.picture.level, self._service.me.version
        if level < needed:
            raise ConflictError(
                f"the cluster is at level {needed}, and the rota of this machine knows {level}",
                hint=f"install rota {version} or a newer one on it, and join again",
            )

    async def _join(self, name: str, pin: str, admission: Admission, level: int) -> None:
        service, me = self._service, self._service.me.name
        await service.write(
            AgentJoined(
                at=service.clock.now(),
                by=admission.by,
                agent=me,
                name=name,
                pin=pin,
                ephemeral=admission.ephemeral,
                level=level,
            )
        )
        self._refuse_outdated(level)  # it was raised at the same moment: then nobody joined
        if member_of(service.world, pin) != name:
            raise ConflictError(
                f"another machine was admitted as {name} at the same moment",
                hint="give this one another name: --name NAME",
            )


class Limit:
    """Counts wrong secrets by address, for a second. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: dict[str, deque[float]] = {}

    def count(self, address: str) -> None:
        """Count one wrong secret from ``address``."""
        times = self._wrong.pop(address, None) or deque(maxlen=WRONG_SECRETS)
        times.append(self._clock())
        while len(self._wrong) >= MAX_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = times

    def refuse_too_many(self, address: str) -> None:
        """Do nothing if ``address`` may show a secret now.

        Raises:
            UnavailableError: it has to wait.
        """
        times = self._wrong.get(address)
        if times is not None and len(times) >= WRONG_SECRETS and self._clock() - times[0] < 1.0:
            raise UnavailableError(
                "too many wrong join tokens came from this machine",
                hint="wait a second, and try again with the right one",
            )
