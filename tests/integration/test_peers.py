"""Agents among themselves: how a machine becomes a member, and who is let in afterwards."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import uvloop
from aiohttp import web
from tests.harness.agent import TOKEN, Here, NoGit, agent_here

from rota.adapters.clocks import SystemClock
from rota.adapters.peers import HttpsPeers, HttpsStranger, own_address, server_context
from rota.adapters.pki import TlsKeyring
from rota.adapters.scripted import Plan
from rota.agent.joining import Joined, join, read_known
from rota.core.address import Address, parse_address
from rota.core.agents import AgentState
from rota.core.certificate import certificates, fingerprint
from rota.core.cluster import decode_picture
from rota.core.events import (
    AgentJoined,
    AgentLeft,
    AgentStarted,
    AgentStopped,
    CloudDraining,
    CloudWanted,
)
from rota.core.join_token import parse_join_token
from rota.core.levels import LEVEL
from rota.core.rights import Role
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    OlderError,
    RotaError,
    UnavailableError,
)
from rota.http.access import Access
from rota.http.app import CALLERS, make_app, make_runner
from rota.http.peer import add_peer_routes
from rota.ports.clock import Clock
from rota.ports.credentials import Credentials
from rota.ports.peers import Peer
from rota.service import members
from rota.service.admission import Gate
from rota.service.context import Principal
from rota.service.join_tokens import JoinTokens

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ahead(SystemClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.by = timedelta()

    def now(self) -> Any:
        return super().now() + self.by


class Member(NamedTuple):
    """An agent with a listener for peers."""

    here: Here
    credentials: Credentials
    address: Address
    gate: Gate
    clock: Ahead

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @property
    def me(self) -> Peer:
        return Peer(self.here.me.name, self.url, self.credentials.pin)

    async def invite(self, uses: int = 0, expires_s: float = 60.0) -> str:
        return (await self.gate.invite("anna", expires_s, uses)).token

    async def kinds(self) -> list[str]:
        """Return the kinds of all events about members."""
        events = (await self.here.ask("GET", "/v1/events?kind=agent.*")).json()
        return [f"{event['kind']} {event.get('name') or event['agent']}" for event in events]

    async def tell(self, kind: type[Any], **fields: Any) -> None:
        await self.here.service.write(kind(at=self.clock.now(), **fields))


@contextlib.asynccontextmanager
async def member(here: Here, *, joined: Joined | None = None) -> AsyncIterator[Member]:
    """Let an agent listen for peers: as the founder, or as one that has joined."""
    clock, name = Ahead(), here.me.name
    data = joined.credentials.cert.parent.parent if joined else here.data
    keyring = TlsKeyring(data / "tls", clock)
    credentials = keyring.found(name, [])
    tcp = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", tcp.getsockname()[1])

    async def reachable() -> Sequence[Address]:
        return [address]

    world = here.service.world
    tokens = JoinTokens(data / "join-tokens.json", clock)
    gate = Gate(here.service, keyring, tokens, reachable)
    access = Access(
        TOKEN,
        tokens=lambda: members.tokens(world),
        member_of=lambda pin: members.member_of(world, pin),
        is_behind=lambda: world.is_held,  # stands for: what is known here is old
    )
    app = make_app(here.service, access.principal, NoGit())
    here.agent.loop.on_entry.append(app[CALLERS].noted)
    add_peer_routes(app, gate, here.agent.historian.state)
    async with serving(app, tcp, server_context(credentials)), HttpsPeers(credentials) as peers:
        here.service.peers = peers
        made = Member(here, credentials, address, gate, clock)
        if joined is None:
            await made.tell(AgentJoined, name=name, agent=name, pin=credentials.pin)
        await made.tell(AgentStarted, level=LEVEL, agent=name, slots=here.me.slots, peer=made.url)
        yield made


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, tcp: socket.socket, context: ssl.SSLContext
) -> AsyncIterator[None]:
    runner = make_runner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, tcp, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()
        tcp.close()


@pytest.fixture
async def founder(here: Here) -> AsyncIterator[Member]:
    async with member(here) as made:
        yield made


async def joining(
    folder: Path, token: str, name: str = "second", *, ephemeral: bool = False
) -> Joined:
    folder.mkdir(exist_ok=True)
    return await join(
        folder,
        token,
        name,
        [],
        keyring=TlsKeyring(folder / "tls", SystemClock()),
        stranger=HttpsStranger(),
        connect=HttpsPeers,
        ephemeral=ephemeral,
    )


# -- joining ------------------------------------------------------------------------------------


async def test_a_token_is_all_it_takes_to_become_a_member(founder: Member, tmp_path: Path) -> None:
    await founder.here.put("a")
    token = await founder.invite()
    joined = await joining(tmp_path / "new", token)
    assert joined.name == "second"
    assert joined.address == "127.0.0.1"
    assert joined.remark == ""
    assert joined.source == founder.me
    events = await founder.kinds()
    assert events[-1] == "agent.joined second"
    # It has the state, as it was once it was in it, and knows who is there.
    cluster = decode_picture((tmp_path / "new" / "snapshot.json").read_bytes())
    assert cluster is not None
    assert cluster.picture.agents["second"].pin == joined.credentials.pin
    assert cluster.picture.agents["second"].state is AgentState.JOINED
    known = read_known(tmp_path / "new")
    assert known == joined.known
    assert known is not None
    assert known.members["here"] == members.Member(founder.credentials.pin, founder.url)
    saved = json.loads((tmp_path / "new" / "cluster.json").read_text())
    assert saved["peers"] == [founder.url]
    # And it may ask what peers ask.
    async with HttpsPeers(joined.credentials) as peers:
        answer = await peers.request(founder.me, "GET", "/peer/voters")
        assert msgspec.json.decode(answer, type=members.Known).members.keys() == {"here", "second"}


async def test_who_has_joined_lets_the_next_one_in(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "two", await founder.invite())
    journal = founder.here.journal
    async with (
        agent_here(0, name="second", journal=journal) as other,
        member(other, joined=joined) as second,
    ):
        third = await joining(tmp_path / "three", await second.invite(), "third")
        assert third.source == second.me
        await founder.here.service.world.reached(other.service.world.seq, 10.0)
        assert members.member_of(founder.here.service.world, third.credentials.pin) == "third"
        async with HttpsPeers(third.credentials) as peers:
            await peers.request(founder.me, "GET", "/peer/voters")


async def test_joining_twice_changes_nothing_more(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite(uses=1)
    first = await joining(tmp_path / "new", token)
    before = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    events = await founder.kinds()
    again = await joining(tmp_path / "new", token)
    assert again.credentials == first.credentials
    assert await founder.kinds() == events
    now = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert now == before
    # Also when its token is long over, and nobody is there to ask.
    founder.clock.by = timedelta(days=1)
    assert (await joining(tmp_path / "new", token)).credentials == first.credentials


async def test_joining_goes_on_where_it_broke_off(founder: Member, tmp_path: Path) -> None:
    folder, token = tmp_path / "new", await founder.invite(uses=1)
    first = await joining(folder, token)
    events = await founder.kinds()
    # Admitted, and the answer was lost: only the key is there.
    for name in ("tls/ca.crt", "tls/ca.key", "tls/agent.crt", "cluster.json", "snapshot.json"):
        (folder / name).unlink()
    assert (await joining(folder, token)).credentials.pin == first.credentials.pin
    # Or the state could not be fetched.
    (folder / "snapshot.json").unlink()
    assert (await joining(folder, token)).source == founder.me
    assert (folder / "snapshot.json").exists()
    assert await founder.kinds() == events


async def test_who_was_removed_joins_again_with_a_new_token(
    founder: Member, tmp_path: Path
) -> None:
    first = await joining(tmp_path / "new", await founder.invite())
    await founder.tell(AgentLeft, agent="here", name="second")
    again = await joining(tmp_path / "new", await founder.invite())
    assert again.credentials.pin == first.credentials.pin
    assert (await founder.kinds())[-2:] == ["agent.left second", "agent.joined second"]


async def test_the_other_addresses_of_a_token_are_tried(founder: Member, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    token = await founder.invite()
    head, _, address = token.rpartition(".127.")
    joined = await joining(tmp_path / "new", f"{head}.127.0.0.1:{dead},127.{address}")
    assert joined.source == founder.me
    with pytest.raises(UnavailableError) as caught:
        await joining(tmp_path / "other", f"{head}.127.0.0.1:{dead}", "third")
    assert caught.value.message == (
        f"cannot reach the agent at 127.0.0.1:{dead}: Connection refused"
    )
    assert list((tmp_path / "other").iterdir()) == []
    two = f"{head}.127.0.0.1:{dead},127.0.0.2:{dead}"
    with pytest.raises(UnavailableError, match=r"127.0.0.1:\d+.*; .*127.0.0.2:\d+"):
        await joining(tmp_path / "other", two, "third")


# -- being refused ------------------------------------------------------------------------------


async def refused(founder: Member, folder: Path, token: str, name: str = "second") -> RotaError:
    """Join in vain; nothing may have changed anywhere."""
    events = await founder.kinds()
    with pytest.raises(RotaError) as caught:
        await joining(folder, token, name)
    assert list(folder.iterdir()) == []
    assert await founder.kinds() == events
    assert parse_join_token(token).secret not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


async def test_a_wrong_secret_admits_nobody(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite()
    secret = parse_join_token(token).secret
    error = await refused(founder, tmp_path / "new", token.replace(secret, secret[::-1]))
    assert isinstance(error, DeniedError)
    assert error.message == "the join token is not known here"
    assert error.hint == "make a new one on a member: rota token create"
    await joining(tmp_path / "new", token)


async def test_who_shows_wrong_secrets_over_and_over_has_to_wait(
    founder: Member, tmp_path: Path
) -> None:
    token = await founder.invite()
    secret = parse_join_token(token).secret
    errors = [
        await refused(founder, tmp_path / "new", token.replace(secret, f"{n:043}"))
        for n in range(3)
    ]
    assert {type(error) for error in errors} == {DeniedError}
    # On a machine so slow that the three took a second it is denied like them.
    with pytest.raises((UnavailableError, DeniedError)) as caught:
        await joining(tmp_path / "new", token.replace(secret, f"{3:043}"))
    if isinstance(caught.value, UnavailableError):
        assert "too many wrong join tokens came from this machine" in caught.value.message
    await founder.here.until(lambda: _is_free(founder.gate))
    await joining(tmp_path / "new", token)


def _is_free(gate: Gate) -> bool:
    with contextlib.suppress(UnavailableError):
        gate._limit.refuse_too_many("127.0.0.1")
        return True
    return False


async def test_a_token_that_is_over_admits_nobody(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite()
    founder.clock.by = timedelta(minutes=2)
    error = await refused(founder, tmp_path / "new", token)
    assert isinstance(error, DeniedError)
    assert error.message == "the join token has expired"


async def test_a_token_for_one_machine_admits_one(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite(uses=1)
    await joining(tmp_path / "new", token)
    error = await refused(founder, tmp_path / "other", token, "third")
    assert error.message == "the join token has been used as often as it may be"


async def test_a_revoked_token_admits_nobody(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite()
    [listed] = await founder.gate.invitations()
    assert listed.token == ""
    await founder.gate.revoke(listed.id)
    error = await refused(founder, tmp_path / "new", token)
    assert error.message == "the join token is not known here"


async def test_a_name_is_one_agents(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite()
    error = await refused(founder, tmp_path / "new", token, "here")
    assert isinstance(error, ConflictError)
    assert error.message == "an agent named here is a member and up"
    assert error.hint == "give this one another name: --name NAME"


# -- machines that come and go --------------------------------------------------------------------


async def test_an_ephemeral_member_gets_no_key_of_the_authority_and_lets_nobody_in(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite(), ephemeral=True)
    assert founder.here.service.world.cluster.picture.agents["second"].ephemeral
    assert not (tmp_path / "new" / "tls" / "ca.key").exists()
    assert (tmp_path / "new" / "tls" / "ca.crt").exists()
    async with HttpsPeers(joined.credentials) as peers:
        await peers.request(founder.me, "GET", "/peer/voters")  # and it is a member
    async with (
        agent_here(0, name="second", journal=founder.here.journal) as other,
        member(other, joined=joined) as second,
    ):
        with pytest.raises(ConflictError) as caught:
            await second.invite()
        assert caught.value.message == "second comes and goes, and lets nobody join"


async def test_a_machines_own_token_admits_that_machine_alone(
    founder: Member, tmp_path: Path
) -> None:
    token = str(await founder.gate.machine_token("aws-1"))
    # Nobody wants such a machine; or another one.
    assert (await refused(founder, tmp_path / "x", token, "aws-1")).message == (
        "the join token is not known here"
    )
    await founder.tell(CloudWanted, agent="here", cloud="aws", machine="aws-1")
    await founder.tell(CloudWanted, agent="here", cloud="aws", machine="aws-2")
    assert isinstance(await refused(founder, tmp_path / "x", token, "aws-2"), DeniedError)
    joined = await joining(tmp_path / "new", token, "aws-1")
    # It is told by the journal that it comes and goes, whatever it says of itself.
    assert founder.here.service.world.cluster.picture.agents["aws-1"].ephemeral
    assert not (tmp_path / "new" / "tls" / "ca.key").exists()
    again = await joining(tmp_path / "new", token, "aws-1")
    assert again.credentials.pin == joined.credentials.pin
    error = await refused(founder, tmp_path / "other", token, "aws-1")
    assert error.message == "the join token has been used by another machine"
    assert error.hint == "see what became of it: rota clouds"


async def test_a_machine_that_is_to_be_ended_is_not_let_in(founder: Member, tmp_path: Path) -> None:
    await founder.tell(CloudWanted, agent="here", cloud="aws", machine="aws-1")
    token = str(await founder.gate.machine_token("aws-1"))
    await founder.tell(CloudDraining, agent="here", cloud="aws", machine="aws-1")
    error = await refused(founder, tmp_path / "new", token, "aws-1")
    assert error.message == "the join token is of a machine that is to be ended"


async def test_any_member_takes_a_machines_token(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "two", await founder.invite())
    async with (
        agent_here(0, name="second", journal=founder.here.journal) as other,
        member(other, joined=joined) as second,
    ):
        await founder.tell(CloudWanted, agent="here", cloud="aws", machine="aws-1")
        await other.service.world.reached(founder.here.service.world.seq, 10.0)
        token = await second.gate.machine_token("aws-1")
        assert token.secret == (await founder.gate.machine_token("aws-1")).secret
        # All that can be asked are named, so that one may be gone.
        assert {str(it) for it in token.addresses} == {str(founder.address), str(second.address)}
        await joining(tmp_path / "new", str(token), "aws-1")


async def test_an_ephemeral_member_has_its_certificate_renewed_for_the_same_key(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite(), ephemeral=True)
    ring = TlsKeyring(tmp_path / "new" / "tls", Ahead())
    request = ring.request("second").decode()
    body = msgspec.json.encode({"request": request, "hosts": ["10.0.0.9"]})
    async with HttpsPeers(joined.credentials) as peers:
        cert = await peers.request(founder.me, "POST", "/peer/renew", body=body)
        with pytest.raises(InputError, match="the certificate request cannot be read"):
            await peers.request(founder.me, "POST", "/peer/renew", body=b'{"request":"x"}')
        with pytest.raises(InputError, match="that is no application"):
            await peers.request(founder.me, "POST", "/peer/renew", body=b'{"name":"x"}')
    assert ring.install(ca=ring.ca(), ca_key=b"", cert=cert).pin == joined.credentials.pin
    assert "10.0.0.9" in ring.present().hosts
    without = trusting(joined.credentials, shows=False)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{founder.url}/peer/renew", data=body, ssl=without) as response,
    ):
        assert response.status == 401


@pytest.mark.parametrize("was_up", [False, True])
async def test_an_agent_that_is_not_up_is_replaced_by_one_of_its_name(
    founder: Member, tmp_path: Path, was_up: bool
) -> None:
    first = await joining(tmp_path / "old", await founder.invite())
    if was_up:
        await founder.tell(AgentStarted, level=LEVEL, agent="second", slots=1)
        await founder.tell(AgentStopped, agent="second")
    second = await joining(tmp_path / "new", await founder.invite())
    assert second.remark == (
        f"an agent named second was a member and is {'stopped' if was_up else 'joined'}; this"
        " machine has taken its place, and the former one is no member any more"
    )
    async with HttpsPeers(second.credentials) as peers:
        await peers.request(founder.me, "GET", "/peer/voters")
    async with HttpsPeers(first.credentials) as peers:
        with pytest.raises(DeniedError, match="this machine is no member any more"):
            await peers.request(founder.me, "GET", "/peer/voters")


async def test_a_member_cannot_take_a_second_name(founder: Member, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    await joining(folder, await founder.invite())
    (folder / "cluster.json").unlink()
    with pytest.raises(ConflictError) as caught:
        await joining(folder, await founder.invite(), "third")
    assert caught.value.message == "this machine is a member already, named second"
    assert "--name second" in (caught.value.hint or "")


async def test_the_folder_of_another_agent_is_left_alone(founder: Member, tmp_path: Path) -> None:
    token = await founder.invite()
    (tmp_path / "index.db").write_text("")
    with pytest.raises(ConflictError, match="is the folder of an agent with builds of its own"):
        await joining(tmp_path, token)
    TlsKeyring(tmp_path / "tls", SystemClock()).found("x", [])
    with pytest.raises(ConflictError, match="is the folder of an agent of another cluster") as e:
        await joining(tmp_path, token)
    assert "--data DIR" in (e.value.hint or "")


async def test_bad_names_and_tokens_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    token = f"rota1.{'0' * 64}.{'x' * 43}.127.0.0.1:1"
    for text, name in (("nonsense", "a"), (token[:50], "a"), (token, "a b")):
        with pytest.raises(InputError):
            await joining(tmp_path, text, name)
    assert list(tmp_path.iterdir()) == []


# -- in the middle ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def impostor(folder: Path, shown: bytes | None) -> AsyncIterator[tuple[Address, list[str]]]:
    """A machine with a CA of its own, which shows that, or what it has seen elsewhere."""
    keyring = TlsKeyring(folder / "tls", SystemClock())
    credentials = keyring.found("impostor", [])
    heard: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        heard.append(f"{request.method} {request.path} {await request.text()}")
        return web.Response(body=shown or keyring.ca())

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    tcp = socket.create_server(("127.0.0.1", 0))
    async with serving(app, tcp, server_context(credentials)):
        yield Address("127.0.0.1", tcp.getsockname()[1]), heard


@pytest.mark.parametrize("knows_our_ca", [False, True])
async def test_a_man_in_the_middle_hears_no_secret(
    founder: Member, tmp_path: Path, knows_our_ca: bool
) -> None:
    token = await founder.invite()
    shown = founder.gate.ca() if knows_our_ca else None
    (tmp_path / "him").mkdir()
    async with impostor(tmp_path / "him", shown) as (address, heard):
        wrong = token.replace(str(founder.address), str(address))
        error = await refused(founder, tmp_path / "new", wrong)
    assert isinstance(error, DeniedError)
    assert heard == ["GET /peer/ca "]
    assert str(address) in error.message
    if knows_our_ca:
        assert "shows a certificate that does not hold" in error.message
        assert "nothing was sent to it" in error.message
    else:
        assert "is not of the cluster that the token is for; it was told nothing" in error.message


@pytest.mark.parametrize(
    ("days", "says"), [(3, "certificate is not yet valid"), (-4000, "certificate has expired")]
)
async def test_clocks_that_are_days_apart_are_named_as_a_cause(
    tmp_path: Path, days: int, says: str
) -> None:
    clock = Ahead()
    clock.by = timedelta(days=days)
    async with answering(tmp_path, problem(200), clock) as odd:
        address = parse_address(odd.url.removeprefix("https://"))
        ca = (tmp_path / "tls" / "ca.crt").read_bytes()
        with pytest.raises(DeniedError) as caught:
            await HttpsStranger().post(address, ca, "/x", b"{}")
    assert says in caught.value.message
    assert caught.value.hint == "either it is of another cluster, or one of the two clocks is wrong"


async def test_what_is_no_agent_is_told_so(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(UnavailableError, match=f"the agent at 127.0.0.1:{port}"):
            await joining(tmp_path, f"rota1.{'0' * 64}.{'x' * 43}.127.0.0.1:{port}")
    assert list(tmp_path.iterdir()) == []


# -- what a listener for peers lets in ----------------------------------------------------------


def trusting(credentials: Credentials, *, shows: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(credentials.ca))
    if shows:
        context.load_cert_chain(credentials.cert, credentials.key)
    return context


async def status(url: str, context: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, ssl=context, headers=sent) as response,
    ):
        body = await response.read()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(body) if is_json else body


async def test_the_verbs_are_there_for_peers_and_for_tokens(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    url = f"{founder.url}/v1/status"
    assert (await status(url, trusting(joined.credentials)))[0] == 200
    without = trusting(joined.credentials, shows=False)
    assert (await status(url, without))[1]["detail"] == "no credential"
    assert (await status(url, without, Authorization=f"Bearer {TOKEN}"))[0] == 200
    code, body = await status(url, without, Authorization="Bearer other")
    assert (code, body["detail"]) == (401, "the token is not known here")
    assert (await status(f"{founder.url}/health", without))[0] == 200
    code, pem = await status(f"{founder.url}/peer/ca", without)
    assert (code, pem) == (200, founder.gate.ca())


async def test_what_only_peers_may_ask_is_for_peers(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    without = trusting(joined.credentials, shows=False)
    for path in ("/peer/voters", "/peer/snapshot", "/peer/secrets"):
        code, body = await status(f"{founder.url}{path}", without, Authorization=f"Bearer {TOKEN}")
        assert (code, body["detail"]) == (403, "only agents of this cluster may ask for this")
        assert (await status(f"{founder.url}{path}", without))[0] == 401
        assert (await status(f"{founder.url}{path}", trusting(joined.credentials)))[0] == 200


async def test_a_removed_agents_key_opens_nothing_at_once(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    async with HttpsPeers(joined.credentials) as peers:
        await peers.request(founder.me, "GET", "/peer/voters")
        await founder.tell(AgentLeft, agent="here", name="second")
        for path in (
            "/peer/voters",
            "/peer/snapshot",
            "/peer/secrets",
            "/v1/status",
            "/v1/nothing",
        ):
            with pytest.raises(DeniedError) as caught:
                await peers.request(founder.me, "GET", path)
            assert caught.value.message == "this machine is no member any more"
            assert "rota agent --join TOKEN" in (caught.value.hint or "")
        # Not even a token helps who shows that key; without it, the token does.
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        with pytest.raises(DeniedError):
            await peers.request(founder.me, "GET", "/v1/status", headers=bearer)


async def test_who_knows_only_old_things_turns_no_member_away(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    await founder.tell(AgentLeft, agent="here", name="second")
    world = founder.here.service.world
    assert world.hold is not None
    world.hold.begin()
    async with HttpsPeers(joined.credentials) as peers:
        with pytest.raises(UnavailableError, match="cannot tell who is a member by now"):
            await peers.request(founder.me, "GET", "/peer/voters")
        world.hold.end()
        with pytest.raises(DeniedError, match="no member any more"):
            await peers.request(founder.me, "GET", "/peer/voters")


async def test_while_another_agent_recovers_the_cluster_nothing_is_written(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    async with HttpsPeers(joined.credentials) as peers:
        await peers.request(founder.me, "POST", "/peer/hold")
        with pytest.raises(UnavailableError) as caught:
            await founder.tell(AgentStarted, agent="second", slots=1)
        assert caught.value.message == "the cluster is being recovered, and takes nothing meanwhile"
        assert "a matter of seconds" in (caught.value.hint or "")
        await peers.request(founder.me, "DELETE", "/peer/hold")
    await founder.tell(AgentStarted, agent="second", slots=1)


async def test_what_a_removed_agent_has_open_is_cut_off(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    other = await joining(tmp_path / "other", await founder.invite(), "third")
    url = f"{founder.url}/v1/events?follow=true"
    async with contextlib.AsyncExitStack() as stack:

        async def follow(credentials: Credentials) -> aiohttp.ClientResponse:
            connector = aiohttp.TCPConnector(ssl=trusting(credentials))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            response = await stack.enter_async_context(session.get(url))
            assert response.status == 200
            await response.content.readline()
            return response

        theirs, stays = await follow(joined.credentials), await follow(other.credentials)
        asked = await founder.here.ask("POST", "/v1/agents/second/revoke")
        assert asked.status == 200, asked.text
        with pytest.raises(aiohttp.ClientError):
            await theirs.read()
        # Who is still a member is not: the next event arrives.
        await founder.tell(AgentStarted, level=LEVEL, agent="third", slots=7)
        while b'"slots":7' not in (line := await stays.content.readline()):
            assert line


async def test_a_removed_agent_can_sign_certificates_that_open_nothing(
    founder: Member, tmp_path: Path
) -> None:
    await joining(tmp_path / "new", await founder.invite())
    await founder.tell(AgentLeft, agent="here", name="second")
    stolen = TlsKeyring(tmp_path / "new" / "tls", SystemClock())
    fresh = TlsKeyring(tmp_path / "tls", SystemClock())
    cert = stolen.sign(fresh.request("here"), "here", [])
    made = fresh.install(ca=stolen.ca(), ca_key=stolen.ca_key(), cert=cert)
    async with HttpsPeers(made) as peers:
        with pytest.raises(DeniedError, match="no member"):
            await peers.request(founder.me, "GET", "/peer/voters")

    # Nor can it pass for another agent where one of us asks that.
    async def lie(request: web.Request) -> web.StreamResponse:
        return web.Response(text="lies")

    app = web.Application()
    app.router.add_get("/peer/voters", lie)
    tcp = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", tcp.getsockname()[1])
    async with (
        serving(app, tcp, server_context(made)),
        HttpsPeers(founder.credentials) as peers,
    ):
        me = Peer("here", f"https://{address}", founder.credentials.pin)
        with pytest.raises(UnavailableError) as caught:
            await peers.request(me, "GET", "/peer/voters")
        assert caught.value.message == (
            f"agent here at https://{address} has another key than that agent;"
            " nothing was sent to it"
        )
        honest = Peer("x", f"https://{address}", made.pin)
        assert await peers.request(honest, "GET", "/peer/voters") == b"lies"


async def test_a_certificate_of_another_ca_gets_no_answer(founder: Member, tmp_path: Path) -> None:
    other = TlsKeyring(tmp_path / "tls", SystemClock()).found("here", [])
    context = trusting(founder.credentials, shows=False)
    context.load_cert_chain(other.cert, other.key)
    with pytest.raises(aiohttp.ClientError):
        await status(f"{founder.url}/health", context)


async def test_the_routes_for_peers_are_not_there_without_tls(founder: Member) -> None:
    for path in ("/peer/ca", "/peer/voters", "/peer/snapshot", "/peer/secrets"):
        assert (await founder.here.ask("GET", path)).status == 404
    assert (await founder.here.ask("POST", "/peer/join", body={})).status == 404


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "that is no application: "),
        (b"[]", "that is no application: "),
        (b'{"secret": 1}', "that is no application: "),
        (b"\xff\xfe", "that is no application: "),
        (b'{"secret":"a","name":"b","request":"c","more":1}', "unknown field `more`"),
        (b" " * 70_000, "an application has at most 65536 bytes"),
    ],
)
async def test_an_application_that_is_none_is_refused(
    founder: Member, body: bytes, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        await HttpsStranger().post(founder.address, founder.gate.ca(), "/peer/join", body)
    assert says in caught.value.message


async def test_bad_names_hosts_and_requests_admit_nobody(founder: Member) -> None:
    secret = parse_join_token(await founder.invite(uses=1)).secret
    good = {"secret": secret, "name": "second", "request": "x", "hosts": []}
    for wrong, says in (
        ({"name": "a b"}, "bad agent name 'a b'"),
        ({"hosts": ["*"]}, "bad host '*'"),
        ({"request": "nonsense"}, "the certificate request cannot be read"),
    ):
        body = msgspec.json.encode(good | wrong)
        path = f"/peer/join?level={LEVEL}"
        with pytest.raises(InputError) as caught:
            await HttpsStranger().post(founder.address, founder.gate.ca(), path, body)
        assert says in caught.value.message
    assert len(await founder.gate.invitations()) == 1


@pytest.mark.parametrize("said", ["", "?level=1", "?level=x", "?level=9999999"])
async def test_a_machine_whose_rota_knows_less_than_the_cluster_is_not_let_in(
    founder: Member, said: str
) -> None:
    secret = parse_join_token(await founder.invite(uses=1)).secret
    body = msgspec.json.encode({"secret": secret, "name": "second", "request": "x", "hosts": []})
    with pytest.raises(ConflictError) as caught:
        await HttpsStranger().post(founder.address, founder.gate.ca(), f"/peer/join{said}", body)
    assert caught.value.message == (
        f"the cluster is at level {LEVEL}, and the rota of this machine knows 1"
    )
    assert "or a newer one on it, and join again" in str(caught.value.hint)
    assert len(await founder.gate.invitations()) == 1, "the token holds as many as before"


# -- speaking for somebody ----------------------------------------------------------------------


async def test_a_peer_asks_in_the_name_of_a_person_with_that_persons_role(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    event = msgspec.json.encode({"type": "a.b"})
    async with HttpsPeers(joined.credentials) as peers:

        async def emit(spoken_for: str | None) -> str:
            headers = {} if spoken_for is None else {"Rota-Principal": spoken_for}
            await peers.request(founder.me, "POST", "/v1/events", body=event, headers=headers)
            return str((await founder.here.ask("GET", "/v1/events")).json()[-1]["by"])

        assert await emit(None) == "second"
        assert await emit("anna%20%C3%A4;BUILDER") == "anna ä"
        with pytest.raises(DeniedError, match="bob is a viewer; `emit` needs a builder"):
            await emit("bob;VIEWER")
        # From where that person asked is said by the agent that was asked; nonsense is nothing.
        for said, known in (
            ("192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0",) * 2,
            ("<b>", ""),
            ("", ""),
        ):
            headers = {"Rota-Principal": "ann;BUILDER", "Rota-Address": said}
            await peers.request(founder.me, "POST", "/v1/events", body=event, headers=headers)
            told = (await founder.here.ask("GET", "/v1/events")).json()[-1]
            assert told.get("address", "") == known
        assert members.spoken_for(Principal(name="ann", role=Role.VIEWER, address="192.0.2.7")) == {
            "Rota-Principal": "ann;VIEWER",
            "Rota-Address": "192.0.2.7",
        }
        for wrong in ("bob", "bob;", ";ADMIN", "bob;admin", "bob;4"):
            with pytest.raises(InputError, match="bad header Rota-Principal"):
                await emit(wrong)


async def test_nobody_else_can_speak_for_a_person(founder: Member) -> None:
    event = {"type": "a.b"}
    reply = await founder.here.ask("POST", "/v1/events", body=event, Rota_Principal="anna;ADMIN")
    assert (reply.status, "speaks for another" in reply.text) == (401, True)
    assert (await founder.here.ask("GET", "/v1/events?kind=custom")).json() == []


async def test_text_reaches_a_build_that_another_agent_runs(
    founder: Member, tmp_path: Path
) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    script = "#!/bin/sh\n# /// script\n# [tool.rota]\n# stdin = true\n# ///\ncat\n"
    await founder.here.put("a", script, Plan(hangs=True))
    build = await founder.here.run("a")
    running = await founder.here.running(build["id"])
    async with (
        agent_here(0, name="second", journal=founder.here.journal) as other,
        member(other, joined=joined),
    ):
        await other.service.world.reached(founder.here.service.world.seq, 10.0)
        reply = await other.ask(
            "POST", f"/v1/builds/{build['id']}/input", body={"text": "hello", "eof": True}
        )
        assert (reply.status, reply.json()) == (200, {"bytes": 5})
        assert running.received == b"hello"
    # It hung until its input ended.
    assert (await founder.here.finished(build["id"]))["result"] == "passed"


# -- the client's faults ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(
    folder: Path, answer: Handler, clock: Clock | None = None
) -> AsyncIterator[Peer]:
    credentials = TlsKeyring(folder / "tls", clock or SystemClock()).found("odd", [])
    app = web.Application()
    app.router.add_get("/x", answer)
    tcp = socket.create_server(("127.0.0.1", 0))
    async with serving(app, tcp, server_context(credentials)):
        url = f"https://127.0.0.1:{tcp.getsockname()[1]}"
        yield Peer("odd", url, credentials.pin)


def problem(status: int, **fields: object) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(fields, status=status)

    return answer


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "input", "InputError"),
        (403, "denied", "DeniedError"),
        (404, "not-found", "NotFoundError"),
        (409, "conflict", "ConflictError"),
        (412, "conflict.stale", "StaleError"),
        (503, "unavailable", "UnavailableError"),
        (500, "invariant", "UnavailableError"),
        (418, "", "UnavailableError"),
    ],
)
async def test_a_peers_errors_are_the_callers(
    tmp_path: Path, status: int, code: str, kind: str
) -> None:
    fault = problem(status, code=code, detail="it is so", hint="do this")
    async with answering(tmp_path, fault) as odd:
        credentials = TlsKeyring(tmp_path / "tls", SystemClock()).credentials()
        assert credentials is not None
        async with HttpsPeers(credentials) as peers:
            with pytest.raises(RotaError) as caught:
                await peers.request(odd, "GET", "/x")
    assert type(caught.value).__name__ == kind
    assert caught.value.message.endswith("it is so")
    assert caught.value.hint == "do this"


async def test_a_peer_that_does_not_know_the_question_is_an_older_one(tmp_path: Path) -> None:
    fault = problem(404, code="http.404", detail="GET /x: not found", hint="all routes: GET /y")
    async with answering(tmp_path, fault) as odd:
        credentials = TlsKeyring(tmp_path / "tls", SystemClock()).credentials()
        assert credentials is not None
        async with HttpsPeers(credentials) as peers:
            with pytest.raises(OlderError, match="runs an older rota: GET /x: not found") as caught:
                await peers.request(odd, "GET", "/x")
    assert "docs/upgrade.md" in str(caught.value.hint)


async def test_peers_that_do_not_answer_as_they_should_are_named(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await gone.wait()
        return web.Response()

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", status=404)

    credentials = TlsKeyring(tmp_path / "tls", SystemClock()).found("odd", [])
    async with HttpsPeers(credentials) as peers:
        for answer, says in (
            (hang, "does not answer within 0.2 s"),
            (break_off, "the connection to agent odd at"),
            (page, "answers with status 404, and is no agent of ours"),
        ):
            async with answering(tmp_path, answer) as odd:
                with pytest.raises(UnavailableError) as caught:
                    await peers.request(odd, "GET", "/x", within_s=0.2 if answer is hang else 30)
                assert says in caught.value.message
                gone.set()
        closed = Peer("odd", "https://127.0.0.1:1", "x")
        with pytest.raises(UnavailableError, match=r"cannot reach agent odd at .*refused"):
            await peers.request(closed, "GET", "/x")
        for nowhere in (Peer("odd", "", "x"), Peer("odd", "https://127.0.0.1:1", "")):
            with pytest.raises(UnavailableError, match="agent odd has no address and key"):
                await peers.request(nowhere, "GET", "/x")


async def test_a_renewed_certificate_is_used_from_then_on(founder: Member, tmp_path: Path) -> None:
    joined = await joining(tmp_path / "new", await founder.invite())
    seen: list[str] = []

    async def look(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        tls = request.transport.get_extra_info("ssl_object")
        seen.append(fingerprint(tls.getpeercert(binary_form=True)))
        return web.Response()

    app = web.Application()
    app.router.add_get("/x", look)
    tcp = socket.create_server(("127.0.0.1", 0))
    peer = Peer("here", f"https://127.0.0.1:{tcp.getsockname()[1]}", founder.credentials.pin)
    keyring = TlsKeyring(tmp_path / "new" / "tls", SystemClock())
    async with (
        serving(app, tcp, server_context(founder.credentials)),
        HttpsPeers(joined.credentials) as peers,
    ):
        await peers.request(peer, "GET", "/x")
        assert keyring.renew("second", ["10.1.2.3"])
        await peers.request(peer, "GET", "/x")
    now = fingerprint(certificates(joined.credentials.cert.read_bytes())[0])
    assert seen[0] != seen[1] == now


def test_all_of_it_works_on_the_loop_of_the_daemon(tmp_path: Path) -> None:
    async def whole() -> None:
        async with agent_here() as here, member(here) as founder:
            joined = await joining(tmp_path / "new", await founder.invite())
            async with HttpsPeers(joined.credentials) as peers:
                await peers.request(founder.me, "GET", "/peer/voters")
                wrong = Peer("here", founder.url, joined.credentials.pin)
                with pytest.raises(UnavailableError, match="has another key than that agent"):
                    await peers.request(wrong, "GET", "/peer/voters")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


# -- addresses ----------------------------------------------------------------------------------


def test_the_own_address_is_the_one_on_the_way_to_the_other() -> None:
    assert own_address(parse_address("127.0.0.1:80")) == "127.0.0.1"
    assert own_address(parse_address("[::1]:80")) in ("::1", own_address())
    assert own_address(Address("nowhere.invalid", 1)) == own_address()
    assert own_address()
