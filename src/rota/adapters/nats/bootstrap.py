"""How a server becomes a cluster of one, and how it starts again, alone or among others.

Never start it outside of a cluster: a server that ran alone and is made part of a cluster later
deletes its streams. But a cluster's first election needs two. So the first boot starts a second
server for a moment, lets the two elect, removes the second for good and stops it: 0.3 to 0.5 s.
From then on the group has one member, and each later start needs one foreign connection to wake it
(:mod:`~rota.adapters.nats.stubleaf`): 0.1 to 0.2 s.

A server of a larger group is started and left to find the others: whether they elect is theirs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats import monitor
from rota.adapters.nats.binary import find_binary
from rota.adapters.nats.child import Child, find_running, spawn
from rota.adapters.nats.client import Address, Client, Login
from rota.adapters.nats.config import ROTA, SYSTEM, Folder, Own, State, new_own, render, replace
from rota.adapters.nats.pinned import pinned_context
from rota.adapters.nats.stubleaf import stub_leaf
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rota.ports.credentials import Credentials
    from rota.ports.voting import Server

LOOK_S = 0.01
GRACE_S = 5.0
ASK_S = 0.04
CONNECT_S = 1.0
#: The Go runtime collects at 1.3 times of what lives, not at twice. No GOMEMLIMIT: once the index of
#: many thousand subjects reaches it, the collector never rests.
MEMORY = {"GOGC": "30"}


class Failure(msgspec.Struct):
    """An error of the server's API."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What membership calls answer."""

    error: Failure | None = None


class Site(msgspec.Struct, frozen=True):
    """Where a server of ours lives, and what it shows to others."""

    folder: Folder
    credentials: Credentials

    @property
    def midwife(self) -> Site:
        """The place of the second server of a first boot."""
        return Site(Folder(self.folder.home / "midwife"), self.credentials)

    def write(self, state: State, own: Own, further: Sequence[Server] = ()) -> bool:
        """Write the server's configuration; return whether that is another than before."""
        folder = self.folder
        text = render(own, state, self.credentials, folder, further=further).encode()
        if folder.conf.exists() and folder.conf.read_bytes() == text:
            return False
        replace(folder.conf, text)
        return True


def start_child(site: Site, state: State, own: Own, further: Sequence[Server] = ()) -> Child:
    """Write the configuration and start the server on it.

    Raises:
        UnavailableError: there is no such program, or it cannot be executed.
    """
    folder = site.folder
    site.write(state, own, further)
    env = {"PATH": os.defpath, "HOME": str(folder.home), **MEMORY}
    binary = find_binary()
    try:
        pid = spawn([str(binary), "-c", str(folder.conf)], env, folder.log)
    except OSError as error:
        raise UnavailableError(f"cannot start {binary}: {error.strerror}") from error
    return Child(pid)


async def end_strays(site: Site) -> None:
    """End servers on this folder that nobody keeps the books of."""
    for conf in (site.folder.conf, site.midwife.folder.conf):
        for pid in await asyncio.to_thread(find_running, conf):
            await Child(pid).end(GRACE_S)


async def first_boot(site: Site, own: Own, within_s: float) -> Child:
    """Make an empty folder a cluster of one; nothing but the living server is left over.

    Raises:
        UnavailableError: it did not come about in time; nothing runs.
    """
    nest = site.midwife
    helper = new_own(name=f"{own.name}-midwife", host=own.host)
    helper = msgspec.structs.replace(helper, disk=own.disk)
    nest.folder.create()
    child, midwife = start_child(site, State(), own), None
    try:
        async with asyncio.timeout(within_s):
            # Dialled too early, the second server tries again only after a second; by then both
            # want to be elected at the same time, and neither is for 4 to 9 seconds.
            await _until(child, _listens, own)
            midwife = start_child(nest, State(), helper, (own.server,))
            await _until(child, _has_two, own)
            await _until(child, _took_over, site, own)
            await _until(child, _removed, helper.name, site, own)
            await _until(child, answers, site, own)
    except BaseException as error:
        await child.end(GRACE_S)
        if isinstance(error, TimeoutError):
            raise UnavailableError(f"the first boot took longer than {within_s:.3g} s") from None
        raise
    finally:
        if midwife is not None:
            await midwife.end(0)
        shutil.rmtree(nest.folder.home, ignore_errors=True)
    return child


