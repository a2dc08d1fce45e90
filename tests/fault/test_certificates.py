"""Keys of real agents: changed while their daemons are killed, and revoked while the machine is up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, lab
from tests.harness.rest import RefusedError
from tests.harness.talking import push_files

from rota.adapters.clocks import SystemClock
from rota.adapters.nats import Client
from rota.adapters.nats.client import Address
from rota.adapters.nats.config import ROTA
from rota.adapters.nats.pinned import pinned_context
from rota.adapters.peers import HttpsPeers
from rota.adapters.pki import TlsKeyring
from rota.errors import DeniedError, RotaError, UnavailableError
from rota.ports.credentials import Credentials
from rota.ports.peers import Peer

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]

SEED = 20261128
KILLS = 3


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three agents with three voters, used by the tests of this module in their order."""
    with lab(tmp_path_factory.mktemp("keys"), spaces=False) as made:
        made.cluster(3)
        first = made.hosts[0]
        wait_until("there are three voters", lambda: status(first).get("tolerates") == 1, 60)
        # A start may take a while on a busy machine: nobody is given up for it.
        settings = {"settings.toml": '[agents]\nlost_after = "10m"\n'}
        push_files(first, tmp_path_factory.mktemp("clone") / "store", settings)
        yield made


def status(host: Host) -> dict[str, Any]:
    with contextlib.suppress(OSError, RefusedError), host.rest(5.0) as rest:
        return dict(rest.call("GET", "/v1/status"))
    return {}


def members(host: Host) -> dict[str, Any]:
    with contextlib.suppress(OSError, RefusedError), host.rest(5.0) as rest:
        return {it["name"]: it for it in rest.call("GET", "/v1/agents")}
    return {}


def keyring(folder: Path) -> TlsKeyring:
    return TlsKeyring(folder, SystemClock())


def stolen(host: Host, folder: Path) -> Credentials:
    """Copy an agent's keys, as a thief would."""
    shutil.copytree(host.data / "tls", folder)
    found = keyring(folder).credentials()
    assert found is not None
    return found


def peer_of(host: Host) -> Peer:
    one = members(host)[host.name]
    return Peer(host.name, one["peer"], one["pin"])


def door(host: Host) -> Address:
    own = json.loads((host.data / "engine" / "engine.json").read_text())["own"]
    return Address(own["host"], own["ports"]["client"])


def opens(shown: Credentials, host: Host) -> list[str]:
    """Return what a key opens at an agent: REST, the engine, git."""
    return asyncio.run(_opens(shown, peer_of(host), door(host)))


