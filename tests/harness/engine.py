"""A real engine for tests: one child a module, taken over by each test in two milliseconds.

``tests/conftest.py`` makes the fixtures known to every test. All engines of a test run are members
of one cluster's CA, which lies beside their folders; :func:`credentials_of` finds it there.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rota.adapters.nats import Client, Engine
from rota.ports.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

PATIENCE_S = 30.0


class Authority:
    """A cluster's CA, which makes an agent's credentials in a folder."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name("rota test CA")
        self._certificate = (
            self._begin(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def credentials(self, folder: Path, hosts: Sequence[str] = ("127.0.0.1",)) -> Credentials:
        """Make a key and a certificate for an agent that is reached at ``hosts``."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._begin(_common_name(folder.name), key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        made = {"ca.crt": _pem(self._certificate)}
        made["agent.crt"] = _pem(certificate) + _pem(self._certificate)
        made["agent.key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name, text in made.items():
            (folder / name).write_bytes(text)
        return _in(folder)

    def _begin(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _in(folder: Path) -> Credentials:
    """Return the credentials that lie in a folder."""
    certificate = x509.load_pem_x509_certificate((folder / "agent.crt").read_bytes())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = hashlib.sha256(spki).hexdigest()
    return Credentials(folder / "ca.crt", folder / "agent.crt", folder / "agent.key", pin)


AUTHORITY = Authority()


def credentials_of(home: Path) -> Credentials:
    """Return the credentials of the agent whose engine lives in ``home``; made if need be."""
    folder = home.with_name(f"{home.name}-tls")
    if not (folder / "agent.key").exists():
        return AUTHORITY.credentials(folder)
    return _in(folder)


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Engine]:
    """Bring up the engine in ``home``, with an agent's credentials; its child lives on."""
    async with Engine(home, credentials_of(home)) as engine:
        await engine.found()
        yield engine


@pytest.fixture(scope="module")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an engine that runs while the module's tests do."""
    home = tmp_path_factory.mktemp("engine")
    asyncio.run(_boot(home))
    yield home
    asyncio.run(_stop(home))


@pytest.fixture
async def engine(engine_home: Path) -> AsyncIterator[Engine]:
    """The module's engine, taken over for this test."""
    async with running(engine_home) as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    """A connected client of the module's engine."""
    async with engine.connect() as client:
        await client.connected(PATIENCE_S)
        yield client


@pytest.fixture(scope="session")
def _stopped_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stopped")
    asyncio.run(_stop(home))
    return home


@pytest.fixture
def stopped_engine(_stopped_engine: Path, tmp_path: Path) -> Path:
    """The folder of an engine of this test's own that was booted once, is empty, and is stopped.

    It starts in a third of the time that a first boot takes. The test stops it.
    """
    home = tmp_path / "engine"
    shutil.copytree(_stopped_engine, home)
    credentials_of(home)
    return home


async def _boot(home: Path) -> None:
    async with running(home):
        pass


async def _stop(home: Path) -> None:
    async with running(home) as engine:
        await engine.stop()


async def forget_stream(client: Client, name: str) -> None:
    """Delete a stream, so that a test begins with nothing."""
    await client.request(f"$JS.API.STREAM.DELETE.{name}", within_s=PATIENCE_S)


async def until(is_so: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Return as soon as ``is_so`` says so; fail the test if it never does."""
    async with asyncio.timeout(within_s):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)