async def restart_alone(site: Site, state: State, own: Own, within_s: float) -> Child:
    """Start a server that knows of no other.

    One that once had others, and was not told in time that they are gone, waits for them: it is
    left alive, without a leader.

    Raises:
        UnavailableError: it does not answer in time; it has been ended.
    """
    child = start_child(site, state, own)
    try:
        async with asyncio.timeout(within_s), stub_leaf(own.ports.leaf, own.leaf_password):
            await _until(child, _leads, own)
            await _until(child, answers, site, own)
    except BaseException as error:
        if not isinstance(error, TimeoutError):
            await child.end(GRACE_S)
            raise
        if (await monitor.meta(own.ports.monitor, CONNECT_S)).cluster_size > 1:
            return child
        await child.end(GRACE_S)
        raise UnavailableError(f"the engine did not answer within {within_s:.3g} s") from None
    return child


async def start_among(site: Site, state: State, own: Own, within_s: float) -> Child:
    """Start a server of a larger group, new to it or not.

    Raises:
        UnavailableError: it does not answer in time; it has been ended.
    """
    child = start_child(site, state, own)
    try:
        async with asyncio.timeout(within_s):
            await _until(child, _speaks, own)
    except BaseException as error:
        await child.end(GRACE_S)
        if isinstance(error, TimeoutError):
            raise UnavailableError(f"the engine did not answer within {within_s:.3g} s") from None
        raise
    return child


async def answers(site: Site, own: Own, try_s: float) -> bool:
    """Whether the server takes orders for streams."""
    return await ask(site, own, ROTA, "$JS.API.INFO", {}, try_s) is None


async def ask(
    site: Site, own: Own, login: Login, subject: str, body: object, try_s: float
) -> str | None:
    """Ask the server's API; return what went wrong, ``None`` if nothing did."""
    address = Address(own.host, own.ports.client)
    pins = {site.credentials.pin}

    async with Client(
        lambda: (address,),
        login,
        name="rota-boot",
        tls=lambda: pinned_context(site.credentials, lambda: pins),
    ) as client:
        try:
            await client.connected(CONNECT_S)
            raw = await client.request(subject, msgspec.json.encode(body), within_s=try_s)
        except UnavailableError as error:
            return error.message
    try:
        answer = msgspec.json.decode(raw.data, type=Answer)
    except msgspec.MsgspecError:
        return "the engine is not ready"
    return answer.error.description if answer.error else None


async def _listens(own: Own, _try_s: float) -> bool:
    try:
        _, writer = await asyncio.open_connection(own.host, own.ports.route)
    except OSError:
        return False
    writer.close()
    return True


async def _speaks(own: Own, try_s: float) -> bool:
    return await monitor.server_name(own.ports.monitor, max(try_s, CONNECT_S)) == own.name


async def _has_two(own: Own, _try_s: float) -> bool:
    meta = await monitor.meta(own.ports.monitor, CONNECT_S)
    return bool(meta.leader) and meta.cluster_size > 1


async def _leads(own: Own, _try_s: float) -> bool:
    meta = await monitor.meta(own.ports.monitor, CONNECT_S)
    return meta.leader == own.name and meta.cluster_size == 1


async def _took_over(site: Site, own: Own, try_s: float) -> bool:
    """Whether the server leads; if another does, ask that one to make way."""
    leader = (await monitor.meta(own.ports.monitor, CONNECT_S)).leader
    if leader and leader != own.name:
        wish = {"placement": {"preferred": own.name}}
        await ask(site, own, SYSTEM, "$JS.API.META.LEADER.STEPDOWN", wish, try_s)
    return leader == own.name


async def _removed(name: str, site: Site, own: Own, try_s: float) -> bool:
    """Whether ``name`` is out of the cluster; if not, ask for it."""
    if await _leads(own, try_s):
        return True
    await ask(site, own, SYSTEM, "$JS.API.SERVER.REMOVE", {"peer": name}, try_s)
    return False


async def _until(child: Child, is_so: Callable[..., Awaitable[bool]], *args: object) -> None:
    """Wait for a state; what is asked of the server on the way may take longer each time.

    A server that does not lead yet leaves a question unanswered, so it is asked again soon.
    """
    try_s = ASK_S
    while not await is_so(*args, try_s):
        if child.gone.done():
            raise UnavailableError("the engine's server ended while it started")
        await asyncio.sleep(LOOK_S)
        try_s = min(1.5 * try_s, CONNECT_S)