async def _opens(shown: Credentials, peer: Peer, engine: Address) -> list[str]:
    opened = []
    async with HttpsPeers(shown) as peers:
        for path in ("/v1/status", "/peer/secrets"):
            with contextlib.suppress(DeniedError):
                await peers.request(peer, "GET", path)
                opened.append(path)
    client = Client(lambda: [engine], ROTA, tls=lambda: pinned_context(shown, lambda: {peer.pin}))
    async with client:
        with contextlib.suppress(UnavailableError):
            await client.connected(1.0)
            await client.request("$JS.API.INFO", within_s=1.0)
            opened.append("the engine")
    git = await asyncio.create_subprocess_exec(
        *("git", "-c", f"http.sslCert={shown.cert}", "-c", f"http.sslKey={shown.key}"),
        *("-c", "http.sslVerify=false", "ls-remote", f"{peer.url}/store.git"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await git.wait() == 0:
        opened.append("git")
    return opened


ALL = ["/v1/status", "/peer/secrets", "the engine", "git"]


def test_keys_change_while_daemons_are_killed_and_builds_go_on(three: Lab, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    first = three.hosts[0]
    go_on = tmp_path / "go-on"
    first.add("long", f"#!/bin/sh\nuntil [ -e {go_on} ]; do sleep 0.05; done\necho over\n")
    first.ok("run", "long")
    first.until("long#1", "running")
    old = {host.name: stolen(host, tmp_path / host.name) for host in three.hosts}
    assert opens(old["h2"], first) == ALL
    for number in range(KILLS):
        host = three.hosts[number % 3]
        asking = host.popen("agents", "--rotate", host.name, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.05, 0.6))  # the step at which it is killed, by chance
        host.kill()
        asking.wait(60)
        host.start()
        wait_until(f"{host.name} has one key", partial(_is_settled, first, host))
    first.ok("agents", "--rotate-all")
    pins = {name: one["pin"] for name, one in members(first).items()}
    for host in three.hosts:
        found = keyring(host.data / "tls").credentials()
        assert found is not None
        assert found.pin == pins[host.name] != old[host.name].pin
        assert opens(found, three.hosts[0]) == ALL
    # As soon as all servers have read their configuration again, the former keys open nothing.
    for name, shown in old.items():
        wait_until(f"the old key of {name} opens nothing", partial(_opens_nothing, shown, first))
    assert first.build("long#1")["state"] == "running"
    assert first.build("long#1")["attempt"] == 1
    go_on.write_text("")
    assert first.until("long#1", "finished")["result"] == "passed"


def _opens_nothing(shown: Credentials, host: Host) -> bool:
    return opens(shown, host) == []


def _is_settled(first: Host, host: Host) -> bool:
    known, ring = members(first).get(host.name), keyring(host.data / "tls")
    with contextlib.suppress(RotaError):
        found = ring.credentials()
        return known is not None and found is not None and found.pin == known["pin"]
    return False


def test_a_stolen_machine_is_shut_out_within_seconds(three: Lab, tmp_path: Path) -> None:
    first, _, thief = three.hosts
    shown = stolen(thief, tmp_path / "stolen")
    # With the authority's key it can sign for whatever key it likes.
    forger = keyring(tmp_path / "forged")
    cert = keyring(tmp_path / "stolen").sign(forger.request("h1"), "h1", ["127.0.0.1"])
    ring = keyring(tmp_path / "stolen")
    forged = forger.install(ca=ring.ca(), ca_key=ring.ca_key(), cert=cert)
    assert opens(shown, first) == ALL
    assert opens(forged, first) == []
    first.add(
        "web", "#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = 'agent=h3'\n# ///\nsleep 300\n"
    )
    first.ok("run", "web")
    first.until("web#1", "running")
    follower = Follower(shown, peer_of(first).url)
    answer = json.loads(first.ok("agents", "--revoke", "h3", "--json"))
    assert (answer["agent"]["name"], answer["given_up"]) == ("h3", ["web#1"])
    follower.wait()
    wait_until("the stolen key opens nothing", partial(_opens_nothing, shown, first))
    assert first.until("web#1", "finished")["result"] == "lost"
    assert opens(forged, first) == []
    assert "h3" not in members(first)
    # Its daemon is still an honest one: it learns of it, ends what it runs, and is gone.
    wait_until("its daemon has stopped", lambda: not three.hosts[2].is_up, 60)
    # And who is left goes on, with an engine that has nothing to do with that server any more.
    wait_until("its seat is gone", lambda: "h3" not in status(first).get("voters", ["h3"]), 60)
    wait_until("events are taken", lambda: first.run("emit", "still.there").returncode == 0)


class Follower:
    """The events of the cluster, followed with a certificate until the connection is cut."""

    def __init__(self, shown: Credentials, url: str) -> None:
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow(shown, url)))
        self._thread.start()
        assert self._begun.wait(20)

    async def _follow(self, shown: Credentials, url: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(shown.cert, shown.key)
        target = f"{url}/v1/events?{urllib.parse.urlencode({'follow': 'true'})}"
        async with aiohttp.ClientSession() as session, session.get(target, ssl=context) as answer:
            assert answer.status == 200
            self._begun.set()
            with contextlib.suppress(aiohttp.ClientError):
                while await answer.content.readline():
                    pass

    def wait(self) -> None:
        """Return once it was cut off."""
        self._thread.join(20)
        assert not self._thread.is_alive()
