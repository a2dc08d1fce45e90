"""Joining a cluster: from a token to a folder that an agent can start from.

Done again after it broke off, it goes on where it was: a machine that was admitted and did not hear
of it shows the same key again, and a member is not admitted twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.core.address import Address
from rota.core.certificate import certificates, fingerprint
from rota.core.cluster import decode_picture
from rota.core.ids import parse_agent_name
from rota.core.join_token import JoinToken, parse_join_token
from rota.core.levels import LEVEL
from rota.errors import ConflictError, DeniedError, RotaError, UnavailableError
from rota.ports.credentials import Credentials
from rota.ports.keyring import Keyring
from rota.ports.peers import Peer, Peers, Stranger
from rota.ports.safe import Safe
from rota.service.admission import Admitted, Application
from rota.service.durable import write_whole
from rota.service.members import Known, Member

logger = logging.getLogger(__name__)

KNOWN = "cluster.json"
SNAPSHOT = "snapshot.json"
#: What only an agent that has been up leaves in its folder.
TRACES = ("engine", "index.db")
#: A cluster's whole state may be some ten megabytes.
SNAPSHOT_S = 120.0
ASK_S = 3.0
#: So many members are asked whether we are still one, before that is left open.
ASKED = 3

Connect = Callable[[Credentials], AbstractAsyncContextManager[Peers]]


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A member to be started. ``address`` is that of this machine on its way to the others.

    ``source`` has the state that was fetched, and so the store that fits it. ``remark`` is for the
    person who joins; mostly it is empty.
    """

    name: str
    credentials: Credentials
    address: str
    source: Peer
    known: Known
    remark: str = ""


async def join(
    data: Path,
    token: str,
    name: str,
    hosts: Sequence[str],
    *,
    keyring: Keyring,
    stranger: Stranger,
    connect: Connect,
    safe: Safe | None = None,
    ephemeral: bool = False,
) -> Joined:
    """Make ``data`` the folder of a member: its certificate, who is there, the state.

    What is done already is not done again; a member's folder is returned as it is. Before the CA
    that the token names was seen, nothing is told to anybody; after an error that is final, the
    folder is as it was.

    Args:
        data: The agent's folder, which exists.
        token: As ``rota token create`` printed it.
        name: What this agent is called.
        hosts: Further names and addresses by which this machine is reached.
        keyring: The agent's own, in ``data``.
        stranger: How to speak with members before being one.
        connect: How to speak with them then.
        safe: Takes the identities that secrets are encrypted for.
        ephemeral: It is to be forgotten when it is gone, and has no part in leading.

    Raises:
        InputError: the token is none, or the name or a host is none.
        DeniedError: who answered is not of the token's cluster, or the token admits nobody.
        ConflictError: the folder is another agent's, or the name is taken.
        UnavailableError: nobody answers; or the folder cannot be written. Try again.
    """
    wanted, name = parse_join_token(token), parse_agent_name(name)
    _refuse_another_agents(data, wanted, keyring)
    own = await stranger.own_address(wanted.addresses[0])
    credentials, known = keyring.credentials(), read_known(data)
    peers, remark = known.peers(besides=name) if known is not None else [], ""
    if credentials is None or known is None or await _is_removed(connect(credentials), peers):
        hosts = list(dict.fromkeys([*hosts, own]))
        admitted, address = await _admitted(
            wanted, name, hosts, keyring, stranger, ephemeral=ephemeral
        )
        credentials = await asyncio.to_thread(
            keyring.install,
            ca=admitted.ca.encode(),
            ca_key=admitted.ca_key.encode(),
            cert=admitted.cert.encode(),
        )
        if safe is not None and admitted.secrets:
            safe.keep(admitted.secrets)
        door = Peer(admitted.agent, f"https://{address}", _pin(admitted))
        known, remark = _with_door(admitted.known, door), admitted.remark
        peers = [door, *(peer for peer in known.peers(besides=name) if peer.name != door.name)]
        # An older state would do as well; but it may be from before this machine was removed.
        _drop(data / SNAPSHOT)
        write_known(data, known)
    async with connect(credentials) as connected:
        fetched = await fetch_snapshot(data, peers, connected)
    return Joined(
        name=name,
        credentials=credentials,
        address=own,
        source=fetched,
        known=known,
        remark=remark,
    )


def read_known(data: Path) -> Known | None:
    """Return what this agent last wrote down of the others; ``None`` if there is nothing to read.

    Raises:
        UnavailableError: the file cannot be read, or not understood.
    """
    path = data / KNOWN
    try:
        return msgspec.json.decode(path.read_bytes(), type=Known)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnavailableError(
            f"cannot read {path}: it is damaged", hint="remove it, and join again by a token"
        ) from error


def write_known(data: Path, known: Known) -> None:
    """Write down what an agent must know of the others at its next start.

    ``peers`` in the file are the URLs of all members, for clients on this machine.

    Raises:
        UnavailableError: the disk does not take it.
    """
    urls = [peer.url for peer in known.peers()]
    write_whole(data / KNOWN, msgspec.json.encode({**msgspec.to_builtins(known), "peers": urls}))


