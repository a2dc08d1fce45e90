"""How a server becomes a cluster of one, and how a lone one starts again.

Never start it outside of a cluster: a server that ran alone and is made part of a cluster later
deletes its streams. But a cluster's first election needs two. So the first boot starts a second
server for a moment, lets the two elect, removes the second for good and stops it: 0.3 to 0.5 s.
From then on the group has one member, and each later start needs one foreign connection to wake it
(:mod:`~rota.adapters.nats.stubleaf`): 0.1 to 0.2 s.
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
from rota.adapters.nats.config import HOST, Folder, State, new_state, render, replace
from rota.adapters.nats.stubleaf import stub_leaf
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


def start_child(state: State, folder: Folder, *, routes: tuple[int, ...] = ()) -> Child:
    """Write the configuration and start the server on it.

    Raises:
        UnavailableError: there is no such program, or it cannot be executed.
    """
    replace(folder.conf, render(state, folder, routes=routes).encode())
    env = {"PATH": os.defpath, "HOME": str(folder.home), **MEMORY}
    binary = find_binary()
    try:
        pid = spawn([str(binary), "-c", str(folder.conf)], env, folder.log)
    except OSError as error:
        raise UnavailableError(f"cannot start {binary}: {error.strerror}") from error
    return Child(pid)


async def end_strays(folder: Folder) -> None:
    """End servers on this folder that nobody keeps the books of."""
    for conf in (folder.conf, _midwife(folder).conf):
        for pid in await asyncio.to_thread(find_running, conf):
            await Child(pid).end(GRACE_S)


async def first_boot(state: State, folder: Folder, within_s: float) -> Child:
    """Make an empty folder a cluster of one; nothing but the living server is left over.

    Raises:
        UnavailableError: it did not come about in time; nothing runs.
    """
    helper, nest = new_state(name=f"{state.name}-midwife"), _midwife(folder)
    helper = msgspec.structs.replace(helper, passwords=state.passwords)
    nest.create()
    child, midwife = start_child(state, folder), None
    try:
        async with asyncio.timeout(within_s):
            # Dialled too early, the second server tries again only after a second; by then both
            # want to be elected at the same time, and neither is for 4 to 9 seconds.
            await _until(child, _listens, state.ports.route)
            midwife = start_child(helper, nest, routes=(state.ports.route,))
            await _until(child, _has_two, state)
            await _until(child, _took_over, state)
            await _until(child, _removed, helper.name, state)
            await _until(child, answers, state)
    except BaseException as error:
        await child.end(GRACE_S)
        if isinstance(error, TimeoutError):
            raise UnavailableError(f"the first boot took longer than {within_s:.3g} s") from None
        raise
    finally:
        if midwife is not None:
            await midwife.end(0)
        shutil.rmtree(nest.home, ignore_errors=True)
    return child


async def restart(state: State, folder: Folder, within_s: float) -> Child:
    """Start a server that has been a cluster of one before.

    Raises:
        UnavailableError: it does not answer in time; it has been ended.
    """
    child = start_child(state, folder)
    try:
        async with asyncio.timeout(within_s), stub_leaf(state.ports.leaf, state.passwords.loop):
            await _until(child, _leads, state)
            await _until(child, answers, state)
    except BaseException as error:
        await child.end(GRACE_S)
        if isinstance(error, TimeoutError):
            raise UnavailableError(f"the engine did not answer within {within_s:.3g} s") from None
        raise
    return child


async def answers(state: State, try_s: float) -> bool:
    """Whether the server takes orders for streams."""
    return await ask(state, state.passwords.rota_login, "$JS.API.INFO", {}, try_s) is None


async def ask(state: State, login: Login, subject: str, body: object, try_s: float) -> str | None:
    """Ask the server's API; return what went wrong, ``None`` if nothing did."""
    address = Address(HOST, state.ports.client)
    async with Client(lambda: (address,), login, name="rota-boot") as client:
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


async def _listens(port: int, _try_s: float) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _has_two(state: State, _try_s: float) -> bool:
    meta = await monitor.meta(state.ports.monitor, CONNECT_S)
    return bool(meta.leader) and meta.cluster_size > 1


async def _leads(state: State, _try_s: float) -> bool:
    meta = await monitor.meta(state.ports.monitor, CONNECT_S)
    return meta.leader == state.name and meta.cluster_size == 1


async def _took_over(state: State, try_s: float) -> bool:
    """Whether the server leads; if another does, ask that one to make way."""
    leader = (await monitor.meta(state.ports.monitor, CONNECT_S)).leader
    if leader and leader != state.name:
        wish = {"placement": {"preferred": state.name}}
        login = state.passwords.system_login
        await ask(state, login, "$JS.API.META.LEADER.STEPDOWN", wish, try_s)
    return leader == state.name


async def _removed(name: str, state: State, try_s: float) -> bool:
    """Whether ``name`` is out of the cluster; if not, ask for it."""
    if await _leads(state, try_s):
        return True
    login = state.passwords.system_login
    await ask(state, login, "$JS.API.SERVER.REMOVE", {"peer": name}, try_s)
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


def _midwife(folder: Folder) -> Folder:
    return Folder(folder.home / "midwife")
