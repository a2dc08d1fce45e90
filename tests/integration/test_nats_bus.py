"""A NATS cluster of somebody else's in the engine's place."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.harness.engine import PATIENCE_S, until

from rota.adapters.nats import Address, Bus, Client, Login, NatsBlobs, NatsJournal, NatsLogs
from rota.adapters.nats import bus as bus_module
from rota.adapters.nats.binary import find_binary
from rota.adapters.nats.bus import _parse
from rota.adapters.nats.config import HOST, free_ports
from rota.core.events import EPOCH, BuildStarted
from rota.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.nats

ACCOUNTS = """accounts {
  A { jetstream: enabled, users: [{ user: rota, password: "p@ss:word" }] }
  B { users: [{ user: poor, password: poor }] }
}"""


@contextmanager
def foreign(folder: Path, servers: int = 1, jetstream: str = "") -> Iterator[list[int]]:
    """Run a cluster that is not ours; yield its ports."""
    places = [free_ports() for _ in range(servers)]
    routes = ", ".join(f'"nats://{HOST}:{place.route}"' for place in places)
    children = []
    for number, place in enumerate(places):
        store = folder / f"js{number}"
        conf = folder / f"{number}.conf"
        text = f'server_name: "n{number}"\nlisten: "{HOST}:{place.client}"\n{ACCOUNTS}\n'
        text += jetstream or f'jetstream {{ store_dir: "{store}" }}\n'
        if servers > 1:
            listen = f"{HOST}:{place.route}"
            text += f'cluster {{ name: c, listen: "{listen}", routes: [{routes}] }}\n'
        conf.write_text(text)
        log = (folder / f"{number}.log").open("w")
        argv = [str(find_binary()), "-c", str(conf)]
        with log:
            children.append(subprocess.Popen(argv, stderr=log))
    try:
        yield [place.client for place in places]
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with foreign(tmp_path_factory.mktemp("bus")) as ports:
        yield ports[0]


async def listens(port: int, user: str = "rota", password: str = "p@ss:word") -> None:
    async with Client(lambda: [Address(HOST, port)], Login(user, password)) as client:
        await client.connected(PATIENCE_S)


async def test_a_bus_keeps_journal_logs_and_blobs(single: int) -> None:
    await listens(single)
    async with Bus(f"nats://rota:p%40ss%3Aword@{HOST}:{single}") as bus:
        await bus.check()
        async with bus.connect() as client:
            journal = NatsJournal(client)
            await journal.open()
            await NatsLogs(client).open()
            await NatsBlobs(client).open()
            event = BuildStarted(at=EPOCH, build="b", attempt=1)
            assert await journal.append(event, expect=0) == 1
            assert [entry.event async for entry in journal.read()] == [event]
            info = await journal._stream.info()
            assert info is not None
            assert info.config["num_replicas"] == 1
        assert bus.server is None
        assert bus.trouble is None
        await bus.know([], {})
        await bus.release()
        await bus.stop()


async def test_a_bus_of_three_keeps_three_copies(tmp_path: Path) -> None:
    with foreign(tmp_path, 3) as ports:
        hosts = ",".join(f"{HOST}:{port}" for port in ports)
        async with Bus(f"nats://rota:p%40ss%3Aword@{hosts}") as bus, bus.connect() as client:
            await client.connected(PATIENCE_S)
            journal = NatsJournal(client)
            await until(lambda: _opened(journal))
            info = await journal._stream.info()
            assert info is not None
            assert info.config["num_replicas"] == 3


async def _opened(journal: NatsJournal) -> bool:
    try:
        await journal.open()
    except UnavailableError:
        return False
    return True


async def refusal(url: str) -> UnavailableError:
    async with Bus(url) as bus:
        with pytest.raises(UnavailableError) as caught:
            await bus.check()
    return caught.value


async def test_a_bus_that_does_not_let_us_in_is_named_with_the_reason(
    single: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "CONNECT_S", 1.0)
    await listens(single)
    for user in ("rota:wrong@", ""):
        fault = await refusal(f"nats://{user}{HOST}:{single}")
        assert fault.message == (
            f"the bus at {HOST}:{single} cannot be reached: Authorization Violation"
        )


async def test_a_bus_that_is_not_there_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_module, "CONNECT_S", 0.5)
    port = free_ports().client
    fault = await refusal(f"nats://{HOST}:{port}")
    start = f"the bus at {HOST}:{port} cannot be reached: "
    assert fault.message.startswith(start)
    assert "onnect" in fault.message.removeprefix(start)


async def test_a_bus_without_jetstream_is_named_with_what_it_needs(
    single: int, tmp_path: Path
) -> None:
    await listens(single)
    fault = await refusal(f"nats://poor:poor@{HOST}:{single}")
    assert fault.message == (
        f"the bus at {HOST}:{single} cannot be used: JetStream not enabled for account"
    )
    assert fault.hint == "it needs JetStream, enabled for the account that the address names"
    with foreign(tmp_path, jetstream="# none\n") as ports:
        await listens(ports[0], "poor", "poor")
        fault = await refusal(f"nats://poor:poor@{HOST}:{ports[0]}")
        assert fault.message == f"the bus at {HOST}:{ports[0]} cannot be used: it has no JetStream"


@pytest.mark.parametrize(
    ("url", "addresses", "login", "is_tls"),
    [
        ("nats://h", [Address("h", 4222)], Login("", ""), False),
        ("tls://u:p@h:1,i:2/", [Address("h", 1), Address("i", 2)], Login("u", "p"), True),
        ("nats://u:a%40b@[::1]:7", [Address("::1", 7)], Login("u", "a@b"), False),
    ],
)
def test_an_address_of_a_bus_may_have_several_hosts(
    url: str, addresses: list[Address], login: Login, is_tls: bool
) -> None:
    assert _parse(url) == (tuple(addresses), login, is_tls)


@pytest.mark.parametrize(
    "url", ["", "h:1", "http://h:1", "nats://", "nats://u:secret@", "nats://u:secret@h:x,i:1"]
)
def test_a_bad_address_of_a_bus_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Bus(url)
    assert caught.value.message.startswith("bad address of a bus: ")
    assert "secret" not in caught.value.message
    assert caught.value.hint == "nats://USER:PASSWORD@HOST:PORT,HOST:PORT or tls://…"