def _refuse_another_agents(data: Path, wanted: JoinToken, keyring: Keyring) -> None:
    present = keyring.fingerprint()
    if present == wanted.ca:
        return
    hint = "give this one another folder: --data DIR; or start it without --join"
    if present:
        raise ConflictError(f"{data} is the folder of an agent of another cluster", hint=hint)
    if any((data / trace).exists() for trace in TRACES):
        raise ConflictError(f"{data} is the folder of an agent with builds of its own", hint=hint)


# -- being admitted -----------------------------------------------------------------------------


async def _admitted(
    wanted: JoinToken,
    name: str,
    hosts: Sequence[str],
    keyring: Keyring,
    stranger: Stranger,
    *,
    ephemeral: bool,
) -> tuple[Admitted, Address]:
    """Return what the first of the token's addresses gives that answers as the right cluster."""
    faults: list[RotaError] = []
    for address in wanted.addresses:
        try:
            ca = await _right_ca(wanted, address, stranger)
        except (DeniedError, UnavailableError) as error:
            faults.append(error)
            continue
        with _forgotten_if_refused(keyring):
            application = Application(
                secret=wanted.secret,
                name=name,
                request=(await asyncio.to_thread(keyring.request, name)).decode(),
                hosts=list(hosts),
                ephemeral=ephemeral,
            )
            return await _apply(address, ca, application, stranger), address
    worst = next((error for error in faults if isinstance(error, DeniedError)), faults[0])
    if len(faults) == 1 or isinstance(worst, DeniedError):
        raise worst
    raise UnavailableError("; ".join(error.message for error in faults), hint=worst.hint)


async def _right_ca(wanted: JoinToken, address: Address, stranger: Stranger) -> bytes:
    """Return the CA of whoever listens at ``address``.

    Raises:
        DeniedError: it is not the token's.
    """
    pem = await stranger.ca(address)
    shown = certificates(pem)
    if len(shown) != 1 or fingerprint(shown[0]) != wanted.ca:
        raise DeniedError(
            f"who answers at {address} is not of the cluster that the token is for; it was told"
            " nothing",
            known=True,
            hint="is the token's address another machine's by now? make a new token on a member",
        )
    return pem


async def _apply(
    address: Address, ca: bytes, application: Application, stranger: Stranger
) -> Admitted:
    body = msgspec.json.encode(application)
    answer = await stranger.post(address, ca, f"/peer/join?level={LEVEL}", body)
    try:
        admitted = msgspec.json.decode(answer, type=Admitted)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnavailableError(
            f"what the agent at {address} answers cannot be read",
            hint="use the same version of rota on all machines: rota --version",
        ) from error
    logger.info("admitted as %s by %s", admitted.name, admitted.agent)
    return admitted


@contextlib.contextmanager
def _forgotten_if_refused(keyring: Keyring) -> Iterator[None]:
    """Delete the key that was made, unless it may be a member's by now, or was before."""
    was_complete = keyring.credentials() is not None
    try:
        yield
    except UnavailableError:
        raise
    except RotaError:
        if not was_complete:
            keyring.forget()
        raise


# -- being a member -----------------------------------------------------------------------------


def _pin(admitted: Admitted) -> str:
    return admitted.known.members.get(admitted.agent, Member(pin="")).pin


def _with_door(known: Known, door: Peer) -> Known:
    """Return who is known, with an address for the one that admitted us: that where it did."""
    member = known.members.get(door.name)
    if member is None or member.peer:
        return known
    return replace(known, members={**known.members, door.name: Member(door.pin, door.url)})


def _drop(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot delete {path}: {error.strerror}") from error


async def _is_removed(
    connection: AbstractAsyncContextManager[Peers], members: Sequence[Peer]
) -> bool:
    """Whether a member says that we are none any more. If nobody answers, we are."""
    async with connection as peers:
        for peer in members[:ASKED]:
            try:
                await peers.request(peer, "GET", "/peer/voters", within_s=ASK_S)
            except DeniedError:
                return True
            except UnavailableError:
                continue
            return False
    return False


async def fetch_snapshot(data: Path, sources: Sequence[Peer], peers: Peers) -> Peer:
    """Fetch the state from the first that gives it, unless it is here; return who can be asked.

    Raises:
        UnavailableError: nobody gives it.
    """
    path, faults = data / SNAPSHOT, []
    if not sources:
        raise UnavailableError("no member of the cluster has an address for other agents")
    if path.exists():
        return sources[0]
    for peer in sources:
        try:
            raw = await peers.request(peer, "GET", "/peer/snapshot", within_s=SNAPSHOT_S)
        except UnavailableError as error:
            faults.append(error.message)
            continue
        if await asyncio.to_thread(decode_picture, raw) is not None:
            await asyncio.to_thread(write_whole, path, raw)
            return peer
        faults.append(f"the state of {peer.name} cannot be read: it runs another version of rota")
    raise UnavailableError(
        f"the cluster's state could not be fetched: {'; '.join(faults)}",
        hint="run the same command again: it goes on from here",
    )
